"""How each route of an app is answered: by a native plan, or by the app's own ASGI call.

Here: FastAPI's public declarations become plain values that `_core` runs (`compile_app`): what app, router and route say is here, the
endpoint's arguments are arguments.py, its answers answers.py. Not here: matching, conversion and calling (python/src), the ASGI path
itself (asgi.py).

INVARIANT: whatever these files do not know for certain is a reason for the ASGI path, not a guess. Arguments that are missing or wrong are
worded here where the installed FastAPI was seen to use the same words (rules.py); other failures before the endpoint is called, and before
any code of the app's, make `_core` hand the same request to the app.
FastAPI's private parts are read only to find disagreement (`disagreement` of arguments.py, `_disagreement` of dependencies.py and
wrapped.py), never to build a plan from; but for what it writes into the scope for tracers (`Place.included`), where its handler is within a
wrapper (wrapped.py), and what converts arguments that a dependency has changed (anew.py).
"""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from fastapi import BackgroundTasks, FastAPI
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute, APIRouter, APIWebSocketRoute, iter_route_contexts
from starlette import convertors
from starlette.responses import Response
from starlette.routing import Mount, Route, Router, WebSocketRoute, compile_path

from .._core import Part
from . import layers, patches, streams
from .answers import as_response, encode, http_exception_is_plain, make_response, renderers, stock_layers, validation_error_is_plain
from .arguments import OF_TEXT, Body, Parameter
from .compose import compose
from .dependencies import read_tree
from .invalid import Wording, read_json
from .leaf import innermost
from .rules import rules
from .wrapped import Shown, Wrapped, find


@dataclass(frozen=True, slots=True)
class Place:
    """Where a route stands in its app."""

    router: Any
    """In whose place the plan runs, within the app's own ASGI call (leaf.py)."""
    is_within_stack: bool
    """Whether each request has to pass something around that router: middleware, or what the app's class does."""
    marks: list[tuple[str, Any]]
    """What the router writes into the scope when it has found the route: key and value."""
    path_params: list[tuple[str, Callable[[str], Any] | None]]
    """For the scope's `path_params`: each name of the template, in order, and what makes its value of the text; None: nothing does."""
    prefix: str
    """The path under which the router's app is mounted in the one that is served."""
    included: dict[str, Any] | None
    """What FastAPI writes into the scope's `fastapi` for a route of an included router; tracers read it."""
    wrapped: Wrapped | None
    """What stands around the route's handler, where the plan runs within that."""


@dataclass(frozen=True, slots=True)
class NativeRoute:
    """All that `_core` needs to answer a request without FastAPI."""

    endpoint: Callable[..., Any]
    """Called with all arguments by keyword, as FastAPI does. With dependencies: one function that calls them all (compose.py)."""
    is_coroutine: bool
    parameters: tuple[Parameter, ...]
    bodies: tuple[Body, ...]
    takes_null: bool
    """Whether a body that is `null` is one. To older releases of FastAPI it is none."""
    runs_app_code: bool
    """Whether the app can see that arguments are converted: they are within the request's own task."""
    wording: Wording | None
    """What is wrong with arguments, in FastAPI's words. None: it is for the app to say."""
    answers_invalid: bool  # by FastAPI's own handler
    read_json: Callable[[bytes], object]
    status_code: int | None
    """The decorator's; None means 200."""
    render: Callable[[object, BackgroundTasks | None], Response] | None
    """The whole answer with the tasks that follow it, for what is more than JSON bytes. Goes before the two below."""
    serialize: Callable[[object], bytes] | None
    """A response model is declared: validate, then JSON. Raises ResponseValidationError."""
    encode: Callable[[object], bytes]
    """No response model: the exact slow way for what the native JSON writer does not know. Raises what FastAPI raises."""
    respond: Callable[[object, Response, BackgroundTasks | None], Response]
    """The whole answer where the endpoint has set a status or headers of the `Response` that it was given."""
    connection: str | None
    """Name of the argument that is the request."""
    response: str | None
    """Name of the argument that is a `Response` to be filled in."""
    make_response: Callable[[], Response]
    place: Place
    owner: Callable[..., Any]
    """The route's own function, by which it is known where it may run."""
    blocking: bool | None
    """Whether the endpoint may hold its thread; None: the server's inline budget decides."""
    label: str
    tasks: str | None = None
    """Name of the argument that is a `BackgroundTasks` to be filled in."""
    make_tasks: Callable[[], BackgroundTasks] = BackgroundTasks
    is_composed: bool = False
    """Whether `endpoint` calls dependencies, too."""
    is_staged: bool = False
    """Whether it has the answer sent itself, by its argument `respond`: something is to be done after that."""
    parts: tuple[Part, ...] = ()
    """Functions that it calls by their own standing."""
    overrides: dict[Any, Any] | None = None
    """The app's `dependency_overrides`: a request that comes while there are any is the app's."""


class Entry(NamedTuple):
    """One line of the route table, as `_core` takes it (python/src/table.rs), which reads all but the reason.

    `kind` "route": the template with Starlette's own convertors; no methods means every method.
    "prefix": a mount; any method, and any path that is `template` + "/" + anything. "" is every path, one with a line break too.
    "opaque": a template `_core` cannot read; treat as "prefix" of what stands before its first parameter, cut after the last "/".
    """

    template: str
    methods: tuple[str, ...]
    kind: Literal["route", "prefix", "opaque"]
    native: NativeRoute | None
    reason: str
    """Why the app's own ASGI call answers; empty for a native route."""
    body_bytes_max: int | None = None
    """The largest body, where the route has a limit of its own."""


def compile_app(app: FastAPI) -> list[Entry]:
    """Makes the route table, in the order in which the app's router tries its routes.

    What no entry matches, or only with another method, is the stock 404, 405 or slash redirect: where an app answers these in its own way,
    the table ends with an entry for every path. WebSocket routes are left out, as they never match an HTTP request.
    """
    reason = _app_reason(app)
    around = _around_reason(app)
    entries = _entries(app, is_within_stack=bool(around))
    table = [entry if not reason else entry._replace(native=None, reason=reason) for entry in entries]
    for entry in table:
        if entry.native is not None and entry.native.place.wrapped is not None:
            entry.native.place.wrapped.install()
    rest = reason or around or _unmatched_reason(app)
    if rest:
        table.append(_everything(rest))
    return table


def compile_layers(app: FastAPI, root_path: str) -> list[layers.Layer]:
    """The app's middleware that `_core` runs, outermost first; none where all requests go the app's own way.

    Args:
        root_path: the path under which a proxy serves the app.
    """
    return [] if _app_reason(app) or _around_reason(app) else layers.read(app, root_path)


# The app.


def _app_reason(app: FastAPI) -> str:
    """Why no route of this app may be native, or ""."""
    if innermost(app.router) is None:
        return "the router has middleware"
    if is_debugged(app):
        return "the app has debug=True: a 500 shows the frames of FastAPI's own call"
    telemetry = getattr(app, "_native_telemetry", None)
    if telemetry is not None and telemetry.enabled():
        return "telemetry is switched on"
    return _router_reason(app.router) or patches.patched_reason(patches.WITHIN)


def is_debugged(app: FastAPI) -> bool:
    """Whether a 500 of this app shows the frames in which it was raised."""
    built = stock_layers(app)
    return app.debug if built is None else built[0].debug


def _around_reason(app: FastAPI) -> str:
    """What stands around the app's router that each request has to pass, or ""."""
    kind = type(app)
    for name in ("__call__", "build_middleware_stack"):
        if getattr(kind, name) is not getattr(FastAPI, name) or name in vars(app):
            return f"{kind.__name__}.{name} is not FastAPI's"
    if reason := layers.reason(app):
        return reason
    found = innermost(app.router)
    if found is not None and found[0] is not app.router:
        return "the router has middleware"
    if app.middleware_stack is not None and stock_layers(app) is None:
        return "the app's middleware stack was replaced"
    if app.root_path:
        return "the app has a root_path"
    if getattr(app, "max_body_size", None) is not None:
        return "the app has a max_body_size"
    return patches.patched_reason(patches.AROUND)


def _router_reason(router: Any) -> str:
    """Why the way in which this router finds its routes is unknown, or ""."""
    names = ("__call__", "app", "handle", "matches")
    overridden = [name for name in names if getattr(type(router), name, None) is not getattr(APIRouter, name) or name in vars(router)]
    if overridden:
        return f"{type(router).__name__}.{overridden[0]} is not FastAPI's"
    return next((reason for node in _included(router) if (reason := _router_reason(node))), "")


def _included(router: Any) -> Iterator[Any]:
    return (route.original_router for route in router.routes if hasattr(route, "original_router"))


def _unmatched_reason(app: FastAPI) -> str:
    if not http_exception_is_plain(app):
        return "the app has its own handler for 404 and 405"
    if getattr(app.router.default, "__func__", None) is not Router.not_found:
        return "the router has its own default"
    if any(getattr(router, "_low_priority_routes", None) for router in _all_routers(app.router)):
        return "frontend routes come after all others"
    return ""


def _all_routers(router: Any) -> Iterator[Any]:
    yield router
    for node in _included(router):
        yield from _all_routers(node)


# Routes.


def _everything(reason: str, prefix: str = "") -> Entry:
    return Entry(prefix, (), "prefix", None, reason)


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where routes are looked at: a router, and what stands around it."""

    router: Any
    is_within_stack: bool
    prefix: str
    nodes: dict[int, Any]
    """FastAPI's nodes of included routers, by the identity of the route contexts that they have."""
    answers_invalid: bool
    """Whether FastAPI's own handler answers where arguments are wrong."""


def _entries(app: FastAPI, is_within_stack: bool, prefix: str = "", mounted_in: tuple[FastAPI, ...] = ()) -> Iterator[Entry]:
    spot = _Spot(app.router, is_within_stack, prefix, dict(_nodes(app.router.routes)), validation_error_is_plain(app))
    for context in iter_route_contexts(app.router.routes):
        entry = _entry(context, spot)
        if entry is None:
            continue
        if entry.kind == "prefix" and isinstance(context.original_route, Mount):
            yield from _mounted(context.original_route.app, entry, (*mounted_in, app))
        yield entry


def mounted_apps(app: FastAPI) -> list[FastAPI]:
    """The FastAPI apps within this one, whose routes may have plans."""
    found = [app]
    for outer in found:
        mounts = (context.original_route for context in iter_route_contexts(outer.router.routes))
        inner = (mount.app for mount in mounts if isinstance(mount, Mount) and isinstance(mount.app, FastAPI))
        found.extend(app for app in inner if all(app is not known for known in found))
    return found[1:]


def _mounted(app: Any, mount: Entry, mounted_in: tuple[FastAPI, ...]) -> Iterator[Entry]:
    """The routes of a mounted app: each request for them passes the app around it, and finds its way by that app's routes.

    Args:
        mounted_in: the apps that it is mounted in, as it may have one of these mounted in itself.
    """
    if not isinstance(app, FastAPI) or "{" in mount.template or any(app is outer for outer in mounted_in):
        return
    reason = _app_reason(app)
    for entry in _entries(app, is_within_stack=True, prefix=mount.template, mounted_in=mounted_in):
        yield entry if not reason else entry._replace(native=None, reason=reason)


def _nodes(routes: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    for route in routes:
        if hasattr(route, "effective_candidates"):
            for candidate in route.effective_candidates():
                if hasattr(candidate, "effective_candidates"):
                    yield from _nodes([candidate])
                else:
                    yield id(candidate), route


def _entry(context: Any, spot: _Spot) -> Entry | None:
    original = context.original_route
    # FastAPI 0.141 hides the prefixed copy of an included Starlette route here; 0.165 gives its attributes directly.
    effective = getattr(context, "starlette_route", None) or context
    kind = type(original)
    stock = (APIRoute, APIWebSocketRoute, Route, WebSocketRoute, Mount)
    if not isinstance(original, stock) or "matches" in vars(original) or kind.matches not in {known.matches for known in stock}:
        return _everything(f"{kind.__name__} decides by itself what it matches", spot.prefix)
    if isinstance(original, WebSocketRoute):
        return None
    template = spot.prefix + effective.path
    methods = () if isinstance(original, Mount) else tuple(effective.methods or ())
    reason = _template_reason(effective, effective.path + "/{path:path}" if isinstance(original, Mount) else effective.path)
    if reason:
        return Entry(template, methods, "opaque", None, reason)
    if isinstance(original, Mount):
        return Entry(template, methods, "prefix", None, "mounted app")
    if isinstance(original, APIRoute):
        native = _compile_route(context, original, methods, spot)
    else:
        native = _compile_function(context, effective, methods, spot)
    body_bytes_max = getattr(original, "turboapi_body_bytes_max", None)
    if isinstance(native, str):
        return Entry(template, methods, "route", None, native, body_bytes_max)
    return Entry(template, methods, "route", native, "", body_bytes_max)


#: A route's template is asked for more than once while it is looked at.
_compiled = functools.lru_cache(maxsize=4)(compile_path)


def _place(context: Any, spot: _Spot, marks: list[tuple[str, Any]], wrapped: Wrapped | None = None) -> Place:
    route_context = getattr(context, "_route_context", None)
    node = spot.nodes.get(id(route_context))
    included = None if node is None else {"included_router": node, "effective_route_context": route_context}
    return Place(spot.router, spot.is_within_stack or wrapped is not None, marks, _path_params(context), spot.prefix, included, wrapped)


def _path_params(context: Any) -> list[tuple[str, Callable[[str], Any] | None]]:
    """The template's names in order, each with what makes its value. Starlette's own `str` and `path` leave the text as it is."""
    return [(name, None if type(convertor) in OF_TEXT else convertor.convert) for name, convertor in _compiled(context.path)[2].items()]


_CONVERTORS = (*OF_TEXT, convertors.IntegerConvertor, convertors.FloatConvertor, convertors.UUIDConvertor)
_FUNCTIONS = (types.FunctionType, types.MethodType)


def _template_reason(route: Any, template: str) -> str:
    custom = [name for name, convertor in route.param_convertors.items() if type(convertor) not in _CONVERTORS]
    if custom:
        return f"path parameter {custom[0]!r} has a custom convertor"
    regex, path_format, found = _compiled(template)
    # FastAPI takes everything between braces for a parameter, Starlette only names.
    if regex != route.path_regex or set(re.findall("{(.*?)}", path_format)) != set(found):
        return "the path is not a plain template"
    return ""


def _compile_route(context: Any, original: APIRoute, methods: tuple[str, ...], spot: _Spot) -> NativeRoute | str:
    """The plan, or why there is none."""
    if getattr(context, "route", None) is original and getattr(context, "_route_context", None) is None:
        context = original  # PERF: it answers for it, and each of thirty looks takes 1 µs less.
    endpoint = context.endpoint
    if reason := _route_reason(context):
        return reason
    wrapped = find(context, original)
    if isinstance(wrapped, str):
        return wrapped
    if wrapped is not None:
        context = Shown(context, wrapped.function)
    if reason := _endpoint_reason(context.endpoint):
        return reason
    try:
        place = _place(context, spot, [("route", original), ("endpoint", endpoint)], wrapped)
        return _plan(context, original, methods, place, spot)
    except Exception as error:
        # Names that cannot be resolved, types pydantic has no schema for: FastAPI itself has found its way, we need not.
        return f"not understood: {type(error).__name__}: {error}".splitlines()[0]


def _compile_function(context: Any, route: Any, methods: tuple[str, ...], spot: _Spot) -> NativeRoute | str:
    """The plan of a route of Starlette's, whose function makes a response of a request. FastAPI's own docs pages are such."""
    endpoint = route.endpoint
    if not isinstance(endpoint, _FUNCTIONS) or _endpoint_reason(endpoint) or streams.is_generator(endpoint):
        return "Starlette route"
    if not _calls(route.app, endpoint) or type(context.original_route) is not Route:
        return "Starlette route"
    place = _place(context, spot, [("endpoint", endpoint)])
    if place.included and getattr(place.included["included_router"].include_context, "max_body_size", None) is not None:
        return "max_body_size"
    first, *further = inspect.signature(endpoint).parameters.values()
    if first.kind is not first.POSITIONAL_OR_KEYWORD or any(other.default is other.empty for other in further):
        return "Starlette route"
    return NativeRoute(
        endpoint=endpoint,
        is_coroutine=inspect.iscoroutinefunction(endpoint),
        parameters=(),
        bodies=(),
        takes_null=False,
        runs_app_code=False,
        wording=None,
        answers_invalid=False,
        read_json=read_json,
        status_code=None,
        render=as_response,
        serialize=None,
        encode=encode,
        respond=as_response,
        connection=first.name,
        response=None,
        make_response=make_response,
        place=place,
        owner=endpoint,
        blocking=None,
        label=f"{','.join(sorted(methods))} {spot.prefix}{route.path_format}",
    )


def _calls(app: Any, endpoint: Any) -> bool:
    """Whether this is what Starlette's `request_response` makes of the function, and nothing else."""
    if getattr(app, "__qualname__", "") != "request_response.<locals>.app" or app.__module__ != "starlette.routing":
        return False
    called = [cell.cell_contents for cell in app.__closure__ or ()]
    return len(called) == 1 and (called[0] is endpoint or getattr(called[0], "args", None) == (endpoint,))


def _route_reason(context: Any) -> str:
    if getattr(context, "max_body_size", None) is not None:
        return "max_body_size"
    if context.status_code and not 200 <= context.status_code <= 999:
        return f"status_code {context.status_code:d} is none that an answer may have"
    declared = context.response_class
    response_class = declared.value if isinstance(declared, DefaultPlaceholder) else declared
    if not isinstance(response_class, type) or not issubclass(response_class, Response):
        return "the response class is not a plain class"
    return streams.reason(context, response_class)


def _endpoint_reason(endpoint: Any) -> str:
    if streams.is_bare(endpoint):
        return ""
    if not isinstance(endpoint, _FUNCTIONS):
        return f"the endpoint is a {type(endpoint).__name__}, not a function"
    function = inspect.unwrap(endpoint)
    if any(kind(endpoint) != kind(function) for kind in (inspect.isgeneratorfunction, inspect.isasyncgenfunction)):
        return "a function wraps a generator, or a generator wraps a function"
    code, is_coroutine = getattr(endpoint, "__code__", None), inspect.iscoroutinefunction(endpoint)
    if code is None or is_coroutine != bool(code.co_flags & inspect.CO_COROUTINE) or hasattr(endpoint, "_is_coroutine"):
        return "the endpoint is marked as a coroutine function"
    if not is_coroutine and inspect.iscoroutinefunction(function):
        return "a def wraps an async def"
    return ""


def _plan(context: Any, original: APIRoute, methods: tuple[str, ...], place: Place, spot: _Spot) -> NativeRoute | str:
    root = read_tree(context)
    if isinstance(root, str):
        return root
    label = f"{','.join(sorted(methods))} {place.prefix}{context.path_format}"
    is_stream = root.kind == "stream"  # whose call only makes the generator
    if is_stream and (reason := streams.around_reason(context, (node.scope for node in root.walk()), place.wrapped is not None)):
        return reason
    blocking = False if is_stream else getattr(original, "turboapi_blocking", None)
    composed = compose(root, getattr(context, "dependant", None), label, context.path_format, blocking, place.is_within_stack)
    if isinstance(composed, str):
        return composed
    if place.wrapped is not None and (composed.is_staged or "tasks" in composed.given):
        return "dependencies with yield, or background tasks, within a custom route class"
    if place.wrapped is not None and composed.runs_app_code:
        return "code of the app's own converts an argument within a custom route class"
    overrides = getattr(getattr(context, "dependency_overrides_provider", None), "dependency_overrides", None)
    if root.nodes and type(overrides) not in (dict, types.NoneType):
        return "dependencies: dependency_overrides is not a dict"
    made = streams.renderers(context, label) if is_stream else renderers(context, label)
    return NativeRoute(
        endpoint=composed.function,
        is_coroutine=composed.is_coroutine,
        parameters=composed.parameters,
        bodies=composed.bodies,
        takes_null=rules().takes_null,
        runs_app_code=composed.runs_app_code,
        wording=None if place.wrapped else composed.wording,  # what stands around a handler sees the exception
        answers_invalid=spot.answers_invalid,
        read_json=read_json,
        status_code=context.status_code or None,
        render=made.render,
        serialize=made.serialize,
        encode=encode,
        respond=made.respond,
        connection=composed.given.get("connection"),
        response=composed.given.get("response"),
        make_response=make_response,
        tasks=composed.given.get("tasks"),
        place=place,
        owner=context.endpoint,
        blocking=None if is_stream and root.nodes else blocking,
        label=label,
        is_composed=bool(root.nodes),
        is_staged=composed.is_staged,
        parts=composed.parts,
        overrides=overrides if root.nodes else None,
    )
