"""Apps with what others have made for FastAPI, and the requests that each is asked. `python plugins.py NAME...`: see test_plugins.py.

Tracers run in a process of their own: they put functions of theirs in the place of FastAPI's, and nothing puts them back.
"""

import json
import logging
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from differential import json_request, request
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from matrix.record import Note
from matrix.servers import PATIENCE, Matrix
from plugin_routes import ADDED, Add
from plugin_routes import FURTHER as FURTHER_ADDED
from pydantic import BaseModel
from starlette.middleware.sessions import SessionMiddleware

NOW = 1_700_000_000.0

ID = ("X-Request-ID", "0123456789abcdef0123456789abcdef")

#: Asked of every app, in this order; `/seen` is what the plug-in has seen until then.
REQUESTS = [
    request("GET", "/plain", ID),
    request("GET", "/async/5?q=a", ID, ("X-Correlation-ID", "fedcba9876543210fedcba9876543210")),
    request("GET", "/async/x", ID),
    request("GET", "/seen", ID),
    json_request("/model", b'{"x": 1}').replace(b"\r\n\r\n", b"\r\nX-Request-ID: 0123456789abcdef0123456789abcdef\r\n\r\n", 1),
    request("GET", "/forbidden", ID),
    request("GET", "/unknown", ID),
    request("GET", "/stream", ID),
    request("HEAD", "/plain", ID),
    request("GET", "/nothing", ID),
    request("GET", "/seen", ID),
    request("GET", "/sub/item", ID),
    request("GET", "/plain", ("X-Request-ID", "not an id")),
    request("GET", "/plain"),
    request("GET", "/plain", ID),
    request("GET", "/seen"),
]


class Point(BaseModel):
    x: int


def plain_app(note: Note, seen: Callable[[Request], object] = lambda request: None) -> FastAPI:
    """The routes that all of them have: nine, of which seven are plain."""
    app = FastAPI()

    @app.get("/plain")
    def plain():
        note("plain")
        return {"plain": True}

    @app.get("/async/{a}")
    async def asynchronous(a: int, q: str = ""):
        note("async")
        return [a, q]

    @app.post("/model")
    def model(point: Point) -> Point:
        note("model")
        return point

    @app.get("/forbidden")
    async def forbidden():
        raise HTTPException(403, "forbidden", {"X-Why": "1"})

    @app.get("/unknown")
    def unknown():
        raise RuntimeError("unknown")

    @app.get("/stream")
    async def stream():
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        return StreamingResponse(parts())

    @app.get("/seen")
    async def what_was_seen(request: Request):
        return seen(request)

    sub = FastAPI()

    @sub.get("/item")
    def item():
        note("item")
        return "item"

    app.mount("/sub", sub)
    return app


def prometheus(note: Note) -> FastAPI:
    from prometheus_client import CollectorRegistry
    from prometheus_fastapi_instrumentator import Instrumentator

    registry = CollectorRegistry()

    def seen(_: Request) -> object:
        counts = [
            [sample.name, sorted(sample.labels.items()), sample.value]
            for metric in registry.collect()
            for sample in metric.samples
            # The others are times.
            if sample.name.endswith(("_count", "_total")) or sample.name.endswith("size_bytes_sum")
        ]
        return sorted(counts)

    app = plain_app(note, seen)
    Instrumentator(registry=registry).instrument(app).expose(app)
    return app


def starlette_context(note: Note) -> FastAPI:
    from starlette_context import context
    from starlette_context.middleware import RawContextMiddleware
    from starlette_context.plugins import CorrelationIdPlugin, RequestIdPlugin

    app = plain_app(note, lambda request: context.data if "x-request-id" in request.headers else sorted(context.data))
    plugins = (RequestIdPlugin(validate=False), CorrelationIdPlugin(force_new_uuid=False, validate=False))

    # One that is made up is another on each side, so those that are asked for without go out under one name.
    class Fixed(RawContextMiddleware):
        async def set_context(self, request: Any) -> dict[str, Any]:
            data = await super().set_context(request)
            return {key: value if key.lower() in request.headers else "made up" for key, value in data.items()}

    app.add_middleware(Fixed, plugins=plugins)
    return app


def correlation_id(note: Note) -> FastAPI:
    from asgi_correlation_id import CorrelationIdMiddleware
    from asgi_correlation_id.context import correlation_id as current

    app = plain_app(note, lambda _: current.get())
    app.add_middleware(CorrelationIdMiddleware, generator=lambda: "made up", validator=lambda value: " " not in value)

    @app.exception_handler(RuntimeError)
    async def on_error(request: Request, error: RuntimeError) -> JSONResponse:
        note(f"error of {current.get()}")
        return JSONResponse({"of": current.get()}, 500, {"X-Request-ID": current.get() or ""})

    @app.get("/id")
    def plain_id():
        note(f"id {current.get()}")
        return current.get()

    return app


def authlib(note: Note) -> FastAPI:
    # Its client is made of httpx2 where that is installed, and mcp needs it.
    import httpx2 as httpx
    from authlib.integrations.starlette_client import OAuth

    def token_endpoint(asked: httpx.Request) -> httpx.Response:
        note(f"token for {sorted(asked.content.split(b'&'))}")
        return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer", "expires_in": 60})

    oauth = OAuth()
    oauth.register(
        "matrix",
        client_id="client",
        client_secret="secret",
        authorize_url="https://auth.test/authorize",
        access_token_url="https://auth.test/token",
        client_kwargs={"transport": httpx.MockTransport(token_endpoint)},
    )
    app = plain_app(note, lambda request: dict(request.session))
    app.add_middleware(SessionMiddleware, secret_key="secret")

    @app.get("/login")
    async def login(request: Request):
        return await oauth.matrix.authorize_redirect(request, str(request.url_for("callback")), state="state")

    @app.get("/callback")
    async def callback(request: Request):
        token = await oauth.matrix.authorize_access_token(request)
        request.session["user"] = token["access_token"]
        return {"type": token["token_type"]}

    return app


def sentry(note: Note) -> FastAPI:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            for item in envelope.items:
                event = item.get_event() or item.get_transaction_event() or {}
                errors = [value.get("type") for value in (event.get("exception") or {}).get("values", ())]
                trace = (event.get("contexts") or {}).get("trace") or {}
                asked = (event.get("request") or {}).get("method")
                spans = [span.get("op") for span in event.get("spans", ())]
                # A path that no route has is named with the address of the server, and each side has its own.
                name = re.sub(r"(?<=//127\.0\.0\.1):\d+", "", event.get("transaction") or "")
                SENT.append([item.type, name, errors, trace.get("op"), trace.get("status"), asked, spans])

    # One client for the process, as there always is.
    if not sentry_sdk.is_initialized():
        sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Kept, traces_sample_rate=1.0)
    return plain_app(note)


#: What sentry's client has sent of the last request, of all three sides after each other.
SENT: list[list[object]] = []


def sent_otherwise(raw: bytes) -> list[str]:
    """What was sent of this request, which was the last, if it is not the same thrice."""
    deadline = time.monotonic() + PATIENCE
    while True:
        third = len(SENT) // 3
        # Of HEAD nothing is sent.
        if SENT[:third] * 3 == SENT and (third or raw.startswith(b"HEAD ")):
            found = []
            break
        if time.monotonic() > deadline:
            found = [f"sent {SENT}"]
            break
        time.sleep(0.001)
    SEEN.extend(SENT[: len(SENT) // 3])
    SENT.clear()
    return found


#: Of all requests, what one side has sent.
SEEN: list[list[object]] = []


def opentelemetry(note: Note) -> FastAPI:
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    names = ("http.route", "http.method", "http.status_code", "http.target", "http.request.method", "http.response.status_code", "url.path")

    def seen(_: Request) -> object:
        spans = exporter.get_finished_spans()
        exporter.clear()
        return [
            [
                span.name,
                span.kind.name,
                span.status.status_code.name,
                {name: span.attributes.get(name) for name in names},
                [e.name for e in span.events],
            ]
            for span in spans
            # Our `receive` does not give a stream's listener the empty body of a GET, which is a span less.
            if span.name != "GET /stream http receive"
        ]

    app = plain_app(note, seen)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    return app


def slowapi(note: Note, is_asgi: bool = False) -> FastAPI:
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded
    from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware

    # Not the fixed window: an hour may end between two requests.
    limiter = Limiter(key_func=lambda: "all", default_limits=["2/hour"], strategy="moving-window")
    app = plain_app(note)
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]
    app.add_middleware(SlowAPIASGIMiddleware if is_asgi else SlowAPIMiddleware)

    @app.get("/limited")
    @limiter.limit("1/hour")
    def limited(request: Request):
        note("limited")
        return PlainTextResponse("limited")

    @app.get("/exempt")
    @limiter.exempt
    def exempt():
        note("exempt")
        return "exempt"

    return app


def added(note: Note, add: Add) -> FastAPI:
    app = plain_app(note)
    add(app, note)
    return app


PLUGINS: dict[str, Callable[[Note], FastAPI]] = {
    "prometheus": prometheus,
    "starlette_context": starlette_context,
    "correlation_id": correlation_id,
    "authlib": authlib,
    "sentry": sentry,
    "opentelemetry": opentelemetry,
    "slowapi": slowapi,
    "slowapi_asgi": partial(slowapi, is_asgi=True),
    **{name: partial(added, add=add) for name, add in ADDED.items()},
}

#: Beside REQUESTS. COOKIE stands for the one that was set last.
FURTHER: dict[str, list[bytes]] = {
    "correlation_id": [request("GET", "/id", ID), request("GET", "/id")],
    "authlib": [
        request("GET", "/login"),
        request("GET", "/callback?state=state&code=code", ("Cookie", "COOKIE")),
        request("GET", "/seen", ("Cookie", "COOKIE")),
        request("GET", "/callback?state=other&code=code", ("Cookie", "COOKIE")),
    ],
    "slowapi": [request("GET", target) for target in ("/limited", "/limited", "/exempt", "/exempt", "/exempt")],
}
FURTHER["slowapi_asgi"] = FURTHER["slowapi"]
FURTHER |= FURTHER_ADDED


def run(name: str) -> dict[str, Any]:
    """Asks everything; what there is to know of it, as JSON can hold it."""
    further = FURTHER.get(name, [])
    # Two sides sign a session in the same second.
    time.time = lambda: NOW
    # Handled, as tracers look at what is logged, but not shown.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.lastResort = None
    cookie, statuses, different, seen = b"", [], [], b""
    with Matrix(PLUGINS[name], shares_app=False) as matrix:
        for raw in [*REQUESTS, *further]:
            expected, found = matrix.compared(raw.replace(b"COOKIE", cookie))
            statuses.append(expected.status)
            cookie = next((value.partition(b";")[0] for key, value in expected.headers if key == b"set-cookie"), cookie)
            if raw.startswith(b"GET /seen"):
                seen += expected.body
            elif name in ADDED and raw in further:
                seen += repr(expected.headers).encode() + expected.body
            found += sent_otherwise(raw) if name == "sentry" else []
            different += [f"{raw[:120]!r}: {line}" for line in found]
        native = matrix.native_count()
    different += [line for side in matrix.sides.values() for line in side.late]
    return {"statuses": statuses, "different": different, "seen": seen.decode() + json.dumps(SEEN), "native": native}


if __name__ == "__main__":
    json.dump({name: run(name) for name in sys.argv[1:]}, sys.stdout)
