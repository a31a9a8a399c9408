"""Dependencies of dependencies: three deep, in each mixture; what is cached, and what is not."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

from fastapi import Body, Cookie, Depends, Header, HTTPException, Query, Request, Security
from fastapi.security import SecurityScopes
from pydantic import BaseModel

from .ask import Ask, with_json
from .kit import Kit

KINDS = ("def", "async", "yield", "async_yield")


def make(kit: Kit, kind: str, name: str, inner: Any, **options: Any) -> Callable[..., Any]:
    """A dependency of this kind on another, or on the query parameter `q`."""
    source = Query(ge=0) if inner is None else Depends(inner, **options)
    default: Any = 1 if inner is None else ...

    def function(value):  # type: ignore[no-untyped-def]
        kit.mark(name)
        return f"{name}({value})"

    async def coroutine(value):  # type: ignore[no-untyped-def]
        kit.mark(name)
        return f"{name}({value})"

    def generator(value):  # type: ignore[no-untyped-def]
        kit.mark(name)
        try:
            yield f"{name}({value})"
        except BaseException as error:
            kit.mark(f"{name} saw {type(error).__name__}")
            raise
        finally:
            kit.mark(f"{name} end")

    async def async_generator(value):  # type: ignore[no-untyped-def]
        kit.mark(name)
        try:
            yield f"{name}({value})"
        except BaseException as error:
            kit.mark(f"{name} saw {type(error).__name__}")
            raise
        finally:
            kit.mark(f"{name} end")

    made: Any = {"def": function, "async": coroutine, "yield": generator, "async_yield": async_generator}[kind]
    made.__annotations__ = {"value": Annotated[int if inner is None else str, source]}
    if default is not ...:
        made.__defaults__ = (default,)
    return made  # type: ignore[no-any-return]


def add(kit: Kit) -> None:
    """/{outer}/{middle}/{inner}; the endpoint is a def for every other one."""
    for number, kinds in enumerate(itertools.product(KINDS, repeat=3)):
        inner: Any = None
        for name, kind in zip(("c", "b", "a"), reversed(kinds), strict=True):
            inner = make(kit, kind, name, inner)
        path = "/" + "/".join(kinds)
        kit.route(path, _endpoint(kit, inner, bool(number % 2)), Ask(path, query=(("value", "5"), ("r", "1"))))
    _add_caches(kit)
    _add_sources(kit)


def _endpoint(kit: Kit, dependency: Any, is_async: bool) -> Callable[..., Any]:
    def endpoint(value: Annotated[str, Depends(dependency)], r: int = 0):
        kit.mark("endpoint")
        if r == 9:
            raise HTTPException(409, "nine")
        return [value, r]

    async def endpoint_async(value: Annotated[str, Depends(dependency)], r: int = 0):
        kit.mark("endpoint")
        if r == 9:
            raise HTTPException(409, "nine")
        return [value, r]

    return endpoint_async if is_async else endpoint


def _add_caches(kit: Kit) -> None:
    """The same dependency several times, for each kind."""
    for kind in KINDS:
        shared = make(kit, kind, "shared", None)
        left, right = make(kit, "def", "left", shared), make(kit, "async", "right", shared)
        fresh = make(kit, "def", "fresh", shared, use_cache=False)
        below = make(kit, "async", "below", fresh)
        pairs: dict[str, tuple[Any, Any]] = {
            "twice": (Depends(shared), Depends(shared)),
            "diamond": (Depends(left), Depends(right)),
            "uncached_last": (Depends(shared), Depends(shared, use_cache=False)),
            "uncached_first": (Depends(shared, use_cache=False), Depends(shared)),
            "uncached_both": (Depends(shared, use_cache=False), Depends(shared, use_cache=False)),
            "uncached_below": (Depends(shared), Depends(fresh)),
            "uncached_parent": (Depends(left), Depends(left, use_cache=False)),
            "uncached_deep": (Depends(below), Depends(below)),
            "scopes": (Depends(shared), Security(shared, scopes=["a"])),
        }
        for name, (first, second) in pairs.items():

            def endpoint(a: Annotated[str, first], b: Annotated[str, second]):
                kit.mark("endpoint")
                return [a, b]

            path = f"/cache/{kind}/{name}"
            kit.route(path, endpoint, Ask(path, query=(("value", "5"),)))
        path = f"/cache/{kind}/decorator"
        kit.route(path, _endpoint(kit, left, True), Ask(path, query=(("value", "5"),)), dependencies=[Depends(shared), Depends(right)])

    def object_of() -> object:
        kit.mark("object")
        return object()

    @kit.app.get("/cache/identity")
    async def identity(
        a: Annotated[object, Depends(object_of)],
        b: Annotated[object, Depends(object_of)],
        c: Annotated[object, Depends(object_of, use_cache=False)],
    ):
        kit.mark("endpoint")
        return [a is b, a is c]

    kit.ask(Ask("/cache/identity"))


class Item(BaseModel):
    name: str
    price: float = 1.5


def _add_sources(kit: Kit) -> None:
    """Dependencies that take what an endpoint takes: path, header, cookie, body, and the same name more than once."""

    def path_too(item_id: int, x: Annotated[str, Header()] = "h"):
        kit.mark("path_too")
        return [item_id, x]

    async def cookie(session: Annotated[str, Cookie()], ads_id: Annotated[str | None, Cookie()] = None):
        kit.mark("cookie")
        return [session, ads_id]

    def body(item: Item):
        kit.mark("body")
        return item.name

    async def other_body(n: Annotated[int, Body()]):
        kit.mark("other_body")
        return n

    def same_name(q: str = "a", limit: int = 10):
        kit.mark("same_name")
        return [q, limit]

    async def request_too(request: Request, q: int):
        kit.mark("request_too")
        return [request.url.path, q]

    def scopes(security_scopes: SecurityScopes):
        kit.mark("scopes")
        return security_scopes.scopes

    async def generator(q: int) -> AsyncIterator[int]:
        kit.mark("generator")
        yield q
        kit.mark("generator end")

    def refuses(q: int) -> Iterator[int]:
        kit.mark("refuses")
        if q == 5:
            raise HTTPException(403, "five", {"X-Five": "1"})
        yield q
        kit.mark("refuses end")

    def by_path(item_id: str, a: Annotated[Any, Depends(path_too)]):
        kit.mark("endpoint")
        return [item_id, a]

    async def by_cookie(a: Annotated[Any, Depends(cookie)], session: Annotated[str, Cookie()]):
        kit.mark("endpoint")
        return [a, session]

    def by_body(a: Annotated[Any, Depends(body)]):
        kit.mark("endpoint")
        return a

    def by_bodies(a: Annotated[Any, Depends(body)], b: Annotated[Any, Depends(other_body)], q: int = 0):
        kit.mark("endpoint")
        return [a, b, q]

    def by_same_body(item: Item, a: Annotated[Any, Depends(body)]):
        kit.mark("endpoint")
        return [item, a]

    async def by_same_name(a: Annotated[Any, Depends(same_name)], b: Annotated[Any, Depends(request_too)], q: float):
        kit.mark("endpoint")
        return [a, b, q]

    def by_scopes(a: Annotated[Any, Security(scopes, scopes=["x", "y"])], b: Annotated[Any, Depends(scopes)]):
        kit.mark("endpoint")
        return [a, b]

    async def after_refusal(
        b: Annotated[Any, Depends(generator)], a: Annotated[Any, Depends(refuses)], c: Annotated[Any, Depends(same_name)]
    ):
        kit.mark("endpoint")
        return [a, b, c]

    five = (("q", "5"),)
    kit.route("/by_path/{item_id}", by_path, Ask("/by_path/{}", values=(("item_id", "5"),), headers=(("x", "y"),)))
    kit.route("/by_cookie", by_cookie, Ask("/by_cookie", cookies=(("session", "s"), ("ads_id", "a"))))
    kit.route("/by_body", by_body, with_json("/by_body", {"name": "n"}))
    kit.route("/by_bodies", by_bodies, with_json("/by_bodies", {"item": {"name": "n"}, "n": 5}, query=five))
    kit.route("/by_same_body", by_same_body, with_json("/by_same_body", {"name": "n"}))
    kit.route("/by_same_name", by_same_name, Ask("/by_same_name", query=(("q", "5"), ("limit", "1"))))
    kit.route("/by_scopes", by_scopes)
    kit.route("/after_refusal", after_refusal, Ask("/after_refusal", query=five), Ask("/after_refusal", query=(("q", "6"),)))
