"""Route classes that wrap FastAPI's handler: the same answers and events from native routes, our ASGI path and uvicorn, over a socket.

What the classes do is in wrapped_cases.py; each has the same endpoints.
"""

import gzip
import logging
import os
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Annotated, Any

import fastapi.routing
import httpx
import pytest
from differential import json_request, request
from fastapi import APIRouter, Body, Cookie, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from matrix.record import Note
from matrix.servers import Matrix
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware
from wrapped_cases import CLASSES, MARK

from turboapi.plan.routes import compile_app
from turboapi.testing import TestServer

#: Of these the handler cannot be seen, or is another one than the route says.
NOT_NATIVE = {"kept_elsewhere", "other_handler"}


#: Differences that are shown.
SHOWN_MAX = 12


class Item(BaseModel):
    name: str
    price: float | None = None


def add_endpoints(router: Any, note: Note) -> None:
    """What each class has."""

    @router.get("/item/{number}")
    async def item(number: int, q: str = "", flag: bool = False, x_one: Annotated[str, Header()] = "", c: Annotated[str, Cookie()] = ""):
        note(f"item {MARK.get()}")
        return {"number": number, "q": q, "flag": flag, "x_one": x_one, "c": c}

    @router.get("/sync/{name}")
    def sync(name: str) -> str:
        note(f"sync {MARK.get()}")
        return name

    @router.post("/model")
    async def model(item: Item) -> Item:
        note("model")
        return item

    @router.post("/sum")
    def total(numbers: Annotated[list[int], Body()]):
        note("sum")
        return {"sum": sum(numbers)}

    @router.get("/own")
    def own():
        return PlainTextResponse("own", 201, {"x-own": "1"})

    @router.get("/html", response_class=HTMLResponse, status_code=203)
    async def html():
        return "<p>"

    @router.get("/stream")
    async def stream():
        return StreamingResponse(iter([b"one", b"two"]), media_type="text/plain")

    @router.get("/raise/{status}")
    async def raises(status: int):
        note("raises")
        if status == 500:
            raise RuntimeError("unknown")
        raise HTTPException(status, "on purpose", {"x-why": "1"})

    @router.get("/invalid")
    def invalid() -> int:
        return "not a number"  # type: ignore[return-value]

    @router.get("/nothing", status_code=204)
    def nothing() -> None:
        note("nothing")

    @router.post("/request/{name}")
    async def of_request(request: Request, response: Response, name: str):
        note(f"{type(request).__name__} {request.path_params} {sorted(request.query_params.items())}")
        response.headers["x-set"] = name
        response.status_code = 201
        return (await request.body()).decode("latin-1")


def requests(prefix: str) -> list[bytes]:
    """What each class is asked."""
    zipped = gzip.compress(b'{"name": "zipped"}')
    return [
        request("GET", f"{prefix}/item/5?q=a&flag=yes", ("X-One", "1"), ("Cookie", "c=d")),
        request("GET", f"{prefix}/item/x?flag=perhaps"),
        request("GET", f"{prefix}/sync/%C3%BC"),
        json_request(f"{prefix}/model", b'{"name": "n", "price": 1.5}'),
        json_request(f"{prefix}/model", b'{"price": "x"}'),
        json_request(f"{prefix}/model", b'{"name": '),
        json_request(f"{prefix}/model", zipped).replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n", 1),
        json_request(f"{prefix}/model", b"not zipped").replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n", 1),
        json_request(f"{prefix}/model", b""),
        json_request(f"{prefix}/sum", b"[1, 2, 3]"),
        json_request(f"{prefix}/sum", b"[1]").replace(b"application/json", b"text/plain"),
        request("GET", f"{prefix}/own"),
        request("GET", f"{prefix}/html"),
        request("GET", f"{prefix}/stream"),
        request("GET", f"{prefix}/raise/418"),
        request("GET", f"{prefix}/raise/500"),
        request("GET", f"{prefix}/invalid"),
        request("GET", f"{prefix}/nothing"),
        json_request(f"{prefix}/request/a%20b?q=1", b"{}"),
        request("DELETE", f"{prefix}/own"),
    ]


SetUp = Callable[[FastAPI, Note], None]


def make_app(
    names: Iterable[str], is_included: bool, around: SetUp, note: Note, add: Callable[[Any, Note], None] = add_endpoints
) -> FastAPI:
    """An app with these classes."""
    app = FastAPI()
    for name in names:
        router = APIRouter(prefix=f"/{name}", route_class=CLASSES[name](note))
        add(router, note)
        if is_included:
            app.include_router(router)
        else:
            app.router.routes.extend(router.routes)

    @app.exception_handler(KeyError)
    async def on_key_error(request: Request, error: KeyError) -> Response:
        return PlainTextResponse(f"key error {request.url.path}", 410)

    around(app, note)
    return app


def nothing(app: FastAPI, note: Note) -> None:
    pass


def function(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def around(request: Request, call_next: Any) -> Response:
        note("function in")
        response: Response = await call_next(request)
        note(f"function out {request.scope['route'].name}" if "route" in request.scope else "function out")
        return response


def cors_and_pure(app: FastAPI, note: Note) -> None:
    class Pure:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def tell(message: Any) -> None:
                if scope["type"] == "http":
                    note(message["type"])
                await send(message)

            await self.app(dict(scope), receive, tell)

    app.add_middleware(Pure)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_included, around, sample", [(False, nothing, None), (True, function, 20), (True, cors_and_pure, 20)])
def test_same(is_included: bool, around: SetUp, sample: int | None) -> None:
    """With a sample there are so many of the classes, drawn from the same seed as the matrix."""
    drawn = random.Random(os.environ.get("TURBOAPI_MATRIX_SEED", "12"))
    names = list(CLASSES) if sample is None else drawn.sample(list(CLASSES), sample)
    problems = []
    with Matrix(partial(make_app, names, is_included, around)) as matrix:
        for name in names:
            for raw in requests(f"/{name}"):
                problems += [f"{raw[:120]!r} {line}" for line in matrix.differences(raw)]
        native = [entry.template for entry in compile_app(matrix.app) if entry.native is not None]
    problems += [line for side in matrix.sides.values() for line in side.late]
    assert not problems, "\n".join(problems[:SHOWN_MAX])
    for name in names:
        found = sum(template.startswith(f"/{name}/") for template in native)
        assert found == (0 if name in NOT_NATIVE or (is_included and not KNOWS_INCLUDED) else 11), name


#: FastAPI 0.141 makes the handler of an included route anew for each request.
KNOWS_INCLUDED = hasattr(fastapi.routing, "wrap_app_with_body_limit")


#: Of these FastAPI's own handler has the requests: what comes to it is not the request that Rust has seen.
NOT_AS_IT_CAME = {
    "in_another_loop", "not_a_request", "deep_copy", "json_of_its_own", "head_of_its_own",
    "attributes_of_its_own", "sets_query", "changes_query_too_late", "sets_headers", "changes_headers_too_late",
    "sets_cookies", "changes_cookies",
    "changes_path_params", "adds_path_param", "other_path_params", "kept_elsewhere", "other_handler",
}  # fmt: skip


def test_plan_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan answers where the request comes as it was: FastAPI's own part is not entered."""
    solve, solved = fastapi.routing.solve_dependencies, []

    async def counting(**options: Any) -> Any:
        solved.append(options)
        return await solve(**options)

    def add(router: Any, note: Note) -> None:
        @router.get("/{number}")
        async def item(number: int, q: str = "", x_one: Annotated[str, Header()] = "", c: Annotated[str, Cookie()] = ""):
            return [number, q, x_one, c]

    with TestServer(make_app(CLASSES, False, nothing, lambda event: None, add)) as server:
        monkeypatch.setattr(fastapi.routing, "solve_dependencies", counting)
        found = set()
        for name in CLASSES:
            httpx.get(f"{server.url}/{name}/5?q=a", headers={"x-one": "1", "cookie": "c=d"})
            if solved:
                found.add(name)
            solved.clear()
        assert found == NOT_AS_IT_CAME
