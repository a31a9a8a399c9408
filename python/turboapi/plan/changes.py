"""What an app's plans were made from is watched here, so that a change of it counts from the next request on, as under any server.

Attributes of the app, its routers, routes and middleware stack are watched by CPython itself, the lists of routes by a list that
tells (`Routes`); both count in `_core` (python/src/changes.rs), which each request compares with a number. Not here: what is done about
it (serving/hooks.py).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from operator import is_
from typing import Any

from fastapi import FastAPI
from starlette.routing import Router

from .. import _core
from .chain import chain


def _telling(name: str) -> Callable[..., Any]:
    change = getattr(list, name)

    def changing(self: Routes, *arguments: Any, **options: Any) -> Any:
        try:
            return change(self, *arguments, **options)
        finally:
            _core.note_change()

    changing.__name__ = changing.__qualname__ = name
    return changing


class Routes(list[Any]):
    """A router's list of routes that tells of every change, when it has been made."""

    append, extend, insert = _telling("append"), _telling("extend"), _telling("insert")
    remove, pop, clear = _telling("remove"), _telling("pop"), _telling("clear")
    sort, reverse = _telling("sort"), _telling("reverse")
    __setitem__, __delitem__ = _telling("__setitem__"), _telling("__delitem__")
    __iadd__, __imul__ = _telling("__iadd__"), _telling("__imul__")


#: Beside the attributes of what is watched: the identity of the dict that is. A copy of the object has another one.
MARK = "turboapi_watched"


class Watch:
    """What one worker has compiled an app from, and whether it has changed since.

    Made before the app is looked at: what changes meanwhile counts as a change.

    Attributes:
        version: the count of changes at which the app is as it was; None if that cannot tell, and `has_changed` has to be asked.
    """

    def __init__(self, app: FastAPI) -> None:
        #: Routers whose list somebody else holds too and may change, with what was in it: these are compared, as he would not see
        #: another list in its place. Mostly it is only a request that goes through the list just now.
        self._others: list[tuple[Router, tuple[Any, ...]]] = []
        count = -1
        while count != _core.changes_count():  # a list that was put in place counts too
            self._others.clear()
            count = _core.changes_count()
            for owner in _owners(app):
                self._watch(owner)
        self._count = count
        self.version = None if self._others else count

    def has_changed(self) -> bool:
        """Whether the app is no longer what it was when this was made."""
        return _core.changes_count() != self._count or any(
            not _is_held(router) or len(router.routes) != len(before) or not all(map(is_, router.routes, before))
            for router, before in self._others
        )

    def _watch(self, owner: Any) -> None:
        namespace = vars(owner)
        if namespace.get(MARK) != id(namespace):
            # CPython keeps attributes within the object, and does not tell of a change there (3.13); with a dict of its own it does.
            with contextlib.suppress(AttributeError, TypeError):
                owner.__dict__ = namespace = dict(namespace)
            namespace[MARK] = id(namespace)
        _core.watch_namespace(namespace)
        if not isinstance(owner, Router) or type(owner.routes) is Routes:
            return
        if _is_held(owner):
            self._others.append((owner, tuple(owner.routes)))
            return
        before = owner.routes
        owner.routes = telling = Routes(before)
        if len(before) != len(telling):  # another thread has added one meanwhile
            owner.routes = Routes(before)


def _is_held(router: Router) -> bool:
    """Whether anybody but the router has its list. One reference is the router's, one the call's."""
    return type(router.routes) is not list or sys.getrefcount(vars(router)["routes"]) > 2


def _owners(app: FastAPI) -> Iterator[Any]:
    """All objects whose attributes decide which route answers, and how."""
    yield app
    for layer in chain(app.middleware_stack):
        if layer is app.router or not hasattr(layer, "__dict__"):
            break
        yield layer
    yield from _of_router(app.router, set())


def _of_router(router: Any, seen: set[int]) -> Iterator[Any]:
    """Of a router and of those that it includes and mounts."""
    if id(router) in seen:
        return
    seen.add(id(router))
    yield router
    for route in tuple(router.routes):
        if hasattr(route, "__dict__"):
            yield route
        if hasattr(route, "original_router"):
            yield from _of_router(route.original_router, seen)
        below = getattr(route, "app", None)
        if isinstance(below, FastAPI):
            yield below
            yield from _of_router(below.router, seen)
