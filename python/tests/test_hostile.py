"""Peers that mean harm, over sockets against the server in a process: what they are answered, and what they cost it in memory and in CPU.

Not here: what is malformed (ci/conformance), bodies and stalled readers (test_bodies.py), faults of the process itself (test_faults.py).
"""

import contextlib
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated

import pytest
from differential import serve_ours, serve_uvicorn
from fastapi import APIRouter, Cookie, FastAPI, Form, Header, Request
from fastapi.routing import APIRoute
from process import MIB, Process
from pydantic import BaseModel
from starlette.applications import Starlette
from ways import OwnRoute
from wire import PATIENCE, Peer

from turboapi import _core

needs_proc = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="reads /proc")

APP = """
from typing import Annotated
from fastapi import Cookie, Header, Query, Request
from fastapi.responses import StreamingResponse
from turboapi import TurboAPI

app = TurboAPI()

@app.get("/")
def root():
    return 1

@app.get("/later")
async def later(request: Request):
    return 1

@app.get("/page")
def page():
    return "x" * 8000

@app.get("/page_later")
async def page_later(request: Request):
    return "x" * 8000

@app.post("/")
async def stream(request: Request):
    length = 0
    async for part in request.stream():
        length += len(part)
    return length

@app.post("/whole")
def whole(body: dict):
    return len(body)

@app.get("/native/cookie")
def native_cookie(last: Annotated[str, Cookie()]):
    return last

@app.get("/native/query")
def native_query(last: str):
    return last

@app.get("/native/queries")
def native_queries(a: Annotated[list[str], Query()], last: str):
    return last

@app.get("/native/header")
def native_header(last: Annotated[str, Header()]):
    return last

@app.get("/asgi/cookie")
async def asgi_cookie(request: Request):
    return request.cookies["last"]

@app.get("/asgi/query")
async def asgi_query(request: Request):
    return request.query_params["last"]

@app.get("/asgi/header")
async def asgi_header(request: Request):
    return request.headers["last"]

@app.post("/asgi/form")
async def asgi_form(request: Request):
    return (await request.form(max_fields=1_000_000))["last"]
"""

GET = b"GET / HTTP/1.1\r\nhost: test\r\n"
POST = b"POST / HTTP/1.1\r\nhost: test\r\n"
WHOLE = b"POST /whole HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One for all of them, as they come to one in life; warmed up."""
    with Process(tmp_path_factory.mktemp("hostile"), APP, "--head-timeout", "1", "--workers", "1") as process:
        for _ in range(300):
            with Peer(process.port) as peer:
                assert peer.get("/").status == peer.get("/later").status == 200
                peer.send(POST + b"content-length: 100000\r\n\r\n" + bytes(100_000))
                assert peer.read().json() == 100_000
        yield process


@contextlib.contextmanager
def growth(server: Process, bound: float) -> Iterator[None]:
    """The server may hold so many MiB more while this lasts, and answers at its end."""
    base, over, peaks = server.resident(), threading.Event(), []
    watcher = threading.Thread(target=lambda: peaks.append(server.peak_over(base, over)))
    watcher.start()
    try:
        yield
        with Peer(server.port) as peer:
            assert peer.get("/").status == 200
    finally:
        over.set()
        watcher.join()
    print(f"{peaks[0]:.1f} MiB over {base:.1f}")
    assert peaks[0] <= bound


def throw(port: int, first: bytes, unit: bytes, bytes_max: int) -> tuple[int, bytes]:
    """Sends `first`, then `unit` so often that it is `bytes_max`, or until the server has closed. Reads meanwhile, and a moment longer.

    Returns:
        How much was sent, and what the server said.
    """
    pieces = chain([first], repeat(unit, bytes_max // max(1, len(unit))))
    left: bytes | memoryview = b""
    sent, received, sends = 0, b"", True
    deadline = time.monotonic() + PATIENCE
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.setblocking(False)
        while time.monotonic() < deadline:
            left = left or memoryview(next(pieces, b""))
            sends = sends and len(left) > 0
            readable, writable, _ = select.select([peer], [peer] if sends else [], [], QUIET)
            try:
                if writable:
                    count = peer.send(left)
                    sent, left = sent + count, left[count:]
            except OSError:  # what it said before is there still
                sends = False
            try:
                data = peer.recv(65_536) if readable else b""
            except OSError:
                break
            received += data
            if not data and (readable or not writable):
                break
    return sent, received


def codes(answers: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


#: Seconds without a word from the server after which it has said all.
QUIET = 0.3
EXTENSION = (b"1;" + b"a" * 100 + b"\r\nx\r\n") * 40

BOMBS = [
    ("one header", GET + b"x: ", b"a" * 8192, MIB, 431),
    ("one cookie", GET + b"cookie: ", b"a=b; " * 1600, MIB, 431),
    ("headers", GET, b"x-h: v\r\n" * 512, 4 * MIB, 431),
    ("101 headers", GET + b"x-h: v\r\n" * 100 + b"\r\n", b"", 0, 431),
    ("request line", b"GET /", b"a" * 8192, MIB, 414),
    ("query", b"GET /?", b"a=b&" * 2048, MIB, 414),
    ("one header's name", GET, b"a" * 8192, MIB, 431),
    ("nothing but line ends", b"\r\n", b"\r\n" * 4096, 4 * MIB, 400),
    ("noise", b"\x80", b"\x80" * 8192, MIB, 400),
    ("one extension", POST + CHUNKED + b"1;", b"a" * 8192, MIB, 400),
    ("one extension, body held", WHOLE + CHUNKED + b"1;", b"a" * 8192, MIB, 400),
    ("one extension, no route", b"POST /none HTTP/1.1\r\nhost: test\r\n" + CHUNKED + b"1;", b"a" * 8192, MIB, 404),
    ("an extension a chunk", POST + CHUNKED, EXTENSION, 4 * MIB, 400),
    ("an extension a chunk, body held", WHOLE + CHUNKED, EXTENSION, 4 * MIB, 400),
    ("zeros before a chunk's size", POST + CHUNKED, b"0" * 8192, MIB, 400),
    ("one trailer", POST + CHUNKED + b"0\r\nx: ", b"a" * 8192, MIB, 431),
    ("trailers", POST + CHUNKED + b"0\r\n", b"x-t: v\r\n" * 512, 4 * MIB, 431),
    ("trailers, body held", WHOLE + CHUNKED + b"0\r\n", b"x-t: v\r\n" * 512, 4 * MIB, 431),
    ("99 GB", POST + b"content-length: 99999999999\r\n\r\n", b"", 0, 413),
    ("99 GB, body held", WHOLE + b"content-length: 99999999999\r\n\r\n", b"", 0, 413),
    ("99 GB, asks first", POST + b"expect: 100-continue\r\ncontent-length: 99999999999\r\n\r\n", b"", 0, 413),
    ("endless body", POST + CHUNKED, b"2000\r\n" + bytes(8192) + b"\r\n", 64 * MIB, 413),
    ("endless body, no route", b"POST /none HTTP/1.1\r\nhost: test\r\n" + CHUNKED, b"2000\r\n" + bytes(8192) + b"\r\n", 64 * MIB, 404),
    ("chunks of a byte", POST + CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n", b"", 0, 200),
]


@needs_proc
@pytest.mark.parametrize(("first", "unit", "bytes_max", "status"), [bomb[1:] for bomb in BOMBS], ids=[bomb[0] for bomb in BOMBS])
def test_bombs(server, first, unit, bytes_max, status):
    with growth(server, 8):
        sent, answers = throw(server.port, first, unit, bytes_max)
    print(sent, answers[:12])
    assert codes(answers) == [status]
    assert (b"connection: close\r\n" in answers) == (status not in (200, 404))
    assert sent < bytes_max or bytes_max < 8 * MIB, "it was not taken to its end"


@needs_proc
# A connection may have `unsent_bytes_max` of answers, `head_bytes_max` and four receive buffers of requests: 160 KiB.
@pytest.mark.parametrize(("clients", "requests", "bound"), [(1, 10_000, 8), (64, 1500, 8 + 64 * 160 / 1024)])
@pytest.mark.parametrize("path", ["/page", "/page_later"])
def test_answers_that_are_never_read(server, path, clients, requests, bound):
    """Some megabytes of them fit the kernel's buffers. What else they would be, 80 MiB to one and 12 MiB to each of many, is not made.

    A connection may have `unsent_bytes_max` of answers, `head_bytes_max` and four receive buffers of requests: 160 KiB.
    """
    request = f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.port, receive_buffer=4096)) for _ in range(clients)]
        left = dict.fromkeys(peers, memoryview(request * requests))
        for peer in peers:
            peer.socket.setblocking(False)
        with growth(server, bound):
            progress_at = time.monotonic()
            while time.monotonic() < progress_at + 0.4:
                for peer, rest in left.items():
                    with contextlib.suppress(BlockingIOError):
                        if sent := peer.socket.send(rest):
                            left[peer], progress_at = rest[sent:], time.monotonic()
                time.sleep(0.01)
        # They are served as soon as they read.
        peers[0].socket.settimeout(PATIENCE)
        for _ in range(10):
            assert len(peers[0].read().body) == 8002


def test_what_stands_around_garbage(server):
    """Answers before it, one refusal, and nothing behind it."""
    for path in (b"/", b"/later"):
        good = b"GET %s HTTP/1.1\r\nhost: test\r\n\r\n" % path
        for garbage in (b"BAD\x00REQ\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", POST + b"content-length: 1, 2\r\n\r\n"):
            for before in (0, 3):
                with Peer(server.port) as peer:
                    peer.send(good * before + garbage + good)
                    assert codes(peer.rest()) == [200] * before + [400]


def test_a_half_close_behind_a_request(server):
    for path in (b"/", b"/later"):
        for count in (1, 500):
            with Peer(server.port) as peer:
                peer.send(b"GET %s HTTP/1.1\r\nhost: test\r\n\r\n" % path * count)
                peer.socket.shutdown(socket.SHUT_WR)
                assert codes(peer.rest()) == [200] * count


#: The first bytes, what follows again and again, and the status of each answer.
SLOW = [
    (b"", b""),
    (b"GET / HTTP/1.1\r\nhost: test\r\nx: ", b"b", 408),
    (GET, b"x: b\r\n", 408),
    (b"", b"\r\n", 400),
    (POST + b"content-length: 100000\r\n\r\n", b"x", 408),
    (WHOLE + b"content-length: 100000\r\n\r\n", b"x", 408),
    (POST + CHUNKED, b"1\r\nx\r\n", 408),
    (WHOLE + CHUNKED, b"1\r\nx\r\n", 408),
    (POST + b"content-length: 100\r\n\r\nabc", b"", 408),
    (WHOLE + b"content-length: 100\r\n\r\nabc", b"", 408),
    (GET + b"\r\n", b"", 200),
    (GET + b"\r\n", b"\r\n", 200, 400),
]


def test_who_is_slow_is_ended_in_time(tmp_path):
    """All of them at once, each with a piece ten times a second."""
    options = ["--silence-timeout", "--head-timeout", "--body-idle-timeout", "--body-rate-grace", "--keep-alive-timeout"]
    times: dict[int, float] = {}
    answers: dict[int, list[int]] = {}
    with Process(tmp_path, APP, *chain.from_iterable((option, "0.6") for option in options)) as server:

        def drip(number: int) -> None:
            first, piece, *_ = SLOW[number]
            with Peer(server.port) as peer:
                begin = time.monotonic()
                peer.send(first)
                peer.socket.settimeout(0.1)
                received = b""
                while time.monotonic() < begin + 10:
                    try:
                        data = peer.socket.recv(4096)
                        if not data:
                            break
                        received += data
                    except TimeoutError:
                        with contextlib.suppress(OSError):
                            peer.send(piece)
                    except ConnectionResetError:
                        break
                times[number], answers[number] = time.monotonic() - begin, codes(received)

        threads = [threading.Thread(target=drip, args=(number,)) for number in range(len(SLOW))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [answers[number] for number in range(len(SLOW))] == [statuses for _, _, *statuses in SLOW]
    # Not before their time, but for what is refused at once; and the last of them a linger later.
    assert min(seconds for number, seconds in times.items() if SLOW[number][-1] != 400) > 0.5
    assert max(times.values()) < 6, times


@pytest.fixture(scope="module")
def wide_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """With the widest bounds that the settings allow."""
    options = ["--head-bytes-max", str(MIB), "--request-line-bytes-max", str(MIB), "--header-count-max", "10000"]
    with Process(tmp_path_factory.mktemp("wide"), APP, *options, "--workers", "1") as process:
        yield process


@needs_proc
@pytest.mark.parametrize(
    "path",
    ["/native/cookie", "/native/query", "/native/queries", "/native/header", "/asgi/cookie", "/asgi/query", "/asgi/header", "/asgi/form"],
)
def test_four_times_as_many_cost_four_times_as_much(wide_server, path):
    """Cookies, parameters, headers, fields of a form: CPU of the server, the least of a few attempts. Quadratic would be sixteen
    times; what no longer fits into a core's cache, which others use too, has been seen to cost half as much again."""

    def request(count: int) -> bytes:
        where = path.rpartition("/")[2]
        if where == "cookie":
            return f"GET {path} HTTP/1.1\r\nhost: test\r\ncookie: {'a=b; ' * count}last=1\r\n\r\n".encode()
        if where == "header":
            return f"GET {path} HTTP/1.1\r\nhost: test\r\n".encode() + b"a: b\r\n" * (count // 11) + b"last: 1\r\n\r\n"
        fields = b"a=b&" * count + b"last=1"
        if where == "form":
            head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-www-form-urlencoded\r\n"
            head += f"content-length: {len(fields)}\r\n\r\n"
            return head.encode() + fields
        return f"GET {path}?".encode() + fields + b" HTTP/1.1\r\nhost: test\r\n\r\n"

    def cost(count: int) -> float:
        seconds = []
        for _ in range(5):
            with Peer(wide_server.port) as peer:
                before = wide_server.cpu_seconds()
                peer.send(request(count))
                answer = peer.read()
                seconds.append(wide_server.cpu_seconds() - before)
            assert (answer.status, answer.body) == (200, b'"1"'), answer
        return min(seconds)

    quarter, whole = cost(25_000), cost(100_000)
    print(f"{quarter * 1000:.1f} ms, {whole * 1000:.1f} ms, {whole / quarter:.2f} times")
    assert whole < 8 * quarter + 0.0002


def test_bytes_behind_a_websocket():
    """There is no WebSocket yet: the handshake is refused, no app sees it as HTTP, and what stands behind it is nobody's request. A proxy
    that takes the connection for a tunnel from here on finds it closed."""
    handshake = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    app, mounted, seen = FastAPI(), Starlette(), []

    @app.get("/native/{name}")
    def native(name: str):
        seen.append(name)

    @app.get("/{name}")
    async def by_asgi(name: str, request: Request):
        seen.append(name)

    async def other(scope, receive, send):
        seen.append(scope["type"])

    mounted.mount("/", other)
    app.mount("/mounted", mounted)
    with serve_ours(app) as ours:
        for path in ("/native/x", "/x", "/mounted/x", "/nowhere/x"):
            with Peer(ours[1]) as peer:
                first = f"GET {path} HTTP/1.1\r\nhost: test\r\n{handshake}\r\n"
                peer.send((first + "GET /second HTTP/1.1\r\nhost: test\r\n\r\n").encode())
                answer = peer.read()
                assert (answer.status, answer.header("connection"), answer.header("upgrade")) == (501, "close", None)
                assert answer.body == b"WebSocket is not served here yet, only HTTP"
                assert peer.rest() == b""
    assert seen == []


#: What is no UTF-8, and what looks like it.
NOT_UTF_8 = [
    b"\xff",
    b"\xc3",
    b"\xc3(",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\xaf",
    b"\xe2\x82",
    b"\x80",
    b"\xfe\xff",
    b"a\xf0\x9f\x98",
]


def requests_of_no_utf_8() -> Iterator[bytes]:
    """Each of them everywhere where text stands in a request, on a native route and on one of the app's own ASGI call.

    The head without its end, and behind a NUL the body if there is one.
    """
    json = "content-type: application/json"
    form = "content-type: application/x-www-form-urlencoded"
    multipart = "content-type: multipart/form-data; boundary=x"
    for kind, raw in ((kind, raw) for kind in (b"native", b"asgi") for raw in NOT_UTF_8):
        escaped = b"".join(b"%%%02x" % octet for octet in raw)
        for octets in (raw, escaped):
            yield b"GET /%s/path/%s HTTP/1.1\r\n" % (kind, octets)
            yield b"GET /%s/query?text=%s HTTP/1.1\r\n" % (kind, octets)
            yield b"GET /%s/query?%s=1&text=1 HTTP/1.1\r\n" % (kind, octets)
            yield b"GET /%s/header HTTP/1.1\r\ntext: a%s\r\n" % (kind, octets)
            yield b"GET /%s/header HTTP/1.1\r\ntext: a\r\nx-other: %s\r\n" % (kind, octets)
            yield b"GET /%s/cookie HTTP/1.1\r\ncookie: text=a%s; b=c\r\n" % (kind, octets)
            yield b"GET /%s/cookie HTTP/1.1\r\ncookie: a%s=b; text=c\r\n" % (kind, octets)
            yield b"GET /missing/%s HTTP/1.1\r\n" % octets
            for route, content_type, body in [
                ("json", json, b'{"text": "%s"}' % octets),
                ("json", json, b'{"%s": 1, "text": ""}' % octets),
                ("json", json, octets),
                ("json", "content-type: application/" + octets.decode("latin-1"), b'{"text": "a"}'),
                ("form", form, b"text=%s" % octets),
                ("form", form, b"%s=1&text=a" % octets),
                ("form", form + "; charset=" + octets.decode("latin-1"), b"text=a"),
                ("form", multipart, b'--x\r\ncontent-disposition: form-data; name="text"\r\n\r\n%s\r\n--x--\r\n' % octets),
                ("form", multipart, b'--x\r\ncontent-disposition: form-data; name="%s"\r\n\r\na\r\n--x--\r\n' % octets),
                ("form", multipart, b'--x\r\ncontent-disposition: form-data; name="text"; filename="%s"\r\n\r\na\r\n--x--\r\n' % octets),
            ]:
                head = f"POST /{kind.decode()}/{route} HTTP/1.1\r\n{content_type}\r\ncontent-length: {len(body)}\r\n"
                yield head.encode("latin-1") + b"\0" + body


def text_app() -> FastAPI:
    app = FastAPI()

    class Item(BaseModel):
        text: str

    for kind, route_class in (("native", APIRoute), ("asgi", OwnRoute)):
        router = APIRouter(prefix=f"/{kind}", route_class=route_class)

        @router.get("/path/{text}")
        def path(text: str):
            return text

        @router.get("/query")
        def query(text: str):
            return text

        @router.get("/header")
        def header(text: Annotated[str, Header()]):
            return text

        @router.get("/cookie")
        def cookie(text: Annotated[str, Cookie()]):
            return text

        @router.post("/json")
        def json(item: Item):
            return item

        @router.post("/form")
        def form(text: Annotated[str, Form()]):
            return text

        app.include_router(router)
    return app


def test_what_is_no_utf_8():
    """As uvicorn answers it, or refused, and never the server's fault unless it is the app's with uvicorn too."""
    with serve_uvicorn(text_app()) as theirs, serve_ours(text_app()) as ours:
        for request in requests_of_no_utf_8():
            head, _, body = request.partition(b"\0")
            answers = []
            for port in (theirs[1], ours[1]):
                with Peer(port) as peer:
                    peer.send(head + b"host: test\r\nconnection: close\r\n\r\n" + body)
                    answer = peer.read()
                    answers.append((answer.status, answer.header("content-type"), answer.body))
            # A refusal by the server itself has words of its own.
            if not (answers[0][0] == answers[1][0] == 400 and b"Invalid HTTP request" in answers[0][2]):
                assert answers[0] == answers[1], request


@needs_proc
@pytest.mark.parametrize("path", ["/much", "/whole", "/later_whole"])
def test_resets_in_the_middle_of_an_answer(tmp_path, path):
    """Much is on its way to all of them. Nothing of it stays, and nothing of theirs: no memory, no descriptor, no handler."""
    app = """
import asyncio, gc
from fastapi.responses import Response, StreamingResponse
from turboapi import TurboAPI

app, MIB = TurboAPI(), 1024 * 1024
EIGHT, open_streams = bytes(8 * MIB), []

@app.get("/")
def root():
    gc.collect()  # anyio keeps a cancelled task's frames in a cycle, and in them a generator that never waits
    return len(open_streams)

@app.get("/much")
async def much():
    async def parts():
        open_streams.append(0)
        try:
            while True:
                yield bytes(256 * 1024)
        finally:
            open_streams.pop()
    return StreamingResponse(parts())

@app.get("/whole")
def whole():
    return Response(EIGHT)

@app.get("/later_whole")
async def later_whole():
    await asyncio.sleep(0)
    return Response(EIGHT)
"""
    with Process(tmp_path, app, "--workers", "1") as server:

        def round_of_resets() -> None:
            peers = [Peer(server.port) for _ in range(40)]
            for number, peer in enumerate(peers):
                peer.ask(path)
                if number % 2:
                    peer.ask(path)  # and one more that waits
            for peer in peers:
                peer._exactly(200_000)
            for peer in peers:
                peer.reset()

        def settled() -> bool:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                with Peer(server.port) as peer:
                    if peer.get("/").json() == 0 and server.descriptors() <= descriptors + 1:
                        return True
                time.sleep(0.02)
            return False

        descriptors = server.descriptors()
        # An allocator gives back when it likes; what leaks does so each time: 64 KiB a connection would be 7.5 MiB.
        for _ in range(6):
            base = server.resident()
            for _ in range(3):
                round_of_resets()
                assert settled()
            more = server.resident() - base
            print(f"{more:.1f} MiB over {base:.1f}")
            if more < 4:
                break
        assert more < 4
        assert not [line for line in server.lines if "ERROR" in line]


@needs_proc
@pytest.mark.skipif(_core.resident_bytes() is None, reason="the C library has nothing to give back")
def test_what_a_crowd_has_needed_goes_back(tmp_path):
    """They have all begun a body before the first of them ends it, and stay connected. The heap would keep that for good."""
    app = APP + "\nfrom turboapi.watching import memory\nmemory.PERIOD, memory.TIME_SHARE_MAX = 0.2, 1\n"
    body = b'{"name": "' + b"x" * 60_000 + b'"}'
    head, last = WHOLE + b"content-length: %d\r\n\r\n" % len(body), body[-100:]
    with Process(tmp_path, app, "--workers", "1") as server, contextlib.ExitStack() as stack:
        with Peer(server.port) as peer:
            peer.send(head + body)
            assert peer.read().json() == 1
        base = server.resident()
        peers = [stack.enter_context(Peer(server.port)) for _ in range(750)]
        for peer in peers:
            peer.send(head + body[:-100])
        wait_until(lambda: server.resident() > base + 32)
        for peer in peers:
            peer.send(last)
            assert peer.read().json() == 1
        # `EXCESS_BYTES_MAX` is 16 MiB; 29 stay without it.
        wait_until(lambda: server.resident() < base + 20)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
