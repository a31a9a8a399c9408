"""server.py and what stands under it: settings, listeners, cores, `app.state`, and the server as a process with its signals.

Not here: what a request is answered. The server under test is started as a user would, on a port that the system chooses.
"""

import asyncio
import contextlib
import contextvars
import http.client
import os
import queue
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from process import THREADS
from starlette.datastructures import State

from turboapi.config import Config, connections_max, stray_variables
from turboapi.errors import ConfigError, ListenError
from turboapi.serving import cores, state
from turboapi.serving.listeners import open_listeners
from turboapi.serving.loading import is_free_threaded
from turboapi.serving.processes import end_in_words
from turboapi.serving.signals import Signals

# Settings


@pytest.mark.parametrize(
    ("arguments", "environment", "name", "value"),
    [
        ({}, {}, "keep_alive_timeout", 75.0),
        ({}, {"TURBOAPI_KEEP_ALIVE_TIMEOUT": "60"}, "keep_alive_timeout", 60.0),
        ({"keep_alive_timeout": 5}, {"TURBOAPI_KEEP_ALIVE_TIMEOUT": "60"}, "keep_alive_timeout", 5.0),
        ({"keep_alive_timeout": None}, {"TURBOAPI_KEEP_ALIVE_TIMEOUT": "60"}, "keep_alive_timeout", 60.0),
        ({"keep_alive_timeout": "0.5"}, {}, "keep_alive_timeout", 0.5),
        ({}, {"TURBOAPI_KEEP_ALIVE_TIMEOUT": ""}, "keep_alive_timeout", 75.0),
        ({"port": "0"}, {}, "port", 0),
        ({"body_bytes_max": "1_000"}, {}, "body_bytes_max", 1000),
        ({}, {"TURBOAPI_IO": "epoll"}, "backend", "epoll"),
        ({}, {"TURBOAPI_DATE_HEADER": "off"}, "date_header", False),
        ({"date_header": "Yes"}, {}, "date_header", True),
        ({}, {"TURBOAPI_PIN": "1"}, "pin", True),
        ({"server_header": ""}, {}, "server_header", ""),
        ({"host": ""}, {}, "host", ""),
        ({"port": 8000}, {"TURBOAPI_PORT": "tcp://10.0.0.1:80"}, "port", 8000),
        ({"uds": "/x"}, {"TURBOAPI_PORT": "tcp://10.0.0.1:80"}, "uds", "/x"),
        ({"uds": "/run/ä.sock"}, {"TURBOAPI_PORT": "80"}, "uds", "/run/ä.sock"),
        ({"uds": "/x"}, {"TURBOAPI_PORT": "80"}, "port", 8000),
        ({"port": 80}, {"TURBOAPI_UDS": "/x", "TURBOAPI_HOST": "::1"}, "host", "::1"),
        ({"fd": "3"}, {}, "fd", 3),
        # What platforms and other servers' users set.
        ({}, {"PORT": "9000"}, "port", 9000),
        ({}, {"PORT": "9000"}, "host", ""),
        ({}, {"PORT": "9000", "TURBOAPI_HOST": "::1"}, "host", "::1"),
        ({"host": "127.0.0.1"}, {"PORT": "9000"}, "host", "127.0.0.1"),
        ({"host": "127.0.0.1"}, {"PORT": "9000"}, "port", 9000),
        ({}, {"PORT": "9000", "TURBOAPI_PORT": "9001"}, "port", 9001),
        ({}, {"PORT": "9000", "TURBOAPI_PORT": "9001"}, "host", "127.0.0.1"),
        ({"port": 9002}, {"PORT": "x"}, "port", 9002),
        ({"uds": "/x"}, {"PORT": "x"}, "port", 8000),
        ({}, {"PORT": "9000", "TURBOAPI_UDS": "/x"}, "uds", "/x"),
        ({}, {"PORT": ""}, "host", "127.0.0.1"),
        ({}, {"WEB_CONCURRENCY": "3"}, "workers", 3),
        ({}, {"WEB_CONCURRENCY": "3", "TURBOAPI_WORKERS": "2"}, "workers", 2),
        ({"workers": 1}, {"WEB_CONCURRENCY": "3"}, "workers", 1),
        ({}, {}, "headers", ()),
        ({"headers": ["X-A: 1", "x-b:"]}, {"TURBOAPI_HEADERS": "x-c: 3"}, "headers", (("X-A", "1"), ("x-b", ""))),
        ({"headers": [("x-a", "1:2"), ["x-b", " 2\t"]]}, {}, "headers", (("x-a", "1:2"), ("x-b", "2"))),
        ({"headers": {"x-a": "1"}}, {}, "headers", (("x-a", "1"),)),
        ({}, {"TURBOAPI_HEADERS": "x-a: 1\nx-b: 2"}, "headers", (("x-a", "1"), ("x-b", "2"))),
    ],
)
def test_settings(arguments, environment, name, value):
    seen = getattr(Config.of(arguments, environment), name)
    assert seen == value
    assert type(seen) is type(value)


@pytest.mark.parametrize(
    ("arguments", "environment", "setting", "message"),
    [
        ({"keepalive_timeout": 1}, {}, "keepalive_timeout", "unknown option 'keepalive_timeout'; did you mean 'keep_alive_timeout'?"),
        ({"xyzzy": 1}, {}, "xyzzy", "unknown option 'xyzzy'; allowed are host, port, "),
        ({"port": 65_536}, {}, "port", "port is 65536, allowed is a whole number from 0 to 65535"),
        ({"port": -1}, {}, "port", "port is -1, allowed is"),
        ({"port": "http"}, {}, "port", "port is 'http', allowed is"),
        ({"port": 80.0}, {}, "port", "port is 80.0, allowed is"),
        ({"port": True}, {}, "port", "port is True, allowed is"),
        ({"workers": 0}, {}, "workers", "workers is 0, allowed is a whole number from 1 to 1024"),
        ({"drain_timeout": "nan"}, {}, "drain_timeout", "drain_timeout is nan, allowed is seconds from 0 to 86400"),
        ({"drain_timeout": float("inf")}, {}, "drain_timeout", "drain_timeout is inf, allowed is"),
        ({"startup_timeout": "inf"}, {}, "startup_timeout", "startup_timeout is inf, allowed is"),
        ({"inline_budget": "1e30"}, {}, "inline_budget", "inline_budget is 1e+30, allowed is seconds from 0 to 3600"),
        ({"head_timeout": 10**400}, {}, "head_timeout", "head_timeout is 1000"),
        ({"host": "a\r\nb"}, {}, "host", "host is 'a\\r\\nb', allowed is printable ASCII"),
        ({"server_header": "ü"}, {}, "server_header", "server_header is 'ü', allowed is printable ASCII"),
        (
            {},
            {"TURBOAPI_PORT": "tcp://10.0.0.1:80"},
            "TURBOAPI_PORT",
            "TURBOAPI_PORT is 'tcp://10.0.0.1:80', allowed is a whole number from 0 "
            "to 65535; Kubernetes sets it so for a service named turboapi: give --port",
        ),
        ({}, {"TURBOAPI_IO": "iocp"}, "TURBOAPI_IO", "TURBOAPI_IO is 'iocp', allowed is one of auto, uring, monoio, "),
        ({}, {"TURBOAPI_PIN": "perhaps"}, "TURBOAPI_PIN", "TURBOAPI_PIN is 'perhaps', allowed is on or off"),
        ({"uds": "/x", "port": 80}, {}, "uds", "port is 80, uds is '/x': a server listens on a port, on a Unix socket or on an "),
        ({"uds": "/x", "fd": 3}, {}, "fd", "uds is '/x', fd is 3: a server listens"),
        ({"fd": 3, "host": "::"}, {}, "fd", "host is '::', fd is 3: a server listens"),
        ({}, {"TURBOAPI_UDS": "/x", "TURBOAPI_PORT": "80"}, "uds", "port is 80, uds is '/x': a server listens"),
        ({"uds": ""}, {}, "uds", "uds is '', allowed is a path"),
        ({"headers": ["x-a"]}, {}, "headers", "headers is 'x-a', allowed is NAME:VALUE in printable ASCII, and no connection, "),
        ({"headers": [":b"]}, {}, "headers", "headers is ':b', allowed is NAME:VALUE"),
        ({"headers": ["a b:c"]}, {}, "headers", "headers is 'a b:c', allowed is"),
        ({"headers": [("x-a", "1\r\nx-b: 2")]}, {}, "headers", "headers is ('x-a', '1\\r\\nx-b: 2'), allowed is"),
        ({"headers": [("x-a", "ü")]}, {}, "headers", "headers is ('x-a', 'ü'), allowed is"),
        ({"headers": [("x-a", 1)]}, {}, "headers", "headers is ('x-a', 1), allowed is"),
        ({"headers": [("x-a", "1", "2")]}, {}, "headers", "headers is ('x-a', '1', '2'), allowed is"),
        ({"headers": 5}, {}, "headers", "headers is 5, allowed is"),
        ({}, {"TURBOAPI_HEADERS": "x-a: 1\nContent-Length: 5"}, "TURBOAPI_HEADERS", "TURBOAPI_HEADERS is 'Content-Length: 5', allowed is"),
        ({"uds": "a\0b"}, {}, "uds", "uds is 'a\\x00b', allowed is a path"),
        ({"fd": -1}, {}, "fd", "fd is -1, allowed is a whole number from 0"),
        ({"head_bytes_max": 8000}, {}, "request_line_bytes_max", "request_line_bytes_max is 16384, head_bytes_max allows 8000"),
    ],
)
def test_settings_that_are_refused(arguments, environment, setting, message):
    with pytest.raises(ConfigError) as caught:
        Config.of(arguments, environment)
    assert str(caught.value).startswith(message)
    assert caught.value.setting == setting


def test_a_misspelled_variable_is_named():
    assert stray_variables({"TURBOAPI_WORKRES": "2", "TURBOAPI_WORKERS": "2", "PATH": ""}) == [
        "unknown variable 'TURBOAPI_WORKRES'; did you mean 'TURBOAPI_WORKERS'?"
    ]


@pytest.mark.parametrize(
    ("descriptors", "workers", "connections"),
    [(1024, 1, 858), (1024, 2, 429), (80, 1, 8), (16, 1, 1), (1_000_000, 1, 65_536), (-1, 4, 65_536)],
)
def test_connections_max(descriptors, workers, connections):
    assert connections_max(descriptors, workers) == connections


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="of Linux")
@pytest.mark.parametrize(
    ("soft", "hard", "option", "descriptors", "warning"),
    [
        (256, 2000, (), 2000, ""),
        (256, 2000, ("--connections-max", "1000"), 1239, ""),
        (256, 2000, ("--connections-max", "100"), 256, ""),
        (
            256,
            256,
            ("--connections-max", "1000"),
            256,
            "connections_max is 1000, and 256 file descriptors are allowed, where that needs 1239",
        ),
    ],
)
def test_a_process_has_the_descriptors_for_its_connections(tmp_path, soft, hard, option, descriptors, warning):
    limited = f"import resource, sys, turboapi.cli; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); "
    command = ("-c", limited + "turboapi.cli.main(sys.argv[1:])", "serve", "main:app", "--port", "0", "--workers", "1")
    with Served(tmp_path, *option, command=command) as served:
        served.ready()
        assert resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE) == (descriptors, hard)
        assert served.seen("WARNING") == served.seen(f"WARNING {warning}: raise the limit") == bool(warning)
        served.signal(signal.SIGTERM)
        assert served.end() == 0


# Listeners


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "", "::1"])
def test_all_workers_have_one_port(host, workers):
    try:
        listeners = open_listeners(host, 0, workers=workers, backlog=8)
    except ListenError as error:
        pytest.skip(str(error))
    with contextlib.closing(listeners):
        assert len(listeners.by_worker) == workers
        assert {listener.getsockname()[1] for own in listeners.by_worker for listener in own} == {listeners.port}
        numbers = [listener.fileno() for own in listeners.by_worker for listener in own]
        assert len(set(numbers)) == len(numbers)
        for family, address in {(listener.family, listener.getsockname()[0]) for listener in listeners.by_worker[0]}:
            with socket.socket(family) as client:
                client.connect((address, listeners.port))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("shares", [True, False])
def test_a_taken_port_is_seen_even_if_it_is_shared(workers, shares):
    with socket.socket() as other:
        if shares:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=rf"^127\.0\.0\.1 port {port} is taken by another process; ") as caught:
            open_listeners("127.0.0.1", port, workers=workers, backlog=8)
    assert (caught.value.host, caught.value.port) == ("127.0.0.1", port)
    open_listeners("127.0.0.1", port, workers=workers, backlog=8).close()


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("no such host", "host 'no such host' is no address or name that this machine can resolve"),
        ("x" * 300, "host 'xxx"),
        ("192.0.2.1", "192.0.2.1 port 0 is no address of this machine; "),
    ],
)
def test_a_bad_host(host, message):
    with pytest.raises(ListenError) as caught:
        open_listeners(host, 0, workers=1, backlog=8)
    assert str(caught.value).startswith(message)


def test_no_descriptor_is_left_after_a_refusal():
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(ListenError):
            open_listeners("192.0.2.1", 0, workers=3, backlog=8)
    assert len(list(Path("/dev/fd").iterdir())) == before


# Cores


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "?"}, None),
        ({}, None),
    ],
)
def test_quota_of_container(tmp_path, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores.quota_of_container(tmp_path) == quota


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin threads")
@pytest.mark.parametrize(
    ("allowed", "quota", "workers", "wish", "is_pinned"),
    [
        (4, None, 4, None, True),
        (4, None, 2, None, False),
        (4, None, 8, None, False),
        (1, None, 1, None, False),
        (4, 2.0, 4, None, False),
        (4, None, 2, True, True),
        (4, None, 4, False, False),
    ],
)
def test_pins(monkeypatch, allowed, quota, workers, wish, is_pinned):
    monkeypatch.setattr(cores, "allowed", lambda: frozenset(range(allowed)))
    monkeypatch.setattr(cores, "quota_of_container", lambda: quota)
    assert cores.pins(workers, wish) is is_pinned


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin threads")
def test_pin_and_unpin():
    """A pool's threads inherit their worker's one core, and are given all of them back."""

    def worker():
        cores.pin(0)
        with ThreadPoolExecutor(1) as bare, ThreadPoolExecutor(1, initializer=state.pool_initializer()) as pool:
            masks = [os.sched_getaffinity(0), *(p.submit(os.sched_getaffinity, 0).result() for p in (bare, pool))]
        return masks, cores.allowed()

    with ThreadPoolExecutor(1) as thread:
        (own, bare, pool), allowed = thread.submit(worker).result()
    assert own == bare == {min(allowed)}
    assert pool == allowed == cores.allowed()


# app.state


def in_worker(function):
    """Calls a function as a worker's thread does: a context of its own, a slot of its own."""
    answers = []

    def run():
        state.enter(state.Slot())
        answers.append(function())

    thread = threading.Thread(target=contextvars.Context().run, args=(run,))
    thread.start()
    thread.join()
    return answers[0]


def test_state_is_the_workers_own():
    app, inner, wrapped = FastAPI(), FastAPI(), FastAPI()
    app.state.shared = shared = ["from the start"]
    router = APIRouter()
    app.include_router(router)
    app.mount("/inner", inner)

    class Middleware:
        def __init__(self):
            self.app = app

    outer = Middleware()
    state.separate(outer)
    state.separate(outer)
    assert isinstance(app.state, State)
    assert type(wrapped.state) is State

    def work(number):
        assert app.state.shared is shared
        assert not hasattr(app.state, "pool")
        app.state.pool = number
        app.state["by key"] = number
        inner.state.pool = -number
        del app.state.shared
        assert not hasattr(app.state, "shared")
        return app.state.pool, app.state["by key"], inner.state.pool, sorted(app.state), len(app.state)

    assert in_worker(lambda: work(1)) == (1, 1, -1, ["by key", "pool"], 2)
    assert in_worker(lambda: work(2)) == (2, 2, -2, ["by key", "pool"], 2)
    assert app.state.shared is shared
    assert not hasattr(app.state, "pool")


def test_state_is_found_from_tasks_and_threads_of_the_worker():
    app = FastAPI()
    state.separate(app)

    def read():
        return app.state.pool

    async def task():
        return app.state.pool

    async def main():
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, initializer=state.pool_initializer()) as pool:
            return (
                await asyncio.create_task(task()),
                await asyncio.create_task(task(), context=contextvars.Context()),
                await asyncio.to_thread(read),
                await loop.run_in_executor(pool, read),
                contextvars.Context().run(read),
            )

    def work(number):
        app.state.pool = number
        return asyncio.run(main())

    assert in_worker(lambda: work(1)) == (1,) * 5
    assert in_worker(lambda: work(2)) == (2,) * 5


# Signals


def test_alarm():
    with Signals([signal.SIGUSR1]) as alarm:
        assert alarm.read() == []
        alarm.ring()
        assert select.select([alarm.descriptor], [], [], 5)[0]
        assert alarm.read() == []
        os.kill(os.getpid(), signal.SIGUSR1)
        assert select.select([alarm.descriptor], [], [], 5)[0]
        assert alarm.read() == [signal.SIGUSR1]
        for _ in range(100_000):  # more than its buffer holds
            alarm.ring()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_alarm_outside_of_the_main_thread():
    heard = []

    def run():
        with Signals([signal.SIGUSR1]) as alarm:
            alarm.ring()
            heard.append(bool(select.select([alarm.descriptor], [], [], 5)[0]))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert heard == [True]


@pytest.mark.parametrize(("status", "words"), [(0, "exited with code 0"), (3 << 8, "exited with code 3"), (9, "was ended by SIGKILL")])
def test_end_in_words(status, words):
    assert end_in_words(status) == words


# The server as a process

MAIN = """
import asyncio, os, sys, threading, time
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

START = os.environ.get("START", "")

@asynccontextmanager
async def lifespan(app):
    if START == "raises":
        raise ValueError("no database")
    if START == "dies":
        os._exit(7)
    if START == "leaves a thread":
        threading.Thread(target=time.sleep, args=(1000,), daemon=False).start()
    app.state.loop = asyncio.get_running_loop()
    say("up")
    yield
    say("down")

def say(line):
    os.write(1, line.encode() + b"\\n")  # one call: the lines of two threads do not mix

async def index(request):
    is_own = app.state.loop is asyncio.get_running_loop()
    return JSONResponse({"pid": os.getpid(), "thread": threading.current_thread().name, "is own": is_own})

async def wait(request):
    say("begun")
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    return JSONResponse("whole")

async def block(request):
    say("begun")
    time.sleep(1000)

async def pool(request):
    say("begun")
    await asyncio.to_thread(time.sleep, 1000)

async def stubborn(request):
    say("begun")
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass

endpoints = {"/": index, "/wait": wait, "/block": block, "/pool": pool, "/stubborn": stubborn}
routes = [Route(path, endpoint) for path, endpoint in endpoints.items()]
app = Starlette(lifespan=lifespan, routes=routes)

if __name__ == "__main__":
    from turboapi.serving.server import run
    run(app, {"port": 0, "workers": int(sys.argv[1])})
    print("after run", flush=True)
"""


@pytest.fixture(autouse=True, scope="module")
def hangs_up():
    """Under nohup SIGHUP is ignored, and what is started here would inherit that."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


class Served:
    """`turboapi serve` in a folder with main.py; its lines are read as they come."""

    def __init__(self, folder, *options, command=("-m", "turboapi", "serve", "main:app", "--port", "0"), **environment):
        self.lines = []
        self._queue = queue.Queue()
        self.folder = folder
        (folder / "main.py").write_text(MAIN)
        self.process = subprocess.Popen(
            [sys.executable, *command, *options],
            cwd=folder,
            env={**os.environ, **THREADS, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def line(self, pattern, seconds=20):
        """The next line that matches."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line like {pattern!r} in {seconds} s, but {self.lines}") from None
            if line is None:
                raise AssertionError(f"no line like {pattern!r}, but {self.lines}")
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found

    def ready(self):
        self.port = int(self.line(r"serving http://127\.0\.0\.1:(\d+) ")[1])
        self.line(r"INFO ready$")
        return self

    def get(self, path="/"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def get_later(self, path):
        """Sends a request; returns what gives its answer."""
        answers = []

        def ask():
            try:
                answers.append(self.get(path))
            except (OSError, http.client.HTTPException) as error:
                answers.append(type(error).__name__)

        thread = threading.Thread(target=ask)
        thread.start()

        def answer():
            thread.join(20)
            return answers[0]

        return answer

    def get_begun(self, path):
        """The same, once the handler runs, which says so."""
        answer = self.get_later(path)
        self.line("^begun$")
        return answer

    def signal(self, number):
        self.process.send_signal(number)

    def seconds_to_drain(self):
        """Ends it by SIGTERM, in good order; returns how long that takes."""
        begin = time.monotonic()
        self.signal(signal.SIGTERM)
        assert self.end() == 0
        return time.monotonic() - begin

    def end(self, seconds=20):
        """Waits for the end; returns the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        while (line := self._queue.get()) is not None:
            self.lines.append(line)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        self.process.stdout.close()

    def seen(self, pattern):
        return sum(bool(re.search(pattern, line)) for line in self.lines)


processes_only = pytest.mark.skipif(is_free_threaded(), reason="workers are threads here")
threads_only = pytest.mark.skipif(not is_free_threaded(), reason="workers are processes here")
both_kinds = pytest.mark.parametrize("workers", [1, 2])


@both_kinds
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_requests_in_flight_end(tmp_path, workers, number):
    with Served(tmp_path, "--workers", str(workers)) as served:
        served.ready()
        answers = [served.get_later("/wait") for _ in range(4)]
        for _ in answers:
            served.line("^begun$")
        served.signal(number)
        served.line(f"stopping on {number.name}")
        (tmp_path / "go").touch()
        assert [answer() for answer in answers] == [(200, '"whole"')] * 4
        assert served.end() == 0
        assert served.seen("^up$") == served.seen("^down$") == workers
        assert served.seen("stopping on") == 1
        assert not served.seen("ERROR|WARNING|Traceback")


@both_kinds
def test_a_closed_terminal_ends_it_once(tmp_path, workers):
    """The shell and the kernel both say so, to all processes of the server; the requests in flight still end."""
    path = tmp_path / "app.sock"
    command = ("-m", "turboapi", "serve", "main:app", "--uds", str(path))
    with Served(tmp_path, "--workers", str(workers), command=command) as served:
        served.line("INFO ready$")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path))
            client.sendall(b"GET /wait HTTP/1.1\r\nhost: h\r\n\r\n")
            served.line("^begun$")
            for _ in range(2):
                for pid in [served.process.pid, *children_of(served.process.pid)]:
                    os.kill(pid, signal.SIGHUP)
                time.sleep(0.2)
            (tmp_path / "go").touch()
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        assert served.end() == 0
    assert not path.exists()


@both_kinds
def test_nohup_keeps_it(tmp_path, workers):
    ignores = "import signal, sys, turboapi.cli; signal.signal(signal.SIGHUP, signal.SIG_IGN); turboapi.cli.main(sys.argv[1:])"
    command = ("-c", ignores)
    with Served(tmp_path, "serve", "main:app", "--port", "0", "--workers", str(workers), command=command) as served:
        served.ready()
        for pid in [served.process.pid, *children_of(served.process.pid)]:
            os.kill(pid, signal.SIGHUP)
        time.sleep(0.3)
        assert served.get()[0] == 200
        served.signal(signal.SIGTERM)
        assert served.end() == 0


@both_kinds
def test_an_idle_server_ends_at_once_and_accepts_no_more(tmp_path, workers):
    with Served(tmp_path, "--workers", str(workers)) as served:
        served.ready()
        idle = socket.create_connection(("127.0.0.1", served.port))
        begin = time.monotonic()
        served.signal(signal.SIGTERM)
        assert served.end() == 0
        assert time.monotonic() - begin < 3
        with idle:
            idle.settimeout(5)
            assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", served.port))


@both_kinds
def test_a_ctrl_c_reaches_all_processes_and_counts_once(tmp_path, workers):
    """The terminal sends it to the whole group."""
    with Served(tmp_path, "--workers", str(workers)) as served:
        served.ready()
        answer = served.get_begun("/wait")
        children = children_of(served.process.pid)
        for pid in [served.process.pid, *children]:
            os.kill(pid, signal.SIGINT)
        served.line("stopping on SIGINT")
        (tmp_path / "go").touch()
        assert answer() == (200, '"whole"')
        assert served.end() == 0


@both_kinds
def test_a_signal_that_comes_twice_in_a_moment_counts_once(tmp_path, workers):
    """As timeout(1) sends it."""
    with Served(tmp_path, "--workers", str(workers)) as served:
        served.ready()
        answer = served.get_begun("/wait")
        for _ in range(3):
            served.signal(signal.SIGTERM)
            time.sleep(0.03)
        served.line("stopping on SIGTERM")
        (tmp_path / "go").touch()
        assert answer() == (200, '"whole"')
        assert served.end() == 0


@both_kinds
@pytest.mark.parametrize("path", ["/wait", "/block"])
def test_a_second_signal_ends_at_once(tmp_path, workers, path):
    with Served(tmp_path, "--workers", str(workers)) as served:
        served.ready()
        answer = served.get_begun(path)
        served.signal(signal.SIGINT)
        served.line("stopping on SIGINT")
        begin = time.monotonic()
        served.signal(signal.SIGTERM)
        assert served.end() == 128 + signal.SIGTERM
        assert time.monotonic() - begin < 3
        assert answer() != (200, '"whole"')


@both_kinds
def test_a_handler_that_blocks_is_cut_at_the_deadline(tmp_path, workers):
    with Served(tmp_path, "--workers", str(workers), "--drain-timeout", "0.3", "--cancel-timeout", "0.2") as served:
        served.ready()
        answer = served.get_begun("/block")
        assert served.seconds_to_drain() < 0.3 + 2 * 0.2 + 1 + 3
        assert served.seen("does not end, its handler is cut")
        if not is_free_threaded():
            assert served.seen(r"main\.py:\d+ in block")
        answer()


@both_kinds
def test_a_handler_that_does_not_end_is_cancelled(tmp_path, workers):
    with Served(tmp_path, "--workers", str(workers), "--drain-timeout", "0.2") as served:
        served.ready()
        answer = served.get_begun("/wait")
        served.signal(signal.SIGTERM)
        assert served.end() == 0
        assert answer() != (200, '"whole"')
        assert served.seen("^down$") == workers
        line = r"WARNING drain_timeout \(0\.2 s\) is over: worker \d has 1 request\(s\) without a whole answer, and cancels 1 task\(s\)$"
        assert served.seen(line) == 1
        assert not served.seen("ERROR|Traceback|cuts")


@both_kinds
def test_a_handler_that_ignores_its_cancellation_does_not_keep_the_app_from_its_shutdown(tmp_path, workers):
    with Served(tmp_path, "--workers", str(workers), "--drain-timeout", "1.5", "--cancel-timeout", "0.2") as served:
        served.ready()
        answer = served.get_begun("/stubborn")
        served.signal(signal.SIGTERM)
        assert served.end() == 0
        assert answer() != (200, '"whole"')
        assert served.seen("^down$") == workers
        assert served.seen(r"WARNING cancel_timeout \(0\.2 s\) is over: worker \d cuts 1 request\(s\)$") == 1
        assert not served.seen("does not end")


@both_kinds
def test_a_start_that_fails_is_one_line(tmp_path, workers):
    with Served(tmp_path, "--workers", str(workers), START="raises") as served:
        assert served.end() == 1
        assert [line for line in served.lines if line.startswith("turboapi: ")] == [
            "turboapi: start-up of the app failed: ValueError: no database"
        ]
        assert not served.seen("ready")


@both_kinds
def test_a_taken_port_is_one_line(tmp_path, workers):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with Served(tmp_path, "--workers", str(workers), "--port", str(port)) as served:
            assert served.end() == 1
            assert len(served.lines) == 1, served.lines
            assert served.lines[0].startswith(f"turboapi: 127.0.0.1 port {port} is taken by another process; ")


@pytest.mark.skipif(os.getuid() != 0 or not Path("/proc/sys/net").exists(), reason="needs root, to become someone else")
def test_a_privileged_port_is_one_line(tmp_path):
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first < 2:
        pytest.skip("this machine has no privileged ports")
    # Imported before it becomes someone else, who may not be allowed to read the package.
    code = "\n".join(
        [
            "import encodings.idna, os",
            "from turboapi.errors import ListenError",
            "from turboapi.serving.listeners import open_listeners",
            "os.setuid(65534)",
            "try: open_listeners('127.0.0.1', 1, workers=1, backlog=1)",
            "except ListenError as error: print(error)",
        ]
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert "127.0.0.1 port 1 is not allowed to this user; ports below 1024 need root" in answer.stdout, answer.stderr


@both_kinds
def test_app_run_returns_to_the_script(tmp_path, workers):
    with Served(tmp_path, command=("main.py", str(workers))) as served:
        served.ready()
        assert served.get()[0] == 200
        served.signal(signal.SIGTERM)
        assert served.end() == 0
        assert served.seen("^after run$") == 1


@threads_only
def test_each_thread_has_its_own_state(tmp_path):
    with Served(tmp_path, "--workers", "3") as served:
        served.ready()
        answers = [served.get()[1] for _ in range(60)]
        assert all('"is own":true' in answer for answer in answers)
        assert len(set(answers)) == 3
        served.signal(signal.SIGTERM)
        assert served.end() == 0


@processes_only
def test_a_killed_worker_is_replaced_within_a_second(tmp_path):
    with Served(tmp_path, "--workers", "2") as served:
        served.ready()
        before = children_of(served.process.pid)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        served.line(rf"worker \d \(pid {before[0]}\) was ended by SIGKILL; its replacement starts at once")
        served.line("^up$")
        after = children_of(served.process.pid)
        assert len(after) == 2
        assert before[1] in after
        # Connections that queued at the dead worker's listener are answered as well.
        assert {served.get()[0] for _ in range(40)} == {200}
        served.signal(signal.SIGTERM)
        assert served.end() == 0


@processes_only
def test_a_worker_that_is_told_to_end_by_itself_is_replaced(tmp_path):
    with Served(tmp_path, "--workers", "2") as served:
        served.ready()
        os.kill(children_of(served.process.pid)[0], signal.SIGTERM)
        served.line(r"was told to stop, its replacement starts at once")
        served.line("^up$")
        served.signal(signal.SIGTERM)
        assert served.end() == 0


@processes_only
def test_a_worker_that_keeps_dying_is_replaced_more_slowly(tmp_path):
    with Served(tmp_path, "--workers", "2") as served:
        served.ready()
        # From now on main.py kills whoever loads it.
        (tmp_path / "main.py").write_text("import os; os._exit(9)")
        os.kill(children_of(served.process.pid)[0], signal.SIGKILL)
        served.line("starts at once")
        served.line(r"exited with code 9; its replacement starts in 0\.5 s")
        served.line(r"exited with code 9; its replacement starts in 1 s")
        (tmp_path / "main.py").write_text(MAIN)
        served.line("^up$")
        served.signal(signal.SIGTERM)
        assert served.end() == 0


@processes_only
def test_a_worker_that_dies_before_it_is_ready_ends_the_server(tmp_path):
    with Served(tmp_path, "--workers", "2", START="dies") as served:
        assert served.end() == 1
        assert re.fullmatch(r"turboapi: worker \d exited with code 7 before it was ready", served.lines[-1]), served.lines


@processes_only
def test_no_worker_outlives_its_parent(tmp_path):
    with Served(tmp_path, "--workers", "2") as served:
        served.ready()
        children = children_of(served.process.pid)
        served.signal(signal.SIGKILL)
        served.process.wait()
        # Its output closes when the last of them has ended.
        served._reader.join(10)
        assert not served._reader.is_alive()
        assert not any(is_alive(pid) for pid in children)


def test_a_thread_that_is_left_behind_does_not_hold_up_the_exit(tmp_path):
    with Served(tmp_path, "--workers", "1", "--cancel-timeout", "0.2", START="leaves a thread") as served:
        served.ready()
        served.signal(signal.SIGTERM)
        assert served.end() == 0
        assert served.seen(r"ending without waiting for what is left: Thread-\d+")


@both_kinds
def test_a_handler_that_blocks_in_the_pool_does_not_hold_up_the_exit(tmp_path, workers):
    with Served(tmp_path, "--workers", str(workers), "--drain-timeout", "0.2", "--cancel-timeout", "0.2") as served:
        served.ready()
        answer = served.get_begun("/pool")
        assert served.seconds_to_drain() < 0.2 + 2 * 0.2 + 1 + 3
        assert served.seen("^down$") == workers
        answer()


def children_of(pid):
    """The children of a process, on Linux and macOS."""
    text = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return sorted(int(child) for child, parent in rows if int(parent) == pid)


def is_alive(pid):
    """Whether a process runs; one that is over but not yet buried does not."""
    text = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    return bool(text) and not text.startswith("Z")
