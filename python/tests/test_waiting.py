"""Code that waits: threads, contexts, the worker's own loop. Each input is legal, and works under uvicorn."""

import asyncio
import decimal
import logging
import os
import signal
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path

import anyio.from_thread
import anyio.to_thread
import pytest
from fastapi import BackgroundTasks, FastAPI
from process import Process
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, StreamingResponse
from ways import by_asgi
from wire import PATIENCE, Peer, get

from turboapi.testing import TestServer

PATHS = pytest.mark.parametrize("is_native", [True, False], ids=["native", "asgi"])


def make(is_native, **options):
    return by_asgi(FastAPI(**options), not is_native)


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@PATHS
def test_a_function_that_waits_for_its_own_loop(is_native):
    loops = []

    @asynccontextmanager
    async def lifespan(app):
        loops.append(asyncio.get_running_loop())
        yield

    app = make(is_native, lifespan=lifespan)

    @app.get("/bridge")
    def bridge():
        return asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01, "ok"), loops[0]).result(PATIENCE)

    @app.get("/other")
    async def other():
        return 1

    with TestServer(app) as server, Peer(server.port) as peer:
        assert [peer.get("/bridge").json() for _ in range(40)] == ["ok"] * 40
        assert peer.get("/other").json() == 1


@PATHS
def test_a_function_that_waits_for_another_request(is_native):
    app, done = make(is_native), threading.Event()

    @app.get("/wait")
    def wait():
        return done.wait(PATIENCE)

    @app.get("/go")
    def go():
        done.set()

    with TestServer(app) as server, Peer(server.port) as peer:
        peer.ask("/wait")
        assert get(server.port, "/go").status == 200
        assert peer.read().json() is True


@PATHS
def test_a_function_that_calls_its_own_server(is_native):
    app = make(is_native)

    @app.get("/")
    def self_call():
        return urllib.request.urlopen(f"{server.url}/inner", timeout=PATIENCE).read().decode()

    @app.get("/inner")
    def inner():
        return "inner"

    with TestServer(app) as server:
        assert get(server.port, "/").json() == '"inner"'


@pytest.mark.parametrize("blocking", [None, True, False])
def test_a_loop_of_its_own(blocking):
    from turboapi import TurboAPI

    app, loops = TurboAPI(), []

    async def work():
        await asyncio.sleep(0)
        return "worked"

    @app.get("/", blocking=blocking)
    def function():
        try:
            loop = asyncio.get_event_loop()
        except RuntimeError:
            loop = asyncio.new_event_loop()
            loops.append(loop)
            asyncio.set_event_loop(loop)
        return loop.run_until_complete(work())

    @app.get("/run", blocking=blocking)
    def run():
        return asyncio.run(work())

    @app.get("/async")
    async def coroutine():
        return [type(asyncio.get_running_loop()).__name__, asyncio.current_task().get_name()]

    with TestServer(app) as server, Peer(server.port) as peer:
        for _ in range(3):
            assert peer.get("/").json() == "worked"
            assert peer.get("/run").json() == "worked"
            assert peer.get("/async").json() == ["WorkerLoop", "turboapi-request"]
        assert server.exceptions == []
    for loop in loops:
        loop.close()


@PATHS
def test_who_waits_for_a_connection_goes_before_who_comes(is_native):
    """A pool gives a connection to who has waited, who finds it gone where a request that has just come may run first."""
    app, taken = make(is_native), []
    app.state.pool = asyncio.Queue()
    app.state.pool.put_nowait("connection")
    is_slept = threading.Event()

    @app.get("/{name}")
    async def take(name: str) -> str:
        connection = await app.state.pool.get()
        taken.append(name)
        if name == "first":
            while len(app.state.pool._getters) < 1:
                await asyncio.sleep(0.001)
            is_slept.set()
            time.sleep(0.2)  # what comes meanwhile is there when the connection is given back
        app.state.pool.put_nowait(connection)
        return name

    with TestServer(app) as server, Peer(server.port) as first, Peer(server.port) as second, Peer(server.port) as third:
        first.send(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: taken == ["first"])
        second.send(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
        assert is_slept.wait(PATIENCE)
        third.send(b"GET /third HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: len(taken) == 3)
    assert taken == ["first", "second", "third"]


@PATHS
def test_from_thread(is_native):
    app = make(is_native)

    @app.get("/run")
    def run():
        return anyio.from_thread.run(asyncio.sleep, 0.01, "ft")

    @app.get("/sync")
    def sync():
        anyio.from_thread.check_cancelled()
        return anyio.from_thread.run_sync(lambda: threading.current_thread().name)

    with TestServer(app) as server, Peer(server.port) as peer:
        assert peer.get("/run").json() == "ft"
        assert peer.get("/sync").json() == f"TestServer-{server.port}"


who = ContextVar("who", default="none")


@PATHS
@pytest.mark.parametrize("kind", ["def", "async"])
def test_what_was_set_while_the_app_was_loaded(is_native, kind):
    app = make(is_native)

    def function():
        return [who.get(), str(decimal.Decimal(1) / 3)]

    async def coroutine():
        return function()

    app.get("/")(function if kind == "def" else coroutine)
    token, precision = who.set("boot"), decimal.getcontext().prec
    decimal.getcontext().prec = 5
    try:
        with TestServer(app) as server, Peer(server.port) as peer:
            assert [peer.get("/").json() for _ in range(50)] == [["boot", "0.33333"]] * 50
    finally:
        who.reset(token)
        decimal.getcontext().prec = precision


@PATHS
@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("how", ["parameter", "response", "stream", "exception"])
def test_one_request_is_one_context(is_native, suspends, how):
    app, seen = make(is_native), []

    class Odd(Exception):
        pass

    @app.exception_handler(Odd)
    async def handle(request, error):
        seen.append(who.get())
        return JSONResponse("handled")

    async def stream():
        seen.append(who.get())
        yield b'"streamed"'

    def note():
        seen.append(who.get())

    async def begin(name):
        who.set(name)
        if suspends:
            await asyncio.sleep(0)

    @app.get("/parameter/{name}")
    async def parameter(name: str, tasks: BackgroundTasks):
        await begin(name)
        tasks.add_task(note)
        return 1

    @app.get("/response/{name}")
    async def response(name: str):
        await begin(name)
        return JSONResponse(1, background=BackgroundTask(note))

    @app.get("/stream/{name}")
    async def streaming(name: str):
        await begin(name)
        return StreamingResponse(stream())

    @app.get("/exception/{name}")
    async def exception(name: str):
        await begin(name)
        raise Odd

    with TestServer(app) as server, Peer(server.port) as peer:
        for number in range(3):
            assert peer.get(f"/{how}/{number}").status == 200
            wait_until(lambda number=number: len(seen) == number + 1)
    assert seen == ["0", "1", "2"]


@PATHS
def test_the_apps_own_limit_of_threads(is_native):
    @asynccontextmanager
    async def lifespan(app):
        anyio.to_thread.current_default_thread_limiter().total_tokens = 2
        yield

    app, lock, inside, most = make(is_native, lifespan=lifespan), threading.Lock(), 0, 0

    @app.get("/")
    def function():
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1

    @app.get("/run_sync")
    async def run_sync():
        await anyio.to_thread.run_sync(function)

    with TestServer(app) as server:
        peers = [Peer(server.port) for _ in range(12)]
        for number, peer in enumerate(peers):
            peer.ask("/" if number % 3 else "/run_sync")
        assert [peer.read().status for peer in peers] == [200] * 12
        for peer in peers:
            peer.socket.close()
    assert most == 2


@PATHS
def test_a_stream_whose_client_goes_is_closed_at_once(is_native):
    app, done = make(is_native), []

    async def endless():
        try:
            while True:
                yield b"x" * 65536
        finally:
            done.append(1)

    @app.get("/")
    async def stream():
        return StreamingResponse(endless())

    with TestServer(app) as server:
        with Peer(server.port) as peer:
            peer.ask("/")
            peer.socket.recv(1000)
            peer.reset()
        wait_until(lambda: done == [1])


@PATHS
@pytest.mark.parametrize("kind", ["def", "async"])
def test_a_background_task_runs_after_the_answer(is_native, kind, caplog):
    app, gate, done = make(is_native), threading.Event(), []

    def task(fails):
        assert gate.wait(PATIENCE)
        done.append(1)
        if fails:
            raise ValueError("in the background")

    async def task_async(fails):
        await anyio.to_thread.run_sync(task, fails)

    @app.get("/{fails}")
    async def endpoint(fails: bool, tasks: BackgroundTasks):
        tasks.add_task(task if kind == "def" else task_async, fails)
        return "answered"

    with TestServer(app) as server, Peer(server.port) as peer:
        assert peer.get("/false").json() == "answered"
        assert peer.get("/true").json() == "answered"
        assert done == []
        gate.set()
        wait_until(lambda: len(done) == 2)
    assert done == [1, 1]
    assert [str(error) for error in server.exceptions] == ["in the background"]
    assert "GET '/true' raised ValueError" in caplog.text


def test_the_drain_waits_for_background_tasks():
    app, done = FastAPI(), []

    def task():
        time.sleep(0.2)
        done.append(1)

    @app.get("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(task)

    with TestServer(app) as server:
        assert get(server.port, "/").status == 200
    assert done == [1]


@PATHS
@pytest.mark.parametrize("how", ["at once", "suspended", "awaited"])
def test_exit_in_a_handler_is_logged_once(is_native, how, caplog):
    app = make(is_native)

    async def leave():
        if how != "at once":
            await asyncio.sleep(0.001)
        sys.exit(1)

    @app.get("/")
    async def handler():
        await (asyncio.create_task(leave()) if how == "awaited" else leave())

    with TestServer(app) as server:
        for _ in range(2):
            assert get(server.port, "/").status == 500
    assert caplog.text.count("SystemExit: 1") == 2
    assert caplog.text.count("GET '/' raised SystemExit") == 2
    assert "never retrieved" not in caplog.text and "does not end the server" not in caplog.text


def test_exit_in_a_task_of_the_apps_own_is_logged_once(caplog):
    app, kept = FastAPI(), []

    async def leave():
        await asyncio.sleep(0)
        sys.exit(1)

    @app.get("/")
    async def handler():
        kept.append(asyncio.create_task(leave()))
        await asyncio.sleep(0.01)

    with TestServer(app) as server:
        assert get(server.port, "/").status == 200
        wait_until(lambda: "does not end the server" in caplog.text)
        assert isinstance(kept.pop().exception(), SystemExit)
        assert get(server.port, "/").status == 200
        assert isinstance(kept.pop().exception(), SystemExit)
    assert caplog.text.count("a task raised SystemExit, which does not end the server") == 2


def test_anyio_keeps_its_threads():
    """It ends them with the task that runs the loop, and there is one."""
    app, names = FastAPI(), set()

    @app.get("/")
    async def handler():
        await anyio.to_thread.run_sync(lambda: names.add(threading.get_ident()))

    with TestServer(app) as server, Peer(server.port) as peer:
        for _ in range(50):
            assert peer.get("/").status == 200
    assert len(names) == 1


def test_the_thread_of_a_loop_wakes_it():
    """A thread that is none of ours calls into a worker that sleeps."""
    app, loops = FastAPI(), []

    @app.get("/")
    async def handler():
        loop = asyncio.get_running_loop()
        loops.append(loop)
        future = loop.create_future()
        threading.Timer(0.02, lambda: loop.call_soon_threadsafe(future.set_result, "set")).start()
        return await future

    with TestServer(app) as server, Peer(server.port) as peer:
        for _ in range(20):
            begin = time.monotonic()
            assert peer.get("/").json() == "set"
            assert time.monotonic() - begin < 1.0


FORKING = """
import multiprocessing, time
from fastapi import FastAPI
app = FastAPI()

@app.get("/fork")
def fork():
    for _ in range(20):
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.2,))
        process.start()
        process.terminate()
        process.join()
    return "done"

@app.get("/spawn")
def spawn():
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(40,))
    process.start()
    return process.pid

@app.get("/")
def index():
    return 1
"""


def test_a_childs_signals_are_its_own(tmp_path):
    with Process(tmp_path, FORKING, "--workers", "1") as server:
        assert get(server.port, "/fork").json() == "done"
        assert get(server.port, "/").json() == 1


def test_children_that_are_left_do_not_hold_the_end(tmp_path):
    with Process(tmp_path, FORKING, "--workers", "1", "--drain-timeout", "1", "--cancel-timeout", "0.5") as server:
        child = get(server.port, "/spawn").json()
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        try:
            server.process.wait(PATIENCE)
            assert time.monotonic() - begin < 5
        finally:
            os.kill(child, signal.SIGKILL)
    assert any("ending without waiting for what is left: SpawnProcess-1" in line for line in server.lines), server.lines


SIGNALS = """
import asyncio, os, signal, sqlite3, threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from fastapi import FastAPI

seen = []
database = sqlite3.connect(":memory:")
local = threading.local()
local.value = "of the thread that loaded the app"

@asynccontextmanager
async def lifespan(app):
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append("signal"))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, seen.append, "loop")
    yield
    print("shut down", seen, flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/seen")
async def get_seen():
    return seen

@app.get("/main")
async def main():
    return [threading.current_thread() is threading.main_thread(), database.execute("select 7").fetchone()[0], local.value]
"""


def test_one_worker_runs_on_the_main_thread(tmp_path):
    with Process(tmp_path, SIGNALS, "--workers", "1") as server, Peer(server.port) as peer:
        assert peer.get("/main").json() == [True, 7, "of the thread that loaded the app"]
        os.kill(server.pid, signal.SIGUSR1)
        wait_until(lambda: peer.get("/seen").json() == ["signal"])
        os.kill(server.pid, signal.SIGUSR2)
        wait_until(lambda: peer.get("/seen").json() == ["signal", "loop"])


def test_items_of_the_example_from_many_threads():
    """What a module keeps has to be right on a free-threaded build, in our own examples first."""
    import importlib.util

    path = Path(__file__).parent.parent / "examples" / "multi_route_app.py"
    spec = importlib.util.spec_from_file_location("example_of_test", path)
    example = importlib.util.module_from_spec(spec)
    sys.modules["example_of_test"] = example
    spec.loader.exec_module(example)
    body = b'{"name": "bolt", "price": 0.5}'
    question = b"POST /items HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    with TestServer(example.app) as server:

        def ask(_):
            with Peer(server.port) as peer:
                statuses = []
                for _ in range(40):
                    peer.send(question)
                    statuses.append(peer.read().status)
                    statuses.append(peer.get("/search?q=bolt").status)
            return statuses

        with ThreadPoolExecutor(12) as clients:
            assert [set(statuses) for statuses in clients.map(ask, range(12))] == [{201, 200}] * 12
    assert len(example.ITEMS) == 1 + 12 * 40


def test_what_a_drain_cancels_is_one_line(caplog):
    app = FastAPI()

    @app.middleware("http")
    async def passes_on(request, call_next):
        return await call_next(request)

    @app.get("/")
    async def stream():
        async def endless():
            while True:
                yield b"x"
                await asyncio.sleep(0.01)

        return StreamingResponse(endless())

    with TestServer(app, drain_timeout=0.1) as server, Peer(server.port) as peer:
        peer.ask("/")
        peer.socket.recv(1000)
        server.stop()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1, caplog.text
    assert "cancels 1 task(s)" in lines[0]
    assert "Traceback" not in caplog.text


def test_a_start_up_that_waits_for_a_thread():
    """Before there are routes the loop is woken as well."""
    seen = []

    @asynccontextmanager
    async def lifespan(app):
        seen.append(await asyncio.to_thread(threading.current_thread))
        seen.append(await anyio.to_thread.run_sync(threading.current_thread))
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        threading.Timer(0.02, lambda: loop.call_soon_threadsafe(event.set)).start()
        await event.wait()
        yield
        seen.append(await asyncio.to_thread(threading.current_thread))

    begin = time.monotonic()
    with TestServer(FastAPI(lifespan=lifespan), startup_timeout=PATIENCE):
        pass
    assert len(seen) == 3
    assert time.monotonic() - begin < 5


def test_an_end_by_force_while_a_start_up_ends(caplog):
    """What is to be cut may be asked for before there are routes."""
    begun = threading.Event()

    async def stays():
        for _ in range(30):
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass

    @asynccontextmanager
    async def lifespan(app):
        app.state.task = asyncio.ensure_future(stays())
        begun.set()
        await asyncio.sleep(PATIENCE)
        yield

    server = TestServer(FastAPI(lifespan=lifespan))
    starting = threading.Thread(target=server.start)
    starting.start()
    assert begun.wait(PATIENCE)
    worker = server._worker
    worker.stop()
    time.sleep(0.05)
    worker.abort()
    starting.join(PATIENCE)
    assert not starting.is_alive()
    assert "AttributeError" not in caplog.text


def test_no_thread_can_be_started(monkeypatch):
    """The first request that finds none is a 500, and its function is not called; later ones are answered."""
    app, calls = FastAPI(), []

    @app.get("/{number}")
    def function(number: int):
        calls.append(number)
        time.sleep(0.005)
        return number

    start = threading.Thread.start

    def fails(thread):
        if thread.name.startswith("turboapi-pool"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with TestServer(app) as server, Peer(server.port) as peer:
        monkeypatch.setattr(threading.Thread, "start", fails)
        assert peer.get("/1").status == 500
        monkeypatch.setattr(threading.Thread, "start", start)
        assert peer.get("/2").json() == 2
        monkeypatch.setattr(threading.Thread, "start", fails)
        peers = [Peer(server.port) for _ in range(8)]
        for number, other in enumerate(peers):
            other.ask(f"/{number + 3}")
        assert [other.read().json() for other in peers] == list(range(3, 11))
        for other in peers:
            other.socket.close()
    assert sorted(calls) == list(range(2, 11))


def test_the_drain_waits_for_a_function_whose_client_has_gone():
    app, events, begun = FastAPI(), [], threading.Event()

    @asynccontextmanager
    async def lifespan(app):
        yield
        events.append("shutdown")

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    def function():
        begun.set()
        time.sleep(0.2)
        events.append("function")

    with TestServer(app) as server:
        peer = Peer(server.port)
        peer.ask("/")
        assert begun.wait(PATIENCE)
        peer.reset()
        time.sleep(0.02)
    assert events == ["function", "shutdown"]


def test_an_app_that_cancels_all_tasks_loses_no_job():
    @asynccontextmanager
    async def lifespan(app):
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        yield

    app, gate = FastAPI(lifespan=lifespan), threading.Event()

    @app.get("/held")
    async def held():
        await anyio.to_thread.run_sync(gate.wait, PATIENCE)

    @app.get("/waits")
    def waits():
        return 1

    @app.get("/cancel")
    async def cancel():
        for task in asyncio.all_tasks():
            if task.get_coro().__qualname__ == "Pool._stand_in_line":
                task.cancel()

    with TestServer(app) as server, Peer(server.port) as first, Peer(server.port) as second:
        first.ask("/held")
        time.sleep(0.05)
        second.ask("/waits")
        time.sleep(0.05)
        assert get(server.port, "/cancel").status == 200
        gate.set()
        assert second.read().json() == 1
        assert first.read().status == 200


def test_a_handler_that_stops_the_loop_ends_the_server(caplog):
    app = FastAPI()

    @app.get("/")
    async def handler():
        asyncio.get_running_loop().stop()

    server = TestServer(app).start()
    get(server.port, "/")
    wait_until(lambda: not server._thread.is_alive())
    server.stop()
    assert "the app has stopped the event loop of worker 0" in caplog.text


HANDLERS = """
import asyncio, os, signal, socket, sys
from contextlib import asynccontextmanager
from fastapi import FastAPI

def at_import(number, frame):
    print("from before", number, flush=True, file=sys.stderr)
    sys.exit(3)

if os.environ["HOW"] == "import":
    signal.signal(signal.SIGTERM, at_import)

@asynccontextmanager
async def lifespan(app):
    if os.environ["HOW"] == "start-up":
        print("INFO ready serving http://127.0.0.1:1 ", flush=True, file=sys.stderr)
        await asyncio.sleep(60)
    if os.environ["HOW"] == "descriptor":
        app.state.sockets = socket.socketpair()
        for one in app.state.sockets:
            one.setblocking(False)
        signal.set_wakeup_fd(app.state.sockets[0].fileno())
    yield

app = FastAPI(lifespan=lifespan)
"""


@pytest.mark.parametrize(("how", "code"), [("import", 3), ("descriptor", 0), ("start-up", 0)])
def test_a_server_ends_on_sigterm_whatever_the_app_does_with_signals(tmp_path, how, code):
    """A handler from before the server runs when it has ended; a taken descriptor and a start-up that waits hide no signal."""
    server = Process(tmp_path, HANDLERS, "--workers", "1", HOW=how)
    begin = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.end() == code, server.lines
    assert time.monotonic() - begin < 10
    assert ("from before 15\n" in server.lines) == (how == "import")


EXITING = """
import asyncio, os, signal, sys
from contextlib import asynccontextmanager
from fastapi import FastAPI

@asynccontextmanager
async def lifespan(app):
    number = signal.Signals[os.environ["NUMBER"]]
    if os.environ["HOW"] == "signal":
        signal.signal(number, lambda *_: sys.exit(int(os.environ["CODE"])))
    else:
        asyncio.get_running_loop().add_signal_handler(number, lambda: sys.exit(int(os.environ["CODE"])))
    yield
    print("app has ended", file=sys.stderr, flush=True)

app = FastAPI(lifespan=lifespan)
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize(("how", "code"), [("signal", 0), ("signal", 3), ("loop", 3)])
def test_a_signal_handler_that_exits(tmp_path, number, how, code):
    """The server ends with its code, as under uvicorn, and in good order; that is no error."""
    server = Process(tmp_path, EXITING, "--workers", "1", HOW=how, CODE=str(code), NUMBER=number)
    server.signal(signal.Signals[number])
    assert server.end() == code, server.lines
    assert "app has ended\n" in server.lines
    assert not any("ERROR" in line or "CRITICAL" in line for line in server.lines), server.lines


def test_one_worker_process(tmp_path):
    with Process(tmp_path, FORKING, "--workers", "1", "--worker-kind", "processes") as server:
        assert get(server.port, "/").json() == 1


STRANGERS = """
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from fastapi import FastAPI

kept = {}

@asynccontextmanager
async def lifespan(app):
    loop = asyncio.get_running_loop()
    kept["loop"], kept["lock"] = loop, asyncio.Event()
    kept["future"] = loop.create_future()
    yield

app = FastAPI(lifespan=lifespan)

@app.get("/schedule")
async def schedule():
    kept["loop"].call_soon(int)
    return threading.current_thread().name

@app.get("/await")
async def wait():
    await asyncio.wait_for(kept["future"], 0.01)
"""


@pytest.mark.skipif("sys._is_gil_enabled()" if sys.version_info >= (3, 13) else "True", reason="workers are processes here")
def test_what_is_another_workers_is_named_once(tmp_path):
    with Process(tmp_path, STRANGERS, "--workers", "2") as server:
        names = set()
        wait_until(lambda: names.add(get(server.port, "/schedule").json()) or len(names) == 2)
        for _ in range(20):
            get(server.port, "/schedule")
        wait_until(lambda: get(server.port, "/await").status == 500 and "request.state" in get_text(server))
    text = "".join(server.lines)
    assert text.count("Its call, innermost last") == 1, text


def get_text(server):
    while not server._queue.empty():
        server.lines.append(server._queue.get())
    return "".join(server.lines)


def test_workers_are_processes_unless_threads_are_asked_for(tmp_path):
    with Process(tmp_path, STRANGERS, "--workers", "2", TURBOAPI_WORKER_KIND="") as server:
        assert {get(server.port, "/schedule").json() for _ in range(20)} == {"MainThread"}
    assert any("2 worker processes" in line for line in server.lines)
