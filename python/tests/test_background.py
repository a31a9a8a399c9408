"""Background tasks: after the answer, in the worker's threads or on its own, and otherwise as Starlette and FastAPI run them."""

import asyncio
import contextvars
import functools
import gc
import logging
import threading
import time
import weakref

import anyio.from_thread
import anyio.to_thread
import fastapi
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.background import BackgroundTask, BackgroundTasks
from ways import by_asgi
from wire import PATIENCE, Peer, get

from turboapi.testing import TestServer

#: A dependency is what no plan covers.
PATHS = pytest.mark.parametrize("is_native", [True, False], ids=["native", "asgi"])

#: Calls after which a quick function has earned the worker's own thread.
EARNED = 40

WAYS = {
    "task": lambda function, *arguments, **named: BackgroundTask(function, *arguments, **named),
    "starlette": lambda function, *arguments, **named: BackgroundTasks([BackgroundTask(function, *arguments, **named)]),
    "fastapi": lambda function, *arguments, **named: added(fastapi.BackgroundTasks(), function, *arguments, **named),
}


def added(tasks, function, *arguments, **named):
    tasks.add_task(function, *arguments, **named)
    return tasks


def make(is_native, **options):
    return by_asgi(FastAPI(**options), not is_native)


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def ask(peer, seen, count):
    """So many requests, one after the other, each when the task of the last one has run."""
    for _ in range(count):
        before = len(seen)
        assert peer.get("/").json() == "answer"
        wait_until(lambda before=before: len(seen) > before)


@pytest.mark.parametrize("way", WAYS)
def test_a_quick_function_earns_the_workers_thread(way, caplog):
    caplog.set_level(logging.DEBUG, "turboapi")
    app, seen = FastAPI(), []

    def work(number, *, more):
        seen.append((threading.current_thread().name, number, more))

    @app.get("/")
    async def handler():
        return JSONResponse("answer", background=WAYS[way](work, 1, more=2))

    with TestServer(app) as server, Peer(server.port) as peer:
        ask(peer, seen, EARNED)
        own = server._thread.name
    assert {arguments[1:] for arguments in seen} == {(1, 2)}
    names = [name for name, *_ in seen]
    assert names[0].startswith("turboapi-pool-0-") and names[-1] == own
    assert sum(name == own for name in names) == EARNED - 32
    assert "background task test_background.test_a_quick_function_earns_the_workers_thread.<locals>.work neither waits" in caplog.text


def test_one_that_waits_goes_back(caplog):
    app, seen, seconds = FastAPI(), [], [0.0]

    def work():
        if seconds[0]:
            time.sleep(seconds[0])
        seen.append(threading.current_thread().name)

    @app.get("/")
    async def handler():
        return JSONResponse("answer", background=BackgroundTask(work))

    with TestServer(app) as server, Peer(server.port) as peer:
        ask(peer, seen, EARNED)
        assert seen[-1] == server._thread.name
        seconds[0] = 0.02
        ask(peer, seen, 4)
    assert seen[-1].startswith("turboapi-pool-0-")
    assert caplog.text.count("on the worker's own thread: it runs in threads from now on") == 1


def test_a_method_and_a_partial_are_known_by_their_function():
    app, seen = FastAPI(), []

    class Sender:
        def send(self, number):
            seen.append(threading.current_thread().name)

    @app.get("/")
    async def handler():
        return JSONResponse("answer", background=BackgroundTask(functools.partial(Sender().send, 1)))

    with TestServer(app) as server, Peer(server.port) as peer:
        ask(peer, seen, EARNED)
        assert seen[-1] == server._thread.name


def test_an_endpoint_and_a_task_of_one_function_share_their_standing():
    app, seen = FastAPI(), []

    @app.get("/endpoint")
    def work():
        seen.append(threading.current_thread().name)

    @app.get("/")
    async def handler():
        return JSONResponse("answer", background=BackgroundTask(work))

    with TestServer(app) as server, Peer(server.port) as peer:
        for _ in range(EARNED):
            peer.get("/endpoint")
        ask(peer, seen, 1)
        assert seen[-1] == server._thread.name


def test_functions_of_one_request_are_let_go():
    app, living, seen = FastAPI(), [], []

    @app.get("/")
    async def handler():
        here = []

        def work():
            here.append(1)
            seen.append(threading.current_thread().name)

        living.append(weakref.ref(work))
        return JSONResponse("answer", background=BackgroundTask(work))

    def all_gone():
        gc.collect()
        return not any(function() for function in living)

    with TestServer(app) as server, Peer(server.port) as peer:
        ask(peer, seen, 200)
        wait_until(all_gone)
    # Each is a new function, which nothing is known of.
    assert all(name.startswith("turboapi-pool-0-") for name in seen)


@pytest.mark.parametrize("is_earned", [False, True])
def test_the_answer_leaves_before_its_task_begins(is_earned):
    app, seen, gate = FastAPI(), [], threading.Event()
    gate.set()

    def work():
        assert gate.wait(PATIENCE)
        seen.append(threading.current_thread().name)

    @app.get("/")
    async def handler():
        return JSONResponse("answer", background=BackgroundTask(work))

    with TestServer(app) as server, Peer(server.port) as peer:
        ask(peer, seen, EARNED if is_earned else 1)
        gate.clear()
        begin = time.monotonic()
        assert peer.get("/").json() == "answer"
        assert time.monotonic() - begin < PATIENCE / 2
        gate.set()
        wait_until(lambda: len(seen) == (EARNED if is_earned else 1) + 1)
        assert (seen[-1] == server._thread.name) == is_earned


@PATHS
@pytest.mark.parametrize("calls", [1, EARNED])
def test_what_a_function_sees(is_native, calls):
    """The endpoint's context, in a copy; no loop; and on both threads the same."""
    app, seen, who = make(is_native), [], contextvars.ContextVar("who", default="nobody")

    def work():
        found = who.get()
        who.set("task")
        for look in (asyncio.get_running_loop, asyncio.current_task):
            with pytest.raises(RuntimeError):
                look()
        asyncio.run(asyncio.sleep(0))
        seen.append(found)

    async def last():
        assert asyncio.current_task().get_name() == "turboapi-request"
        assert asyncio.get_running_loop().is_running()
        seen.append(who.get())

    @app.get("/")
    async def handler():
        who.set("endpoint")
        return JSONResponse("answer", background=BackgroundTasks([BackgroundTask(work), BackgroundTask(last)]))

    with TestServer(app) as server, Peer(server.port) as peer:
        for number in range(1, calls + 1):
            peer.get("/")
            wait_until(lambda number=number: len(seen) == 2 * number or server.exceptions)
        assert server.exceptions == []
    assert set(seen) == {"endpoint"}


@PATHS
def test_from_thread_works_in_a_task(is_native):
    app, seen = make(is_native), []

    async def on_loop():
        return threading.current_thread()

    def work():
        seen.append(anyio.from_thread.run(on_loop))

    @app.get("/")
    async def handler():
        return JSONResponse("answer", background=BackgroundTask(work))

    with TestServer(app) as server, Peer(server.port) as peer:
        ask(peer, seen, EARNED)
        assert set(seen) == {server._thread}


@PATHS
def test_the_apps_own_limit_counts_tasks(is_native):
    app, lock, inside, most, done = make(is_native), threading.Lock(), [], [], []
    gate = threading.Semaphore(0)

    @app.get("/limit")
    async def limit():
        anyio.to_thread.current_default_thread_limiter().total_tokens = 2

    def work():
        with lock:
            inside.append(1)
            most.append(len(inside))
        gate.acquire(timeout=PATIENCE)
        with lock:
            inside.pop()
        done.append(1)

    @app.get("/")
    async def handler():
        return JSONResponse("answer", background=BackgroundTask(work))

    with TestServer(app) as server:
        assert get(server.port, "/limit").status == 200
        for _ in range(6):
            assert get(server.port, "/").json() == "answer"
        wait_until(lambda: len(inside) == 2)
        for _ in range(6):
            gate.release()
        wait_until(lambda: len(done) == 6)
    assert max(most) == 2


class OfItsOwn(BackgroundTask):
    """A task that is more than its function."""

    async def __call__(self):
        self.args[0].append("own")
        await super().__call__()


@PATHS
@pytest.mark.parametrize("way", [BackgroundTasks, fastapi.BackgroundTasks])
@pytest.mark.parametrize("response", [JSONResponse, PlainTextResponse, lambda text, **options: StreamingResponse(iter([text]), **options)])
def test_order_and_what_is_added_meanwhile(is_native, way, response):
    app, done = make(is_native), []

    @app.get("/")
    async def handler():
        async def waits():
            await asyncio.sleep(0)
            done.append("waits")

        def adds():
            done.append("adds")
            tasks.add_task(done.append, "added")

        tasks = way([OfItsOwn(done, "x")] if way is BackgroundTasks else None)
        if tasks.tasks:
            tasks.tasks[0] = OfItsOwn(done.append, "x")
            tasks.tasks[0].args = (done,)
            tasks.tasks[0].func = lambda _: done.append("x")
        tasks.add_task(adds)
        tasks.add_task(waits)
        return response("text", background=tasks)

    with TestServer(app) as server:
        assert b"text" in get(server.port, "/").body
        wait_until(lambda: "added" in done)
        assert server.exceptions == []
    assert done == (["own", "x"] if way is BackgroundTasks else []) + ["adds", "waits", "added"]


@PATHS
@pytest.mark.parametrize("calls", [1, EARNED])
@pytest.mark.parametrize(
    ("raised", "expected"),
    [(ValueError, "ValueError"), (StopIteration, "RuntimeError"), (SystemExit, "SystemExit")],
    ids=lambda value: str(value),
)
def test_a_failure_is_logged_with_its_route(is_native, calls, raised, expected, caplog):
    app, seen, after, fails = make(is_native), [], [], []

    def work():
        seen.append(1)
        if fails:
            raise raised

    @app.get("/")
    async def handler():
        return JSONResponse("answer", background=BackgroundTasks([BackgroundTask(work), BackgroundTask(after.append, 1)]))

    with TestServer(app) as server, Peer(server.port) as peer:
        ask(peer, after, calls)
        fails.append(1)
        assert peer.get("/").json() == "answer"
        wait_until(lambda: server.exceptions)
        assert get(server.port, "/openapi.json").status == 200  # the worker goes on
        assert [type(error).__name__ for error in server.exceptions] == [expected]
    assert len(after) == calls
    assert caplog.text.count(f"GET '/' raised {expected}") == 1
    assert "never retrieved" not in caplog.text


def test_a_response_that_is_used_again_is_not_changed():
    app, seen = FastAPI(), []
    task = BackgroundTask(lambda: seen.append(1))
    response = JSONResponse("answer", background=task)

    @app.get("/")
    async def handler():
        return response

    with TestServer(app) as server, Peer(server.port) as peer:
        ask(peer, seen, EARNED)
    assert response.background is task


def test_what_a_library_has_put_in_starlettes_place_is_called(monkeypatch):
    app, seen, watched, original = FastAPI(), [], [], BackgroundTask.__call__

    async def call(self):
        watched.append(self.func)
        await original(self)

    monkeypatch.setattr(BackgroundTask, "__call__", call)

    def work():
        seen.append(1)

    @app.get("/")
    async def handler():
        return JSONResponse("answer", background=BackgroundTask(work))

    with TestServer(app) as server, Peer(server.port) as peer:
        ask(peer, seen, 3)
    assert watched == [work] * 3


def test_the_drain_waits_for_a_task_in_a_thread():
    app, begun, gate, done = FastAPI(), threading.Event(), threading.Event(), []

    def work():
        begun.set()
        assert gate.wait(PATIENCE)
        done.append(1)

    @app.get("/")
    async def handler():
        return JSONResponse("answer", background=BackgroundTask(work))

    server = TestServer(app, drain_timeout=PATIENCE).start()
    assert get(server.port, "/").json() == "answer"
    assert begun.wait(PATIENCE)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    wait_until(lambda: server._worker is None or server._worker._cancel_at is not None)
    assert not done and stopping.is_alive()
    gate.set()
    stopping.join(PATIENCE)
    assert done == [1]
