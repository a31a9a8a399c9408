"""FastAPI's exit stacks in the scope: what an endpoint puts into them happens as under uvicorn, and in that order."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from differential import json_request, request
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from matrix.record import Note
from matrix.servers import Matrix
from pydantic import BaseModel
from starlette.background import BackgroundTask

STACKS = ("fastapi_inner_astack", "fastapi_function_astack", "fastapi_middleware_astack")


class Item(BaseModel):
    name: str


def make_app(set_up: Callable[[FastAPI, Note], None], note: Note) -> FastAPI:
    app = FastAPI()

    def fill(request: Request) -> None:
        async def leave(name: str) -> None:
            note(f"left {name}")

        for name in STACKS:
            request.scope[name].push_async_callback(leave, name)

    @app.get("/seen")
    async def seen(request: Request):
        return [type(request.scope[name]).__name__ for name in STACKS]

    @app.get("/filled")
    async def filled(request: Request):
        fill(request)
        return "filled"

    @app.get("/sync")
    def sync(request: Request, response: Response):
        fill(request)
        response.headers["x-set"] = "1"
        return "sync"

    @app.post("/body")
    async def body(request: Request, item: Item) -> Item:
        fill(request)
        return item

    @app.get("/raises/{status}")
    async def raises(request: Request, status: int):
        fill(request)
        raise HTTPException(status) if status < 500 else RuntimeError("unknown")

    @app.get("/stream")
    async def stream(request: Request):
        async def parts() -> Any:
            fill(request)
            yield b"one"
            note("between")
            yield b"two"

        return StreamingResponse(parts())

    @app.get("/task")
    async def task(request: Request):
        fill(request)
        return JSONResponse("task", background=BackgroundTask(note, "task"))

    @app.get("/exit/{name}/{what}")
    async def exit_does(request: Request, name: str, what: str, raises: bool = False):
        def leave(kind: Any, error: Any, traceback: Any) -> bool:
            note(f"left with {error!r}")
            if what == "http":
                raise HTTPException(402)
            if what == "raise":
                raise KeyError("exit")
            return what == "suppress"

        request.scope[f"fastapi_{name}_astack"].push(leave)
        if raises:
            raise ValueError("endpoint")
        return "left"

    set_up(app, note)
    return app


def nothing(app: FastAPI, note: Note) -> None:
    pass


def function(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def around(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        note(f"out {[name in request.scope for name in STACKS]}")
        return response


def pure(app: FastAPI, note: Note) -> None:
    class Pure:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def tell(message: Any) -> None:
                if scope["type"] == "http":
                    note(f"{message['type']} {len(message.get('body', b''))}")
                await send(message)

            await self.app(scope, receive, tell)

    app.add_middleware(Pure)


REQUESTS = [
    *[request("GET", f"/{path}") for path in ("seen", "filled", "sync", "raises/404", "raises/500", "stream", "task")],
    json_request("/body", b'{"name": "n"}'),
    json_request("/body", b'{"name": 1}'),
    *[
        request("GET", f"/exit/{name}/{what}{query}")
        for name in ("inner", "function", "middleware")
        for what in ("http", "raise", "suppress", "nothing")
        for query in ("", "?raises=1")
    ],
]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("set_up", [nothing, function, pure])
def test_same(set_up: Callable[[FastAPI, Note], None]) -> None:
    with Matrix(partial(make_app, set_up)) as matrix:
        problems = [f"{raw[:60]!r} {line}" for raw in REQUESTS for line in matrix.differences(raw)]
        assert matrix.native_count() == 4 + 8
    problems += [line for side in matrix.sides.values() for line in side.late]
    assert not problems, "\n".join(problems)
