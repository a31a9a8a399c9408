# ruff: noqa: E501 - tables of inputs read best as long lines
"""Every form of argument (argument_cases.py) under our server, natively and by the app's own call, and under uvicorn: the same answers, byte for
byte, and the same order of what the app itself sees; and that it is natively where the installed FastAPI reads arguments as we know it."""

import contextlib
import itertools
import json
import re
import urllib.parse
from collections.abc import Iterator

import fastapi.routing
import pytest
from argument_cases import VARIANTS, make_app
from differential import Answer, Connection, Pair, json_request, request, serve_ours, serve_uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ways import OwnRoute

from turboapi.plan import rules
from turboapi.plan.routes import compile_app

pytestmark = [
    pytest.mark.filterwarnings("ignore:Duplicate Operation ID"),
    pytest.mark.skipif(
        not (rules.rules().models_are_known and rules.rules().takes_null), reason="this FastAPI knows other forms of arguments"
    ),
]


@contextlib.contextmanager
def pair_of(theirs: FastAPI, ours: FastAPI) -> Iterator[Pair]:
    # FastAPI keeps by its address where an endpoint is written, and one of another test, which has gone, may have stood there.
    fastapi.routing._endpoint_context_cache.clear()
    with serve_uvicorn(theirs) as their_address, serve_ours(ours) as our_address:
        pair = Pair(their_address, our_address)
        yield pair
        pair.close()


@pytest.fixture(scope="module")
def plain() -> Iterator[Pair]:
    with pair_of(make_app(), make_app()) as pair:
        yield pair


@pytest.fixture(scope="module", params=list(VARIANTS))
def variant(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with pair_of(make_app(request.param), make_app(request.param)) as pair:
        yield pair


@pytest.fixture(scope="module")
def own_call() -> Iterator[Pair]:
    """Our server with the app's own call for each request."""
    with pair_of(make_app(), make_app(route_class=OwnRoute)) as pair:
        yield pair


def check(pair: Pair, raw: bytes) -> Answer:
    """One request, and what the apps have seen of it."""
    answer = pair.check(raw)
    pair.check(request("GET", "/events"))
    return answer


def paths(start: str) -> list[str]:
    return [path for route in make_app().routes if (path := getattr(route, "path", "")).startswith(start)]


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_route_is_native(name: str) -> None:
    table = [entry for entry in compile_app(make_app(name)) if entry.template]
    assert len(table) > 90
    assert [entry for entry in table if entry.native is None] == []


def test_no_route_of_another_class_is_native() -> None:
    assert all(entry.native is None for entry in compile_app(make_app(route_class=OwnRoute)))


def test_what_the_app_can_see() -> None:
    loud = {entry.template for entry in compile_app(make_app()) if entry.native and entry.native.runs_app_code}
    # How pydantic makes a deque is not known for certain.
    unsure = {f"/several/{source}/deque" for source in ("query", "header", "cookie")}
    # Those with dependencies convert what the app sees within one function with these.
    assert loud == {*paths("/watched/"), "/query/constrained", *unsure} - set(paths("/watched/depends"))


# Queries.

QUERIES = [
    "", "a=1", "a=", "a=x", "a=1&a=2", "a=1&b=2", "a=1&b=2&b=3", "skip=3&limit=10&tags=a&tags=b", "limit=101", "limit=x&skip=y", "skip=1&skip=x", "tags=", "tags",
    "tags=a&tags=", "&&tags=a&&", "many=1&many=2&a=5", "many=1&many=x&a=", "many=&a=1", "color=red&a=1", "color=green&a=1", "color=&a=1", "pair=1&pair=b", "pair=1", "pair=x&pair=b&pair=c",
    "itemName=n", "item_name=n", "itemName=n&item_name=m", "item_name=m&itemName=n", "itemName=a&itemName=b", "Other-Name=5&itemName=x", "other=5&itemName=x", "other-name=5&itemName=x",
    "e1=5&itemName=x", "e2=5&itemName=x", "e2=5&e1=6&itemName=x", "e1=x&e2=5&itemName=", "text=[1,2]&itemName=x", "text=[1&itemName=x", "text=&itemName=x", "text=[1]&text=[2]&itemName=x", "text=null&itemName=n",
    "first_name=1&second=2.5", "firstName=1&Second=2", "first_name=1&first_name=x&second=y", "first-name=1", "first_name=&second=",
    "the_value=1", "the_value=1&the_value=2", "the_value=1&the_value=x&the_value=3", "the_value=", "the_value", "the_value=a&the_value=", "the_value=red&the_value=blue", "the_value=2026-01-02",
    "the_value=[1,2]", "the_value=[1,2", 'the_value={"a":2}', "the_value=null", "the_value=[]", "the_value=1&the_value=[2]", "b=1&c-d=2", "c-d=2&c-d=3", "b=x&c-d=2", "b=&the_value=", "the_value=4&the_value=5&the_value=6",
    "limit=5&skip=2&q=x", "limit=5&a=1", "q=1&q=2&limit=5&a=x", "=", "=5", "&", "a", "a=%31", "%61=1", "a=%zz", "a=%FF", "%FF=1", "a=1&%FF=2&%FF=3", "a=%00", "%00=1&a=1", "a=1&%C3%A9=%C3%A9", "a=+1", "a+=1", "a=1+",
    "a=1&extra=" + "x" * 3000, "&".join(f"a={n}" for n in range(700)), "&".join(f"n{n}={n}" for n in range(700)) + "&a=1", "&".join(["many=1"] * 700) + "&a=1", "A=1", "a[]=1", "a=1;b=2", "a=1&=2&=3", "tags[]=x",
    "_sa_x=1&a=x", "_sa_x=1&limit=y", "__class__=1&a=1", "model_config=1&a=1", "self=1", "a=1&a=", "n=4", "n=x&m=y", "n=1", "q=5", "q=x&q=6&n=2",
]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [*paths("/query/"), *paths("/several/query/"), *(path for path in paths("/mixed/") if "/all" not in path and "bodies" not in path)],
)
def test_queries(plain: Pair, path: str) -> None:
    for query in QUERIES:
        check(plain, request("GET", f"{path}?{query}"))
    check(plain, request("GET", path))


LINES = [
    [], [("x-token", "5")], [("X-Token", "5"), ("x-TOKEN", "6")], [("x_token", "5")], [("x_token", "5"), ("x-token", "6")], [("x-many", "1"), ("x-many", "x")], [("x-many", "1, 2")],
    [("x-token", "a"), ("x-many", "1"), ("X-Many", "2"), ("x_many", "3")], [("x-token", ""), ("accept-language", "de")], [("upper-case", "1"), ("x-token", "b")], [("Upper_Case", "1"), ("x-token", "b")],
    [("Upper-Case", "maybe"), ("X_Plain", "-1"), ("x-token", "b")], [("x-plain", "2"), ("x-token", "b")], [("x_plain", "2"), ("x-token", "b")], [("x-one", "4")], [("xone", "4"), ("x-one", "5")], [("xOne", "y")],
    [("x-two", "a"), ("x-two", "b"), ("x-two", "a")], [("x-two", "")], [("the-value", "1")], [("the-value", "1"), ("The-Value", "x")], [("the_value", "1")], [("the-value", "")], [("the-value", "1"), ("the-value", "2"), ("the-value", "3")],
    [("the-value", "[1]")], [("b", "3"), ("c-d", "4")], [("c-d", "x")], [("x-token", b"\xe9\xff"), ("x-odd", b"\xfc")], [("limit", "101"), ("skip", "x"), ("tags", "a"), ("tags", "b")], [("skip", "1"), ("tags", "")],
    [("x-other", "1"), ("x-other", "2"), ("x-token", "z")], [("content-length", "0"), ("x-token", "1")], [("first-name", "1"), ("x-token", "q"), ("accept-language", "a"), ("accept-language", "b")],
]  # fmt: skip


@pytest.mark.parametrize("path", [*paths("/header/"), *paths("/rawheader/"), *paths("/several/header/")])
def test_headers(plain: Pair, path: str) -> None:
    for lines in LINES:
        check(plain, request("GET", path, *lines))


COOKIES = [
    [], ["x_token=5"], ["x_token=5; x_token=6"], ["x_token=5", "x_token=6"], ["x-token=5"], ["x_token=a; x_many=1; x_many=2"], ["x_many=1"], ["x_many="], ["x_token="], ["x_token"], ["=5"], ["x_token=a; extra=1; extra=2"],
    ["host=a; x_token=3"], ["host=a; x_token=x; content_length=5"], ["host=a; y=1; z=2; y=3"], ["xOne=4; x_two=a"], ["x_one=y; xOne=5"], ["x_one=y"], ["the_value=1"], ["the_value=[1,2]"], ["the_value="], ['the_value="a\\"b"'], ["the_value=red"],
    ["b=3; c-d=4"], ["c-d=x"], ["the_value=1; the_value=2"], ["limit=101; skip=x; tags=a"], ["skip=1; tags="], [b"x_token=\xe9; \xfc=1"], ["plain=1; X_Plain=2; x_token=t; Upper_Case=1; accept_language=de"], ["X_Plain=0; x_token=t"], ["; ;"],
]  # fmt: skip


@pytest.mark.parametrize("path", [*paths("/cookie/"), *paths("/several/cookie/")])
def test_cookies(plain: Pair, path: str) -> None:
    for cookies in COOKIES:
        check(plain, request("GET", path, *(("Cookie", cookie) for cookie in cookies)))


JSON = [
    b"", b" ", b"null", b" null", b"true", b"5", b'"5"', b'"x"', b"5.0", b"[]", b"[1, 2]", b'["x"]', b"{}", b'{"x": 1}', b'{"x": "y"}', b'{"name": "n"}', b'{"name": ""}', b'{"name": "n", "points": [{"x": "a"}, {"y": 1}]}',
    b'[{"x": 1}, {"x": "y"}, 3]', b'{"the_value": 1}', b'{"the_value": null}', b'{"the_value": {"x": 1}}', b'{"the_value": {"x": "y"}, "more": 1}', b'{"other": 5}', b'{"other": null}', b'{"other": "x"}', b'{"a": 1}', b'{"b": 2}', b'{"a": null, "b": 2}',
    b'{"b": "x"}', b'{"a": {"x": 1}, "b": {"name": "n"}, "C": [4]}', b'{"a": {"x": 1}, "b": null, "C": null}', b'{"a": {"x": 1}, "c": [4]}', b'{"a": {"x": "z"}, "b": {"name": ""}, "C": ["q"]}', b'{"item": {"name": "n"}, "point": null, "n": 9}',
    b'{"item": {"name": ""}, "point": {"x": "a"}, "n": 1}', b'{"a": 1, "a": 2}', b"NaN", b'{"x": NaN}', b'{"x": Infinity, "y": -Infinity}', b'{"name": "\\ud800"}', b'{"x": "\\ud800"}', b'"\\ud800"', b'{"the_value": "\\ud800"}', b"[1", b'{"x": 1,}', b"nul", b'{"x": 1e400}',
    b'{"x": "1e400"}', b'{"x": ' + b"9" * 400 + b"}", b'{"x": ' + b"9" * 5000 + b"}", b'\xef\xbb\xbf{"x": 1}', b'{"x": "\xff"}', '{"x": 1}'.encode("utf-16"), b"[" * 150 + b"]" * 150, b"[" * 500 + b"]" * 500, b"[" * 100_000, b'{"_sa_x": 1}', b'{"name": 5, "_sa_y": 2}',
    b'{"x": {"_sa": 1, "b": 2}}', b'{"x": [1.5, 1e22, 1e-7, 123456789012345678901234567890]}', b'{"x": "' + b"z" * 3000 + b'"}', b'{"x": 1, "y": "wrong"}', b'{"x": -1}', b'{"x": -2}', b'{"x": -3}', b'{"b": {"x": 1}, "c": 2, "d": "wrong"}', b'{"b": {"x": -1}, "c": -1, "d": "e"}', b'{"c": 1}',
]  # fmt: skip


@pytest.mark.parametrize("path", [*paths("/body/"), "/mixed/bodies"])
def test_bodies(plain: Pair, path: str) -> None:
    for body in JSON:
        check(plain, json_request(path, body))
    for content_type in (
        "application/json; charset=utf-8",
        "application/vnd.api+json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "",
    ):
        for body in (b"", b"null", b'{"x": 1}', b"5", b'{"the_value": {"x": 1}}'):
            check(plain, json_request(path, body, content_type))
    check(plain, request("POST", path))
    check(plain, request("POST", path, body=b'{"x": 1}'))


def mixed(a: str, query: str, body: bytes, *lines: tuple[str, str]) -> bytes:
    return request("PUT", f"/mixed/all/{a}?{query}", ("Content-Type", "application/json"), *lines, body=body)


MIXED = [
    mixed("1", "tags=1&tags=2", b'{"item": {"name": "n"}}', ("Cookie", "c=1"), ("x-token", "t")),
    mixed("x", "tags=y", b'{"item": {"name": ""}, "n": 1}', ("Cookie", "c=z"), ("x-many", "w")),
    mixed("100", "", b"", ("x-token", "t")),
    mixed("100", "", b"[]", ("x-token", "t")),
    mixed("100", "tags=", b"{", ("x-token", "t")),
    mixed("5", "", b'{"item": null, "point": {"x": 1}, "n": null}', ("Cookie", "c=1"), ("x-token", "t"), ("X_Plain", "-1")),
]

WATCHED = [
    *(request("GET", f"/watched/def/{a}?q={q}&n={n}") for a, q, n in itertools.product(["1", "-1", "-2", "-3", "x"], ["e", "wrong", "key", "teapot"], ["1", "x"])),
    *(request("GET", f"/watched/async/{a}?q={q}&n={n}", ("h", h)) for a, q, h, n in itertools.product(["1", "x"], ["1", "-1", "-3"], ["e", "wrong"], ["1", "x"])),
    *(request("GET", f"/watched/model?{query}") for query in ("", "x=1", "x=-1&q=1&q=-1", "x=-1&n=x", "x=y&q=-3", "q=-2&x=-1", "q=1&q=2&n=4", "x=1&x=-1&y=z&y=w")),
    *(json_request(f"/watched/body?q={q}", body) for q, body in itertools.product(["1", "-1", "-2", "x"], [b"{}", b'{"x": -1}', b'{"x": -3}', b"[", b"", b'{"x": "\\ud800"}'])),
    *(json_request(f"/watched/bodies?q={q}", body) for q in ("1", "-1") for body in JSON[-12:]),
    *(json_request(f"/watched/depends?{query}", body) for query, body in itertools.product(["", "q=-1&t=wrong", "q=-2", "n=x&t=key"], [b"{}", b'{"x": -1}', b'{"x": -3}', b"[", b"", b"5"])),
    *(json_request(f"/watched/depends/bodies/{p}?{query}", body) for (p, query), body in itertools.product([("1", ""), ("x", ""), ("1", "limit=x"), ("1", "limit=101&skip=1")], [b"", b"[]", b'{"c": 1}', b'{"c": -1, "d": "x", "E": "wrong"}', b'{"c": 2, "d": 4, "E": "f"}', b'{"c": -3}'])),
    *(request("GET", f"/watched/made?{query}") for query in ("", "n=1", "n=x", "a=1&n=2", "a=1&b=-1&n=x", "b=2&n=2", "b=-3&n=2")),
    *(json_request("/watched/made?c=x", body) for body in (b"", b"5", b'"x"')),
    *(json_request(f"/watched/email?q={q}", body) for q, body in itertools.product(["1", "-1"], [b'{"a": " b "}', b'{"a": 1}'])),
]  # fmt: skip

SAMPLE = [
    request("GET", "/query/page?limit=101&skip=x"), request("GET", "/query/page?limit=5"), request("GET", "/query/strictly?b=1&b=2"), request("GET", "/several/query/list?the_value=x"),
    request("GET", "/several/query/short?the_value=1&the_value=2&the_value=3"), request("GET", "/header/lines", ("x-many", "x")), request("GET", "/header/strict", ("x-token", "x")), request("GET", "/cookie/lines", ("Cookie", "X_Plain=0")),
    request("GET", "/mixed/query?limit=x&a=1"), request("GET", "/mixed/refused"), request("GET", "/mixed/constant?n=1"), request("GET", "/query/page?limit=x", ("Origin", "https://example.com")), request("GET", "/query/page", ("Origin", "https://other.example")),
    *(json_request(path, body) for path in ("/body/model", "/body/embedded", "/body/refused-default", "/mixed/bodies") for body in JSON[::3]),
    *(json_request("/body/model", body) for body in (b'{"name": "\\ud800", "points": 1}', b'"\\ud800"', b'{"x": "\xff"}', b"[1")), *MIXED,
]  # fmt: skip


@pytest.mark.parametrize("number", range(3))
def test_what_the_app_sees(variant: Pair, number: int) -> None:
    """Several times: a function earns the worker's own thread after some calls."""
    for raw in WATCHED if number < 2 else [*WATCHED, *SAMPLE]:
        check(variant, raw)


def test_no_request_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even with wrong arguments. FastAPI asks where an endpoint is written for each request that it answers itself."""
    asked: list[object] = []
    monkeypatch.setattr("fastapi.routing._extract_endpoint_context", lambda endpoint: asked.append(endpoint) or {})
    queries = [request("GET", f"{path}?{query}") for path in [*paths("/query/"), *paths("/several/query/")] for query in QUERIES[::7]]
    lines = [request("GET", path, *sent) for path in [*paths("/header/"), *paths("/cookie/")] for sent in LINES[::5]]
    bodies = [json_request(path, body) for path in paths("/body/") for body in JSON if not HANDED_OVER.search(body)]
    for name in ("plain", "around", "around-handler"):
        with serve_ours(make_app(name)) as address:
            connection = Connection(address)
            # What is wrong with the arguments of dependencies, or beside them, is for the app.
            watched = [raw for raw in WATCHED if b"/watched/depends" not in raw]
            for raw in [*watched, *MIXED, *queries, *lines, *bodies]:
                connection.ask(raw)
                assert asked == [], raw
            connection.close()


#: What is no UTF-8, what is no JSON in an error that has it, and what Python does not read.
HANDED_OVER = re.compile(rb"\\ud800|\xff|NaN|Infinity|1e400|\[{1000}|9{1000}")


def test_the_apps_own_call(own_call: Pair) -> None:
    for raw in [*WATCHED, *SAMPLE]:
        check(own_call, raw)
    for path in [*paths("/query/"), *paths("/several/query/")]:
        for query in QUERIES[::5]:
            own_call.check(request("GET", f"{path}?{query}"))


def test_connection_stays_open_after_an_error(plain: Pair) -> None:
    """The answer is no different from any other's: the next request of the same connection is answered."""
    plain.check(request("GET", "/query/page"))
    before = plain.ours.socket
    for _ in range(3):
        plain.check(request("GET", "/query/page?limit=x"))
        assert plain.ours.socket is before is not None
    plain.check(request("GET", "/query/page?limit=x", ("Connection", "close")))


def test_words_are_right(plain: Pair) -> None:
    """So that this is not only the same as FastAPI's, but what one expects: a look at one answer."""
    answer = plain.check(request("GET", "/mixed/query?limit=x&skip=y"))
    assert answer.status == 422 and dict(answer.headers)[b"content-type"] == b"application/json"
    first, *further = json.loads(answer.body)["detail"]
    message = "Input should be a valid integer, unable to parse string as an integer"
    assert first == {"type": "int_parsing", "loc": ["query", "skip"], "msg": message, "input": "y"}
    assert [line["loc"] for line in further] == [
        ["query", "limit"],
        ["query", "a"],
        ["query", "limit"],
        ["query", "skip"],
        ["query", "limit"],
    ][: len(further)]


# Random input.

PLENTY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
names = st.sampled_from(
    [
        "a",
        "b",
        "many",
        "skip",
        "limit",
        "tags",
        "pair",
        "itemName",
        "item_name",
        "Other-Name",
        "e1",
        "e2",
        "text",
        "first_name",
        "second",
        "the_value",
        "c-d",
        "color",
        "q",
        "n",
        "",
        "é",
    ]
)
values = st.one_of(
    st.sampled_from(["", "1", "2", "-1", "x", "red", "[1]", "null", " 1 ", "1.5", "true", "\x00", "é"]),
    st.text(max_size=4, alphabet=st.characters(exclude_categories=["Cs"])),
)


@PLENTY
@given(
    path=st.sampled_from([*paths("/query/"), *paths("/several/query/"), *paths("/mixed/query"), *paths("/watched/model")]),
    pairs=st.lists(st.tuples(names, values), max_size=7),
)
def test_any_query(plain: Pair, path: str, pairs: list[tuple[str, str]]) -> None:
    check(plain, request("GET", f"{path}?{urllib.parse.urlencode(pairs)}"))


@PLENTY
@given(path=st.sampled_from([*paths("/query/"), *paths("/several/query/")]), query=st.text("a=&+%;bmany12the_value[]é", max_size=30))
def test_any_raw_query(plain: Pair, path: str, query: str) -> None:
    check(plain, request("GET", f"{path}?{urllib.parse.quote(query, safe='=&+%;[]_')}"))


line_names = st.sampled_from(
    [
        "x-token",
        "X_Token",
        "x-many",
        "x_many",
        "upper-case",
        "Upper_Case",
        "X_Plain",
        "x-plain",
        "x-one",
        "xone",
        "x-two",
        "the-value",
        "the_value",
        "limit",
        "skip",
        "tags",
        "other",
        "b",
        "c-d",
    ]
)
line_values = st.one_of(st.sampled_from(["", "1", "2", "x", "true", "[1]", "1.5"]), st.text("ab1é\xff\t ", max_size=4).map(str.strip))


@PLENTY
@given(
    path=st.sampled_from([*paths("/header/"), *paths("/rawheader/"), *paths("/several/header/")]),
    lines=st.lists(st.tuples(line_names, line_values), max_size=7),
)
def test_any_headers(plain: Pair, path: str, lines: list[tuple[str, str]]) -> None:
    check(plain, request("GET", path, *((name, value.encode("latin-1")) for name, value in lines)))


@PLENTY
@given(
    path=st.sampled_from([*paths("/cookie/"), *paths("/several/cookie/")]),
    cookies=st.lists(st.tuples(line_names.map(lambda name: name.replace("-", "_")), line_values), max_size=7),
)
def test_any_cookies(plain: Pair, path: str, cookies: list[tuple[str, str]]) -> None:
    check(plain, request("GET", path, ("Cookie", "; ".join(f"{name}={value}" for name, value in cookies).encode("latin-1"))))


leaves = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False), st.text(max_size=3))
keys = st.sampled_from(["a", "b", "C", "c", "d", "x", "y", "name", "points", "the_value", "other", "item", "point", "n", "_sa"])
trees = st.recursive(leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)), max_leaves=8)


@PLENTY
@given(path=st.sampled_from([*paths("/body/"), "/mixed/bodies", "/watched/body", "/watched/bodies"]), body=trees, ascii=st.booleans())
def test_any_body(plain: Pair, path: str, body: object, ascii: bool) -> None:
    check(plain, json_request(path, json.dumps(body, ensure_ascii=ascii).encode("utf-8", "surrogatepass")))
