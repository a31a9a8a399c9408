"""What route classes do around FastAPI's handler, by name (test_wrapped.py). Each is called with a request and the handler."""

import asyncio
import contextlib
import copy
import functools
import gzip
import json
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import anyio
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.routing import APIRoute
from matrix.record import Note
from starlette.background import BackgroundTask
from starlette.datastructures import Headers, QueryParams

Handler = Callable[[Any], Awaitable[Response]]
Around = Callable[[Request, Handler, Note], Awaitable[Response]]

MARK: ContextVar[str] = ContextVar("MARK", default="none")

CASES: dict[str, Around] = {}


def case(around: Around) -> Around:
    CASES[around.__name__] = around
    return around


def route_class(around: Around, note: Note) -> type[APIRoute]:
    """The pattern of FastAPI's documentation."""

    class Route(APIRoute):
        def get_route_handler(self) -> Any:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                return await around(request, handler, note)

            return handle

    return Route


# Of FastAPI's documentation.


class GzipRequest(Request):
    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            body = await super().body()
            if "gzip" in self.headers.getlist("Content-Encoding"):
                body = gzip.decompress(body)
            self._body = body
        return self._body


@case
async def gzip_request(request: Request, handler: Handler, note: Note) -> Response:
    return await handler(GzipRequest(request.scope, request.receive))


@case
async def logs_errors(request: Request, handler: Handler, note: Note) -> Response:
    try:
        return await handler(request)
    except RequestValidationError as error:
        raise HTTPException(422, {"errors": error.errors(), "body": (await request.body()).decode("latin-1")}) from error


@case
async def timed(request: Request, handler: Handler, note: Note) -> Response:
    before = time.monotonic()
    response = await handler(request)
    response.headers["X-Took"] = str(time.monotonic() - before >= 0)
    return response


# Plain ones.


@case
async def pass_on(request: Request, handler: Handler, note: Note) -> Response:
    return await handler(request)


@case
async def tells_of_response(request: Request, handler: Handler, note: Note) -> Response:
    response = await handler(request)
    kept = {key: value for key, value in vars(response).items() if "iterator" not in key and key != "_headers"}
    note(f"{type(response)} {sorted(kept.items())} {response.media_type}")
    return response


@case
async def tells_of_scope(request: Request, handler: Handler, note: Note) -> Response:
    route, path_params = request.scope["route"], request.path_params
    note(f"{route.path} {route.name} {path_params} {request.scope['endpoint'].__name__} {'router' in request.scope} {request.url.path}")
    response = await handler(request)
    note(f"{request.path_params is path_params} {request.scope['path_params']}")
    return response


@case
async def reads_body(request: Request, handler: Handler, note: Note) -> Response:
    note(f"{await request.body()!r}")
    return await handler(request)


@case
async def reads_json(request: Request, handler: Handler, note: Note) -> Response:
    with contextlib.suppress(ValueError):
        note(f"{await request.json()}")
    response = await handler(request)
    with contextlib.suppress(ValueError):
        note(f"{await request.json()}")
    return response


@case
async def reads_afterwards(request: Request, handler: Handler, note: Note) -> Response:
    response = await handler(request)
    note(f"{await request.body()!r}")
    return response


@case
async def reads_all_of_head(request: Request, handler: Handler, note: Note) -> Response:
    note(f"{request.headers.get('x-one')} {dict(request.query_params)} {request.cookies}")
    return await handler(request)


@case
async def takes_stream(request: Request, handler: Handler, note: Note) -> Response:
    async for part in request.stream():
        note(f"{len(part)}")
        break
    return await handler(request)


@case
async def in_a_context(request: Request, handler: Handler, note: Note) -> Response:
    token = MARK.set("set")
    try:
        return await handler(request)
    finally:
        MARK.reset(token)


@case
async def is_slow(request: Request, handler: Handler, note: Note) -> Response:
    await asyncio.sleep(0.001)
    response = await handler(request)
    await asyncio.sleep(0.001)
    return response


# How often, and where it is called.


@case
async def never(request: Request, handler: Handler, note: Note) -> Response:
    return PlainTextResponse("instead", 203)


@case
async def twice(request: Request, handler: Handler, note: Note) -> Response:
    first = await handler(request)
    note(f"{first.status_code}")
    return await handler(request)


@case
async def until_it_does(request: Request, handler: Handler, note: Note) -> Response:
    try:
        return await handler(request)
    except Exception as error:
        note(f"{error!r}"[:300])
        return await handler(request)


@case
async def at_once(request: Request, handler: Handler, note: Note) -> Response:
    first, _ = await asyncio.gather(handler(request), handler(Request(request.scope)), return_exceptions=True)
    if isinstance(first, BaseException):
        raise first
    return first


@case
async def in_a_task(request: Request, handler: Handler, note: Note) -> Response:
    return await asyncio.create_task(handler(request))  # type: ignore[arg-type]


@case
async def in_time(request: Request, handler: Handler, note: Note) -> Response:
    return await asyncio.wait_for(handler(request), 30)


@case
async def in_a_group(request: Request, handler: Handler, note: Note) -> Response:
    found = []

    async def call() -> None:
        found.append(await handler(request))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
    return found[0]


@case
async def in_another_loop(request: Request, handler: Handler, note: Note) -> Response:
    await request.body()
    return await asyncio.to_thread(lambda: asyncio.run(handler(request)))  # type: ignore[arg-type]


# What is done to the request.


@case
async def another_request(request: Request, handler: Handler, note: Note) -> Response:
    return await handler(Request(dict(request.scope), request.receive))


@case
async def deep_copy(request: Request, handler: Handler, note: Note) -> Response:
    kept = {
        key: value for key, value in request.scope.items() if key.endswith("stack") or key in ("app", "router", "route", "fastapi", "state")
    }
    copied = copy.deepcopy({key: value for key, value in request.scope.items() if key not in kept and "handlers" not in key})
    return await handler(Request({**request.scope, **copied}, request.receive))


@case
async def without_stacks(request: Request, handler: Handler, note: Note) -> Response:
    scope = {key: value for key, value in request.scope.items() if key != "fastapi_inner_astack"}
    return await handler(Request(scope, request.receive))


@case
async def not_a_request(request: Request, handler: Handler, note: Note) -> Response:
    class Like:
        def __getattr__(self, name: str) -> Any:
            return getattr(request, name)

    return await handler(Like())


@case
async def sets_json(request: Request, handler: Handler, note: Note) -> Response:
    request._json = {"name": "set"}
    return await handler(request)


@case
async def changes_json(request: Request, handler: Handler, note: Note) -> Response:
    with contextlib.suppress(ValueError, TypeError):
        (await request.json())["name"] = "changed"
    return await handler(request)


@case
async def sets_body(request: Request, handler: Handler, note: Note) -> Response:
    request._body = b'{"name": "other"}'
    return await handler(request)


@case
async def sets_body_as_text(request: Request, handler: Handler, note: Note) -> Response:
    request._body = '{"name": "text"}'  # type: ignore[assignment]
    return await handler(request)


@case
async def sets_receive(request: Request, handler: Handler, note: Note) -> Response:
    async def receive() -> Any:
        note("received")
        return {"type": "http.request", "body": b'{"name": "received"}'}

    request._receive = receive
    return await handler(request)


@case
async def is_gone(request: Request, handler: Handler, note: Note) -> Response:
    async def receive() -> Any:
        note("received")
        return {"type": "http.disconnect"}

    return await handler(Request(request.scope, receive))


@case
async def refuses_body(request: Request, handler: Handler, note: Note) -> Response:
    async def receive() -> Any:
        note("received")
        raise HTTPException(413, "too large")

    return await handler(Request(request.scope, receive))


@case
async def sets_query(request: Request, handler: Handler, note: Note) -> Response:
    request._query_params = QueryParams("q=set&flag=1")
    return await handler(request)


@case
async def changes_query(request: Request, handler: Handler, note: Note) -> Response:
    request.scope["query_string"] = b"q=changed"
    return await handler(request)


@case
async def changes_query_too_late(request: Request, handler: Handler, note: Note) -> Response:
    note(str(request.query_params))
    request.scope["query_string"] = b"q=late"
    return await handler(request)


@case
async def sets_headers(request: Request, handler: Handler, note: Note) -> Response:
    request._headers = Headers({"x-one": "set", "content-type": "application/json"})
    return await handler(request)


@case
async def changes_headers(request: Request, handler: Handler, note: Note) -> Response:
    request.headers  # noqa: B018 - reading them puts a list of their own into the scope
    request.scope["headers"].insert(0, (b"x-one", b"changed"))
    return await handler(request)


@case
async def changes_headers_too_late(request: Request, handler: Handler, note: Note) -> Response:
    note(str(request.headers.get("x-one")))
    request.scope["headers"] = [(b"x-one", b"late"), *request.scope["headers"]]
    return await handler(request)


@case
async def sets_cookies(request: Request, handler: Handler, note: Note) -> Response:
    request._cookies = {"c": "set"}
    return await handler(request)


@case
async def changes_cookies(request: Request, handler: Handler, note: Note) -> Response:
    request.cookies["c"] = "changed"
    return await handler(request)


@case
async def changes_path_params(request: Request, handler: Handler, note: Note) -> Response:
    request.path_params.update(number="77", name="changed")
    return await handler(request)


@case
async def adds_path_param(request: Request, handler: Handler, note: Note) -> Response:
    request.path_params["more"] = "1"
    return await handler(request)


@case
async def other_path_params(request: Request, handler: Handler, note: Note) -> Response:
    request.scope["path_params"] = {"number": "78", "name": "other"}
    return await handler(request)


@case
async def changes_scope(request: Request, handler: Handler, note: Note) -> Response:
    request.scope.update(path="/elsewhere", method="PATCH", root_path="/root", route=None, endpoint=None, app=None)
    return await handler(request)


# Requests of classes of their own.


class Counting(Request):
    note: Note

    async def body(self) -> bytes:
        self.note("body")
        return await super().body()


@case
async def counts_reads(request: Request, handler: Handler, note: Note) -> Response:
    counting = Counting(request.scope, request.receive)
    counting.note = note
    return await handler(counting)


class Upper(Request):
    async def json(self) -> Any:
        found = json.loads(await self.body())
        return {**found, "name": found["name"].upper()} if isinstance(found, dict) and isinstance(found.get("name"), str) else found


@case
async def json_of_its_own(request: Request, handler: Handler, note: Note) -> Response:
    return await handler(Upper(request.scope, request.receive))


class Alternating(Request):
    count = 0

    async def body(self) -> bytes:
        self.count += 1
        if self.count == 2:
            raise ValueError("the second time")
        return await super().body()


@case
async def reads_once(request: Request, handler: Handler, note: Note) -> Response:
    return await handler(Alternating(request.scope, request.receive))


class Plus(Request):
    count = 0

    async def body(self) -> bytes:
        self.count += 1
        return await super().body() + b" " * self.count


@case
async def grows(request: Request, handler: Handler, note: Note) -> Response:
    plus = Plus(request.scope, request.receive)
    response = await handler(plus)
    note(f"{plus.count}")
    return response


class Known(Request):
    @property
    def headers(self) -> Headers:
        return Headers({"x-one": "known", "content-type": "application/json"})

    @property
    def query_params(self) -> QueryParams:
        return QueryParams("q=known")


@case
async def head_of_its_own(request: Request, handler: Handler, note: Note) -> Response:
    return await handler(Known(request.scope, request.receive))


class Answering(Request):
    def __getattr__(self, name: str) -> Any:
        if name == "_json":
            return {"name": "from nowhere"}
        raise AttributeError(name)


@case
async def attributes_of_its_own(request: Request, handler: Handler, note: Note) -> Response:
    return await handler(Answering(request.scope, request.receive))


@case
async def body_of_instance(request: Request, handler: Handler, note: Note) -> Response:
    async def body() -> bytes:
        note("body")
        return b'{"name": "instance"}'

    request.body = body  # type: ignore[method-assign]
    return await handler(request)


# What is done to the answer.


@case
async def replaces_answer(request: Request, handler: Handler, note: Note) -> Response:
    response = await handler(request)
    if isinstance(response, StreamingResponse):
        return response
    return JSONResponse({"data": bytes(response.body).decode(), "of": type(response).__name__}, response.status_code)


@case
async def changes_answer(request: Request, handler: Handler, note: Note) -> Response:
    response = await handler(request)
    response.status_code = 202
    response.set_cookie("c", "1")
    response.headers.append("x-more", "2")
    return response


@case
async def adds_task(request: Request, handler: Handler, note: Note) -> Response:
    response = await handler(request)
    response.background = BackgroundTask(note, "task")
    return response


@case
async def renders_anew(request: Request, handler: Handler, note: Note) -> Response:
    response = await handler(request)
    if type(response) is JSONResponse:
        response.body = response.render({"anew": json.loads(response.body)})
        response.headers["content-length"] = str(len(response.body))
    return response


@case
async def catches(request: Request, handler: Handler, note: Note) -> Response:
    try:
        return await handler(request)
    except Exception as error:
        note(f"{type(error)} {error!r}"[:400])
        return JSONResponse({"caught": type(error).__name__}, 500)


@case
async def raises_afterwards(request: Request, handler: Handler, note: Note) -> Response:
    response = await handler(request)
    raise HTTPException(409, f"after {response.status_code}")


@case
async def answers_none(request: Request, handler: Handler, note: Note) -> Response:
    await handler(request)
    return None  # type: ignore[return-value]


# Other ways to wrap it.

CLASSES: dict[str, Callable[[Note], type[APIRoute]]] = {name: functools.partial(route_class, around) for name, around in CASES.items()}


def of_class(make: Callable[[Note], type[APIRoute]]) -> Callable[[Note], type[APIRoute]]:
    CLASSES[make.__name__] = make
    return make


@of_class
def two_classes(note: Note) -> type[APIRoute]:
    class Outer(route_class(timed, note)):  # type: ignore[misc]
        def get_route_handler(self) -> Any:
            handler = super().get_route_handler()

            @functools.wraps(handler)
            async def handle(request: Request) -> Response:
                note("outer")
                return await handler(GzipRequest(request.scope, request.receive))

            return handle

    return Outer


@of_class
def own_handle(note: Note) -> type[APIRoute]:
    class Route(APIRoute):
        async def handle(self, scope: Any, receive: Any, send: Any) -> None:
            note("handle")
            await super().handle(scope, receive, send)

    return Route


@of_class
def own_app(note: Note) -> type[APIRoute]:
    class Route(APIRoute):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            inner = self.app

            async def app(scope: Any, receive: Any, send: Any) -> None:
                note("app")
                await inner(scope, receive, send)

            self.app = app

    return Route


@of_class
def own_options(note: Note) -> type[APIRoute]:
    class Route(APIRoute):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options["response_model_exclude_none"] = True
            super().__init__(*arguments, **options)

    return Route


@of_class
def handler_as_it_is(note: Note) -> type[APIRoute]:
    class Route(APIRoute):
        def get_route_handler(self) -> Any:
            return super().get_route_handler()

    return Route


@of_class
def kept_elsewhere(note: Note) -> type[APIRoute]:
    class Route(APIRoute):
        def get_route_handler(self) -> Any:
            kept = {"handler": super().get_route_handler()}

            async def handle(request: Request) -> Response:
                return await kept["handler"](request)

            return handle

    return Route


@of_class
def other_handler(note: Note) -> type[APIRoute]:
    """Says otherwise than the route."""

    class Route(APIRoute):
        def get_route_handler(self) -> Any:
            from fastapi.routing import get_request_handler

            handler = get_request_handler(dependant=self.dependant, body_field=self.body_field, status_code=299)

            async def handle(request: Request) -> Response:
                return await handler(request)

            return handle

    return Route
