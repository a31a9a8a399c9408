"""Endpoints that are generators of server-sent events.

Here: what FastAPI's `get_request_handler` makes of such a generator: a task that reads it one event ahead, one that says something when
nothing has come for a while, and the stream of both. FastAPI enters these into the request's exit stack when it has called the endpoint,
here the response does when it is sent; in between there is nothing but the end of dependencies of function scope. Not here: other streams
(streams.py).
Source: fastapi/routing.py `get_request_handler`
"""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import fastapi.routing
from anyio.streams.memory import MemoryObjectReceiveStream
from fastapi.encoders import jsonable_encoder
from fastapi.sse import ServerSentEvent
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

#: Of FastAPI's code, from the first of these lines to the second, without comments: what is here does what that does.
_FIRST, _LAST = "def _serialize_data(data: Any) -> bytes:", "elif is_json_stream:"
#: Its SHA-256, by the release that was seen to have it.
KNOWN = {
    "0.141.1": "32432c6ee1e6700fcd32989cb1b95370bdffa2f92f44e1577d475748b1f7945d",
    "0.165.0": "23342763739c903359ea9e33f1912892990d12145492f88fc3afeb3927845ce1",
}


@functools.cache
def are_known() -> bool:
    """Whether the installed FastAPI sends events as we do. Reads its source, once, where an app has such a route."""
    try:
        lines = list(map(str.strip, pathlib.Path(fastapi.routing.__file__).read_text("utf-8").splitlines()))
        lines = lines[(first := lines.index(_FIRST)) : lines.index(_LAST, first)]
    except (OSError, ValueError):
        return False
    code = "\n".join(line for line in lines if line and not line.startswith("#"))
    return hashlib.sha256(code.encode()).hexdigest() in KNOWN.values()


class EventStream(StreamingResponse):
    """The events of a generator.

    Args:
        content: the generator.
        encode: makes an event of what it yields.
    """

    media_type = "text/event-stream"

    def __init__(self, content: Any, encode: Callable[[Any], bytes], **options: Any) -> None:
        super().__init__(content, **options)
        self._encode = encode
        self.headers["Cache-Control"] = "no-cache"
        self.headers["X-Accel-Buffering"] = "no"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as exits:
            events = await exits.enter_async_context(_produced(self.body_iterator, self._encode))
            exits.push_async_callback(events.aclose)
            self.body_iterator = _parts(events)
            await super().__call__(scope, receive, send)


@asynccontextmanager
async def _produced(items: Any, encode: Callable[[Any], bytes]) -> AsyncIterator[MemoryObjectReceiveStream[bytes]]:
    send_event, receive_event = anyio.create_memory_object_stream[bytes](max_buffer_size=1)
    send_part, receive_part = anyio.create_memory_object_stream[bytes](max_buffer_size=1)

    async def produce() -> None:
        async with send_event:
            async for item in items:
                await send_event.send(encode(item))

    async def keep_alive() -> None:
        async with send_part, receive_event:
            try:
                while True:
                    try:
                        with anyio.fail_after(fastapi.routing._PING_INTERVAL):  # type: ignore[attr-defined]
                            event = await receive_event.receive()
                        await send_part.send(event)
                    except TimeoutError:
                        await send_part.send(fastapi.routing.KEEPALIVE_COMMENT)  # type: ignore[attr-defined]
            except anyio.EndOfStream:
                pass

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        group.start_soon(keep_alive)
        yield receive_part
        group.cancel_scope.cancel()


async def _parts(events: MemoryObjectReceiveStream[bytes]) -> AsyncIterator[bytes]:
    async for event in events:
        yield event
        await anyio.sleep(0)  # where a stream that never waits can be cancelled


def encoder(to_json: Callable[[object], bytes], finite: Callable[[Any], Any]) -> Callable[[Any], bytes]:
    """What makes an event of what a generator yields.

    Args:
        to_json: of what is no event itself.
        finite: replaces the numbers that JSON does not have.
    """

    def encode(item: Any) -> bytes:
        format_event = fastapi.routing.format_sse_event  # type: ignore[attr-defined]
        if not isinstance(item, ServerSentEvent):
            return bytes(format_event(data_str=to_json(item).decode()))
        text: Any = None
        if item.raw_data is not None:
            text = item.raw_data
        elif item.data is not None:
            is_model = hasattr(item.data, "model_dump_json")
            text = item.data.model_dump_json() if is_model else json.dumps(finite(jsonable_encoder(item.data)))
        return bytes(format_event(data_str=text, event=item.event, id=item.id, retry=item.retry, comment=item.comment))

    return encode
