"""lifespan.py: the protocol, on a plain loop. Not here: that a worker runs it (test_testing.py)."""

import asyncio
import logging
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from turboapi.errors import LifespanError
from turboapi.serving.lifespan import Lifespan


def run(app, mode="auto", startup_timeout=5.0, shutdown_timeout=5.0):
    """Start-up, then shutdown; returns the state that requests get, and whether the shutdown went well."""

    async def main():
        lifespan = Lifespan(app, mode)
        await lifespan.startup(startup_timeout)
        state = lifespan.request_state()
        return state, await lifespan.shutdown(shutdown_timeout)

    return asyncio.run(main())


async def without(scope, receive, send):
    assert scope["type"] == "http"


async def returns(scope, receive, send):
    return


def speaks(*messages, then=None):
    """A raw app that answers start-up and shutdown with these messages, and then raises."""

    async def app(scope, receive, send):
        for message in messages:
            await receive()
            await send(message if isinstance(message, dict) else {"type": f"lifespan.{message}"})
        if then is not None:
            raise then

    return app


def with_lifespan(cls, events, startup_error=None, shutdown_error=None):
    @asynccontextmanager
    async def lifespan(app):
        if startup_error:
            raise startup_error
        events.append(("up", asyncio.current_task()))
        yield {"pool": "a pool"}
        if shutdown_error:
            raise shutdown_error
        events.append(("down", asyncio.current_task()))

    return cls(lifespan=lifespan)


@pytest.mark.parametrize("cls", [FastAPI, Starlette])
def test_frameworks(cls):
    events = []
    state, is_well = run(with_lifespan(cls, events))
    assert state == {"pool": "a pool"}
    assert is_well
    assert [name for name, _ in events] == ["up", "down"]
    assert events[0][1] is events[1][1], "a context manager is entered and left in one task"


@pytest.mark.parametrize("app", [without, returns, FastAPI(), speaks("startup.complete", "shutdown.complete")])
def test_goes_well(app):
    assert run(app) == ({}, True)


def test_state_is_copied_for_each_request():
    async def main():
        lifespan = Lifespan(with_lifespan(FastAPI, []))
        await lifespan.startup()
        first = lifespan.request_state()
        first["mine"] = 1
        assert lifespan.request_state() == {"pool": "a pool"}
        await lifespan.shutdown()

    asyncio.run(main())


FAILURES = [
    (with_lifespan(FastAPI, [], startup_error=ValueError("no database")), "auto", "start-up of the app failed: ValueError: no database"),
    (
        speaks({"type": "lifespan.startup.failed", "message": "Traceback\nOSError: gone\n"}),
        "auto",
        "start-up of the app failed: OSError: gone",
    ),
    (speaks("startup.failed"), "auto", "start-up of the app failed: the app gave no reason"),
    (speaks("startup.failed", then=SystemExit(3)), "auto", "start-up of the app failed: SystemExit: 3"),
    (speaks("shutdown.complete"), "auto", "start-up of the app answered 'lifespan.shutdown.complete'"),
    (without, "on", "the app has no lifespan, and lifespan is 'on': AssertionError"),
    (returns, "on", "the app has no lifespan, and lifespan is 'on': it returned without an answer"),
]


@pytest.mark.parametrize(("app", "mode", "message"), FAILURES)
def test_startup_fails(app, mode, message):
    with pytest.raises(LifespanError) as caught:
        run(app, mode)
    assert str(caught.value).startswith(message)


def test_off_does_not_call_the_app():
    def app(*_):
        raise AssertionError("called")

    assert run(app, "off") == ({}, True)


async def hangs(scope, receive, send):
    await asyncio.Event().wait()


async def hangs_in_shutdown(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.Event().wait()


def test_startup_timeout():
    with pytest.raises(LifespanError, match=r"longer than 0\.01 s"):
        run(hangs, startup_timeout=0.01)


def test_shutdown_timeout(caplog):
    assert run(hangs_in_shutdown, shutdown_timeout=0.01) == ({}, False)
    assert "took longer than 0.01 s" in caplog.text


@pytest.mark.parametrize(
    "app",
    [
        with_lifespan(FastAPI, [], shutdown_error=ValueError("still busy")),
        speaks("startup.complete", {"type": "lifespan.shutdown.failed", "message": "still busy"}),
        speaks("startup.complete", then=ValueError("still busy")),
        speaks("startup.complete", "shutdown.complete", then=ValueError("still busy")),
    ],
)
def test_shutdown_fails_and_is_logged(app, caplog):
    assert run(app)[1] is False
    assert "still busy" in caplog.text


def test_an_app_that_dies_in_between_is_logged_at_shutdown(caplog):
    async def main():
        lifespan = Lifespan(speaks("startup.complete", then=ValueError("died early")))
        await lifespan.startup()
        await asyncio.sleep(0)
        return await lifespan.shutdown()

    assert asyncio.run(main()) is False
    assert "died early" in caplog.text


def test_a_broken_startup_is_served_but_said_loudly(caplog):
    """The specification: an app that raises on the lifespan is served without one."""

    async def app(scope, receive, send):
        await receive()
        raise ValueError("no database")

    with caplog.at_level(logging.WARNING, "turboapi"):
        assert run(app) == ({}, True)
    assert "no database" in caplog.text


@pytest.mark.parametrize("app", [hangs, hangs_in_shutdown])
def test_cancelled(app):
    """Who cancels start-up or shutdown is left with no task behind."""

    async def main():
        async def whole():
            lifespan = Lifespan(app)
            await lifespan.startup()
            await lifespan.shutdown()

        task = asyncio.ensure_future(whole())
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
