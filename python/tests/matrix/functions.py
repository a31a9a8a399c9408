"""Set-ups of `@app.middleware("http")` and `BaseHTTPMiddleware`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware

from . import stock
from .failures import KnownError
from .protocol import concerns
from .record import Note
from .requesting import WHO

CallNext = Callable[[Request], Awaitable[Response]]

#: Routes that do something in a thread when their answer is sent. Nothing says whether that or what a middleware does then comes first.
WORK_ON = ("/yield/", "/tasks", "/own/background", "/depends/decorator", "/depends/header", "/raise/other", "/stream/async")


def adds_header(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def add_header(request: Request, call_next: CallNext) -> Response:
        note("in")
        response = await call_next(request)
        response.headers["X-Middleware"] = f"{request.method} {len(request.url.path)}"
        response.headers.append("X-Set", "middleware")
        note("out")
        return response


def reads_body(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def read_body(request: Request, call_next: CallNext) -> Response:
        body = await request.body()
        note(f"body {len(body)}")
        response = await call_next(request)
        response.headers["X-Body"] = str(len(body))
        return response


def consumes_stream(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def consume(request: Request, call_next: CallNext) -> Response:
        total = 0
        async for part in request.stream():
            total += len(part)
        note(f"stream {total}")
        return await call_next(request)


def reads_after(app: FastAPI, note: Note) -> None:
    """Looks at the request when the app has answered."""

    @app.middleware("http")
    async def read_after(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        note(f"cookies {sorted(request.cookies)} {request.scope.get('path_params')}")
        return response


def replaces_answer(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def replace(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        if response.status_code < 400 and concerns(request.scope, 2):
            note("replaced")
            return JSONResponse({"was": response.status_code, "type": response.headers.get("content-type")}, 299)
        return response


def reads_answer(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def read_answer(request: Request, call_next: CallNext) -> Response:
        response: Any = await call_next(request)
        body = b"".join([part async for part in response.body_iterator])
        if not request.url.path.startswith(WORK_ON):
            note(f"answer {len(body)}")
        headers = dict(response.headers)
        headers.pop("content-length", None)
        return Response(body.upper(), response.status_code, headers, response.media_type)


def wraps_iterator(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def wrap_iterator(request: Request, call_next: CallNext) -> Response:
        response: Any = await call_next(request)
        original = response.body_iterator

        async def counted() -> AsyncIterator[bytes]:
            total = 0
            async for part in original:
                total += len(part)
                yield part
            if not request.url.path.startswith(WORK_ON):
                note(f"counted {total}")

        response.body_iterator = counted()
        return response


def answers_early(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def answer_early(request: Request, call_next: CallNext) -> Response:
        if concerns(request.scope, 3) or "x-token" in request.headers:
            note("early")
            return PlainTextResponse("early", 401, {"WWW-Authenticate": "Matrix"}, background=BackgroundTask(note, "after early"))
        return await call_next(request)


def raises(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def raise_sometimes(request: Request, call_next: CallNext) -> Response:
        if concerns(request.scope, 5):
            raise HTTPException(409, "too far out for its handler")
        if concerns(request.scope, 3):
            raise KnownError("too far out, too")
        response = await call_next(request)
        if concerns(request.scope, 2):
            raise RuntimeError("after the answer has begun")
        return response


def catches(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def catch(request: Request, call_next: CallNext) -> Response:
        try:
            return await call_next(request)
        except Exception as error:
            # The first line: a ResponseValidationError may name another function, as FastAPI keeps places by ids, which are used again.
            note(f"caught {type(error).__name__} {str(error).partition(chr(10))[0]}")
            return JSONResponse({"caught": type(error).__name__}, 503)


def knows_context(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def set_context(request: Request, call_next: CallNext) -> Response:
        token = WHO.set("middleware")
        response = await call_next(request)
        note(f"context after: {WHO.get()}")
        WHO.reset(token)
        return response


def sets_state(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def set_state(request: Request, call_next: CallNext) -> Response:
        request.state.user = "from the middleware"
        request.scope["user_name"] = "from the scope"
        response = await call_next(request)
        route = request.scope.get("route")
        note(f"route {getattr(route, 'path', None)} {getattr(request.scope.get('endpoint'), '__name__', None)}")
        return response


def changes_request(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def change_request(request: Request, call_next: CallNext) -> Response:
        if request.url.path.startswith("/int/"):
            request.scope["path"] = request.scope["path"].replace("/int/", "/float/")
        return await call_next(Request({**request.scope, "query_string": request.scope["query_string"] + b"&q=4"}, request.receive))


def adds_task(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def add_task(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        if not request.url.path.startswith(WORK_ON):
            response.background = BackgroundTask(note, "middleware's task")
        return response


def streams_around(app: FastAPI, note: Note) -> None:
    @app.middleware("http")
    async def stream_around(request: Request, call_next: CallNext) -> Response:
        response: Any = await call_next(request)
        if response.status_code == 204 or response.headers.get("content-type") != "application/json":
            return response

        async def around() -> AsyncIterator[bytes]:
            yield b"<"
            async for part in response.body_iterator:
                yield part
            yield b">"

        return StreamingResponse(around(), response.status_code, media_type="text/plain")


class Timing(BaseHTTPMiddleware):
    def __init__(self, app: Any, note: Note, name: str) -> None:
        super().__init__(app)
        self.note, self.name = note, name

    async def dispatch(self, request: Request, call_next: CallNext) -> Response:
        self.note(f"{self.name} in")
        try:
            response = await call_next(request)
        except Exception as error:
            self.note(f"{self.name} saw {type(error).__name__}")
            raise
        response.headers["X-Timing"] = f"{response.headers.get('x-timing', '')}{self.name}"
        self.note(f"{self.name} out")
        return response


def base_class(app: FastAPI, note: Note) -> None:
    app.add_middleware(Timing, note=note, name="a")


def three_nested(app: FastAPI, note: Note) -> None:
    reads_body(app, note)
    for name in ("a", "b"):
        app.add_middleware(Timing, note=note, name=name)


def dispatch_function(app: FastAPI, note: Note) -> None:
    async def dispatch(request: Request, call_next: CallNext) -> Response:
        note(f"dispatch {request.url.path}")
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)


def header_in_cors_in_gzip(app: FastAPI, note: Note) -> None:
    adds_header(app, note)
    stock.cors_listed(app, note)
    stock.gzip_everything(app, note)


def gzip_in_header(app: FastAPI, note: Note) -> None:
    stock.gzip_everything(app, note)
    adds_header(app, note)


def catches_around_raises(app: FastAPI, note: Note) -> None:
    raises(app, note)
    catches(app, note)


def session_in_function(app: FastAPI, note: Note) -> None:
    knows_context(app, note)
    stock.session(app, note)
