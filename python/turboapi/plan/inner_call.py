"""One call of the app that a BaseHTTPMiddleware wraps: what goes between its `dispatch` and that app, in Starlette's order.

The app's task takes its first step at once, what it sends goes over by futures, and AnyIO has a part only where something is cancelled,
or waits for the client. An answer that comes whole needs no turn of the loop. Not here: the call of `dispatch` itself (dispatch.py).
Source: starlette/middleware/base.py and anyio/streams/memory.py, from which each of these waits is taken.
"""

import asyncio
import math
from asyncio import CancelledError, Future, Task, current_task
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any, NoReturn

import anyio
from starlette import _utils
from starlette.middleware import base
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response

from .scopes import adopt, in_scope

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: What AnyIO calls a group of exceptions.
GROUP = "unhandled errors in a TaskGroup"


class InnerCall:
    """What one request's `dispatch` has of the app that its middleware wraps. It is the `send` which that app is given.

    An app that has nothing to do after its answer, and nothing but code that has neither between it and this, calls `whole` instead.

    Args:
        middleware: the BaseHTTPMiddleware, whose `app` is called.
        request: Starlette's, which has the body that `dispatch` has read.
        host: the task that runs `dispatch`.
        send: the middleware's own.
    """

    # What most calls never change is not set for each.
    #: What the inner app has raised, and whether `dispatch` was told.
    error: Exception | None = None
    _is_raised = False
    #: What it has raised that no `except Exception` stops.
    _failures: tuple[BaseException, ...] = ()
    #: Set when none of its tasks runs any more.
    _idle: Future[None] | None = None
    #: Whether one of its tasks has ended: then nothing can be sent any more.
    _ends = False
    #: The task that has ended, but would wait until its answer was sent, had it not been given whole.
    _holder: Task[Any] | None = None
    #: Whether each message takes the turns of the loop that it takes in Starlette's way: what goes on beside it may tell.
    _takes_turns = False
    _is_streamed = _is_answering = _is_sent = _is_over = _is_abandoned = _is_host_cancelled = False

    def __init__(self, middleware: BaseHTTPMiddleware, request: Any, host: Task[Any], send: Send) -> None:
        self._middleware = middleware
        self._request = request
        self._host = host
        self._loop = host.get_loop()
        self._send = send
        self._running: set[Task[None]] = set()
        # A channel without room, as Starlette's: what nobody has taken, each with what its sender waits for, and who wait for more.
        self._senders: deque[tuple[Future[None] | None, Message]] = deque()
        self._receivers: deque[Future[Message | None]] = deque()
        #: Who wait for the response to be sent: after the last message, and for the next one of the request.
        self._waiting_for_sent: list[Future[None]] = []
        self._listeners: list[anyio.CancelScope] = []
        self._response: Any = None
        self._stream: Any = None

    # The side of the middleware.

    async def call_next(self, request: Request) -> Response:
        """The response, as soon as it has begun. As in Starlette, the inner app gets the scope of the middleware, not that of `request`."""
        if self._is_over:
            raise RuntimeError("This task group is not active; no new tasks can be started.")
        caller = current_task()
        if caller is not self._host or self._senders or self._ends or caller.cancelling() or in_scope(caller):
            # Another call or its answer may be in the way, or a cancellation be due.
            self._takes_turns = True
            self._start(is_eager=False)
            message = await self._take()
        else:
            receiver: Future[Message | None] = self._loop.create_future()
            self._receivers.append(receiver)
            self._start(is_eager=True)
            message = receiver.result() if receiver.done() else await self._wait(receiver)
        info = None
        while message is not None:
            kind = message["type"]
            if kind == "http.response.debug":
                info = message["info"]
            elif kind == "http.response.early_hint":
                await self._send(message)
            else:
                break
            message = await self._take()
        if message is None:
            self._raise_for_none()
        assert message["type"] == "http.response.start"
        self._is_streamed = False
        self._stream = self._body_stream()
        self._response = response = base._StreamingResponse(status_code=message["status"], content=self._stream, info=info)
        response.raw_headers = message.get("headers", [])
        return response

    def _raise_for_none(self) -> NoReturn:
        """With all that Starlette's way leaves on an exception, as logs and outer middleware show it."""
        try:
            raise anyio.EndOfStream  # noqa: TRY301 - for the context that it leaves
        except anyio.EndOfStream:
            if self.error is not None:
                self._is_raised = True
                raise self.error from self.error.__cause__ or self.error.__context__
            raise RuntimeError("No response returned.")  # noqa: B904 - as above

    def _start(self, *, is_eager: bool) -> None:
        # Not named as a request is, by which a drain finds what it cancels: that is the task it works for, which cancels it in its turn.
        task = Task(self._run(), loop=self._loop, name="turboapi-inner-call", eager_start=is_eager)
        if not task.done():
            self._running.add(task)

    async def _run(self) -> None:
        try:
            await self._middleware.app(self._request.scope, self.receive, self)
        except Exception as error:
            self.error = error
        except BaseException as error:
            self._end_sending()
            # In a moment, as a task group learns of it: whoever waits for a message hears of the end first.
            task = running()
            self._running.add(task)
            self._loop.call_soon(self._fail, error, task)
            return
        if self._holder is None or self._holder is not current_task():
            self._end_sending()
        if self._running:
            self._ended(running())

    def _ended(self, task: Task[None]) -> None:
        self._running.discard(task)
        if not self._running and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _fail(self, error: BaseException, task: Task[None]) -> None:
        """The inner app was cancelled, or has raised what ends more than a request: so `dispatch` is cancelled."""
        if not isinstance(error, CancelledError):
            self._failures += (error,)
        if not (self._is_abandoned or self._is_over):
            self._is_host_cancelled = True
            self._host.cancel()
        self._ended(task)

    async def _take(self) -> Message | None:
        """The next message of the inner app; None if there will be none."""
        # Not if `dispatch` reads an answer that is whole already: nothing else of this request could go on meanwhile.
        if self._takes_turns or self._is_answering or not self._senders or self._senders[0][0] is not None:
            await asyncio.sleep(0)
        if self._is_over:
            raise anyio.ClosedResourceError
        if self._senders:
            sender, message = self._senders.popleft()
            if sender is not None and not sender.done():
                sender.set_result(None)
            return message
        if self._ends:
            return None
        receiver: Future[Message | None] = self._loop.create_future()
        self._receivers.append(receiver)
        return await self._wait(receiver)

    async def _wait(self, receiver: Future[Message | None]) -> Message | None:
        try:
            message = await receiver
        except BaseException:
            if receiver in self._receivers:
                self._receivers.remove(receiver)
            raise
        if message is None and self._is_over:
            raise anyio.ClosedResourceError
        return message

    async def _body_stream(self) -> AsyncGenerator[Any, None]:
        self._is_streamed = True
        while (message := await self._take()) is not None:
            if message["type"] == "http.response.pathsend":
                yield message
                break
            assert message["type"] == "http.response.body", f"Unexpected message: {message}"
            body = message.get("body", b"")
            if body:
                yield body
            if not message.get("more_body", False):
                break

    def tell_that_it_goes_on(self) -> None:
        """The inner app goes on while the response is sent: how many turns that takes in the calls around this one, it may tell."""
        if self._running and type(self._send) is InnerCall:
            self._send._takes_turns = True

    def unread_body(self, response: Any) -> bytes | None:
        """From here on the response is sent. Its body, if the inner app has given it whole and nobody has touched its stream."""
        self._is_answering = True
        if response is not self._response or self._is_streamed or len(self._senders) != 1:
            return None
        sender, message = self._senders[0]
        stream = self._stream
        if sender is not None or message["type"] != "http.response.body" or response.body_iterator is not stream:
            return None
        if type(response) is not base._StreamingResponse or stream.ag_frame is None:  # it was closed
            return None
        self._senders.clear()
        return message.get("body", b"")

    async def answer(self, response: Any, body: bytes) -> None:
        """As the response itself does it, without its stream."""
        send = self._send
        if response.info is not None:
            await send({"type": "http.response.debug", "info": response.info})
        elif type(send) is InnerCall and not self._running and not response.background and self.error is None:
            # Right below another one: nothing between them goes on when this one has answered.
            below = getattr(send._middleware.app, "middleware", None)
            if below is self._middleware and send.whole(response.status_code, response.raw_headers, body):
                return
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        if body:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if response.background:
            await response.background()

    async def finish(self) -> None:
        """The response was sent: the inner app may go on, and is waited for."""
        self._is_sent = self._is_over = True
        for waiter in self._waiting_for_sent:
            if not waiter.done():
                waiter.set_result(None)
        for listener in self._listeners:
            listener.cancel()
        self._close()
        await self._wait_for_all()
        if self._failures:
            failure, self._failures = self._failures[0], self._failures[1:]
            raise failure

    async def _wait_for_all(self) -> None:
        while self._running:
            self._idle = self._loop.create_future()
            await self._idle

    def _close(self) -> None:
        """Nothing is taken any more."""
        for sender, _ in self._senders:
            if sender is not None and not sender.done():
                sender.set_result(None)
        self._senders.clear()
        for receiver in self._receivers:
            if not receiver.done():
                receiver.set_result(None)
        self._receivers.clear()

    async def abandon(self, error: BaseException) -> None:
        """`dispatch` or the response has raised this, or was cancelled: so the inner app is, and is waited for.

        By a task group of AnyIO, which is entered now, when nothing of what `dispatch` has entered is left.

        Raises:
            BaseException: `error`, or a group of it and what the inner app's tasks have raised, or what they have raised if they are why
                `dispatch` was cancelled.
        """
        self._is_abandoned = True
        is_ours = self._is_host_cancelled and isinstance(error, CancelledError) and self._host.uncancel() == 0
        try:
            if isinstance(error, GeneratorExit) or not (self._running or self._failures):
                if not is_ours:
                    raise_alone(error)
                return
            async with _utils.create_collapsing_task_group() as group:
                for task in self._running:
                    adopt(task, group.cancel_scope, self._host)
                group.start_soon(self._outlast)
                if is_ours:
                    group.cancel_scope.cancel()
                else:
                    raise error
        finally:
            self._is_over = True
            self._close()
            if not is_ours:
                self._let_go()

    async def _outlast(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._wait_for_all()
        if len(self._failures) > 1:
            raise BaseExceptionGroup(GROUP, self._failures)
        for failure in self._failures:
            raise failure

    def end(self) -> None:
        """Raises what the inner app has raised after its response had begun, or while nobody asked for one."""
        error = None if self._is_raised else self.error
        self._let_go()
        if error is not None:
            try:
                raise error
            finally:
                del error

    def _let_go(self) -> None:
        """Of what would keep this in a circle."""
        self.error = self._response = self._stream = None

    # The side of the inner app.

    async def __call__(self, message: Message) -> None:
        """A message of the inner app. Waits until it was taken, after the last one until the response was sent.

        Raises:
            anyio.ClosedResourceError: a call of the inner app has ended already.
        """
        kind = message["type"]
        is_last = kind == "http.response.pathsend" or (kind == "http.response.body" and not message.get("more_body", False))
        # Without the turn of the loop where nobody can tell: `dispatch` waits for the start, and after the last nothing goes on.
        if self._takes_turns or not (is_last or (kind == "http.response.start" and self._receivers)):
            await asyncio.sleep(0)
        if self._ends:
            raise anyio.ClosedResourceError
        if self._is_over:
            return
        if not self._hand(message):
            if is_last:
                self._senders.append((None, message))
            else:
                sender: Future[None] = self._loop.create_future()
                entry = (sender, message)
                self._senders.append(entry)
                try:
                    await sender
                except BaseException:
                    self._withdraw(message)
                    raise
        if is_last and not self._is_sent:
            waiter: Future[None] = self._loop.create_future()
            self._waiting_for_sent.append(waiter)
            try:
                await waiter
            except BaseException:
                self._withdraw(message)
                raise

    def calls(self, app: Any) -> bool:
        """Whether this app is what the middleware calls, and not something further in."""
        return self._middleware.app is app

    def whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Takes an answer whole, and waits for nothing: the app returns at once, and whoever called it.

        Returns:
            False if it cannot be taken so, and nothing was: then send it in messages.
        """
        if self._senders or self._ends or self._is_over:
            return False
        if not self._hand({"type": "http.response.start", "status": status, "headers": headers}):
            return False
        self._senders.append((None, {"type": "http.response.body", "body": body}))
        self._holder = current_task()
        return True

    def _hand(self, message: Message) -> bool:
        """Gives it to whoever waits for it longest."""
        while self._receivers:
            receiver = self._receivers.popleft()
            if not receiver.done():
                receiver.set_result(message)
                return True
        return False

    def _withdraw(self, message: Message) -> None:
        for entry in self._senders:
            if entry[1] is message:
                self._senders.remove(entry)
                return

    def _end_sending(self) -> None:
        self._ends = True
        while self._hand(None):  # type: ignore[arg-type]
            pass

    async def receive(self) -> Message:
        """What the middleware's request has of the body; the disconnect once the response was sent."""
        if self._is_sent:
            return {"type": "http.disconnect"}
        request = self._request
        is_cancelled = in_scope(running()) and anyio.current_effective_deadline() == -math.inf
        if is_at_hand(request) and not is_cancelled:
            return await request.wrapped_receive()
        with anyio.CancelScope() as scope:
            self._listeners.append(scope)
            try:
                message = await request.wrapped_receive()
                if is_cancelled:  # what `is_disconnected()` asks in: Starlette's takes a turn more, and so never has an answer
                    await asyncio.sleep(0)
            except CancelledError:
                raise
            except BaseException as error:
                # As it comes out of the task group that Starlette has for each of these.
                raise BaseExceptionGroup(GROUP, [error]) from None
            finally:
                self._listeners.remove(scope)
        return {"type": "http.disconnect"} if self._is_sent else message


def raise_alone(error: BaseException) -> NoReturn:
    """As the one exception of a task group that collapses."""
    if isinstance(error, CancelledError | GeneratorExit):
        raise error
    try:
        raise BaseExceptionGroup(GROUP, [error])  # noqa: TRY301 - for the context that it leaves
    except BaseExceptionGroup:
        raise error from error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def running() -> Task[Any]:
    task = current_task()
    assert task is not None
    return task


def is_at_hand(request: Any) -> bool:
    """Whether the request has its next message for the inner app already."""
    if request._wrapped_rcv_disconnected:
        return True
    if request._wrapped_rcv_consumed:
        return request._is_disconnected
    return request._stream_consumed or getattr(request, "_body", None) is not None
