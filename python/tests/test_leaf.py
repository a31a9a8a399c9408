"""The compiled leaf: one app within each of many middlewares, as native routes and under uvicorn, over a socket.

Each case is a middleware that does to its scope, `receive` or `send` what may stand in the way of a plan. Compared are all answers, and
what app and middleware have noted, in its order.
"""

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from differential import Answer, Connection, json_request, request, serve_uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from leaf_cases import CASES, SECONDS_TO_READ, WITHOUT_STREAM, Around, Receive, Scope, Send, TeapotError
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware

from turboapi.plan.leaf import KEY
from turboapi.plan.routes import compile_app
from turboapi.testing import TestServer

pytestmark = pytest.mark.above_platform

# The app.


class Item(BaseModel):
    name: str


#: What app and middleware have noted for the request that is being answered.
Notes = list[Any]


def make_app(notes: Notes, **options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.get("/async/{number}")
    async def answer_async(number: int, flag: bool = False) -> dict[str, Any]:
        notes.append("endpoint")
        return {"number": number, "flag": flag}

    @app.get("/def/{name}")
    def answer_def(name: str) -> str:
        notes.append("endpoint")
        return name

    @app.post("/body")
    async def answer_body(item: Item) -> Item:
        notes.append(item.name)
        return item

    @app.post("/body-raises")
    async def raise_with_body(item: Item) -> None:
        raise TeapotError

    @app.post("/read-raises")
    async def raise_after_reading(request: Request) -> None:
        request.mark = await request.body()  # type: ignore[attr-defined]
        raise TeapotError

    @app.post("/both-raises")
    async def raise_with_both(request: Request, item: Item) -> None:
        raise TeapotError

    @app.get("/http-exception")
    async def raise_http() -> None:
        raise HTTPException(418, "short and stout", headers={"X-Why": "tea"})

    @app.get("/value-error")
    def raise_value_error() -> None:
        raise ValueError("no handler")

    @app.get("/response")
    def answer_response(response: Response) -> int:
        response.headers["x-set"] = "1"
        response.status_code = 202
        return 1

    @app.get("/stream")
    async def answer_stream() -> StreamingResponse:
        return StreamingResponse(iter([b"a", b"b"]), background=BackgroundTask(notes.append, "background"))

    @app.exception_handler(TeapotError)
    async def handle_teapot(request: Request, error: TeapotError) -> JSONResponse:
        # The endpoint's own request: its body was read, and would be waited for in another one.
        body = await asyncio.wait_for(request.body(), SECONDS_TO_READ)
        found = {"body": body.decode(), "route": request.scope["route"].path, "mark": getattr(request, "mark", b"").decode()}
        return JSONResponse(found, 418)

    return app


ITEM = b'{"name":"n"}'

REQUESTS = [
    request("GET", "/async/3"),
    request("GET", "/async/3?flag=yes"),
    request("GET", "/async/x"),
    request("GET", "/def/a%20b"),
    json_request("/body", ITEM),
    json_request("/body", b'{"nme":"n"}'),
    json_request("/body", b"{"),
    json_request("/body", b""),
    json_request("/body-raises", ITEM),
    json_request("/read-raises", ITEM),
    json_request("/both-raises", ITEM),
    request("GET", "/http-exception"),
    request("GET", "/value-error"),
    request("GET", "/response"),
    request("GET", "/stream"),
    request("GET", "/none"),
    request("PUT", "/body"),
]

# The same app under both.


@contextlib.contextmanager
def both(make: Callable[[Notes], Any], **options: Any) -> Iterator[tuple[Callable[[bytes], Any], Callable[[bytes], Any]]]:
    """What asks our server, and what asks uvicorn: the answer, and the notes when nothing is added to them any more."""
    notes: list[Notes] = [[], []]
    with TestServer(make(notes[0]), **options) as server, serve_uvicorn(make(notes[1])) as address:
        connections = [Connection(each, kept=False) for each in (("127.0.0.1", server.port), address)]
        yield tuple(functools.partial(ask, *pair) for pair in zip(connections, notes, strict=True))  # type: ignore[misc]
        for connection in connections:
            connection.close()


def ask(connection: Connection, notes: Notes, sent: bytes) -> tuple[Answer | str, Notes]:
    notes.clear()
    try:
        answer: Answer | str = connection.ask(sent)
    except ConnectionError:
        answer = "closed"
    deadline = time.monotonic() + SECONDS_TO_READ
    while OPEN in notes and notes.count(OPEN) != notes.count(CLOSED):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    # What the two servers say of a connection after an app has failed is not the leaf's.
    if isinstance(answer, Answer) and answer.status == 500:
        answer = Answer(500, (), answer.body)
    return answer, list(notes)


OPEN, CLOSED = "open", "closed"


def within(around: Around, notes: Notes) -> Any:
    """A middleware class."""

    class Middleware:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await self.app(scope, receive, send)
                return
            notes.append(OPEN)
            try:
                await around(self.app, scope, receive, send)
            finally:
                notes.append(CLOSED)

    return Middleware


@pytest.mark.parametrize("name", CASES)
def test_middleware(name: str) -> None:
    def make(notes: Notes) -> FastAPI:
        app = make_app(notes)
        app.add_middleware(within(CASES[name], notes))
        return app

    app = make([])
    assert [entry.reason for entry in compile_app(app) if entry.native is None and entry.template.startswith("/body")] == []
    with both(make) as (ours, theirs):
        for sent in REQUESTS:
            if b"/stream" not in sent or name not in WITHOUT_STREAM:
                assert ours(sent) == theirs(sent), sent


@pytest.mark.parametrize("name", ["pass_on", "copy_scope", "body_as_bytearray", "deep_copy"])
def test_middleware_within_dispatch(name: str) -> None:
    """A BaseHTTPMiddleware around it, and one that has something to do after the answer between the two."""

    def make(notes: Notes) -> FastAPI:
        app = make_app(notes)

        class After:
            def __init__(self, app: Any) -> None:
                self.app = app

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                await self.app(scope, receive, send)
                notes.append("after the app")

        async def dispatch(request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            notes.append("the answer has begun")
            await asyncio.sleep(0)
            response.headers["x-dispatch"] = "1"
            notes.append("the answer goes on")
            return response

        app.add_middleware(After)
        app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
        app.add_middleware(within(CASES[name], notes))
        return app

    with both(make) as (ours, theirs):
        for sent in REQUESTS:
            assert ours(sent) == theirs(sent), sent


def test_handler_reads_the_body_without_middleware() -> None:
    with both(make_app) as (ours, theirs):
        for sent in REQUESTS:
            if b"-raises" in sent:
                assert ours(sent) == theirs(sent), sent


def test_router_without_its_app() -> None:
    """FastAPI's routes fail without what the app puts around its router."""

    def make(notes: Notes) -> FastAPI:
        app = make_app(notes)

        async def short(_: Any, scope: Scope, receive: Receive, send: Send) -> None:
            await app.router(scope, receive, send)

        app.add_middleware(within(short, notes))
        return app

    with both(make) as (ours, theirs):
        for sent in REQUESTS[:5]:
            found = ours(sent)
            assert found == theirs(sent)
            assert found[0].status == 500


def test_other_type() -> None:
    def make(notes: Notes) -> FastAPI:
        app = make_app(notes)

        async def renamed(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "type": "http.other"}, receive, send)

        app.add_middleware(within(renamed, notes))
        return app

    with both(make) as (ours, theirs):
        found = ours(REQUESTS[0])
        assert found == theirs(REQUESTS[0])
        assert "endpoint" not in found[1]


@pytest.mark.parametrize("has_middleware", [False, True])
def test_debug_shows_the_same_frames(has_middleware: bool) -> None:
    def make(notes: Notes) -> FastAPI:
        app = make_app(notes, debug=True)
        if has_middleware:
            app.add_middleware(within(CASES["pass_on"], notes))
        return app

    with both(make) as (ours, theirs):
        sent = request("GET", "/value-error")
        assert ours(sent) == theirs(sent)


def test_handler_knows_its_route_under_a_root_path() -> None:
    with TestServer(make_app([]), root_path="/proxied") as server:
        answer = Connection(("127.0.0.1", server.port)).ask(json_request("/body-raises", ITEM))
    assert b'"route":"/body-raises"' in answer.body


def test_apps_mounted_in_each_other() -> None:
    def make(notes: Notes) -> FastAPI:
        first, second = make_app(notes), make_app(notes)
        first.mount("/second", second)
        second.mount("/first", first)
        for app in (first, second):
            app.add_middleware(within(CASES["pass_on"], notes))
        return first

    with both(make) as (ours, theirs):
        for path in ("/async/3", "/second/async/3", "/second/first/async/3", "/second/first/second/def/a"):
            found = ours(request("GET", path))
            assert found == theirs(request("GET", path))
            assert found[0].status == 200


def test_one_app_served_twice_at_once_and_by_uvicorn() -> None:
    seen = set()

    async def look(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
        seen.add(KEY in scope)
        await app(scope, receive, send)

    app = make_app([])
    app.add_middleware(within(look, []))

    def answers(address: tuple[str, int]) -> list[Any]:
        connection = Connection(address)
        found = [ask(connection, [], sent)[0] for sent in REQUESTS]
        connection.close()
        return found

    with TestServer(app) as first, TestServer(app) as second:
        found: dict[int, list[Any]] = {}
        threads = [
            threading.Thread(target=lambda port=port: found.update({port: answers(("127.0.0.1", port))}))  # type: ignore[misc]
            for port in (first.port, second.port)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seen.clear()
    with serve_uvicorn(app) as address:
        expected = answers(address)
    assert seen == {False}
    assert found[first.port] == found[second.port] == expected
