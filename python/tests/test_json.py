"""The native JSON writer, through a route: the bytes of Python's own encoder after FastAPI's, or a 500 where that raises."""

import json

import pytest
from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire import Peer

from turboapi.testing import TestServer

pytestmark = pytest.mark.above_platform

app, returned = FastAPI(), [None]


@app.get("/def")
def function():
    return returned[0]


@app.get("/async")
async def coroutine():
    return returned[0]


@pytest.fixture(scope="module")
def peer():
    with TestServer(app) as server, Peer(server.port) as peer:
        yield peer


def check(peer, value, path="/def"):
    returned[0] = value
    answer = peer.get(path)
    try:
        text = json.dumps(jsonable_encoder(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        expected = (200, text.encode())
    except (ValueError, RecursionError, TypeError):
        expected = (500, b"Internal Server Error")
    assert (answer.status, answer.body) == expected


#: Every code point, surrogates too, and with more weight those that JSON escapes or that end a string of one width.
characters = st.one_of(
    st.characters(), st.characters(categories=["Cs"]), st.sampled_from('\x00\x1f\x7f\x80\xff"\\/\b\f\n\r\t\u2028\uffff😀')
)
texts = st.text(characters, max_size=20) | st.text(st.characters(codec="ascii"), max_size=200)
numbers = st.integers() | st.floats() | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 1e16, 1e-5, 5e-324, 1e22, -0.0, 10**400])
keys = texts | st.sampled_from(["_sa", "_sa_instance_state", "_s", '_"sa', "\x00_sa"])
odd_keys = st.one_of(st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False))
plain = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5) | st.tuples(inner, inner),
    max_leaves=30,
)
mixed = st.recursive(
    plain | st.binary(max_size=5) | st.sets(st.integers(), max_size=3) | st.dates() | st.uuids() | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | odd_keys, inner, max_size=3),
    max_leaves=10,
)
quickly = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@given(value=plain)
@settings(quickly, max_examples=500)
def test_plain_values(peer, value):
    check(peer, value)


@given(value=mixed)
@settings(quickly, max_examples=150)
def test_values_of_other_types(peer, value):
    check(peer, value, "/async")


@given(text=st.text(characters))
@settings(quickly, max_examples=300)
def test_texts(peer, text):
    check(peer, text)
    check(peer, {text: text})


@given(number=st.floats())
@settings(quickly, max_examples=300)
def test_floats(peer, number):
    check(peer, number)


def test_every_byte_in_a_text(peer):
    for start in range(0, 0x3000, 64):
        check(peer, "".join(map(chr, range(start, start + 64))))
    for code in range(256):
        check(peer, f"a{chr(code)}b")


def nested(depth, inner=None):
    for _ in range(depth):
        inner = [{"a": inner}]
    return inner


class Text(str):
    __slots__ = ()


class Number(int):
    pass


cycle = {}
cycle["cycle"] = [cycle]
shared = [1, 2]


VALUES = [
    {},
    [],
    (),
    "",
    0,
    -0.0,
    True,
    None,
    [[], {}, (), ""],
    nested(31),
    nested(32),
    nested(33),
    nested(80),
    [shared, shared],
    cycle,
    {"_sa": 1},
    {"_sa": object(), "a": 1},
    {"a": 1, "_sa_x": 2, "b": 3, "_sa": 4},
    {"x": {"_sa": 1}},
    {1: "a", "1": "b"},
    {None: 1, True: 2, 1.5: 3},
    {(1, 2): 3},
    {"a": float("nan")},
    float("-inf"),
    "\ud800",
    {"\udfff": 1},
    "\ud83d\ude00",
    10**400,
    10**5000,
    Text("sub"),
    {Text("sub"): Text("_sa")},
    Number(7),
    [Number(7), 7, True],
    {"é": "ü", "日本": "語", "😀": "\U0010ffff"},
    b"bytes",
    b"\xff",
    {1, 2},
    frozenset([1]),
    range(3),
]


@pytest.mark.parametrize("index", range(len(VALUES)))
def test_values(peer, index):
    check(peer, VALUES[index])
