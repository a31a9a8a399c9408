"""What becomes of answers that are under way when the server is told to stop. How it stops is in test_server.py."""

import asyncio
import threading
import time

import pytest
from fastapi import Depends, FastAPI, Request
from starlette.responses import StreamingResponse
from wire import Peer

from turboapi.testing import TestServer


def make_app(ends):
    """`ends`: how each stream came to its end, by name."""
    app = FastAPI()

    @app.get("/polite")
    async def polite(request: Request):
        async def events():
            while not await request.is_disconnected():
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
            ends["polite"] = "told"
            yield "data: bye\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/finite")
    async def finite():
        async def events():
            for number in range(10):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.05)
            ends["finite"] = "whole"

        return StreamingResponse(events(), media_type="text/event-stream; charset=utf-8")

    @app.get("/download")
    async def download(request: Request):
        async def parts():
            for _ in range(10):
                if await request.is_disconnected():
                    ends["download"] = "told"
                    return
                yield b"x" * 1000
                await asyncio.sleep(0.05)
            ends["download"] = "whole"

        return StreamingResponse(parts(), media_type="application/octet-stream")

    @app.get("/deaf")
    async def deaf():
        async def events():
            try:
                while True:
                    yield "data: tick\n\n"
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                ends["deaf"] = "cancelled"
                raise

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


async def leaves_when_told(scope, receive, send):
    """A raw app whose stream ends by returning, as one does whose task group was cancelled."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"Text/Event-Stream")]})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


def stopped(server, peer):
    """Stops the server while this stream is under way; the rest of its octets, and the seconds until their end."""
    peer.until(b"\r\n\r\n")
    peer.until(b"\r\n")  # the first chunk has begun
    begin = time.monotonic()
    thread = threading.Thread(target=server.stop)
    thread.start()
    octets = peer.rest()
    seconds = time.monotonic() - begin
    thread.join()
    return octets, seconds


@pytest.mark.parametrize(
    ("path", "end", "seconds"),
    [
        ("/polite", "told", (0.0, 0.4)),
        ("/finite", "whole", (0.2, 2.0)),
        ("/download", "whole", (0.2, 2.0)),
    ],
)
def test_streams_at_a_stop(path, end, seconds):
    """An event stream is told, and one that does not ask goes on to its end; so does everything that is no event stream."""
    ends = {}
    server = TestServer(make_app(ends), drain_timeout=10).start()
    with Peer(server.port) as peer:
        peer.ask(path)
        octets, took = stopped(server, peer)
    assert octets.endswith(b"\r\n0\r\n\r\n"), "the answer is whole"
    assert ends == {path[1:]: end}
    assert seconds[0] <= took < seconds[1]
    if path == "/polite":
        assert b"data: bye" in octets


def test_a_stream_that_heeds_nothing_is_cancelled_at_the_deadline():
    ends = {}
    server = TestServer(make_app(ends), drain_timeout=0.3, cancel_timeout=5).start()
    with Peer(server.port) as peer:
        peer.ask("/deaf")
        octets, seconds = stopped(server, peer)
    assert ends == {"deaf": "cancelled"}
    assert 0.2 <= seconds < 2.0
    assert b"data: tick" in octets
    assert octets.endswith(b"\n\n\r\n0\r\n\r\n"), "each event is whole by itself, and so is what came of the stream"


def test_an_app_that_returns_when_it_is_told_has_ended_its_stream():
    server = TestServer(leaves_when_told, drain_timeout=10).start()
    with Peer(server.port) as peer:
        peer.ask("/")
        octets, seconds = stopped(server, peer)
    assert octets.endswith(b"data: 1\n\n\r\n0\r\n\r\n")
    assert seconds < 0.4
    assert server.exceptions == []


@pytest.mark.parametrize("is_native", [True, False])
def test_what_a_drain_cancels_is_no_error_of_the_app(is_native, caplog):
    app, begun = FastAPI(), threading.Event()

    def further() -> None:
        pass

    @app.get("/", dependencies=[] if is_native else [Depends(further)])
    async def wait():
        begun.set()
        await asyncio.sleep(1000)

    with TestServer(app, drain_timeout=0.0) as server, Peer(server.port) as peer:
        peer.ask("/")
        assert begun.wait(20)
        server.stop()
        assert peer.read().status == 500
    assert server.exceptions == []
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("WARNING", None)]
