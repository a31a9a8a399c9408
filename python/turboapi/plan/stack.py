"""The short way through an app's own stack: what stands around its middleware, and within it, is done in one step each.

Around: the calls of FastAPI and Starlette, and their ServerErrorMiddleware (`Head`). Within: the ExceptionMiddleware, FastAPI's exit stack
and the router (`Tail`). What they do for a request whose route has a plan is little, and nine coroutines pass each message on: they cost
three times what the plan does. The app's own middleware is left as it is, and so is all that is not exactly the stock class.
Source: starlette/middleware/errors.py and exceptions.py, fastapi/applications.py
"""

from __future__ import annotations

import threading
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from .chain import chain
from .inner_call import InnerCall
from .leaf import KEY, TAKE_WHOLE, Leaf, run
from .patches import AROUND, patched_reason
from .raising import Raising, after_begin

#: Of FastAPI, between ServerErrorMiddleware and the app's own middleware. Without telemetry and `max_body_size` they do nothing.
IDLE = {("fastapi.telemetry._asgi", "ExceptionTelemetryMiddleware"), ("fastapi._body_limit", "AppBodyLimitMiddleware")}

_shortening = threading.Lock()


def shortened(app: FastAPI) -> ASGIApp:
    """What to call in the place of the app for requests whose route has a plan: the app itself where its stack is not the stock one."""
    if app.middleware_stack is None:  # no lifespan has built it
        return app
    if patched_reason(AROUND):  # this would not be called
        return app
    with _shortening:  # workers in threads serve the same app
        _place_tail(app)
    stack = app.middleware_stack
    is_stock = type(app).__call__ is FastAPI.__call__ and "__call__" not in vars(app) and not app.root_path
    if not is_stock or type(stack) is not ServerErrorMiddleware or getattr(app, "max_body_size", None) is not None:
        return app
    return Head(app, stack)


class Head:
    """Calls an app's own middleware, and answers by its ServerErrorMiddleware if that fails."""

    def __init__(self, app: FastAPI, stack: ServerErrorMiddleware) -> None:
        self._app = app
        self._stack = stack
        first = stack.app
        while (type(first).__module__, type(first).__name__) in IDLE:
            first = first.app  # type: ignore[attr-defined]
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app.middleware_stack is not self._stack:  # it was replaced
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        try:
            await self._first(scope, receive, send)
        except Exception as error:
            await self._fail(error, scope, receive, send)

    async def _fail(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        # The gateway's own `send`: nothing stands around this one.
        has_begun = send.has_begun  # type: ignore[attr-defined]
        raising = Raising(error, has_begun)
        fail = ServerErrorMiddleware(raising, handler=self._stack.handler, debug=self._stack.debug)
        await fail(scope, receive, after_begin(send) if has_begun else send)

    def bare(self) -> ASGIApp | None:
        """What to call in the place of this where nothing stands between it and the plan, for a route of the app's own router: nobody has
        had the scope before, so that it says what Rust has read. None: something does."""
        tail = self._first
        if type(tail) is not Tail:
            return None

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            if self._app.middleware_stack is not self._stack:  # it was replaced
                await self._app(scope, receive, send)
                return
            matched = scope.pop(KEY)
            scope["app"] = self._app
            scope["starlette.exception_handlers"] = tail.handlers
            try:
                await run(matched, scope, receive, send, tail.by_app, send, asks_twice=True)
            except Exception as error:
                await self._fail(error, scope, receive, send)

        return call


class Tail:
    """Runs the plan in the place of an app's ExceptionMiddleware and all that is within it."""

    def __init__(self, app: ExceptionMiddleware, router: Any) -> None:
        self.app = app  # under this name the next one within is looked for
        self._router = router
        self.handlers = (app._exception_handlers, app._status_handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        matched = scope.get(KEY)
        if matched is None or matched.wrapped is not None or not matched.is_for(self._router, scope):
            await self.app(scope, receive, send)
        else:
            scope["starlette.exception_handlers"] = self.handlers
            within = send if type(send) in TAKE_WHOLE else None
            if type(send) is InnerCall and (matched.is_staged or not send.calls(self)):
                # What ends after the answer waits until the middleware has taken it; so does middleware in between, which has passed it
                # on as it is, and may have something to do then.
                within = None
            await run(matched, scope, receive, send, self.by_app, within, asks_twice=True)

    async def by_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What they themselves do."""
        scope[KEY] = None  # the leaf in the place of the router would come to the same end
        await self.app(scope, receive, send)


def _place_tail(app: FastAPI) -> None:
    """In the place of the ExceptionMiddleware, if the way there is by the attribute that Starlette's own middleware has for it."""
    for outer in chain(app.middleware_stack):
        inner = getattr(outer, "app", None)
        if type(inner) is ExceptionMiddleware:
            exits = inner.app
            if type(exits) is AsyncExitStackMiddleware and exits.app is app.router and type(app.router.middleware_stack) is Leaf:
                outer.app = Tail(inner, app.router)
            return
        if type(inner) is Tail:
            return
