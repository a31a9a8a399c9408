"""Set-ups of middlewares that speak ASGI themselves, and of apps that build their stack in their own way."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI

from .record import Note

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def concerns(scope: Scope, parts: int) -> bool:
    """One path of so many, always the same ones."""
    return zlib.crc32(scope["path"].encode("utf-8", "surrogatepass")) % parts == 0


class Layer:
    """A middleware made of one function, `handle(app, note, scope, receive, send)`, that is called for HTTP alone."""

    def __init__(self, app: AsgiApp, handle: Callable[..., Awaitable[None]], note: Note) -> None:
        self.app, self.handle, self.note = app, handle, note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            await self.handle(self.app, self.note, scope, receive, send)


class Marking:
    """Notes what passes through it, and the scope that it sees when the app has returned."""

    def __init__(self, app: AsgiApp, note: Note, name: str) -> None:
        self.app, self.note, self.name = app, note, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.note(f"{self.name} start {message['status']}")
                message["headers"] = [*message.get("headers", []), (b"x-mark", self.name.encode())]
            else:
                self.note(f"{self.name} body {len(message.get('body', b''))} {message.get('more_body', False)}")
            await send(message)

        self.note(f"{self.name} in")
        try:
            await self.app(scope, receive, marked)
        except Exception as error:
            self.note(f"{self.name} saw {type(error).__name__}")
            raise
        finally:
            route, endpoint = scope.get("route"), scope.get("endpoint")
            seen = [
                getattr(route, "path", None),
                getattr(endpoint, "__name__", None),
                scope.get("path_params"),
                scope["path"],
                scope["root_path"],
            ]
            self.note(f"{self.name} out {seen}")


def layer(handle: Callable[..., Awaitable[None]]) -> Callable[[FastAPI, Note], None]:
    """A set-up of this middleware alone, under its name."""

    def set_up(app: FastAPI, note: Note) -> None:
        app.add_middleware(Layer, handle=handle, note=note)

    set_up.__name__ = handle.__name__
    return set_up


# What is asked is changed.


@layer
async def changes_path(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"].startswith("/int/"):
        scope["path"] = "/float/" + scope["path"].removeprefix("/int/")
    elif scope["path"].startswith("/raise/"):
        scope["path"] = scope["path"].upper()
    elif scope["path"] == "/nothing":
        scope["path"] = "/plain"
    await app(scope, receive, send)


@layer
async def changes_method(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    # As those do that make HEAD a GET, and for forms that can only POST.
    if scope["method"] == "HEAD":
        scope["method"] = "GET"
    elif b"x-method" in dict(scope["headers"]):
        scope["method"] = dict(scope["headers"])[b"x-method"].decode("latin-1")
    await app(scope, receive, send)


@layer
async def changes_query(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    if concerns(scope, 2):
        scope["query_string"] = b"a=3&q=2"
    await app(scope, receive, send)


@layer
async def appends_header(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    scope["headers"].append((b"x-token", b"appended"))
    await app(scope, receive, send)


@layer
async def replaces_headers(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"x-token"] + [(b"x-number", b"5")]
    await app(scope, receive, send)


@layer
async def replaces_pair(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    headers = scope["headers"]
    for index, (name, value) in enumerate(headers):
        if name in (b"x-token", b"cookie", b"x-number"):
            headers[index] = (name, value.replace(b"1", b"2"))
    await app(scope, receive, send)


@layer
async def sorts_headers(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    scope["headers"].reverse()
    await app(scope, receive, send)


@layer
async def sets_scope(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    scope["user_name"] = "layer"
    scope["matrix.key"] = 5
    scope.setdefault("state", {})["layer"] = "state"
    await app(scope, receive, send)


@layer
async def copies_scope(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    copy = dict(scope)
    await app(copy, receive, send)
    note(f"copy {getattr(copy.get('route'), 'path', None)}, original {getattr(scope.get('route'), 'path', None)}")


@layer
async def changes_root_path(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    # A prefix that the path has, as behind a proxy, for some; one that it has not, for the others.
    if concerns(scope, 2):
        scope["root_path"], scope["path"] = "/proxy", "/proxy" + scope["path"]
    else:
        scope["root_path"] = "/prefix"
    await app(scope, receive, send)


@layer
async def changes_scheme_and_client(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    scope["scheme"], scope["client"], scope["server"] = "https", ("10.0.0.1", 5), ("proxied.test", 443)
    await app(scope, receive, send)


# The body is changed.


async def whole_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def given(parts: list[bytes], receive: Receive) -> Receive:
    """Gives these parts, then what comes of the peer."""
    left = list(parts)

    async def give() -> Message:
        if not left:
            return await receive()
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    return give


@layer
async def alters_body(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    # The declared length stays as it was: nobody below looks at it.
    body = await whole_body(receive)
    await app(scope, given([body.replace(b"1", b"2 ")], receive), send)


@layer
async def splits_body(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    body = await whole_body(receive)
    await app(scope, given([body[:3], b"", body[3:10], body[10:], b""], receive), send)


@layer
async def counts_body(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        return message

    await app(scope, counted, send)
    note(f"received {total}")


@layer
async def refuses_body(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    async def refused() -> Message:
        message = await receive()
        if len(message.get("body", b"")) > 30:
            raise ValueError("more than 30 bytes")
        return message

    await app(scope, refused, send)


@layer
async def disconnects(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    await app(scope, gone if concerns(scope, 2) else receive, send)


# The answer is changed.


@layer
async def rewrites_answer(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    async def rewritten(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["status"] = 222 if message["status"] == 200 else message["status"]
            message["headers"] = [pair for pair in message["headers"] if pair[0] not in (b"content-length", b"x-set")]
            message["headers"].append((b"X-Rewritten", b"1"))
        elif "body" in message:
            message["body"] = bytes(message["body"]).replace(b"a", b"AA")
        await send(message)

    await app(scope, receive, rewritten)


@layer
async def delays_start(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    start: Message | None = None

    async def delayed(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        if start is not None:
            first, start = start, None
            first["headers"] = [*first["headers"], (b"x-first", b"%d" % len(message.get("body", b"")))]
            await send(first)
        await send(message)

    await app(scope, receive, delayed)


@layer
async def sends_immutable(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    """What is sent is looked at closely, as strict middlewares do."""

    async def looked(message: Message) -> None:
        kinds = [type(message).__name__, *sorted(message)]
        if message["type"] == "http.response.start":
            kinds += sorted({f"{type(name).__name__} {type(value).__name__}" for name, value in message["headers"]})
            kinds.append(type(message["headers"]).__name__)
            kinds += [name.decode() for name, _ in message["headers"] if name.lower() == name]
        note(" ".join(kinds))
        await send(message)

    await app(scope, receive, looked)


async def _early(send: Send, body: bytes = b"early", status: int = 203) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@layer
async def answers_early(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    if concerns(scope, 2):
        note("early")
        await _early(send)
    else:
        await app(scope, receive, send)


@layer
async def calls_twice(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    async def swallow(message: Message) -> None:
        note(f"swallowed {message['type']}")

    body = await whole_body(receive)
    try:
        await app(dict(scope), given([body], receive), swallow)
    except Exception as error:
        note(f"swallowed {type(error).__name__}")
    await app(scope, given([body], receive), send)


# Exceptions.


@layer
async def swallows(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    has_begun = False

    async def watched(message: Message) -> None:
        nonlocal has_begun
        has_begun = True
        await send(message)

    try:
        await app(scope, receive, watched)
    except Exception as error:
        note(f"swallowed {type(error).__name__}")
        if has_begun:
            await send({"type": "http.response.body", "body": b" swallowed"})
        else:
            await _early(send, b"swallowed", 502)


@layer
async def raises_before(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    if concerns(scope, 2):
        raise RuntimeError("before")
    await app(scope, receive, send)


@layer
async def raises_after(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
    note("raises after")
    raise RuntimeError("after")


# How the app is called.


@layer
async def in_task(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]


@layer
async def with_timeout(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    async with asyncio.timeout(60):
        await app(scope, receive, send)


@layer
async def yields_before(app: AsgiApp, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0)

    async def yielding(message: Message) -> None:
        await asyncio.sleep(0)
        await send(message)

    await app(scope, receive, yielding)


def closure(app: FastAPI, note: Note) -> None:
    def make(inner: AsgiApp) -> AsgiApp:
        async def called(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                note("closure")
            await inner(scope, receive, send)

        return called

    app.add_middleware(make)  # type: ignore[arg-type]


def marking(app: FastAPI, note: Note) -> None:
    app.add_middleware(Marking, note=note, name="a")


def two_markings(app: FastAPI, note: Note) -> None:
    app.add_middleware(Marking, note=note, name="a")
    app.add_middleware(Marking, note=note, name="b")


def two_changes(app: FastAPI, note: Note) -> None:
    appends_header(app, note)
    changes_query(app, note)
    marking(app, note)


# Apps whose stack is their own.


class OwnStack(FastAPI):
    """The documented way to put something around Starlette's error handling."""

    def build_middleware_stack(self) -> AsgiApp:  # type: ignore[override]
        return Marking(super().build_middleware_stack(), note=self.state.note, name="stack")


class OwnCall(FastAPI):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.state.note(f"call {scope['path']}")
            scope["matrix.call"] = True
        await super().__call__(scope, receive, send)


def own_stack(app: FastAPI, note: Note) -> None:
    app.state.note = note


def own_stack_in_layers(app: FastAPI, note: Note) -> None:
    app.state.note = note
    appends_header(app, note)


def own_call(app: FastAPI, note: Note) -> None:
    app.state.note = note


def stack_replaced(app: FastAPI, note: Note) -> None:
    app.middleware_stack = Marking(app.build_middleware_stack(), note=note, name="replaced")


def router_wrapped(app: FastAPI, note: Note) -> None:
    """As Starlette's `Router(middleware=…)` does, which FastAPI's router does not offer."""
    app.router.middleware_stack = Marking(app.router.middleware_stack, note=note, name="router")


#: Set-ups that need an app of another class.
KINDS: dict[Callable[[FastAPI, Note], None], type[FastAPI]] = {own_stack: OwnStack, own_stack_in_layers: OwnStack, own_call: OwnCall}
