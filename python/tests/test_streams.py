"""Answers that stream: the same octets, notes and failures from a plan, from a plan within middleware, from the app's own ASGI call and
from uvicorn; and what becomes of a stream whose client goes."""

import asyncio
import contextvars
import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import fastapi
import pytest
from differential import Answer, Connection, request, serve_ours, serve_uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask
from test_after import HandledError, Notes, PassesOn, add_handlers, nothing
from test_background import wait_until
from ways import by_asgi
from wire import PATIENCE, Peer

from turboapi.plan.routes import compile_app
from turboapi.testing import TestServer

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Item(BaseModel):
    number: int
    text: str = "ü"


class ShoutingResponse(StreamingResponse):
    """Of no class that is known."""

    media_type = "text/loud"

    async def stream_response(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self.body_iterator:
            await send({"type": "http.response.body", "body": str(part).upper().encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"!", "more_body": False})


def make_app(notes: Notes, way: str) -> FastAPI:
    app = by_asgi(FastAPI(), way == "asgi")

    add_handlers(app, notes)

    def note(text: str) -> None:
        notes.append(f"{text} {who.get()}")

    async def parts(*given: Any) -> AsyncIterator[Any]:
        note("begin")
        who.set("stream")
        for part in given:
            if isinstance(part, BaseException):
                raise part
            yield part
            note("part")

    def parts_of_def(*given: Any) -> Iterator[Any]:
        for part in given:
            note("step")
            who.set("step")
            yield part

    @app.get("/parts")
    async def stock() -> Response:
        who.set("endpoint")
        given = parts(b"one", "zwei ü", memoryview(b"three"), b"")
        return StreamingResponse(given, 203, {"x": "1"}, "text/plain", BackgroundTask(note, "after"))

    @app.get("/parts-def")
    def stock_of_def() -> Response:
        who.set("endpoint")
        return StreamingResponse(parts_of_def(b"one", "two"), background=BackgroundTask(note, "after"))

    @app.get("/list")
    async def stock_of_list() -> Response:
        return StreamingResponse(["one", b"two"], media_type="application/octet-stream")

    @app.get("/none")
    async def stock_of_nothing() -> Response:
        return StreamingResponse(parts())

    @app.get("/length")
    async def with_length() -> Response:
        return StreamingResponse(parts(b"12", b"34"), headers={"content-length": "4"})

    @app.get("/own-class")
    async def own_class() -> Response:
        return ShoutingResponse(parts("one", "two"))

    @app.get("/big")
    async def big() -> Response:
        return StreamingResponse(parts(*[b"x" * 50_000] * 20), background=BackgroundTask(note, "after"))

    @app.get("/tasks")
    async def tasks(tasks: fastapi.BackgroundTasks, response: Response) -> Response:
        who.set("endpoint")
        tasks.add_task(note, "one")
        tasks.add_task(nothing)
        tasks.add_task(note, "two")
        return StreamingResponse(parts(b"one"))

    @app.get("/request")
    async def with_request(request: Request) -> Response:
        return StreamingResponse(parts(request.url.path, "?"))

    for name, part in {"text": "", "wrong": 7, "error": ValueError(), "handled": HandledError()}.items():

        @app.get(f"/then-{name}")
        async def then(part: Any = Depends(lambda part=part: part) if way == "asgi" else part) -> Response:
            return StreamingResponse(parts(b"one", part), background=BackgroundTask(note, "after"))

    # Generators.

    @app.get("/lines")
    async def lines() -> Any:
        who.set("endpoint")
        yield {"a": 1, "b": [1.5, None, "ü", float("nan")]}
        yield Item(number=1)
        note("after it")

    @app.get("/lines-def")
    def lines_of_def(count: int = 3) -> Any:
        for number in range(count):
            note("step")
            who.set("step")
            yield number

    @app.get("/items", status_code=202, response_model_exclude_unset=True)
    async def items(response: Response, tasks: fastapi.BackgroundTasks) -> AsyncIterator[Item]:
        response.headers["x-late"] = "dropped"
        tasks.add_task(note, "task")
        yield Item(number=1)
        yield {"number": "2", "more": 3}  # type: ignore[misc]

    @app.get("/items-wrong")
    async def items_wrong() -> AsyncIterator[Item]:
        yield Item(number=1)
        yield {"text": "no number"}  # type: ignore[misc]

    @app.get("/items-raise")
    def items_raise() -> Iterator[Item]:
        yield Item(number=1)
        raise HandledError

    @app.get("/raw", response_class=StreamingResponse)
    async def raw() -> Any:
        yield b"one"
        yield "two"

    @app.get("/raw-def", response_class=StreamingResponse)
    def raw_of_def() -> Any:
        yield from ("one", "two")

    @app.get("/raw-own", response_class=ShoutingResponse)
    async def raw_own() -> Any:
        yield "one"

    if way == "leaf":
        app.add_middleware(PassesOn)
    return app


#: What each path notes, in order.
PATHS: dict[str, Notes] = {
    "/parts": ["begin endpoint", *["part stream"] * 4, "after endpoint"],
    "/parts-def": ["step nobody", "step nobody", "after nobody"],
    "/list": [],
    "/none": ["begin nobody"],
    "/length": ["begin nobody", "part stream", "part stream"],
    "/own-class": ["begin nobody", "part stream", "part stream"],
    "/big": ["begin nobody", *["part stream"] * 20, "after nobody"],
    "/tasks": ["begin endpoint", "part stream", "one endpoint", "two endpoint"],
    "/request": ["begin nobody", "part stream", "part stream"],
    "/then-text": ["begin nobody", "part stream", "part stream", "after nobody"],
    "/lines": ["after it endpoint"],
    "/lines-def": ["step nobody"] * 3,
    "/lines-def?count=0": [],
    "/items": ["task nobody"],
    "/raw": [],
    "/raw-def": [],
    "/raw-own": [],
}

#: The same of streams that break off, which no client takes for whole.
BROKEN: dict[str, Notes] = {
    "/then-wrong": ["begin nobody", "part stream", "500 /then-wrong AttributeError"],
    "/then-error": ["begin nobody", "part stream", "500 /then-error ValueError"],
    "/then-handled": ["begin nobody", "part stream", "500 /then-handled RuntimeError"],
    "/items-wrong": ["500 /items-wrong ResponseValidationError"],
    "/items-raise": ["500 /items-raise RuntimeError"],
}


FRAMING = (b"content-length", b"transfer-encoding")


def ask(address: tuple[str, int], notes: Notes, path: str) -> tuple[Any, Notes]:
    connection = Connection(address)
    notes.clear()
    expected = BROKEN[path] if path in BROKEN else PATHS[path]
    answer: Answer | bytes
    if path in BROKEN:
        with Peer(address[1]) as peer:
            peer.send(request("GET", path))
            answer = peer.rest().partition(b"\r\n\r\n")[2]
    else:
        answer = connection.ask(request("GET", path))
        if answer.body == b"":  # that of nothing is known to have no length before it begins, or to be empty when it has ended
            answer = dataclasses.replace(answer, headers=tuple(line for line in answer.headers if line[0] not in FRAMING))
    wait_until(lambda: len(notes) >= len(expected))
    connection.ask(request("GET", "/list"))  # whatever is still to come has its chance: this one goes through the same loop
    connection.close()
    return answer, notes.copy()


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """By path, what uvicorn answers."""
    notes: Notes = []
    answers = {}
    with serve_uvicorn(make_app(notes, "uvicorn")) as address:
        for path, noted in {**PATHS, **BROKEN}.items():
            answers[path], seen = ask(address, notes, path)
            assert (path, seen) == (path, noted)
    return answers


@pytest.mark.parametrize("way", ["native", "leaf", "asgi"])
def test_a_stream(way: str, expected: dict[str, Any]) -> None:
    notes: Notes = []
    with TestServer(make_app(notes, way)) as server:
        for path, noted in {**PATHS, **BROKEN}.items():
            assert (path, *ask(("127.0.0.1", server.port), notes, path)) == (path, expected[path], noted)


def test_all_of_it_is_native() -> None:
    assert [(entry.template, entry.reason) for entry in compile_app(make_app([], "native")) if not entry.native] == []


def setting(notes: Notes) -> FastAPI:
    app = FastAPI()

    @app.exception_handler(Exception)
    async def on_error(request: Request, error: Exception) -> Response:
        notes.append(f"handler {who.get()}")
        return Response()

    @app.get("/tasks")
    async def with_tasks(tasks: fastapi.BackgroundTasks) -> Any:
        tasks.add_task(lambda: notes.append(f"task {who.get()}"))
        who.set("stream")
        yield 1

    @app.get("/fails")
    async def fails() -> Any:
        who.set("stream")
        yield 1
        raise HandledError

    return app


@pytest.mark.parametrize("serve", [serve_uvicorn, serve_ours])
def test_what_a_stream_sets_is_its_own(serve: Any) -> None:
    """Neither what follows it nor the handler of what it raises sees that."""
    notes: Notes = []
    with serve(setting(notes)) as (_, port):
        for count, path in enumerate(("/tasks", "/fails"), 1):
            with Peer(port) as peer:
                peer.send(request("GET", path, ("Connection", "close")))
                peer.rest()
            wait_until(lambda count=count: len(notes) >= count)  # type: ignore[misc]
    assert notes == ["task nobody", "handler nobody"]


# A client that goes.


def endless(log: list[str], begun: threading.Event, way: str) -> FastAPI:
    app = by_asgi(FastAPI(), way == "asgi")

    async def waits() -> AsyncIterator[Any]:
        try:
            yield "part"
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        finally:
            try:
                await asyncio.sleep(0)
                log.append("slept")
            except asyncio.CancelledError:
                log.append("cancelled again")
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
                log.append("shielded")

    async def holds() -> AsyncIterator[Any]:
        yield "part"
        begun.set()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.02)
            log.append("held")
        yield "another"
        await anyio.sleep(0)
        log.append("never")

    async def grouped() -> AsyncIterator[Any]:
        yield "part"

        async def inner() -> None:
            try:
                begun.set()
                await anyio.sleep(1000)
            except asyncio.CancelledError:
                log.append("inner")
                raise

        async with anyio.create_task_group() as group:
            group.start_soon(inner)

    async def stubborn() -> AsyncIterator[Any]:
        yield "part"
        begun.set()
        for _ in range(3):
            try:
                await anyio.sleep(1000)
            except asyncio.CancelledError:
                log.append("refused")
        yield "last"

    def of_def() -> Iterator[Any]:
        try:
            while True:
                yield "part"
                begun.set()
                time.sleep(0.005)
        finally:
            log.append("closed")

    def note() -> None:
        log.append("after")

    kinds: dict[str, Callable[[], Any]] = {"waits": waits, "holds": holds, "grouped": grouped, "stubborn": stubborn, "of_def": of_def}
    for name, make in kinds.items():

        @app.get(f"/{name}")
        async def stock(make: Any = Depends(lambda make=make: make) if way == "asgi" else make) -> Response:
            return StreamingResponse(make(), background=BackgroundTask(note))

    @app.get("/lines")
    async def lines(tasks: fastapi.BackgroundTasks) -> Any:
        tasks.add_task(note)
        try:
            while True:
                yield "part"
                begun.set()
        finally:
            log.append("finally")

    return app


ENDS = {
    "/waits": ["cancelled", "cancelled again", "shielded", "after"],
    "/holds": ["held", "after"],
    "/grouped": ["inner", "after"],
    "/stubborn": ["refused", "refused", "refused", "after"],
    "/of_def": ["after", "closed"],
    "/lines": ["after", "finally"],
}


@pytest.mark.parametrize("way", ["native", "asgi", "uvicorn"])
@pytest.mark.parametrize("path", ENDS)
def test_a_client_that_goes(path: str, way: str) -> None:
    """The generator is cancelled as AnyIO cancels, and what follows comes all the same."""
    log: list[str] = []
    begun = threading.Event()
    app = endless(log, begun, way)

    def go(port: int) -> None:
        peer = Peer(port)
        peer.send(request("GET", path))
        assert begun.wait(PATIENCE)
        peer.reset()
        # Generators that were left in their middle end when they are collected, if not before: that is not told.
        wait_until(lambda: "after" in log)

    if way == "uvicorn":
        with serve_uvicorn(app) as address:
            go(address[1])
    else:
        with TestServer(app) as server:
            go(server.port)
            server.stop()
            assert server.exceptions == []
    told = [line for line in log if line not in ("closed", "finally")]
    assert told == [line for line in ENDS[path] if line not in ("closed", "finally")]


def test_a_stream_whose_client_goes_leaves_nothing() -> None:
    """No task, and no request that the drain would wait for."""
    log: list[str] = []
    begun = threading.Event()
    app = endless(log, begun, "native")
    tasks: list[Any] = []

    @app.get("/tasks")
    async def count() -> int:
        tasks[:] = [task for task in asyncio.all_tasks() if task.get_name() == "turboapi-request" and task is not asyncio.current_task()]
        return len(tasks)

    with TestServer(app) as server:
        for path in ENDS:
            begun.clear()
            peer = Peer(server.port)
            peer.send(request("GET", path))
            assert begun.wait(PATIENCE)
            peer.reset()
        with Peer(server.port) as peer:
            wait_until(lambda: log.count("after") == len(ENDS) and peer.get("/tasks").json() == 0)
        assert server.exceptions == []
