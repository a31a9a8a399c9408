# ruff: noqa: E501 - tables of inputs read best as long lines
"""Starlette's stock middleware in Rust: the same app as native routes, by its own ASGI call, and under uvicorn, over sockets.

The same status, headers and body, byte for byte; where gzip's choice of bytes is its own, the same head of the stream and the same content. That
the one is native and the other not is checked too.
"""

import asyncio
import contextlib
import gc
import re
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from differential import Connection, serve_uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from turboapi.asgi import Gateway
from turboapi.plan.routes import compile_app, compile_layers
from turboapi.testing import TestServer

# One function for two methods is what an app may have.
pytestmark = [pytest.mark.above_platform, pytest.mark.filterwarnings("ignore:Duplicate Operation ID")]

# The app.


class Item(BaseModel):
    name: str
    price: float


class TeapotError(Exception):
    pass


class OwnWay(FastAPI):
    """No route of its is native, as nobody can see what its router does first."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        call_router = self.router.middleware_stack

        async def hidden(scope: Any, receive: Any, send: Any) -> None:
            await call_router(scope, receive, send)

        self.router.middleware_stack = hidden


ITEMS = [{"name": f"item {number}", "price": number * 1.5} for number in range(100)]
TEXT = "".join(f"line {number}\n" for number in range(300))
#: Zlib makes no less of it: its output is longer than it.
NOISE = bytes((number * number * 31 + (number >> 3) * 17) % 251 for number in range(700))


def by_form(name: str = Form("")) -> int:
    """Makes the route that has it one for the app's own call."""
    return 5 + len(name)


def make_app(middleware: list[Middleware], kind: type[FastAPI] = FastAPI) -> FastAPI:
    app = kind(middleware=middleware)
    add_values(app)
    add_responses(app)
    add_streams(app)
    add_failures(app)
    return app


def add_values(app: FastAPI) -> None:
    @app.get("/json")
    async def json() -> Any:
        return {"a": 1}

    @app.api_route("/either", methods=["GET", "HEAD"])
    def either() -> Any:
        return ITEMS

    @app.options("/options")
    def options() -> Any:
        return {"options": True}

    @app.get("/big")
    async def big() -> Any:
        return ITEMS

    @app.get("/later")
    async def later() -> Any:
        await asyncio.sleep(0)
        return ITEMS

    @app.get("/thread", name="thread")
    def thread() -> Any:
        return ITEMS

    @app.get("/huge")
    async def huge() -> Any:
        return ITEMS * 60

    @app.get("/model", response_model=list[Item], status_code=201)
    async def model() -> Any:
        return ITEMS

    @app.get("/number/{number}")
    async def number(number: int) -> Any:
        return number

    @app.post("/item")
    async def item(item: Item) -> Any:
        return [item] * 30

    @app.get("/slash/")
    async def slash() -> Any:
        return {}

    @app.get("/depends")
    async def depends(value: int = Depends(by_form)) -> Any:
        return [value] * 1000


def add_responses(app: FastAPI) -> None:
    def respond(path: str, make: Callable[[], Response]) -> None:
        @app.get(path, name=path)
        async def endpoint() -> Response:
            return make()

    respond("/text", lambda: PlainTextResponse(TEXT))
    respond("/html", lambda: HTMLResponse(TEXT, headers={"Vary": "Cookie", "X-Latin": "é"}))
    respond("/empty", lambda: Response(status_code=204))
    respond("/empty-body", lambda: Response())
    respond("/unmodified", lambda: Response(status_code=304, headers={"Vary": "Cookie", "ETag": '"1"'}))
    respond("/partial", lambda: Response(TEXT, status_code=206, headers={"Content-Range": "bytes 0-1/9"}))
    respond("/encoded", lambda: Response(TEXT, headers={"Content-Encoding": "br"}))
    respond("/noise", lambda: Response(NOISE, media_type="application/octet-stream"))
    respond("/image", lambda: Response(TEXT, media_type="image/png"))
    respond("/image-loud", lambda: Response(TEXT, headers={"Content-Type": "Image/PNG ; x=y"}))
    respond("/image-odd", lambda: Response(TEXT, headers={"Content-Type": "image/png\xa0"}))
    respond("/audio", lambda: Response(TEXT, media_type="audio/whatever"))
    respond("/grpc", lambda: Response(TEXT, media_type="application/grpc+proto"))
    respond("/untyped", lambda: Response(TEXT))
    respond("/events-at-once", lambda: Response(TEXT, media_type="text/event-stream"))
    respond(
        "/own-cors",
        lambda: PlainTextResponse(
            TEXT, headers={"Access-Control-Allow-Origin": "x", "Access-Control-Expose-Headers": "y", "Vary": "Origin"}
        ),
    )
    respond("/page", lambda: PlainTextResponse("x" * 499))
    respond("/page-more", lambda: PlainTextResponse("x" * 500))
    respond("/background", lambda: JSONResponse(ITEMS, background=BackgroundTask(lambda: None)))
    respond("/file", lambda: FileResponse(__file__))

    @app.get("/cookies")
    async def cookies() -> Response:
        response = JSONResponse(ITEMS)
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @app.get("/lines")
    async def lines() -> Response:
        response = PlainTextResponse(TEXT)
        # Two lines, and one that is not spelt as Starlette spells it.
        response.raw_headers += [
            (b"vary", b"A"),
            (b"x-between", b"1"),
            (b"Vary", b"B"),
            (b"vary", b"C,  D"),
            (b"access-control-allow-origin", b"1"),
        ]
        response.raw_headers += [(b"access-control-allow-origin", b"2"), (b"x-last", b"")]
        return response

    @app.get("/tasks")
    async def tasks(tasks: BackgroundTasks) -> Any:
        tasks.add_task(lambda: None)
        return ITEMS


def add_streams(app: FastAPI) -> None:
    def stream(path: str, *parts: bytes, **options: Any) -> None:
        async def produce() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        @app.get(path, name=path)
        async def endpoint() -> Response:
            return StreamingResponse(produce(), **options)

    stream("/stream", b"one", TEXT.encode(), b"", b"three", media_type="text/plain")
    stream("/stream-nothing")
    stream("/stream-little", b"x", headers={"Vary": "A"})
    stream("/stream-length", b"one", b"two", headers={"Content-Length": "6"})
    stream("/stream-large", b"y" * 200_000, b"z" * 70_000)
    stream("/stream-encoded", b"one", b"two", headers={"Content-Encoding": "br"})
    stream("/stream-events", b"data: 1\n\n", b"data: 2\n\n", media_type="text/event-stream")
    stream("/stream-partial", b"one", b"two", status_code=206)


def add_failures(app: FastAPI) -> None:
    @app.exception_handler(TeapotError)
    async def on_teapot(request: Request, error: TeapotError) -> Response:
        return PlainTextResponse(TEXT, 418, headers={"Vary": "Tea"})

    @app.get("/refused")
    async def refused() -> Any:
        raise HTTPException(403, "no" * 400, headers={"X-Why": "so", "Vary": "Cookie"})

    @app.get("/refused-starlette")
    def refused_starlette() -> Any:
        raise StarletteHTTPException(409)

    @app.get("/refused-bare")
    async def refused_bare() -> Any:
        raise HTTPException(304)

    @app.get("/teapot")
    async def teapot() -> Any:
        raise TeapotError

    @app.get("/broken")
    async def broken() -> Any:
        raise ValueError("broken")

    @app.get("/unfit", response_model=Item)
    async def unfit() -> Any:
        return {"name": "no price"}


# Its middleware: outermost first, as FastAPI has it.

A = "https://a.example"


def cors(**options: Any) -> Middleware:
    return Middleware(CORSMiddleware, **options)


def gz(**options: Any) -> Middleware:
    return Middleware(GZipMiddleware, **options)


def hosts(*allowed: str, **options: Any) -> Middleware:
    return Middleware(TrustedHostMiddleware, allowed_hosts=list(allowed), **options)


HTTPS = Middleware(HTTPSRedirectMiddleware)
OPEN = cors(allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
ONE = cors(
    allow_origins=[A], allow_credentials=True, allow_methods=["GET", "POST"], allow_headers=["X-A", "x-b"], expose_headers=["X-C", "X-D"]
)

SETUPS: dict[str, list[Middleware]] = {
    "none": [],
    "cors default": [cors()],
    "cors open": [OPEN],
    "cors open with credentials": [cors(allow_origins=["*"], allow_credentials=True, allow_headers=["*"])],
    "cors one": [ONE],
    "cors by place": [Middleware(CORSMiddleware, [A, "null"], ["PUT"], ["X-A"], False, None, True, [], 5)],
    "cors several": [cors(allow_origins=("https://b.example", A, "https://ü.example", "☃"), allow_methods=(), max_age=0, allow_private_network=True)],
    "cors open, private network": [cors(allow_origins=["*", A], allow_private_network=True, expose_headers=["é"])],
    "cors pattern": [cors(allow_origin_regex=r"https://.*\.example", allow_headers=["*"])],
    "cors pattern and list": [cors(allow_origins=["https://b.test"], allow_origin_regex=r"(?i)HTTPS://A\.example|é+", allow_credentials=True)],
    "cors pattern that is open": [cors(allow_origins=["*"], allow_origin_regex=r"https://a")],
    "cors twice": [ONE, OPEN],
    "cors twice, turned": [OPEN, ONE],
    "gzip": [gz()],
    "gzip all": [gz(minimum_size=0)],
    "gzip none": [gz(minimum_size=10**9)],
    "gzip quick": [gz(minimum_size=1, compresslevel=1)],
    "gzip stored": [gz(minimum_size=-5, compresslevel=0)],
    "gzip default level": [gz(compresslevel=-1)],
    "gzip in threads": [gz(thread_minimum_size=0)],
    "gzip never in threads": [gz(thread_minimum_size=10**9)],
    "gzip excluded": [gz(exclude_content_types=("text/*", " Application/JSON ; x"))],
    "gzip twice": [gz(minimum_size=10), gz(minimum_size=2000, compresslevel=5)],
    "hosts any": [hosts("*")],
    "hosts default": [Middleware(TrustedHostMiddleware)],
    "hosts": [hosts("example.com", "*.example.com", "www.example.org", "[::1]")],
    "hosts no redirect": [hosts("www.example.com", "Example.NET", www_redirect=False)],
    "hosts redirect": [hosts("www.example.com", "www.example.org")],
    "https": [HTTPS],
    "cors, gzip": [ONE, gz()],
    "gzip, cors": [gz(), ONE],
    "gzip all, cors": [gz(minimum_size=0), ONE],
    "gzip in threads, cors": [gz(minimum_size=0, thread_minimum_size=5), OPEN],
    "hosts, cors, gzip": [hosts("example.com"), OPEN, gz(minimum_size=1)],
    "cors, hosts": [ONE, hosts("www.example.com")],
    "gzip, hosts": [gz(minimum_size=5), hosts("www.example.com")],
    "cors, https": [OPEN, HTTPS],
    "https, cors": [HTTPS, OPEN],
    "hosts, https": [hosts("*.example.com"), HTTPS],
    "all": [HTTPS, hosts("example.com"), gz(), ONE],
    "all, turned": [ONE, gz(minimum_size=0), hosts("www.example.com", "example.net"), HTTPS],
}  # fmt: skip


# Requests.


def request(method: str, target: str, *lines: str, host: str | None = "example.com", body: bytes = b"") -> bytes:
    head = [f"{method} {target} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), *lines]
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


PATHS = [
    str(route.path) for route in make_app([]).routes if "GET" in getattr(route, "methods", ()) and "{" not in getattr(route, "path", "{")
]
PATHS = [path for path in PATHS if not path.startswith(("/docs", "/redoc", "/openapi"))]

#: Each path as a browser of the app's own page, of another one, and a plain client would ask for it.
SIMPLE = [
    request("GET", path, *lines)
    for path in PATHS
    if path not in ("/empty", "/stream-nothing")
    for lines in ((), (f"Origin: {A}", "Accept-Encoding: gzip, br"))
]

ODD = [
    *(request("GET", "/big", f"Origin: {origin}") for origin in ("https://b.example", "null", "", "https://A.example", "https://a.example/", "\xe9", "https://ü.example", "https://a.example, https://b.example")),
    request("GET", "/big", "Origin: https://b.example", f"Origin: {A}"),
    request("GET", "/big", f"ORIGIN: {A}", "Cookie: a=1"),
    *(request("GET", "/big", f"Accept-Encoding: {value}") for value in ("gzip;q=0", "gzip;q=0.5, br", "GZIP", "x-gzip", "identity", "*", "", "br")),
    request("GET", "/big", "Accept-Encoding: br", "Accept-Encoding: gzip"),
    request("GET", "/big", "accept-encoding: gzip", "Accept-Encoding: br"),
    request("HEAD", "/either", f"Origin: {A}", "Accept-Encoding: gzip"),
    request("HEAD", "/json", f"Origin: {A}", "Accept-Encoding: gzip"),
    request("GET", "/slash", f"Origin: {A}", "Accept-Encoding: gzip"),
    request("GET", "/number/5", f"Origin: {A}"),
    request("GET", "/number/x", f"Origin: {A}", "Accept-Encoding: gzip"),
    request("DELETE", "/json", f"Origin: {A}"),
    request("POST", "/item", f"Origin: {A}", "Accept-Encoding: gzip", body=b'{"name": "n", "price": 1}'),
    request("POST", "/item", f"Origin: {A}", "Accept-Encoding: gzip", body=b'{"name": "n"}'),
    request("POST", "/item", f"Origin: {A}", body=b"{"),
    request("GET", "/nope", f"Origin: {A}", "Accept-Encoding: gzip"),
    request("GET", "/openapi.json", f"Origin: {A}", "Accept-Encoding: gzip"),
    request("OPTIONS", "/options", f"Origin: {A}"),
    request("OPTIONS", "/json"),
    request("OPTIONS", "/json", "Access-Control-Request-Method: GET"),
]  # fmt: skip

PREFLIGHTS = [
    request("OPTIONS", path, f"Origin: {origin}", f"Access-Control-Request-Method: {method}", *(f"Access-Control-Request-Headers: {names}" for names in headers))
    for path, origin, method, headers in [
        ("/json", A, "GET", ()),
        ("/options", A, "GET", ("X-A",)),
        ("/nope", A, "POST", ("x-a, X-B",)),
        ("/json", "https://b.example", "GET", ("x-a",)),
        ("/json", "", "", ("",)),
        ("/json", A, "get", ("content-type",)),
        ("/json", A, "QUERY", ("x-a,,x-b",)),
        ("/json", A, "PUT", ("X-A ,\tx-b, Accept",)),
        ("/json", A, "GET", ("x-c",)),
        ("/json", A, "GET", ("x-a", "x-c")),
        ("/json", A, "GET", ("\xe9",)),
        ("/json", A, "GET", ("x-a\xa0",)),
        ("/json", "\xe9", "\xe9", ()),
    ]
] + [
    request("OPTIONS", "/json", f"Origin: {A}", "Access-Control-Request-Method: GET", "Access-Control-Request-Private-Network: true", "Accept-Encoding: gzip"),
    request("OPTIONS", "/json", "Origin: x", "Access-Control-Request-Method: X", "Access-Control-Request-Headers: q", "Access-Control-Request-Private-Network: "),
    request("GET", "/json", f"Origin: {A}", "Access-Control-Request-Method: GET"),
    request("OPTIONS", "/json", f"Origin: {A}", "Access-Control-Request-Method: GET", host="elsewhere.test"),
]  # fmt: skip

HOSTS = [
    request("GET", target, f"Origin: {A}", "Accept-Encoding: gzip", host=host)
    for target in ("/big", "/nope?a=b")
    for host in (
        "EXAMPLE.com", "example.com:80", "example.com:443", "example.com:00080", "example.com:0", "example.com:8080", "example.com:65535", "api.example.com",
        "a.b.Example.COM:81", ".example.com", "evil-example.com", "example.com.", "www.example.com", "example.org", "example.org:80", "www.example.org", "EXAMPLE.net",
        "under_score.example.com", "x~y!$&'()*+;=-.test", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:80", "[::1]:8000", "[2001:DB8::1]", "exam%70le.com", "exam%70le.com:80",
    )
]  # fmt: skip

TARGETS = [
    request("GET", target, host=host)
    for host in ("example.com", "example.net:80", "Example.org:8080")
    for target in (
        "/json?", "/json?a=b&c=%20x%2F", "/json??a", "/json?'()[]|\"<>^`{}\\", "/json?%zz", "/nope/%C3%A9%20x", "/nope/%c3", "/a%0Ab", "/a%09b", "/a%00b", "/a%7Fb", "/%3Fq%23h%5C",
        "//json", "//evil.test/x", "/a//b", "/nope%25", "/nope%zz", "/%22%3C%3E%5E%60%7B%7C%7D%7E", "/nope;x=1,@:!$&'()*+=[]", "/%5B%5D", "/%2F%2Fjson", "/%E2%80%A8", "/http://a.test/b",
    )
] + [request("OPTIONS", "*")]  # fmt: skip

#: Where this server frames a body or reads a target in another way than uvicorn, with middleware and without.
FRAMED = [
    *(request("GET", path, *lines) for path in ("/empty", "/stream-nothing") for lines in ((), (f"Origin: {A}", "Accept-Encoding: gzip"))),
    request("GET", "http://example.com/json?x=1"),
    request("GET", "http://example.com"),
]

KINDS = {"simple": SIMPLE, "odd": ODD, "preflight": PREFLIGHTS, "hosts": HOSTS, "targets": TARGETS}


# What is compared.


@dataclass(frozen=True)
class Seen:
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    """Decompressed, if gzip has written it."""
    gzip_head: bytes
    parts: tuple[bytes, ...]
    """Of a body in chunks what each brings, decompressed as far as it can be; none where it is whole."""


class Client(Connection):
    """A `Connection` that also keeps the chunks of the last body."""

    chunks: list[bytes]

    def _chunks(self) -> bytes:
        while length := int(self._until(b"\r\n"), 16):
            self.chunks.append(self._exactly(length))
            self._exactly(2)
        self._exactly(2)
        return b"".join(self.chunks)

    def see(self, request: bytes) -> Seen:
        self.chunks = []
        answer = self.ask(request)
        headers, body = answer.headers, answer.body
        if (b"content-encoding", b"gzip") not in headers:
            return Seen(answer.status, headers, body, b"", tuple(self.chunks))
        # How long it becomes is its maker's; that it says the truth was checked by reading so much.
        headers = tuple(("content-length", b"") if name == b"content-length" else (name, value) for name, value in headers)  # type: ignore[misc]
        reader = zlib.decompressobj(31)
        parts = tuple(reader.decompress(part) for part in (self.chunks or [body]))
        assert not body or reader.eof, "the stream has no end"
        whole = b"".join(parts)
        if whole.startswith(b"\x1f\x8b"):  # compressed twice
            whole = zlib.decompress(whole, 31)
            parts = (whole,)
        return Seen(answer.status, headers, whole, body[:10], parts if self.chunks else ())


@contextlib.contextmanager
def serve(app: FastAPI, **settings: Any) -> Iterator[Client]:
    with TestServer(app, **settings) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with contextlib.closing(Client((host, int(port)))) as client:
            yield client


@contextlib.contextmanager
def three(setup: str) -> Iterator[list[Client]]:
    middleware = SETUPS[setup]
    with (
        serve_uvicorn(make_app(middleware)) as address,
        serve(make_app(middleware)) as native,
        serve(make_app(middleware, OwnWay)) as own_way,
        contextlib.closing(Client(address)) as uvicorn,
    ):
        yield [uvicorn, own_way, native]


@pytest.mark.parametrize("setup", SETUPS)
def test_same_answers(setup: str) -> None:
    with three(setup) as (uvicorn, own_way, native):
        for kind, requests in KINDS.items():
            for asked in requests:
                expected = uvicorn.see(asked)
                assert native.see(asked) == expected, (kind, asked)
                assert own_way.see(asked) == expected, (kind, asked)
        for asked in FRAMED:
            assert native.see(asked) == own_way.see(asked), asked


# That it is Rust which answers.


@pytest.mark.parametrize("setup", SETUPS)
def test_native(setup: str) -> None:
    app = make_app(SETUPS[setup])
    assert len(compile_layers(app, "")) == len(SETUPS[setup])
    reasons = {entry.template: entry.reason for entry in compile_app(app)}
    assert {path for path in PATHS if reasons[path]} == {"/depends"}
    assert not any(entry.native for entry in compile_app(make_app(SETUPS[setup], OwnWay)))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """By the name of its class or function, how often something was called as an ASGI app."""
    counter: Counter[str] = Counter()
    start = Gateway.start

    def counting(self: Gateway, app: Any, *arguments: Any, **further: Any) -> None:
        counter[getattr(app, "__name__", type(app).__name__)] += 1
        start(self, app, *arguments, **further)

    monkeypatch.setattr(Gateway, "start", counting)
    # An app of another test that is collected while this one's is served counts as a change, and a request as it is looked at anew.
    gc.collect()
    yield counter


ORIGIN = f"Origin: {A}"
GZIP = "Accept-Encoding: gzip"
PREFLIGHT = (ORIGIN, "Access-Control-Request-Method: GET")

BY_RUST = [
    ("all, turned", request("GET", "/big", ORIGIN, GZIP), 307),
    ("all, turned", request("OPTIONS", "/json", *PREFLIGHT), 200),
    ("all, turned", request("GET", "/big", ORIGIN, GZIP, host="elsewhere.test"), 400),
    ("gzip, cors", request("GET", "/json", ORIGIN, GZIP), 200),
    ("gzip, cors", request("GET", "/big", ORIGIN, GZIP), 200),
    ("gzip, cors", request("GET", "/later", ORIGIN, GZIP), 200),
    ("gzip, cors", request("GET", "/thread", ORIGIN, GZIP), 200),
    ("gzip, cors", request("GET", "/model", ORIGIN, GZIP), 201),
    ("gzip, cors", request("GET", "/text", ORIGIN, GZIP), 200),
    ("gzip, cors", request("GET", "/huge", ORIGIN), 200),
    ("gzip, cors", request("GET", "/refused", ORIGIN, GZIP), 403),
    ("gzip, cors", request("GET", "/nope", ORIGIN, GZIP), 404),
    ("gzip, cors", request("OPTIONS", "/depends", *PREFLIGHT), 200),
    ("gzip, cors", request("OPTIONS", "/json", ORIGIN, "Access-Control-Request-Method: PUT"), 400),
    ("cors pattern", request("GET", "/json", ORIGIN), 200),
    ("cors pattern", request("OPTIONS", "/json", "Origin: https://a.test", "Access-Control-Request-Method: GET"), 400),
    ("gzip never in threads", request("GET", "/huge", GZIP), 200),
    ("hosts redirect", request("GET", "/json", host="www.example.org:8000"), 200),
    ("hosts redirect", request("GET", "/depends", host="example.org"), 307),
    ("hosts, https", request("GET", "/x%20y?a", host="a.example.com:80"), 307),
]  # fmt: skip


@pytest.mark.parametrize(("setup", "asked", "status"), BY_RUST)
def test_answered_by_rust(calls: Counter[str], setup: str, asked: bytes, status: int) -> None:
    with serve(make_app(SETUPS[setup])) as client:
        assert client.see(asked).status == status
        assert not calls


@pytest.mark.parametrize(
    ("asked", "called"),
    [
        (request("GET", "/depends", ORIGIN), "FastAPI"),
        (request("DELETE", "/json", ORIGIN), "FastAPI"),
        (request("GET", "/number/x", ORIGIN), None),
        (request("GET", "/big", ORIGIN, GZIP, host="[::1]"), None),
        (request("GET", "/huge", ORIGIN, GZIP), "respond"),
        (request("GET", "/stream", ORIGIN, GZIP), "respond"),
        (request("GET", "/background", ORIGIN, GZIP), None),
        (request("GET", "/teapot", ORIGIN), "answer"),
    ],
)
def test_answered_by_python(calls: Counter[str], asked: bytes, called: str | None) -> None:
    with serve(make_app(SETUPS["gzip, cors"])) as client:
        client.see(asked)
        assert calls == Counter([called] if called else [])


# What counts while the app runs.


@pytest.mark.parametrize("change", ["append", "replace", "clear"])
def test_origins_that_change(change: str) -> None:
    origins = ["https://b.example"]
    # Made while the app runs: no two texts are the same object.
    added = "".join([A[:5], A[5:]])
    with serve(make_app([cors(allow_origins=origins)])) as client:
        asked = request("GET", "/json", ORIGIN)
        assert b"access-control-allow-origin" not in dict(client.see(asked).headers)
        if change == "append":
            origins.append(added)
        elif change == "replace":
            origins[0] = added
        else:
            origins.clear()
        origin = dict(client.see(asked).headers).get(b"access-control-allow-origin")
        assert origin == (None if change == "clear" else A.encode())
        preflight = client.see(request("OPTIONS", "/json", "Origin: https://b.example", "Access-Control-Request-Method: GET"))
        assert preflight.status == (200 if change == "append" else 400)


def test_behind_a_prefix() -> None:
    """A proxy serves the app under a path: redirects name it."""
    for setup in ("https", "hosts redirect"):
        for asked in (request("GET", "/x?y", host="example.org"), request("GET", "/%C3%A9", host="example.org:80")):
            answers = []
            for kind in (FastAPI, OwnWay):
                with serve(make_app(SETUPS[setup], kind), root_path="/a b") as client:
                    answers.append(client.see(asked))
            assert answers[0] == answers[1]
            assert re.match(rb"https?://(www\.)?example\.org(:80)?/a%20b/", dict(answers[0].headers)[b"location"])


class OwnCors(CORSMiddleware):
    pass


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("middleware", "reason"),
    [
        (Middleware(OwnCors), "the app has middleware"),
        (cors(allow_origins=A), "allow_origins of CORSMiddleware is not a list or tuple of str"),
        (cors(allow_origins={A}), "allow_origins of CORSMiddleware is not a list or tuple of str"),
        (cors(allow_methods=iter(["GET"])), "allow_methods of CORSMiddleware is not a list or tuple of str"),
        (cors(expose_headers=["a\nb"]), "simple_headers of CORSMiddleware has what no answer can have"),
        (cors(allow_headers=["☃"]), "preflight_headers of CORSMiddleware has what no answer can have"),
        (cors(allow_credentials=1), "allow_credentials of CORSMiddleware is not bool"),
        (
            cors(allow_origin_regex="("),
            "its middleware cannot be made: PatternError" if hasattr(re, "PatternError") else "its middleware cannot be made: error",
        ),
        (cors(unknown=1), "its middleware cannot be made: TypeError"),
        (gz(minimum_size=1.5), "minimum_size of GZipMiddleware is not int"),
        (gz(compresslevel=10), "compresslevel of GZipMiddleware is 10"),
        (hosts("*x"), "its middleware cannot be made: AssertionError"),
    ],
)
def test_not_understood(middleware: Middleware, reason: str) -> None:
    app = make_app([gz(), middleware])
    assert compile_app(app)[-1].reason == reason
    assert compile_layers(app, "") == []


@pytest.mark.parametrize(
    "patch",
    [
        (CORSMiddleware, "is_allowed_origin", lambda self, origin: True),
        (CORSMiddleware, "allow_explicit_origin", staticmethod(lambda headers, origin: None)),
        (GZipMiddleware, "__call__", nothing),
    ],
)
def test_replaced(monkeypatch: pytest.MonkeyPatch, patch: tuple[type, str, Any]) -> None:
    app = make_app([OPEN, gz()])
    assert compile_layers(app, "")
    monkeypatch.setattr(*patch)
    assert compile_app(app)[-1].reason == f"{patch[0].__name__}.{patch[1]} was replaced"
    assert compile_layers(app, "") == []


def test_changed_object() -> None:
    app = make_app([OPEN])
    app.middleware_stack = app.build_middleware_stack()
    assert compile_layers(app, "")
    layer: Any = app.middleware_stack
    while type(layer) is not CORSMiddleware:
        layer = layer.app
    layer.send = nothing
    assert compile_app(app)[-1].reason == "CORSMiddleware was changed"
