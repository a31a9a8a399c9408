"""How each route of an app is answered: by a native plan, or by the app's own ASGI call.

Here: FastAPI's public declarations become plain values that `_core` runs (`compile_app`), and what it needs when a native handler
raises (`error_app`). Not here: matching, conversion and calling (python/src), the ASGI path itself (asgi.py).

INVARIANT: a native route only has to be right where FastAPI succeeds. Any failure before the endpoint is called makes `_core` hand the
same request to the app, which words the error. So whatever this file does not know for certain is a reason for the ASGI path, not a guess.
FastAPI's private parts are read only to find disagreement (`_disagreement`), never to build a plan from.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import re
import types
import typing
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import fastapi.routing
from fastapi import FastAPI, params
from fastapi.datastructures import DefaultPlaceholder
from fastapi.encoders import jsonable_encoder
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import EventSourceResponse
from fastapi.routing import APIRoute, APIRouter, APIWebSocketRoute, iter_route_contexts
from fastapi.security import SecurityScopes
from pydantic import BaseModel, Field, Json, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, SchemaSerializer, SchemaValidator
from starlette import convertors
from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, Router, WebSocketRoute, compile_path, request_response
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_inspection.typing_objects import is_typealiastype

Source = Literal["path", "query", "header", "cookie"]
Kind = Literal["str", "int", "float", "bool", "validator"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One scalar argument that comes from the head of the request."""

    name: str
    source: Source
    wire_name: str
    """Path parameter, query key, header name in lower case, or cookie name."""
    kind: Kind
    """Not "validator": an exact type without constraints, whose plain forms `_core` converts itself; it gives all others to `validate`."""
    validate: Callable[[object], object]
    """What FastAPI's field does with the text. Raises ValidationError, or ValueError where a path convertor does."""
    required: bool
    default: object
    default_factory: Callable[[], object] | None
    """Called once per request instead of `default`: the default is not immutable."""
    position: int
    """In the endpoint's signature, counted with the body."""
    keyword_only: bool


@dataclass(frozen=True, slots=True)
class Body:
    """The one argument that is the whole JSON body."""

    name: str
    validate: Callable[[object], object]
    required: bool
    default: object
    default_factory: Callable[[], object] | None
    position: int
    keyword_only: bool


@dataclass(frozen=True, slots=True)
class NativeRoute:
    """All that `_core` needs to answer a request without FastAPI."""

    path: str
    methods: tuple[str, ...]
    endpoint: Callable[..., Any]
    is_coroutine: bool
    parameters: tuple[Parameter, ...]
    body: Body | None
    status_code: int | None
    """The decorator's; None means 200."""
    render: Callable[[object], Response] | None
    """The whole answer, for response classes and status codes that are more than JSON bytes. Goes before the two below."""
    serialize: Callable[[object], bytes] | None
    """A response model is declared: validate, then JSON. Raises ResponseValidationError."""
    encode: Callable[[object], bytes]
    """No response model: the exact slow way for what the native JSON writer does not know. Raises what FastAPI raises."""
    media_type: str
    blocking: bool | None
    """Whether the endpoint may hold its thread; None: the server's inline budget decides."""
    label: str


class Entry(NamedTuple):
    """One line of the route table. All but the reason go to `_core.Worker.start`.

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
    table = [entry if not reason else entry._replace(native=None, reason=reason) for entry in _entries(app)]
    rest = reason or _unmatched_reason(app)
    if rest:
        table.append(_everything(rest))
    return table


def routes_version(app: FastAPI) -> int:
    """A number that changes when the table may have to be compiled again: routes added later, middleware, telemetry switched on.

    About 0.2 µs for each route of the app, so for once a second, not for each request. Routes put into the list of an included router
    by hand, past its methods, are not noticed; FastAPI does not notice them either.
    """
    router = app.router
    count = getattr(router, "_get_routes_version", None)
    return hash((count() if count is not None else 0, len(router.routes), _app_reason(app)))


def http_exception_is_plain(app: FastAPI) -> bool:
    """Whether an exception of exactly Starlette's or FastAPI's HTTPException is answered by FastAPI's stock handler.

    Then the answer is the status, the exception's headers and `{"detail": ...}`, without a body for 1xx, 204, 205 and 304.
    """
    handlers = app.exception_handlers
    if handlers.get(HTTPException) is not http_exception_handler:
        return False
    return not any(_may_handle_http_exception(key) for key in handlers if key is not HTTPException)


def error_app(app: FastAPI) -> ASGIApp:
    """Answers for an exception of a native handler as the app would have: the exception is `scope["turboapi.exception"]`.

    Raises the exception again after a 500, as Starlette does, so that the server logs it.
    """
    error_handler = None
    handlers: dict[Any, Any] = {}
    for key, handler in app.exception_handlers.items():
        if key in (500, Exception):
            error_handler = handler
        else:
            handlers[key] = handler

    async def raise_exception(request: Request) -> Response:
        raise request.scope["turboapi.exception"]

    # Two layers of handlers, as in the app: what a handler itself raises is handled once more.
    inner: ASGIApp = request_response(raise_exception)
    inner = ExceptionMiddleware(inner, handlers=handlers, debug=app.debug)
    stack = ServerErrorMiddleware(inner, handler=error_handler, debug=app.debug)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        scope.setdefault("router", app.router)
        _match_again(app, scope)
        await stack(scope, receive, send)

    return answer


def _match_again(app: FastAPI, scope: Scope) -> None:
    """Gives the handlers the route and its path parameters, which `_core` does not keep in Starlette's form."""
    for context in iter_route_contexts(app.router.routes):
        original = context.original_route
        if not isinstance(original, APIRoute) or scope["method"] not in (context.methods or ()):
            continue
        match = context.path_regex.match(scope["path"])
        if match is not None:
            values = {name: context.param_convertors[name].convert(text) for name, text in match.groupdict().items()}
            scope.update(route=original, endpoint=context.endpoint, path_params=values)
            return


# The app.


def _app_reason(app: FastAPI) -> str:
    """Why no route of this app may be native, or ""."""
    kind = type(app)
    for name in ("__call__", "build_middleware_stack"):
        if getattr(kind, name) is not getattr(FastAPI, name) or name in vars(app):
            return f"{kind.__name__}.{name} is not FastAPI's"
    if app.user_middleware:
        return "the app has middleware"
    if type(app.middleware_stack) not in (types.NoneType, ServerErrorMiddleware):
        return "the app's middleware stack was replaced"
    if getattr(app.router.middleware_stack, "__func__", None) is not APIRouter.app:
        return "the router has middleware"
    if app.root_path:
        return "the app has a root_path"
    if getattr(app, "max_body_size", None) is not None:
        return "the app has a max_body_size"
    telemetry = getattr(app, "_native_telemetry", None)
    if telemetry is not None and telemetry.enabled():
        return "telemetry is switched on"
    return _router_reason(app.router) or _patched_reason()


def _router_reason(router: Any) -> str:
    """Why the way in which this router finds its routes is unknown, or ""."""
    names = ("__call__", "app", "handle", "matches")
    overridden = [name for name in names if getattr(type(router), name, None) is not getattr(APIRouter, name) or name in vars(router)]
    if overridden:
        return f"{type(router).__name__}.{overridden[0]} is not FastAPI's"
    return next((reason for node in _included(router) if (reason := _router_reason(node))), "")


def _included(router: Any) -> Iterator[Any]:
    return (route.original_router for route in router.routes if hasattr(route, "original_router"))


_PATCHED_BY_TRACERS = (
    (fastapi.routing, ("get_request_handler", "request_response", "run_endpoint_function", "serialize_response", "solve_dependencies")),
    (APIRoute, ("get_route_handler", "handle", "matches")),
    (APIRouter, ("app", "handle", "matches")),
    (FastAPI, ("__call__", "build_middleware_stack")),
    (Starlette, ("__call__",)),
    (Router, ("__call__",)),
    (ExceptionMiddleware, ("__call__",)),
    (ServerErrorMiddleware, ("__call__",)),
)


def _patched_reason() -> str:
    """Tracers and profilers replace these functions; a native route would go past them unseen."""
    for owner, names in _PATCHED_BY_TRACERS:
        for name in names:
            function = getattr(owner, name, None)
            if function is None:
                continue
            is_original = type(function) is types.FunctionType and function.__module__.startswith(("fastapi.", "starlette."))
            if not is_original or hasattr(function, "__wrapped__"):
                return f"{owner.__name__}.{name} was replaced"
    return ""


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


def _may_handle_http_exception(key: Any) -> bool:
    if isinstance(key, int):
        return key != 500  # 500 and Exception belong to ServerErrorMiddleware, which no HTTPException reaches.
    return issubclass(key, HTTPException)


# Routes.


def _everything(reason: str) -> Entry:
    return Entry("", (), "prefix", None, reason)


def _entries(app: FastAPI) -> Iterator[Entry]:
    for context in iter_route_contexts(app.router.routes):
        entry = _entry(context)
        if entry is None:
            continue
        if entry.kind == "prefix" and isinstance(context.original_route, Mount):
            yield from _limited(context.original_route.app, entry)
        yield entry


def _limited(app: Any, mount: Entry) -> Iterator[Entry]:
    """The routes of a mounted app, if any of them has a limit of its own: `_core` has to know it before it calls anybody."""
    if not isinstance(app, FastAPI) or "{" in mount.template:
        return
    entries = list(_entries(app))
    if any(entry.body_bytes_max is not None for entry in entries):
        for entry in entries:
            yield entry._replace(template=mount.template + entry.template, native=None, reason=mount.reason)


def _entry(context: Any) -> Entry | None:
    original = context.original_route
    # FastAPI 0.141 hides the prefixed copy of an included Starlette route here; 0.165 gives its attributes directly.
    effective = getattr(context, "starlette_route", None) or context
    kind = type(original)
    stock = (APIRoute, APIWebSocketRoute, Route, WebSocketRoute, Mount)
    if not isinstance(original, stock) or "matches" in vars(original) or kind.matches not in {known.matches for known in stock}:
        return _everything(f"{kind.__name__} decides by itself what it matches")
    if isinstance(original, WebSocketRoute):
        return None
    template = effective.path
    methods = () if isinstance(original, Mount) else tuple(effective.methods or ())
    reason = _template_reason(effective, template + "/{path:path}" if isinstance(original, Mount) else template)
    if reason:
        return Entry(template, methods, "opaque", None, reason)
    if isinstance(original, Mount):
        return Entry(template, methods, "prefix", None, "mounted app")
    if not isinstance(original, APIRoute):
        return Entry(template, methods, "route", None, "Starlette route")
    native = _compile_route(context, original, methods)
    body_bytes_max = getattr(original, "turboapi_body_bytes_max", None)
    if isinstance(native, str):
        return Entry(template, methods, "route", None, native, body_bytes_max)
    return Entry(template, methods, "route", native, "", body_bytes_max)


_CONVERTORS = (
    convertors.StringConvertor,
    convertors.PathConvertor,
    convertors.IntegerConvertor,
    convertors.FloatConvertor,
    convertors.UUIDConvertor,
)


def _template_reason(route: Any, template: str) -> str:
    custom = [name for name, convertor in route.param_convertors.items() if type(convertor) not in _CONVERTORS]
    if custom:
        return f"path parameter {custom[0]!r} has a custom convertor"
    regex, path_format, found = compile_path(template)
    # FastAPI takes everything between braces for a parameter, Starlette only names.
    if regex != route.path_regex or set(re.findall("{(.*?)}", path_format)) != set(found):
        return "the path is not a plain template"
    return ""


def _compile_route(context: Any, original: APIRoute, methods: tuple[str, ...]) -> NativeRoute | str:
    """The plan, or why there is none."""
    endpoint = context.endpoint
    reason = _route_reason(context, original) or _endpoint_reason(endpoint)
    if reason:
        return reason
    try:
        return _plan(context, original, methods)
    except Exception as error:
        # Names that cannot be resolved, types pydantic has no schema for: FastAPI itself has found its way, we need not.
        return f"not understood: {type(error).__name__}: {error}".splitlines()[0]


def _route_reason(context: Any, original: APIRoute) -> str:
    if type(original) is not APIRoute:
        return f"custom route class {type(original).__name__}"
    overridden = {"handle", "get_route_handler"} & vars(original).keys()
    if overridden:
        return f"{overridden.pop()} of the route was replaced"
    if context.dependencies:
        return "dependencies"
    if getattr(context, "max_body_size", None) is not None:
        return "max_body_size"
    if context.status_code and not 200 <= context.status_code <= 999:
        return f"status_code {context.status_code:d} is none that an answer may have"
    app = getattr(context, "app", None)
    if app is not None and getattr(app, "__qualname__", "") != "request_response.<locals>.app":
        return "the route's app was wrapped"
    declared = context.response_class
    response_class = declared.value if isinstance(declared, DefaultPlaceholder) else declared
    if not _is_subclass(response_class, Response) or _is_subclass(response_class, EventSourceResponse):
        return "server-sent events" if response_class is EventSourceResponse else "the response class is not a plain class"
    return ""


def _endpoint_reason(endpoint: Any) -> str:
    if not isinstance(endpoint, types.FunctionType | types.MethodType):
        return f"the endpoint is a {type(endpoint).__name__}, not a function"
    function = inspect.unwrap(endpoint)
    for layer in (endpoint, function):
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            return "generator: the answer is a stream"
    code = getattr(endpoint, "__code__", None)
    is_coroutine = inspect.iscoroutinefunction(endpoint)
    if code is None or is_coroutine != bool(code.co_flags & inspect.CO_COROUTINE) or hasattr(endpoint, "_is_coroutine"):
        return "the endpoint is marked as a coroutine function"
    if not is_coroutine and inspect.iscoroutinefunction(function):
        return "a def wraps an async def"
    return ""


def _plan(context: Any, original: APIRoute, methods: tuple[str, ...]) -> NativeRoute | str:
    endpoint = context.endpoint
    path_names = set(context.param_convertors)
    signature = inspect.signature(endpoint, eval_str=True)
    # A decorator's wrapper has a signature that is not its own, and may look for names: FastAPI only passes keywords.
    is_decorated = hasattr(endpoint, "__wrapped__") or hasattr(endpoint, "__signature__")
    parameters: list[Parameter] = []
    bodies: list[Body] = []
    for position, argument in enumerate(signature.parameters.values()):
        read = _read_argument(argument, position, path_names, is_decorated)
        if isinstance(read, str):
            return f"{argument.name}: {read}"
        if isinstance(read, Body):
            bodies.append(read)
            continue
        if read.source == "path":
            if read.wire_name not in path_names:
                return f"{argument.name}: not in the path"
            read = _converted(read, context.param_convertors[read.wire_name])
        parameters.append(read)
    if len(bodies) > 1:
        return "several body parameters"
    reason = _disagreement(context, parameters, bodies)
    if reason:
        return reason
    label = f"{','.join(sorted(methods))} {context.path_format}"
    render, serialize = _answer(context, label)
    return NativeRoute(
        path=context.path,
        methods=methods,
        endpoint=endpoint,
        is_coroutine=inspect.iscoroutinefunction(endpoint),
        parameters=tuple(parameters),
        body=bodies[0] if bodies else None,
        status_code=context.status_code or None,
        render=render,
        serialize=serialize,
        encode=_encode,
        media_type="application/json",
        blocking=getattr(original, "turboapi_blocking", None),
        label=label,
    )


def _disagreement(context: Any, parameters: Sequence[Parameter], bodies: Sequence[Body]) -> str:
    """What FastAPI itself made of the signature, where it lets us see it, has to be the same."""
    dependant = getattr(context, "dependant", None)
    if dependant is None:
        return ""
    if dependant.call is not context.endpoint:
        return "the endpoint was wrapped after it was registered"
    if dependant.dependencies:
        return "dependencies"
    for source in typing.get_args(Source):
        ours = {parameter.name: parameter.wire_name for parameter in parameters if parameter.source == source}
        theirs = {field.name: field.validation_alias or field.alias for field in getattr(dependant, f"{source}_params")}
        if source == "header":
            theirs = {name: alias.lower() for name, alias in theirs.items()}
        if ours != theirs:
            return f"{source} parameters are read as {theirs}"
    if [body.name for body in bodies] != [field.name for field in dependant.body_params]:
        return "body parameters are read in another way"
    return ""


# Arguments.

_SPECIAL = (HTTPConnection, Response, BackgroundTasks, SecurityScopes)
_SOURCES: dict[type, Source] = {params.Path: "path", params.Query: "query", params.Header: "header", params.Cookie: "cookie"}


def _read_argument(argument: inspect.Parameter, position: int, path_names: set[str], keyword_only: bool) -> Parameter | Body | str:
    """One argument as FastAPI's `analyze_param` reads it, or why it is not for a plan."""
    if argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
        return f"{argument.kind.description} argument"
    keyword_only = keyword_only or argument.kind is argument.KEYWORD_ONLY
    declared = _declaration(argument, path_names)
    if isinstance(declared, str):
        return declared
    info, annotation, default_given = declared
    field = _Field.of(info, annotation, argument.default if default_given else info.default)
    if type(info) is params.Body:
        if info.embed:
            return "embedded body"
        default = _body_default(field)
        if isinstance(default, str):
            return default
        return Body(argument.name, field.validate, *default, position, keyword_only)
    source = _SOURCES.get(type(info))
    if source is None:
        return f"declared by {type(info).__name__}"
    if not _is_scalar(field.annotation) or any(type(item) is Json for item in field.metadata):
        return f"more than one value from the {source}"
    default = _scalar_default(field)
    if isinstance(default, str):
        return default
    wire_name = _wire_name(info, argument.name)
    if not wire_name:
        return "alias is not a plain name"
    return Parameter(argument.name, source, wire_name, field.kind, field.validate, *default, position, keyword_only)


def _declaration(argument: inspect.Parameter, path_names: set[str]) -> tuple[FieldInfo, Any, bool] | str:
    """The `fastapi.params` object that declares the argument, the annotation it counts with, and whether `=` gives the default."""
    annotation: Any = Any if argument.annotation is inspect.Parameter.empty else argument.annotation
    if is_typealiastype(annotation):
        annotation = annotation.__value__
    is_annotated = typing.get_origin(annotation) is typing.Annotated
    extras = annotation.__metadata__ if is_annotated else ()
    bare = typing.get_args(annotation)[0] if is_annotated else annotation
    default = argument.default
    if isinstance(default, params.Depends) or any(isinstance(extra, params.Depends) for extra in extras):
        return "Depends"
    if _is_subclass(bare, _SPECIAL):
        return bare.__name__
    infos = [extra for extra in extras if isinstance(extra, FieldInfo)]
    ours = [info for info in infos if isinstance(info, params.Param | params.Body)]
    if len(ours) > 1 or any(_has_attributes(info) for info in infos if info not in ours):
        # How several declarations merge differs between FastAPI versions; only constraints do not.
        return "several declarations in one Annotated"
    if isinstance(default, FieldInfo):
        if ours:
            return "declared twice"
        return default, bare, False
    has_default = default is not inspect.Parameter.empty
    if ours:
        if default is ...:
            return "default is ..."
        return ours[0], annotation, has_default
    if argument.name in path_names:
        return params.Path(), annotation, False
    if _mentions(bare, UploadFile):
        return "file"
    inferred = params.Query() if _is_scalar(bare) else params.Body()
    return inferred, annotation, has_default and default is not ...


def _has_attributes(info: FieldInfo) -> bool:
    names = ("alias", "validation_alias", "default_factory", "validate_default", "discriminator")
    return info.default is not PydanticUndefined or any(getattr(info, name, None) is not None for name in names)


def _wire_name(info: FieldInfo, name: str) -> str:
    """The key that FastAPI looks up; empty if it is not one plain name."""
    alias = info.validation_alias
    if alias is not None and not isinstance(alias, str):
        return ""
    alias = alias or info.alias
    if not alias:
        alias = name.replace("_", "-") if getattr(info, "convert_underscores", False) else name
    if isinstance(info, params.Header):
        return alias.lower() if alias.isascii() else ""
    return alias


def _is_subclass(annotation: Any, kinds: type | tuple[type, ...]) -> bool:
    # `list[int]` is not an instance of type, but `isinstance` says it is on some versions.
    return isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, kinds)


def _members(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, types.UnionType) else ()


def _mentions(annotation: Any, kind: type) -> bool:
    return _is_subclass(annotation, kind) or any(_mentions(argument, kind) for argument in typing.get_args(annotation))


def _is_scalar(annotation: Any) -> bool:
    """Whether an argument without declaration is a query parameter, not a body."""
    members = _members(annotation)
    if members:
        return all(_is_scalar(member) for member in members)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _is_scalar(typing.get_args(annotation)[0])
    has_schema = hasattr(origin, "__pydantic_core_schema__") or hasattr(origin, "__get_pydantic_core_schema__")
    return not (has_schema or _is_complex(annotation) or _is_complex(origin))


def _is_complex(kind: Any) -> bool:
    if _is_subclass(kind, (str, bytes)):
        return False
    return _is_subclass(kind, (BaseModel, Mapping, UploadFile, Sequence, set, frozenset, tuple)) or dataclasses.is_dataclass(kind)


# Validation.

_ATTRIBUTES = (
    "default", "default_factory", "alias", "alias_priority", "validation_alias", "serialization_alias", "title", "field_title_generator",
    "description", "examples", "exclude", "exclude_if", "discriminator", "deprecated", "json_schema_extra", "frozen", "validate_default",
    "repr", "init", "init_var", "kw_only",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Field:
    """One value to validate: what FastAPI's ModelField is, from public parts."""

    annotation: Any
    metadata: tuple[Any, ...]
    info: FieldInfo
    adapter: TypeAdapter[Any]

    @classmethod
    def of(cls, info: FieldInfo, annotation: Any, default: Any = PydanticUndefined) -> _Field:
        # A declaration inside Annotated stands beside the other constraints there; one that is the default has only its own.
        is_annotated = typing.get_origin(annotation) is typing.Annotated
        merged = copy.copy(type(info).from_annotation(annotation) if is_annotated else info)
        merged.default = default
        annotation = merged.annotation if is_annotated else annotation
        attributes = {name: value for name in _ATTRIBUTES if (value := getattr(merged, name, PydanticUndefined)) is not PydanticUndefined}
        with warnings.catch_warnings():
            # Pydantic warns about an alias outside a model. FastAPI reads that alias itself, so the warning is not for the user.
            warnings.simplefilter("ignore")
            adapter: TypeAdapter[Any] = TypeAdapter(typing.Annotated[(annotation, *merged.metadata, Field(**attributes))])
        return cls(annotation, tuple(merged.metadata), merged, adapter)

    @property
    def validate(self) -> Callable[[object], object]:
        return functools.partial(self.adapter.validator.validate_python, from_attributes=True)

    @property
    def kind(self) -> Kind:
        if type(self.adapter.validator) is not SchemaValidator:
            return "validator"  # A pydantic plugin watches validation.
        schema: Any = self.adapter.core_schema
        while schema["type"] in ("default", "nullable"):
            schema = schema["schema"]
        is_plain = schema.keys() <= {"type", "metadata"}
        return schema["type"] if is_plain and schema["type"] in ("str", "int", "float", "bool") else "validator"


def _converted(parameter: Parameter, convertor: convertors.Convertor[Any]) -> Parameter:
    """Starlette converts `{x:int}` before FastAPI validates, so the field sees an int, not its text."""
    if isinstance(convertor, convertors.StringConvertor | convertors.PathConvertor):
        return parameter
    is_same_type = parameter.kind == {convertors.IntegerConvertor: "int", convertors.FloatConvertor: "float"}.get(type(convertor))
    convert, validate = convertor.convert, parameter.validate

    def convert_and_validate(text: Any) -> object:
        return validate(convert(text))

    return dataclasses.replace(parameter, kind=parameter.kind if is_same_type else "validator", validate=convert_and_validate)


# Defaults: (required, default, default_factory).
_Default = tuple[bool, object, Callable[[], object] | None]


def _body_default(field: _Field) -> _Default | str:
    info = field.info
    if info.is_required():
        return True, None, None
    if info.validate_default:
        return "validated default"
    if info.default_factory is not None:
        if info.default is not PydanticUndefined or info.default_factory_takes_validated_data:
            return "default_factory with arguments"
        factory: Any = info.default_factory
        return False, None, lambda: copy.deepcopy(factory())
    return False, *_constant(info.default)


def _scalar_default(field: _Field) -> _Default | str:
    info = field.info
    if info.is_required():
        return True, None, None
    if info.validate_default or info.default_factory is not None:
        # FastAPI 0.141 calls the factory twice for one request, 0.165 once.
        return "validated or computed default"
    default = info.default
    validates = _defaults_are_validated()
    if default is None or validates is False:
        return False, *_constant(default)
    try:
        validated = field.validate(copy.deepcopy(default))
    except ValidationError:
        return "default does not validate"
    is_same = type(validated) is type(default) and validated == default
    if not _is_immutable(validated) or (validates is None and not is_same):
        return "default is changed by validation"
    return False, validated, None


def _constant(default: object) -> tuple[object, Callable[[], object] | None]:
    return (default, None) if _is_immutable(default) else (None, functools.partial(copy.deepcopy, default))


_IMMUTABLE = {
    types.NoneType, bool, int, float, complex, str, bytes, decimal.Decimal, uuid.UUID,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone,
}  # fmt: skip


def _is_immutable(value: object) -> bool:
    if type(value) in (tuple, frozenset):
        return all(_is_immutable(item) for item in value)  # type: ignore[attr-defined]
    return type(value) in _IMMUTABLE or isinstance(value, enum.Enum)


@functools.cache
def _defaults_are_validated() -> bool | None:
    """Whether this FastAPI validates the default of a missing query parameter: 0.141 does, 0.165 does not. None: cannot tell.

    Asked of FastAPI itself, as the version that changed it is not written down anywhere.
    """

    def endpoint(number: float = 1) -> None: ...

    try:
        from fastapi.dependencies.utils import get_dependant, request_params_to_args
        from starlette.datastructures import QueryParams

        dependant = get_dependant(path="/", call=endpoint)
        values, errors = request_params_to_args(dependant.query_params, QueryParams(""))
        value = values["number"]
    except Exception:
        return None
    if errors or value != 1:
        return None
    return type(value) is float


# Answers.


def _encode(value: object) -> bytes:
    return bytes(JSONResponse(jsonable_encoder(value)).body)


def _answer(context: Any, label: str) -> tuple[Callable[[object], Response] | None, Callable[[object], bytes] | None]:
    """`render` and `serialize` of the plan."""
    declared = context.response_class
    is_default = isinstance(declared, DefaultPlaceholder)
    response_class = declared.value if is_default else declared
    has_model = bool(context.response_model)
    status_code = context.status_code or None
    options: dict[str, Any] = {"background": None} if status_code is None else {"background": None, "status_code": status_code}
    convert = _serializer(context, label, to_bytes=is_default) if has_model else jsonable_encoder

    if ((is_default and has_model) or response_class is JSONResponse) and not _is_bodiless(status_code or 200):
        if not has_model:
            return None, None
        return None, convert if is_default else lambda value: bytes(JSONResponse(convert(value)).body)

    if is_default and has_model:
        make: Callable[[Any], Response] = functools.partial(Response, media_type="application/json", **options)
    else:
        make = functools.partial(response_class, **options)

    def render(value: object) -> Response:
        response = make(convert(value))
        if _is_bodiless(response.status_code):
            response.body = b""
        return response

    return render, None


def _is_bodiless(status_code: int) -> bool:
    return status_code < 200 or status_code in (204, 205, 304)


def _serializer(context: Any, label: str, to_bytes: bool) -> Callable[[object], Any]:
    """`serialize_response` of FastAPI for a response model: to JSON bytes, or to values that json can dump."""
    field = _Field.of(FieldInfo(annotation=context.response_model), context.response_model)
    validate = field.validate
    options = {
        "include": context.response_model_include,
        "exclude": context.response_model_exclude,
        "by_alias": context.response_model_by_alias,
        "exclude_unset": context.response_model_exclude_unset,
        "exclude_defaults": context.response_model_exclude_defaults,
        "exclude_none": context.response_model_exclude_none,
    }
    dump: Callable[..., Any]
    if to_bytes:
        # PERF: the serializer itself, not TypeAdapter's method around it, which only passes a dozen keywords on.
        serializer: Any = field.adapter.serializer
        dump = functools.partial(serializer.to_json if type(serializer) is SchemaSerializer else field.adapter.dump_json, **options)
    else:
        dump = functools.partial(field.adapter.dump_python, mode="json", **options)
    endpoint = context.endpoint

    def serialize(value: object) -> Any:
        try:
            validated = validate(value)
        except ValidationError as error:
            errors: list[Any] = [{**line, "loc": ("response", *line["loc"])} for line in error.errors(include_url=False)]
        else:
            return dump(validated)
        raise ResponseValidationError(errors=errors, body=value, endpoint_ctx=_where(endpoint, label))

    return serialize


def _where(endpoint: Callable[..., Any], label: str) -> Any:
    """What the message of a ResponseValidationError names. Reads the source file: only after a failure."""
    try:
        place: dict[str, Any] = {"file": inspect.getsourcefile(endpoint), "line": inspect.getsourcelines(endpoint)[1]}
    except (OSError, TypeError):
        place = {}
    return {**place, "function": endpoint.__name__, "path": label}
