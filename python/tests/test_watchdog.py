"""What holds a worker's thread is named in the log: which route, where it stands, what to do. Once."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import Depends, FastAPI, Request
from process import THREADS
from wire import Peer, get

from turboapi import TurboAPI
from turboapi.testing import TestServer
from turboapi.watching import watchdog

TIMEOUT = 0.2
#: Long enough to be named for sure on a busy machine, and to be named a second time if that were possible.
HOLD = 1.0


def hold_waiting():
    time.sleep(HOLD)


def hold_computing():
    end = time.monotonic() + HOLD
    while time.monotonic() < end:
        sum(range(100))


async def nothing():
    pass


def make_app():
    app = TurboAPI()

    @app.get("/def/{how}", blocking=False)
    def function(how: str):
        {"wait": hold_waiting, "compute": hold_computing}[how]()
        return "held"

    @app.get("/async")
    async def coroutine():
        hold_waiting()
        return "held"

    @app.get("/later")
    async def later():
        await asyncio.sleep(0)
        hold_waiting()
        return "held"

    @app.get("/asgi/{name}", dependencies=[Depends(nothing)])
    async def asgi(name: str):
        hold_waiting()
        return "held"

    @app.get("/asgi-later", dependencies=[Depends(nothing)])
    async def asgi_later(request: Request):
        await asyncio.sleep(0)
        hold_waiting()
        return "held"

    @app.get("/callback")
    async def callback():
        asyncio.get_running_loop().call_soon(hold_waiting)
        return "held"

    @app.get("/pool", blocking=True)
    def pool():
        hold_waiting()
        return "held"

    @app.get("/quick")
    def quick():
        return "quick"

    return app


async def bare(scope, receive, send):
    """An app without routes that anybody could know."""
    if scope["type"] == "http":
        hold_waiting()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'"held"'})


def warnings(caplog):
    return [record for record in caplog.records if "has held the thread" in record.getMessage()]


@pytest.mark.parametrize(
    ("path", "label", "function"),
    [
        ("/def/wait", "GET /def/{how}", "hold_waiting"),
        ("/def/compute", "GET /def/{how}", "hold_computing"),
        ("/async", "GET /async", "hold_waiting"),
        ("/later", "GET /later (a later step, in the event loop)", "hold_waiting"),
        ("/asgi/bob", "GET /asgi/{name}", "hold_waiting"),
        ("/asgi-later", "GET /asgi-later (a later step, in the event loop)", "hold_waiting"),
        ("/callback", "a task or callback of the event loop", "hold_waiting"),
    ],
)
def test_what_holds_the_thread_is_named(path, label, function, caplog):
    """Route, worker, seconds, stack, cure, in one record of level WARNING; the second time there is none."""
    with TestServer(make_app(), watchdog_timeout=TIMEOUT) as server, Peer(server.port) as peer:
        for _ in range(2):
            assert peer.get(path).json() == "held"
            assert peer.get("/quick").json() == "quick"
    (record,) = warnings(caplog)
    assert (record.name, record.levelno) == ("turboapi", logging.WARNING)
    message = record.getMessage()
    assert message.startswith(f"{label} has held the thread of worker 0 for "), message
    seconds = float(message.partition(" for ")[2].partition(" s ")[0])
    assert TIMEOUT <= seconds < HOLD
    assert "blocking=True" in message
    assert "asyncio.to_thread" in message
    lines = [line.strip() for line in message.splitlines()[1:]]
    places = [line for line in lines if line.startswith("File ")]
    assert f", in {function}" in places[-1] or f", in {function}" in places[-2], message  # or in what it calls
    assert __file__ in message
    assert "time.sleep(HOLD)" in lines or function == "hold_computing", message
    assert not any("turboapi/serving/" in line for line in places), message  # nothing of what leads to every handler


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/pool", {"watchdog_timeout": TIMEOUT}),  # holds a thread of the pool
        ("/quick", {"watchdog_timeout": TIMEOUT}),
        ("/def/wait", {"watchdog_timeout": 0}),
        ("/def/wait", {"watchdog_timeout": HOLD * 60}),
    ],
)
def test_what_is_not_named(path, options, caplog):
    with TestServer(make_app(), **options) as server, Peer(server.port) as peer:
        assert peer.get(path).status == 200
        time.sleep(2 * TIMEOUT)  # an idle worker holds nothing either
    assert warnings(caplog) == []


def test_a_busy_worker_is_not_named(caplog):
    """Many quick calls are not a long one."""
    with TestServer(make_app(), watchdog_timeout=TIMEOUT) as server, Peer(server.port) as peer:
        end = time.monotonic() + 4 * TIMEOUT
        while time.monotonic() < end:
            peer.send(b"GET /quick HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
            for _ in range(50):
                assert peer.read().status == 200
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("target", "label"),
    [
        ("/plain?secret=1", "'GET /plain'"),
        ("/%0a%1b[31m", "'GET /%0a%1b[31m'"),
        ("/" + "a" * 4000, f"'GET /{'a' * 115}'"),
    ],
)
def test_what_the_peer_chose_is_cut_and_escaped(target, label, caplog):
    with TestServer(bare, watchdog_timeout=TIMEOUT) as server, Peer(server.port) as peer:
        assert peer.get(target).json() == "held"
    (record,) = warnings(caplog)
    assert record.getMessage().startswith(f"{label} has held the thread of worker 0 for ")


class Fixed:
    """An activity that shows the same call for ever."""

    def __init__(self, route, subject=None):
        self.number, self._route, self._subject = 1, route, subject

    def read(self):
        return self.number

    def route(self, number):
        return self._route

    def subject(self, number):
        return self._subject


class NoRoutes:
    routes = ()


def test_paths_without_a_route_are_named_so_often_and_no_more(caplog):
    """A peer that asks for ever new paths fills no log and no memory."""
    activity = Fixed(watchdog.NO_ROUTE)
    watched = watchdog.Watched(0, 0.0, activity, NoRoutes(), bare)
    for index in range(3 * watchdog.UNROUTED_MAX):
        activity.number, activity._subject = index + 1, f"GET /{index}".encode()
        watchdog.look(watched)
        watchdog.look(watched)
    assert len(warnings(caplog)) == watchdog.UNROUTED_MAX
    assert len(watched.named) == watchdog.UNROUTED_MAX


def test_a_call_that_ends_while_it_is_looked_at_is_not_named(caplog):
    """Its stack would be another call's."""

    class Ending(Fixed):
        looks = 0

        def read(self):
            self.looks += 1
            return 1 if self.looks < 3 else 2

    watched = watchdog.Watched(0, 0.0, Ending(watchdog.NO_ROUTE, b"GET /"), NoRoutes(), bare)
    watchdog.look(watched)
    watchdog.look(watched)
    assert warnings(caplog) == []


def test_it_ends_with_the_last_worker():
    """And begins again with the next."""
    for _ in range(2):
        with TestServer(FastAPI(), watchdog_timeout=TIMEOUT), TestServer(FastAPI(), watchdog_timeout=60):
            while len(watchdog.WATCHDOG._watched) < 2:  # a server is ready a moment before it is watched
                time.sleep(0.001)
            with watchdog.WATCHDOG._lock:
                thread = watchdog.WATCHDOG._thread
            assert thread.is_alive()
            assert thread.daemon
        assert watchdog.WATCHDOG._thread is None
        thread.join(5)
        assert not thread.is_alive()


APP = """
import time
from turboapi import TurboAPI

app = TurboAPI()

@app.get("/hold", blocking=False)
def hold():
    time.sleep(1)
    return "held"
"""


def test_workers_of_the_real_server(tmp_path):
    """Worker processes on a build with the GIL, worker threads without it: each has its watchdog, or its place in the one."""
    (tmp_path / "holding.py").write_text(APP)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--workers", "2", "--watchdog-timeout", "0.2"]
    command = [sys.executable, "-m", "turboapi", "serve", "holding:app", *options]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, **THREADS}) as server:
        while "ready" not in server.stderr.readline():
            assert server.poll() is None
        # The kernel spreads connections by their ports: twenty at once meet both workers.
        with ThreadPoolExecutor(20) as clients:
            assert set(clients.map(lambda _: get(port, "/hold").status, range(20))) == {200}
        server.terminate()
        said = server.stderr.read()
    assert server.returncode == 0, said
    for index in (0, 1):
        assert said.count(f"GET /hold has held the thread of worker {index} for ") == 1, said
    assert said.count("time.sleep(1)") == 2
