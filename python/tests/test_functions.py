"""`def` handlers over sockets: in threads until they have earned the worker's own, and there again when they wait."""

import asyncio
import contextlib
import contextvars
import gc
import itertools
import logging
import re
import subprocess
import sys
import threading
import time

import pytest
from fastapi import FastAPI, HTTPException
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse
from wire import PATIENCE, Peer, get

from turboapi import TurboAPI
from turboapi.serving.pool import Pool
from turboapi.testing import TestServer

variable = contextvars.ContextVar("variable", default="unset")


def make_app():
    app = TurboAPI()

    @app.get("/thread")
    def thread():
        return threading.current_thread().name

    @app.get("/thread_of_async")
    async def thread_of_async():
        return threading.current_thread().name

    @app.get("/thread_inline", blocking=False)
    def thread_inline():
        return threading.current_thread().name

    @app.get("/thread_blocking", blocking=True)
    def thread_blocking():
        return threading.current_thread().name

    @app.get("/no_loop")
    def no_loop():
        try:
            return repr(asyncio.get_running_loop())
        except RuntimeError as error:
            return str(error)

    @app.get("/no_loop_inline", blocking=False)
    def no_loop_inline():
        return no_loop()

    @app.get("/run", blocking=False)
    def run():
        async def inner():
            await asyncio.sleep(0.001)
            return "ran"

        return asyncio.run(inner())

    @app.get("/run_blocking", blocking=True)
    def run_blocking():
        return run()

    @app.get("/loop_of_async")
    async def loop_of_async():
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop()).__name__

    @app.get("/context/{text}", blocking=False)
    def context(text: str):
        before = variable.get()
        variable.set(text)
        return before

    @app.get("/context_blocking/{text}", blocking=True)
    def context_blocking(text: str):
        return context(text)

    @app.get("/context_async/{text}")
    async def context_async(text: str):
        return context(text)

    @app.get("/arguments/{number}", blocking=True)
    @app.get("/arguments_inline/{number}", blocking=False)
    def arguments(number: int, text: str = "default", *, flag: bool = False):
        return [number, text, flag]

    @app.get("/error", blocking=False)
    def error(name: str):
        raise ERRORS[name]

    @app.get("/error_blocking", blocking=True)
    def error_blocking(name: str):
        raise ERRORS[name]

    @app.get("/recursion", blocking=False)
    def recursion():
        def deeper():
            return deeper() + 1

        return deeper()

    @app.get("/recursion_blocking", blocking=True)
    def recursion_blocking():
        return recursion()

    @app.get("/generator")
    def generator():
        return (number for number in range(3))

    @app.get("/generator_that_fails")
    def generator_that_fails():
        return (1 // number for number in range(3))

    @app.get("/coroutine")
    def coroutine():
        return thread_of_async()

    @app.get("/function")
    def function():
        return len

    return app


ERRORS = {
    "ValueError": ValueError("on purpose"),
    "StopIteration": StopIteration("on purpose"),
    "SystemExit": SystemExit(1),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
    "CancelledError": asyncio.CancelledError(),
    "HTTPException": HTTPException(418, "a teapot", {"x-tea": "green"}),
}


@pytest.fixture(scope="module")
def server():
    with TestServer(make_app()) as server:
        yield server


def test_inline(server):
    """At once where the app has said so; else when enough calls were seen."""
    own = f"TestServer-{server.port}"
    assert get(server.port, "/thread_inline").json() == get(server.port, "/thread_of_async").json() == own
    names = []
    with Peer(server.port) as peer:
        while own not in names:
            names.append(peer.get("/thread").json())
            assert len(names) < 1000
        assert all(peer.get("/thread").json() == own for _ in range(50))
    assert len(names) > 32
    assert all(name.startswith("turboapi-pool-0") for name in names[:-1])


def test_in_the_pool(server):
    assert get(server.port, "/thread_blocking").json().startswith("turboapi-pool-0")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/no_loop", "no running event loop"),
        ("/no_loop_inline", "no running event loop"),
        ("/run", "ran"),
        ("/run_blocking", "ran"),
        ("/arguments/3", [3, "default", False]),
        ("/arguments_inline/3", [3, "default", False]),
        ("/arguments/-3?text=a%20b&flag=true", [-3, "a b", True]),
        ("/generator", [0, 1, 2]),
    ],
)
def test_answers(server, path, expected):
    with Peer(server.port) as peer:
        # Between two coroutines: the loop is hidden from the one and shown to the other.
        assert peer.get("/loop_of_async").json() == "WorkerLoop"
        assert peer.get(path).json() == expected
        assert peer.get("/loop_of_async").json() == "WorkerLoop"


@pytest.mark.parametrize("path", ["/context/", "/context_blocking/", "/context_async/"])
def test_a_context_for_each_call(server, path):
    with Peer(server.port) as peer:
        for number in range(50):
            assert peer.get(f"{path}{number}").json() == "unset"


@pytest.mark.parametrize("path", ["/error", "/error_blocking"])
@pytest.mark.parametrize("name", ERRORS)
def test_errors(server, path, name):
    del server.exceptions[:]
    with Peer(server.port) as peer:
        answer = peer.get(f"{path}?name={name}")
        if name == "HTTPException":
            assert (answer.status, answer.json(), answer.header("x-tea")) == (418, {"detail": "a teapot"}, "green")
            assert server.exceptions == []
        else:
            assert (answer.status, answer.body) == (500, b"Internal Server Error")
            # PEP 479 and futures: a StopIteration cannot leave a coroutine as it is.
            expected = "RuntimeError" if name == "StopIteration" else name
            assert [type(error).__name__ for error in server.exceptions] == [expected]
        assert peer.get("/thread_inline").status == 200


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/recursion", RecursionError),
        ("/recursion_blocking", RecursionError),
        ("/generator_that_fails", ZeroDivisionError),
        ("/coroutine", ValueError),
        ("/function", ValueError),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_misuse_is_a_500_and_the_worker_lives(server, path, error):
    del server.exceptions[:]
    with Peer(server.port) as peer:
        assert peer.get(path).status == 500
        assert [isinstance(seen, error) for seen in server.exceptions] == [True], server.exceptions
        assert peer.get("/thread_inline").status == 200
    # Here, where its warning is expected: FastAPI's encoder leaves a cycle with what it could not encode.
    del server.exceptions[:]
    gc.collect()


#: A client of its own process: so many connections that ask for a path again and again until its standard input closes.
LOAD = """
import selectors, socket, sys
port, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
selector = selectors.DefaultSelector()
selector.register(sys.stdin, selectors.EVENT_READ)
question = b"GET %s HTTP/1.1\\r\\nhost: test\\r\\n\\r\\n" % path
for _ in range(count):
    peer = socket.create_connection(("127.0.0.1", port))
    selector.register(peer, selectors.EVENT_READ)
    peer.sendall(question)
answers = 0
while True:
    for key, _ in selector.select():
        if key.fileobj is sys.stdin:
            sys.exit(0)
        assert key.fileobj.recv(4096).startswith(b"HTTP/1.1 200 ")
        answers += 1
        if answers == count:
            print("all answered", flush=True)
        key.fileobj.sendall(question)
"""


def test_a_handler_that_waits_never_holds_the_worker(caplog):
    app, slow_threads = TurboAPI(), set()

    @app.get("/slow/{number}")
    def slow(number: int):
        slow_threads.add(threading.current_thread().name)
        time.sleep(0.2)
        return number

    @app.get("/quick")
    async def quick():
        return threading.current_thread().name

    with TestServer(app) as server, caplog.at_level(logging.WARNING, "turboapi"):
        command = [sys.executable, "-I", "-S", "-c", LOAD, str(server.port), "64", "/slow/1"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout.readline() == "all answered\n"
            with Peer(server.port) as peer:
                worst = []
                # The best of three: the machine may have other work.
                for _ in range(3):
                    times = []
                    for _ in range(200):
                        begin = time.perf_counter()
                        assert peer.get("/quick").json() == f"TestServer-{server.port}"
                        times.append(time.perf_counter() - begin)
                    worst.append(sorted(times)[197])
                    if worst[-1] <= 0.025:
                        break
            load.stdin.close()
            assert load.wait(PATIENCE) == 0
        print(f"p99 of a quick route next to 64 connections that block: {min(worst) * 1000:.2f} ms")
        assert min(worst) <= 0.025, worst
    assert caplog.records == []
    assert all(name.startswith("turboapi-pool-0") for name in slow_threads)


def earn(peer, path):
    """Calls a function until it runs on the worker's own thread."""
    for _ in range(1000):
        if peer.get(path).json().startswith("TestServer-"):
            return
    pytest.fail(f"{path} has not earned the worker's thread in 1000 calls")


@pytest.mark.parametrize("what", ["waits", "computes"])
def test_what_waits_loses_the_worker_again(what, caplog):
    app, is_slow = TurboAPI(), False

    @app.get("/{number}")
    def handler(number: int):
        if is_slow and what == "waits":
            time.sleep(0.02)
        end = time.thread_time() + 0.02
        while is_slow and what == "computes" and time.thread_time() < end:
            pass
        return threading.current_thread().name

    with TestServer(app) as server, caplog.at_level(logging.DEBUG, "turboapi"), Peer(server.port) as peer:
        earn(peer, "/1")
        is_slow = True
        names = [peer.get("/1").json() for _ in range(5)]
        # One slow call may be an accident; of a wait like this one is enough.
        assert [name.startswith("TestServer-") for name in names] == [True, what == "computes", False, False, False]
    lines = [record.getMessage() for record in caplog.records if "GET /{number}" in record.getMessage()]
    assert lines[0] == "GET /{number} neither waits nor computes for long: it runs on the worker's own thread from now on"
    pattern = r"waited 2\d\.\d ms, and computed \d\.\d ms" if what == "waits" else r"(waited \d\.\d ms, and )?computed 2\d\.\d ms"
    assert re.fullmatch(r"GET /\{number\} " + pattern + " on the worker's own thread: it runs in threads from now on", lines[1]), lines
    assert len(lines) == 2


@pytest.mark.parametrize("blocking", [False, True])
def test_what_the_app_has_decided_stays(blocking, caplog):
    app = TurboAPI()

    @app.get("/", blocking=blocking)
    def handler(seconds: float = 0.0):
        time.sleep(seconds)
        return threading.current_thread().name

    with TestServer(app) as server, caplog.at_level(logging.DEBUG, "turboapi"), Peer(server.port) as peer:
        names = {peer.get("/").json() for _ in range(100)} | {peer.get("/?seconds=0.02").json() for _ in range(5)}
        names |= {peer.get("/").json() for _ in range(100)}
    assert all(name.startswith("turboapi-pool-0" if blocking else "TestServer-") for name in names)
    assert not [record for record in caplog.records if "worker's own thread" in record.getMessage()]


def test_two_routes_of_one_function_know_of_each_other():
    app = TurboAPI()

    def handler():
        return threading.current_thread().name

    app.get("/a")(handler)
    app.get("/b")(handler)
    with TestServer(app) as server, Peer(server.port) as peer:
        earn(peer, "/a")
        assert peer.get("/b").json() == f"TestServer-{server.port}"


def test_a_wait_that_is_seldom_is_borne():
    """A cache in front of a query: now and then a wait, and no going to and fro."""
    app, calls_count, moves = TurboAPI(), itertools.count(1), []

    @app.get("/")
    def handler():
        if next(calls_count) % 50 == 0:
            time.sleep(0.02)
        return threading.current_thread().name

    with TestServer(app) as server, Peer(server.port) as peer:
        names = [peer.get("/").json()[:10] for _ in range(3000)]
    moves = sum(before != after for before, after in itertools.pairwise(names))
    assert moves <= 6, moves


@pytest.mark.parametrize("path", ["/def", "/async"])
def test_many_slow_requests_at_once_leave_others_their_turn(path):
    app, calls = TurboAPI(), []

    def note(name: str):
        calls.append(name)
        time.sleep(0.002)
        return name

    app.get("/def", blocking=False)(note)

    @app.get("/async")
    async def coroutine(name: str):
        return note(name)

    with TestServer(app) as server, Peer(server.port) as flood, Peer(server.port) as other:
        other.get("/def?name=other")
        flood.send(f"GET {path}?name=flood HTTP/1.1\r\nhost: test\r\n\r\n".encode() * 60)
        flood.read()
        other.get("/def?name=other")
        assert len(calls) < 30, "the other one came behind all that the first had sent"
        assert [flood.read().json() for _ in range(59)] == ["flood"] * 59


@pytest.mark.parametrize("kind", ["async", "pool", "asgi"])
@pytest.mark.parametrize("goes", [False, True], ids=["waits", "goes"])
def test_handlers_in_flight(kind, goes):
    """More than `handlers_in_flight_max` are refused, and those whose client has gone count until they end."""
    app, gates, begun = TurboAPI(), [], threading.Semaphore(0)

    def wait():
        gates.append(threading.Event())
        begun.release()
        assert gates[-1].wait(PATIENCE)
        return "waited"

    async def wait_async():
        return await asyncio.to_thread(wait)

    async def raw(scope, receive, send):
        if scope["type"] != "http":
            return
        answer = await wait_async()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'"%s"' % answer.encode()})

    app.get("/wait", blocking=kind == "pool" or None)(wait if kind == "pool" else wait_async)
    with TestServer(raw if kind == "asgi" else app, handlers_in_flight_max=2) as server:
        peers = [Peer(server.port), Peer(server.port)]
        for peer in peers:
            peer.ask("/wait")
            assert begun.acquire(timeout=PATIENCE)
        if goes:
            for peer in peers:
                peer.reset()
        answer = get(server.port, "/wait")
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        for gate in gates:
            gate.set()
        for peer in [] if goes else peers:
            assert peer.read().json() == "waited"
            peer.socket.close()
        # Their places are free again, soon.
        deadline = time.monotonic() + PATIENCE
        with Peer(server.port) as peer:
            while True:
                peer.ask("/wait")
                if begun.acquire(timeout=0.2):
                    gates[-1].set()
                    assert peer.read().json() == "waited"
                    break
                assert peer.read().status == 503
                assert time.monotonic() < deadline


def test_as_many_calls_run_in_threads_as_it_is_told():
    app, names, gate = TurboAPI(), set(), threading.Event()

    @app.get("/wait", blocking=True)
    def wait():
        names.add(threading.current_thread().name)
        gate.wait(PATIENCE)
        return len(names)

    with TestServer(app, pool_threads=3) as server:
        peers = [Peer(server.port) for _ in range(8)]
        for peer in peers:
            peer.ask("/wait")
        get(server.port, "/none")
        gate.set()
        assert [peer.read().status for peer in peers] == [200] * 8
        assert len(names) <= 3
        for peer in peers:
            peer.socket.close()


def test_a_thread_that_has_had_a_job_has_the_next():
    """Those that a crowd has needed sleep on, as AnyIO's do."""
    app, gate = FastAPI(), threading.Barrier(8)

    @app.get("/crowd")
    def crowd():
        gate.wait(PATIENCE)
        return threading.current_thread().name

    @app.get("/one")
    def one():
        time.sleep(0.001)
        return threading.current_thread().name

    with TestServer(app) as server, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.port)) for _ in range(8)]
        for peer in peers:
            peer.ask("/crowd")
        assert len({peer.read().json() for peer in peers}) == 8
        # The one that is just about to sleep is passed over.
        assert len({peers[0].get("/one").json() for _ in range(50)}) <= 4


def test_what_a_pool_has_taken_is_done_before_its_threads_end(monkeypatch):
    """Also what waits for a thread, as the system had no more of them."""
    begun, gate, done = threading.Event(), threading.Event(), threading.Event()

    class Held:
        def run(self):
            begun.set()
            gate.wait(PATIENCE)

    class Last:
        def run(self):
            done.set()

    def no_more():
        raise RuntimeError("can't start new thread")

    async def main():
        pool = Pool(asyncio.get_running_loop(), 0, lambda: None)
        pool.open(1)
        pool.start_beyond(Held())
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        monkeypatch.setattr(pool, "_add_thread", no_more)
        pool.start_beyond(Last())
        pool.close()
        gate.set()
        assert await asyncio.to_thread(done.wait, PATIENCE)

    asyncio.run(main())


def test_a_function_may_use_the_loop_from_the_pool():
    """`run_coroutine_threadsafe` from a thread wakes a worker that sleeps."""
    app = FastAPI()

    @app.get("/")
    async def handler():
        loop = asyncio.get_running_loop()

        async def on_the_loop():
            return threading.current_thread().name

        def in_a_thread():
            return asyncio.run_coroutine_threadsafe(on_the_loop(), loop).result(PATIENCE)

        return await asyncio.to_thread(in_a_thread)

    with TestServer(app) as server:
        assert get(server.port, "/").json() == f"TestServer-{server.port}"


@pytest.mark.parametrize("kind", ["def", "async"])
def test_handlers_in_flight_with_background_tasks(kind):
    """Answered is not ended: one connection must not leave behind as many tasks as it likes."""
    app, gate, ended = TurboAPI(), threading.Event(), threading.Semaphore(0)

    async def end():
        await asyncio.to_thread(gate.wait, PATIENCE)
        ended.release()

    def answer():
        return JSONResponse("answered", background=BackgroundTask(end))

    async def answer_async():
        return answer()

    app.get("/", blocking=False if kind == "def" else None)(answer if kind == "def" else answer_async)
    with TestServer(app, handlers_in_flight_max=2) as server, Peer(server.port) as peer:
        for _ in range(2):
            assert peer.get("/").json() == "answered"
        refused = peer.get("/")
        assert (refused.status, refused.header("retry-after")) == (503, "1")
        gate.set()
        for _ in range(2):
            assert ended.acquire(timeout=PATIENCE)
        # Their places are free again, soon.
        deadline = time.monotonic() + PATIENCE
        while peer.get("/").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
