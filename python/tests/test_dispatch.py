"""BaseHTTPMiddleware in our way and in Starlette's: the same events in the same order, in memory and over a socket."""

import asyncio
import contextlib
import gc
import re
import threading
from collections.abc import Callable
from typing import Any

import anyio
import dispatch_cases
import dispatch_failures
import pytest
from differential import Pair, serve_ours, serve_uvicorn
from dispatch_cases import CASES, Case, World, noting, passes
from fastapi import Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from turboapi.plan import placement
from turboapi.plan.dispatch import Dispatch
from turboapi.plan.inner_call import InnerCall

pytestmark = pytest.mark.above_platform

PATIENCE = 20


class Stock(BaseHTTPMiddleware):
    """Notes that it was called."""

    calls_count = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        Stock.calls_count += 1
        await super().__call__(scope, receive, send)


def play(case: Case, wrap: Callable[[BaseHTTPMiddleware], Any]) -> list[str]:
    """The events of a case, and how it ended."""
    world: World

    async def run() -> None:
        nonlocal world
        world = World()
        dispatches, stack = case(world)
        for function in reversed(dispatches):
            stack = wrap(Stock(stack, function))
        scope = {"type": world.scope_type, "method": "POST", "path": "/", "query_string": b"", "headers": [], "asgi": {}, "state": {}}
        scope["extensions"] = world.extensions

        async def request() -> None:
            with anyio.CancelScope() if world.is_scoped else contextlib.nullcontext():
                await stack(scope, world.receive, world.send)
            world.note("returned", dispatch_cases.VARIABLE.get())

        task = asyncio.create_task(request())
        outside = asyncio.create_task(world.outside(task)) if world.outside is not None else None
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([task, *([outside] if outside else [])])
        if outside:
            outside.result()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        world.note("left", len(left))
        if task.cancelled():
            world.note("cancelled")
        elif (error := task.exception()) is not None:
            chain = (repr(error.__cause__), error.__suppress_context__) if error is world.raised else ()
            world.note("raised", repr(error), error is world.raised, *chain)

    asyncio.run(run())
    if world.is_unordered:
        world.events.sort(key=lambda event: str(event[0] if isinstance(event, tuple) else event))
    # Scopes and tasks have an address and a number.
    return [re.sub(r"0x[0-9a-f]+|cancel scope [0-9a-f]+( by <Task .*>>)?", "…", repr(event)) for event in world.events]


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    expected = play(CASES[name], lambda middleware: middleware)
    Stock.calls_count = 0
    events = play(CASES[name], Dispatch)
    assert events == expected
    assert len(expected) > 1, "a case in which nothing happens compares nothing"
    is_stock = any(event.startswith("('sent'") for event in events) and Stock.calls_count > 0
    assert is_stock == (name == "in_a_scope")


# An answer that comes whole.


SCOPE = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "root_path": ""}
HEADERS = [(b"content-length", b"5"), (b"a", b"1")]


def leaf(world: World, *, is_native: bool, waits: bool) -> dispatch_cases.App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if waits:
            await asyncio.sleep(0)
        if is_native:
            assert type(send) is InnerCall
            if send.whole(200, HEADERS, b"hello"):
                return
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b"hello"})

    return app


def own_background(world: World) -> dispatch_cases.Dispatch:
    async def dispatch(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.background = dispatch_cases.BackgroundTask(world.note, "background")
        return response

    return dispatch


WHOLE = {
    "one": lambda world: [noting(world)],
    "three": lambda world: [noting(world), passes, noting(world, "inner")],
    "read": lambda world: [noting(world), dispatch_cases.reads(world)],
    "read twice": lambda world: [dispatch_cases.reads(world), dispatch_cases.reads(world)],
    "again": lambda world: [dispatch_failures.twice(world, "read")],
    "again unread": lambda world: [dispatch_failures.twice(world, "unread")],
    "background": lambda world: [noting(world), own_background(world), noting(world)],
}


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_whole(name: str, waits: bool) -> None:
    def made(*, is_native: bool) -> Case:
        return lambda world: (WHOLE[name](world), leaf(world, is_native=is_native, waits=waits))

    expected = play(made(is_native=False), lambda middleware: middleware)
    assert play(made(is_native=True), Dispatch) == expected
    assert len(expected) > 2


def test_whole_takes_no_turn() -> None:
    """Through three layers, in the first step of the request's task; and no object of AnyIO is made."""
    world_events = []

    async def run() -> None:
        world = World()
        stack: Any = leaf(world, is_native=True, waits=False)
        for _ in range(3):
            stack = Dispatch(BaseHTTPMiddleware(stack, passes))
        task = asyncio.Task(stack(dict(SCOPE), world.receive, world.send), loop=asyncio.get_running_loop(), eager_start=True)
        assert task.done()
        world_events.extend(world.events)

    asyncio.run(run())
    assert [event[1]["type"] for event in world_events] == ["http.response.start", "http.response.body", "http.response.body"]


def test_nothing_is_left_to_collect() -> None:
    async def run() -> None:
        for is_native in (True, False):
            world = World()
            stack: Any = leaf(world, is_native=is_native, waits=not is_native)
            for _ in range(2):
                stack = Dispatch(BaseHTTPMiddleware(stack, noting(world)))
            gc.collect()
            collected = []
            for _ in range(5):
                for _ in range(100):
                    await stack(dict(SCOPE), world.receive, world.send)
                    world.events.clear()
                collected.append(gc.collect())
            # What ended in other threads meanwhile, of other tests, is collected too, but not each time.
            assert min(collected) < 10

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


# Where they are put.


async def ask(app: Any, path: str = "/") -> list[Any]:
    world = World()
    await app({**SCOPE, "path": path, "state": {}}, world.receive, world.send)
    return [(event[1]["type"], event[1].get("status"), event[1].get("body")) for event in world.events]


class Marking(BaseHTTPMiddleware):
    def __init__(self, app: Any, mark: str) -> None:
        super().__init__(app)
        self.mark = mark

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers.append("mark", self.mark)
        return response


class Calling(BaseHTTPMiddleware):
    """With a call of its own: not ours to replace."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__(scope, receive, send)


class Pure:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def chain(node: Any) -> list[type]:
    types = []
    while node is not None:
        types.append(type(node))
        node = getattr(node, "app", None)
    return types


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("page")


def test_place() -> None:
    app = FastAPI()
    app.add_api_route("/", page)
    app.middleware("http")(passes)
    app.add_middleware(Pure)
    app.add_middleware(Calling, dispatch=passes)
    app.add_middleware(Marking, mark="a")
    app.middleware_stack = app.build_middleware_stack()
    before = chain(app.middleware_stack)
    stock = app.middleware_stack
    while not isinstance(stock, Marking):
        stock = stock.app
    assert placement.place(app) is app.middleware_stack
    after = chain(app.middleware_stack)
    assert after == [Dispatch if kind in (Marking, BaseHTTPMiddleware) else kind for kind in before]
    assert after.count(Dispatch) == 2
    threads = [threading.Thread(target=placement.place, args=[app]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chain(app.middleware_stack) == after
    ours: Any = app.middleware_stack
    while type(ours) is not Dispatch:
        ours = ours.app
    # To all who look at it, it is the middleware.
    assert isinstance(ours, Marking)
    assert ours.__class__ is Marking
    assert (ours.mark, ours.dispatch_func) == ("a", stock.dispatch_func)
    ours.mark, ours.app = "b", stock.app
    assert stock.mark == "b"
    assert asyncio.run(ask(app))[0] == ("http.response.start", 200, None)


def test_place_reaches_mounts_and_routes() -> None:
    """And stacks that are built later: a mounted app builds its own at its first request."""
    sub = FastAPI()
    sub.add_api_route("/page", page)
    sub.middleware("http")(passes)
    marking = Middleware(Marking, mark="m")
    routes = [
        Mount("/sub", sub),
        Mount("/group", routes=[Route("/page", page)], middleware=[marking]),
        Route("/page", page, middleware=[marking]),
    ]
    app = Starlette(routes=routes, middleware=[marking])
    placement.place(app)
    placement.place(app)
    assert type(routes[1].app) is Dispatch
    assert type(routes[2].app) is Dispatch
    for path in ("/sub/page", "/group/page", "/page"):
        assert asyncio.run(ask(app, path))[1][2] == b"page"
    for made in (app, sub):
        assert chain(made.middleware_stack).count(Dispatch) == 1
        assert made.middleware_stack is not None
    assert sub.build_middleware_stack.__class__ is placement.Build


def test_replaced_stack_is_placed_again() -> None:
    app = Starlette(routes=[Route("/", page)], middleware=[Middleware(Marking, mark="a")])
    app.middleware_stack = app.build_middleware_stack()
    placed = placement.place(app)
    app.middleware_stack = Marking(placed, "b")
    assert placement.place(app) is not placed
    assert chain(app.middleware_stack)[:1] == [Dispatch]
    assert chain(app.middleware_stack).count(Dispatch) == 2


@pytest.mark.parametrize("name", ["BaseHTTPMiddleware", "_StreamingResponse", "_CachedRequest"])
def test_unknown_starlette_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert placement.is_known()
    placement.is_known.cache_clear()
    monkeypatch.setattr(placement.base, name, Pure)
    try:
        assert not placement.is_known()
        app = Starlette(middleware=[Middleware(Marking, mark="a")])
        app.middleware_stack = app.build_middleware_stack()
        placement.place(app)
        assert Dispatch not in chain(app.middleware_stack)
    finally:
        monkeypatch.undo()
        placement.is_known.cache_clear()


def test_other_task_factories_get_starlettes_way() -> None:
    made: list[str] = []

    def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def run() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        world = World()
        await Dispatch(BaseHTTPMiddleware(dispatch_cases.whole(world), passes))(dict(SCOPE), world.receive, world.send)

    asyncio.run(run())
    assert any("_run_coro" in name or "coro" in name for name in made)


# Over a socket.


def make_app(*, places: bool) -> FastAPI:
    app = FastAPI()
    order: list[str] = []

    @app.middleware("http")
    async def first(request: Request, call_next: Any) -> Any:
        if request.url.path == "/early":
            return PlainTextResponse("early", 401)
        if request.url.path == "/read":
            response = await call_next(request)
            body = b"".join([chunk async for chunk in response.body_iterator])
            return PlainTextResponse(body.upper(), 203)
        order.clear()
        response = await call_next(request)
        response.headers["x-first"] = "1"
        return response

    @app.middleware("http")
    async def second(request: Request, call_next: Any) -> Any:
        body = await request.body() if request.method == "POST" else b""
        try:
            response = await call_next(request)
        except ValueError as error:
            return PlainTextResponse(f"{error!r}", 500)
        response.headers["x-body"] = str(len(body))
        return response

    async def resource() -> Any:
        order.append("enter")
        yield
        order.append("exit")

    @app.get("/items/{item}")
    async def item(item: int) -> dict[str, int]:
        return {"item": item}

    @app.get("/def/{item}")
    def in_a_thread(item: int) -> dict[str, int]:
        return {"item": item}

    @app.get("/read", dependencies=[Depends(resource)])
    async def read() -> dict[str, str]:
        return {"a": "b"}

    @app.get("/fails")
    async def fails() -> None:
        raise ValueError("in there")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> Any:
            for number in range(20):
                await asyncio.sleep(0)
                yield b"%d," % number

        return StreamingResponse(parts())

    @app.post("/echo")
    async def echo(request: Request) -> Any:
        return PlainTextResponse(await request.body())

    @app.get("/order", dependencies=[Depends(resource)])
    async def in_order() -> list[str]:
        return order

    if places:
        app.middleware_stack = app.build_middleware_stack()
        placement.place(app)
        assert chain(app.middleware_stack).count(Dispatch) == 2
    return app


REQUESTS = ["GET /items/1", "GET /items/x", "GET /nope", "GET /def/2", "GET /early", "GET /read", "GET /fails", "GET /stream", "GET /order"]


def test_over_a_socket() -> None:
    """Under turboapi, with theirs in the place of Starlette's; and under uvicorn, with and without."""
    lines = [f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for line in REQUESTS]
    lines += [b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size for size in (0, 5, 300_000)]
    with contextlib.ExitStack() as stack:
        theirs = stack.enter_context(serve_uvicorn(make_app(places=False)))
        pairs = [
            Pair(theirs, stack.enter_context(serve_ours(make_app(places=True)))),
            Pair(theirs, stack.enter_context(serve_uvicorn(make_app(places=True)))),
        ]
        for pair in pairs:
            stack.callback(pair.close)
            statuses = [pair.check(line).status for line in lines]
            assert statuses == [200, 422, 404, 200, 401, 203, 500, 200, 200, 200, 200, 200]
