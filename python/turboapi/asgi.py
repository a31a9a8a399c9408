"""The app's own ASGI call for one request: the protocol's messages over an `Exchange` of `_core`.

What no native plan covers comes here: other ASGI apps, routes with dependencies, middleware, mounted apps, responses that stream,
and exceptions of native handlers. Not here: lifespan (lifespan.py), WebSocket.
Source: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from fastapi.encoders import jsonable_encoder
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from ._core import Exchange

logger = logging.getLogger("turboapi")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

VERSION = {"version": "3.0", "spec_version": "2.4"}
TASK_NAME = "turboapi-request"


class ClientDisconnectedError(OSError):
    """An answer was sent to a peer that has gone. ASGI 2.4 wants an OSError here, and frameworks know what it means."""


class Gateway:
    """Runs ASGI apps for the exchanges of one worker.

    Args:
        loop: the worker's loop.
        server: address and port that the worker listens on; (path, None) for a Unix socket.
        root_path: the path under which a proxy serves the app.
        request_state: makes the `state` of a request's scope.
        exceptions: where each exception that became a 500 is put.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: tuple[str, int | None],
        root_path: str,
        request_state: Callable[[], dict[str, Any]],
        exceptions: list[BaseException] | None,
    ) -> None:
        self._loop = loop
        self._server = server
        self._root_path = root_path
        self._raw_root_path = quote(root_path).encode("ascii")
        self._request_state = request_state
        self._exceptions = exceptions
        #: Requests that are being answered.
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, app: AsgiApp, exchange: Exchange, **further: Any) -> None:
        """Calls the app for this request: its first step at once, the rest as a task of the loop."""
        # The path is the client's: a proxy that serves the app under root_path has taken that off.
        scope: Scope = {
            "type": "http",
            "asgi": VERSION,
            "http_version": exchange.http_version,
            "server": self._server,
            "client": exchange.client,
            "scheme": "http",
            "method": exchange.method,
            "root_path": self._root_path,
            "path": self._root_path + exchange.path,
            "raw_path": self._raw_root_path + exchange.raw_path,
            "query_string": exchange.query_string,
            "headers": exchange.headers,
            "state": self._request_state(),
            **further,
        }
        task = asyncio.Task(self._run(app, scope, exchange), loop=self._loop, name=TASK_NAME, eager_start=True)
        if not task.done():
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _run(self, app: AsgiApp, scope: Scope, exchange: Exchange) -> None:
        call = Call(exchange)
        try:
            await app(scope, call.receive, call.send)
        except asyncio.CancelledError as error:
            exchange.finish()
            task = asyncio.current_task()
            if task is not None and task.cancelling():
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
            was_disconnected = exchange.disconnected
            if not exchange.finish() and not was_disconnected:
                logger.error("%s %r: the app returned before its answer was complete", scope["method"], scope["path"])

    def report(self, scope: Scope, error: BaseException) -> None:
        """Logs what an app or a handler raised; nothing of it goes to the peer."""
        if error is scope.get("turboapi.exception"):
            # Without the way through the app's exception handlers: where it was raised is what matters.
            error.__traceback__ = scope["turboapi.traceback"]
        if self._exceptions is not None:
            self._exceptions.append(error)
        logger.error("%s %r raised %s", scope["method"], scope["path"], in_one_line(scope, error), exc_info=error)


def is_disconnect(error: BaseException) -> bool:
    """Whether all that failed is that the peer has gone: Starlette makes an error of its own of ours."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_disconnect(part) for part in error.exceptions)
    return isinstance(error, ClientDisconnectedError | ClientDisconnect)


def in_one_line(scope: Scope, error: BaseException) -> str:
    """`ValueError`, and if JSON could not hold what a route returned: which route, and the type that JSON cannot hold."""
    words = [type(error).__name__]
    if notes := getattr(error, "__notes__", None):  # a native route's, with its path
        words.append(str(notes[0]))
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
        where = "" if notes or route is None else f" in the answer of {route}"
        words.append(f"JSON cannot hold a {type(unwritable).__qualname__}{where} ({str(error)[:200]!r})")
    return "; ".join(words)


class Call:
    """`receive` and `send` of one request. Any number of tasks of the app may wait in them."""

    __slots__ = ("_disconnected", "_exchange", "_is_body_received", "_readable", "_writable")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._is_body_received = False
        self._disconnected: asyncio.Event | None = None
        self._readable: asyncio.Event | None = None
        self._writable: asyncio.Event | None = None

    async def receive(self) -> Message:
        """What has come of the body, at least a byte but for its end, and after that the end: when the peer is gone or has its answer.

        A body that breaks off ends with `http.disconnect`, and what had come of it is not given any more.
        """
        while not self._is_body_received:
            part = self._exchange.read()
            if part is not None:
                body, more = part
                self._is_body_received = not more
                return {"type": "http.request", "body": body, "more_body": more}
            if self._exchange.disconnected:
                break
            if self._readable is None:
                self._readable = asyncio.Event()
            # One for all who wait: whoever comes first has what there is, the others wait again.
            self._readable.clear()
            self._exchange.on_body(self._readable.set)
            await self._readable.wait()
        if not self._exchange.disconnected:
            if self._disconnected is None:
                # One for all who ask, however often: most of them look and go, as `request.is_disconnected()` does.
                self._disconnected = asyncio.Event()
                self._exchange.on_disconnect(self._disconnected.set)
            await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """A part of the answer. Waits while the peer is too slow to take what was sent before.

        Raises:
            ClientDisconnectedError: the peer has gone.
            RuntimeError: the messages come in an order that has no meaning or have an unknown type, or the body does not fit
                the app's own Content-Length.
            ValueError: a header or status that HTTP cannot hold; nothing of it was sent.
        """
        kind = message["type"]
        if kind == "http.response.body":
            is_full = self._send_body(message.get("body", b""), bool(message.get("more_body", False)))
            if is_full:
                if self._writable is None:
                    self._writable = asyncio.Event()
                self._writable.clear()
                self._exchange.on_writable(self._writable.set)
                await self._writable.wait()
        elif kind == "http.response.start":
            self._exchange.start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"message type is {kind!r}, allowed are http.response.start and http.response.body")

    def _send_body(self, data: Any, more: bool) -> bool:
        try:
            # A memoryview first: bytes(7) would be seven zeros.
            return self._exchange.send(data if type(data) is bytes else bytes(memoryview(data)), more)
        except OSError as error:
            raise ClientDisconnectedError(str(error)) from None
