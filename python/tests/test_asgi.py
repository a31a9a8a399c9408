"""ASGI apps that are no FastAPI: the protocol's messages, and every way to get them wrong."""

import asyncio
import logging
import threading
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.routing import Mount, Route
from wire import PATIENCE, Peer, get

from turboapi.testing import TestServer

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
BODY = {"type": "http.response.body", "body": b"body"}
PART = {**BODY, "more_body": True}
END = {"type": "http.response.body"}


def http_only(handler):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await handler(scope, receive, send)
        else:
            raise RuntimeError("no lifespan here")

    return app


def sending(*steps):
    """An app that sends these messages, and raises those that are exceptions."""

    async def handler(scope, receive, send):
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            await send(step)

    return http_only(handler)


WHOLE = (200, b"body")
ERROR = (500, b"Internal Server Error")
#: The head and a part of the body, and then the connection ends.
CUT = "cut"


@pytest.mark.parametrize(
    ("steps", "expected", "message"),
    [
        ((START, BODY), WHOLE, ""),
        ((START, PART, END), WHOLE, ""),
        ((START, {**END, "more_body": True}, BODY), WHOLE, ""),
        (({**START, "headers": iter(START["headers"])}, {**BODY, "body": bytearray(b"body")}), WHOLE, ""),
        (({**START, "headers": [[b"x-a", b"1"], (b"x-b", b"2")]}, BODY), WHOLE, ""),
        (({"type": "http.response.start", "status": 200}, {**BODY, "body": memoryview(b"body")}), WHOLE, ""),
        (({**START, "trailers": False}, {**BODY, "more_body": 0}), WHOLE, ""),
        # Nothing of an answer, or not all of it.
        ((), ERROR, "the app returned before its answer was complete"),
        ((START,), ERROR, "the app returned before its answer was complete"),
        ((START, PART), CUT, "the app returned before its answer was complete"),
        ((ValueError("on purpose"),), ERROR, "raised ValueError"),
        ((START, ValueError("on purpose")), ERROR, "raised ValueError"),
        ((START, PART, ValueError("on purpose")), CUT, "raised ValueError"),
        ((START, BODY, ValueError("on purpose")), WHOLE, "raised ValueError"),
        ((SystemExit(1),), ERROR, "raised SystemExit"),
        # The wrong order.
        ((BODY,), ERROR, "http.response.body was sent before http.response.start"),
        ((START, START), ERROR, "http.response.start was sent, and the answer was started before"),
        ((START, PART, START), CUT, "http.response.start was sent, and the answer was started before"),
        ((START, BODY, START), WHOLE, "http.response.start was sent, and the answer was started before"),
        ((START, BODY, BODY), WHOLE, "http.response.body was sent, and the answer was complete before"),
        # No messages.
        (({"type": "http.response.stop"},), ERROR, "message type is 'http.response.stop', allowed are"),
        ((START, {"type": "websocket.accept"}), ERROR, "message type is 'websocket.accept', allowed are"),
        (({},), ERROR, "KeyError: 'type'"),
        (({"type": "http.response.start"},), ERROR, "KeyError: 'status'"),
        ((None,), ERROR, "TypeError"),
        # Wrong values.
        (({**START, "status": 99},), ERROR, "status is 99, allowed are 200 to 999"),
        (({**START, "status": 101},), ERROR, "status is 101, allowed are 200 to 999"),
        (({**START, "status": 1000},), ERROR, "status is 1000, allowed are 200 to 999"),
        (({**START, "status": 70_000},), ERROR, "OverflowError"),
        (({**START, "status": -1},), ERROR, "OverflowError"),
        (({**START, "status": "200"},), ERROR, "TypeError"),
        (({**START, "headers": [("a", "b")]},), ERROR, "headers must be pairs of bytes"),
        (({**START, "headers": [(b"a",)]},), ERROR, "headers must be pairs of bytes"),
        (({**START, "headers": 5},), ERROR, "TypeError"),
        ((START, {**BODY, "body": "text"}), ERROR, "TypeError"),
        ((START, {**BODY, "body": 5}), ERROR, "TypeError"),
        ((START, {**BODY, "body": None}), ERROR, "TypeError"),
    ],
)
def test_messages(steps, expected, message, caplog):
    with TestServer(sending(*steps)) as server, Peer(server.port) as peer:
        peer.ask("/")
        if expected == CUT:
            with pytest.raises((EOFError, ConnectionResetError)):
                peer.read()
        else:
            answer = peer.read()
            assert (answer.status, answer.body) == expected
            # The connection is good for another one.
            assert peer.get("/").status == expected[0]
    assert (message in caplog.text) if message else ("ERROR" not in caplog.text)


def test_an_error_response_after_a_bad_start():
    """What a start with a wrong status or header has left undone can be done by the app's own handler of errors."""

    async def handler(scope, receive, send):
        for bad in ({"status": 7}, {"headers": [(b"a b", b"c")]}):
            with pytest.raises(ValueError, match="is"):
                await send({**START, **bad})
        await send({**START, "status": 503})
        await send(BODY)

    with TestServer(http_only(handler)) as server:
        answer = get(server.port, "/")
        assert (answer.status, answer.body) == (503, b"body")


def test_the_scope():
    scopes = []

    async def handler(scope, receive, send):
        scopes.append(scope)
        message = await receive()
        assert message == {"type": "http.request", "body": b"content", "more_body": False}
        await send(START)
        await send(BODY)

    with TestServer(http_only(handler), root_path="/api") as server, Peer(server.port) as peer:
        peer.ask("/a%20b/%C3%BC?x=%20&y", "X-Name: One", "x-name:  two ", method="PATCH", body=b"content")
        assert peer.read().status == 200
        client = peer.socket.getsockname()
    (scope,) = scopes
    assert scope.pop("state") == {}
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", server.port),
        "client": client,
        "scheme": "http",
        "method": "PATCH",
        "root_path": "/api",
        "path": "/api/a b/ü",
        "raw_path": b"/api/a%20b/%C3%BC",
        "query_string": b"x=%20&y",
        "headers": [(b"host", b"test"), (b"x-name", b"One"), (b"x-name", b"two"), (b"content-length", b"7")],
    }


def test_root_path_is_what_a_proxy_took_off():
    app = FastAPI()

    @app.get("/url/")
    def url(request: Request):
        return str(request.url)

    @app.get("/native")
    def native():
        return "native"

    with TestServer(app, root_path="/api") as server, Peer(server.port) as peer:
        assert peer.get("/url/").json() == "http://test/api/url/"
        assert peer.get("/url").header("location") == "http://test/api/url/"
        assert peer.get("/native").json() == "native"
        # Not taken off: both ways of answering look for the rest of what the client has asked for.
        assert peer.get("/api/url/").status == 404
        assert peer.get("/api/native").status == 404


def test_each_request_has_a_scope_of_its_own():
    async def handler(scope, receive, send):
        assert "mark" not in scope
        assert "mark" not in scope["state"]
        scope["mark"] = scope["state"]["mark"] = 1
        scope["headers"].append((b"mark", b"1"))
        await send(START)
        await send({**BODY, "body": str(len(scope["headers"])).encode()})

    with TestServer(http_only(handler)) as server, Peer(server.port) as peer:
        assert [peer.get("/").body for _ in range(3)] == [b"2"] * 3


def test_lifespan_state_is_in_the_scope():
    @asynccontextmanager
    async def lifespan(app):
        yield {"shared": [], "loop": asyncio.get_running_loop()}

    async def handler(request):
        request.state.shared.append(1)
        assert request.state.loop is asyncio.get_running_loop()
        had_mark = hasattr(request.state, "mark")
        request.state.mark = 1
        return JSONResponse([len(request.state.shared), had_mark])

    with TestServer(Starlette(routes=[Route("/", handler)], lifespan=lifespan)) as server, Peer(server.port) as peer:
        assert [peer.get("/").json() for _ in range(3)] == [[1, False], [2, False], [3, False]]


def test_sending_to_a_peer_that_has_gone():
    """An OSError, as ASGI 2.4 says, and no line in the log when it is not handled."""
    seen, begun = [], threading.Event()

    async def handler(scope, receive, send):
        await receive()
        begun.set()
        assert (await receive())["type"] == "http.disconnect"
        while not seen:
            try:
                await send(START if not seen and scope.setdefault("n", 0) == 0 else PART)
                scope["n"] += 1
            except OSError as error:
                seen.append(error)
                done.set()
                raise

    done = threading.Event()
    with TestServer(http_only(handler)) as server:
        peer = Peer(server.port)
        peer.ask("/")
        assert begun.wait(PATIENCE)
        peer.reset()
        assert done.wait(PATIENCE)
        server.stop()
        assert server.exceptions == []
    assert str(seen[0]) == "the peer has gone"


def test_receive_after_the_answer_is_a_disconnect():
    kinds, done = [], threading.Event()

    async def handler(scope, receive, send):
        await send(START)
        await send(BODY)
        kinds.extend([(await receive())["type"], (await receive())["type"], (await receive())["type"]])
        done.set()

    with TestServer(http_only(handler)) as server:
        with Peer(server.port) as peer:
            assert peer.get("/").body == b"body"
            assert done.wait(PATIENCE)
        assert kinds == ["http.request", "http.disconnect", "http.disconnect"]


class Marks:
    """A middleware in the bare form."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def marked(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-mark", b"1")]}
            await send(message)

        await self.app(scope, receive, marked)


def test_starlette():
    async def user(request):
        return JSONResponse({"id": request.path_params["id"], "query": request.query_params.get("q")})

    def in_a_thread(request):
        return PlainTextResponse(threading.current_thread().name)

    async def redirect(request):
        return RedirectResponse(request.url_for("user", id=7))

    async def body(request):
        return PlainTextResponse((await request.body())[::-1])

    routes = [
        Route("/users/{id:int}", user, name="user"),
        Route("/thread", in_a_thread),
        Route("/redirect", redirect),
        Mount("/inner", Starlette(routes=[Route("/body", body, methods=["POST"])])),
    ]
    with TestServer(Starlette(routes=routes, middleware=[Middleware(Marks)])) as server, Peer(server.port) as peer:
        answer = peer.get("/users/3?q=x")
        assert (answer.json(), answer.header("x-mark")) == ({"id": 3, "query": "x"}, "1")
        assert peer.get("/users/x").status == 404
        assert peer.get("/thread").body != f"TestServer-{server.port}".encode()
        assert peer.get("/redirect").header("location") == "http://test/users/7"
        peer.ask("/inner/body", method="POST", body=b"abc")
        assert peer.read().body == b"cba"
        answer = peer.get("/inner/body")
        assert (answer.status, answer.header("allow")) == (405, "POST")


def test_mounted_in_a_fastapi():
    inner = FastAPI()

    @inner.get("/hello/{name}")
    async def hello(name: str):
        return name

    async def handler(scope, receive, send):
        await send(START)
        await send({**BODY, "body": f"{scope['root_path']} {scope['path']}".encode()})

    app = FastAPI()
    app.mount("/inner", inner)
    app.mount("/raw", http_only(handler))

    @app.get("/outer")
    def outer():
        return "outer"

    with TestServer(app) as server, Peer(server.port) as peer:
        assert peer.get("/inner/hello/x").json() == "x"
        assert peer.get("/inner/none").status == 404
        assert peer.get("/raw/a/b").body == b"/raw /raw/a/b"
        assert peer.get("/outer").json() == "outer"


def test_cancelled_by_itself(caplog):
    """An app that cancels its own task has its 500, and nobody else notices."""

    async def handler(scope, receive, send):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with TestServer(http_only(handler)) as server, Peer(server.port) as peer, caplog.at_level(logging.ERROR):
        assert [peer.get("/").status for _ in range(3)] == [500] * 3


def test_http_1_0():
    """A streamed answer ends with the connection, and a whole one has its length."""
    with TestServer(sending(START, PART, BODY)) as server, Peer(server.port) as peer:
        peer.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = peer.rest()
        assert b"chunked" not in answer
        assert answer.endswith(b"\r\n\r\nbodybody")
    with TestServer(sending(START, BODY)) as server, Peer(server.port) as peer:
        peer.send(b"GET / HTTP/1.0\r\n\r\n")
        assert b"content-length: 4\r\n" in peer.rest()
