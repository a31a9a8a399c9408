"""The compiled leaf: a plan that runs inside of the app's own ASGI call, in the place of its router.

So whatever stands around the router (middleware of any kind, tracers, an app class of one's own) is passed by each request as under any
other server, and what is within costs no more than a plan. The leaf asks whether the router would find the same route for the scope that it
is given; if anything is in doubt the router itself is called. It answers by the `send` that it was given, and reads the body by the
`receive`. Not here: what is asked and called (python/src/leaf.rs).
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRouter
from starlette._exception_handler import wrap_app_handling_exceptions
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._core import Matched
from .chain import chain
from .ends import not_awaited, returned
from .inner_call import InnerCall
from .raising import Raising, after_begin

#: Where the scope has what Rust has found. Under another server it is not there, and the app's own router answers.
KEY = "turboapi.matched"

#: Where FastAPI's AsyncExitStackMiddleware has put its stack into the scope.
EXITS_KEY = "fastapi_middleware_astack"

#: The classes of what takes an answer whole where it is the `send`, by its `whole`.
TAKE_WHOLE: set[type] = {InnerCall}

#: Where the scope has what was written into it, for a plan within a route's own app (wrapped.py).
MARKED_KEY = "turboapi.marked"

_placing = threading.Lock()


class Marked(NamedTuple):
    """A request whose route was found, and the scope's `path_params` as they then were."""

    matched: Matched
    path_params: dict[str, Any]
    values: tuple[Any, ...]


def place(router: Any) -> None:
    """Puts a leaf where this router of FastAPI's begins to look for a route, within middleware of its own. Nothing happens twice."""
    with _placing:  # workers in threads serve the same app
        found = innermost(router)
        if found is not None:
            holder, name, stands = found
            if type(stands) is not Leaf:
                setattr(holder, name, Leaf(router, stands))


def innermost(router: Any) -> tuple[Any, str, Any] | None:
    """Who calls what looks for a route, by which attribute, and what that is now; None if there is no known way there."""
    holder, name = router, "middleware_stack"
    for stands in chain(router.middleware_stack):
        if type(stands) is Leaf or getattr(stands, "__func__", None) is APIRouter.app:
            return holder, name, stands
        holder, name = stands, "app"
    return None


class Leaf:
    """An ASGI callable in the place of a router's own.

    Args:
        call_router: what the router does without it.
    """

    def __init__(self, router: Any, call_router: ASGIApp) -> None:
        self._router = router
        self._call_router = call_router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        matched = scope.get(KEY)
        # Without the exit stack, which FastAPI's app puts there, its routes fail.
        if matched is None or EXITS_KEY not in scope or not matched.is_for(self._router, scope):
            await self._call_router(scope, receive, send)
        elif matched.wrapped is not None:
            matched.mark(scope)
            path_params = scope["path_params"]
            scope[MARKED_KEY] = Marked(matched, path_params, tuple(path_params.values()))
            await matched.wrapped.route.handle(scope, receive, send)
        else:
            await run(matched, scope, receive, send, self._call_router)


async def run(
    matched: Matched,
    scope: Scope,
    receive: Receive,
    send: Send,
    otherwise: ASGIApp,
    within: Any = None,
    *,
    asks_twice: bool = False,
) -> None:
    """Answers by the plan.

    Args:
        otherwise: answers a request that is not for the plan after all.
        within: what `send` is, if it may take an answer whole (`TAKE_WHOLE`).
        asks_twice: whether the app's exception handlers are asked for what they themselves have raised, too.
    """
    reader = body = connection = exits = None
    if matched.reads_body:
        reader = _Reader(receive)
        body = await reader.read()
        if body is None:
            await otherwise(scope, reader.again(), send)
            return
    stage = None
    try:
        if matched.takes_connection:
            # PERF: without the coroutine, for most.
            connection = Request(scope, receive, send) if reader is None else await _request(scope, receive, send, reader)
        stage = Stage(matched, scope, receive, send, within)
        if matched.takes_connection and not matched.is_staged:
            exits = _Exits(scope, has_router=asks_twice)
        respond = stage if matched.is_staged else None
        called = matched.call(scope, body, connection, stage.response, stage.tasks, respond)
        if called is not None and called[0] != "invalid":
            kind, value = called
            if kind != "value":
                value = await (value if kind == "awaitable" else returned(value))
            if matched.is_staged:
                return
            answer = stage.make(value)
            if exits is not None and (type(answer) is not tuple or answer[3] is not None or exits.are_used()):
                answer = _sending(stage, answer)
            elif type(answer) is tuple:
                if not stage.send_whole(answer):
                    await stage.send_in_parts(answer)
                return
    except Exception as error:
        answer = Raising(error, stage is not None and stage.has_started)
    else:
        if called is None:
            await otherwise(scope, receive if reader is None else reader.again(), send)
            return
        if called[0] == "invalid":
            errors, was_read, cause = called[1]
            if _answers_invalid(scope):
                await _refuse(matched, errors, stage, scope, receive, send, asks_twice)
                return
            answer = Raising(matched.wording.exception(errors, was_read, cause, scope), False)
    # A response that streams, or does something afterwards, and what was raised: with the app's exception handlers around it.
    # The first of these get the endpoint's own request, whose body was read: it could not be read once more.
    if connection is None:
        connection = await _request(scope, receive, send, reader)
    if exits is not None and stage is not None and not stage.has_started:
        answer = exits.around_router(wrap_app_handling_exceptions(exits.around(answer), connection))
    else:
        answer = wrap_app_handling_exceptions(answer, connection)
    if asks_twice:
        answer = wrap_app_handling_exceptions(answer, Request(scope, receive, send))
    await answer(scope, receive, after_begin(send) if stage is not None and stage.has_started else send)


class Stage:
    """Sends the answer to one request. What has something to do after that is given it as `respond`.

    Args:
        within: what `send` is, if it may take an answer whole (`TAKE_WHOLE`).
    """

    __slots__ = ("_matched", "_receive", "_scope", "_send", "_within", "has_started", "response", "tasks")

    def __init__(self, matched: Matched, scope: Scope, receive: Receive, send: Send, within: Any) -> None:
        self._matched = matched
        self._scope = scope
        self._receive = receive
        self._send = send
        self._within = within
        #: What the function's arguments of these kinds are; None: there is no such argument.
        self.response, self.tasks = matched.make_further()
        self.has_started = False

    def make(self, value: Any) -> Any:
        """What a function's value becomes, as `Matched.answer` has it. Raises what FastAPI raises."""
        return self._matched.answer(value, self.response, self.tasks)

    def send_whole(self, answer: tuple[Any, ...]) -> bool:
        """Sends it if there is nothing to wait for: as that is most often so, without a coroutine. False: `send_in_parts` has to."""
        status, headers, data, background = answer
        # What follows an answer has to be awaited: a `send` that takes it whole does not wait for us.
        if self._within is None or background is not None:
            return False
        self.has_started = True
        return bool(self._within.whole(status, headers, data))

    async def send(self, answer: Any) -> None:
        """Sends it, and does what a response does after that."""
        if type(answer) is not tuple:
            await answer(self._scope, self._receive, self._noting)
        elif not self.send_whole(answer):
            await self.send_in_parts(answer)

    async def send_in_parts(self, answer: tuple[Any, ...]) -> None:
        """The same for one that `send_whole` does not send."""
        status, headers, data, background = answer
        self.has_started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": data})
        if background is not None:
            await self._matched.by_standing(background)()

    def by(self, send: Send) -> Stage:
        """The same, for an answer that goes out another way."""
        self._send, self._within = send, None
        return self

    async def _noting(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
        await self._send(message)


async def _refuse(matched: Matched, errors: list[Any], stage: Stage, scope: Scope, receive: Receive, send: Send, asks_twice: bool) -> None:
    """Answers as FastAPI's stock handler does where arguments are missing or wrong."""
    try:
        await stage.send(matched.refusal(errors))
    except Exception as error:
        # It is raised by that handler: only the handlers further out are asked about it.
        if not asks_twice:
            raise
        outer = wrap_app_handling_exceptions(Raising(error, stage.has_started), Request(scope, receive, send))
        await outer(scope, receive, after_begin(send) if stage.has_started else send)


def _answers_invalid(scope: Scope) -> bool:
    """Whether FastAPI's stock handler answers where arguments are missing or wrong, in the app whose middleware the request is in."""
    handlers = scope.get("starlette.exception_handlers")
    if type(handlers) is not tuple or type(handlers[0]) is not dict:
        return False
    return handlers[0].get(RequestValidationError) is request_validation_exception_handler


class _ExitStack(AsyncExitStack):
    """Without its queue until somebody puts something into it.

    PERF: to make three of these and look at them takes 0.5 µs, of AsyncExitStack 1.2.

    Args:
        used: gets an item when this stack gets its queue.
    """

    __slots__ = ("_used",)

    def __init__(self, used: list[bool]) -> None:
        self._used = used

    def __getattr__(self, name: str) -> Any:
        if name != "_exit_callbacks":
            raise AttributeError(name)
        super().__init__()
        self._used.append(True)
        return self._exit_callbacks  # type: ignore[attr-defined]


_ExitStack.__name__ = AsyncExitStack.__name__  # for logs


class _Exits:
    """FastAPI's exit stacks, in the scope for whoever has the request. Most of the time nobody puts anything into them.

    PERF: to enter and leave two takes 4.6 µs, on a busy machine.
    """

    __slots__ = ("_function", "_request", "_router", "_used")

    def __init__(self, scope: Scope, *, has_router: bool) -> None:
        used: list[bool] = []
        self._used = used
        self._function = scope["fastapi_function_astack"] = _ExitStack(used)
        self._request = scope["fastapi_inner_astack"] = _ExitStack(used)
        self._router = None
        if has_router:
            self._router = scope[EXITS_KEY] = _ExitStack(used)

    def are_used(self) -> bool:
        """Whether anybody may have put something into one of them."""
        return bool(self._used)

    def around(self, answer: Any) -> ASGIApp:
        """Gives the answer, or raises, within them, as FastAPI's `request_response` does."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            has_answered = False
            async with self._request:
                async with self._function:
                    if isinstance(answer, Raising):
                        await answer(scope, receive, send)
                    response = answer
                # Without a response, as an exit has suppressed what was raised, this is an UnboundLocalError, as with FastAPI.
                await response(scope, receive, send)
                has_answered = True
            if not has_answered:
                raise not_awaited()

        return app

    def around_router(self, app: ASGIApp) -> ASGIApp:
        """As FastAPI's AsyncExitStackMiddleware, if it was left out."""
        exits = self._router
        if exits is None:
            return app

        async def within(scope: Scope, receive: Receive, send: Send) -> None:
            async with exits:
                await app(scope, receive, send)

        return within


def _sending(stage: Stage, answer: Any) -> ASGIApp:
    """Sends the answer by the `send` of whoever calls this."""

    async def send_by(scope: Scope, receive: Receive, send: Send) -> None:
        await stage.by(send).send(answer)

    return send_by


async def _request(scope: Scope, receive: Receive, send: Send, reader: _Reader | None) -> Request:
    """As the endpoint has it: with the body, if that was read."""
    if reader is None:
        return Request(scope, receive, send)
    request = Request(scope, reader.again(), send)
    await request.body()
    return request


class _Reader:
    """Reads a body, and gives it once more to somebody else."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: list[Message] = []
        self._error: Exception | None = None

    async def read(self) -> bytes | None:
        """All of it; None if it breaks off, or came in another form than a server's own."""
        parts: list[bytes] = []
        while True:
            try:
                message = await self._receive()
            except Exception as error:
                self._error = error
                return None
            self._messages.append(message)
            if type(message) is not dict or message.get("type") != "http.request":
                return None
            part = message.get("body", b"")
            if type(part) is not bytes:
                return None
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def again(self) -> Receive:
        """A `receive` that begins with what was read. Each begins anew."""
        messages = deque(self._messages)

        async def receive() -> Message:
            if messages:
                return messages.popleft()
            if self._error is not None:
                raise self._error
            return await self._receive()

        return receive
