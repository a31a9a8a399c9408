"""What is raised for a request, as those who catch it see it: dependencies that have yielded, and the app's exception handlers.

The same from a plan, from a plan within middleware, from the app's own ASGI call and from uvicorn: class, words, cause and notes.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from differential import Answer, Connection, json_request, request, serve
from fastapi import Body, Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, TypeAdapter, ValidationError
from test_after import Notes, PassesOn, nothing
from test_background import EARNED, wait_until
from ways import OwnRoute

from turboapi.plan.routes import compile_app


class Item(BaseModel):
    name: str


class PickyResponse(JSONResponse):
    def render(self, content: Any) -> bytes:
        raise KeyError("content")


def seen(who: str, error: BaseException) -> tuple[str, ...]:
    return who, repr(error), repr(error.__cause__), repr(getattr(error, "__notes__", None))


HANDLED = (RuntimeError, StopIteration, StopAsyncIteration, ValidationError, ResponseValidationError, ValueError, KeyError, TypeError)


def add_handlers(app: FastAPI, notes: Notes) -> None:
    for kind in HANDLED:

        async def handle(request: Request, error: Exception, kind: type[Exception] = kind) -> Response:
            notes.append(seen(f"handler of {kind.__name__}", error))
            return PlainTextResponse(kind.__name__, 418)

        app.add_exception_handler(kind, handle)


def add_raising(app: FastAPI, notes: Notes) -> None:
    """Routes whose parts raise what does not leave a coroutine, or an asynchronous generator, as it is."""

    def around() -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            notes.append(seen("def", error))
            raise

    async def around_async() -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            notes.append(seen("async def", error))
            raise

    for kind in (StopIteration, StopAsyncIteration, KeyError):
        raising = parts(kind)
        for outer in (around, around_async):
            for name in ("function", "coroutine"):
                app.get(f"/{kind.__name__}/{outer.__name__}/{name}", dependencies=[Depends(outer)])(raising[name])
            for name, part in raising.items():
                ends_badly = raising["coroutine"] if name == "leaves_instead" else nothing
                app.get(f"/{kind.__name__}/{outer.__name__}/after/{name}", dependencies=[Depends(outer), Depends(part)])(ends_badly)
        app.get(f"/{kind.__name__}/alone")(raising["function"])
        app.get(f"/{kind.__name__}/composed", dependencies=[Depends(raising["function"])])(lambda: None)


def parts(kind: type[Exception]) -> dict[str, Callable[..., Any]]:
    def function() -> None:
        raise kind("on purpose")

    async def coroutine() -> None:
        raise kind("on purpose")

    def enters() -> Iterator[None]:
        raise kind("on purpose")
        yield

    def leaves() -> Iterator[None]:
        yield
        raise kind("on purpose")

    def leaves_instead() -> Iterator[None]:
        try:
            yield
        except BaseException:
            raise kind("on purpose")  # noqa: B904 - the context is part of it

    async def leaves_async() -> AsyncIterator[None]:
        yield
        raise kind("on purpose")

    found = (function, coroutine, enters, leaves, leaves_instead, leaves_async)
    return {part.__name__: part for part in found}


def add_defaults(app: FastAPI) -> None:
    """Routes with an argument whose default cannot be made: pydantic's error says nothing of the request."""

    def make() -> int:
        return TypeAdapter(int).validate_python("no number")

    def depends(x: Annotated[None, Depends(nothing)], a: Annotated[int, Query(default_factory=make)]) -> int:
        return a

    @app.get("/default/query")
    def query(b: int, a: Annotated[int, Query(default_factory=make)]) -> int:
        return a

    @app.get("/default/header")
    async def header(a: Annotated[int, Header(default_factory=make)]) -> int:
        return a

    @app.post("/default/body")
    def body(a: Annotated[int, Body(default_factory=make)]) -> int:
        return a

    @app.post("/default/embedded")
    async def embedded(a: Annotated[int, Body(default_factory=make, embed=True)], b: Annotated[int, Body()] = 1) -> int:
        return a

    app.get("/default/depends")(depends)


def add_unwritable(app: FastAPI) -> None:
    """Routes that return what no answer can be made of."""

    def returning(value: Any) -> Callable[[], Any]:
        return lambda: value

    for name, value in {"nan": float("nan"), "function": len, "object": object()}.items():
        app.get(f"/unwritable/{name}", response_model=None)(returning(value))

    @app.get("/unwritable/model", response_model=Item)
    async def model() -> Any:
        return {}

    @app.get("/unwritable/class", response_class=PickyResponse)
    def response_class() -> int:
        return 1

    @app.get("/unwritable/said", response_model=Item)
    def said(response: Response) -> Any:
        response.headers["x"] = "1"
        return {}


def make_app(way: str, notes: Notes) -> FastAPI:
    app = FastAPI()
    if way == "asgi":
        app.router.route_class = OwnRoute
    if way == "leaf":
        app.add_middleware(PassesOn)
    add_handlers(app, notes)
    add_raising(app, notes)
    add_defaults(app)
    add_unwritable(app)
    return app


TEMPLATES = [entry.template for entry in compile_app(make_app("native", [])) if entry.template and "docs" not in entry.template]

REQUESTS = [
    *(request("GET", path) for path in TEMPLATES if not path.startswith(("/default", "/openapi", "/redoc"))),
    *(request("GET", f"/default/{rest}") for rest in ("query?b=1", "query?b=x", "query", "query?a=x", "header", "depends", "depends?a=x")),
    *(request("POST", f"/default/{name}") for name in ("body", "embedded")),
    *(json_request("/default/embedded", body) for body in (b"{}", b'{"b":"x"}', b'{"a":1,"b":2}', b"[]")),
]


def served(way: str, notes: Notes) -> contextlib.AbstractContextManager[tuple[str, int]]:
    return serve(way, make_app(way, notes))


def ask(connection: Connection, notes: Notes, asked: bytes, count: int) -> tuple[bytes, Answer, Notes]:
    notes.clear()
    answer = connection.ask(asked)
    wait_until(lambda: len(notes) >= count)
    return asked, answer, notes.copy()


@pytest.fixture(scope="module")
def expected() -> list[tuple[bytes, Answer, Notes]]:
    """What uvicorn answers, and what was seen."""
    notes: Notes = []
    with served("uvicorn", notes) as address:
        connection = Connection(address, kept=False)
        found = [ask(connection, notes, asked, asked.count(b"/leaves")) for asked in REQUESTS]
        connection.close()
    return found


@pytest.mark.parametrize("has_earned", [False, True], ids=["threads", "worker"])
@pytest.mark.parametrize("way", ["native", "leaf", "asgi"])
def test_what_is_seen(way: str, has_earned: bool, expected: list[tuple[bytes, Answer, Notes]]) -> None:
    notes: Notes = []
    with served(way, notes) as address:
        connection = Connection(address, kept=False)
        for asked, answer, noted in expected:
            for _ in range(EARNED if has_earned else 0):
                ask(connection, notes, asked, len(noted))
            assert ask(connection, notes, asked, len(noted)) == (asked, answer, noted)
        connection.close()


def test_all_of_it_is_native() -> None:
    table = [entry for entry in compile_app(make_app("native", [])) if entry.template in TEMPLATES]
    assert [(entry.template, entry.reason) for entry in table if not entry.native] == []
