"""Behind proxies: the client's address and scheme as under uvicorn, on native routes and others, and nothing of it from strangers."""

from collections.abc import Iterator
from typing import Any

import pytest
from differential import Connection, request, serve_uvicorn
from fastapi import FastAPI, Request
from fastapi.middleware.httpsredirect import HTTPSRedirectMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware

from turboapi.config import Config
from turboapi.errors import ConfigError
from turboapi.plan.routes import compile_app
from turboapi.testing import TestServer


def plain(app: FastAPI) -> None:
    pass


def https(app: FastAPI) -> None:
    app.add_middleware(HTTPSRedirectMiddleware)


def hosts(app: FastAPI) -> None:
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["www.example.test", "other.test"])


def within(app: FastAPI) -> None:
    @app.middleware("http")
    async def sees(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-scheme"] = request.url.scheme
        return response


def make_app(set_up: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/seen", name="seen")
    async def seen(request: Request) -> Any:
        client = request.client
        # Without a port from the proxy it is 0; the connection's own is another each time.
        port = client.port if client is not None and client.host != "127.0.0.1" else None
        return [client.host if client else None, port, request.url.scheme, str(request.url_for("seen")), str(request.base_url)]

    @app.get("/items")
    async def items() -> str:
        return "items"

    set_up(app)
    return app


HEADERS: list[list[tuple[str, str]]] = [
    [],
    [("X-Forwarded-Proto", "https")],
    [("X-Forwarded-Proto", "http")],
    [("X-Forwarded-Proto", "HTTPS")],
    [("X-Forwarded-Proto", "https,http")],
    [("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")],
    [("X-Forwarded-Proto", "javascript")],
    [("X-Forwarded-For", "203.0.113.9")],
    [("X-Forwarded-For", "203.0.113.9:4711"), ("X-Forwarded-Proto", "https")],
    [("X-Forwarded-For", "6.6.6.6, 203.0.113.9, 127.0.0.1")],
    [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "203.0.113.9")],
    [("X-Forwarded-For", "[2001:db8::1]:99")],
    [("X-Forwarded-For", "2001:db8::1")],
    [("X-Forwarded-For", "127.0.0.1, ::1")],
    [("X-Forwarded-For", "unknown")],
    [("X-Forwarded-For", ", ,")],
    [("X-Forwarded-For", "a b;'\"<>\\")],
    [("X-Forwarded-Host", "evil.test"), ("X-Forwarded-Prefix", "/evil"), ("Forwarded", "for=6.6.6.6;proto=https;host=evil.test")],
]
PATHS = ["/seen", "/items", "/items/", "/nowhere"]
TRUSTED = ["127.0.0.1,::1", "*", "10.0.0.0/8", "10.0.0.0/8, 127.0.0.0/8", ""]


@pytest.fixture(params=TRUSTED)
def allowed(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


@pytest.mark.parametrize("set_up", [plain, https, hosts, within])
def test_same(set_up: Any, allowed: str) -> None:
    app = make_app(set_up)
    assert [entry.reason for entry in compile_app(app) if entry.template in PATHS and not entry.native] == []
    with serve_uvicorn(make_app(set_up), forwarded_allow_ips=allowed) as address, TestServer(app, forwarded_allow_ips=allowed) as server:
        theirs, ours = Connection(address), Connection(("127.0.0.1", server.port))
        found = []
        for headers in HEADERS:
            for path in PATHS:
                for host in (b"example.test", b"other.test:81"):
                    raw = request("GET", path, *headers).replace(b"example.test:81", host)
                    expected, seen = theirs.ask(raw), ours.ask(raw)
                    found += [f"{raw!r}: {seen} instead of {expected}"] * (seen != expected)
        theirs.close()
        ours.close()
    assert not found, "\n".join(found)


def test_switched_off() -> None:
    app = make_app(plain)
    with TestServer(app, proxy_headers=False) as server:
        connection = Connection(("127.0.0.1", server.port))
        raw = request("GET", "/seen", ("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "203.0.113.9"))
        assert connection.ask(raw).body.startswith(b'["127.0.0.1",null,"http"')
        connection.close()


@pytest.mark.parametrize("text", ["10.0.0.1/8", "localhost", "127.0.0.1;::1", "10.0.0.0/33", "* *"])
def test_a_list_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ConfigError, match=r"forwarded_allow_ips is '.*allowed are \*, unix, addresses, and networks"):
        Config(forwarded_allow_ips=text)


def test_what_may_stand_in_a_list() -> None:
    proxies = Config(forwarded_allow_ips=" 10.0.0.0/8,unix , ::1,, 192.168.1.7 ").proxies()
    assert (proxies.everyone, proxies.unix) == (False, True)
    assert proxies.networks == (("10.0.0.0", 8), ("::1", 128), ("192.168.1.7", 32))
    assert Config.of(environment={"FORWARDED_ALLOW_IPS": "*"}).proxies().everyone
