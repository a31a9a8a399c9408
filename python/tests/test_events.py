"""Server-sent events of generators: what the corpus cannot ask, as time passes, the client goes or the server ends. Natively, by the app's
own call, and under uvicorn."""

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import fastapi.routing
import pytest
from differential import request, serve_ours, serve_uvicorn
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request
from fastapi.datastructures import Default
from fastapi.responses import EventSourceResponse
from fastapi.routing import APIRoute
from test_background import wait_until
from test_drain import stopped
from test_streams import PassesOn
from wire import PATIENCE, Peer, get

from turboapi.plan import events
from turboapi.plan.routes import compile_app
from turboapi.testing import TestServer

Log = list[str]


def make_app(log: Log, begun: threading.Event) -> FastAPI:
    app = FastAPI(openapi_url=None)

    async def session() -> AsyncIterator[str]:
        try:
            yield "session"
        finally:
            log.append("session end")

    Session = Annotated[str, Depends(session)]

    async def idle() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0.2)
        yield 2

    async def waits(session: Session, tasks: BackgroundTasks) -> AsyncIterator[str]:
        tasks.add_task(log.append, "after")
        try:
            yield session
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async def never_waits(session: Session, tasks: BackgroundTasks) -> AsyncIterator[str]:
        tasks.add_task(log.append, "after")
        while True:
            yield session
            begun.set()

    def of_def(session: Session, tasks: BackgroundTasks) -> Iterator[str]:
        tasks.add_task(log.append, "after")
        while True:
            yield session
            begun.set()

    async def polite(request: Request) -> AsyncIterator[str]:
        while not await request.is_disconnected():
            yield "tick"
            await asyncio.sleep(0.01)
        log.append("told")
        yield "bye"

    for endpoint in (idle, waits, never_waits, of_def, polite):
        app.get(f"/{endpoint.__name__}", response_class=EventSourceResponse)(endpoint)
    return app


def serve_own_call(app: FastAPI) -> contextlib.AbstractContextManager[tuple[str, int]]:
    """Our server, which does not see that this is a FastAPI."""
    return serve_ours(PassesOn(app))


def serve_leaf(app: FastAPI) -> contextlib.AbstractContextManager[tuple[str, int]]:
    """Natively, within middleware."""
    app.add_middleware(PassesOn)
    return serve_ours(app)


SERVERS = [serve_uvicorn, serve_own_call, serve_leaf, serve_ours]


def test_all_of_it_is_native() -> None:
    assert [(entry.template, entry.reason) for entry in compile_app(make_app([], threading.Event())) if not entry.native] == []


@pytest.mark.parametrize("serve", SERVERS)
def test_idle(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment says that the stream is there still."""
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.03)
    with serve(make_app([], threading.Event())) as (_, port):
        answer = get(port, "/idle")
    assert answer.header("cache-control") == "no-cache"
    assert re.sub(rb"(: ping\n\n)+", b"<idle>", answer.body) == b"data: 1\n\n<idle>data: 2\n\n"


@pytest.mark.parametrize("serve", SERVERS)
@pytest.mark.parametrize(("path", "told"), {"/waits": ["cancelled"], "/never_waits": [], "/of_def": []}.items())
def test_a_client_that_goes(path: str, told: Log, serve: Any) -> None:
    """Tasks come all the same, then what the generator waits for is cancelled, and its dependencies end after it."""
    log: Log = []
    begun = threading.Event()
    with serve(make_app(log, begun)) as (_, port):
        peer = Peer(port)
        peer.send(request("GET", path))
        assert begun.wait(PATIENCE)
        peer.reset()
        wait_until(lambda: "session end" in log)
    assert log == ["after", *told, "session end"]


@pytest.mark.parametrize("wrap", [lambda app: app, PassesOn])
def test_at_a_stop(wrap: Callable[[FastAPI], Any]) -> None:
    """Who asks is told, and what is still sent goes out."""
    log: Log = []
    server = TestServer(wrap(make_app(log, threading.Event())), drain_timeout=10).start()
    with Peer(server.port) as peer:
        peer.ask("/polite")
        octets, seconds = stopped(server, peer)
    assert log == ["told"]
    assert b'data: "bye"' in octets
    assert octets.endswith(b"\r\n0\r\n\r\n"), "the answer is whole"
    assert seconds < 2


async def numbers() -> AsyncIterator[int]:
    yield 1


async def of_function_scope(session: Annotated[int, Depends(numbers, scope="function")]) -> AsyncIterator[int]:
    yield session


def no_generator() -> list[int]:
    return [1]


class TimedRoute(APIRoute):
    """Wraps the handler, as FastAPI's documentation has it."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handler = super().get_route_handler()

        async def timed(request: Request) -> Any:
            return await handler(request)

        return timed


@pytest.mark.parametrize(
    ("endpoint", "kind", "reason"),
    [
        (of_function_scope, APIRoute, "server-sent events, and a dependency that ends before them"),
        (numbers, TimedRoute, "server-sent events within a custom route class"),
        (no_generator, APIRoute, "server-sent events of no generator"),
    ],
)
def test_not_native(endpoint: Any, kind: type[APIRoute], reason: str) -> None:
    app = FastAPI(openapi_url=None)
    app.router.route_class = kind
    app.get("/", response_class=EventSourceResponse)(endpoint)
    assert compile_app(app)[0].reason == reason
    with serve_uvicorn(app) as (_, theirs), serve_ours(app) as (_, ours):
        assert get(ours, "/").body == get(theirs, "/").body == b"data: 1\n\n"


def test_by_default() -> None:
    """Of an app and of routers."""
    app = FastAPI(openapi_url=None, default_response_class=EventSourceResponse)
    router = APIRouter()
    app.get("/app")(numbers)
    router.get("/router")(numbers)
    included = APIRouter(default_response_class=EventSourceResponse)
    included.include_router(router, prefix="/included")
    for each in (router, included):
        app.include_router(each)
    hidden = FastAPI(openapi_url=None)
    hidden.get("/hidden", response_class=Default(EventSourceResponse))(numbers)
    app.mount("/mounted", hidden)
    reasons = {entry.template: entry.reason for entry in compile_app(app) if entry.kind == "route"}
    # FastAPI says of that one that it has JSON lines, and sends events.
    left = {"/mounted/hidden": "server-sent events of a default response class"}
    assert reasons == {"/app": "", "/router": "", "/included/router": "", **left}
    with serve_uvicorn(app) as (_, theirs), serve_ours(app) as (_, ours):
        for path in reasons:
            assert get(ours, path).body == get(theirs, path).body == b"data: 1\n\n"


def test_another_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may send events in its own way."""
    assert events.are_known()
    monkeypatch.setattr(events, "KNOWN", {})
    events.are_known.cache_clear()
    try:
        entry = compile_app(make_app([], threading.Event()))[0]
    finally:
        events.are_known.cache_clear()
    assert entry.reason == "server-sent events: how this FastAPI sends them is not known"
