"""`dependency_overrides`, set and taken back between requests, on an app and on the one that is mounted in it."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Security
from fastapi.security import OAuth2PasswordBearer

from .ask import Ask
from .kit import Kit, KnownError

oauth2 = OAuth2PasswordBearer("token")


def add(kit: Kit) -> None:
    def inner(q: int = 1):
        kit.mark("inner")
        return f"inner {q}"

    def outer(value: Annotated[str, Depends(inner)]):
        kit.mark("outer")
        return f"outer {value}"

    def session() -> Iterator[str]:
        kit.mark("session")
        yield "session"
        kit.mark("session end")

    class Paging:
        def __init__(self, skip: int = 0) -> None:
            kit.mark("paging")
            self.skip = skip

    sub = FastAPI(openapi_url=None)
    for app, prefix in ((kit.app, ""), (sub, "/sub")):
        _add_routes(kit, app, prefix, inner, outer, session, Paging)
    kit.app.mount("/sub", sub)
    _add_actions(kit, sub, inner, outer, session, Paging)


def _add_routes(kit: Kit, app: FastAPI, prefix: str, inner: Any, outer: Any, session: Any, paging: Any) -> None:
    def by_outer(value: Annotated[str, Depends(outer)], r: int = 0):
        kit.mark("endpoint")
        return [value, r]

    async def by_both(a: Annotated[str, Depends(outer)], b: Annotated[str, Depends(inner)]):
        kit.mark("endpoint")
        return [a, b]

    def by_session(value: Annotated[str, Depends(session)]):
        kit.mark("endpoint")
        return value

    async def by_class(value: Annotated[Any, Depends(paging)]):
        kit.mark("endpoint")
        return str(getattr(value, "skip", value))

    def by_token(token: Annotated[str, Security(oauth2, scopes=["a"])]):
        kit.mark("endpoint")
        return token

    def by_decorator():
        kit.mark("endpoint")
        return "decorator"

    endpoints: dict[str, Callable[..., Any]] = {
        "/outer": by_outer, "/both": by_both, "/session": by_session, "/class": by_class, "/token": by_token,
    }  # fmt: skip
    for path, endpoint in endpoints.items():
        kit.ask(*_asks(prefix + path), spoils=False)
        app.add_api_route(path, endpoint)
    router = APIRouter(dependencies=[Depends(session)])
    kit.ask(*_asks(f"{prefix}/included/decorator"), spoils=False)
    router.add_api_route("/decorator", by_decorator, dependencies=[Depends(inner)])
    app.include_router(router, prefix="/included", dependencies=[Depends(outer)])


ACTIONS = (
    "none",
    "function",
    "coroutine",
    "own_parameters",
    "generator",
    "depends",
    "class",
    "raises",
    "invalid",
    "sub_only",
    "removed",
    "replaced",
)


def _asks(path: str) -> list[Ask]:
    query, token = (("q", "5"), ("skip", "2")), (("Authorization", "Bearer t"), ("x-other", "6"))
    asks = [Ask(path, query=query, headers=token, before=name) for name in ACTIONS]
    return asks + [Ask(path, query=(("q", "x"), ("skip", "x")), before=name) for name in ACTIONS]


def _add_actions(kit: Kit, sub: FastAPI, inner: Any, outer: Any, session: Any, paging: Any) -> None:
    def other():
        kit.mark("other")
        return "other"

    async def other_async():
        kit.mark("other_async")
        return "other_async"

    def own_parameters(x_other: Annotated[int, Header()], q: float = 0.5):
        kit.mark("own_parameters")
        return f"{x_other} {q}"

    async def generator() -> AsyncIterator[str]:
        kit.mark("generator")
        try:
            yield "generator"
        finally:
            kit.mark("generator end")

    def depends(value: Annotated[str, Depends(inner)], token: Annotated[str, Depends(oauth2)]):
        kit.mark("depends")
        return f"depends {value} {token}"

    class Other:
        def __init__(self, q: int = 7) -> None:
            kit.mark("other class")
            self.skip = -q

        def __str__(self) -> str:
            return f"other class {self.skip}"

    def raises():
        kit.mark("raises")
        raise HTTPException(451, "overridden") if len(sub.dependency_overrides) else KnownError("overridden")

    def invalid(missing: int):
        raise AssertionError("never called")

    states: dict[str, dict[Any, Any]] = {
        "none": {},
        "function": {inner: other, session: other},
        "coroutine": {outer: other_async, paging: other_async},
        "own_parameters": {outer: own_parameters, oauth2: own_parameters},
        "generator": {inner: generator, outer: generator, session: generator},
        "depends": {outer: depends, session: depends},
        "class": {paging: Other, inner: Other},
        "raises": {inner: raises, oauth2: raises},
        "invalid": {inner: invalid, paging: invalid},
        "sub_only": {},
        "removed": {},
        "replaced": {},
    }

    def put(name: str) -> Callable[[], None]:
        def action() -> None:
            for app in (kit.app, sub):
                app.dependency_overrides.clear()
            kit.app.dependency_overrides.update(states[name])
            if name not in ("generator", "none"):
                sub.dependency_overrides.update(states[name])
            if name == "sub_only":
                sub.dependency_overrides[inner] = other
            elif name == "removed":
                kit.app.dependency_overrides[outer] = other
                del kit.app.dependency_overrides[outer]
            elif name == "replaced":
                # A dictionary of its own, as some tests set it.
                kit.app.dependency_overrides = {outer: other}

        return action

    for name in states:
        kit.actions[name] = put(name)
    kit.actions[""] = put("none")
