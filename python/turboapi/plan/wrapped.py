"""Routes whose handler stands within something else: a route class that overrides `get_route_handler`, as FastAPI's documentation teaches,
or what a tracer has put around it.

FastAPI makes of each route a function of the request that gives the response (`get_request_handler`). Who wraps it keeps it in the closure
of his own, where it is looked for (`find`), and one that runs the plan is put in its place (`Wrapped.install`). So the wrapper is called by
each request as under any other server, may do with the request what it likes and call the handler never, twice or in a task of its own; and
whenever the request that comes to the handler is not just what Rust has seen, FastAPI's own handler has it.
Not here: how the request gets as far as the route (leaf.py).
"""

from __future__ import annotations

import functools
import inspect
import types
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, cast

import fastapi.routing
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute
from starlette.datastructures import Headers, QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from .._core import Matched
from .ends import returned
from .leaf import EXITS_KEY, MARKED_KEY, Marked
from .patches import is_original

Handler = Callable[[Request], Awaitable[Response]]

#: Functions that are gone through in search of a handler.
FUNCTIONS_MAX = 64


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A route whose handler is called by something that is not FastAPI's."""

    route: APIRoute
    """Its `handle` is what the router calls."""
    handler: Handler
    """FastAPI's own."""
    function: Callable[..., Any]
    """What that calls. A tracer may have put a function of its own around the endpoint."""
    cells: tuple[types.CellType, ...]
    """Where the handler, or ours, is kept by those who call it."""
    make_response: Callable[[bytes], Response]
    """The response that FastAPI makes of JSON."""

    def install(self) -> None:
        """Puts a handler that runs the plan in the place of FastAPI's. Nothing happens twice."""
        native = None
        for cell in self.cells:
            if cell.cell_contents is self.handler:
                native = native or _native(self.handler)
                cell.cell_contents = native


def find(context: Any, original: APIRoute) -> Wrapped | str | None:
    """What calls the route's handler, where that is not FastAPI itself (None); or why this cannot be known.

    Args:
        context: FastAPI's of the route.
    """
    is_stock = _is_stock(original)
    if getattr(context, "_route_context", None) is not None and getattr(context, "app", None) is None:
        # FastAPI 0.141 makes the handler of an included route anew for each request.
        return None if is_stock and is_original(fastapi.routing, "request_response") else "the handler is made anew for each request"
    if is_stock and _is_function(context.app, fastapi.routing, "request_response.<locals>.app"):
        (made,) = _closure(context.app).values()
        if _handler_of(made) is made and _closure(made).get("dependant") is context.dependant:
            return None
    found = list(_cells(context.app, context.dependant))
    handlers = {id(handler): handler for _, handler in found}
    if len(handlers) != 1:
        return f"{'no handler' if not handlers else 'more than one handler'} of FastAPI's is found in what wraps it"
    handler, *_ = handlers.values()
    if reason := _disagreement(handler, context, original):
        return reason
    cells = tuple(cell for cell, _ in found)
    return Wrapped(original, handler, context.dependant.call, cells, _json_response(context))


def _is_stock(original: APIRoute) -> bool:
    """Whether what makes the route's app, and calls it, is FastAPI's."""
    kind = type(original)
    if {"handle", "get_route_handler"} & vars(original).keys():
        return False
    if kind.handle is not APIRoute.handle or kind.get_route_handler is not APIRoute.get_route_handler:
        return False
    makers = ((APIRoute, "handle"), (APIRoute, "get_route_handler"), (fastapi.routing, "get_request_handler"))
    return all(is_original(owner, name) for owner, name in makers)


class Shown:
    """A route context of FastAPI's as seen from its handler: the endpoint is what that calls."""

    def __init__(self, context: Any, endpoint: Callable[..., Any]) -> None:
        self._context = context
        self.endpoint = endpoint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


# The search.


def _cells(app: Any, dependant: Any) -> Iterator[tuple[types.CellType, Any]]:
    """The cells in which FastAPI's handler of this dependant is, or ours in its place, and FastAPI's."""
    functions, seen = deque([app]), 0
    known: set[int] = set()
    while functions and seen < FUNCTIONS_MAX:
        function = functions.popleft()
        if isinstance(function, types.MethodType | functools.partial):
            functions.append(function.__func__ if isinstance(function, types.MethodType) else function.func)
        if not isinstance(function, types.FunctionType) or id(function) in known:
            continue
        known.add(id(function))
        seen += 1
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # empty
                continue
            handler = _handler_of(content)
            if handler is None:
                functions.append(content)
            elif _closure(handler).get("dependant") is dependant:
                yield cell, handler


def _handler_of(function: Any) -> Any:
    """FastAPI's handler, if this is one or stands in the place of one."""
    if not isinstance(function, types.FunctionType):
        return None
    if function.__code__ is _NATIVE_CODE:
        return inspect.unwrap(function)
    return function if _is_function(function, fastapi.routing, "get_request_handler.<locals>.app") else None


def _is_function(function: Any, module: types.ModuleType, name: str) -> bool:
    return isinstance(function, types.FunctionType) and function.__globals__ is vars(module) and function.__code__.co_qualname == name


def _closure(function: Any) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {name: cell.cell_contents for name, cell in cells}


#: What FastAPI's handler is made from, and as what the route has it. Of what it has worked out itself, as it follows from these.
_SAME = {
    **{name: name for name in (
        "body_field", "dependant", "dependency_overrides_provider", "is_json_stream", "response_class", "response_field",
        "response_model_by_alias", "response_model_exclude", "response_model_exclude_defaults", "response_model_exclude_none",
        "response_model_exclude_unset", "response_model_include", "status_code", "stream_item_field",
    )},
    "embed_body_fields": "_embed_body_fields",
}  # fmt: skip
_FOLLOWS = {"actual_response_class", "actual_strict_content_type", "form_limits", "is_body_form", "is_coroutine", "is_sse_stream"}


def _disagreement(handler: Any, context: Any, original: APIRoute) -> str:
    """A wrapper may have had it made otherwise than the route says, and what says so is private."""
    made_from = _closure(handler)
    if unknown := made_from.keys() - _SAME.keys() - _FOLLOWS:
        return f"FastAPI's handler knows of {min(unknown)}"
    for name in made_from.keys() & _SAME.keys():
        if made_from[name] is not getattr(context, _SAME[name], None):
            return f"the handler was made with another {name} than the route's"
    if made_from.get("form_limits") is not getattr(original, "form_limits", None):
        return "the handler was made with another form_limits than the route's"
    if made_from.get("is_coroutine") != inspect.iscoroutinefunction(context.dependant.call):
        return "the endpoint is marked as a coroutine function"
    return ""


# The handler.


def _native(handler: Handler) -> Handler:
    """One that runs the plan, or else calls FastAPI's."""

    @functools.wraps(handler)
    async def app(request: Request) -> Response:
        matched = _matched(request, handler)
        if matched is None:
            return await handler(request)
        body, reading = None, None
        if matched.reads_body:
            reading = _Reading(request)
            body = await reading.body()
        called = injected = None
        if (reading is None or body) and is_as_in_scope(request, reads_body=reading is not None):
            injected, _ = matched.make_further()
            called = matched.call(request.scope, body, request if matched.takes_connection else None, injected, None, None)
        if called is None:
            return await (handler(request) if reading is None else reading.by(handler))
        kind, value = called
        if kind != "value":
            value = await (value if kind == "awaitable" else returned(value))
        made = matched.made(value, injected)
        return matched.wrapped.make_response(made) if type(made) is bytes else made

    return app


_NATIVE_CODE = _native(cast("Any", lambda request: None)).__code__  # type: ignore[attr-defined]


def _matched(request: Any, handler: Handler) -> Matched | None:
    """The plan of this handler's route, if it is for this request; None if there is any doubt."""
    kind = type(request)
    if kind is not Request and not (issubclass(kind, Request) and all(getattr(kind, name) is getattr(Request, name) for name in _READ)):
        return None
    scope = request.scope
    if type(scope) is not dict or hasattr(kind, "__getattr__") or "json" in vars(request):
        return None
    marked = scope.get(MARKED_KEY)
    # Of a scope that was copied deeply nothing is left.
    if type(marked) is not Marked or marked.matched is None or marked.matched.wrapped.handler is not handler:
        return None
    found = scope.get("path_params")
    if found is not marked.path_params or len(found) != len(marked.values):
        return None
    if any(now is not then for now, then in zip(found.values(), marked.values, strict=True)):
        return None
    if not all(isinstance(scope.get(name), AsyncExitStack) for name in (EXITS_KEY, "fastapi_inner_astack", "fastapi_function_astack")):
        return None
    return marked.matched if marked.matched.is_here() else None


#: What FastAPI's handler reads of a request, beside its body.
_READ = ("__getattribute__", "json", "form", "headers", "query_params", "cookies", "path_params")


def is_as_in_scope(request: Request, *, reads_body: bool) -> bool:
    """A request keeps what it has read of its scope, or what somebody has put there; the plan reads the scope."""
    kept, scope = vars(request), request.scope
    if reads_body and "_json" in kept:
        return False
    headers = kept.get("_headers")
    if headers is not None and (type(headers) is not Headers or headers.raw != scope.get("headers")):
        return False
    query = kept.get("_query_params")
    if query is not None and not (type(query) is QueryParams and query.multi_items() == _query_of(scope)):
        return False
    cookies = kept.get("_cookies")
    return cookies is None or (type(cookies) is dict and headers is not None and cookies == _cookies_of(headers))


def _query_of(scope: Scope) -> list[tuple[str, str]]:
    return QueryParams(scope["query_string"]).multi_items()


def _cookies_of(headers: Headers) -> dict[str, str]:
    return HTTPConnection({"type": "http", "headers": headers.raw}).cookies


class _Reading:
    """A request's body as FastAPI's handler reads it. If that is called after all, it gets what came of it: a class of somebody's own
    may read otherwise the second time."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._is_stock = type(request).body is Request.body and "body" not in vars(request)
        self._outcomes: deque[tuple[Any, Exception | None]] = deque()

    async def body(self) -> bytes | None:
        """The body; None if it is not for the plan."""
        body = await self._read()
        # FastAPI asks once more where it is JSON: Request.json is that. Starlette's own has it kept.
        if body and not self._is_stock and self._request.headers.get("content-type") in _JSON:
            body = await self._read()
        return body if type(body) is bytes else None

    async def _read(self) -> Any:
        try:
            body: Any = await self._request.body()
        except Exception as error:
            self._outcomes.append((None, error))
            return None
        if not self._is_stock:
            self._outcomes.append((body, None))
        return body

    async def by(self, handler: Handler) -> Response:
        """Calls FastAPI's handler."""
        request: Any = self._request
        if not self._outcomes:
            return await handler(request)
        read_on, outcomes = request.body, self._outcomes

        async def body() -> Any:
            if not outcomes:
                return await read_on()
            value, error = outcomes.popleft()
            if error is not None:
                raise error
            return value

        was_there = "body" in vars(request)
        request.body = body
        try:
            return await handler(request)
        finally:
            if was_there:
                request.body = read_on
            else:
                vars(request).pop("body", None)


#: As the plan reads them (python/src/plan.rs), if they are written in lower case.
_JSON = {"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"}


def _json_response(context: Any) -> Callable[[bytes], Response]:
    declared, has_model = context.response_class, bool(context.response_model)
    options = {} if not context.status_code else {"status_code": context.status_code}
    is_json_class = not (isinstance(declared, DefaultPlaceholder) and has_model)

    def make(data: bytes) -> Response:
        response = Response(data, media_type="application/json", **options)
        if is_json_class:
            # The class's own constructor does no more than this one, with the value's JSON.
            response.__class__ = JSONResponse
            del response.media_type  # type: ignore[misc]
        return response

    return make
