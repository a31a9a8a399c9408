"""Plug-ins that bring dependencies, decorators and routes of their own, and what these are asked: a part of plugins.py.

Each function adds one to the app that all have.
"""

import contextlib
import itertools
import types
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from differential import json_request, request
from fastapi import Depends, FastAPI, Request, Response
from matrix.record import Note
from pydantic import BaseModel

Add = Callable[[FastAPI, Note], None]


class Item(BaseModel):
    number: int
    secret: str = "not shown"


class ItemOut(BaseModel):
    number: int


def slowapi_decorators(app: FastAPI, note: Note) -> None:
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded

    limiter = Limiter(key_func=lambda: "all", headers_enabled=True, strategy="moving-window")
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]

    @app.get("/limited")
    @limiter.limit("2/hour")
    async def limited(request: Request, response: Response, q: int = 0):
        note(f"limited {q}")
        return {"q": q}

    @app.post("/limited")
    @limiter.limit("1/hour")
    @limiter.limit(lambda: "3/hour")
    def limited_post(request: Request, response: Response, item: Item) -> ItemOut:
        note("limited post")
        return ItemOut(number=item.number)

    shared = limiter.shared_limit("2/hour", scope="shared")

    @app.get("/shared/a")
    @shared
    def shared_a(request: Request, response: Response):
        return "a"

    @app.get("/shared/b")
    @shared
    def shared_b(request: Request, response: Response):
        return "b"


def pagination(app: FastAPI, note: Note) -> None:
    from fastapi_pagination import LimitOffsetPage, Page, add_pagination, paginate, set_page
    from fastapi_pagination.customization import CustomizedPage, UseParamsFields
    from fastapi_pagination.links import Page as LinkedPage

    items = [Item(number=number) for number in range(25)]

    @app.get("/page", response_model=Page[ItemOut])
    def page():
        note("page")
        return paginate(items)

    @app.get("/page/async")
    async def page_async() -> Page[ItemOut]:
        return paginate(items)

    @app.get("/page/offset", response_model=LimitOffsetPage[ItemOut])
    async def page_offset(at_least: int = 0):
        return paginate([item for item in items if item.number >= at_least])

    small = CustomizedPage[Page, UseParamsFields(size=3)]

    @app.get("/page/small")
    def page_small() -> small[ItemOut]:  # type: ignore[valid-type]
        return paginate(items)

    @app.get("/page/linked", response_model=LinkedPage[ItemOut])
    def page_linked():
        return paginate(items)

    @app.get("/page/set")
    def page_set() -> Any:
        with set_page(Page[ItemOut]):
            return {"note": "no params"}

    add_pagination(app)


def cache(app: FastAPI, note: Note) -> None:
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.inmemory import InMemoryBackend
    from fastapi_cache.decorator import cache as cached

    # One store for the process, and the first set-up of it counts: each side's keys are its own.
    def key(function: Any, namespace: str = "", *, request: Request, response: Response, args: Any, kwargs: Any) -> str:
        return f"{id(request.app)}:{namespace}:{function.__name__}:{request.url.path}:{request.url.query}"

    FastAPICache.init(InMemoryBackend(), prefix="", key_builder=key)

    @app.get("/cached/{a}")
    @cached(expire=60)
    async def cached_async(a: int, q: str = ""):
        note(f"cached {a} {q}")
        return {"a": a, "q": q}

    @app.get("/cached-def")
    @cached(expire=60, namespace="def")
    def cached_def() -> ItemOut:
        note("cached def")
        return ItemOut(number=1)

    @app.get("/cached-request")
    @cached(expire=60)
    async def cached_request(request: Request, response: Response):
        note("cached request")
        response.headers["X-Own"] = request.method
        return "own"


def users(app: FastAPI, note: Note) -> None:
    from fastapi_users import BaseUserManager, FastAPIUsers, IntegerIDMixin, schemas
    from fastapi_users.authentication import AuthenticationBackend, BearerTransport, CookieTransport, JWTStrategy
    from fastapi_users.db import BaseUserDatabase
    from fastapi_users.password import PasswordHelper
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    rows: dict[int, Any] = {}
    numbers = itertools.count(1)

    class Database(BaseUserDatabase[Any, int]):
        async def get(self, id: int) -> Any:
            return rows.get(id)

        async def get_by_email(self, email: str) -> Any:
            return next((user for user in rows.values() if user.email == email), None)

        async def create(self, create_dict: dict[str, Any]) -> Any:
            start = {"id": next(numbers), "is_active": True, "is_superuser": False, "is_verified": False}
            user = types.SimpleNamespace(**{**start, **create_dict})
            rows[user.id] = user
            return user

        async def update(self, user: Any, update_dict: dict[str, Any]) -> Any:
            vars(user).update(update_dict)
            return user

        async def delete(self, user: Any) -> None:
            del rows[user.id]

    class Manager(IntegerIDMixin, BaseUserManager[Any, int]):
        reset_password_token_secret = verification_token_secret = "of the test, and long enough for SHA-256"

        async def on_after_register(self, user: Any, request: Request | None = None) -> None:
            note(f"registered {user.email}")

        async def on_after_forgot_password(self, user: Any, token: str, request: Request | None = None) -> None:
            note(f"forgot {user.email}")

        async def on_after_login(self, user: Any, request: Request | None = None, response: Response | None = None) -> None:
            note(f"signed in {user.email}")

    # As weak as there are, or the test would compute passwords.
    helper = PasswordHelper(PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)))

    async def get_database() -> AsyncIterator[Database]:
        note("database opens")
        yield Database()
        note("database closes")

    async def get_manager(database: Annotated[Database, Depends(get_database)]) -> AsyncIterator[Manager]:
        yield Manager(database, helper)

    # Without an end each side makes the same ones.
    def strategy() -> JWTStrategy[Any, int]:
        return JWTStrategy("of the test, and long enough for SHA-256", lifetime_seconds=None)

    bearer = AuthenticationBackend("bearer", BearerTransport("auth/login"), strategy)
    cookie = AuthenticationBackend("cookie", CookieTransport(cookie_max_age=60), strategy)
    plugin = FastAPIUsers[Any, int](get_manager, [bearer, cookie])
    read, create, update = schemas.BaseUser[int], schemas.BaseUserCreate, schemas.BaseUserUpdate
    app.include_router(plugin.get_auth_router(bearer), prefix="/auth")
    app.include_router(plugin.get_auth_router(cookie), prefix="/cookie")
    app.include_router(plugin.get_register_router(read, create), prefix="/auth")
    app.include_router(plugin.get_reset_password_router(), prefix="/auth")
    app.include_router(plugin.get_verify_router(read), prefix="/auth")
    app.include_router(plugin.get_users_router(read, update), prefix="/users")

    @app.get("/who")
    def who(user: Annotated[Any, Depends(plugin.current_user(optional=True))]):
        return user and user.email

    @app.get("/superuser")
    async def superuser(user: Annotated[Any, Depends(plugin.current_user(active=True, superuser=True))]):
        return user.email


def rate_limiter(app: FastAPI, note: Note) -> None:
    from fastapi_limiter.decorators import skip_limiter
    from fastapi_limiter.depends import RateLimiter
    from pyrate_limiter import Duration, Limiter, Rate

    def at_most(number: int) -> Any:
        return Depends(RateLimiter(Limiter(Rate(number, Duration.HOUR))))

    @app.get("/limited", dependencies=[at_most(2)])
    async def limited():
        note("limited")
        return "limited"

    @app.get("/limited-def", dependencies=[at_most(3), at_most(1)])
    def limited_def(q: int = 0):
        note("limited def")
        return q

    @app.get("/skipped", dependencies=[at_most(1)])
    @skip_limiter
    async def skipped():
        return "skipped"


def strawberry(app: FastAPI, note: Note) -> None:
    import strawberry as graphql
    from strawberry.fastapi import GraphQLRouter
    from strawberry.types import Info

    @graphql.type
    class Book:
        title: str

    @graphql.type
    class Query:
        @graphql.field
        def books(self, first: int = 2) -> list[Book]:
            note("books")
            return [Book(title=f"Book {number}") for number in range(first)]

        @graphql.field
        async def agent(self, info: Info) -> str:
            info.context["response"].headers["X-Agent"] = "asked"
            return info.context["agent"]

        @graphql.field
        def fails(self) -> str:
            raise ValueError("fails")

    @graphql.type
    class Mutation:
        @graphql.mutation
        def rename(self, title: str) -> Book:
            return Book(title=title)

    async def context(request: Request, at: int = 0) -> AsyncIterator[dict[str, Any]]:
        note("context opens")
        yield {"agent": f"{request.headers.get('user-agent')} at {at}"}
        note("context closes")

    app.include_router(GraphQLRouter(graphql.Schema(Query, Mutation), context_getter=context), prefix="/graphql")


def sqladmin(app: FastAPI, note: Note) -> None:
    from sqladmin import Admin, ModelView
    from sqlalchemy import create_engine
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
    from sqlalchemy.pool import StaticPool

    class Base(DeclarativeBase):
        pass

    class Book(Base):
        __tablename__ = "books"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    class BookAdmin(ModelView, model=Book):
        column_list = [Book.id, Book.title]  # as it is meant to be written

        async def on_model_change(self, data: Any, model: Any, is_created: bool, request: Request) -> None:
            note(f"change of {data}")

    engine = create_engine("sqlite://", connect_args={"check_same_thread": False}, poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Book(title=title) for title in ("One", "Two"))
        session.commit()
    Admin(app, engine).add_view(BookAdmin)


def mcp(app: FastAPI, note: Note) -> None:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.transport_security import TransportSecuritySettings

    server = MCPServer("books")

    @server.tool()
    def count(title: str) -> int:
        """How long a title is."""
        note(f"count {title}")
        return len(title)

    any_host = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    mounted = server.streamable_http_app(json_response=True, stateless_http=True, transport_security=any_host)
    before = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with before(app) as state, server.session_manager.run():
            yield state

    app.router.lifespan_context = lifespan
    app.mount("/tools", mounted)


ADDED: dict[str, Add] = {
    "slowapi_decorators": slowapi_decorators,
    "pagination": pagination,
    "cache": cache,
    "users": users,
    "limiter": rate_limiter,
    "strawberry": strawberry,
    "sqladmin": sqladmin,
    "mcp": mcp,
}


def form(target: str, body: bytes, *headers: tuple[str, str]) -> bytes:
    return request("POST", target, ("Content-Type", "application/x-www-form-urlencoded"), *headers, body=body)


def graphql_request(body: bytes, target: str = "/graphql") -> bytes:
    return request("POST", target, ("Content-Type", "application/json"), ("User-Agent", "test"), body=body)


def mcp_request(body: bytes) -> bytes:
    headers = (("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream"))
    return request("POST", "/tools/mcp", *headers, body=body)


def gets(*targets: str) -> list[bytes]:
    return [request("GET", target) for target in targets]


ANN = b'{"email": "ann@example.com", "password": "correct horse"}'
#: Set by the last answer that set one: plugins.py puts it there.
COOKIE = ("Cookie", "COOKIE")

FURTHER: dict[str, list[bytes]] = {
    "slowapi_decorators": [
        *gets("/limited?q=1", "/limited?q=x", "/limited?q=2", "/limited?q=3"),
        *[json_request("/limited", b'{"number": 1}')] * 2,
        *gets("/shared/a", "/shared/b", "/shared/a"),
    ],
    "pagination": gets(
        *("/page", "/page?page=2&size=10", "/page?page=0", "/page?size=1000", "/page?page=9", "/page/async?size=2&size=3"),
        *("/page/offset?limit=2&offset=3&at_least=20", "/page/offset?limit=x", "/page/small", "/page/small?size=4"),
        *("/page/linked?page=2&size=5", "/page/set"),
    ),
    "cache": [
        *gets("/cached/1", "/cached/1", "/cached/1?q=a", "/cached/x", "/cached-def", "/cached-def", "/cached-request", "/cached-request"),
        request("GET", "/cached/1", ("Cache-Control", "no-store")),
        request("GET", "/cached/1", ("Cache-Control", "no-cache")),
        request("GET", "/cached/1", ("If-None-Match", "*")),
    ],
    "users": [
        json_request("/auth/register", ANN),
        json_request("/auth/register", ANN),
        json_request("/auth/register", b'{"email": "ann", "password": 1}'),
        form("/auth/login", b"username=ann%40example.com&password=wrong"),
        form("/auth/login", b"username=ann%40example.com&password=correct+horse"),
        form("/auth/login", b"password=x"),
        *gets("/users/me", "/who", "/superuser"),
        request("GET", "/who", ("Authorization", "Bearer nonsense")),
        form("/cookie/login", b"username=ann%40example.com&password=correct+horse"),
        *[request("GET", target, COOKIE) for target in ("/users/me", "/who", "/superuser", "/users/1")],
        json_request("/auth/forgot-password", b'{"email": "ann@example.com"}'),
        json_request("/auth/verify", b'{"token": "x"}'),
        request("PATCH", "/users/me", ("Content-Type", "application/json"), COOKIE, body=b'{"email": "eve@example.com"}'),
        request("POST", "/auth/logout", COOKIE),
        request("POST", "/cookie/logout", COOKIE),
    ],
    "limiter": gets(*["/limited"] * 3, "/limited-def?q=1", "/limited-def?q=x", "/limited-def?q=2", "/skipped", "/skipped"),
    "strawberry": [
        graphql_request(b'{"query": "{ books { title } }"}'),
        graphql_request(b'{"query": "query($n: Int!) { books(first: $n) { title } agent }", "variables": {"n": 1}}', "/graphql?at=3"),
        graphql_request(b'{"query": "{ fails }"}'),
        graphql_request(b'{"query": "{ unknown }"}'),
        graphql_request(b'{"query": "mutation { rename(title: \\"a\\") { title } }"}'),
        graphql_request(b"{"),
        graphql_request(b'{"query": "{ agent }"}', "/graphql?at=x"),
        request("GET", "/graphql?query=%7Bagent%7D"),
        request("GET", "/graphql", ("Accept", "text/html")),
        request("DELETE", "/graphql"),
    ],
    "sqladmin": [
        *gets("/admin", "/admin/", "/admin/book/list", "/admin/book/list?search=One&pageSize=1", "/admin/book/details/1"),
        *gets("/admin/book/details/9", "/admin/book/create", "/admin/nowhere/list", "/admin/book/export/csv"),
        form("/admin/book/create", b"title=Three"),
        *gets("/admin/book/list"),
    ],
    "mcp": [
        mcp_request(b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'),
        mcp_request(b'{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "count", "arguments": {"title": "abc"}}}'),
        mcp_request(b'{"jsonrpc": "2.0", "id": 3, "method": "nowhere"}'),
        mcp_request(b"{"),
        *gets("/tools/mcp", "/tools/nowhere"),
    ],
}
