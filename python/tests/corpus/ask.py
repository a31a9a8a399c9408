# ruff: noqa: E501 - tables of inputs read best as long lines
"""What is asked: a request in its parts, and the same spoilt in each of them.

A route declares what a good request is. Here that becomes missing, wrong, repeated and hostile ones (`spoilt`), in an order that is always
the same, and by chance (`mutated`, with hypothesis).
"""

import dataclasses
import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from differential import request
from hypothesis import strategies as st

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Ask:
    """One request. Texts are as they are sent, percent-encoded; in a header or a cookie they are decoded before."""

    path: str
    """With `{}` in the place of each of `values`."""
    method: str = "GET"
    values: Pairs = ()
    """In the path; the names are only for who reads."""
    query: Pairs = ()
    headers: Pairs = ()
    cookies: Pairs = ()
    form: Pairs | None = None
    body: bytes | None = None
    """Instead of a form."""
    content_type: str | None = None
    before: str = ""
    """The action of the part that puts its app into the state in which it is asked."""

    def raw(self) -> bytes:
        """The bytes that are sent."""
        target = self.path.format(*(text for _, text in self.values))
        if self.query:
            target += "?" + joined(self.query, "&")
        headers: list[tuple[str, str | bytes]] = [(name, octets(text)) for name, text in self.headers]
        if self.cookies:
            headers.append(("Cookie", octets(joined(self.cookies, "; "))))
        body, content_type = self.body, self.content_type
        if self.form is not None:
            body, content_type = joined(self.form, "&").encode(), content_type or "application/x-www-form-urlencoded"
        if content_type:
            headers.append(("Content-Type", content_type))
        return request(self.method, target.encode(), *headers, body=body)


def joined(pairs: Pairs, between: str) -> str:
    return between.join(f"{name}={text}" for name, text in pairs)


def octets(text: str) -> bytes:
    """Decoded, without what HTTP cannot carry in a header."""
    return re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", urllib.parse.unquote_to_bytes(text)).strip(b" \t")


def with_json(path: str, value: Any, method: str = "POST", **parts: Any) -> Ask:
    return Ask(path, method, body=json.dumps(value).encode(), content_type="application/json", **parts)


@dataclass(frozen=True)
class File:
    """One part of a multipart body."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str | None = None

    def octets(self) -> bytes:
        head = f'--x\r\nContent-Disposition: form-data; name="{self.name}"'
        if self.filename is not None:
            head += f'; filename="{self.filename}"'
        if self.content_type is not None:
            head += f"\r\nContent-Type: {self.content_type}"
        return head.encode() + b"\r\n\r\n" + self.content + b"\r\n"


def with_files(path: str, *files: File, method: str = "POST") -> Ask:
    body = b"".join(file.octets() for file in files) + b"--x--\r\n"
    return Ask(path, method, body=body, content_type="multipart/form-data; boundary=x")


#: What may stand where a value is due.
TEXTS = [
    "", "x", "-1", "0", "5", "1.5", "true", "%205", "5%20", "1e400", "nan", "9" * 19, "%D9%A3", "a%00b", "%ED%A0%80", "%C3%A9", "%", "null", "[1]",
    "1,2", "a" * 2000, "%3Cscript%3E%22", "2026-01-02", "a;b", "+",
]  # fmt: skip

#: What may stand where a JSON value is due.
JSONS = [None, "x", "", "5", 1, -1, 1.5, True, [], {}, [1], {"a": 1}, "2026-01-02T03:04:05Z", 10**30]

#: What may come instead of a whole JSON body.
BODIES = [
    b"", b" ", b"null", b"{}", b"[]", b"1", b'"x"', b"true", b"{", b'{"a": 1,}', b"[NaN]", b'{"a": Infinity}', b'{"a": 1}x', b"\xff", b'"\\ud800"',
    b"\xef\xbb\xbf{}", b'[{"a": 1}]', b"[" * 300 + b"]" * 300, b"a=1&b=2",
]  # fmt: skip

CONTENT_TYPES = ["", "text/plain", "application/problem+json", "application/JSON; charset=utf-8", "application/x-www-form-urlencoded",
                 "multipart/form-data", "multipart/form-data; boundary=y", "application", "a/b/c", "application/json, text/plain"]  # fmt: skip

PLACES = ("values", "query", "headers", "cookies", "form")


def spoilt(ask: Ask) -> Iterator[Ask]:
    """A good request, then worse ones: each of its parts missing, wrong, repeated, under another name."""
    yield ask
    places = [(place, at) for place in PLACES for at in range(len(getattr(ask, place) or ()))]
    for place, at in places:
        pairs = getattr(ask, place)
        name, text = pairs[at]
        for wrong in TEXTS:
            yield replaced(ask, place, at, (name, wrong))
        if place == "values":
            continue
        yield replaced(ask, place, at)
        yield replaced(ask, place, at, (name, text), (name, "x"))
        yield replaced(ask, place, at, (name, "x"), (name, text))
        yield replaced(ask, place, at, (name, text), (name, text))
        yield replaced(ask, place, at, (name.upper(), text))
        yield replaced(ask, place, at, (name, text), ("more", "1"))
        if place != "headers":
            yield replaced(ask, place, at, (name + "[]", text))
    if len(places) > 1:
        yield dataclasses.replace(ask, **{place: tuple((name, "x") for name, _ in getattr(ask, place)) for place, _ in places})
        yield dataclasses.replace(ask, query=(), headers=(), cookies=(), form=None if ask.form is None else ())
    if ask.body is not None or ask.form is not None:
        yield from _other_bodies(ask)
    elif ask.method == "GET":
        yield dataclasses.replace(ask, body=b'{"a": 1}', content_type="application/json")
    yield dataclasses.replace(ask, method="PATCH" if ask.method != "PATCH" else "GET")


def replaced(ask: Ask, place: str, at: int, *pairs: tuple[str, str]) -> Ask:
    """With these pairs instead of the one that stands there."""
    before = getattr(ask, place)
    return dataclasses.replace(ask, **{place: (*before[:at], *pairs, *before[at + 1 :])})


def _other_bodies(ask: Ask) -> Iterator[Ask]:
    yield dataclasses.replace(ask, body=None, form=None, content_type=None)
    for content_type in CONTENT_TYPES:
        yield dataclasses.replace(ask, content_type=content_type)
    for body in BODIES:
        yield dataclasses.replace(ask, form=None, body=body, content_type=ask.content_type or "application/x-www-form-urlencoded")
    if ask.body is None:
        return
    yield dataclasses.replace(ask, body=ask.body[:-1])
    yield dataclasses.replace(ask, body=ask.body[: len(ask.body) // 2])
    yield dataclasses.replace(ask, body=ask.body + ask.body)
    yield dataclasses.replace(ask, body=b" \n" + ask.body + b"\t")
    if ask.content_type == "application/json":
        value = json.loads(ask.body)
        for other in JSONS:
            yield dataclasses.replace(ask, body=json.dumps(other).encode())
        for other in _other_values(value, depth=2):
            yield dataclasses.replace(ask, body=json.dumps(other).encode())
        if isinstance(value, dict) and value:
            twice = ask.body[:-1] + b", " + json.dumps(dict.fromkeys(value, "x")).encode()[1:]
            yield dataclasses.replace(ask, body=twice)


def _other_values(value: Any, depth: int) -> Iterator[Any]:
    """The same with one of its items missing or another."""
    if not depth or not isinstance(value, dict | list):
        return
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield [*value[:at], *value[at + 1 :]]
            for other in (*JSONS[::3], *_other_values(item, depth - 1)):
                yield [*value[:at], other, *value[at + 1 :]]
        return
    for key, item in value.items():
        yield {name: kept for name, kept in value.items() if name != key}
        for other in (*JSONS, *_other_values(item, depth - 1)):
            yield {**value, key: other}
    yield {**value, "more": 1}


#: Names that may be added: those of our own declarations among them, and what looks like them.
NAMES = ["a", "b", "q", "x", "limit", "tag", "token", "x-token", "X-Token", "x_token", "session", "more", "", "a[]", "A"]

_texts = st.one_of(
    st.sampled_from(TEXTS),
    st.text(max_size=8).map(lambda text: urllib.parse.quote(text.encode("utf-8", "surrogatepass"), safe="")),
    st.text("0123456789eE+-._%aF ", max_size=10).map(lambda text: text.replace(" ", "+")),
    st.integers().map(str),
    st.floats().map(str),
)
_json_leaves = st.one_of(st.sampled_from(JSONS), st.integers(), st.floats(), st.text(max_size=4))
_jsons = st.recursive(
    _json_leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3), max_leaves=5
)


@st.composite
def mutated(draw: st.DrawFn, asks: list[Ask]) -> Ask:
    """One of these, with up to three of its parts changed."""
    ask = draw(st.sampled_from(asks))
    for _ in range(draw(st.integers(1, 3))):
        ask = draw(st.sampled_from([_pair, _more, _octets]))(draw, ask)
    return ask


def _pair(draw: st.DrawFn, ask: Ask) -> Ask:
    places = [(place, at) for place in PLACES for at in range(len(getattr(ask, place) or ()))]
    if not places:
        return _more(draw, ask)
    place, at = draw(st.sampled_from(places))
    name = getattr(ask, place)[at][0]
    times = 1 if place == "values" else draw(st.integers(0, 3))
    return replaced(ask, place, at, *((name, draw(_texts)) for _ in range(times)))


def _more(draw: st.DrawFn, ask: Ask) -> Ask:
    place = draw(st.sampled_from(["query", "headers", "cookies", "form"]))
    name, text = draw(st.sampled_from(NAMES)), draw(_texts)
    if place == "headers" and not re.fullmatch("[A-Za-z_-]+", name):
        return ask
    if place == "form" and ask.form is None:
        return ask
    return dataclasses.replace(ask, **{place: (*(getattr(ask, place) or ()), (name, text))})


def _octets(draw: st.DrawFn, ask: Ask) -> Ask:
    if ask.body is None:
        return _pair(draw, ask)
    kind = draw(st.sampled_from(["json", "cut", "insert", "type"]))
    if kind == "type":
        return dataclasses.replace(ask, content_type=draw(st.sampled_from(CONTENT_TYPES)))
    if kind == "json":
        return dataclasses.replace(ask, body=json.dumps(draw(_jsons)).encode())
    at = draw(st.integers(0, len(ask.body)))
    more = draw(st.sampled_from([b"null", b"1e999", b'"', b",", b"}", b"\x00", b"\xc3", b"NaN", b"\r\n"])) if kind == "insert" else b""
    return dataclasses.replace(ask, body=ask.body[:at] + more + ask.body[at + (kind == "cut") :])
