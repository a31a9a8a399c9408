"""Pydantic plugins, which hear of validations: one that is switched off changes nothing, one that watches is told as under uvicorn."""

from typing import Any

import pydantic.plugin
import pydantic.plugin._loader
import pytest
from differential import Connection, json_request, request, serve_ours, serve_uvicorn
from fastapi import Depends, FastAPI
from pydantic import BaseModel

from turboapi.plan import field
from turboapi.plan.routes import compile_app
from turboapi.plan.rules import rules

pytestmark = pytest.mark.above_platform


class Plugin:
    """Watches what is validated where one of these modules has it made; counts how often it was asked to."""

    def __init__(self, *modules: str) -> None:
        self.modules = modules
        self.events: list[str] = []
        self.asked_count = 0

    def new_schema_validator(self, _schema: Any, _kind: Any, path: Any, *_: Any) -> tuple[Any, None, None]:
        self.asked_count += 1
        return (Watch(self.events) if path.module in self.modules else None), None, None


class Watch(pydantic.plugin.ValidatePythonHandlerProtocol):
    def __init__(self, events: list[str]) -> None:
        self._events = events

    def on_enter(self, value: Any, /, **_: Any) -> None:
        self._events.append(f"enter {value!r}")


@pytest.fixture
def plugin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    made = Plugin(*request.param)
    monkeypatch.setattr(pydantic.plugin._loader, "_plugins", {"ours": made})
    for kept in ("_adapters", "_plain_fields"):
        monkeypatch.setattr(field, kept, {})
    return made


def make_app() -> FastAPI:
    class Item(BaseModel):
        name: str
        price: float = 1.5

    app = FastAPI(openapi_url=None)

    def page(skip: int = 0, limit: float = 100, query: str | None = None) -> dict[str, Any]:
        return {"skip": skip, "limit": limit, "query": query}

    @app.get("/page")
    async def by_dependency(found: dict[str, Any] = Depends(page)) -> Any:
        return found

    @app.get("/plain")
    async def plain(number: int, other: float = 2) -> Any:
        return [number, other]

    @app.post("/items")
    async def item(item: Item, found: dict[str, Any] = Depends(page)) -> Any:
        return [item, found]

    @app.post("/alone")
    async def alone(item: Item) -> Item:
        return item

    return app


OFF, MODELS, FASTAPI = (), (__name__,), ("fastapi._compat.v2",)


@pytest.mark.parametrize("plugin", [OFF, MODELS], indirect=True)
def test_one_that_is_not_called_leaves_routes_native(plugin: Plugin) -> None:
    """FastAPI makes its own adapters, also of a model: what watches models of the app's alone never hears of them."""
    assert [(entry.template, entry.reason) for entry in compile_app(make_app()) if entry.native is None] == []
    assert plugin.asked_count > 0


@pytest.mark.parametrize("plugin", [FASTAPI], indirect=True)
def test_what_one_hears_of_is_in_the_requests_own_task(plugin: Plugin) -> None:
    reasons = {entry.template: entry.reason for entry in compile_app(make_app())}
    if rules().defaults_are_validated is False:
        converts = "dependencies: code of the app's own converts an argument"
        assert reasons == {"/page": converts, "/plain": "", "/items": converts, "/alone": ""}
    else:  # of which it hears by each request, too
        assert reasons["/plain"] == "other: default is validated, and a pydantic plugin watches"


REQUESTS = [
    *(request("GET", f"/page{query}") for query in ("", "?skip=1&limit=2.5&query=x", "?skip=x&limit=", "?skip=1_0&limit=inf")),
    *(request("GET", f"/plain{query}") for query in ("?number=1", "?number=%201&other=1e3", "", "?number=1.5")),
    *(
        json_request(path, body)
        for path in ("/items?skip=2", "/alone")
        for body in (b'{"name": "x"}', b'{"name": "x", "price": "2"}', b"[]", b"{", b'{"name": 1}')
    ),
]


@pytest.mark.parametrize("plugin", [OFF, MODELS, FASTAPI], indirect=True)
def test_same_answers_and_events(plugin: Plugin) -> None:
    seen = []
    for serve in (serve_uvicorn, serve_ours):
        with serve(make_app()) as address:
            plugin.events.clear()
            connection = Connection(address)
            seen.append([(connection.ask(raw), plugin.events.copy(), plugin.events.clear()) for raw in REQUESTS])
            connection.close()
    assert seen[1] == seen[0]
    assert any(events for _, events, _ in seen[0]) == (plugin.modules == FASTAPI)
