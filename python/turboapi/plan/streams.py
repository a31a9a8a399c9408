"""Endpoints that are generators: their answer is a stream of what they yield.

Here: what FastAPI's `get_request_handler` makes of such a generator, a `StreamingResponse` of JSON lines or of the declared class.
Not here: how server-sent events are read and sent (events.py), and how other streams are (serving/streaming.py).
"""

from __future__ import annotations

import functools
import inspect
import json
import types
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeGuard

import anyio
import fastapi.routing
from fastapi.datastructures import DefaultPlaceholder
from fastapi.encoders import jsonable_encoder
from fastapi.responses import EventSourceResponse
from starlette.background import BackgroundTasks
from starlette.responses import Response, StreamingResponse

from . import events
from .answers import Renderers, model_serializer

#: FastAPI 0.165: numbers that JSON does not have are null. Older ones write them as Python does.
_finite: Callable[[Any], Any] = getattr(fastapi.routing, "_normalize_non_finite_floats", lambda value: value)


def is_generator(endpoint: Callable[..., Any]) -> bool:
    """Whether a call of this function gives a generator."""
    if is_bare(endpoint):
        return bool(endpoint.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR))
    return inspect.isgeneratorfunction(endpoint) or inspect.isasyncgenfunction(endpoint)


def is_bare(function: Any) -> TypeGuard[types.FunctionType]:
    """Whether this is a function with nothing written on it. PERF: its code says what `inspect` finds out, in a tenth of the time."""
    return type(function) is types.FunctionType and not function.__dict__


def reason(context: Any, response_class: type[Response]) -> str:
    """Why what an endpoint returns is a stream that is not for a plan, or ""."""
    sends_events = issubclass(response_class, EventSourceResponse)
    if not is_generator(context.endpoint):
        return "server-sent events of no generator" if sends_events else ""
    known = {"is_json_stream", "is_sse_stream", "stream_item_type"}
    if any(getattr(context, name, known) is known for name in known):
        return "generator: this FastAPI does not say what it makes of it"
    if sends_events != context.is_sse_stream:
        return "server-sent events of a default response class"
    if sends_events:
        return "" if events.are_known() else "server-sent events: how this FastAPI sends them is not known"
    if context.is_json_stream != isinstance(context.response_class, DefaultPlaceholder):
        return "generator: its answer is not JSON lines"
    return ""


def around_reason(context: Any, scopes: Iterable[str | None], is_wrapped: bool) -> str:
    """Why a generator's stream is not for a plan with what is around its call, or "".

    Args:
        scopes: of the dependencies.
        is_wrapped: whether something is around the route's handler, which sees the response before it is sent.
    """
    if context.is_sse_stream and is_wrapped:
        return "server-sent events within a custom route class"
    # FastAPI has begun to read the events when such a dependency ends.
    return "server-sent events, and a dependency that ends before them" if context.is_sse_stream and "function" in scopes else ""


def renderers(context: Any, label: str) -> Renderers:
    """What makes a stream of the generator that an endpoint has returned. `context` is FastAPI's; `label` is for messages."""
    options: dict[str, Any] = {"status_code": context.status_code} if context.status_code else {}
    make: Callable[..., Response] = context.response_class
    is_async = inspect.isasyncgenfunction(context.endpoint)
    convert: Callable[[Any], Any] = _parts if is_async else _as_it_is
    if context.is_sse_stream:
        make, convert = functools.partial(events.EventStream, encode=events.encoder(_to_json(context, label), _finite)), _as_it_is
    elif context.is_json_stream:
        make, options["media_type"] = StreamingResponse, "application/jsonl"
        line = _line(context, label)
        convert = _lines_async(line) if is_async else _lines(line)

    def render(generator: Any, tasks: BackgroundTasks | None = None, **said: int) -> Response:
        return make(content=convert(generator), background=tasks, **{**options, **said})

    def respond(generator: Any, injected: Response, tasks: BackgroundTasks | None = None) -> Response:
        said = {"status_code": injected.status_code} if injected.status_code else {}
        response = render(generator, tasks, **said)
        response.headers.raw.extend(injected.headers.raw)
        return response

    return Renderers(render, None, respond)


def _to_json(context: Any, label: str) -> Callable[[object], bytes]:
    if context.stream_item_type:
        return model_serializer(context, context.stream_item_type, label, to_bytes=True, in_thread=False)
    return lambda item: json.dumps(_finite(jsonable_encoder(item))).encode()


def _line(context: Any, label: str) -> Callable[[object], bytes]:
    to_json = _to_json(context, label)
    return lambda item: to_json(item) + b"\n"


def _lines(line: Callable[[object], bytes]) -> Callable[[Iterator[Any]], Iterator[bytes]]:
    def lines(generator: Iterator[Any]) -> Iterator[bytes]:
        for item in generator:
            yield line(item)

    return lines


def _lines_async(line: Callable[[object], bytes]) -> Callable[[AsyncIterator[Any]], AsyncIterator[bytes]]:
    async def lines(generator: AsyncIterator[Any]) -> AsyncIterator[bytes]:
        async for item in generator:
            yield line(item)
            await anyio.sleep(0)  # where a stream that never waits can be cancelled

    return lines


def _as_it_is(generator: Any) -> Any:
    return generator


async def _parts(generator: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for part in generator:
        yield part
        await anyio.sleep(0)  # where a stream that never waits can be cancelled
