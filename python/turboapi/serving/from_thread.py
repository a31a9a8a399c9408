"""`anyio.from_thread` in the threads that `def`s run in: it works in those of a pool, and on the worker's own it says that it was needed.

There the loop cannot turn while a function waits for it. AnyIO's own error is raised, and the function loses its standing. Not here: calls
that name their loop themselves, which wait for ever (`from_thread.run(..., token=...)`, `run_coroutine_threadsafe(...).result()`).
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import anyio.from_thread

from .. import _core

try:
    # Private: AnyIO has no public way to bring threads of one's own.
    from anyio._backends._asyncio import AsyncIOBackend
    from anyio._core._eventloop import claim_worker_thread, threadlocals
except ImportError:
    IS_KNOWN = False
else:
    IS_KNOWN = True

logger = logging.getLogger("turboapi")


@contextlib.contextmanager
def works(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Makes the calling thread one from which `anyio.from_thread` reaches the loop."""
    if not IS_KNOWN:
        logger.warning("this version of AnyIO does not let our threads use anyio.from_thread")
        yield
        return
    with claim_worker_thread(AsyncIOBackend, loop):
        threadlocals.current_cancel_scope = None  # for check_cancelled(): nobody cancels a handler
        yield


def is_noted(loop: asyncio.AbstractEventLoop) -> AbstractContextManager[None]:
    """Has it noted where a function on the calling thread, a worker's own, uses `anyio.from_thread`."""
    return claim_worker_thread(_Noting, loop) if IS_KNOWN else contextlib.nullcontext()


class _Noting:
    """What AnyIO calls in the place of its backend."""

    @staticmethod
    def check_cancelled() -> None:
        """Nobody cancels a handler."""
        if asyncio._get_running_loop() is not None:
            _refuse(anyio.from_thread.check_cancelled)

    @staticmethod
    def run_async_from_thread(*arguments: Any, **options: Any) -> None:
        _note_and_refuse()

    run_sync_from_thread = run_async_from_thread


def _note_and_refuse() -> None:
    # Within the loop, where it is a mistake anywhere, it tells nothing of a function.
    if asyncio._get_running_loop() is None:
        _core.note_needs_thread()
    _refuse(anyio.from_thread.run_sync, int)


def _refuse(call: Any, *arguments: Any) -> None:
    """Raises what AnyIO does in a thread that it does not know."""
    known = vars(threadlocals).copy()
    vars(threadlocals).clear()
    try:
        call(*arguments)
    finally:
        vars(threadlocals).update(known)
