"""What a BaseHTTPMiddleware and the app in it may do to each other. Used by test_dispatch.py, which plays each case in Starlette's way and
in ours, and compares the events in their order.

A case is a function that is given the `World` to note events in, and returns the `dispatch` functions, outermost first, and the inner app.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Any, Receive, Send], Awaitable[None]]
CallNext = Callable[[Request], Awaitable[Any]]
Dispatch = Callable[[Request, CallNext], Awaitable[Any]]

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class World:
    """The server and the client of one request, and what has happened."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        #: What comes of the request's body.
        self.incoming: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
        self.disconnected = asyncio.Event()
        #: Whether each `send` waits for a turn of the loop, as for a slow client.
        self.is_slow = False
        #: The number of messages after which the client has gone.
        self.sent_max: int | None = None
        self.extensions: dict[str, Any] = {}
        #: Waits, and does to the request's task what this case is about.
        self.outside: Callable[[asyncio.Task[None]], Awaitable[None]] | None = None
        #: Whether it is played in a scope of AnyIO: then Starlette's own code has to run.
        self.is_scoped = False
        #: Whether tasks that do not wait for each other may be in another order.
        self.is_unordered = False
        #: What was raised in there, to be recognised as the same object.
        self.raised: BaseException | None = None
        self.scope_type = "http"

    def note(self, *event: Any) -> None:
        self.events.append(event[0] if len(event) == 1 else event)

    def fail(self, error: BaseException) -> BaseException:
        self.raised = error
        return error

    async def receive(self) -> Message:
        if self.incoming:
            await asyncio.sleep(0)
            return self.incoming.pop(0)
        try:
            await self.disconnected.wait()
        except asyncio.CancelledError:
            self.note("receive cancelled")
            raise
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.note("sent", dict(message))
        if self.is_slow:
            await asyncio.sleep(0)
        if self.sent_max is not None:
            self.sent_max -= 1
            if self.sent_max == 0:
                raise self.fail(OSError("the client has gone"))


Case = Callable[[World], tuple[list[Dispatch], App]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


async def passes(request: Request, call_next: CallNext) -> Any:
    return await call_next(request)


def noting(world: World, name: str = "dispatch") -> Dispatch:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        world.note(name, "in")
        response = await call_next(request)
        world.note(name, "out", type(response).__name__, response.status_code, list(response.raw_headers))
        return response

    return dispatch


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(body: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def whole(world: World) -> App:
    """Sends an answer at once, and goes on after it."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        world.note("app in")
        await send(start(200, (b"a", b"1")))
        world.note("start given")
        await send(part(b"hello"))
        world.note("app out")

    return app


def streaming(world: World, count: int = 4, *, waits: bool = False) -> App:
    async def parts() -> AsyncIterator[bytes]:
        try:
            for number in range(count):
                if waits:
                    await asyncio.sleep(0)
                world.note("made", number)
                yield b"%d" % number
        finally:
            world.note("stream closed")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await StreamingResponse(parts(), background=BackgroundTask(world.note, "background"))(scope, receive, send)
        world.note("app out")

    return app


# Answers.


@case
def plain(world: World) -> tuple[list[Dispatch], App]:
    return [noting(world)], whole(world)


@case
def three_deep(world: World) -> tuple[list[Dispatch], App]:
    return [noting(world, "a"), noting(world, "b"), noting(world, "c")], whole(world)


@case
def three_deep_slowly(world: World) -> tuple[list[Dispatch], App]:
    world.is_unordered = True  # how far the stream is when the outermost has its start: a turn for each layer
    world.is_slow = True
    return [noting(world, "a"), noting(world, "b"), noting(world, "c")], streaming(world)


@case
def app_waits_first(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await whole(world)(scope, receive, send)

    return [noting(world), noting(world, "inner")], app


@case
def app_waits_between(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await asyncio.sleep(0)
        world.note("slept")
        await send(part(b"a", True))
        await asyncio.sleep(0)
        world.note("slept")
        await send(part(b""))
        world.note("app out")

    return [noting(world)], app


@case
def response_with_background(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await JSONResponse({"a": 1}, background=BackgroundTask(world.note, "background"))(scope, receive, send)
        world.note("app out")

    return [noting(world)], app


@case
def response_gets_a_background(world: World) -> tuple[list[Dispatch], App]:
    async def later() -> None:
        await asyncio.sleep(0)
        world.note("background of dispatch")

    async def dispatch(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        assert response.background is None
        response.background = BackgroundTask(later)
        return response

    return [passes, dispatch], whole(world)


@case
def headers_change(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        response.headers["x-new"] = "ü"
        response.set_cookie("a", "b")
        del response.headers["a"]
        response.status_code = 201
        return response

    async def outer(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        response.raw_headers = [*response.raw_headers, (b"x", b"y")]
        world.note(sorted(vars(response)), response.media_type)
        return response

    return [outer, dispatch], whole(world)


@case
def replaced(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        return PlainTextResponse("mine", 202, background=BackgroundTask(world.note, "background"))

    return [passes, dispatch], whole(world)


@case
def replaced_by_a_stream(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        return StreamingResponse((chunk async for chunk in response.body_iterator), 206, dict(response.headers))

    return [dispatch], streaming(world)


@case
def early(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        return PlainTextResponse("early", 401)

    return [noting(world), dispatch, noting(world, "never")], whole(world)


def reads(world: World) -> Dispatch:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        world.note(type(response.body_iterator).__name__)
        body = b"".join([chunk async for chunk in response.body_iterator])
        world.note("read", body)
        return Response(body.upper(), response.status_code, dict(response.headers), background=response.background)

    return dispatch


@case
def body_is_read(world: World) -> tuple[list[Dispatch], App]:
    return [noting(world), reads(world)], whole(world)


@case
def streamed_body_is_read(world: World) -> tuple[list[Dispatch], App]:
    return [reads(world), noting(world)], streaming(world)


@case
def iterator_is_replaced(world: World) -> tuple[list[Dispatch], App]:
    async def twice(chunks: Any) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            world.note("through", chunk)
            yield chunk + chunk

    async def dispatch(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        response.body_iterator = twice(response.body_iterator)
        return response

    return [passes, dispatch], whole(world)


@case
def body_is_half_read(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        world.note("first", await anext(response.body_iterator))
        return response

    return [dispatch], streaming(world)


@case
def iterator_is_closed(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        await response.body_iterator.aclose()
        return response

    return [dispatch], whole(world)


@case
def read_after_the_end(world: World) -> tuple[list[Dispatch], App]:
    kept: list[Any] = []

    async def dispatch(request: Request, call_next: CallNext) -> Any:
        kept.append(await call_next(request))
        return PlainTextResponse("mine")

    async def outer(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        body = [chunk async for chunk in response.body_iterator]
        await asyncio.sleep(0.01)  # the inner middleware has ended
        try:
            world.note([chunk async for chunk in kept[0].body_iterator])
        except anyio.ClosedResourceError as error:
            world.note(type(error).__name__)
        return PlainTextResponse(repr(body))

    return [outer, dispatch], whole(world)


@case
def streams(world: World) -> tuple[list[Dispatch], App]:
    return [noting(world)], streaming(world)


@case
def streams_slowly(world: World) -> tuple[list[Dispatch], App]:
    world.is_slow = True
    return [noting(world)], streaming(world, waits=True)


@case
def streams_raw(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        world.note("start given")
        for number in range(6):
            await send(part(b"%d" % number, number < 5))
            world.note("given", number)

    return [passes], app


@case
def empty_parts(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send(part(b"", True))
        await send({"type": "http.response.body"})

    return [noting(world)], app


@case
def end_without_last_part(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(part(b"a", True))

    return [noting(world)], app


@case
def pathsend(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send({"type": "http.response.pathsend", "path": "/file"})
        world.note("app out")

    return [passes, noting(world)], app


@case
def debug_and_hints(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.debug", "info": {"template": "t"}})
        await send({"type": "http.response.early_hint", "links": [b"</a>"]})
        await whole(world)(scope, receive, send)

    async def dispatch(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        world.note(response.info)
        return response

    return [dispatch, dispatch], app


@case
def message_out_of_order(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(part(b"a"))

    return [passes], app


@case
def start_twice(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(start())

    return [passes], app


@case
def other_scopes(world: World) -> tuple[list[Dispatch], App]:
    world.scope_type = "websocket"

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        world.note(scope["type"], await receive())
        await send({"type": "websocket.close"})

    return [noting(world), noting(world)], app


# The request.


def echo(world: World) -> App:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        messages = []
        while True:
            messages.append(await receive())
            world.note("received", messages[-1])
            if messages[-1]["type"] == "http.disconnect" or not messages[-1].get("more_body"):
                break
        await PlainTextResponse(b"".join(message.get("body", b"") for message in messages))(scope, receive, send)
        world.note("after the answer", await receive())

    return app


def in_parts(world: World) -> None:
    world.incoming = [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": True},
        {"type": "http.request", "body": b"cd", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": False},
    ]


@case
def body_goes_through(world: World) -> tuple[list[Dispatch], App]:
    in_parts(world)
    return [passes, passes], echo(world)


@case
def body_is_kept(world: World) -> tuple[list[Dispatch], App]:
    in_parts(world)

    async def dispatch(request: Request, call_next: CallNext) -> Any:
        world.note(await request.body(), type(request).__name__)
        response = await call_next(request)
        world.note(await request.body())
        return response

    return [dispatch, dispatch], echo(world)


@case
def stream_is_taken(world: World) -> tuple[list[Dispatch], App]:
    in_parts(world)

    async def dispatch(request: Request, call_next: CallNext) -> Any:
        world.note([chunk async for chunk in request.stream()])
        return await call_next(request)

    return [dispatch], echo(world)


@case
def stream_is_half_taken(world: World) -> tuple[list[Dispatch], App]:
    in_parts(world)

    async def dispatch(request: Request, call_next: CallNext) -> Any:
        async with contextlib.aclosing(request.stream()) as stream:
            world.note(await anext(stream))
        return await call_next(request)

    return [dispatch], echo(world)


@case
def body_afterwards(world: World) -> tuple[list[Dispatch], App]:
    in_parts(world)

    async def dispatch(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        try:
            world.note(await request.body())
        except RuntimeError as error:
            world.note(str(error))
        return response

    return [dispatch], echo(world)


@case
def client_goes_in_the_body(world: World) -> tuple[list[Dispatch], App]:
    world.incoming = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}]
    return [passes], echo(world)


@case
def client_goes_while_dispatch_reads(world: World) -> tuple[list[Dispatch], App]:
    world.incoming = []
    world.disconnected.set()

    async def dispatch(request: Request, call_next: CallNext) -> Any:
        try:
            await request.body()
        except ClientDisconnect:
            world.note("disconnect")
        return await call_next(request)

    return [dispatch], echo(world)


@case
def asks_for_a_disconnect(world: World) -> tuple[list[Dispatch], App]:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        world.note("gone", await request.is_disconnected())
        world.disconnected.set()
        await asyncio.sleep(0)
        world.note("gone", await request.is_disconnected())
        await PlainTextResponse("a")(scope, receive, send)

    return [passes], app


@case
def receive_fails(world: World) -> tuple[list[Dispatch], App]:
    """A message where only a disconnect may come."""
    world.incoming.append({"type": "http.request", "body": b"more", "more_body": False})

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await receive()
        except BaseExceptionGroup as error:
            world.note(repr(error))
        await whole(world)(scope, receive, send)

    return [passes], app


@case
def waits_for_a_disconnect(world: World) -> tuple[list[Dispatch], App]:
    """That never comes: the end of the response does."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        async def listen() -> None:
            await receive()
            world.note("heard", await receive())

        listener = asyncio.create_task(listen())
        for _ in range(10):
            await asyncio.sleep(0)  # it waits by then
        await whole(world)(scope, receive, send)
        await listener

    return [noting(world)], app


@case
def two_threads(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        await anyio.to_thread.run_sync(world.note, "thread of dispatch")
        return await call_next(request)

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        VARIABLE.set("app")
        world.note(await anyio.to_thread.run_sync(VARIABLE.get), await asyncio.to_thread(VARIABLE.get))
        await whole(world)(scope, receive, send)

    return [dispatch, dispatch], app


@case
def context(world: World) -> tuple[list[Dispatch], App]:
    async def dispatch(request: Request, call_next: CallNext) -> Any:
        VARIABLE.set(VARIABLE.get() + " dispatch")
        response = await call_next(request)
        world.note(VARIABLE.get())
        return response

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        world.note(VARIABLE.get())
        VARIABLE.set("app")
        await whole(world)(scope, receive, send)
        world.note(VARIABLE.get())

    return [dispatch, dispatch], app
