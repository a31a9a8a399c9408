"""The ASGI lifespan of one app on one worker's loop: start-up before the first request, shutdown after the last.

The app's coroutine runs in one task from start-up to shutdown, as a context manager that is entered here must be left in the
same task. Not here: requests (asgi.py), and when to start and stop (worker.py).
Source: https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Literal

from ..errors import LifespanError

logger = logging.getLogger("turboapi")

Mode = Literal["auto", "on", "off"]


class Lifespan:
    """The lifespan of one app. `startup()` and `shutdown()` are awaited on the loop that serves its requests.

    Args:
        app: the ASGI app.
        mode: "auto" takes an app that knows no lifespan as it is; "on" makes that an error; "off" does not ask the app.
    """

    def __init__(self, app: Callable[..., Any], mode: Mode = "auto") -> None:
        self._app = app
        self._mode = mode
        self._task: asyncio.Task[None] | None = None
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()  # what the app sent; None: its coroutine is over
        self._error: BaseException | None = None
        self._has_received = False
        #: What the app put there at start-up. A request gets its own shallow copy of it, see `request_state`.
        self.state: dict[str, Any] = {}

    def request_state(self) -> dict[str, Any]:
        """A new dict for one request's `scope["state"]`: the same objects, but a key set in it stays with the request."""
        return self.state.copy()

    async def startup(self, timeout: float | None = None) -> None:
        """Runs the app's start-up.

        Raises:
            LifespanError: the app said that it failed, did not answer in time, or (mode "on") knows no lifespan.
        """
        if self._mode == "off":
            return
        self._messages.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.get_running_loop().create_task(self._run(), name="turboapi-lifespan")
        try:
            async with asyncio.timeout(timeout):
                event = await self._events.get()
            await self._settle_startup(event)
        except TimeoutError as error:
            await self._cancel()
            raise LifespanError(f"start-up of the app took longer than {timeout:g} s (startup_timeout)") from error
        except BaseException:
            await self._cancel()
            raise

    async def shutdown(self, timeout: float | None = None) -> bool:
        """Runs the app's shutdown and waits for the end of its coroutine; cancels it when the time is over.

        Returns:
            False if the shutdown failed or was cut short; that has been logged.
        """
        if self._task is None:
            return True
        if self._task.done():
            return self._is_well()
        self._messages.put_nowait({"type": "lifespan.shutdown"})
        try:
            async with asyncio.timeout(timeout):
                event = await self._events.get()
                if event is not None and event["type"] == "lifespan.shutdown.complete":
                    await asyncio.wait([self._task])
                    event = None
        except TimeoutError:
            await self._cancel()
            logger.error("shutdown of the app took longer than %g s (cancel_timeout) and was cancelled", timeout)
            return False
        except BaseException:
            await self._cancel()
            raise
        if event is not None:
            await self._join(1.0)
            logger.error("shutdown of the app failed: %s", event.get("message") or event["type"])
            return False
        return self._is_well()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError as error:
            self._error = error
            raise
        except BaseException as error:  # SystemExit too: it must not end the worker's loop unseen
            self._error = error
        finally:
            self._events.put_nowait(None)

    async def _receive(self) -> dict[str, Any]:
        self._has_received = True
        return await self._messages.get()

    async def _send(self, message: dict[str, Any]) -> None:
        self._events.put_nowait(message)

    async def _settle_startup(self, event: dict[str, Any] | None) -> None:
        if event is None:
            self._settle_without_lifespan()
        elif event["type"] == "lifespan.startup.failed":
            # The app usually raises right after it said so: what it raised is the better account of it.
            await self._join(1.0)
            reason = str(event.get("message", ""))
            detail = describe(self._error) or last_line(reason) or "the app gave no reason"
            raise LifespanError(f"start-up of the app failed: {detail}", reason=reason) from self._error
        elif event["type"] != "lifespan.startup.complete":
            raise LifespanError(f"start-up of the app answered {event['type']!r}, allowed are lifespan.startup.complete and .failed")

    def _settle_without_lifespan(self) -> None:
        """The coroutine ended before it answered: by the specification the app has no lifespan, and is served without."""
        what = describe(self._error) or "it returned without an answer"
        if self._mode == "on":
            raise LifespanError(f"the app has no lifespan, and lifespan is 'on': {what}") from self._error
        if self._has_received and self._error is not None:
            # Many apps that look like this one have a start-up that is broken: say so loudly.
            logger.warning("the app raised on lifespan.startup and is served without a lifespan", exc_info=self._error)
        else:
            logger.debug("the app has no lifespan: %s", what)
        self._task = None

    def _is_well(self) -> bool:
        """The coroutine is over. Logs what it raised, if it did."""
        if self._error is None:
            return True
        logger.error("the lifespan of the app raised", exc_info=self._error)
        return False

    async def _join(self, timeout: float) -> None:
        """Waits for the coroutine, then cancels it."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout)
            await self._cancel()

    async def _cancel(self) -> None:
        """Cancels the coroutine and waits one second for it, not for ever: an app may swallow its cancellation."""
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1.0)


def describe(error: BaseException | None) -> str:
    """`ValueError: no such table`, or nothing."""
    if error is None:
        return ""
    text = str(error).strip()
    if isinstance(error, ValueError | RuntimeError) and "main thread" in text:
        text += "; of several worker threads none is the main one: serve with --workers 1, or without --worker-kind threads"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def last_line(text: str) -> str:
    """The last line of a traceback: what was raised."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
