"""What an app is told when its client has gone, and what of it still runs then: the same as under uvicorn."""

import asyncio
import socket
import threading
import time

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, StreamingResponse
from wire import PATIENCE, Peer

from turboapi.testing import TestServer


def make_app():
    app = FastAPI()
    app.log = log = []
    app.begun, app.go_on, app.ended = threading.Event(), threading.Event(), threading.Event()

    def end():
        log.append("background")
        app.ended.set()

    def stream(parts, **options):
        return StreamingResponse(parts, background=BackgroundTask(end), **options)

    async def gone():
        app.begun.set()
        while not app.go_on.is_set():
            await asyncio.sleep(0.005)

    async def waiting(first):
        try:
            if first:
                yield first
            app.begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        finally:
            log.append("finally")

    @app.get("/waits")
    async def waits():
        return stream(waiting(b"part"))

    @app.get("/waits_late")
    async def waits_late():
        await gone()
        return stream(waiting(None))

    @app.get("/ticks")
    async def ticks():
        async def parts():
            while True:
                yield b"part"
                app.begun.set()
                await asyncio.sleep(0.005)

        return stream(parts())

    @app.get("/floods")
    async def floods():
        async def parts():
            while True:
                yield b"part" * 1000
                app.begun.set()

        return stream(parts())

    @app.get("/plain_def")
    def plain_def():
        def parts():
            while True:
                yield b"part"
                app.begun.set()
                time.sleep(0.005)

        return stream(parts())

    async def dependency():
        try:
            yield
        except BaseException as error:
            log.append(type(error).__name__)
            raise
        log.append("dependency")

    @app.get("/whole", dependencies=[Depends(dependency)])
    async def whole(tasks: BackgroundTasks):
        tasks.add_task(end)
        await gone()
        return "whole"

    @app.get("/native")
    async def native():
        await gone()
        return JSONResponse("whole", background=BackgroundTask(end))

    @app.get("/events")
    async def events():
        return stream(waiting(None), media_type="text/event-stream")

    return app


STREAMS = {
    "/waits": ["cancelled", "finally", "background"],
    "/waits_late": ["background"],
    "/ticks": ["background"],
    "/floods": ["background"],
    "/plain_def": ["background"],
    "/whole": ["background", "dependency"],
    "/native": ["background"],
}


@pytest.mark.parametrize("leave", [Peer.reset, lambda peer: peer.socket.close()], ids=["reset", "closed"])
@pytest.mark.parametrize("path", STREAMS)
def test_a_client_that_goes(path, leave):
    """A stream is cancelled, whatever it waits for, and what is to come after an answer comes."""
    app = make_app()
    with TestServer(app) as server:
        peer = Peer(server.port)
        peer.ask(path)
        assert app.begun.wait(PATIENCE)
        leave(peer)
        time.sleep(0.05)  # for the server to learn of it, where the handler does not
        app.go_on.set()
        assert app.ended.wait(PATIENCE)
        server.stop()
        assert server.exceptions == []
    assert app.log in (STREAMS[path], ["cancelled", "finally", *STREAMS[path]])


def test_behind_a_middleware():
    app = make_app()

    async def dispatch(request, call_next):
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    with TestServer(app) as server:
        peer = Peer(server.port)
        peer.ask("/waits")
        assert app.begun.wait(PATIENCE)
        peer.reset()
        assert app.ended.wait(PATIENCE)
    assert app.log == STREAMS["/waits"]


def test_a_half_closed_stream_that_waits():
    """The only sign of a client that has closed, as long as nothing is sent."""
    app = make_app()
    with TestServer(app) as server, Peer(server.port) as peer:
        peer.ask("/waits")
        assert app.begun.wait(PATIENCE)
        peer.socket.shutdown(socket.SHUT_WR)
        assert app.ended.wait(PATIENCE)


def test_the_head_of_an_event_stream_does_not_wait_for_an_event():
    """A browser calls it open when it has the head."""
    with TestServer(make_app()) as server, Peer(server.port) as peer:
        peer.ask("/events")
        assert b"200 OK" in peer.until(b"\r\n\r\n")
