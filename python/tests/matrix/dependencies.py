"""Routes with dependencies of every kind."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Query, Request, Response, Security
from fastapi.security import HTTPBasic, HTTPBasicCredentials, OAuth2PasswordBearer, SecurityScopes

from .failures import KnownError
from .record import Note
from .requesting import WHO


def add(app: FastAPI, note: Note) -> None:
    _add_plain(app, note)
    _add_yields(app, note)
    _add_raising(app, note)
    _add_security(app, note)


class Paging:
    def __init__(self, skip: int = 0, limit: Annotated[int, Query(le=50)] = 10) -> None:
        self.skip, self.limit = skip, limit


def _add_plain(app: FastAPI, note: Note) -> None:
    def number(q: int = 0) -> int:
        note("dep number")
        return q + 1

    async def doubled(n: Annotated[int, Depends(number)]) -> int:
        note("dep doubled")
        return 2 * n

    def header_setter(response: Response, tasks: BackgroundTasks, x_token: Annotated[str, Header()] = "none") -> str:
        note("dep header")
        response.headers["X-Dep"] = x_token
        tasks.add_task(note, "dep task")
        return x_token

    async def who() -> str:
        note("dep who")
        WHO.set("dependency")
        return "set"

    @app.get("/depends/sync")
    def depends_sync(n: Annotated[int, Depends(number)]):
        note("depends sync")
        return n

    @app.get("/depends/cached")
    async def depends_cached(a: Annotated[int, Depends(doubled)], b: Annotated[int, Depends(number)]):
        note("depends cached")
        return [a, b]

    @app.get("/depends/uncached")
    def depends_uncached(a: Annotated[int, Depends(number)], b: Annotated[int, Depends(number, use_cache=False)]):
        note("depends uncached")
        return [a, b]

    @app.get("/depends/class")
    async def depends_class(paging: Annotated[Paging, Depends()]):
        note("depends class")
        return [paging.skip, paging.limit]

    @app.get("/depends/header")
    async def depends_header(token: Annotated[str, Depends(header_setter)]):
        note("depends header")
        return token

    @app.get("/depends/context")
    async def depends_context(_: Annotated[str, Depends(who)]):
        note("depends context")
        return WHO.get()

    @app.get("/depends/decorator", dependencies=[Depends(number), Depends(who)])
    def depends_decorator(tasks: BackgroundTasks):
        note("depends decorator")
        tasks.add_task(note, "task")
        return "decorator"

    @app.get("/depends/request/{a}")
    def depends_request(path: Annotated[str, Depends(_path)]):
        note("depends request")
        return path


def _path(request: Request) -> str:
    return f"{request.url.path} {request.path_params}"


def _add_yields(app: FastAPI, note: Note) -> None:
    def session() -> Iterator[str]:
        note("session open")
        try:
            yield "session"
        except Exception as error:
            note(f"session saw {type(error).__name__}")
            raise
        finally:
            note("session close")

    async def transaction(session: Annotated[str, Depends(session)]) -> AsyncIterator[str]:
        note("transaction open")
        try:
            yield session + " transaction"
        except Exception as error:
            note(f"transaction saw {type(error).__name__}")
            raise
        finally:
            note("transaction close")

    async def swallowing() -> AsyncIterator[int]:
        try:
            yield 1
        except KnownError:
            note("swallowed")

    async def raising_after() -> AsyncIterator[int]:
        yield 1
        note("raises after")
        raise HTTPException(402, "after")

    async def translating() -> AsyncIterator[int]:
        try:
            yield 1
        except KnownError as error:
            note("translates")
            raise HTTPException(409, "translated", {"X-Translated": "1"}) from error

    @app.get("/yield/sync")
    def yield_sync(s: Annotated[str, Depends(session)], tasks: BackgroundTasks):
        note("yield sync")
        tasks.add_task(note, "task")
        return s

    @app.get("/yield/nested/{a}")
    async def yield_nested(t: Annotated[str, Depends(transaction)], a: int):
        note("yield nested")
        if a == 400:
            raise HTTPException(400, "bad", {"X-Error": "1"})
        if a == 409:
            raise KnownError("known")
        if a == 500:
            raise RuntimeError("unknown")
        return [t, a]

    @app.get("/yield/function")
    async def yield_function(t: Annotated[str, Depends(session, scope="function")]):
        note("yield function")
        return t

    @app.get("/yield/stream")
    def yield_stream(s: Annotated[str, Depends(session)]):
        from fastapi.responses import StreamingResponse

        def parts() -> Iterator[str]:
            yield s
            note("part")

        return StreamingResponse(parts())

    @app.get("/yield/swallows")
    async def yield_swallows(a: Annotated[int, Depends(swallowing)]):
        raise KnownError("known")

    @app.get("/yield/raises")
    async def yield_raises(a: Annotated[int, Depends(raising_after)]):
        return a

    @app.get("/yield/raises/function")
    async def yield_raises_function(a: Annotated[int, Depends(raising_after, scope="function")]):
        return a

    @app.get("/yield/translates")
    def yield_translates(a: Annotated[int, Depends(translating)]):
        raise KnownError("known")


def _add_raising(app: FastAPI, note: Note) -> None:
    def forbids(q: str = "") -> None:
        note("dep forbids")
        if q != "please":
            raise HTTPException(403, {"why": "not asked"}, {"X-Forbidden": "1"})

    async def fails() -> None:
        raise RuntimeError("in a dependency")

    @app.get("/depends/forbids", dependencies=[Depends(forbids)])
    async def depends_forbids():
        note("depends forbids")
        return "allowed"

    @app.get("/depends/fails")
    def depends_fails(_: Annotated[None, Depends(fails)]):
        note("never")


def _add_security(app: FastAPI, note: Note) -> None:
    async def user(scopes: SecurityScopes, token: Annotated[str, Depends(OAuth2PasswordBearer("token"))]) -> str:
        note("dep user")
        return f"{token} {scopes.scope_str}"

    @app.get("/security/bearer")
    async def bearer(user: Annotated[str, Security(user, scopes=["read", "write"])]):
        note("bearer")
        return user

    @app.get("/security/basic")
    def basic(credentials: Annotated[HTTPBasicCredentials, Depends(HTTPBasic(realm="matrix"))]):
        note("basic")
        return credentials.username
