"""Middlewares that do to a scope, `receive` or `send` what may stand in the way of a plan, by name (test_leaf.py)."""

import asyncio
import contextlib
import copy
import functools
import pickle
from collections import ChainMap, UserDict
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import HTTPException
from fastapi.responses import PlainTextResponse


class TeapotError(Exception):
    pass


SECONDS_TO_READ = 5

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Around = Callable[[Any, Scope, Receive, Send], Awaitable[None]]

CASES: dict[str, Around] = {}


def case(around: Around) -> Around:
    CASES[around.__name__] = around
    return around


@case
async def pass_on(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


@case
async def copy_scope(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    await app(dict(scope), receive, send)


@case
async def other_mapping(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    await app(UserDict(scope), receive, send)


@case
async def chain_of_mappings(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    await app(ChainMap({}, scope), receive, send)


@case
async def deep_copy(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    kept = {"app": scope["app"]}
    await app({**copy.deepcopy({key: scope[key] for key in scope.keys() - kept}), **kept}, receive, send)


@case
async def pickled(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    kept = {key: scope[key] for key in ("app", "state") if key in scope}
    await app({**pickle.loads(pickle.dumps({key: scope[key] for key in scope.keys() - kept})), **kept}, receive, send)


@case
async def other_root_path(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    scope["root_path"] = "/mounted"
    await app(scope, receive, send)


@case
async def equal_method(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    scope["method"] = "".join(list(scope["method"]))
    await app(scope, receive, send)


@case
async def other_path(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    scope["path"] = scope["path"].replace("/async/3", "/async/4")
    await app(scope, receive, send)


@case
async def headers_and_back(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    scope["headers"].append((b"x-a", b"b"))
    scope["headers"].pop()
    await app(scope, receive, send)


@case
async def headers_as_lists(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    scope["headers"] = [list(line) for line in scope["headers"]]
    await app(scope, receive, send)


@case
async def headers_once(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    scope["headers"] = iter(scope["headers"])
    await app(scope, receive, send)


@case
async def no_content_type(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    scope["headers"] = [line for line in scope["headers"] if line[0] != b"content-type"]
    await app(scope, receive, send)


@case
async def other_query(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    scope["query_string"] = scope["query_string"] or b"flag=1"
    await app(scope, receive, send)


@case
async def path_params_given(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    scope["path_params"] = {"name": "other", "more": 1}
    await app(scope, receive, send)


def body_given_as(make: Callable[[bytes], Any], app: Any, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    async def receive_converted() -> Any:
        message = await receive()
        return {**message, "body": make(message["body"])} if "body" in message else message

    return app(scope, receive_converted, send)  # type: ignore[no-any-return]


class Octets(bytes):
    pass


FORMS: dict[str, Callable[[bytes], Any]] = {"bytearray": bytearray, "memoryview": memoryview, "text": bytes.decode, "subclass": Octets}
for name, make in FORMS.items():
    CASES[f"body_as_{name}"] = functools.partial(body_given_as, make)


@case
async def body_after_nothing(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    parts = iter([{"type": "http.request", "body": None, "more_body": True}, {"type": "unknown"}])

    async def receive_more() -> Any:
        return next(parts, None) or await receive()

    await app(scope, receive_more, send)


@case
async def receive_raises(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    async def refuse() -> Any:
        raise HTTPException(413, "too large")

    await app(scope, refuse, send)


@case
async def peer_gone(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    async def end() -> Any:
        return {"type": "http.disconnect"}

    await app(scope, end, send)


async def ignore(message: Any) -> None:
    pass


@case
async def called_twice(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "GET":
        with contextlib.suppress(ValueError):
            await app(scope, receive, ignore)
    await app(scope, receive, send)


@case
async def called_at_once(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "GET":
        await asyncio.gather(app(dict(scope), receive, ignore), app(dict(scope), receive, send))
    else:
        await app(scope, receive, send)


@case
async def in_a_task(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.create_task(app(scope, receive, send))


@case
async def in_time(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.wait_for(app(scope, receive, send), SECONDS_TO_READ)


@case
async def in_another_loop(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    body = await receive() if scope["method"] != "GET" else {"type": "http.request"}
    messages = []

    async def receive_there() -> Any:
        return body

    async def send_there(message: Any) -> None:
        messages.append(message)

    await asyncio.to_thread(lambda: asyncio.run(app(scope, receive_there, send_there)))
    for message in messages:
        await send(message)


@case
async def send_raises(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    async def fail(message: Any) -> None:
        raise TeapotError

    try:
        await app(scope, receive, fail)
    except Exception as error:
        await PlainTextResponse(f"{error!r} {error.__cause__!r}")(scope, receive, send)


@case
async def all_of_a_scope(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
    async def tell(message: Any) -> None:
        if message["type"] == "http.response.start":
            told = repr((getattr(scope.get("route"), "path", None), scope.get("path_params"), "router" in scope))
            message["headers"].append((b"x-scope", told.encode()))
        await send(message)

    await app(scope, receive, tell)


#: With these a stream, which listens for the peer's end, fails after its begin: servers differ in what they have sent by then.
WITHOUT_STREAM = {"receive_raises", "peer_gone", "in_another_loop"}
