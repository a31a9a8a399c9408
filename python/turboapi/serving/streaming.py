"""A native route's answer that streams, without the task group that Starlette puts around it.

Starlette runs a generator in a task of its own beside one that waits for the client to go, and cancels the first when the second has
seen it. Here the generator's task is alone as long as nobody goes, and its first step is taken at once. When the client goes it is put
into a scope of AnyIO's and that is cancelled, which is the same to all that it waits for. Otherwise it is as Starlette has it: a copy of
the endpoint's context for the generator, background tasks afterwards in the endpoint's own, whether or not all of it was sent.

Not here: responses of other classes, or within middleware, which answer by their own ASGI call (asgi.py).
Source: starlette/responses.py, StreamingResponse
"""

import asyncio
from contextvars import Context, copy_context
from types import AsyncGeneratorType
from typing import Any

import anyio
from starlette import responses
from starlette.responses import StreamingResponse

from .._core import Exchange
from ..asgi import DROPPED_AT_ONCE_MAX, DROPPED_MAX, TASK_NAME, AsgiApp, ClientDisconnectedError, Gateway, is_disconnect, raised
from ..plan import scopes
from ..plan.answers import HAS_BEGUN
from .background import Background

#: What we stand in for, by name: a library that watches an app may put its own in the place of one of them.
STOCK = {name: getattr(StreamingResponse, name, None) for name in ("__call__", "stream_response", "listen_for_disconnect")}
IS_KNOWN = scopes.is_known() and all(
    getattr(getattr(call, "__code__", None), "co_filename", "") == responses.__file__ for call in STOCK.values()
)


def takes(response: Any) -> bool:
    """Whether Starlette's own code would stream this."""
    if type(response) is not StreamingResponse or not IS_KNOWN:
        return False
    own = response.__dict__
    return all(getattr(StreamingResponse, name) is call and name not in own for name, call in STOCK.items())


class Stream:
    """One answer that streams, of a request of its own.

    Args:
        context: of the endpoint; None: there is none, and what follows the answer has a fresh one, without what the stream sets.
        fail: has what the stream or what follows it has raised (`error_app`).
    """

    __slots__ = ("_background", "_context", "_dropped_count", "_exchange", "_fail", "_gateway", "_is_cut", "_loop", "_response", "_task")

    def __init__(
        self,
        response: StreamingResponse,
        exchange: Exchange,
        context: Context | None,
        fail: AsgiApp,
        loop: asyncio.AbstractEventLoop,
        gateway: Gateway,
        background: Background,
    ) -> None:
        self._response = response
        self._exchange = exchange
        self._context = context
        self._fail = fail
        self._loop = loop
        self._gateway = gateway
        self._background = background
        self._dropped_count = 0
        self._is_cut = False

    def start(self) -> None:
        """Its first step at once."""
        if self._context is None:
            self._context = copy_context()
        self._task = self._gateway.begin(self._run(), self._context.copy())
        if not self._task.done():
            # Not told to event streams when the server ends: these may ask, and say goodbye.
            self._exchange.on_over(self._cut)

    async def _run(self) -> None:
        exchange, response = self._exchange, self._response
        try:
            exchange.start(response.status_code, response.raw_headers)
            async for part in response.body_iterator:
                data: Any = part
                if type(data) is not bytes:
                    # A memoryview first: bytes(7) would be seven zeros.
                    data = bytes(memoryview(data)) if isinstance(data, bytes | memoryview) else data.encode(response.charset)
                try:
                    is_full = exchange.send(data, True)
                except OSError as error:
                    is_full, problem = False, str(error)
                else:
                    problem = ""
                # Outside of the handler: the error would be the context of a cancellation that comes meanwhile.
                if problem:
                    await self._drop(problem)
                elif is_full:
                    writable = asyncio.Event()
                    exchange.on_writable(writable.set)
                    await writable.wait()
            self._end()
        except asyncio.CancelledError:
            self._cancelled()
        except BaseException as error:
            self._failed(error)

    async def _drop(self, problem: str) -> None:
        """A part for a peer that has gone. The stream is about to be cancelled, at its next `await`."""
        if self._dropped_count == DROPPED_MAX:
            raise ClientDisconnectedError(problem)
        self._dropped_count += 1
        if self._dropped_count > DROPPED_AT_ONCE_MAX:
            await asyncio.sleep(0)  # for a stream that never waits

    def _end(self) -> None:
        try:
            self._exchange.send(b"", False)
        except OSError:  # the peer has gone, and has everything that it wanted
            pass
        if self._response.background is None:
            self._exchange.finish()
        else:
            self._go_on()

    def _cancelled(self) -> None:
        if self._gateway.is_cancelling or (self._task_is_cancelled() and not self._is_cut):
            self._exchange.finish()
            raise
        if not self._is_cut:  # nobody cancelled this: the generator raised it
            self._gateway.tell_incomplete(self._exchange)
        self._go_on()

    def _task_is_cancelled(self) -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _failed(self, error: BaseException) -> None:
        if self._loop.is_closed():  # the worker has ended, and this is how its last coroutines learn of it
            self._exchange.finish()
            raise
        if is_disconnect(error):
            self._exchange.finish()
            return
        self._gateway.reported = id(error)  # soon
        further = {**raised(error), HAS_BEGUN: True}
        del error  # it has this frame before long
        self._gateway.start(self._fail, self._exchange, self._context, further=further)

    def _go_on(self) -> None:
        self._gateway.go_on(self._follow(), self._exchange, self._context, self._fail)

    async def _follow(self) -> None:
        """Background tasks, and then the end of a generator that was left in its middle: by itself Python ends it when it is collected."""
        try:
            if self._response.background is not None:
                # As for a task's function: until now the answer is in our hands or the platform's.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                await self._background.after(self._response.background, None, None)
        finally:
            stream = self._response.body_iterator
            if self._is_cut and isinstance(stream, AsyncGeneratorType) and not stream.ag_running:
                await stream.aclose()

    # A client that goes.

    def _cut(self) -> None:
        if not self._task.done():
            self._is_cut = True
            self._gateway.keep(self._loop.create_task(self._cancel(), name=TASK_NAME))

    async def _cancel(self) -> None:
        with anyio.CancelScope() as scope:
            host = asyncio.current_task()
            assert host is not None
            if not self._task.done():
                scopes.adopt(self._task, scope, host)
                scope.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([self._task])
