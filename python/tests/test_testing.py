"""testing.py: `TestServer`, over sockets. What a request is answered is tested elsewhere."""

import asyncio
import socket
import threading
import time
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from turboapi.errors import ConfigError, LifespanError, ListenError, StartError
from turboapi.testing import TestServer


def make_app(events=None):
    events = [] if events is None else events

    @asynccontextmanager
    async def lifespan(app):
        events.append("up")
        yield
        events.append("down")

    app = FastAPI(lifespan=lifespan)

    @app.get("/users/{id}")
    async def user(id: int):
        return {"id": id}

    @app.get("/bad")
    async def bad():
        raise LookupError("on purpose")

    return app


def test_serves_and_stops():
    events = []
    with TestServer(make_app(events)) as server:
        assert events == ["up"]
        assert httpx.get(f"{server.url}/users/7").json() == {"id": 7}
        assert server.exceptions == []
    assert events == ["up", "down"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/users/7")


def test_lifespan_off():
    events = []
    with TestServer(make_app(events), lifespan=False) as server:
        assert httpx.get(f"{server.url}/users/7").status_code == 200
    assert events == []


def test_lifespan_runs_on_the_loop_of_the_requests():
    loops = []

    @asynccontextmanager
    async def lifespan(app):
        loops.append(asyncio.get_running_loop())
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index():
        return asyncio.get_running_loop() is loops[0]

    with TestServer(app) as server:
        assert httpx.get(server.url).json() is True


def test_exceptions():
    with TestServer(make_app()) as server:
        answer = httpx.get(f"{server.url}/bad")
        assert answer.status_code == 500
        assert "on purpose" not in answer.text
    assert [(type(error), str(error)) for error in server.exceptions] == [(LookupError, "on purpose")]


def test_a_failing_startup_is_raised_in_the_caller():
    @asynccontextmanager
    async def lifespan(app):
        raise ValueError("no database")
        yield

    server = TestServer(FastAPI(lifespan=lifespan))
    with pytest.raises(LifespanError, match="no database"):
        server.start()
    server.stop()


def test_a_taken_port_is_raised_in_the_caller():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ListenError, match="taken by another process"):
        TestServer(make_app(), port=other.getsockname()[1]).start()


def test_misuse():
    server = TestServer(make_app())
    with pytest.raises(StartError, match="not started"):
        _ = server.url
    server.stop()
    with server, pytest.raises(RuntimeError, match="started already"):
        server.start()
    server.stop()
    with pytest.raises(ConfigError, match="did you mean 'keep_alive_timeout'"):
        TestServer(make_app(), keepalive_timeout=3)


def test_can_be_started_again():
    events = []
    server = TestServer(make_app(events))
    for _ in range(3):
        with server:
            assert httpx.get(f"{server.url}/users/1").status_code == 200
    assert events == ["up", "down"] * 3


def test_stop_lets_a_request_in_flight_end():
    has_begun = threading.Event()
    app = FastAPI()

    @app.get("/")
    async def index():
        has_begun.set()
        await asyncio.sleep(0.1)
        return "whole"

    answers = []
    server = TestServer(app).start()
    client = threading.Thread(target=lambda: answers.append(httpx.get(server.url).json()))
    client.start()
    assert has_begun.wait(5)
    server.stop()
    client.join()
    assert answers == ["whole"]


def test_stop_is_bounded():
    """A handler that never ends is cancelled after drain_timeout."""
    has_begun, was_cancelled = threading.Event(), threading.Event()
    app = FastAPI()

    @app.get("/")
    async def index():
        has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled.set()
            raise

    def ask(url):
        try:
            httpx.get(url)
        except httpx.TransportError:
            pass

    server = TestServer(app, drain_timeout=0.05, cancel_timeout=0.5).start()
    client = threading.Thread(target=ask, args=(server.url,))
    client.start()
    assert has_begun.wait(5)
    begin = time.monotonic()
    server.stop()
    assert was_cancelled.is_set()
    assert time.monotonic() - begin < 2
    client.join()


def test_two_at_once():
    with TestServer(make_app()) as one, TestServer(make_app()) as other:
        assert one.url != other.url
        assert httpx.get(f"{one.url}/users/1").json() == httpx.get(f"{other.url}/users/1").json()


def test_ipv6():
    try:
        with TestServer(make_app(), host="::1") as server:
            assert server.url.startswith("http://[::1]:")
            assert httpx.get(f"{server.url}/users/1").status_code == 200
    except ListenError:
        pytest.skip("this machine has no IPv6")


def test_raw_asgi_app():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    with TestServer(app) as server:
        assert httpx.get(server.url).text == "ok"


def test_quick_enough_for_hundreds_of_tests():
    app = make_app()
    with TestServer(app):
        pass
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        with TestServer(app):
            pass
        times.append(time.perf_counter() - begin)
    # The aim is 10 ms; the bound leaves room for a busy machine.
    assert sorted(times)[len(times) // 2] < 0.05, times


def test_leaves_nothing_behind():
    app = make_app()
    with TestServer(app):
        pass
    threads = set(threading.enumerate())
    for _ in range(5):
        with TestServer(app) as server:
            httpx.get(f"{server.url}/users/1")
    assert {thread for thread in threading.enumerate() if thread.is_alive()} <= threads
