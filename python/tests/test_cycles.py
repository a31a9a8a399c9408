"""What was raised is let go when its request has ended, not at the next collection: its frames hold what the request was made of."""

import asyncio
import contextlib
import gc
import logging
import weakref
from typing import Any

import fastapi
import pytest
from differential import Connection, request
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask
from test_after import HandledError, add_handlers
from test_background import EARNED, wait_until

from turboapi.serving.background import Background
from turboapi.serving.loading import is_free_threaded
from turboapi.testing import TestServer


class OwnError(ValueError):
    """Can be referred to weakly."""


def test_what_a_task_has_raised_is_let_go_when_the_request_has_ended() -> None:
    kept: list[weakref.ref[BaseException]] = []

    async def fail() -> None:
        error = OwnError()
        kept.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    background = Background(None, None, None)  # type: ignore[arg-type]
    gc.collect()
    gc.disable()
    try:
        asyncio.run(background.after(BackgroundTask(fail), None, lambda error: None))
        assert [kept[0]() for _ in kept] == [None]
    finally:
        gc.enable()


# On a free-threaded build references to a function are counted only in part: the collector frees one that was made for a request,
# whether or not it is in a cycle.
@pytest.mark.skipif(is_free_threaded(), reason="functions are the collector's on this build")
@pytest.mark.parametrize("kind", [ValueError, HandledError])
@pytest.mark.parametrize("way", ["task", "async task", "task of a stream", "stream"])
def test_a_failure_leaves_no_cycle_behind(way: str, kind: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, "turboapi")  # whose records would hold what was raised
    app = FastAPI()
    add_handlers(app, [])

    def fail() -> None:
        raise kind

    async def fail_async() -> None:
        raise kind

    async def parts() -> Any:
        yield "part"
        if way == "stream":
            raise kind

    @app.get("/")
    async def endpoint(tasks: fastapi.BackgroundTasks) -> Any:
        if way != "stream":
            tasks.add_task(fail_async if way == "async task" else fail)
        return StreamingResponse(parts()) if "stream" in way else 1

    def ask_and_forget(count: int) -> None:
        for _ in range(count):
            with contextlib.suppress(ConnectionError):
                connection.ask(request("GET", "/"))
        wait_until(lambda: len(server.exceptions) == count)
        server.exceptions.clear()

    gc.disable()
    try:
        with TestServer(app) as server:
            connection = Connection(("127.0.0.1", server.port))
            ask_and_forget(EARNED)
            collected = []
            for _ in range(3):
                gc.collect()
                ask_and_forget(20)
                collected.append(gc.collect())
            connection.close()
    finally:
        gc.enable()
    # What ended in other threads meanwhile is collected too, but not each time.
    assert min(collected) < 20
