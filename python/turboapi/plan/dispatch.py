"""`BaseHTTPMiddleware`, and so `@app.middleware("http")`, without a task group: a `Dispatch` around it.

What a user's `dispatch` sees is Starlette's own: its request, which keeps the body for the inner app, its response, and a `call_next`
that gives and raises the same in the same order. What is between them is not (inner_call.py).

Starlette's own code runs where it alone is exact: within cancel scopes of AnyIO, under a loop that makes its tasks otherwise, outside of
asyncio. Not here: where a `Dispatch` is put, and if at all (placement.py).
Source: starlette/middleware/base.py
"""

from asyncio import Task, current_task
from typing import Any

from starlette.middleware import base
from starlette.middleware.base import BaseHTTPMiddleware

from .inner_call import InnerCall, Receive, Scope, Send
from .scopes import in_scope


class Dispatch:
    """A BaseHTTPMiddleware, called in our way. To all who look at it, it is the middleware."""

    __slots__ = ("middleware",)

    middleware: BaseHTTPMiddleware

    def __init__(self, middleware: BaseHTTPMiddleware) -> None:
        object.__setattr__(self, "middleware", middleware)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.middleware)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.middleware, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.middleware, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.middleware, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        middleware = self.middleware
        if scope["type"] != "http":
            await middleware.app(scope, receive, send)
            return
        host = task_of_ours()
        if host is None:
            await middleware(scope, receive, send)
            return
        request = base._CachedRequest(scope, receive, send)
        inner = InnerCall(middleware, request, host, send)
        try:
            response = await middleware.dispatch_func(request, inner.call_next)
            body = inner.unread_body(response)
            if body is None:
                inner.tell_that_it_goes_on()
                await response(scope, request.wrapped_receive, send)
            else:
                await inner.answer(response, body)
            await inner.finish()
        except BaseException as error:
            await inner.abandon(error)
        inner.end()


def task_of_ours() -> Task[Any] | None:
    """The task that runs, if our way is exact there."""
    try:
        task = current_task()
    except RuntimeError:  # not asyncio
        return None
    if task is None or in_scope(task) or task.get_loop().get_task_factory() is not None:
        return None
    return task
