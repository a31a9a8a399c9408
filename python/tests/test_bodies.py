"""Request bodies that come in parts: who is called when, what an app sees of a body that breaks off, and what it costs."""

import asyncio
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from differential import serve_ours, serve_uvicorn
from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from process import MIB, Process
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from wire import PATIENCE, Peer

from turboapi import TurboAPI
from turboapi.app import APIRouter
from turboapi.testing import TestServer

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: test", *headers, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Seen:
    """What an app has seen, and a way for a test to wait for it."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self.may_go_on = threading.Event()
        self.is_done = threading.Event()
        self._arrived = threading.Condition()

    def add(self, message) -> None:
        with self._arrived:
            self.messages.append((message["type"].removeprefix("http."), message.get("body", b""), message.get("more_body", False)))
            self._arrived.notify_all()

    def wait(self, count: int) -> list[tuple[str, bytes, bool]]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages) >= count, PATIENCE), self.messages
            return list(self.messages)


def reader(seen: Seen, *, begins_answer: bool = False, waits: bool = False):
    """An ASGI app that reads its body to the end, and answers with the number of its bytes."""

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        start = {"type": "http.response.start", "status": 200, "headers": []}
        try:
            if begins_answer:
                await send(start)
                await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            if waits:
                while not seen.may_go_on.is_set():
                    await asyncio.sleep(0.01)
            length, more = 0, True
            while more:
                message = await receive()
                seen.add(message)
                if message["type"] == "http.disconnect":
                    return
                length, more = length + len(message["body"]), message["more_body"]
            if not begins_answer:
                await send(start)
            await send({"type": "http.response.body", "body": str(length).encode()})
        finally:
            seen.is_done.set()

    return app


def serve(app, **options):
    return TestServer(app, lifespan=False, **options)


def test_parts_arrive_as_they_are_sent():
    seen = Seen()
    with serve(reader(seen)) as server, Peer(server.port) as peer:
        peer.send(head("/", "content-length: 9"))
        peer.send(b"one")
        assert seen.wait(1)[0] == ("request", b"one", True)
        peer.send(b"two")
        assert seen.wait(2)[1] == ("request", b"two", True)
        # What stands behind the body is the next request, and waits for its turn.
        peer.send(b"end" + head("/", "transfer-encoding: chunked"))
        assert peer.read().body == b"9"
        assert seen.wait(3)[2] == ("request", b"end", False)
        peer.send(chunk(b"four") + chunk(b"five") + b"0\r\nx-trailer: 1\r\n\r\n" + head("/", "content-length: 2") + b"ab")
        assert peer.read().body == b"8"
        assert peer.read().body == b"2"
        assert seen.messages[-1] == ("request", b"ab", False), "a body that came with its head is one message"


def test_two_tasks_wait_for_one_body():
    """Each part goes to one of them, and after the last nobody is left behind."""
    parts = []

    async def app(scope, receive, send):
        async def read():
            while (message := await receive())["type"] == "http.request":
                parts.append(message["body"])
                if not message["more_body"]:
                    return

        tasks = [asyncio.create_task(read()) for _ in range(2)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"".join(parts)})
        await asyncio.gather(*tasks)

    with serve(app) as server, Peer(server.port) as peer:
        peer.send(head("/", "content-length: 6"))
        for part in (b"ab", b"cd", b"ef"):
            time.sleep(0.02)
            peer.send(part)
        assert peer.read().body == b"abcdef"


def test_a_peer_waits_for_an_app_that_does_not_read():
    seen = Seen()
    length = 64 * MIB
    with serve(reader(seen, waits=True), body_bytes_max=length) as server, Peer(server.port) as peer:
        peer.send(head("/", f"content-length: {length}"))
        peer.socket.settimeout(1.0)
        sent, piece = 0, bytes(256 * 1024)
        with pytest.raises(TimeoutError):
            while sent < length:
                sent += peer.socket.send(piece[: length - sent])
        assert sent < length // 2, "that is what the kernel holds of it"
        seen.may_go_on.set()
        peer.socket.settimeout(PATIENCE)
        while sent < length:
            sent += peer.socket.send(piece[: length - sent])
        assert peer.read().body == str(length).encode()


@pytest.mark.parametrize(
    ("headers", "pieces", "ends", "options", "status"),
    [
        (["transfer-encoding: chunked"], [chunk(b"abc"), b"x\r\n"], False, {}, 400),
        (["transfer-encoding: chunked"], [chunk(b"abc"), b"3\r\nabcd"], False, {}, 400),
        (["transfer-encoding: chunked"], [chunk(b"abc"), b"0\r\n: \r\n"], False, {}, 400),
        (["transfer-encoding: chunked"], [chunk(b"abc"), b"ffffffffffffffff\r\n"], False, {}, 400),
        (["transfer-encoding: chunked"], [chunk(b"abc"), chunk(b"defgh")], False, {"body_bytes_max": 7}, 413),
        (["content-length: 5"], [b"abc"], False, {"body_idle_timeout": 0.1}, 408),
        (["content-length: 5000"], [b"abc"], False, {"body_rate_grace": 0.1}, 408),
        (["content-length: 5"], [b"abc"], True, {}, 400),
        (["transfer-encoding: chunked"], [chunk(b"abc"), b"0\r\n"], True, {}, 400),
    ],
)
@pytest.mark.parametrize("begins_answer", [False, True])
def test_a_body_that_goes_wrong_under_an_app(headers, pieces, ends, options, status, begins_answer):
    """The app sees the disconnect and never an end of the body; the peer is told why, unless an answer was begun: that has no end."""
    seen = Seen()
    with serve(reader(seen, begins_answer=begins_answer), **options) as server, Peer(server.port) as peer:
        peer.send(head("/", *headers))
        peer.send(pieces[0])
        assert seen.wait(1)[0] == ("request", b"abc", True)
        for piece in pieces[1:]:
            peer.send(piece)
        if ends:
            peer.socket.shutdown(socket.SHUT_WR)
        assert seen.is_done.wait(PATIENCE)
        assert seen.messages[1:] == [("disconnect", b"", False)]
        if begins_answer:
            with pytest.raises((EOFError, ConnectionResetError)):
                peer.read()
        else:
            answer = peer.read()
            assert (answer.status, answer.header("connection")) == (status, "close")
            assert peer.rest() == b""
    assert server.exceptions == []


def test_what_was_never_well_formed_calls_nobody():
    seen = Seen()
    with serve(reader(seen), body_bytes_max=4) as server:
        for request, status in [
            (head("/", "content-length: 5"), 413),
            (head("/", "content-length: 5", "expect: 100-continue"), 413),
            (head("/", "content-length: 1", "expect: more") + b"x", 417),
            (head("/", "transfer-encoding: chunked") + b"x\r\n", 400),
            (head("/", "transfer-encoding: chunked") + chunk(b"abc") + chunk(b"de"), 413),
        ]:
            with Peer(server.port) as peer:
                peer.send(request)
                assert peer.read().status == status, request
                assert peer.rest() == b""
    assert seen.messages == []
    assert not seen.is_done.is_set()


def make_app() -> FastAPI:
    app = TurboAPI()
    router = APIRouter()

    class Item(BaseModel):
        name: str

    @app.post("/stream")
    async def stream(request: Request):
        return [len(part) async for part in request.stream()][-1:]  # the end is a part of nothing, in Starlette

    @app.post("/collect")
    async def collect(request: Request):
        return (b"".join([part async for part in request.stream()])).decode()

    @app.post("/disconnect")
    async def disconnect(request: Request):
        app.begun.release()
        try:
            await request.body()
        except ClientDisconnect:
            app.disconnects.append("ClientDisconnect")
            raise

    @app.post("/file")
    async def file(file: UploadFile):
        return {"name": file.filename, "text": (await file.read()).decode()}

    @app.post("/form")
    async def form(request: Request):
        async with request.form() as fields:
            return {name: value if isinstance(value, str) else (await value.read()).decode() for name, value in fields.items()}

    @app.post("/item")
    def item(item: Item):
        return item

    @app.post("/none")
    def none():
        return "none"

    @app.post("/none_async")
    async def none_async():
        await asyncio.sleep(0)
        return "none"

    @app.post("/echo")
    async def echo(request: Request):
        async def parts():
            async for part in request.stream():
                yield part

        return StreamingResponse(parts(), media_type="text/plain")

    @app.exception_handler(LookupError)
    async def lookup_error(request: Request, error: LookupError):
        return PlainTextResponse(b"handled " + await request.body(), 418)

    @app.post("/raises")
    def raises():
        raise LookupError

    @app.post("/raises_async")
    async def raises_async():
        await asyncio.sleep(0.03)
        raise LookupError

    @router.post("/native", body_bytes_max=20)
    def native(item: Item):
        return item

    @app.post("/asgi", body_bytes_max=20)
    async def asgi(request: Request):
        return len(await request.body())

    @app.post("/much", body_bytes_max=2000)
    async def much(request: Request):
        return len(await request.body())

    @app.post("/unlimited_by_itself")
    async def unlimited(request: Request):
        return len(await request.body())

    app.include_router(router, prefix="/limited")
    app.disconnects = []
    app.begun = threading.Semaphore(0)
    return app


def multipart(content: str) -> bytes:
    return (
        f'--x\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\ncontent-type: text/plain\r\n\r\n{content}\r\n--x--\r\n'
    ).encode()


JSON = "content-type: application/json"
FORM = "content-type: multipart/form-data; boundary=x"


def cases():
    """Requests, each as the pieces in which it is sent."""
    found = []
    for path, headers, body in [
        ("/collect", [], b"hello world"),
        ("/collect", [], b"x" * 100_000),
        ("/stream", [], b"xyz"),
        ("/file", [FORM], multipart("content")),
        ("/file", [FORM], multipart("y" * 200_000)),
        ("/file", [FORM], b"--x\r\nbroken"),
        ("/form", [FORM], multipart("content")),
        ("/form", ["content-type: application/x-www-form-urlencoded"], b"a=1&b=%20"),
        ("/item", [JSON], b'{"name": "Ada"}'),
        ("/item", [JSON], b'{"name": 1}'),
        ("/item", [JSON], b"{no"),
        ("/item", [], b'{"name": "Ada"}'),
        ("/none", [], b"unread"),
        ("/none_async", [], b"unread"),
        ("/missing", [], b"unread"),
        ("/raises", [], b"kept"),
        ("/raises_async", [], b"kept"),
        ("/raises_async", [], b"z" * 50_000),  # fits what waits for the handler that is called at last
    ]:
        middle = max(2, len(body) // 2)
        whole = head(path, *headers, f"content-length: {len(body)}")
        chunked = head(path, *headers, "transfer-encoding: chunked")
        name = f"{path} {body[:12]!r} of {len(body)}"
        found.append(pytest.param([whole + body], id=f"{name}, whole"))
        found.append(pytest.param([whole, body], id=f"{name}, head and body apart"))
        found.append(pytest.param([whole + body[:1], body[1:middle], body[middle:]], id=f"{name}, in three"))
        found.append(pytest.param([chunked + chunk(body) + b"0\r\n\r\n"], id=f"{name}, chunked"))
        found.append(pytest.param([chunked, chunk(body[:middle]), chunk(body[middle:]) + b"0\r\n", b"\r\n"], id=f"{name}, in chunks"))
    return found


@pytest.fixture(scope="module")
def both():
    with serve_uvicorn(make_app()) as theirs, serve_ours(make_app()) as ours:
        yield theirs[1], ours[1]


@pytest.mark.parametrize("pieces", cases())
def test_as_uvicorn(both, pieces):
    """The same answer, head and body, and the connection stays for the next one, however the request was cut."""
    answers = []
    for port in both:
        with Peer(port) as peer:
            for number, piece in enumerate(pieces):
                if number:
                    time.sleep(0.005)
                peer.send(piece)
            answer = peer.read()
            peer.send(head("/none"))
            headers = [(name, value) for name, value in answer.headers if name not in ("server", "date")]
            answers.append((answer.status, headers, answer.body))
            assert peer.read().body == b'"none"', "what is left of the body is not in the way"
    assert answers[0] == answers[1]


def test_an_answer_that_streams_what_it_reads():
    """uvicorn cannot be compared: by its version of ASGI, Starlette reads the body away while it watches for a disconnect."""
    with TestServer(make_app()) as server, Peer(server.port) as peer:
        for _ in range(2):
            peer.send(head("/echo", "transfer-encoding: chunked"))
            for word in (b"one ", b"two ", b"three"):
                peer.send(chunk(word))
                if word == b"one ":
                    assert b"200 OK" in peer.until(b"\r\n\r\n")
                assert peer.until(b"\r\n") == b"%x\r\n" % len(word), "before the rest of the body was sent"
                assert peer._exactly(len(word) + 2) == word + b"\r\n"
            peer.send(b"0\r\n\r\n")
            assert peer.until(b"\r\n\r\n") == b"0\r\n\r\n"


def test_a_disconnect_within_the_body():
    app = make_app()
    with TestServer(app) as server:
        for end in (Peer.reset, lambda peer: peer.socket.close()):
            peer = Peer(server.port)
            peer.send(head("/disconnect", "content-length: 5") + b"ab")
            assert app.begun.acquire(timeout=PATIENCE)
            end(peer)
        deadline = time.monotonic() + PATIENCE
        while len(app.disconnects) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert app.disconnects == ["ClientDisconnect"] * 2
        assert server.exceptions == []


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/limited/native", 20, 422),
        ("/limited/native", 21, 413),
        ("/asgi", 20, 200),
        ("/asgi", 21, 413),
        ("/much", 2000, 200),
        ("/much", 2001, 413),
        ("/unlimited_by_itself", 1000, 200),
        ("/unlimited_by_itself", 1001, 413),
        ("/missing", 1001, 413),
    ],
)
def test_limits_of_routes(path, length, status):
    body = b"x" * length
    with TestServer(make_app(), body_bytes_max=1000) as server:
        for pieces in (
            [head(path, JSON, f"content-length: {length}") + body],
            [head(path, JSON, "transfer-encoding: chunked") + chunk(body) + b"0\r\n\r\n"],
            [head(path, JSON, "transfer-encoding: chunked"), *(chunk(body[at : at + 7]) for at in range(0, length, 7)), b"0\r\n\r\n"],
        ):
            with Peer(server.port) as peer:
                peer.send(b"".join(pieces) if path == "/missing" else pieces[0])
                for piece in pieces[1:]:
                    if path != "/missing":
                        peer.send(piece)
                answer = peer.read()
                # Nobody reads the body of a path that does not exist: in chunks it is only dropped behind the answer.
                assert answer.status in ({status, 404} if path == "/missing" else {status})
    with pytest.raises(TypeError, match="body_bytes_max is True"):
        TurboAPI().post("/", body_bytes_max=True)(lambda: None)
    with pytest.raises(TypeError, match="body_bytes_max is -1"):
        TurboAPI().add_api_route("/", lambda: None, body_bytes_max=-1)


def test_continue_is_sent_to_who_is_wanted():
    app = make_app()

    @app.post("/refused")
    async def refused(request: Request):
        return JSONResponse({"detail": "no"}, 403)

    with TestServer(app) as server:
        for path, body, expected in [
            ("/collect", b"hello", b'"hello"'),  # the app's own ASGI call asks when it awaits the body
            ("/item", b'{"name":"A"}', b'{"name":"A"}'),  # a plan needs it
            ("/raises", b"kept", b"handled kept"),  # nobody does but the handler of the exception
            ("/raises_async", b"kept", b"handled kept"),
        ]:
            with Peer(server.port) as peer:
                peer.send(head(path, JSON, f"content-length: {len(body)}", "expect: 100-continue"))
                assert peer._exactly(len(CONTINUE)) == CONTINUE
                peer.send(body)
                answer = peer.read()
                assert (answer.body, answer.header("connection")) == (expected, None)
                peer.send(head("/none"))
                assert peer.read().status == 200
        for path, status in [("/none", 200), ("/none_async", 200), ("/refused", 403), ("/missing", 404)]:
            with Peer(server.port) as peer:
                peer.send(head(path, "content-length: 5", "expect: 100-continue"))
                answer = peer.read()
                # What comes now could be the body as well as a request.
                assert (answer.status, answer.header("connection")) == (status, "close")
                assert peer.rest() == b""


def test_bodies_that_nobody_reads():
    with TestServer(make_app()) as server:
        for path in ("/none", "/none_async", "/missing"):
            with Peer(server.port) as peer:
                peer.send(head(path, "content-length: 60000"))
                assert peer.read().header("connection") is None
                peer.send(bytes(60_000) + head("/none"))
                assert peer.read().body == b'"none"'
            with Peer(server.port) as peer:
                peer.send(head(path, "content-length: 1000000") + bytes(10_000))
                assert peer.read().header("connection") == "close", "before all of it was sent"
                assert peer.rest() == b""


def test_a_handler_that_streams_learns_that_the_peer_has_gone():
    """By `receive`, also while it streams, and by `is_disconnected`."""
    kinds: list[str] = []
    done, begun = threading.Event(), threading.Event()
    app = FastAPI()

    @app.post("/poll")
    async def poll(request: Request):
        await request.body()
        assert not await request.is_disconnected()
        begun.set()
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        done.set()

    async def raw(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        message = await receive()
        kinds.append(message["type"])
        waiting = asyncio.create_task(receive())
        begun.set()
        while not waiting.done():
            try:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            except OSError:
                break
            await asyncio.sleep(0.01)
        kinds.append((await waiting)["type"])
        done.set()

    app.mount("/raw", raw)
    with TestServer(app) as server:
        for path in ("/poll", "/raw/"):
            begun.clear(), done.clear()
            peer = Peer(server.port)
            peer.send(head(path, "content-length: 4") + b"body")
            assert begun.wait(PATIENCE)
            peer.socket.close()
            assert done.wait(PATIENCE), path
    assert kinds == ["http.request", "http.disconnect"]
    assert server.exceptions == []


# Memory, of a server in a process of its own.

APP = """
from fastapi import Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from pathlib import Path
from turboapi import TurboAPI

app = TurboAPI()
MIB = bytes(1024 * 1024)
EIGHT = 8 * MIB
Path("eight").write_bytes(EIGHT)

@app.post("/upload", body_bytes_max=1 << 40)
async def upload(request: Request):
    length = 0
    async for part in request.stream():
        length += len(part)
    return length

@app.get("/stream")
async def stream():
    async def parts():
        for _ in range(32):
            yield bytes(256 * 1024)  # one of its own for each peer
    return StreamingResponse(parts())

@app.get("/whole")
async def whole(request: Request):
    return Response(EIGHT)

@app.get("/file")
async def file():
    return FileResponse("eight")

@app.get("/native")
def native():
    return Response(EIGHT)

@app.get("/")
def root():
    return 1
"""


#: How many clients at once, and MiB of each; the acceptance of the whole server is 64 of 20.
CLIENTS, UPLOAD = (int(word) for word in os.environ.get("UPLOADS", "16x4").split("x"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_uploads_do_not_grow_memory(tmp_path, coding):
    """16 uploads of 4 MiB at once, whose bodies are as much as the server may have in all. `ci/uploads` has the full size."""
    piece = bytes(64 * 1024)
    pieces = UPLOAD * 16
    answers: list[bytes] = []

    def upload(port: int) -> None:
        with Peer(port) as peer:
            if coding == "length":
                peer.send(head("/upload", f"content-length: {UPLOAD * MIB}"))
                for _ in range(pieces):
                    peer.send(piece)
            else:
                peer.send(head("/upload", "transfer-encoding: chunked"))
                for _ in range(pieces):
                    peer.send(chunk(piece))
                peer.send(b"0\r\n\r\n")
            answers.append(peer.read().body)

    with Process(tmp_path, APP, "--workers", "1") as server:
        upload(server.port)
        base = server.resident()
        threads = [threading.Thread(target=upload, args=(server.port,)) for _ in range(CLIENTS)]
        done = threading.Event()

        def wait():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            done.set()

        threading.Thread(target=wait).start()
        started = time.monotonic()
        peak = server.peak_over(base, done)
        print(f"{CLIENTS} uploads of {UPLOAD} MiB, {coding}: {peak:.1f} MiB over {base:.1f}, {time.monotonic() - started:.1f} s")
        assert answers == [str(UPLOAD * MIB).encode()] * (CLIENTS + 1)
        assert peak < min(64, CLIENTS * UPLOAD / 2)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
# 160 MiB would be a copy each. 6 are usual for fresh parts; a free-threaded Python's allocator gives back late on a busy machine (40 seen).
@pytest.mark.parametrize(("path", "bound"), [("/stream", 80), ("/whole", 24), ("/native", 24), ("/file", 24)])
def test_stalled_readers_do_not_grow_memory(tmp_path, path, bound):
    """20 peers that ask for 8 MiB and do not read: nobody gets a copy of his own."""
    with Process(tmp_path, APP, "--workers", "1") as server:
        with Peer(server.port) as peer:
            assert len(peer.get(path).body) == 8 * MIB
        base = server.resident()
        peers = [Peer(server.port, receive_buffer=4096) for _ in range(20)]
        for peer in peers:
            peer.ask(path)
        done = threading.Event()
        threading.Timer(1.0, done.set).start()
        peak = server.peak_over(base, done)
        print(f"20 stalled readers of {path}: {peak:.1f} MiB over {base:.1f}")
        assert peak < bound
        # They are there still, and get what they asked for.
        assert len(peers[0].read().body) == 8 * MIB
        for peer in peers:
            peer.socket.close()


@pytest.mark.parametrize("path", ["/stream", "/native"])
def test_a_slow_reader_is_not_a_stalled_one(tmp_path, path):
    """The kernel takes more of an answer from us when a third of its send buffer is free: megabytes, which take a slow reader longer
    than `write_timeout`. It is one that takes nothing of them who is cut."""
    with (
        Process(tmp_path, APP, "--workers", "1", "--write-timeout", "1") as server,
        Peer(server.port) as slow,
        Peer(server.port) as stalled,
    ):
        begin = time.monotonic()
        for peer in (slow, stalled):
            peer.ask(path)
        received = 0
        while time.monotonic() < begin + 4:
            received += len(slow.socket.recv(40_000))
            time.sleep(0.1)
        assert received < 2 * MIB, "that was not slow"
        while received < 8 * MIB:
            part = slow.socket.recv(MIB)
            assert part, received
            received += len(part)
        assert len(stalled.rest()) < 8 * MIB


def test_who_asks_for_the_body_after_its_peer_has_gone_is_told():
    """An exception handler gets its exchange when the peer's end was told long before."""
    app, begun, told = TurboAPI(), threading.Semaphore(0), threading.Semaphore(0)
    may_raise = threading.Event()

    @app.exception_handler(RuntimeError)
    async def on_error(request: Request, error: RuntimeError):
        try:
            await request.body()
        except ClientDisconnect:
            told.release()
            raise
        return PlainTextResponse("", 500)

    @app.post("/fails")
    async def fails():
        begun.release()
        while not may_raise.is_set():
            await asyncio.sleep(0.01)
        raise RuntimeError("after a while")

    with TestServer(app, drain_timeout=5) as server:
        peer = Peer(server.port)
        peer.send(head("/fails", "content-length: 100") + b"x" * 10)
        assert begun.acquire(timeout=PATIENCE)
        peer.reset()
        time.sleep(0.1)
        may_raise.set()
        assert told.acquire(timeout=PATIENCE)
        begin = time.monotonic()
    assert time.monotonic() - begin < 3, "nothing is left that a stop would wait for"


def test_two_who_read_one_body():
    """One of them has the rest of it, and the other learns that this was the end."""
    app, begun = TurboAPI(), threading.Event()

    @app.post("/")
    async def handler(request: Request):
        readers = [asyncio.create_task(request.receive()) for _ in range(2)]
        await asyncio.sleep(0)
        begun.set()
        return [[message["body"].decode(), message["more_body"]] for message in await asyncio.gather(*readers)]

    with TestServer(app) as server, Peer(server.port) as peer:
        peer.send(head("/", "content-length: 5"))
        assert begun.wait(PATIENCE)
        peer.send(b"three")
        assert peer.read().json() == [["three", False], ["", False]]
