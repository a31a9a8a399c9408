"""What an app says in headers: never more than it meant, whoever chose the bytes; and never a body that ends where it should not."""

import asyncio
import logging

import pytest
from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware
from wire import Peer

from turboapi import TurboAPI, _core
from turboapi.config import Config
from turboapi.errors import ConfigError
from turboapi.testing import TestServer

pytestmark = pytest.mark.above_platform

TOKEN = set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
VALUE = {9, *range(0x20, 0x7F), *range(0x80, 0x100)}
#: Each byte value in a name, and each in a value; and what a whole attack looks like.
LINES = [
    *[(bytes([ord("x"), byte, ord("y")]), b"value", byte in TOKEN) for byte in range(256)],
    *[(b"x-name", bytes([ord("a"), byte, ord("b")]), byte in VALUE) for byte in range(256)],
    (b"", b"value", False),
    (b"x-name", b"", True),
    (b"x-name", b"a\r\nset-cookie: stolen=1", False),
    (b"x-name", b"a\nset-cookie: stolen=1", False),
    (b"x-name", b"a\r\n\r\n<script>", False),
    (b"x-name: a\r\nset-cookie", b"stolen=1", False),
]


async def nothing():
    pass


def make_app(chosen):
    """An app with one route for each way in which a header gets into an answer. `chosen` has the line to send."""
    app = TurboAPI()

    def respond(cls, content):
        response = cls(content)
        response.raw_headers.append(chosen[0])
        return response

    def as_text():
        name, value = chosen[0]
        return {name.decode("latin-1"): value.decode("latin-1")}

    @app.get("/def")
    def function():
        return respond(Response, b"body")

    @app.get("/async")
    async def coroutine():
        return respond(PlainTextResponse, "body")

    @app.get("/suspended")
    async def suspended():
        await asyncio.sleep(0)
        return respond(JSONResponse, "body")

    @app.get("/pool", blocking=True)
    def pool():
        return respond(Response, b"body")

    @app.get("/exception")
    def exception():
        raise HTTPException(400, "body", as_text())

    @app.get("/constructor")
    def constructor():
        return Response(b"body", headers=as_text())

    @app.get("/parameter")
    def parameter(response: Response):
        response.headers.update(as_text())
        return "body"

    @app.get("/streaming")
    async def streaming():
        return respond(StreamingResponse, iter([b"body"]))

    @app.get("/asgi", dependencies=[Depends(nothing)])
    async def asgi():
        return respond(PlainTextResponse, "body")

    async def raw(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [chosen[0]]})
        await send({"type": "http.response.body", "body": b"body"})

    app.mount("/raw", raw)

    async def marks(request, call_next):
        response = await call_next(request)
        response.raw_headers.append(chosen[0])
        return response

    inner = FastAPI()
    inner.add_middleware(BaseHTTPMiddleware, dispatch=marks)

    @inner.get("/")
    def inside():
        return "body"

    app.mount("/middleware", inner)
    return app


WAYS = ["def", "async", "suspended", "pool", "exception", "constructor", "parameter", "streaming", "asgi", "raw/", "middleware/"]


@pytest.mark.parametrize("way", WAYS)
def test_every_byte_in_every_way(way, monkeypatch):
    """What HTTP cannot hold raises, says what was seen, and puts nothing on the wire; everything else arrives as it is."""
    monkeypatch.setattr(logging.getLogger("turboapi"), "disabled", True)  # thousands of tracebacks
    chosen = [None]
    with TestServer(make_app(chosen)) as server, Peer(server.port) as peer:
        for name, value, is_allowed in LINES:
            chosen[0] = (name, value)
            server.exceptions.clear()
            answer = peer.get(f"/{way}")
            if is_allowed:
                assert answer.status == (400 if way == "exception" else 200), chosen
                # Starlette lowers names that it is given as text.
                found = [line for line in answer.headers if line[0].lower() == name.decode().lower()]
                assert found, (chosen, answer.headers)
                assert found[0][1] == value.decode("latin-1").strip()
                assert server.exceptions == []
            else:
                assert (answer.status, answer.body) == (500, b"Internal Server Error"), chosen
                assert {key.lower() for key, _ in answer.headers} == {"date", "server", "content-type", "content-length"}
                (error,) = server.exceptions
                assert isinstance(error, ValueError), chosen
                message = str(error)
                assert message.startswith(("header name ", "header value ")), message
                assert message.isascii(), message
                assert message.isprintable(), message


@pytest.mark.parametrize("bad", ["\r\nset-cookie: stolen=1", "\nx: y", "\r", "\0"])
def test_redirects_and_cookies(bad, caplog):
    """Targets are quoted by Starlette, the router's own among them; a cookie's attribute is not, and raises."""
    app = TurboAPI()

    @app.get("/redirect")
    def redirect():
        return RedirectResponse("/next" + bad)

    @app.get("/location")
    def location():
        return Response(status_code=302, headers={"location": "/next" + bad})

    @app.get("/cookie")
    def cookie(response: Response):
        response.set_cookie("name", "value", path="/" + bad)
        return "body"

    @app.get("/files/{name}")
    def files(name: str):
        return name

    quoted = "".join(f"%{byte:02X}" if byte < 0x21 else chr(byte) for byte in bad.encode())
    with TestServer(app) as server, Peer(server.port) as peer:
        answer = peer.get("/redirect")
        assert (answer.status, answer.header("location")) == (307, "/next" + quoted)
        answer = peer.get(f"/files/a{quoted.replace(':', '%3a')}/")
        assert answer.status == 307
        assert answer.header("set-cookie") is None
        location = answer.header("location")
        assert location.startswith("http://test/files/a%")
        assert location.isprintable()
        for path in ("/location", "/cookie"):
            answer = peer.get(path)
            assert answer.status == 500, path
            assert answer.header("set-cookie") is None
            assert answer.header("location") is None


def answering(status, headers, parts):
    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise RuntimeError("no lifespan here")
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for part in parts[:-1]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": parts[-1]})

    return app


OK = b"HTTP/1.1 200 OK\r\n"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n\r\nInternal Server Error"
#: The connection ends there, and what has been received is not the whole.
CUT = object()


@pytest.mark.parametrize(
    ("method", "status", "headers", "parts", "expected"),
    [
        # Lengths that the app says itself.
        ("GET", 200, [(b"Content-Length", b"4")], [b"body"], OK + b"Content-Length: 4\r\n\r\nbody"),
        ("GET", 200, [(b"content-length", b"4")], [b"bo", b"dy"], OK + b"content-length: 4\r\n\r\nbody"),
        ("GET", 200, [(b"content-length", b"4")] * 2, [b"body"], OK + b"content-length: 4\r\n\r\nbody"),
        ("GET", 200, [(b"content-length", b"4"), (b"Content-Length", b"5")], [b"body"], ERROR),
        ("GET", 200, [(b"content-length", b"4, 4")], [b"body"], ERROR),
        ("GET", 200, [(b"content-length", b"+4")], [b"body"], ERROR),
        ("GET", 200, [(b"content-length", b"")], [b"body"], ERROR),
        ("GET", 200, [(b"content-length", b"3")], [b"body"], ERROR),
        ("GET", 200, [(b"content-length", b"5")], [b"body"], ERROR),
        ("GET", 200, [(b"content-length", b"3")], [b"bo", b"dy"], CUT),
        ("GET", 200, [(b"content-length", b"5")], [b"bo", b"dy"], CUT),
        ("GET", 200, [(b"content-length", b"0")], [b""], OK + b"content-length: 0\r\n\r\n"),
        # Codings: framing is ours.
        ("GET", 200, [(b"transfer-encoding", b"chunked")], [b"body"], OK + b"content-length: 4\r\n\r\nbody"),
        (
            "GET",
            200,
            [(b"transfer-encoding", b"chunked")],
            [b"bo", b"dy"],
            OK + b"transfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
        ),
        (
            "GET",
            200,
            [(b"transfer-encoding", b"chunked"), (b"content-length", b"4")],
            [b"bo", b"dy"],
            OK + b"content-length: 4\r\n\r\nbody",
        ),
        ("GET", 200, [(b"transfer-encoding", b"gzip, chunked")], [b"body"], ERROR),
        ("GET", 200, [(b"transfer-encoding", b"identity")], [b"body"], ERROR),
        # No body where there is none.
        ("HEAD", 200, [], [b"body"], OK + b"content-length: 4\r\n\r\n"),
        ("HEAD", 200, [(b"content-length", b"9")], [b""], OK + b"content-length: 9\r\n\r\n"),
        ("HEAD", 200, [(b"content-length", b"9")], [b"bo", b"dy"], OK + b"content-length: 9\r\n\r\n"),
        ("HEAD", 200, [], [b"bo", b"dy"], OK + b"transfer-encoding: chunked\r\n\r\n"),
        ("GET", 204, [], [b"body"], b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", 204, [(b"content-length", b"4")], [b"bo", b"dy"], b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", 204, [(b"transfer-encoding", b"chunked")], [b"bo", b"dy"], b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", 304, [], [b"body"], b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("GET", 304, [(b"content-length", b"9")], [b""], b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
        ("HEAD", 304, [(b"etag", b'"1"')], [b""], b'HTTP/1.1 304 Not Modified\r\netag: "1"\r\n\r\n'),
        # The connection is ours too; what else the app wants to say about it stays.
        ("GET", 200, [(b"connection", b"keep-alive")], [b""], OK + b"content-length: 0\r\n\r\n"),
        ("GET", 200, [(b"Keep-Alive", b"timeout=5")], [b""], OK + b"content-length: 0\r\n\r\n"),
        ("GET", 200, [(b"connection", b"close")], [b""], OK + b"content-length: 0\r\nconnection: close\r\n\r\n"),
        ("GET", 200, [(b"connection", b"x, Keep-Alive")], [b""], OK + b"connection: x\r\ncontent-length: 0\r\n\r\n"),
        (
            "GET",
            426,
            [(b"upgrade", b"websocket"), (b"connection", b"upgrade")],
            [b""],
            b"HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n",
        ),
        ("GET", 101, [(b"upgrade", b"websocket"), (b"connection", b"upgrade")], [b""], ERROR),
        ("GET", 100, [], [b""], ERROR),
    ],
)
def test_framing(method, status, headers, parts, expected, caplog):
    """The answer on the wire, byte for byte; and the next one on the same connection, if there may be one."""
    with TestServer(answering(status, headers, parts), server_header="", date_header=False) as server, Peer(server.port) as peer:
        times = 1 if expected is CUT or b"connection: close" in expected else 2
        for _ in range(times):
            peer.ask("/", method=method)
        if expected is CUT:
            received = peer.rest()
            promised = int(headers[0][1])
            assert len(received.partition(b"\r\n\r\n")[2]) < promised, received
        else:
            if times == 2:
                peer.ask("*")  # refused, and so the end
            received = peer.rest()
            assert received.startswith(expected * times), received
            assert received[len(expected) * times :].startswith(b"HTTP/1.1 400 " if times == 2 else b"")
            assert times == 2 or len(received) == len(expected)
    assert ("ERROR" in caplog.text) == (expected is CUT or expected is ERROR)


@pytest.mark.parametrize(
    ("options", "own", "expected"),
    [
        ({}, [], {"server": ["turboapi"], "date": 1}),
        ({"server_header": "me/1 (it)"}, [], {"server": ["me/1 (it)"], "date": 1}),
        ({"server_header": ""}, [], {"server": [], "date": 1}),
        ({"date_header": False}, [], {"server": ["turboapi"], "date": 0}),
        ({"server_header": "", "date_header": False}, [], {"server": [], "date": 0}),
        ({}, [(b"Server", b"own")], {"server": ["own"], "date": 1}),
        ({}, [(b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")], {"server": ["turboapi"], "date": 1}),
        ({"server_header": "", "date_header": False}, [(b"server", b"own"), (b"date", b"x")], {"server": ["own"], "date": 1}),
    ],
)
def test_server_and_date(options, own, expected):
    """On answers of the app's, of Rust's own, and on refusals. What the app says itself is not doubled."""
    app = TurboAPI()

    @app.get("/native")
    def native():
        return "body"

    app.mount("/raw", answering(200, own, [b"body"]))
    with TestServer(app, **options) as server:
        for path in ("/raw/", "/native", "/nowhere", "*"):
            with Peer(server.port) as peer:
                answer = peer.get(path)
            assert answer.status == {"/nowhere": 404, "*": 400}.get(path, 200)
            servers = [value for name, value in answer.headers if name.lower() == "server"]
            dates = [value for name, value in answer.headers if name.lower() == "date"]
            wanted = expected if path == "/raw/" or not own else {**EXPECTED_WITHOUT_OWN, **switched(options)}
            assert (servers, len(dates)) == (wanted["server"], wanted["date"]), path


@pytest.mark.parametrize(
    ("headers", "own", "expected"),
    [
        ([("x-a", "1"), ("Cache-Control", "no-store")], [], ["Cache-Control: no-store", "server: turboapi", "x-a: 1"]),
        ([("x-a", "1"), ("x-a", "2")], [], ["server: turboapi", "x-a: 1", "x-a: 2"]),
        ([("server", "me")], [], ["server: me"]),
        ([("cache-control", "no-store")], [(b"Cache-Control", b"max-age=5")], ["Cache-Control: max-age=5", "server: turboapi"]),
    ],
)
def test_default_headers(headers, own, expected):
    """On the same answers; what one says itself goes before."""
    app = TurboAPI()

    @app.get("/native")
    def native():
        return "body"

    app.mount("/raw", answering(200, own, [b"bo", b"dy"]))
    with TestServer(app, date_header=False, headers=headers) as server:
        for path in ("/raw/", "/native", "/nowhere", "*"):
            with Peer(server.port) as peer:
                answer = peer.get(path)
            names = {name.lower() for name, _ in [*headers, ("server", "")]}
            seen = sorted(f"{name}: {value}" for name, value in answer.headers if name.lower() in names)
            ours = [] if "server" in dict(headers) else [("server", "turboapi")]
            default = sorted(f"{name}: {value}" for name, value in [*headers, *ours])
            assert seen == (expected if path == "/raw/" else default), path


EXPECTED_WITHOUT_OWN = {"server": ["turboapi"], "date": 1}


def switched(options):
    """What the settings alone give."""
    found = {}
    if "server_header" in options:
        found["server"] = [options["server_header"]] if options["server_header"] else []
    if "date_header" in options:
        found["date"] = int(options["date_header"])
    return found


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ({}, {}, ("turboapi", True)),
        ({"server_header": "", "date_header": False}, {}, ("", False)),
        ({"server_header": "", "date_header": "off"}, {}, ("", False)),  # the command line gives text
        ({}, {"TURBOAPI_SERVER_HEADER": "me", "TURBOAPI_DATE_HEADER": "off"}, ("me", False)),
        ({"server_header": "you", "date_header": "on"}, {"TURBOAPI_SERVER_HEADER": "me", "TURBOAPI_DATE_HEADER": "off"}, ("you", True)),
    ],
)
def test_where_server_and_date_are_set(arguments, environment, expected):
    config = Config.of(arguments, environment)
    assert (config.server_header, config.date_header) == expected


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\0", "\x7f"])
def test_a_server_header_that_http_cannot_hold(value):
    """Refused where it is set, and again where it would be sent."""
    with pytest.raises(ConfigError, match=r"server_header is .*, allowed is printable ASCII"):
        Config(server_header=value)
    with pytest.raises(ValueError, match=r"server header is .*, control bytes are not allowed"):
        _core.Worker(backend="auto", limits=Config().limits(), watch=0, server_header=value, date_header=True)
