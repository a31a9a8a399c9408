"""What handlers return, on the wire: what cannot be sent, what streams, who is told when the peer goes."""

import asyncio
import json
import logging
import os
import re
import resource
import select
import threading
import time
from pathlib import Path

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel
from ways import by_asgi
from wire import PATIENCE, Peer, get

from turboapi import TurboAPI
from turboapi.testing import TestServer


class Widget:
    __slots__ = ()


class Model(BaseModel):
    thing: object


#: What JSON cannot hold: by name, a value and the type that the log line names.
UNWRITABLE = {
    "object": (Widget(), "Widget"),
    "nested": ({"a": [1, {"b": Widget()}]}, "Widget"),
    "function": (len, "builtin_function_or_method"),
    "nan": ({"x": [float("nan")]}, "dict"),
    "infinity": (float("inf"), "float"),
    "surrogate": ("\ud800", "str"),
    "surrogate_key": ({"\ud800": 1}, "dict"),
    "model": (Model(thing=Widget()), "Model"),
    "huge": (10**5000, "int"),
}
CYCLE = []
CYCLE.append(CYCLE)
UNWRITABLE["cycle"] = (CYCLE, "list")


async def nothing():
    pass


def make_app(kind):
    app = by_asgi(TurboAPI(), kind == "asgi")

    def function(name: str):
        return UNWRITABLE[name][0]

    async def at_once(name: str):
        return UNWRITABLE[name][0]

    async def suspended(name: str):
        await asyncio.sleep(0)
        return UNWRITABLE[name][0]

    handler = {"def": function, "pool": function, "async": at_once, "suspended": suspended, "asgi": at_once}[kind]
    app.get("/items/{name}", response_model=None, blocking=kind == "pool" or None)(handler)
    return app


@pytest.mark.parametrize("kind", ["def", "pool", "async", "suspended", "asgi"])
def test_what_json_cannot_hold(kind, caplog):
    """A 500, and one log line that names the route and the type."""
    with TestServer(make_app(kind)) as server, Peer(server.port) as peer:
        for name, (_, type_name) in UNWRITABLE.items():
            caplog.clear()
            answer = peer.get(f"/items/{name}")
            assert (answer.status, answer.body) == (500, b"Internal Server Error"), name
            # On a busy machine another line may say that the function was slow.
            lines = [record.getMessage() for record in caplog.records if " raised " in record.getMessage()]
            assert len(lines) == 1, lines
            assert f"GET '/items/{name}' raised " in lines[0]
            assert "\n" not in lines[0]
            assert f"JSON cannot hold a {type_name} in the answer of /items/{{name}}" in lines[0], lines
        assert len(server.exceptions) == len(UNWRITABLE)


def test_http_exceptions():
    app = FastAPI()
    exceptions = {
        "plain": (HTTPException(404), 404, {"detail": "Not Found"}, None),
        "detail": (HTTPException(400, {"code": [1, "ü"]}), 400, {"detail": {"code": [1, "ü"]}}, None),
        "headers": (HTTPException(401, "who?", {"WWW-Authenticate": "Basic"}), 401, {"detail": "who?"}, "Basic"),
        "teapot": (HTTPException(418, None), 418, {"detail": "I'm a Teapot"}, None),
        "own": (HTTPException(599, "own"), 599, {"detail": "own"}, None),
    }

    @app.get("/def")
    def function(name: str):
        raise exceptions[name][0]

    @app.get("/async")
    async def coroutine(name: str):
        await asyncio.sleep(0)
        raise exceptions[name][0]

    @app.get("/asgi", dependencies=[Depends(nothing)])
    async def asgi(name: str):
        raise exceptions[name][0]

    with TestServer(app) as server, Peer(server.port) as peer:
        for path in ("/def", "/async", "/asgi"):
            for name, (_, status, body, authenticate) in exceptions.items():
                answer = peer.get(f"{path}?name={name}")
                assert (answer.status, answer.json(), answer.header("www-authenticate")) == (status, body, authenticate)
        for status in (204, 304):
            exceptions["empty"] = (HTTPException(status), status, None, None)
            answers = [peer.get(f"{path}?name=empty") for path in ("/def", "/async", "/asgi")]
            assert [(answer.status, answer.body) for answer in answers] == [(status, b"")] * 3
        assert server.exceptions == []


def headers_that_lie():
    for bad in ("\r", "\n", "\0", "\x7f", "\r\n\r\n", "\r\nset-cookie: a=b"):
        yield "x-name", f"a{bad}b"
        yield f"x{bad}y", "value"
    yield "", "value"
    yield "x y", "value"
    yield "x:y", "value"
    yield "content-length", "3, 4"
    yield "content-length", "-1"


@pytest.mark.parametrize("kind", ["def", "suspended", "exception", "streaming", "asgi", "raw"])
def test_header_injection(kind):
    """A header that HTTP cannot hold is the handler's error; nothing of it reaches the wire."""
    app, chosen = FastAPI(), []

    def headers():
        name, value = chosen[0]
        return [(name.encode("latin-1"), value.encode("latin-1"))]

    def respond(cls=Response, content=b"secret"):
        response = cls(content)
        response.raw_headers.extend(headers())
        return response

    @app.get("/def")
    def function():
        return respond()

    @app.get("/suspended")
    async def suspended():
        await asyncio.sleep(0)
        return respond(JSONResponse)

    @app.get("/exception")
    async def exception():
        raise HTTPException(400, "secret", dict(chosen))

    @app.get("/streaming")
    async def streaming():
        return respond(StreamingResponse, iter([b"secret"]))

    @app.get("/asgi", dependencies=[Depends(nothing)])
    async def asgi():
        return respond(PlainTextResponse)

    async def raw(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers()})
        await send({"type": "http.response.body", "body": b"secret"})

    with TestServer(raw if kind == "raw" else app) as server:
        for header in headers_that_lie():
            chosen[:] = [header]
            with Peer(server.port) as peer:
                peer.ask(f"/{kind}", "connection: close")
                received = peer.rest()
            assert received.startswith(b"HTTP/1.1 500 "), (header, received)
            assert received.count(b"HTTP/1.1") == 1
            for secret in (b"secret", b"x-name", b"set-cookie"):
                assert secret not in received, (header, received)
        assert len(server.exceptions) == len(list(headers_that_lie()))


STATM = Path("/proc/self/statm")


def rss():
    """Bytes of memory that this process holds."""
    return int(STATM.read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not STATM.exists(), reason="reads /proc")
@pytest.mark.parametrize("kind", ["chunked", "length"])
def test_a_reader_that_stalls_pauses_the_app(kind):
    """50 MB to a peer that reads nothing: the generator is paused, and memory stays where it is."""
    app, produced = FastAPI(), [0]
    piece, count = b"x" * 50_000, 1000

    @app.get("/")
    async def handler():
        async def body():
            for _ in range(count):
                produced[0] += 1
                yield piece

        headers = {"content-length": str(len(piece) * count)} if kind == "length" else None
        return StreamingResponse(body(), headers=headers)

    with TestServer(app) as server, Peer(server.port, receive_buffer=16 * 1024) as peer:
        before = rss()
        peer.ask("/")
        deadline = time.monotonic() + PATIENCE
        seen = -1
        # Paused when nothing more is produced while others are answered.
        while seen != produced[0] or not seen:
            seen = produced[0]
            for _ in range(50):
                assert get(server.port, "/none").status == 404
            assert time.monotonic() < deadline
        # What the kernel holds of it differs from machine to machine; a few megabytes.
        assert produced[0] < count / 2, produced
        assert rss() - before < 20_000_000
        answer = peer.read()
        assert len(answer.body) == len(piece) * count
        assert produced[0] == count
        assert server.exceptions == []


@pytest.mark.skipif(not STATM.exists(), reason="reads /proc")
@pytest.mark.parametrize("part", [b"", b"x"])
def test_many_small_parts_do_not_pile_up(part):
    """An app that only sends is paused all the same."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for _ in range(100_000):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    with TestServer(app, lifespan=False) as server, Peer(server.port) as peer:
        before = rss()
        assert peer.get("/").body == part * 100_000
        assert rss() - before < 4_000_000


@pytest.mark.parametrize("leave", [Peer.reset, lambda peer: peer.socket.close()], ids=["reset", "close"])
@pytest.mark.parametrize("kind", ["receive", "is_disconnected", "both", "stalled", "endless"])
def test_the_app_is_told_that_the_peer_has_gone(kind, leave):
    app, begun, ended = FastAPI(), threading.Event(), threading.Event()

    @app.get("/receive")
    async def receive(request: Request):
        assert (await request.receive())["type"] == "http.request"
        begun.set()
        assert (await request.receive())["type"] == "http.disconnect"
        ended.set()

    @app.get("/is_disconnected")
    async def is_disconnected(request: Request):
        await request.body()
        while not await request.is_disconnected():
            begun.set()
            await asyncio.sleep(0.001)
        ended.set()

    @app.get("/both")
    async def both(request: Request):
        """One task waits in `receive` while another looks and goes."""
        await request.body()
        waiting = asyncio.create_task(request.receive())
        await asyncio.sleep(0)
        assert not await request.is_disconnected()
        begun.set()
        assert (await waiting)["type"] == "http.disconnect"
        assert await request.is_disconnected()
        ended.set()

    async def body(size):
        try:
            while True:
                yield b"x" * size
                begun.set()
                await asyncio.sleep(0)
        finally:
            ended.set()

    @app.get("/stalled")
    async def stalled():
        """Paused for the peer, which never reads."""
        return StreamingResponse(body(10_000_000))

    @app.get("/endless")
    async def endless():
        return StreamingResponse(body(10))

    with TestServer(app) as server:
        peer = Peer(server.port)
        peer.ask(f"/{kind}")
        if kind == "endless":
            assert peer.socket.recv(10)
        elif kind == "stalled":
            assert peer.socket.recv(10)
            begun.set()
        assert begun.wait(PATIENCE)
        leave(peer)
        assert ended.wait(PATIENCE)
        assert get(server.port, "/none").status == 404
        assert server.exceptions == []


def test_a_peer_that_closes_its_side_still_gets_its_answer():
    app = FastAPI()

    @app.get("/")
    async def handler(request: Request):
        await request.body()
        await asyncio.sleep(0.02)
        return await request.is_disconnected()

    with TestServer(app) as server, Peer(server.port) as peer:
        peer.ask("/")
        peer.socket.shutdown(1)
        assert peer.read().json() is True
        assert peer.rest() == b""


def test_an_app_that_gives_up_a_peer_that_closed_its_side():
    """It returns without an answer, as the peer has gone. The connection must not stay open for ever."""

    async def app(scope, receive, send):
        if scope["type"] == "http":
            while (await receive())["type"] != "http.disconnect":
                pass

    with TestServer(app) as server, Peer(server.port) as peer:
        peer.ask("/")
        peer.socket.shutdown(1)
        received = peer.rest()
        assert received == b"" or received.startswith(b"HTTP/1.1 500 ")
        assert server.exceptions == []


def test_files(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "file.bin").write_bytes(content)
    app = FastAPI()

    @app.api_route("/{name}", methods=["GET", "HEAD"])
    async def file(name: str):
        return FileResponse(tmp_path / name)

    with TestServer(app) as server, Peer(server.port) as peer:
        answer = peer.get("/file.bin")
        assert answer.body == content
        etag = answer.header("etag")
        answer = peer.get("/file.bin", "range: bytes=1000-1999")
        assert (answer.status, answer.body) == (206, content[1000:2000])
        assert peer.get("/file.bin", "range: bytes=1000-1999", "if-range: other").body == content
        assert etag is not None
        peer.ask("/file.bin", method="HEAD")
        answer = peer.read("HEAD")
        assert (answer.status, answer.header("content-length")) == (200, str(len(content)))
        assert peer.get("/missing").status == 500
        assert [type(error) for error in server.exceptions] == [RuntimeError]


@pytest.mark.parametrize("kind", ["parameter", "response", "fails"])
def test_background_tasks_run_after_the_answer(kind):
    app, gate, done = FastAPI(), threading.Event(), threading.Event()

    async def background():
        assert await asyncio.to_thread(gate.wait, PATIENCE)
        done.set()
        if kind == "fails":
            raise LookupError("in the background")

    @app.get("/parameter")
    async def parameter(tasks: BackgroundTasks):
        tasks.add_task(background)
        return "answered"

    @app.get("/response")
    @app.get("/fails")
    def response():
        from starlette.background import BackgroundTask

        return JSONResponse("answered", background=BackgroundTask(background))

    with TestServer(app) as server, Peer(server.port) as peer:
        assert peer.get(f"/{kind}").json() == "answered"
        # It is still at work, and the connection is free for the next request.
        assert not done.is_set()
        assert peer.get("/none").status == 404
        gate.set()
        assert done.wait(PATIENCE)
        server.stop()
        assert [type(error) for error in server.exceptions] == ([LookupError] if kind == "fails" else [])


@pytest.mark.parametrize(("promised", "parts", "is_cut"), [
    (5, [b"hello"], False),
    (5, [b"he", b"llo"], False),
    (5, [b"hel"], True),
    (5, [b"he", b"l"], True),
    (5, [b"hello!"], True),
    (5, [b"hello", b"!"], True),
    (0, [b""], False),
])  # fmt: skip
def test_a_length_that_lies(promised, parts, is_cut, caplog):
    """Never an answer that looks whole and is not, and never bytes that look like the next answer."""

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(promised).encode())]})
        for part in parts[:-1]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": parts[-1]})

    with TestServer(app) as server, Peer(server.port) as peer:
        peer.ask("/")
        if is_cut and len(parts) == 1:  # nothing had been sent
            answer = peer.read()
            assert (answer.status, answer.body) == (500, b"Internal Server Error")
            assert peer.get("/").status == 500
        elif is_cut:
            received = peer.rest()
            body = received.partition(b"\r\n\r\n")[2]
            assert not received.startswith(b"HTTP/1.1 200") or len(body) < promised or len(body) == promised
            assert b"!" not in received
        else:
            assert peer.read().body == b"".join(parts)
            assert peer.get("/").body == b"".join(parts)
    assert bool(re.search("raised RuntimeError\n(.*\n)*RuntimeError: content-length leaves", caplog.text)) == is_cut


def test_head():
    """The head of the GET, and no body, whatever the app sends."""
    app = FastAPI()
    answers = {
        "json": {"a": 1},
        "text": PlainTextResponse("text"),
        "streaming": None,
    }

    @app.api_route("/{name}", methods=["GET", "HEAD"])
    async def handler(name: str):
        return StreamingResponse(iter([b"a", b"b"])) if name == "streaming" else answers[name]

    with TestServer(app) as server, Peer(server.port) as peer:
        for name in answers:
            got = peer.get(f"/{name}")
            peer.ask(f"/{name}", method="HEAD")
            head = peer.read("HEAD")
            assert (head.status, head.body) == (200, b"")
            different = [header for header in got.headers if header not in head.headers]
            assert different in ([], [("transfer-encoding", "chunked")]), name
        assert peer.get("/json").json() == {"a": 1}


def test_responses_of_all_kinds():
    app = FastAPI()
    responses = {
        "bytes": (Response(b"\x00\xff"), b"\x00\xff"),
        "memoryview": (Response(memoryview(b"view")), b"view"),
        "empty": (Response(), b""),
        "large": (Response(b"y" * 1_000_000), b"y" * 1_000_000),
        "json": (JSONResponse({"ü": None}), '{"ü":null}'.encode()),
        "generator": (StreamingResponse(iter(["a", "b", ""])), b"ab"),
        "no_pieces": (StreamingResponse(iter([])), b""),
    }

    @app.get("/def/{name}")
    def function(name: str):
        return responses[name][0]

    @app.get("/async/{name}")
    async def coroutine(name: str):
        await asyncio.sleep(0)
        return responses[name][0]

    with TestServer(app) as server, Peer(server.port) as peer:
        for name, (_, body) in responses.items():
            for kind in ("def", "async"):
                if kind == "async" and name == "generator":
                    continue  # its iterator is used up
                answer = peer.get(f"/{kind}/{name}")
                assert (answer.status, answer.body) == (200, body), name
        assert server.exceptions == []


def test_concurrent_senders_are_both_woken():
    """Two tasks of one app send at once, and both wait for the peer."""

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})

        async def part():
            for _ in range(20):
                await send({"type": "http.response.body", "body": b"z" * 200_000, "more_body": True})

        await asyncio.gather(part(), part())
        await send({"type": "http.response.body", "body": b"end"})

    with TestServer(app) as server, Peer(server.port) as peer:
        answer = peer.get("/")
        assert len(answer.body) == 40 * 200_000 + 3
        assert server.exceptions == []


def test_log_lines_hold_one_line(caplog):
    """A path with a line feed does not write log lines of its own."""
    app = FastAPI()

    @app.get("/{text}")
    def handler(text: str):
        raise ValueError(text)

    with TestServer(app) as server, caplog.at_level(logging.ERROR):
        assert get(server.port, "/a%0aERROR%20forged").status == 500
        assert server.exceptions[0].args == ("a\nERROR forged",)
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_bodies_are_whole():
    """Large bodies in both directions, on one connection."""
    app = FastAPI()

    @app.post("/")
    async def echo(request: Request):
        return Response(await request.body())

    @app.post("/json")
    def length(numbers: list[int]):
        return sum(numbers)

    with TestServer(app) as server, Peer(server.port) as peer:
        for size in (1, 1000, 65_536, 3_000_000):
            body = os.urandom(size)
            threading.Thread(target=peer.ask, args=("/",), kwargs={"method": "POST", "body": body}).start()
            assert peer.read().body == body
        peer.ask("/json", "content-type: application/json", method="POST", body=json.dumps(list(range(10_000))).encode())
        assert peer.read().json() == sum(range(10_000))


def failing_stream(kind):
    """An app whose stream raises after two parts."""
    app = by_asgi(TurboAPI(), kind == "asgi")

    async def parts():
        yield b"one" * 1000
        yield b"two" * 1000
        raise ValueError("on purpose")

    @app.get("/stream", response_model=None)
    async def stream(length: bool = False):
        return StreamingResponse(parts(), headers={"content-length": "9000"} if length else {})

    return app


@pytest.mark.parametrize("kind", ["native", "asgi"])
@pytest.mark.parametrize(
    ("path", "version", "framing", "body"),
    [
        ("/stream", "1.1", b"transfer-encoding: chunked\r\n", b"bb8\r\n" + b"one" * 1000 + b"\r\nbb8\r\n" + b"two" * 1000 + b"\r\n"),
        ("/stream?length=1", "1.1", b"content-length: 9000\r\n", b"one" * 1000 + b"two" * 1000),
        # The end of the connection would be the end of the body: what was sent must not be taken for all of it.
        ("/stream", "1.0", b"", None),
    ],
)
def test_a_stream_that_fails_gives_what_it_has_sent(kind, path, version, framing, body):
    """All parts, no end of the body, and then the end of the connection: also to a client that reads only when all is over."""
    with TestServer(failing_stream(kind)) as server, Peer(server.port) as peer:
        peer.send(f"GET {path} HTTP/{version}\r\nhost: test\r\n\r\n".encode())
        over = select.poll()
        over.register(peer.socket, getattr(select, "POLLRDHUP", 0) | select.POLLHUP)
        assert over.poll(PATIENCE * 1000)
        if body is None:
            with pytest.raises(ConnectionResetError):
                while peer.socket.recv(1 << 16):
                    pass
        else:
            received = b"".join(iter(lambda: peer.socket.recv(1 << 16), b""))
            head, _, rest = received.partition(b"\r\n\r\n")
            assert (framing in head + b"\r\n", rest) == (True, body)
    assert [str(error) for error in server.exceptions] == ["on purpose"]
