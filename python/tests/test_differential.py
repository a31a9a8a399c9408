# ruff: noqa: E501 - tables of inputs read best as long lines
"""The same app under our server and under uvicorn: same status, headers (but server and date) and body, byte for byte, for good and bad input.

`TURBOAPI_DIFFERENTIAL=h11` compares uvicorn on httptools with uvicorn on h11 instead: it tests this file, not the server.
"""

import urllib.parse
from collections.abc import Iterator

import differential_app
import pytest
from differential import Pair, json_request, request, serve_ours, serve_uvicorn
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.above_platform, pytest.mark.filterwarnings("ignore:Duplicate Operation ID")]


@pytest.fixture(scope="module", params=list(differential_app.VARIANTS))
def variant(request: pytest.FixtureRequest) -> Iterator[Pair]:
    make = differential_app.VARIANTS[request.param]
    with serve_uvicorn(make()) as theirs, serve_ours(make()) as ours:
        pair = Pair(theirs, ours)
        yield pair
        pair.close()


@pytest.fixture(scope="module")
def plain() -> Iterator[Pair]:
    with serve_uvicorn(differential_app.make_app()) as theirs, serve_ours(differential_app.make_app()) as ours:
        pair = Pair(theirs, ours)
        yield pair
        pair.close()


VALUES = [
    "", " ", "5", " 5", "5 ", "\t5", "-5", "+5", "--5", "-0", "0", "00", "007", "1_0", "_1", "1_", "1__0", "5.0", "5.00", "5.5", "5.", ".5",
    "1e5", "1E5", "1e-5", "1e400", "-1e400", "1e", "0x10", "0b1", "1,000", "9", "99", "100", "-3", "2", "1",
    "9" * 18, "-" + "9" * 18, "9" * 19, "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" + "0" * 30, "1" * 4300,
    "1" * 4301, "0." + "1" * 50, "123456789.123456789123456789", "1.7976931348623157e308", "1.7976931348623159e308", "5e-324", "2e-324",
    "nan", "NaN", "-nan", "inf", "-inf", "Infinity", "-Infinity", "infinity",
    "true", "True", "TRUE", "tRue", "false", "False", "t", "f", "yes", "no", "y", "n", "on", "off", "On", " true", "truee", "2.0", "1.0", "0.0",
    "null", "None", "undefined", "a", "b", "ab", "abc", "abcde", "ABC", "red", "RED", "Color.RED", "blue",
    "٣", "５", "é", "ü", "☃", "\u2028", "\u00a0" + "5", "5\u00a0", "\ufeff5", "\U0001f600", "\x01", "\x7f", "a\x00b", "5\x00", "5\n", "\n",
    "%", "%5", "%zz", "%25", "+", "a+b", "&", "=", ";", "a=b&c=d", "/", "a/b", "?", "#", "'", '"', '"5"', '"a"', "\\", "<script>", "{}", "[1]",
    "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05+01:00", "2026-13-01", "1700000000", "03:04",
    "PT90S", "1 days, 00:00:01", "90", "1.10", "1.100", "00000000-0000-0000-0000-000000000005", "{00000000-0000-0000-0000-000000000005}",
    "urn:uuid:00000000-0000-0000-0000-000000000005", "00000000000000000000000000000005", "raw",
]  # fmt: skip

QUERIES = [
    "", "the_value", "the_value=", "the_value=5", "the_value=5&the_value=6", "the_value=5&the_value=", "the_value=x&the_value=5", "=5", "the_value==5",
    "the%5Fvalue=5", "the%5fvalue=5", "The_Value=5", "the-value=5", "&&the_value=5&&", "the_value=5;the_value=6", "the_value=+5", "the_value=5+",
    "the_value=%2B5", "the_value=%205", "the_value=%35", "the_value=%zz", "the_value=%", "the_value=%5", "the_value=%FF", "the_value=%C3%A9",
    "the_value=%c3%a9", "the_value=%C3", "the_value=%ED%A0%80", "the_value=%F0%9F%98%80", "the_value=%00", "the_value=5%00", "the_value=5%0A",
    "the_value=1%5F0", "the_value=%D9%A3", "+the_value=5", "the_value+=5", "the_value[]=5", "other-name=5", "other-name=5&the_value=6",
    "the_value=5&other-name=x", "the_value=5?the_value=6", "the_value=5/6", "the_value=5%26the_value=6", "a=1&b=2&the_value=5&c=3", "the_value=" + "5" * 3000,
]  # fmt: skip


def quoted(value: str) -> str:
    return urllib.parse.quote(value, safe="")


def header_value(value: str) -> bytes | None:
    """None for what HTTP cannot carry in a header. No space at its end: httptools leaves it there, against RFC 9112 §5.1; h11 and we do not."""
    if any((ord(character) < 32 and character != "\t") or ord(character) == 127 for character in value):
        return None
    return value.rstrip(" \t").encode("utf-8")


def values_for(path: str) -> list[str]:
    """All of them where they matter; a sample where the same validator was already asked through another form of declaration."""
    return VALUES if "/required/" in path or "/constraint/" in path else VALUES[::7]


#: Of an app that is only looked at: to make one takes half a second.
APP = differential_app.make_app()


def scalar_paths(source: str) -> list[str]:
    return [route.path for route in APP.routes if getattr(route, "path", "").startswith(f"/{source}/")]


@pytest.mark.parametrize("path", scalar_paths("path"))
def test_path_values(plain: Pair, path: str) -> None:
    for value in values_for(path):
        if len(value) < 4000:  # a longer request line is refused with 414
            plain.check(request("GET", path.replace("{the_value}", quoted(value))))


@pytest.mark.parametrize("path", scalar_paths("query"))
def test_query_values(plain: Pair, path: str) -> None:
    for value in values_for(path):
        plain.check(request("GET", f"{path}?the_value={quoted(value)}"))
    for query in QUERIES:
        plain.check(request("GET", f"{path}?{query}"))
    plain.check(request("GET", path))


@pytest.mark.parametrize("path", scalar_paths("header"))
def test_header_values(plain: Pair, path: str) -> None:
    for value in values_for(path):
        octets = header_value(value)
        if octets is not None:
            plain.check(request("GET", path, ("The-Value", octets)))
    for name in ("the-value", "THE-VALUE", "the_value", "Other-Name", "thevalue"):
        plain.check(request("GET", path, (name, "5")))
        plain.check(request("GET", path, (name, "5"), ("the-value", "6"), (name, "7")))
    plain.check(request("GET", path, ("the-value", b"\xe9")))
    plain.check(request("GET", path, ("the-value", b" \t 5")))


@pytest.mark.parametrize("path", scalar_paths("cookie"))
def test_cookie_values(plain: Pair, path: str) -> None:
    for value in values_for(path):
        octets = header_value(value)
        if octets is not None:
            plain.check(request("GET", path, ("Cookie", b"the_value=" + octets)))
    for cookie in (
        b"", b";", b"the_value", b"the_value=", b"the_value=5", b" the_value = 5 ;", b"a=1;the_value=5", b"a=1; the_value=5; the_value=6", b"the_value=5;b",
        b"=5; the_value=6", b'the_value="5"', b'the_value="5', b'the_value="\\065"', b'the_value="a\\"b"', b"The_Value=5", b"the-value=5", b"the_value==5",
        b"the_value=%35", b"the_value=\xe9", b"the_value=5\xa0", b"\xa0the_value=5", b"other-name=5", b"the_value=5,the_value=6", b'the_value=""',
    ):  # fmt: skip
        plain.check(request("GET", path, ("Cookie", cookie)))
    plain.check(request("GET", path, ("Cookie", "the_value=5"), ("Cookie", "the_value=6")))
    plain.check(request("GET", path, ("Cookie", "the_value=5"), ("Cookie", "other=6")))


# Bodies.

BODIES = [
    b"", b" ", b"\n", b"null", b" null ", b"true", b"false", b"0", b"-0", b"1", b"1.0", b"-0.0", b"1e2", b"1E400", b"-1E400", b"5e-324", b"1e-400",
    b"01", b"1.", b".5", b"+1", b"-", b"1_0", b"0x1", b"NaN", b"Infinity", b"-Infinity", b"nan", b"-NaN", b"[NaN]", b'{"x": NaN}', b'{"x": 1, "y": NaN}',
    b'{"x": 1, "y": Infinity}', b'{"a": Infinity}', b"[Infinity, -Infinity]", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809",
    b"1" + b"0" * 30, b"1" * 4300, b"1" * 4301, b"-" + b"1" * 4300, b"0.1", b"0.30000000000000004", b"1.7976931348623159e308", b"123456789012345678901234567890.5",
    b"2.2250738585072011e-308", b"9007199254740993.0", b"[1, 2]", b"[1, 2,]", b"[1 2]", b"[", b"]", b"[]", b"{}", b"{", b"}", b'{"a"}', b'{"a":}', b'{"a": 1,}',
    b"{'a': 1}", b"{a: 1}", b'{"a": 1}', b'{"a": 1} ', b' {"a": 1}', b'\t{"a"\r:\n1}', b'{"a": 1}x', b'{"a": 1}{"a": 2}', b'{"a": 1, "a": 2}',
    b'{"x": 1, "x": 2}', b'{"x": "no", "x": 2}', b'{"b": 1, "a": 2, "b": 3}', b'{"a": {"b": 1, "b": 2}}', b'{"x": 1}', b'{"x": 1, "y": 2}', b'{"x": 1.0}',
    b'{"x": 1.5}', b'{"x": "1"}', b'{"x": " 1 "}', b'{"x": true}', b'{"x": null}', b'{"x": 1, "z": 2}', b'{"x": 10000000000000000000000}', b'{"y": 1}',
    b'[{"x": 1}, {"x": 2}]', b'{"name": "n", "price": 1}', b'{"name": "", "price": 0}', b'{"name": "n", "price": "1.5", "tags": ["a"], "at": "2026-01-02T03:04:05Z"}',
    b'{"name": "n", "price": 1, "points": {"p": {"x": 1}}}', b'{"name": "\\u00e9\\ud83d\\ude00", "price": 1}', b'{"name": "\\ud800", "price": 1}',
    b'{"name": "\\udc00\\ud800", "price": 1}', b'{"\\ud800": 1}', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\uD83D"', b'"\\u12"', b'"\\x"', b'"\\/"', b'"a\\u0000b"',
    b'"a\x00b"', b'"a\nb"', b'"\x7f"', b'"a', b'a"', b'"\xc3\xa9"', b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b'{"\xff": 1}', b'""', b'"5"', b"'5'",
    b"\xef\xbb\xbf1", b'\xef\xbb\xbf{"x": 1}', "1".encode("utf-16"), '{"x": 1}'.encode("utf-16"), '{"x": 1}'.encode("utf-16-le"), '{"x": 1}'.encode("utf-16-be"),
    '{"x": 1}'.encode("utf-32"), '{"x": 1}'.encode("utf-32-le"), '{"x": 1}'.encode("utf-32-be"), "[]".encode("utf-16-le"), "1".encode("utf-16-le"),
    "12".encode("utf-16-be"), b"\x00", b"1\x00", b"\x001", b"1\x00\x00\x00", b"\x00\x00\x001", b'{"x": 1}\x00', b"\xff\xfe", b"\xfe\xff\x001", b"\x0c1", b"\xa01",
    b"\xc2\xa01", b"//c\n1", b"/*c*/1", b"{}//", b"tru", b"True", b"None", b"nul", b"truex", b"[" * 100 + b"]" * 100, b"[" * 199 + b"]" * 199,
    b"[" * 201 + b"]" * 201, b"[" * 1100 + b"]" * 1100, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 250 + b"1" + b"}" * 250, b'{"1": 1, "01": 2}',
    b'{"1": 1, "1.0": 2}', b'{"left": 1}', b'{"a": 1, "b": "x"}', b'{"a": "1", "b": 1}', b'{"itemName": "n"}', b'{"item_name": "n"}', b'{"itemName": "n", "item_name": "m"}',
    b"a=1&b=2", b'{"item": {"x": 1}}', b'{"a": {"x": 1}, "b": 2}', b'{"__proto__": 1, "_sa_x": 2, "": 3}', b"[1.0, 2.5]", b'["1", 2, true]', b"[" + b"1," * 5000 + b"1]",
]  # fmt: skip

CONTENT_TYPES = [
    "application/json", "application/json; charset=utf-8", "application/json;charset=latin-1", "application/json;", "APPLICATION/JSON", "Application/Json ; a=b",
    "application/vnd.api+json", "application/problem+JSON; x=y", "application/+json", "application/jsonx", "application/json+x", "application/x-json", "text/json",
    "text/plain", "application", "json", "/json", "application/", "", " ", ";", "application/json, text/plain", "application/json/x", "application / json",
    "application/json\t", '"application/json"', "application/json; charset=\"", "(c)application/json", "application/octet-stream", "application/x-www-form-urlencoded",
    "multipart/form-data", "multipart/form-data; boundary=x", "application/json; boundary=x", "application/a/b+json", "application/é+json",
]  # fmt: skip


def body_paths() -> list[str]:
    return [route.path for route in APP.routes if getattr(route, "path", "").startswith("/body/") and "{" not in route.path]


@pytest.mark.parametrize("path", body_paths())
def test_bodies(plain: Pair, path: str) -> None:
    for body in BODIES:
        plain.check(json_request(path, body))
    plain.check(request("POST", path, ("Content-Type", "application/json")))


@pytest.mark.parametrize("path", ["/body/item", "/body/any", "/body/bytes", "/body/optional", "/body/dict", "/body/embed"])
def test_content_types(plain: Pair, path: str) -> None:
    for body in (b'{"x": 1}', b'{"name": "n", "price": 1}', b"x", b""):
        for content_type in CONTENT_TYPES:
            plain.check(json_request(path, body, content_type))
        plain.check(request("POST", path, body=body))
        plain.check(request("POST", path, ("Content-Type", "text/plain"), ("Content-Type", "application/json"), body=body))
        plain.check(request("POST", path, ("Content-Type", "application/json"), ("content-type", "text/plain"), body=body))


def test_chunked_body(plain: Pair) -> None:
    head = request("POST", "/body/item", ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"))
    plain.check(head + b'5\r\n{"nam\r\n16;x=y\r\ne": "n", "price": 1.5}\r\n0\r\n\r\n')
    plain.check(head + b"0\r\n\r\n")
    plain.check(request("POST", "/body/item/1") + b"")


# Everything else, once, in each variant of the app.


def simple_requests() -> list[bytes]:
    paths = [
        (route.path, method)
        for route in APP.routes
        if getattr(route, "methods", None) and "{" not in route.path
        for method in sorted(route.methods)
    ]
    requests = [request(method, path) for path, method in paths if not path.startswith(("/query/", "/header/", "/cookie/"))]
    for target in (
        "/inferred/1/b?c=3", "/inferred/1/b?c=3&d=x&e=1.5&f=on&g=8", "/inferred/x/b?c=y&e=z&f=maybe", "/inferred/1/b", "/inferred/1/%2F?c=1", "/untyped/1?b=2&c=x",
        "/odddefaults?a=2&b=3&c=4&d=5", "/alias-type?limit=3", "/alias-type?limit=9", "/alias-type?Limit=3", "/all/1?q=2", "/list?q=1&q=2", "/list?q=x",
        "/filters?limit=3&tag=a&tag=b", "/filters?limit=x", "/choices?b=4", "/factory?q=5", "/convertor/int/5", "/convertor/int/05", "/convertor/int/-5",
        "/convertor/int/5.0", "/convertor/int/%D9%A3", "/convertor/int/" + "9" * 19, "/convertor/int/" + "9" * 4301, "/convertor/int/5%0A", "/convertor/intstr/5",
        "/convertor/float/1.5", "/convertor/float/1", "/convertor/float/1.", "/convertor/float/01.50", "/convertor/float/1e5", "/convertor/floatint/2.0",
        "/convertor/floatint/2.5", "/convertor/uuid/00000000-0000-0000-0000-000000000005", "/convertor/uuid/00000000000000000000000000000005",
        "/convertor/uuid/x", "/convertor/path/", "/convertor/path/a/b//c", "/convertor/path/a%2Fb", "/convertor/path/%0A", "/convertor/path/a%0Ab",
        "/convertor/path", "/convertor/odd/abc", "/convertor/odd/xyz", "/convertor/odd/", "/convertor/odd",
        "/place/5", "/place/me", "/place/me%0A", "/place/you", "/place/m%65", "/place/me/", "/place/", "/place", "/place/%C3%BC", "/place/%FF", "/place/%zz", "/place/a%2Fb",
        "/place/a?", "/place/a?x", "/place/.", "/place/..", "/place/%2e%2e", "//place/me", "/place//me", "/place/a+b", "/place/a%2Bb", "/place/a;b", "/place/a:b@c",
        "/raise/parameters/05/a%2520b", "/raise/http/400", "/raise/http/204", "/raise/http/304", "/raise/http/404", "/raise/http/405", "/raise/http/422", "/raise/http/500", "/raise/http/503",
        "/depends?q=3", "/depends?q=x", "/decorated/5", "/decorated/5?b=c", "/decorated/x", "/callable?q=x", "/partial?a=3", "/partial", "/method?a=4",
        "/starlette/5", "/starlette/x", "/sub", "/sub/", "/sub/users/5", "/sub/users/x", "/sub/none", "/sub/docs", "/sub/openapi.json", "/v1/inner", "/v1/inner/",
        "/v1/inner/users/5?q=6", "/v1/inner/users/x", "/guarded/inner/users/5", "/guarded/inner/users/5?q=x", "/t/outer/text", "/t/outer/inner/users/7",
        "/t/outer/starlette", "/slash", "/slash/", "/slash?x=1", "/noslash/a", "/noslash/a/", "/noslash/a/?x=%20", "/nothing", "/nothing/", "/", "/%",
        "/docs", "/docs/", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/security/basic", "/request?a=1&b=%20",
    ):  # fmt: skip
        requests.append(request("GET", target))
    for method in ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        for target in (
            "/place/me",
            "/place/5",
            "/multi",
            "/docs",
            "/starlette/5",
            "/slash",
            "/nothing",
            "/sub/users/5",
            "/v1/inner/users/a",
            "/return/async/dict",
            "/delete/5",
        ):
            requests.append(request(method, target))
    accept = ("Accept-Encoding", "gzip")
    requests += [
        request("GET", "/headers", ("User-Agent", "a b"), ("X-Token", "t"), ("raw_name", "r"), ("x-renamed", "n"), ("Accept", "*/*")),
        request("GET", "/headers", ("x-token", "1"), ("X-TOKEN", "2"), ("raw-name", "no"), ("renamed", "no")),
        request("GET", "/headers", ("x_token", "no"), ("x-token", b"\xc3\xbc")),
        request("GET", "/cookies", ("Cookie", "session=s; count=5")),
        request("GET", "/cookies", ("Cookie", "session=s"), ("Cookie", "count=x")),
        request("GET", "/all/1?q=2", ("h", "3"), ("Cookie", "c=4")),
        request("GET", "/list?q=1", ("h", "a"), ("h", "b")),
        request("GET", "/security/basic", ("Authorization", "Basic dTpw")),
        request("GET", "/security/bearer", ("Authorization", "Bearer t")),
        request("GET", "/return/sync/model", accept),
        request("GET", "/model/list", accept),
        request("POST", "/request", ("X-Odd", b"\xe9 \t z"), ("x-odd", "2"), body=b"\x00\xff"),
        request("POST", "/form", ("Content-Type", "application/x-www-form-urlencoded"), body=b"a=1&b=%C3%BC"),
        request("POST", "/form", ("Content-Type", "application/x-www-form-urlencoded"), body=b"a=x"),
        request("POST", "/form", ("Content-Type", "application/json"), body=b'{"a": 1}'),
        request("POST", "/upload", ("Content-Type", "multipart/form-data; boundary=x"), body=MULTIPART),
        request("POST", "/upload", ("Content-Type", "multipart/form-data"), body=MULTIPART),
        request("POST", "/body/item/5?q=r", ("Content-Type", "application/json"), body=b"{}"),
        request("PUT", "/body/item/5?q=r", ("Content-Type", "application/json"), body=b'{"name": "n", "price": 2}'),
        request("PUT", "/body/item/x", ("Content-Type", "application/json"), body=b'{"name": "n"}'),
        request("PUT", "/body/item/x", ("Content-Type", "application/json"), body=b"{"),
        request("POST", "/body/first?q=4", ("Content-Type", "application/json"), body=b'{"x": 3}'),
        request("POST", "/v1/inner/users/n", ("Content-Type", "application/json"), body=b'{"x": 3, "z": 1}'),
        request("POST", "/guarded/inner/users/n", ("Content-Type", "application/json"), body=b'{"x": 3}'),
        request("GET", "/return/sync/dict", body=b"a body that nobody reads"),
    ]
    return requests


MULTIPART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nabc\r\n--x--\r\n'


@pytest.mark.parametrize("raw", simple_requests(), ids=lambda raw: raw.split(b" HTTP", 1)[0].decode("latin-1")[:80])
def test_requests(variant: Pair, raw: bytes) -> None:
    variant.check(raw)


@pytest.mark.parametrize(
    "target", ["/place/me", "/place/5", "/return/async/dict", "/raise/unhandled", "/raise/detail/text", "/body/item", "/nothing", "/docs"]
)
def test_connection_of_its_own(plain: Pair, target: str) -> None:
    for head in (("Connection", "close"), ("Connection", "Keep-Alive"), ("connection", "x, CLOSE")):
        single = Pair(plain.theirs.address, plain.ours.address)
        single.check(request("GET", target, head))
        single.close()
    single = Pair(plain.theirs.address, plain.ours.address)
    single.check(request("GET", target).replace(b"HTTP/1.1", b"HTTP/1.0"))
    single.close()


# Random input.

PLENTY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
numbers = st.one_of(st.integers().map(str), st.integers(-(10**25), 10**25).map(str), st.floats().map(repr), st.decimals().map(str))
nearly_numbers = st.text("0123456789+-._eE xXnaifNIty٣", max_size=12)
texts = st.one_of(st.sampled_from(VALUES), numbers, nearly_numbers, st.text(max_size=8))


@PLENTY
@given(path=st.sampled_from(scalar_paths("path")), value=texts)
def test_any_path_value(plain: Pair, path: str, value: str) -> None:
    assume(not any("\ud800" <= character <= "\udfff" for character in value) and len(value) < 4000)
    plain.check(request("GET", path.replace("{the_value}", quoted(value))))


@PLENTY
@given(
    path=st.sampled_from(scalar_paths("query")),
    pairs=st.lists(st.tuples(st.sampled_from(["the_value", "other-name", "x", ""]), texts), max_size=3),
    plus=st.booleans(),
)
def test_any_query(plain: Pair, path: str, pairs: list[tuple[str, str]], plus: bool) -> None:
    assume(not any("\ud800" <= character <= "\udfff" for _, value in pairs for character in value))
    quote = urllib.parse.quote_plus if plus else urllib.parse.quote
    plain.check(request("GET", path + "?" + urllib.parse.urlencode(pairs, quote_via=quote)))


@PLENTY
@given(path=st.sampled_from(scalar_paths("query")), query=st.text("the_value=%&+;5a0123456789ABCDEFf.-~", max_size=30))
def test_any_raw_query(plain: Pair, path: str, query: str) -> None:
    plain.check(request("GET", f"{path}?the_value={query}"))


@PLENTY
@given(path=st.sampled_from(scalar_paths("header")), value=st.one_of(texts.map(header_value), st.binary(max_size=8)))
def test_any_header(plain: Pair, path: str, value: bytes | None) -> None:
    assume(value is not None and not any((octet < 32 and octet != 9) or octet == 127 for octet in value))
    plain.check(request("GET", path, ("The-Value", (value or b"").rstrip(b" \t"))))


@PLENTY
@given(
    path=st.sampled_from(scalar_paths("cookie")),
    value=st.one_of(texts.map(header_value), st.text('the_value=; "\\05a', max_size=20).map(header_value)),
)
def test_any_cookie(plain: Pair, path: str, value: bytes | None) -> None:
    assume(value is not None)
    plain.check(request("GET", path, ("Cookie", b"the_value=" + (value or b""))))


def json_containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arrays = st.lists(inner, max_size=4).map(lambda items: "[" + ", ".join(items) + "]")
    keys = st.sampled_from(["x", "y", "a", "b", "name", "price", "1"])
    objects = st.lists(st.tuples(keys, inner), max_size=4).map(
        lambda items: "{" + ",".join(f'"{key}":{value}' for key, value in items) + "}"
    )
    return st.one_of(arrays, objects)


json_literals = st.sampled_from(
    ["null", "true", "false", "NaN", "-Infinity", "1e400", "-0.0", '"\\ud800"', '"\\u0000"', '""', "01", "1.", "'a'", "\u00a0"]
)
json_strings = st.text(max_size=5).map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
json_texts = st.recursive(st.one_of(json_literals, numbers, json_strings), json_containers, max_leaves=8)


@PLENTY
@given(
    path=st.sampled_from(body_paths()),
    body=st.one_of(json_texts, st.text('{}[]":,0123456789eE.-+truefalsn\\u \n', max_size=12)),
    cut=st.integers(-3, 0),
)
def test_any_json(plain: Pair, path: str, body: str, cut: int) -> None:
    octets = body.encode("utf-8", "surrogatepass")
    plain.check(json_request(path, octets[: len(octets) + cut] if cut else octets))


@PLENTY
@given(path=st.sampled_from(body_paths()), body=st.binary(max_size=20))
def test_any_octets(plain: Pair, path: str, body: bytes) -> None:
    plain.check(json_request(path, body))
