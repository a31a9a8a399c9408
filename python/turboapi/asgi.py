"""The app's own ASGI call for one request: the protocol's messages over an `Exchange` of `_core`.

What no native plan covers alone comes here: other ASGI apps, plans within an app's middleware, mounted apps,
responses that stream, and exceptions of native handlers. Not here: lifespan (lifespan.py), WebSocket.
Source: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from contextvars import Context
from types import AsyncGeneratorType, FrameType
from typing import Any
from urllib.parse import quote

from fastapi.encoders import jsonable_encoder
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, StreamingResponse

from . import strangers
from ._core import Exchange, Matched, Proxies
from .plan.leaf import KEY, TAKE_WHOLE

logger = logging.getLogger("turboapi")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

#: Not 2.4, where only what is sent tells of a peer that has gone: Starlette would leave a stream that waits for its next event alone,
#: for ever. Under 2.3 it listens, and cancels the stream.
VERSION = {"version": "3.0", "spec_version": "2.3"}

#: Of each task that answers a request, by which the worker finds those that it has to wait for or cancel at its end. The tasks of native
#: routes are made in Rust (python/src/event_loop.rs), under the same name.
TASK_NAME = "turboapi-request"

#: Parts of a stream that are dropped until the task that waits for its end has ended it. One that goes on all the same shall not for ever.
DROPPED_MAX = 16

#: Of these the ones that are dropped at once, as it is better cancelled in its own `await` than in `send`: then its `finally` runs at
#: once, not when its generator is collected.
DROPPED_AT_ONCE_MAX = 4


class ClientDisconnectedError(OSError):
    """A stream goes on for a peer that has gone. An OSError, as ASGI 2.4 wants it, and frameworks know what it means."""


class Gateway:
    """Runs ASGI apps for the exchanges of one worker.

    Args:
        loop: the worker's loop.
        servers: address and port of each listener; (path, None) for a Unix socket.
        root_path: the path under which a proxy serves the app.
        proxies: who is believed when he says whom he asks for.
        request_state: makes the `state` of a request's scope.
        exceptions: where each exception that became a 500 is put.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        servers: Sequence[tuple[str, int | None]],
        root_path: str,
        proxies: Proxies,
        request_state: Callable[[], dict[str, Any]],
        exceptions: list[BaseException] | None,
    ) -> None:
        self._loop = loop
        self._servers = list(servers)
        self.root_path = root_path
        self.proxies = proxies
        self._raw_root_path = quote(root_path).encode("ascii")
        self._request_state = request_state
        self._exceptions = exceptions
        #: Whether the time of a drain is over, and the worker has cancelled its requests.
        self.is_cancelling = False
        #: The `id` of what was raised last and is logged with its request.
        self.reported = 0
        #: Requests that are being answered.
        self.tasks: set[asyncio.Task[None]] = set()

    def start(
        self,
        app: AsgiApp,
        exchange: Exchange,
        context: Context | None = None,
        matched: Matched | None = None,
        further: dict[str, Any] | None = None,
    ) -> None:
        """Calls the app for this request: its first step at once, the rest as a task of the loop, in this context or a fresh copy.

        Args:
            matched: what Rust has found, for the leaf that stands in the place of the app's router.
            further: what else is in the scope; it is emptied.
        """
        scope = self._scope(exchange, further or {})
        if matched is not None:
            scope[KEY] = matched
            matched.remember(scope)
        self.begin(self._run(app, scope, exchange), context)

    async def call(self, app: AsgiApp, exchange: Exchange, further: dict[str, Any]) -> None:
        """Calls an app for this request, within a task that answers it. Whatever it raises is raised here.

        Args:
            further: what else is in the scope.
        """
        scope, call = self._scope(exchange, further), Call(exchange)
        try:
            await app(scope, call.receive, call)
        finally:
            if call.cut_streams:
                await self._close(call.cut_streams, scope)

    def finish(self, exchange: Exchange) -> None:
        """The app that had to answer has returned."""
        if not exchange.finish():
            self.tell_incomplete(exchange)

    def tell_incomplete(self, exchange: Exchange) -> None:
        """Logs that nobody goes on with an answer."""
        scope: dict[str, Any] = {}
        exchange.fill(scope, self.root_path, self._raw_root_path, self._servers, self.proxies)
        logger.error("%s %r: the app returned before its answer was complete", scope["method"], scope["path"])

    def go_on(self, work: Awaitable[None], exchange: Exchange, context: Context | None, fail: AsgiApp) -> None:
        """Awaits what follows an answer, in a task of the same kind.

        Args:
            exchange: of the answer, which is over.
            fail: is called if it raises, as the exception's own call.
        """
        self.begin(self._go_on(work, exchange, fail), context)

    def begin(self, coroutine: Coroutine[Any, Any, None], context: Context | None) -> asyncio.Task[None]:
        """Runs a coroutine as a task that answers a request: its first step at once."""
        task = asyncio.Task(coroutine, loop=self._loop, name=TASK_NAME, context=context, eager_start=True)
        self.keep(task)
        return task

    def keep(self, task: asyncio.Task[None]) -> None:
        """The worker's end waits for this one, too."""
        if not task.done():
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def _scope(self, exchange: Exchange, further: dict[str, Any]) -> Scope:
        scope: Scope = {"type": "http", "asgi": VERSION, "root_path": self.root_path, "state": self._request_state()}
        exchange.fill(scope, self.root_path, self._raw_root_path, self._servers, self.proxies)
        scope.update(further)
        further.clear()  # what was raised has our frames, and they have this
        return scope

    async def _go_on(self, work: Awaitable[None], exchange: Exchange, fail: AsgiApp) -> None:
        try:
            await work
        except BaseException as error:
            await self._run(fail, self._scope(exchange, raised(error)), exchange)
        else:
            exchange.finish()

    async def _run(self, app: AsgiApp, scope: Scope, exchange: Exchange) -> None:
        call = Call(exchange)
        try:
            # PERF: not by `call`, whose coroutine each message would pass.
            try:
                await app(scope, call.receive, call)
            finally:
                if call.cut_streams:
                    await self._close(call.cut_streams, scope)
        except asyncio.CancelledError as error:
            exchange.finish()
            task = asyncio.current_task()
            # AnyIO's scopes take back what they were told on the way: of a request that the drain has cancelled nothing is left to ask.
            if self.is_cancelling or (task is not None and task.cancelling()):
                raise
            self.report(scope, error)  # nobody cancelled this task: the app raised it
        except BaseException as error:  # SystemExit too: one request must not end the worker
            exchange.finish()
            if is_disconnect(error):
                return
            if self._loop.is_closed():  # the worker has ended, and this is how its last coroutines learn of it
                raise
            self.report(scope, error)
        else:
            self.finish(exchange)
        finally:
            # What was raised has frames that have the scope.
            scope.pop("turboapi.exception", None)
            scope.pop("turboapi.traceback", None)

    async def _close(self, streams: list[AsyncGeneratorType[Any, Any]], scope: Scope) -> None:
        """Ends generators that were left in their middle. By itself Python does it when they are collected, which may be long after."""
        for stream in streams:
            if not stream.ag_running:
                try:
                    await stream.aclose()
                except Exception as error:
                    self.report(scope, error)

    def report(self, scope: Scope, error: BaseException) -> None:
        """Logs what an app or a handler raised; nothing of it goes to the peer."""
        if error is scope.get("turboapi.exception"):
            # Without the way through the app's exception handlers: where it was raised is what matters.
            error.__traceback__ = scope["turboapi.traceback"]
        self.reported = id(error)
        if self._exceptions is not None:
            self._exceptions.append(error)
        logger.error("%s %r raised %s", scope["method"], scope["path"], in_one_line(scope, error), exc_info=error)


def raised(error: BaseException) -> dict[str, Any]:
    """What the scope of an exception's own call has of it."""
    return {"turboapi.exception": error, "turboapi.traceback": error.__traceback__}


def is_disconnect(error: BaseException) -> bool:
    """Whether all that failed is that the peer has gone: Starlette makes an error of its own of ours."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_disconnect(part) for part in error.exceptions)
    return isinstance(error, ClientDisconnectedError | ClientDisconnect)


def in_one_line(scope: Scope, error: BaseException) -> str:
    """`ValueError`, and if JSON could not hold what a route returned: which route, and the type that JSON cannot hold."""
    words = [type(error).__name__]
    if cure := strangers.hint(error):
        words.append(cure)
    unwritable, step = None, error.__traceback__
    while step is not None:
        # FastAPI's and Starlette's own errors do not say what it was, their frames do.
        if step.tb_frame.f_code is jsonable_encoder.__code__:
            unwritable = step.tb_frame.f_locals.get("obj")
        elif step.tb_frame.f_code is JSONResponse.render.__code__:
            unwritable = step.tb_frame.f_locals.get("content")
        step = step.tb_next
    if unwritable is not None:
        route = getattr(scope.get("route"), "path", None)
        where = "" if route is None else f" in the answer of {route}"
        words.append(f"JSON cannot hold a {type(unwritable).__qualname__}{where} ({str(error)[:200]!r})")
    return "; ".join(words)


class Call:
    """`receive` of one request, and itself its `send`. Any number of tasks of the app may wait in them."""

    __slots__ = (
        *("_disconnected", "_dropped_count", "_exchange", "_is_body_received", "_listeners_count", "_over", "_readable", "_writable"),
        *("cut_streams", "has_begun"),
    )

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._is_body_received = False
        #: Whether the app has begun its answer, or has tried to.
        self.has_begun = exchange.started
        #: Generators whose part was being sent when their task was cancelled.
        self.cut_streams: list[AsyncGeneratorType[Any, Any]] = []
        #: The tasks that wait for the end, or have been told of it.
        self._listeners_count = 0
        self._dropped_count = 0
        self._disconnected: asyncio.Event | None = None
        self._over: asyncio.Event | None = None
        self._readable: asyncio.Event | None = None
        self._writable: asyncio.Event | None = None

    @property
    def is_held_back(self) -> bool:
        """Whether the app has begun its answer, and middleware has not passed it on."""
        return self._exchange.held_back

    async def receive(self) -> Message:
        """What has come of the body, at least a byte but for its end, and after that the end: when the peer is gone or has its answer.

        A body that breaks off ends with `http.disconnect`, and what had come of it is not given any more.
        """
        listens = is_in_listener(sys._getframe(1))
        # The listener would read the body away from a stream that is made of it, and throw it away.
        while not (self._is_body_received or listens):
            part = self._exchange.read()
            if part is not None:
                body, more = part
                self._is_body_received = not more
                return {"type": "http.request", "body": body, "more_body": more}
            if self._exchange.disconnected:
                break
            if self._readable is None:
                self._readable = asyncio.Event()
            # One for all that wait: the first has what there is, the others wait again.
            self._readable.clear()
            self._exchange.on_body(self._readable.set)
            await self._readable.wait()
            if self._is_body_received:  # another one had the rest of it
                return {"type": "http.request", "body": b"", "more_body": False}
        self._listeners_count += 1
        try:
            await self._disconnect(heeds_drain=not listens)
        except BaseException:
            self._listeners_count -= 1  # looked, and went, as `request.is_disconnected()` does
            raise
        return {"type": "http.disconnect"}

    async def _disconnect(self, heeds_drain: bool) -> None:
        if not self._exchange.disconnected:
            if self._disconnected is None:
                # One for all who ask, however often: most of them look and go.
                self._disconnected = asyncio.Event()
                self._exchange.on_disconnect(self._disconnected.set)
            await self._disconnected.wait()
        if not (self._exchange.over or heeds_drain):
            # The server ends, and this is an event stream. It may ask, and say goodbye; the listener would cancel it.
            if self._over is None:
                self._over = asyncio.Event()
                self._exchange.on_over(self._over.set)
            await self._over.wait()

    def whole(self, status: int, headers: Any, body: bytes) -> bool:
        """The whole answer at once, with nothing to wait for: as two messages, the second of which says that no more follows."""
        self.has_begun = True
        self._exchange.whole(status, headers, body)
        return True

    async def __call__(self, message: Message) -> None:
        """`send`: a part of the answer. Waits while the peer is too slow to take what was sent before.

        What is sent to a peer that has gone is dropped, if nothing is to follow it: what the app does after its answer (a background
        task, the end of a dependency) is no less due. So is a part of a stream, if the app is about to learn of it by `receive`.

        Raises:
            ClientDisconnectedError: the peer has gone, and the app goes on.
            RuntimeError: the messages come in an order that has no meaning or have an unknown type, or the body does not fit
                the app's own Content-Length.
            ValueError: a header or status that HTTP cannot hold; nothing of it was sent.
        """
        kind = message["type"]
        if kind == "http.response.body":
            data, more = message.get("body", b""), bool(message.get("more_body", False))
            # A memoryview first: bytes(7) would be seven zeros.
            data = data if type(data) is bytes else bytes(memoryview(data))
            try:
                is_full = self._exchange.send(data, more)
            except OSError as error:
                # Waited for outside of here: the error would be the context of a cancellation that comes meanwhile, and hold the
                # app's frames, and with them its generator, until the next collection.
                is_full, problem = False, str(error)
            else:
                problem = None
            try:
                if problem is not None and more:
                    await self._drop(problem)
                elif is_full:
                    if self._writable is None:
                        self._writable = asyncio.Event()
                    self._writable.clear()
                    self._exchange.on_writable(self._writable.set)
                    await self._writable.wait()
            except asyncio.CancelledError:
                self._note_cut(sys._getframe(1))
                raise
        elif kind == "http.response.start":
            self.has_begun = True
            self._exchange.start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"message type is {kind!r}, allowed are http.response.start and http.response.body")

    def _note_cut(self, sender: FrameType | None) -> None:
        """Keeps the generators of the streaming responses (Starlette's, and those of its BaseHTTPMiddleware) that have called `send`."""
        for _ in range(LISTENER_DEPTH_MAX):
            if sender is None:
                return
            stream = getattr(sender.f_locals.get("self"), "body_iterator", None)
            if isinstance(stream, AsyncGeneratorType) and stream not in self.cut_streams:
                self.cut_streams.append(stream)
            sender = sender.f_back

    async def _drop(self, problem: str) -> None:
        if not self._listeners_count or self._dropped_count == DROPPED_MAX:
            raise ClientDisconnectedError(problem)
        self._dropped_count += 1
        if self._dropped_count > DROPPED_AT_ONCE_MAX:
            await asyncio.sleep(0)  # for a stream that never waits


TAKE_WHOLE.add(Call)

#: None where a version of Starlette has it no more: then any receiver is given the body.
LISTENER_CODE = getattr(getattr(StreamingResponse, "listen_for_disconnect", None), "__code__", None)

#: Frames between `receive` and the listener: one, and four more for each BaseHTTPMiddleware.
LISTENER_DEPTH_MAX = 16


def is_in_listener(frame: FrameType | None) -> bool:
    """Whether this call was made by the part of Starlette's StreamingResponse that cancels its stream when the peer has gone."""
    for _ in range(LISTENER_DEPTH_MAX):
        if frame is None:
            return False
        if frame.f_code is LISTENER_CODE:
            return True
        frame = frame.f_back
    return False
