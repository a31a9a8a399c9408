"""The router against the routers of the installed FastAPI and Starlette, on random tables.

Each table is made of real route objects and served by the real `Router.app`; our answer must be the same route with the
same parameters, the same `Allow`, the same `Location`. `TURBOAPI_TEST_TABLES` sets how many tables.
"""

from __future__ import annotations

import dataclasses
import os
import re
import uuid
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import URL
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Host, Mount, Route
from starlette.routing import Router as StarletteRouter

from turboapi._core import Router
from turboapi.plan.absent import Absent
from turboapi.plan.arguments import Kind, Parameter, Source
from turboapi.plan.routes import Entry, compile_app

pytestmark = pytest.mark.above_platform

TABLES = int(os.environ.get("TURBOAPI_TEST_TABLES", "500"))


class MonthConvertor(Convertor[str]):
    """A convertor that only the application knows."""

    regex = "[0-9]{4}-[0-9]{2}"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("turboapi_month", MonthConvertor())


@dataclass
class Selected:
    """What a route's application saw."""

    index: int
    scope: dict[str, Any]


class Recorder:
    """An ASGI application that keeps the scope it is called with. Not a function, so Starlette calls it as it is."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.calls: list[Selected] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append(Selected(self.index, dict(scope)))


def endpoint() -> None:
    """Never called."""


@dataclass
class Table:
    """One table in both forms."""

    routes: list[BaseRoute]
    recorders: list[Recorder]
    entries: list[Entry]


def build(lines: list[tuple[str, str, Any]]) -> Table:
    """Make a table.

    Args:
        lines: (`api` | `route` | `mount` | `host`, template, methods) for each route.

    Returns:
        The route objects, and what `Router` is given for them.
    """
    routes: list[BaseRoute] = []
    entries = []
    recorders = [Recorder(index) for index in range(len(lines))]
    for recorder, (what, template, methods) in zip(recorders, lines, strict=True):
        if what == "api":
            route: Any = APIRoute(template, endpoint, methods=methods)
            route.app = recorder
            entries.append(Entry(route.path, tuple(route.methods), "route", None, ""))
        elif what == "route":
            route = Route(template, recorder, methods=methods)
            entries.append(Entry(route.path, tuple(route.methods or ()), "route", None, ""))
        elif what == "mount":
            route = Mount(template, app=recorder)
            entries.append(Entry(route.path, (), "prefix", None, ""))
        else:
            route = Host(template, app=recorder)
            entries.append(Entry("", (), "opaque", None, ""))
        routes.append(route)
    return Table(routes, recorders, entries)


def run(router: Any, table: Table, method: str, path: str) -> tuple[Any, ...]:
    """Ask the real router.

    Returns:
        (`found`, Selected), (`method_not_allowed`, Allow), (`redirect`, Location), (`not_found`,) or (`raised`,).
    """
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    for recorder in table.recorders:
        recorder.calls.clear()
    try:
        router.app(scope_of(method, path), None, send).send(None)
    except StopIteration:
        pass
    except ValueError:
        return ("raised",)
    calls = [call for recorder in table.recorders for call in recorder.calls]
    if calls:
        assert len(calls) == 1 and not sent
        return ("found", calls[0])
    headers = dict(sent[0]["headers"])
    match sent[0]["status"]:
        case 404:
            return ("not_found",)
        case 405:
            return ("method_not_allowed", headers[b"allow"].decode())
        case 307:
            return ("redirect", headers[b"location"].decode())
        case status:
            raise AssertionError(status)


def scope_of(method: str, path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": b"q=1",
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "headers": [(b"host", b"api.example")],
    }


def compare(table: Table, ours: tuple[Any, ...], theirs: tuple[Any, ...], method: str, path: str) -> None:
    """Fail unless both answers are the same."""
    if ours[0] == "ask":
        assert may_ask(table, path)
        return
    assert ours[0] == theirs[0]
    if ours[0] == "method_not_allowed":
        assert ours[1] == theirs[1]
    elif ours[0] == "redirect":
        url = URL(scope=scope_of(method, ours[1]))
        assert RedirectResponse(url).headers["location"] == theirs[1]
    elif ours[0] == "found":
        _, index, texts = ours
        scope = theirs[1].scope
        assert index == theirs[1].index
        route: Any = table.routes[index]
        texts = dict(texts)
        if isinstance(route, Mount):
            rest = "/" + texts.pop("path")
            assert scope["root_path"] == path[: -len(rest)]
        assert {name: route.param_convertors[name].convert(text) for name, text in texts.items()} == scope["path_params"]
        assert list(texts) == list(scope["path_params"])


def may_ask(table: Table, path: str) -> bool:
    """Whether the table has a route that `Router` cannot judge for this path or its other form."""
    if len(path) > 640:
        return True
    other = path.rstrip("/") if path.endswith("/") else path + "/"
    for entry, route in zip(table.entries, table.routes, strict=True):
        template, kind = entry.template, entry.kind
        if kind == "opaque" or (template[:1] not in ("", "/") and (template[0] == "{" or not path.startswith("/"))):
            return True
        if "turboapi_month" in template:
            prefix = str(route.path_format).split("{p")[0]
            if path.startswith(prefix) or other.startswith(prefix):
                return True
    return False


UUID = str(uuid.UUID(int=0xABCDEF))
TEXTS = [
    "a",
    "b",
    "ab",
    "1",
    ".json",
    ".",
    "-",
    "é",
    "ß",
    "\ufffd",
    "\n",
    "{",
    "}",
    "{}",
    "{x:}",
    "(",
    "[0]",
    "$",
    "^",
    "+",
    "*",
    "\\",
    "?",
    "#",
    " ",
]
VALUES = {
    "": ["a", "1", "1.5", "a.b", "ab", "é", "aéb", "\n", "a\n", "x.json", "-", UUID],
    ":str": ["a", "ab", "1"],
    ":int": ["0", "12", "007", "1", "-1", "\u0661"],
    ":float": ["1", "1.5", "1.25", "1.", ".5", "1.2.3", "1e3"],
    ":path": ["", "a", "a/b", "/", "a/", "a\nb", "\n", "a/1/a/1", "1.5"],
    ":uuid": [UUID, UUID.replace("-", ""), UUID.upper(), UUID[:-1]],
    ":turboapi_month": ["2026-11", "2026-1"],
}
PARAMETERS = ["", "", "", ":str", ":int", ":int", ":float", ":path", ":path", ":uuid"]


@st.composite
def templates(draw: Any) -> tuple[str, str]:
    """Draw a template, and a path made from it."""
    template = path = ""
    for number in range(draw(st.integers(0, 4))):
        template, path = template + "/", path + "/"
        for piece in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2, 3, 4]))):
            if draw(st.integers(0, 9)) < 5:
                text = draw(st.sampled_from(TEXTS[:4] if draw(st.booleans()) else TEXTS))
                template, path = template + text, path + text
            else:
                is_own = draw(st.integers(0, 60)) == 0
                kind = ":turboapi_month" if is_own else draw(st.sampled_from(PARAMETERS))
                template += f"{{p{draw(st.integers(0, 1))}_{number}{piece}{kind}}}"
                other = draw(st.sampled_from(PARAMETERS)) if draw(st.integers(0, 5)) == 0 else kind
                path += draw(st.sampled_from(VALUES[other]))
    return template, path


WITHOUT_SLASH = [("host", "api.example"), ("host", "{p}.b"), ("api", "a{p}"), ("api", "{p:path}")]
METHODS = ["GET", "POST", "HEAD", "PUT", "PURGE", "get"]


@st.composite
def tables(draw: Any) -> tuple[list[tuple[str, str, Any]], list[tuple[str, str]]]:
    """Draw a table and requests that have a good chance to match something."""
    lines: list[tuple[str, str, Any]] = []
    paths = ["/", "", "*"]
    for _ in range(draw(st.integers(1, 9))):
        if lines and draw(st.integers(0, 5)) == 0:
            template, path = draw(st.sampled_from(lines))[1], "/"
        else:
            template, path = draw(templates())
        what = draw(st.sampled_from(["api"] * 5 + ["route"] * 4 + ["mount"] * 2))
        methods = draw(st.lists(st.sampled_from(METHODS), max_size=3, unique=True))
        if draw(st.integers(0, 60)) == 0:
            what, template = draw(st.sampled_from(WITHOUT_SLASH))
        if not template.startswith("/") and what in ("route", "mount"):
            template = "/" + template
        if not methods:
            methods = None  # APIRoute: GET; Route of a class: any
        lines.append((what, template, methods))
        paths.append(path)
    requests = []
    for _ in range(draw(st.integers(5, 20))):
        path = draw(st.sampled_from(paths))
        match draw(st.integers(0, 11)):
            case 0:
                path += "/"
            case 1:
                path += "//"
            case 2:
                path += "\n"
            case 3:
                path = path.rstrip("/")
            case 4:
                path = path.replace("/", "//", 1)
            case 5:
                path += "/" + draw(st.sampled_from(TEXTS))
            case 6:
                path += draw(st.sampled_from(TEXTS))
            case 7:
                path = path[:-1]
            case 8:
                at = draw(st.integers(0, len(path)))
                path = path[:at] + draw(st.sampled_from(TEXTS)) + path[at:]
        requests.append((draw(st.sampled_from(METHODS)), path))
    return lines, requests


def check(lines: list[tuple[str, str, Any]], requests: list[tuple[str, str]], redirect_slashes: bool = True) -> None:
    table = build(lines)
    ours = Router(table.entries, redirect_slashes)
    theirs = (
        APIRouter(routes=table.routes, redirect_slashes=redirect_slashes),
        StarletteRouter(routes=table.routes, redirect_slashes=redirect_slashes),
    )
    for method, path in requests:
        answer = ours.find(method, path)
        for router in theirs:
            compare(table, answer, run(router, table, method, path), method, path)


# By itself it takes 11 s. Where the collector has a whole process of tests to go through, and the cores have other work, six times that.
@pytest.mark.timeout(240)
@settings(max_examples=TABLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables(), st.booleans())
def test_random_tables(table: tuple[list[tuple[str, str, Any]], list[tuple[str, str]]], redirect_slashes: bool) -> None:
    check(*table, redirect_slashes)


@pytest.mark.parametrize("digits", [640, 641, 4300, 4301])
def test_long_int(digits: int) -> None:
    """Python refuses to convert very long digits, and Starlette lets that escape while it matches."""
    path = "/" + "1" * digits
    check([("api", "/{x:int}", ["POST"]), ("api", "/{x}", ["GET"])], [("GET", path), ("POST", path), ("PUT", path)])


def test_many_routes() -> None:
    """A table as applications have it: every route is found at its own path, and none at a wrong method."""
    lines = []
    for number in range(500):
        lines.append(("api", f"/r{number}", ["GET"]))
        lines.append(("api", f"/r{number}/{{id}}", ["GET", "PUT"]))
        lines.append(("api", f"/v1/{{tenant}}/r{number}/{{id:int}}", ["DELETE"]))
    requests = [
        ("GET", "/r7"),
        ("PUT", "/r499/x"),
        ("DELETE", "/v1/t/r250/12"),
        ("GET", "/v1/t/r250/12"),
        ("GET", "/r500"),
        ("GET", "/r9/"),
    ]
    check(lines, requests)


def get_user(id: int, page: int = 1) -> None:
    """Never called."""


def compiled() -> Entry:
    """A route with a plan."""
    app = FastAPI(openapi_url=None)
    app.get("/users/{id}")(get_user)
    [entry] = compile_app(app)
    assert entry.native is not None
    return entry


def native(**changes: Any) -> Entry:
    entry = compiled()
    return entry._replace(native=dataclasses.replace(entry.native, **changes))


def parameter(**changes: Any) -> Entry:
    path, query = compiled().native.parameters
    return native(parameters=(path, dataclasses.replace(query, **changes)))


IN = re.escape("entry 1 of the route table ('/users/{id}'): ")


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (compiled()._replace(kind="regex"), ValueError, IN + 'kind of route is "regex", allowed are route, prefix and opaque$'),
        (compiled()._replace(kind=None), TypeError, IN + "kind of Entry is None: "),
        (compiled()._replace(methods=(1,)), TypeError, IN + r"methods of Entry is \(1,\): "),
        (compiled()._replace(body_bytes_max=-1), TypeError, IN + "body_bytes_max of Entry is -1: "),
        (compiled()._replace(native=object()), TypeError, IN + "object has no parts$"),
        (compiled()[:4], TypeError, "entry 1 of the route table: tuple has no kind$"),
        (parameter(source="body"), ValueError, IN + 'source is "body", allowed are path, query, header and cookie$'),
        (parameter(kind="date"), ValueError, IN + 'kind of value is "date", allowed are str, int, float, bool and validator$'),
        (parameter(source="path"), ValueError, IN + r'no path parameter \["page"\], there are \["id"\]$'),
        (parameter(takes_all="no"), TypeError, IN + "takes_all of Parameter is 'no': "),
        (parameter(absent=Absent("no")), TypeError, IN + "is_refused of Absent is 'no': "),
        (native(status_code=70000), TypeError, IN + "status_code of NativeRoute is 70000: "),
        (native(blocking=1), TypeError, IN + "blocking of NativeRoute is 1: "),
        (native(bodies=[Parameter]), TypeError, IN + "name of type is "),
    ],
)
def test_refused_entry(entry: Any, error: type[Exception], message: str) -> None:
    """What is missing or not known is said, with what was seen and what is allowed: nothing is served by a guess."""
    with pytest.raises(error, match=message):
        Router([compiled(), entry], True)


def test_refused_template() -> None:
    with pytest.raises(ValueError, match="two parameters named x"):
        Router([Entry("/{x}/{x}", ("GET",), "route", None, "")], True)


def test_every_word_is_known() -> None:
    """The words that Python's types allow are those that Rust reads."""
    entries = [Entry("/a", (), kind, None, "") for kind in get_args(get_type_hints(Entry)["kind"])]
    entries += [parameter(source=source, names=("id",)) for source in get_args(Source)]
    entries += [parameter(kind=kind) for kind in get_args(Kind)]
    assert len(entries) == 3 + 4 + 5
    Router(entries, True)
