"""The app's own exception handlers: the same answers, in the same order of events, from a plan, from a plan within middleware, from the
app's own ASGI call and from uvicorn; each handler notes what it sees of its request."""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from differential import Answer, Connection, json_request, request, serve
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import AfterValidator, BaseModel
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as StarletteHTTPException
from test_after import Notes, PassesOn
from test_background import wait_until
from ways import by_asgi

from turboapi.plan.routes import compile_app
from turboapi.testing import TestServer

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Base(Exception):
    pass


class Derived(Base):
    pass


class DefError(Exception):
    pass


class RaisingError(Exception):
    pass


class RaisingHandledError(Exception):
    pass


class SilentError(Exception):
    pass


class StreamError(Exception):
    pass


class BrokenError(Exception):
    pass


class TaskError(Exception):
    pass


class OwnHTTPError(HTTPException):
    pass


class Item(BaseModel):
    name: str


def refuse(_: int) -> int:
    raise Derived


class BrokenResponse(Response):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise Derived


RAISED: dict[str, Callable[[], BaseException]] = {
    "base": Base,
    "derived": Derived,
    "def": DefError,
    "raising": RaisingError,
    "raising-handled": RaisingHandledError,
    "silent": SilentError,
    "stream": StreamError,
    "broken": BrokenError,
    "task": TaskError,
    "http-400": lambda: HTTPException(400, {"code": 7}, {"x": "1"}),
    "http-404": lambda: HTTPException(404),
    "http-starlette": lambda: StarletteHTTPException(409, "plain"),
    "http-own": lambda: OwnHTTPError(410, "own"),
    "http-418": lambda: HTTPException(418),
    "validation": lambda: RequestValidationError([]),
    "value": lambda: ValueError("nobody's"),
    "response-validation": lambda: ResponseValidationError([]),
}


def make_app(notes: Notes, way: str, http: str) -> FastAPI:
    """`http`: who has HTTPException: "stock", "ours", or "status" for a handler of some statuses alone."""
    app = by_asgi(FastAPI(), way == "asgi")

    def note(name: str, request: Request, error: Exception) -> None:
        scope = request.scope
        route = scope["route"].path if "route" in scope else None
        seen = (request.method, request.url.path, scope.get("path_params"), route, scope["app"] is app, "endpoint" in scope, who.get())
        notes.append((name, type(error).__name__, seen))

    @app.exception_handler(Base)
    async def on_base(request: Request, error: Exception) -> Response:
        note("base", request, error)
        await asyncio.sleep(0)
        body = await request.body()
        return JSONResponse({"handled": body.decode()}, 418, {"x-handled": "1"})

    @app.exception_handler(DefError)
    def on_def(request: Request, error: Exception) -> Response:
        note("def", request, error)
        return PlainTextResponse("def", 400)

    @app.exception_handler(RaisingError)
    async def on_raising(request: Request, error: Exception) -> Response:
        note("raising", request, error)
        raise ValueError("in the handler")

    @app.exception_handler(RaisingHandledError)
    def on_raising_handled(request: Request, error: Exception) -> Response:
        note("raising", request, error)
        raise Derived

    @app.exception_handler(SilentError)
    async def on_silent(request: Request, error: Exception) -> None:
        note("silent", request, error)

    @app.exception_handler(StreamError)
    async def on_stream(request: Request, error: Exception) -> Response:
        note("stream", request, error)
        return StreamingResponse(iter([b"one", b"two"]), 203)

    @app.exception_handler(BrokenError)
    async def on_broken(request: Request, error: Exception) -> Response:
        note("broken", request, error)
        return BrokenResponse()

    @app.exception_handler(TaskError)
    async def on_task(request: Request, error: Exception) -> Response:
        note("task", request, error)
        return RedirectResponse("/x", background=BackgroundTask(notes.append, "after"))

    @app.exception_handler(Exception)
    async def on_error(request: Request, error: Exception) -> Response:
        notes.append(("500", type(error).__name__, request.url.path))
        return PlainTextResponse("ours", 500)

    if http == "ours":

        @app.exception_handler(StarletteHTTPException)
        async def on_http(request: Request, error: Any) -> Response:
            note("http", request, error)
            return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    if http == "status":

        @app.exception_handler(404)
        @app.exception_handler(409)
        async def on_status(request: Request, error: Any) -> Response:
            note("status", request, error)
            return PlainTextResponse(str(error.detail), error.status_code)

    def raise_it(name: str) -> None:
        who.set("endpoint")
        notes.append("endpoint")
        raise RAISED[name]()

    @app.get("/async/{name}")
    async def raise_async(name: str) -> None:
        raise_it(name)

    @app.get("/late/{name}")
    async def raise_late(name: str) -> None:
        await asyncio.sleep(0)
        raise_it(name)

    @app.get("/def/{name}")
    def raise_def(name: str) -> None:
        raise_it(name)

    @app.post("/body/{name}/{number:int}")
    async def raise_body(name: str, number: int, item: Item) -> None:
        raise_it(name)

    @app.get("/request/{name}")
    async def raise_request(name: str, request: Request) -> None:
        raise_it(name)

    @app.get("/validator", response_model=None)
    async def validator(number: Annotated[int, AfterValidator(refuse)] = 1) -> None:
        notes.append("endpoint")

    @app.get("/model", response_model=Annotated[int, AfterValidator(refuse)])
    async def model() -> int:
        return 1

    @app.get("/response", response_class=BrokenResponse)
    async def response() -> Response:
        return BrokenResponse()

    if way == "leaf":
        app.add_middleware(PassesOn)
    return app


#: Nothing is answered by the app, and what a server says then is its own.
UNANSWERED = ("silent",)

REQUESTS = [
    *(request("GET", f"/{way}/{name}") for way in ("async", "late", "def", "request") for name in RAISED if name not in UNANSWERED),
    *(json_request(f"/body/{name}/7", b'{"name": "x"}') for name in ("base", "raising", "http-404", "value")),
    json_request("/body/base/7", b'{"name": 1}'),
    *(request("GET", path) for path in ("/validator", "/validator?number=2", "/model", "/response", "/nowhere")),
]


def served(way: str, http: str, notes: Notes) -> contextlib.AbstractContextManager[tuple[str, int]]:
    return serve(way, make_app(notes, way, http))


def ask_all(address: tuple[str, int], notes: Notes) -> list[tuple[bytes, Answer, Notes]]:
    connection, seen = Connection(address, kept=False), []
    for asked in REQUESTS:
        notes.clear()
        answer = connection.ask(asked)
        if b"/task" in asked:
            wait_until(lambda: "after" in notes)
        seen.append((asked, answer, notes.copy()))
    connection.close()
    return seen


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """By who has HTTPException, what uvicorn answers and what was noted."""
    found = {}
    for http in ("stock", "ours", "status"):
        notes: Notes = []
        with served("uvicorn", http, notes) as address:
            found[http] = ask_all(address, notes)
    return found


@pytest.mark.parametrize("http", ["stock", "ours", "status"])
@pytest.mark.parametrize("way", ["native", "leaf", "asgi"])
def test_handlers(way: str, http: str, expected: dict[str, Any]) -> None:
    notes: Notes = []
    with served(way, http, notes) as address:
        for theirs, ours in zip(expected[http], ask_all(address, notes), strict=True):
            assert ours == theirs


def test_all_of_it_is_native() -> None:
    assert [(entry.template, entry.reason) for entry in compile_app(make_app([], "native", "stock")) if not entry.native] == []


def test_a_handler_that_answers_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and the peer gets a 500."""
    notes: Notes = []
    for way in ("native", "asgi"):
        caplog.clear()
        with served(way, "stock", notes) as address:
            connection = Connection(address)
            assert connection.ask(request("GET", "/async/silent")).status == 500
            connection.close()
        assert caplog.text.count("'/async/silent': the app returned before its answer was complete") == 1


def test_an_exception_that_is_raised_again_and_again_keeps_no_frames() -> None:
    app, error = FastAPI(), Derived()

    @app.exception_handler(Base)
    async def on_base(request: Request, error: Exception) -> Response:
        return PlainTextResponse("handled")

    @app.get("/")
    async def endpoint() -> None:
        raise error

    with TestServer(app) as server:
        connection = Connection(("127.0.0.1", server.port))
        for _ in range(3):
            assert connection.ask(request("GET", "/")).body == b"handled"
        connection.close()
    assert error.__traceback__ is None
