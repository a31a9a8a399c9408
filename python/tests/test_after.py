"""What follows an answer: the same in the same order from a plan, from a plan within middleware, from the app's own ASGI call and from
uvicorn, with the context in which each part runs, and with what becomes of a failure.

Each route has a list of what it notes; a list that is longer, shorter or in another order is a failure.
"""

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import fastapi
import pytest
from differential import Answer, Connection, request, serve
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask, BackgroundTasks
from test_background import EARNED, wait_until
from ways import by_asgi

from turboapi.plan.routes import compile_app
from turboapi.serving.background import Background
from turboapi.testing import TestServer

Notes = list[Any]

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


async def nothing() -> None:
    pass


class HandledError(Exception):
    pass


class Item(BaseModel):
    name: str


class OwnTask(BackgroundTask):
    async def __call__(self) -> None:
        self.args[0].append("own")
        await super().__call__()


class KnowingResponse(PlainTextResponse):
    """Says whether it is made with background tasks."""

    def __init__(self, content: Any, status_code: int = 200, background: BackgroundTask | None = None) -> None:
        super().__init__(f"{content} {type(background).__name__}", status_code, background=background)


class PassesOn:
    """Middleware that changes nothing: what it wraps runs within the app's own call."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def add_handlers(app: FastAPI, notes: Notes) -> None:
    """One of an exception of the app's own, and one of all others."""

    @app.exception_handler(HandledError)
    async def on_handled(request: Request, error: Exception) -> Response:
        notes.append("handler")
        return PlainTextResponse("handled", 418)

    @app.exception_handler(Exception)
    async def on_error(request: Request, error: Exception) -> Response:
        notes.append(f"500 {request.url.path} {type(error).__name__}")
        return PlainTextResponse("ours", 500)


def make_app(notes: Notes, *, planless: bool = False, within: bool = False) -> FastAPI:
    """An app of its own for each server; `planless`: no route has a plan; `within`: within middleware that passes all on."""
    app = by_asgi(FastAPI(), planless)

    def work(name: str) -> None:
        notes.append(f"{name} {who.get()}")
        who.set("def task")

    async def work_async(name: str) -> None:
        notes.append(f"{name} {who.get()}")
        await asyncio.sleep(0)
        who.set("async task")

    def fail(make: Callable[[], BaseException]) -> None:
        notes.append("fails")
        raise make()

    async def fail_async(make: Callable[[], BaseException]) -> None:
        await asyncio.sleep(0)
        fail(make)

    add_handlers(app, notes)

    @app.get("/parameter")
    async def parameter(tasks: fastapi.BackgroundTasks) -> dict[str, int]:
        who.set("endpoint")
        tasks.add_task(work, "one")
        tasks.add_task(work_async, "two")
        tasks.add_task(lambda: tasks.add_task(work, "added"))
        tasks.add_task(work, name="three")
        return {"a": 1}

    @app.get("/starlette")
    async def starlette(tasks: BackgroundTasks) -> str:
        notes.append(type(tasks) is fastapi.BackgroundTasks)
        tasks.add_task(work, "one")
        return "text"

    @app.get("/def")
    def plain(tasks: fastapi.BackgroundTasks) -> str:
        who.set("endpoint")
        tasks.add_task(work, "one")
        tasks.add_task(work, "two")
        return "text"

    @app.get("/empty")
    async def empty(tasks: fastapi.BackgroundTasks) -> None:
        notes.append("endpoint")

    @app.get("/own")
    async def own(tasks: fastapi.BackgroundTasks) -> Response:
        tasks.add_task(work, "one")
        return JSONResponse("own", 201, {"x": "1"})

    @app.get("/own-background")
    async def own_background(tasks: fastapi.BackgroundTasks) -> Response:
        tasks.add_task(work, "dropped")
        return HTMLResponse("own", background=BackgroundTask(work, "kept"))

    shared = PlainTextResponse("shared")

    @app.get("/shared")
    async def answer_again(tasks: fastapi.BackgroundTasks) -> Response:
        # The second time the response has the tasks of the first one.
        tasks.add_task(work, "shared" if shared.background is None else "dropped")
        return shared

    @app.get("/said")
    async def said(tasks: fastapi.BackgroundTasks, response: Response) -> str:
        tasks.add_task(work, "one")
        response.status_code = 202
        response.headers["x-said"] = "1"
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return "said"

    @app.get("/class", response_class=PlainTextResponse, status_code=203)
    def text(tasks: fastapi.BackgroundTasks) -> str:
        tasks.add_task(work, "one")
        return "text"

    @app.get("/bodiless", status_code=204)
    async def bodiless(tasks: fastapi.BackgroundTasks) -> None:
        tasks.add_task(work, "one")

    @app.get("/knowing", response_class=KnowingResponse)
    async def knowing(tasks: fastapi.BackgroundTasks) -> str:
        tasks.add_task(work, "one")
        return "knows"

    @app.get("/unknowing", response_class=KnowingResponse)
    async def unknowing() -> str:
        return "knows not"

    @app.get("/model", response_model=Item)
    async def model(tasks: fastapi.BackgroundTasks) -> Any:
        tasks.add_task(work, "one")
        return {"name": "a", "more": 1}

    @app.get("/wrong-model", response_model=Item)
    async def wrong_model(tasks: fastapi.BackgroundTasks) -> Any:
        tasks.add_task(work, "dropped")
        return {}

    @app.get("/http")
    async def http(tasks: fastapi.BackgroundTasks) -> None:
        tasks.add_task(work, "dropped")
        raise HTTPException(418, "teapot", {"x": "1"})

    @app.get("/raises")
    async def raises(tasks: fastapi.BackgroundTasks) -> None:
        tasks.add_task(work, "dropped")
        raise HandledError

    @app.get("/of-its-own")
    async def of_its_own(tasks: fastapi.BackgroundTasks) -> None:
        tasks.add_task(work, "one")
        tasks.tasks.append(OwnTask(notes.append, "two"))
        tasks.tasks[1].args = (notes,)
        tasks.tasks[1].func = lambda _: notes.append("two")
        tasks.add_task(work, "three")

    @app.get("/nested")
    async def nested(tasks: fastapi.BackgroundTasks) -> Response:
        tasks.add_task(work, "one")
        return JSONResponse(1, background=BackgroundTasks([tasks, BackgroundTask(work, "two")]))

    @app.get("/callable")
    async def of_any_kind() -> Response:
        return JSONResponse(1, background=lambda: work_async("one"))  # type: ignore[arg-type]

    @app.get("/stream")
    async def stream(tasks: fastapi.BackgroundTasks) -> Response:
        who.set("endpoint")
        tasks.add_task(work, "one")

        async def parts() -> Any:
            yield "part "
            notes.append(f"stream {who.get()}")
            yield "end"

        return StreamingResponse(parts())

    for kind in (ValueError, HandledError, HTTPException, StopIteration):

        @app.get(f"/fails/{kind.__name__}")
        async def fails(tasks: fastapi.BackgroundTasks, kind: Any = Depends(lambda kind=kind: kind) if planless else kind) -> None:
            tasks.add_task(fail, (lambda: HTTPException(404)) if kind is HTTPException else kind)
            tasks.add_task(work, "not run")

        @app.get(f"/fails-async/{kind.__name__}")
        async def fails_async(tasks: fastapi.BackgroundTasks, kind: Any = Depends(lambda kind=kind: kind) if planless else kind) -> None:
            tasks.add_task(work, "one")
            tasks.add_task(fail_async, (lambda: HTTPException(404)) if kind is HTTPException else kind)
            tasks.add_task(work, "not run")

    if within:
        app.add_middleware(PassesOn)
    return app


#: What each path notes, in order.
PATHS: dict[str, list[Any]] = {
    "/parameter": ["one endpoint", "two endpoint", "three async task", "added async task"],
    "/starlette": [True, "one nobody"],
    "/def": ["one nobody", "two nobody"],
    "/empty": ["endpoint"],
    "/own": ["one nobody"],
    "/own-background": ["kept nobody"],
    "/shared": ["shared nobody"],
    "/said": ["one nobody"],
    "/class": ["one nobody"],
    "/bodiless": ["one nobody"],
    "/knowing": ["one nobody"],
    "/unknowing": [],
    "/model": ["one nobody"],
    "/wrong-model": ["500 /wrong-model ResponseValidationError"],
    "/http": [],
    "/raises": ["handler"],
    "/of-its-own": ["one nobody", "own", "two", "three nobody"],
    "/nested": ["one nobody", "two nobody"],
    "/callable": ["one nobody"],
    "/stream": ["stream endpoint", "one endpoint"],
    "/fails/ValueError": ["fails", "500 /fails/ValueError ValueError"],
    "/fails/HandledError": ["fails", "500 /fails/HandledError RuntimeError"],
    "/fails/HTTPException": ["fails", "500 /fails/HTTPException RuntimeError"],
    "/fails/StopIteration": ["fails", "500 /fails/StopIteration RuntimeError"],
    "/fails-async/ValueError": ["one nobody", "fails", "500 /fails-async/ValueError ValueError"],
    "/fails-async/HandledError": ["one nobody", "fails", "500 /fails-async/HandledError RuntimeError"],
    "/fails-async/HTTPException": ["one nobody", "fails", "500 /fails-async/HTTPException RuntimeError"],
    "/fails-async/StopIteration": ["one nobody", "fails", "500 /fails-async/StopIteration RuntimeError"],
}


def served(way: str, notes: Notes) -> contextlib.AbstractContextManager[tuple[str, int]]:
    return serve(way, make_app(notes, planless=way == "asgi", within=way == "leaf"))


def ask(connection: Connection, notes: Notes, path: str) -> tuple[Answer, Notes]:
    notes.clear()
    answer = connection.ask(request("GET", path))
    wait_until(lambda: len(notes) >= len(PATHS[path]))
    # Whatever is still to come has its chance: this one goes through the same loop.
    connection.ask(request("GET", "/http"))
    return answer, notes.copy()


@pytest.fixture(scope="module")
def expected() -> dict[str, Answer]:
    """By path, what uvicorn answers."""
    notes: Notes = []
    answers = {}
    with served("uvicorn", notes) as address:
        connection = Connection(address, kept=False)
        for path, noted in PATHS.items():
            answers[path], seen = ask(connection, notes, path)
            assert seen == noted, path
        connection.close()
    return answers


@pytest.mark.parametrize("has_earned", [False, True], ids=["threads", "worker"])
@pytest.mark.parametrize("way", ["native", "leaf", "asgi"])
def test_what_follows_an_answer(way: str, has_earned: bool, expected: dict[str, Answer]) -> None:
    notes: Notes = []
    with served(way, notes) as address:
        connection = Connection(address, kept=False)
        # Functions that fail, too: how a call ends says nothing of where it may run.
        for path in ("/def", "/fails/ValueError", "/own") if has_earned else ():
            for _ in range(EARNED):
                ask(connection, notes, path)
        for path, noted in PATHS.items():
            assert (path, *ask(connection, notes, path)) == (path, expected[path], noted)
        connection.close()


def test_all_of_it_is_native() -> None:
    assert [entry.reason for entry in compile_app(make_app([])) if not entry.native] == []


def test_tasks_run_on_the_workers_thread_between_two_turns() -> None:
    """No task of asyncio's and no thread for functions that have earned it, and the next request sees what they have done."""
    app, seen = FastAPI(), []

    def work() -> None:
        seen.append((threading.current_thread().name, asyncio.all_tasks(loops[0])))

    loops: list[Any] = []

    @app.get("/")
    async def endpoint(tasks: fastapi.BackgroundTasks) -> int:
        loops[:] = [asyncio.get_running_loop()]
        tasks.add_task(work)
        return len(seen)

    with TestServer(app) as server:
        connection = Connection(("127.0.0.1", server.port))
        for _ in range(EARNED):
            count = len(seen)
            connection.ask(request("GET", "/"))
            wait_until(lambda count=count: len(seen) > count)
        before = len(seen)
        for number in range(3):
            assert connection.ask(request("GET", "/")).body == b"%d" % (before + number)
        name = server._thread.name
        connection.close()
    assert {thread for thread, _ in seen[-4:]} == {name}
    assert all("turboapi-request" not in {task.get_name() for task in tasks} for _, tasks in seen[-4:])


def test_the_drain_waits_for_tasks_that_add_tasks(caplog: pytest.LogCaptureFixture) -> None:
    """What was begun before the stop is done: plain functions on the worker's thread, and those that wait."""
    app, done = FastAPI(), []

    async def last() -> None:
        await asyncio.sleep(0.05)
        done.append("last")

    @app.get("/")
    async def endpoint(tasks: fastapi.BackgroundTasks) -> None:
        tasks.add_task(done.append, "first")
        tasks.add_task(last)
        tasks.add_task(done.append, "after")

    with TestServer(app) as server:
        connection = Connection(("127.0.0.1", server.port))
        connection.ask(request("GET", "/"))
        server.stop()
        connection.close()
    assert done == ["first", "last", "after"]


def test_a_cancelled_task_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    app, begun = FastAPI(), threading.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.sleep(1000)

    @app.get("/")
    async def endpoint(tasks: fastapi.BackgroundTasks) -> None:
        tasks.add_task(wait)

    with TestServer(app, drain_timeout=0.0) as server:
        connection = Connection(("127.0.0.1", server.port))
        connection.ask(request("GET", "/"))
        assert begun.wait(20)
        server.stop()
        connection.close()
    assert server.exceptions == []
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["WARNING"]


@pytest.mark.parametrize("fails", [False, True])
def test_what_goes_on_after_tasks_is_told_what_became_of_them(fails: bool) -> None:
    noted: list[str] = []

    async def task(name: str) -> None:
        noted.append(name)
        if fails:
            raise ValueError(name)

    background = Background(None, None, None)  # type: ignore[arg-type]
    tasks = BackgroundTask(task, "task"), iter([BackgroundTask(task, "other")])
    asyncio.run(background.after(*tasks, lambda error: noted.append(f"end {error}")))
    assert noted == (["task", "end task"] if fails else ["task", "other", "end None"])


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_answer_does_not_wait_for_what_blocks_after_it(kind: str, suspends: bool) -> None:
    """The end of a dependency that holds the worker's own thread, or waits in another."""
    app, may_end, ended = FastAPI(), threading.Event(), threading.Event()

    def wait() -> None:
        assert may_end.wait(20)
        ended.set()

    def plain() -> Iterator[int]:
        yield 1
        wait()

    async def asynchronous() -> AsyncIterator[int]:
        if suspends:
            await asyncio.sleep(0.01)
        yield 1
        wait()

    @app.get("/")
    async def endpoint(value: int = Depends(plain if kind == "def" else asynchronous)) -> int:
        if suspends:
            await asyncio.sleep(0.01)
        return value

    with TestServer(app) as server:
        connection = Connection(("127.0.0.1", server.port))
        assert connection.ask(request("GET", "/")).body == b"1"
        assert not ended.is_set()
        may_end.set()
        assert ended.wait(20)
        connection.close()
    assert all(entry.native for entry in compile_app(app))


def test_what_fails_after_an_answer_is_logged_once_and_the_next_request_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()

    async def fails() -> AsyncIterator[int]:
        yield 1
        raise ValueError("after the answer")

    @app.get("/")
    async def endpoint(value: int = Depends(fails)) -> int:
        return value

    with TestServer(app) as server:
        connection = Connection(("127.0.0.1", server.port))
        for _ in range(3):
            assert connection.ask(request("GET", "/")).body == b"1"
        connection.close()
    assert [str(error) for error in server.exceptions] == ["after the answer"] * 3
    assert sum("raised ValueError" in record.getMessage() for record in caplog.records) == 3
