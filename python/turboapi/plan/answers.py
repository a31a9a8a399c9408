"""What comes of a native handler: the value that it returned, or the exception that it raised.

Here: what FastAPI's `serialize_response` does with the one, and the app's own handlers with the other. Not here: plain values to JSON
without a model, which `_core` does by itself (python/src/json.rs).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, NamedTuple

from fastapi import BackgroundTasks, FastAPI
from fastapi.datastructures import DefaultPlaceholder
from fastapi.encoders import jsonable_encoder
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import SchemaSerializer
from starlette._exception_handler import wrap_app_handling_exceptions
from starlette._utils import get_route_path, is_async_callable
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .app_code import runs_app_code
from .chain import chain
from .field import PLAIN, ModelField
from .invalid import where
from .raising import Raising, after_begin

#: Of the scope of an exception: whether the answer has begun.
HAS_BEGUN = "turboapi.has_begun"

#: Whether a handler was called for it that has raised this one.
WAS_HANDLED = "turboapi.was_handled"

#: The path of the route that `_core` has found, as it was declared.
TEMPLATE = "turboapi.template"


def encode(value: object) -> bytes:
    return bytes(JSONResponse(jsonable_encoder(value)).body)


class Renderers(NamedTuple):
    """What makes answers of a route's values: the plan's fields of the same names."""

    render: Callable[[object, BackgroundTasks | None], Response] | None
    serialize: Callable[[object], bytes] | None
    respond: Callable[[object, Response, BackgroundTasks | None], Response]


def renderers(context: Any, label: str) -> Renderers:
    """Those of a route. `context` is FastAPI's; `label` is for messages: method and path."""
    declared = context.response_class
    is_default = isinstance(declared, DefaultPlaceholder)
    response_class = declared.value if is_default else declared
    has_model = bool(context.response_model)
    status_code = context.status_code or None
    options: dict[str, Any] = {} if status_code is None else {"status_code": status_code}
    convert: Callable[[object], Any] = jsonable_encoder
    if has_model:
        in_thread = not inspect.iscoroutinefunction(context.endpoint)
        convert = model_serializer(context, context.response_model, label, to_bytes=is_default, in_thread=in_thread)

    if is_default and has_model:
        make: Callable[..., Response] = functools.partial(Response, media_type="application/json", **options)
    else:
        make = functools.partial(response_class, **options)

    def render(value: object, tasks: BackgroundTasks | None = None, **said: int) -> Response:
        response = make(convert(value), background=tasks, **said)
        if _is_bodiless(response.status_code):
            response.body = b""
        return response

    def respond(value: object, injected: Response, tasks: BackgroundTasks | None = None) -> Response:
        response = render(value, tasks, status_code=injected.status_code) if injected.status_code else render(value, tasks)
        response.headers.raw.extend(injected.headers.raw)
        return response

    if ((is_default and has_model) or response_class is JSONResponse) and not _is_bodiless(status_code or 200):
        if not has_model:
            return Renderers(None, None, respond)
        return Renderers(None, convert if is_default else lambda value: bytes(JSONResponse(convert(value)).body), respond)
    return Renderers(render, None, respond)


def as_response(value: object, *_: object) -> Any:
    """What a function of a Starlette route has returned: any ASGI app answers, nothing else does."""
    if not callable(value):
        raise TypeError(f"{type(value).__name__!r} object is not callable")
    return value


def make_response() -> Response:
    """What FastAPI gives to an argument of type `Response`: no status, no headers."""
    response = Response()
    del response.headers["content-length"]
    response.status_code = None  # type: ignore[assignment]
    return response


def _is_bodiless(status_code: int) -> bool:
    return status_code < 200 or status_code in (204, 205, 304)


def model_serializer(context: Any, model: Any, label: str, *, to_bytes: bool, in_thread: bool) -> Callable[[object], Any]:
    """`serialize_response` of FastAPI for a response model: to JSON bytes, or to values that json can dump.

    Args:
        in_thread: whether FastAPI validates in a thread, as it does with what a `def` has returned.
    """
    field = ModelField.of(PLAIN[FieldInfo], model)
    validate = field.validate
    if in_thread and runs_app_code(field):
        # What code of the app's sets there nobody else sees.
        validate = functools.partial(_in_copied_context, validate)
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
        raise ResponseValidationError(errors=errors, body=value, endpoint_ctx={**where(endpoint), "path": label})  # type: ignore[typeddict-item]

    return serialize


def _in_copied_context(validate: Callable[[object], object], value: object) -> object:
    return copy_context().run(validate, value)


# Exceptions.


class Handlers(NamedTuple):
    """The exception handlers that count: of the stack if there is one, as further ones of the app came too late for it."""

    error: Any
    """Of 500 and of every exception that no other one is for."""
    others: dict[Any, Any]
    """By status or class."""
    debug: bool

    def find(self, error: BaseException) -> Any:
        """The one for this exception; None: that of `error` has it."""
        handler = self.others.get(error.status_code) if isinstance(error, HTTPException) else None
        if handler is not None:
            return handler
        return next((self.others[kind] for kind in type(error).__mro__ if kind in self.others), None)


def build_stack(app: FastAPI) -> None:
    """Builds the stack as the first call of the app would, where no lifespan has made that call."""
    if app.middleware_stack is None and not app.user_middleware:
        app.middleware_stack = app.build_middleware_stack()


def stock_layers(app: FastAPI) -> tuple[ServerErrorMiddleware, ExceptionMiddleware] | None:
    """The two layers of FastAPI's own stack that have handlers; None if there is another stack, or a stranger in it."""
    outer, inner = app.middleware_stack, None
    for layer in chain(outer):
        if layer is app.router:
            return None if type(outer) is not ServerErrorMiddleware or inner is None else (outer, inner)
        if not type(layer).__module__.startswith(("fastapi.", "starlette.", "turboapi.plan.")):
            return None
        if type(layer) is ExceptionMiddleware:
            inner = layer
    return None


def handlers_of(app: FastAPI) -> Handlers:
    """Reads them."""
    built = stock_layers(app)
    if built is not None:
        outer, inner = built
        return Handlers(outer.handler, {**inner._status_handlers, **inner._exception_handlers}, outer.debug)
    # As `build_middleware_stack` sorts them.
    others = {key: handler for key, handler in app.exception_handlers.items() if key not in (500, Exception)}
    errors = [handler for key, handler in app.exception_handlers.items() if key in (500, Exception)]
    return Handlers(errors[-1] if errors else None, others, app.debug)


def http_exception_is_plain(app: FastAPI) -> bool:
    """Whether an exception of exactly Starlette's or FastAPI's HTTPException is answered by FastAPI's stock handler.

    Then the answer is the status, the exception's headers and `{"detail": ...}`, without a body for 1xx, 204, 205 and 304.
    """
    handlers = handlers_of(app).others
    if handlers.get(HTTPException) is not http_exception_handler:
        return False
    return not any(_may_handle_http_exception(key) for key in handlers if key is not HTTPException)


def validation_error_is_plain(app: FastAPI) -> bool:
    """Whether FastAPI's stock handler answers where arguments are missing or wrong: 422, and `{"detail": ...}` with the errors."""
    return handlers_of(app).others.get(RequestValidationError) is request_validation_exception_handler


#: Response classes that are their status, headers and body and nothing else.
PLAIN_RESPONSES = (JSONResponse, PlainTextResponse, HTMLResponse, RedirectResponse, Response)


def error_app(app: FastAPI, around: Callable[[ASGIApp], ASGIApp] | None = None) -> ASGIApp:
    """Answers for an exception of a native handler as the app would have: the exception is `scope["turboapi.exception"]`. Where its answer
    has begun already, by the gateway's `send`, handlers are asked all the same, and what they answer is dropped.

    Raises the exception again after a 500, as Starlette does, so that the server logs it.

    Args:
        around: puts the app's middleware around its exception handlers. A 500 is not among these: it goes past the middleware.
    """
    handlers = handlers_of(app)
    are_async = {id(handler): is_async_callable(handler) for handler in handlers.others.values()}
    routes = _routes_by_template(app)

    async def raise_exception(scope: Scope, receive: Receive, send: Send) -> None:
        raising: ASGIApp = Raising(scope["turboapi.exception"], scope[HAS_BEGUN])
        if not scope[WAS_HANDLED]:
            raising = wrap_app_handling_exceptions(raising, Request(scope, receive, send))
        await raising(scope, receive, send)

    # Two layers of handlers, as in the app: what a handler itself raises is handled once more.
    inner: ASGIApp = ExceptionMiddleware(raise_exception, handlers=handlers.others, debug=handlers.debug)
    # Middleware that holds an answer's begin back must not hide it: of a failure after it, all of it does no more than pass it on.
    begun = ServerErrorMiddleware(inner, handler=handlers.error, debug=handlers.debug)
    stack = begun if around is None else ServerErrorMiddleware(around(inner), handler=handlers.error, debug=handlers.debug)

    async def handle(handler: Any, scope: Scope, receive: Receive, send: Send) -> None:
        """What the inner layer does. PERF: the two of them and what is outside cost seven coroutines and three Requests."""
        error, request = scope["turboapi.exception"], Request(scope, receive, send)
        is_async = are_async[id(handler)]
        response = await (handler(request, error) if is_async else run_in_threadpool(handler, request, error))
        if type(response) in PLAIN_RESPONSES and response.background is None and type(response.body) is bytes:
            send.whole(response.status_code, response.raw_headers, response.body)  # type: ignore[attr-defined]
        elif response is not None:
            await response(scope, receive, send)
        error.__traceback__ = None  # as Starlette does, for exceptions that are raised again and again

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        scope.setdefault("router", app.router)
        _match_again(app, routes.get((scope.get(TEMPLATE), scope["method"])), scope)
        is_out = getattr(send, "has_begun", False)
        has_begun = scope[HAS_BEGUN] = is_out or getattr(send, "is_held_back", False) or scope.get(HAS_BEGUN, False)
        scope[WAS_HANDLED] = False
        if not has_begun and around is None and hasattr(send, "whole"):
            handler = handlers.find(scope["turboapi.exception"])
            if handler is not None:
                try:
                    await handle(handler, scope, receive, send)
                    return
                except Exception as error:
                    scope["turboapi.exception"], scope[WAS_HANDLED] = error, True
                is_out = scope[HAS_BEGUN] = send.has_begun  # type: ignore[attr-defined]
        if is_out or (around is None and scope[HAS_BEGUN]):
            await begun(scope, receive, after_begin(send))
        else:
            await stack(scope, receive, send)

    return answer


def responding(error_app: ASGIApp, inner: ASGIApp) -> ASGIApp:
    """Has `inner` answer; what it raises is for the app's exception handlers."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await inner(scope, receive, send)
        except Exception as error:
            scope["turboapi.exception"], scope["turboapi.traceback"] = error, error.__traceback__
            await error_app(scope, receive, send)

    return respond


def _routes_by_template(app: FastAPI) -> dict[tuple[str | None, str], Any]:
    """FastAPI's contexts of the app's own routes, by template and method: the first of those with the same ones."""
    found: dict[tuple[str | None, str], Any] = {}
    for context in iter_route_contexts(app.router.routes):
        if isinstance(context.original_route, APIRoute):
            for method in context.methods or ():
                found.setdefault((context.path, method), context)
    return found


def _match_again(app: FastAPI, known: Any, scope: Scope) -> None:
    """Gives the handlers the route and its path parameters, which `_core` does not keep in Starlette's form.

    Args:
        known: the context of the route that `_core` has found; None: it cannot be told any more.
    """
    path = get_route_path(scope)
    for context in (known,) if known is not None else iter_route_contexts(app.router.routes):
        original = context.original_route
        if not isinstance(original, APIRoute) or scope["method"] not in (context.methods or ()):
            continue
        match = context.path_regex.match(path)
        if match is not None:
            values = {name: context.param_convertors[name].convert(text) for name, text in match.groupdict().items()}
            scope.update(route=original, endpoint=context.endpoint, path_params=values)
            return


def _may_handle_http_exception(key: Any) -> bool:
    if isinstance(key, int):
        return key != 500  # 500 and Exception belong to ServerErrorMiddleware, which no HTTPException reaches.
    return issubclass(key, HTTPException)
