"""Bodies in which `null` is, or which are not there: natively as under uvicorn, whatever the installed FastAPI makes of them.

From 0.165 on it is a value, before it is as if nothing was sent."""

import itertools
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from differential import Connection, Pair, json_request, request, serve_ours, serve_uvicorn
from fastapi import Body, Depends, FastAPI
from pydantic import AfterValidator, BaseModel

from turboapi.plan import rules
from turboapi.plan.routes import compile_app

pytestmark = pytest.mark.skipif(not rules.rules().bodies_are_known, reason="this FastAPI reads bodies in a way of its own")


class Model(BaseModel):
    a: int = 1
    n: int | None = 5


#: A function of the app's own: with a dependency such an argument is converted after it.
LOUD = AfterValidator(lambda value: value)

#: By name, a type, and the default if there is one.
KINDS: dict[str, tuple[Any, ...]] = {
    "required": (int,),
    "optional": (int | None,),
    "default": (int | None, 4),
    "none": (int | None, None),
    "model": (Model,),
    "optional-model": (Model | None, None),
    "any": (Any,),
    "list": (list[int], [1]),
    "loud": (Annotated[int | None, LOUD], 4),
}

BODIES = [
    *(
        "null",
        " null ",
        "1",
        "[null]",
        "[]",
        "{}",
        '{"a":null}',
        '{"a":1}',
        '{"a":"x"}',
        '{"a":{"n":null}}',
        '{"n":null}',
        '{"A":null,"a":1}',
    ),
    *(
        '{"a":null,"b":null}',
        '{"a":1,"b":null}',
        '{"a":null,"b":2}',
        '{"b":null}',
        '{"a":[null],"b":{"a":2}}',
        "\ufeffnull",
        "nul",
        '"null"',
        "",
    ),
]


def dependency() -> int:
    return 1


def make_app() -> FastAPI:
    app = FastAPI()

    def add(path: str, endpoint: Any) -> None:
        app.post(path, response_model=None)(endpoint)

    def declare(annotation: Any, *default: Any, **options: Any) -> Any:
        return Annotated[annotation, Body(**options)], *default

    for (name, kind), embed in itertools.product(KINDS.items(), (False, True)):
        annotation, *default = declare(*kind, embed=embed)

        def one(a):  # type: ignore[no-untyped-def]
            return {"a": a}

        def after(a, x=Depends(dependency)):  # type: ignore[no-untyped-def]
            return {"a": a}

        for path, endpoint in (("one", one), ("after", after)):
            endpoint.__annotations__ = {"a": annotation}
            endpoint.__defaults__ = (*default, *(endpoint.__defaults__ or ()))
            add(f"/{path}/{name}/{embed}", endpoint)
    for (first, kind), (second, other) in itertools.product(KINDS.items(), repeat=2):

        def two(*, a, b):  # type: ignore[no-untyped-def]
            return {"a": a, "b": b}

        (annotation, *default), (annotation_b, *default_b) = declare(*kind), declare(*other)
        two.__annotations__ = {"a": annotation, "b": annotation_b}
        two.__kwdefaults__ = {name: value for name, values in (("a", default), ("b", default_b)) for value in values}
        add(f"/two/{first}/{second}", two)

    @app.post("/alias")
    def alias(a: Annotated[int | None, Body(alias="A", embed=True)] = 2) -> Any:
        return a

    return app


PATHS = [entry.template for entry in compile_app(make_app()) if entry.template.startswith(("/one", "/after", "/two", "/alias"))]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with serve_uvicorn(make_app()) as theirs, serve_ours(make_app()) as ours:
        pair = Pair(theirs, ours)
        yield pair
        pair.close()


def test_every_route_is_native() -> None:
    assert [entry for entry in compile_app(make_app()) if entry.template in PATHS and entry.native is None] == []


@pytest.mark.parametrize("path", PATHS)
def test_as_uvicorn(pair: Pair, path: str) -> None:
    for body in BODIES:
        pair.check(json_request(path, body.encode()))
    pair.check(json_request(path, b"null", "text/plain"))
    pair.check(json_request(path, b'{"a":null}', "application/x+json"))
    pair.check(request("POST", path))


def test_where_null_is_no_value_it_is_for_the_apps_own_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else is. FastAPI asks where an endpoint is written for each request that it answers itself."""
    monkeypatch.setitem(vars(rules.rules()), "takes_null", False)
    asked: list[object] = []
    monkeypatch.setattr("fastapi.routing._extract_endpoint_context", lambda endpoint: asked.append(endpoint) or {})
    with serve_ours(make_app()) as address:
        connection = Connection(address)
        for path, body, is_null in [
            ("/one/default/False", b"null", True),
            ("/one/default/False", b"1", False),
            ("/one/default/True", b'{"a":null}', True),
            ("/one/default/True", b'{"b":null}', False),
            ("/one/any/False", b'{"a":null}', False),
            ("/two/default/model", b'{"a":1,"b":null}', True),
            ("/two/default/model", b'{"a":1,"b":{"n":null}}', False),
            ("/alias", b'{"A":null}', True),
            ("/alias", b'{"a":null}', False),
        ]:
            del asked[:]
            assert connection.ask(json_request(path, body)).status < 500
            assert bool(asked) == is_null, (path, body)
        connection.close()
