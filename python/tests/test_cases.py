"""Inputs that were found to be answered otherwise than under uvicorn. Each is marked until it is mended; then the mark has to go."""

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from differential import serve_uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from wire import PATIENCE, Answer, get

from turboapi.testing import TestServer

pytestmark = pytest.mark.above_platform


def check(make: Callable[[], FastAPI], *expected: tuple[str, int, object]) -> None:
    """Asks one target after the other, under uvicorn and under our server: status and JSON (or text) of each."""

    def seen(port: int) -> list[tuple[str, int, object]]:
        return [(target, answer.status, content(answer)) for target, _, _ in expected for answer in [get(port, target)]]

    with serve_uvicorn(make()) as (_, port):
        # Not an assertion: those are what the marks below expect, of our server.
        if (answers := seen(port)) != list(expected):
            pytest.fail(f"uvicorn answers {answers}")
    with TestServer(make()) as server:
        assert seen(server.port) == list(expected)


def content(answer: Answer) -> object:
    return answer.json() if answer.header("content-type") == "application/json" else answer.body.decode()


def test_handler_added_in_lifespan() -> None:
    """The stack was built before, and has the handlers of then."""

    def make() -> FastAPI:
        @contextlib.asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            async def on_key(request: Request, error: Exception) -> JSONResponse:
                return JSONResponse("handled", 499)

            app.add_exception_handler(KeyError, on_key)
            yield

        app = FastAPI(lifespan=lifespan)

        @app.get("/key")
        def key():
            raise KeyError("key")

        return app

    check(make, ("/key", 500, "Internal Server Error"))


def users_app() -> FastAPI:
    app = FastAPI()

    @app.get("/users/{id}")
    def user(id: int):
        return {"first": id}

    def other(id: str):
        return {"other": id}

    @app.get("/insert")
    async def insert():
        app.router.routes.insert(0, APIRoute("/users/{id}", other))

    @app.get("/remove")
    async def remove():
        app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") != "/users/{id}"]

    @app.get("/replace")
    async def replace():
        index = next(index for index, route in enumerate(app.router.routes) if getattr(route, "path", "") == "/users/{id}")
        app.router.routes[index] = APIRoute("/users/{id}", other)

    return app


@pytest.mark.parametrize(
    ("change", "status", "content"),
    [("/insert", 200, {"other": "1"}), ("/remove", 404, {"detail": "Not Found"}), ("/replace", 200, {"other": "1"})],
)
def test_routes_changed_while_running(change: str, status: int, content: object) -> None:
    check(users_app, ("/users/1", 200, {"first": 1}), (change, 200, None), ("/users/1", status, content))


def breaking_app(has_raised: threading.Event) -> FastAPI:
    app = FastAPI()

    @app.get("/breaks")
    async def breaks() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            try:
                yield b"one"
                yield b"two"
                raise RuntimeError("in the middle")
            finally:
                has_raised.set()

        return StreamingResponse(parts())

    return app


@contextlib.contextmanager
def served(name: str, app: FastAPI) -> Iterator[int]:
    if name == "uvicorn":
        with serve_uvicorn(app) as (_, port):
            yield port
    else:
        with TestServer(app) as server:
            yield server.port


@pytest.mark.parametrize(
    "name",
    [
        "uvicorn",
        "turboapi",
    ],
)
def test_chunked_stream_that_raises(name: str) -> None:
    """The parts, no last chunk, and the connection ends: chunked coding tells by itself that it is not the whole."""
    has_raised = threading.Event()
    with served(name, breaking_app(has_raised)) as port, socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as peer:
        peer.sendall(b"GET /breaks HTTP/1.1\r\nhost: test\r\n\r\n")
        # Reads nothing before it is over, as a slow client does: what a reset throws away would be missed.
        assert has_raised.wait(PATIENCE)
        received = b""
        while part := peer.recv(4096):
            received += part
    _, _, body = received.partition(b"\r\n\r\n")
    assert body == b"3\r\none\r\n3\r\ntwo\r\n"
