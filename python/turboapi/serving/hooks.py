"""What `_core` asks of Python when a request needs more than its plan. Not here: the protocol of an ASGI call (asgi.py)."""

import asyncio
import functools
import logging
from collections.abc import Callable
from contextvars import Context
from typing import Any

from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response

from .. import _core
from ..asgi import Gateway, raised
from ..plan import answers, changes, layers, leaf, placement, routes, stack
from . import background as tasks
from . import streaming
from .background import Background
from .pool import Pool

logger = logging.getLogger("turboapi")

#: The line of a route table that leaves every request to the app's own ASGI call.
EVERYTHING = routes.Entry("", (), "opaque", None, "")


class Hooks:
    """What `_core` calls when a request needs more than its plan. Each is called on the worker's thread, within its loop.

    Args:
        take_routes: compiles the app's routes anew, after they have changed.
        refused: logs what the server itself has refused, given as counts by name.
    """

    def __init__(
        self,
        app: Any,
        loop: asyncio.AbstractEventLoop,
        gateway: Gateway,
        pool: Pool,
        background: Background,
        take_routes: Callable[[], None],
        refused: Callable[[dict[str, int]], None],
    ) -> None:
        self._app = app
        self._loop = loop
        self._gateway = gateway
        self.proxies = gateway.proxies
        self._background = background
        self.by_standing = background.by_standing
        self.tasks = tasks
        self.pool = pool.start
        self.pool_beyond = pool.start_beyond
        self.returned = pool.returned
        self._take_routes = take_routes
        self.refused = refused
        self._is_changing = False
        self._watch: changes.Watch | None = None
        self.version: int | None = None
        self.answers_unmatched = False
        self.redirect_slashes = False
        self.routes: list[routes.Entry] = []
        self.layers: list[layers.Layer] = []

    def refresh(self) -> None:
        """Reads the app's routes."""
        self._is_changing = False
        self._watch = None
        self.version = None
        self._error_app = self._stack = self._respond = self._send = self._app
        self._bare = None
        self._handlers = answers.Handlers(None, {}, False)
        self.layers = []
        if isinstance(self._app, Starlette):
            answers.build_stack(self._app)
            placement.place(self._app)
        if not isinstance(self._app, FastAPI):
            self.routes = [EVERYTHING]
            return
        # Before what is there is watched: a change of ours is none.
        if not routes.is_debugged(self._app):  # our frames would be shown, too
            for app in (self._app, *routes.mounted_apps(self._app)):
                leaf.place(app.router)
            self._stack = stack.shortened(self._app)
            self._bare = self._stack.bare() if type(self._stack) is stack.Head else None
        self._watch = changes.Watch(self._app)
        self.version = self._watch.version
        # A mount at the root matches no path with a line feed, as Starlette's pattern does not; "everything" means all of them.
        self.routes = [EVERYTHING if entry.template == "" and entry.native is None else entry for entry in routes.compile_app(self._app)]
        self.layers = routes.compile_layers(self._app, self._gateway.root_path)
        if self.layers:
            self._error_app = answers.error_app(self._app, functools.partial(layers.around, self._app))
            self._send = layers.around(self._app, layers.respond)
        else:
            self._error_app = answers.error_app(self._app)
            self._send = layers.respond
        self._respond = answers.responding(self._error_app, self._send)
        self._handlers = answers.handlers_of(self._app)
        self.answers_unmatched = answers.http_exception_is_plain(self._app)
        self.redirect_slashes = self._app.router.redirect_slashes

    def app(self, exchange: _core.Exchange) -> None:
        """No plan covers the request, or it does not fit its plan: the app's own ASGI call."""
        self._gateway.start(self._app, exchange)

    def stack(self, exchange: _core.Exchange, matched: _core.Matched, context: Context | None) -> None:
        """The app's own ASGI call, with a plan for its innermost part."""
        if self._bare is not None and matched.is_of(self._app.router):
            self._gateway.start(self._bare, exchange, context, further={leaf.KEY: matched})
        else:
            self._gateway.start(self._stack, exchange, context, matched)

    def respond(self, exchange: _core.Exchange, response: Any, context: Context | None) -> None:
        """The answer streams, or does something after it: a response is an ASGI app. `context`: what its endpoint ran in."""
        if not self.layers and streaming.takes(response):
            parts = (self._loop, self._gateway, self._background)
            streaming.Stream(response, exchange, context, self._error_app, *parts).start()
        else:
            self._gateway.start(self._respond, exchange, context, further=self._sending(response, exchange))

    async def send(self, exchange: _core.Exchange, response: Any) -> None:
        """A response's ASGI call, within the function that has made it: what it raises is raised there."""
        await self._gateway.call(self._send, exchange, self._sending(response, exchange))

    def _sending(self, response: Any, exchange: _core.Exchange) -> dict[str, Any]:
        """What the scope has in which a response is sent."""
        response = self._background.taken_over(response)
        return {layers.RESPONSE_KEY: layers.Noted(response, exchange) if self.layers else response}

    def finish(self, exchange: _core.Exchange) -> None:
        """Whoever had to answer has returned."""
        self._gateway.finish(exchange)

    def after(self, exchange: _core.Exchange, context: Context | None, first: Any, rest: Any, end: Any) -> None:
        """What is due after an answer has to be awaited: `Background.after`."""
        self._gateway.go_on(self._background.after(first, rest, end), exchange, context, self._error_app)

    def raised(self, exchange: _core.Exchange, exception: BaseException, context: Context | None) -> None:
        """A native handler raised: the app's exception handlers have it."""
        if self._gateway.is_cancelling and isinstance(exception, asyncio.CancelledError):
            exchange.finish()  # nobody's mistake
            return
        self._gateway.reported = id(exception)  # soon
        further = raised(exception)
        del exception  # it has this frame before long
        route = exchange.route
        if route is not None and route < len(self.routes):  # the table may be another one by now
            further[answers.TEMPLATE] = self.routes[route].template
        self._gateway.start(self._error_app, exchange, context, further=further)

    def http_response(self, exception: BaseException) -> Response | None:
        """The answer to an HTTPException, if FastAPI's own handler is the one for it, which waits for nothing."""
        if not isinstance(exception, HTTPException) or self._handlers.find(exception) is not http_exception_handler:
            return None
        handling = http_exception_handler(None, exception)  # type: ignore[arg-type]
        try:
            handling.send(None)
        except StopIteration as done:
            return done.value
        handling.close()
        return None

    def moved(self, label: str, seconds: float, waited: float, computing: float) -> None:
        """A function has lost the worker's own thread, by a call of so many seconds."""
        took = f"waited {waited * 1000:.1f} ms, and computed {computing * 1000:.1f} ms" if waited else f"computed {computing * 1000:.1f} ms"
        logger.warning("%s %s on the worker's own thread: it runs in threads from now on", label, took)

    def needs_thread(self, label: str) -> None:
        """A function has lost the worker's own thread, as it has asked for what there is only in others."""
        logger.warning(
            "%s used anyio.from_thread on the worker's own thread, where that cannot work: it runs in threads from now on "
            "(a route that says blocking=True does from its first call on)",
            label,
        )

    def earned(self, label: str) -> None:
        """A function has earned the worker's own thread."""
        logger.debug("%s neither waits nor computes for long: it runs on the worker's own thread from now on", label)

    def broken(self, problem: str) -> None:
        """An app's answer contradicted itself after its head was sent."""
        logger.error("an answer was cut: %s", problem)

    def routes_changed(self) -> bool:
        """Whether the app is no longer what its plans were made from. If so they are made anew, in a moment."""
        if not self._is_changing and self._watch is not None and self._watch.has_changed():
            self._is_changing = True
            self._loop.call_soon(self._take_routes)
        return self._is_changing
