"""The app's own ASGI call for one request: the protocol's messages over an `Exchange` of `_core`.

What no native plan covers comes here: other ASGI apps, routes with dependencies, middleware, mounted apps, responses that stream,
and exceptions of native handlers. Not here: lifespan (lifespan.py), WebSocket.
Source: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

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
        self._request_state = request_state
        self._exceptions = exceptions
        #: Requests that are being answered.
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, app: AsgiApp, exchange: Exchange, **further: Any) -> None:
        """Calls the app for this request: its first step at once, the rest as a task of the loop."""
        scope: Scope = {
            "type": "http",
            "asgi": VERSION,
            "http_version": exchange.http_version,
            "server": self._server,
            "client": exchange.client,
            "scheme": "http",
            "method": exchange.method,
            "root_path": self._root_path,
            "path": exchange.path,
            "raw_path": exchange.raw_path,
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
        call = Call(exchange, self._loop)
        try:
            await app(scope, call.receive, call.send)
        except asyncio.CancelledError:
            exchange.fail()
            raise
        except ClientDisconnectedError:
            exchange.fail()
        except BaseException as error:  # SystemExit too: one request must not end the worker
            self.report(scope, error)
            exchange.fail()
        else:
            if not exchange.complete and not exchange.disconnected:
                logger.error("%s %r: the app returned before its answer was complete", scope["method"], scope["path"])
                exchange.fail()

    def report(self, scope: Scope, error: BaseException) -> None:
        """Logs what an app or a handler raised; nothing of it goes to the peer."""
        if error is scope.get("turboapi.exception"):
            # Without the way through the app's exception handlers: where it was raised is what matters.
            error.__traceback__ = scope["turboapi.traceback"]
        if self._exceptions is not None:
            self._exceptions.append(error)
        logger.error("%s %r raised %s", scope["method"], scope["path"], type(error).__name__, exc_info=error)


class Call:
    """`receive` and `send` of one request."""

    __slots__ = ("_exchange", "_is_body_received", "_loop")

    def __init__(self, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        self._exchange = exchange
        self._loop = loop
        self._is_body_received = False

    async def receive(self) -> Message:
        """The body, which is whole, and after that the end: when the peer is gone or has its answer."""
        if not self._is_body_received:
            self._is_body_received = True
            return {"type": "http.request", "body": self._exchange.body, "more_body": False}
        await self._wait(self._exchange.on_disconnect)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """A part of the answer. Waits while the peer is too slow to take what was sent before.

        Raises:
            ClientDisconnectedError: the peer has gone.
            RuntimeError: the messages come in an order that has no meaning, or have an unknown type.
            ValueError: a header or status that HTTP cannot hold; nothing of it was sent.
        """
        kind = message["type"]
        if kind == "http.response.body":
            is_full = self._send_body(message.get("body", b""), message.get("more_body", False))
            if is_full:
                await self._wait(self._exchange.on_writable)
        elif kind == "http.response.start":
            self._exchange.start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"message type is {kind!r}, allowed are http.response.start and http.response.body")

    def _send_body(self, data: Any, more: bool) -> bool:
        try:
            return self._exchange.send(data if isinstance(data, bytes) else bytes(data), more)
        except OSError as error:
            raise ClientDisconnectedError(str(error)) from None

    async def _wait(self, register: Callable[[Callable[[], object]], None]) -> None:
        future = self._loop.create_future()
        register(lambda: future.done() or future.set_result(None))
        await future
