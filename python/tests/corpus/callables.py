"""Dependencies of each form: what may be depended on, where, and with which endpoint."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query

from .ask import Ask
from .kit import Kit

Q = Annotated[int, Query(ge=0)]


def forms(kit: Kit) -> dict[str, Callable[..., Any]]:
    """Each takes a query parameter `q`, notes its name and gives a text with it."""

    def function(q: Q = 1):
        kit.mark("function")
        return f"function {q}"

    async def coroutine(q: Q = 1):
        kit.mark("coroutine")
        return f"coroutine {q}"

    def generator(q: Q = 1) -> Iterator[str]:
        kit.mark("generator")
        try:
            yield f"generator {q}"
        finally:
            kit.mark("generator end")

    async def async_generator(q: Q = 1) -> AsyncIterator[str]:
        kit.mark("async_generator")
        try:
            yield f"async_generator {q}"
        finally:
            kit.mark("async_generator end")

    class Class:
        def __init__(self, q: Q = 1) -> None:
            kit.mark("class")
            self.q = q

        def __str__(self) -> str:
            return f"class {self.q}"

    class Callable_:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, q: Q = 1):
            kit.mark(self.name)
            return f"{self.name} {q}"

        def method(self, q: Q = 1):
            kit.mark("method")
            return f"method {self.name} {q}"

        async def async_method(self, q: Q = 1):
            kit.mark("async_method")
            return f"async_method {self.name} {q}"

        @staticmethod
        def static_method(q: Q = 1):
            kit.mark("static")
            return f"static {q}"

        @classmethod
        def class_method(cls, q: Q = 1):
            kit.mark("classmethod")
            return f"{cls.__name__} {q}"

    class AsyncCallable:
        async def __call__(self, q: Q = 1):
            kit.mark("async_callable")
            return f"async_callable {q}"

    class GeneratorCallable:
        def __call__(self, q: Q = 1) -> Iterator[str]:
            kit.mark("generator_callable")
            yield f"generator_callable {q}"
            kit.mark("generator_callable end")

    class AsyncGeneratorCallable:
        async def __call__(self, q: Q = 1) -> AsyncIterator[str]:
            kit.mark("async_generator_callable")
            yield f"async_generator_callable {q}"
            kit.mark("async_generator_callable end")

    @functools.wraps(function)
    def wrapped(*args: Any, **values: Any) -> Any:
        kit.mark("wrapped")
        return function(*args, **values)

    @functools.wraps(coroutine)
    async def async_wrapped(*args: Any, **values: Any) -> Any:
        kit.mark("async_wrapped")
        return await coroutine(*args, **values)

    def coroutine_in_def(q: Q = 1):
        kit.mark("returns")
        return [q]

    instance = Callable_("callable")
    return {
        "function": function,
        "coroutine": coroutine,
        "generator": generator,
        "async_generator": async_generator,
        "class": Class,
        "callable": instance,
        "async_callable": AsyncCallable(),
        "generator_callable": GeneratorCallable(),
        "async_generator_callable": AsyncGeneratorCallable(),
        "method": instance.method,
        "async_method": instance.async_method,
        "static": instance.static_method,
        "classmethod": instance.class_method,
        "wrapped": wrapped,
        "async_wrapped": async_wrapped,
        "partial": functools.partial(function, q=5),
        "partial_async": functools.partial(coroutine),
        "partial_generator": functools.partial(generator),
        "lambda": lambda q=1: kit.mark("lambda") or f"lambda {q}",
        "list": coroutine_in_def,
    }


def named(name: str) -> Callable[..., Any]:
    """A dependency that is made anew by each call: twice where the annotation is a text, which FastAPI reads, and so do we."""

    def depended(q: Q = 1, within: "Annotated[str, Depends(named('within'))]" = ""):
        return f"{name} {q} {within}"

    def innermost(q: Q = 1):
        return f"{name} {q}"

    return innermost if name == "within" else depended


def _add_texts(kit: Kit) -> None:
    def by_text(a: "Annotated[str, Depends(named('a'))]", b: "Annotated[str, Depends(named('b'))]", r: "int" = 0):
        kit.mark("endpoint")
        return [a, b, r]

    def overridden(a: "Annotated[str, Depends(named('a'))]"):
        kit.mark("endpoint")
        return a

    kit.route("/text", by_text, _good("/text"))
    kit.route("/text/overridden", overridden, _good("/text/overridden"))
    (route,) = [route for route in kit.app.routes if getattr(route, "path", "") == "/text/overridden"]
    # By the function that FastAPI has: there is no other name for it.
    (found,) = route.dependant.dependencies  # type: ignore[attr-defined]
    kit.app.dependency_overrides[found.call] = lambda: "overridden"


def add(kit: Kit) -> None:
    """/{level}/{endpoint}/{form}"""
    _add_texts(kit)
    for name, form in forms(kit).items():
        for kind in ("def", "async"):
            _add_parameter(kit, kind, name, form)
            _add_levels(kit, kind, name, form)


def _good(path: str) -> Ask:
    return Ask(path, query=(("q", "5"),))


def endpoint_of(kit: Kit, kind: str, dependency: Any) -> Callable[..., Any]:
    """An endpoint with this dependency as a parameter."""
    if kind == "def":

        def endpoint(value: Annotated[Any, dependency], r: int = 0):
            kit.mark("endpoint")
            return [str(value), r]

        return endpoint

    async def endpoint_async(value: Annotated[Any, dependency], r: int = 0):
        kit.mark("endpoint")
        return [str(value), r]

    return endpoint_async


def _add_parameter(kit: Kit, kind: str, name: str, form: Callable[..., Any]) -> None:
    path = f"/parameter/{kind}/{name}"
    kit.route(path, endpoint_of(kit, kind, Depends(form)), Ask(path, query=(("q", "5"), ("r", "1"))))
    if name == "class" and isinstance(form, type):

        def bare(value: Annotated[form, Depends()]):  # type: ignore[valid-type]
            kit.mark("endpoint")
            return str(value)

        def bare_old(value: form = Depends()):  # type: ignore[valid-type]
            kit.mark("endpoint")
            return str(value)

        kit.route(f"/bare/{kind}", bare, _good(f"/bare/{kind}"))
        kit.route(f"/bare_old/{kind}", bare_old, _good(f"/bare_old/{kind}"))
    else:

        def old(value: Any = Depends(form)):
            kit.mark("endpoint")
            return str(value)

        kit.route(f"/old/{kind}/{name}", old, _good(f"/old/{kind}/{name}"))


def _add_levels(kit: Kit, kind: str, name: str, form: Callable[..., Any]) -> None:
    if kind == "def":

        def endpoint(r: int = 0) -> Any:
            kit.mark("endpoint")
            return r

        chosen: Callable[..., Any] = endpoint
    else:

        async def endpoint_async(r: int = 0) -> Any:
            kit.mark("endpoint")
            return r

        chosen = endpoint_async
    path = f"/decorator/{kind}/{name}"
    kit.route(path, chosen, _good(path), dependencies=[Depends(form)])
    router = APIRouter(prefix=f"/router/{kind}", dependencies=[Depends(form)])
    kit.route(f"/{name}", chosen, _good(f"/router/{kind}/{name}"), on=router)
    kit.app.include_router(router)
    included = APIRouter()
    kit.route(f"/{name}", chosen, _good(f"/included/{kind}/{name}"), on=included)
    kit.app.include_router(included, prefix=f"/included/{kind}", dependencies=[Depends(form)])


def add_levels(kit: Kit) -> None:
    """All levels at once, in the order in which FastAPI calls them. The app has a dependency of its own (`app_options`)."""

    def marking(name: str) -> Callable[..., Any]:
        def dependency(x_token: Annotated[str, Header()] = "t"):
            kit.mark(name)
            return f"{name} {x_token}"

        return dependency

    inner = APIRouter(prefix="/inner", dependencies=[Depends(marking("inner"))])
    outer = APIRouter(prefix="/outer", dependencies=[Depends(marking("outer"))])
    shared = marking("shared")

    def endpoint(a: Annotated[str, Depends(marking("parameter"))], b: Annotated[str, Depends(shared)]):
        kit.mark("endpoint")
        return [a, b]

    async def refused(q: Annotated[int, Query(gt=5)], a: Annotated[str, Depends(shared)]):
        kit.mark("endpoint")
        return [q, a]

    token = (("x-token", "x"),)
    decorator = [Depends(marking("first")), Depends(shared), Depends(marking("last"))]
    kit.route("/all", endpoint, Ask("/outer/inner/all", headers=token), on=inner, dependencies=decorator)
    kit.route("/refused", refused, Ask("/outer/inner/refused", query=(("q", "6"),)), on=inner, dependencies=decorator)
    kit.route("/one", endpoint, Ask("/outer/one", headers=token), on=outer)
    outer.include_router(inner, dependencies=[Depends(marking("include"))])
    kit.app.include_router(outer, dependencies=[Depends(marking("app include"))])
    kit.app.include_router(inner, prefix="/again")
    kit.route("/plain", endpoint, Ask("/plain", headers=token), Ask("/again/inner/all", headers=token))
    kit.route("/nothing", lambda: kit.mark("endpoint"))


def app_options(kit: Callable[[], Kit]) -> dict[str, Any]:
    """The dependencies of an app of all levels: one that is not generator, one that is."""

    async def of_app(x_key: Annotated[str, Header()] = "k") -> None:
        kit().mark(f"app {x_key}")

    def session() -> Iterator[None]:
        kit().mark("app session")
        yield
        kit().mark("app session end")

    return {"dependencies": [Depends(of_app), Depends(session)]}
