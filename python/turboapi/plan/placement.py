"""Where the middleware of an app is called in our way: `place(app)` puts a `Dispatch` around each BaseHTTPMiddleware, in its place.

It goes from an app to what it calls by the attributes that Starlette's own stack has, and stops where there are none. If the installed
Starlette or AnyIO is not one that inner_call.py was compared with, nothing is placed. Not here: what a `Dispatch` does (dispatch.py).
"""

import functools
import hashlib
import inspect
import threading
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import base
from starlette.middleware.base import BaseHTTPMiddleware

from . import scopes
from .dispatch import Dispatch

#: Of the source of all that is taken over or relied on, without its layout. One for each form that it has had in a release.
KNOWN_SOURCES = frozenset({"72cfdd027ca1f355"})

_placing = threading.Lock()


def place(app: Any) -> Any:
    """Puts a `Dispatch` in the place of each BaseHTTPMiddleware of an app, of its routes and mounted apps. Anything else stays as it is.

    A stack that is not built yet gets its own when it is; one that was built anew since wants another call. Any number of calls, from any
    thread, are as good as one.

    Returns:
        The app's middleware stack as it is now: while it is this, another call changes nothing of it.
    """
    if is_known():
        with _placing:
            walk(app, set())
    return getattr(app, "middleware_stack", None)


def walk(node: Any, seen: set[int]) -> None:
    """From an app, middleware, router or route to what it calls, by the names that all of Starlette's have for it."""
    while node is not None and id(node) not in seen:
        seen.add(id(node))
        if isinstance(node, Starlette) and node.middleware_stack is None:
            place_when_built(node)
        routes = getattr(node, "routes", None)
        for route in routes if isinstance(routes, list) else ():
            walk(route, seen)
        walk(getattr(node, "original_router", None), seen)  # an included router of FastAPI's
        walk(replaced(node, "middleware_stack"), seen)
        node = replaced(node, "app")


def replaced(node: Any, name: str) -> Any:
    """What this attribute of a node has, with a `Dispatch` around it if it is a BaseHTTPMiddleware."""
    child: Any = getattr(node, name, None)
    if type(child).__call__ is BaseHTTPMiddleware.__call__:
        child = Dispatch(child)
        setattr(node, name, child)
    return child


def place_when_built(app: Starlette) -> None:
    """For one that builds its stack at its first request, as mounted apps do."""
    build = app.build_middleware_stack
    if isinstance(build, Build):
        return
    app.build_middleware_stack = Build(build)  # type: ignore[method-assign]


class Build:
    """A `build_middleware_stack` whose stack has its `Dispatch`es."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build
        self.middleware_stack: Any = None

    def __call__(self) -> Any:
        built = Build(self._build)  # of this call: another thread may build at the same time
        built.middleware_stack = self._build()
        walk(built, set())
        return built.middleware_stack


@functools.cache
def is_known() -> bool:
    """Whether Starlette and AnyIO have all that is taken over or relied on here, in a form that was compared with it."""
    return scopes.is_known() and source_of_starlette() in KNOWN_SOURCES


def source_of_starlette() -> str:
    """A digest of what is known; empty if its source is not there.

    Of the text, as Python's own `ast.unparse` is not the same in each of its releases.
    """
    try:
        source = inspect.getsource(base)
    except OSError:
        return ""
    needed = ("_CachedRequest", "BaseHTTPMiddleware", "_StreamingResponse", "create_collapsing_task_group")
    if not all(getattr(getattr(base, name, None), "__module__", "").startswith("starlette.") for name in needed):
        return ""
    return hashlib.sha256("".join(source.split()).encode()).hexdigest()[:16]
