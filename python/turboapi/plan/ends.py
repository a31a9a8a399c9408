"""What the source of a composed function calls: dependencies that end after their `yield`, and plain functions in threads.

Not here: that source (compose.py), where a plain function is called (python/src/part.rs).
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from types import CodeType, TracebackType
from typing import Any

import anyio
import fastapi.routing
from anyio.lowlevel import checkpoint_if_cancelled
from fastapi import concurrency
from fastapi.exceptions import FastAPIError

from .._core import Job, Part


async def returned(job: Job) -> Any:
    """What a function in a thread has returned. As under AnyIO, a scope that is cancelled waits for its end."""
    with anyio.CancelScope(shield=True):
        await job.future
    return job.result()


class InThreads:
    """A context manager of a plain generator, entered and left where the function's standing says. FastAPI's
    `contextmanager_in_threadpool`.

    Args:
        begin: what counts for the generator's part before its `yield`.
        end: the same after it.
    """

    __slots__ = ("_begin", "_end", "_manager")

    def __init__(self, manager: AbstractContextManager[Any], begin: Part, end: Part) -> None:
        self._manager = manager
        self._begin = begin
        self._end = end

    async def __aenter__(self) -> Any:
        return await self._call(self._begin, self._manager.__enter__)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        return bool(await self._call(self._end, functools.partial(self._manager.__exit__, kind, error, trace)))

    @staticmethod
    async def _call(part: Part, function: Callable[[], Any]) -> Any:
        try:
            value = part.run(function)
            return await returned(value) if type(value) is Job else value
        except StopAsyncIteration as error:
            # FastAPI's is an asynchronous generator, out of which it cannot come.
            raise RuntimeError("async generator raised StopAsyncIteration") from error


def in_threads(function: Callable[..., Any], begin: Part, end: Part) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Makes context managers of a generator function."""
    manage = contextmanager(function)

    def manage_in_threads(**arguments: Any) -> InThreads:
        return InThreads(manage(**arguments), begin, end)

    return manage_in_threads


#: Whether this FastAPI keeps the end of an asynchronous dependency from being cancelled by what stands around its app.
SHIELDS = hasattr(concurrency, "_asynccontextmanager_with_shielded_exit")


def shielded(function: Callable[..., Any]) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Makes context managers of an asynchronous generator function, that are left within `scope`, shielded.

    The scope is around them all, as one may open further ones, which have to be left before it is.
    """
    manage = asynccontextmanager(function)

    @asynccontextmanager
    async def manage_shielded(scope: anyio.CancelScope, /, **arguments: Any) -> AsyncIterator[Any]:
        was_shielded = scope.shield
        try:
            async with manage(**arguments) as value:
                try:
                    yield value
                finally:
                    scope.shield = True
        finally:
            scope.shield = was_shielded
        # What was told to be cancelled meanwhile.
        await checkpoint_if_cancelled()

    return manage_shielded


def _texts(code: CodeType | None) -> Iterator[str]:
    for constant in () if code is None else code.co_consts:
        if isinstance(constant, CodeType):
            yield from _texts(constant)
        elif isinstance(constant, str):
            yield constant


#: What FastAPI says where what was raised has been suppressed, so that there is no answer: its own words, as handlers and logs know them.
_SAID = _texts(getattr(getattr(fastapi.routing, "request_response", None), "__code__", None))
_NOT_AWAITED = next((text for text in _SAID if text.startswith("Response not awaited")), "Response not awaited")


def not_awaited() -> FastAPIError:
    """What FastAPI raises where a dependency has suppressed what was raised before the answer was sent whole."""
    return FastAPIError(_NOT_AWAITED)
