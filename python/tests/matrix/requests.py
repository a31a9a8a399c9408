# ruff: noqa: E501 - tables of inputs read best as long lines
"""What is asked: for each route good, wrong and hostile requests, as the bytes that are sent."""

import gzip

from differential import json_request, request

ITEM = b'{"name": "n", "price": 1.5, "tags": ["a"], "at": "2026-01-02T03:04:05Z", "points": {"p": {"x": 1}}}'
MULTIPART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nabc 1\r\n--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nn\r\n--x--\r\n'

#: Asked with GET, with no header but Host.
TARGETS = [
    "/plain", "/plain/async", "/plain?a=1&a=2", "/int/1", "/int/-5", "/int/x", "/int/1.0", "/int/%31", "/int/%D9%A3", "/int/99999999999999999999", "/int/async/7",
    "/int/async/x", "/float/1.5", "/float/1e400", "/float/nan", "/float/x", "/bool/on", "/bool/2", "/str/a", "/str/%C3%BC%20b", "/str/%FF", "/str/a%2Fb", "/str/a%00b",
    "/str/a%0D%0Ab", "/str/a+b;c", "/str/a/b", "/str/%2e%2e", "/str/..", "/str/a//b", "//str/a", "/str/", "/str/" + "a" * 3000, "/enum/red", "/enum/RED",
    "/uuid/00000000-0000-0000-0000-000000000005", "/uuid/5", "/datetime/2026-01-02T03:04:05Z", "/datetime/tomorrow", "/range/9", "/range/10", "/range/a",
    "/rest/", "/rest/a/b//c", "/rest/%0A", "/rest", "/convertor/5/1.5", "/convertor/5/1", "/convertor/-5/1.5", "/convertor/a/b", "/convertor/5/1.5/",
    "/query/required?a=1", "/query/required", "/query/required?a=x", "/query/required?a=1&a=2", "/query/required?a=%201", "/query/required?b=1", "/query/required?a",
    "/query/optional", "/query/optional?a=", "/query/optional?a=%FF%00", "/query/optional?a=a+b%2B", "/query/optional?a=b;c=d", "/query/default", "/query/default?a=2&b=yes&c=blue",
    "/query/default?a=x&b=y&c=z", "/query/list?a=1&a=2", "/query/list", "/query/list?a=1&a=x", "/query/set?a=b&a=a", "/query/set?a=1&a=2&a=3", "/query/constrained?a=abc&b=4",
    "/query/constrained?a=a&b=6", "/query/constrained?a=ABC", "/query/model?limit=5&tag=a&tag=b", "/query/model", "/query/model?limit=0", "/query/model?more=1", "/query/alias?other-name=5",
    "/query/alias?a=5", "/query/time?a=2026-01-02T03:04:05&b=2026-01-02", "/query/time?a=1700000000&c=x", "/header/one", "/header/list", "/header/int", "/cookie/one", "/cookie/two",
    "/all/1?b=2", "/all/x?b=y", "/methods", "/methods?a=x", "/head", "/options", "/value/none", "/value/text", "/value/number", "/value/list", "/value/large", "/value/async/large",
    "/status/created", "/status/gone", "/model/filtered", "/model/annotated", "/model/dict", "/model/list", "/model/unset", "/model/none", "/model/include", "/model/union",
    "/class/html", "/class/text", "/class/json", "/class/redirect", "/class/redirect/302", "/class/file", "/own/response", "/own/background", "/own/backgrounds", "/own/encoded",
    "/own/vary", "/own/304", "/own/empty", "/own/file", "/own/redirect", "/stream/sync", "/stream/async", "/stream/events", "/stream/empty", "/stream/length", "/generator/lines",
    "/generator/raw", "/request", "/request?a=1&a=%20&b", "/request/sync/5", "/request/sync/x", "/request/scope/a%20b?q=%FF", "/request/scope/a", "/request/state", "/request/app",
    "/request/url/a?b=c", "/request/session", "/request/session?add=a", "/request/session/clear", "/request/user", "/connection", "/response", "/response/async", "/response/own",
    "/response/204", "/response/request/5", "/response/request/x", "/tasks", "/tasks/raise", "/context", "/context/sync", "/waits", "/waits/async", "/depends/sync?q=3", "/depends/sync?q=x",
    "/depends/cached?q=1", "/depends/uncached", "/depends/class?skip=5&limit=51", "/depends/class?skip=5", "/depends/header", "/depends/context", "/depends/decorator?q=1",
    "/depends/decorator?q=x", "/depends/request/5", "/depends/forbids?q=please", "/depends/forbids", "/depends/fails", "/yield/sync", "/yield/nested/1", "/yield/nested/400", "/yield/nested/409",
    "/yield/nested/500", "/yield/nested/x", "/yield/function", "/yield/stream", "/yield/swallows", "/yield/raises", "/yield/raises/function", "/yield/translates", "/security/bearer",
    "/security/basic", "/raise/http/404", "/raise/http/204", "/raise/http/304", "/raise/http/500", "/raise/http/x", "/raise/http/async/422", "/raise/http/async/401", "/raise/starlette",
    "/raise/validation", "/raise/known/5", "/raise/known/x", "/raise/child/%C3%BC", "/raise/other", "/raise/nested", "/raise/unknown", "/raise/unknown/async", "/raise/group", "/raise/answer",
    "/raise/answer/async", "/raise/unserializable", "/raise/stream", "/raise/stream/async", "/raise/stream/first", "/v1/inner", "/v1/inner/", "/v1/inner/users/5?q=1", "/v1/inner/users/x",
    "/guarded/inner/users/5?q=1", "/guarded/inner/users/5?q=13", "/guarded/inner", "/tenant/a/outer/text", "/tenant/%2F/outer/text", "/tenant/a/outer/inner/users/5", "/slash/", "/slash", "/slash?a=%20b",
    "/slash/a", "/timed/5", "/timed/x", "/timed/raise/5", "/starlette/5", "/starlette/x", "/starlette/marked/a", "/mounted/", "/mounted", "/mounted/a", "/mounted/a/b", "/router/a", "/router/only/post",
    "/full/a", "/full/a/b", "/full", "/sub/item/5?q=1", "/sub/item/x", "/sub/scope", "/sub/raise/known", "/sub/raise/other", "/sub/nothing", "/sub", "/sub/", "/sub/docs", "/sub/openapi.json",
    "/sub/marked/item/5", "/sub/marked/item/x", "/sub/marked/", "/raw", "/raw/", "/raw/a/b%20c", "/rawer", "/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/docs/", "/", "/nothing",
    "/nothing/", "/nothing?a=b", "/%", "/%zz", "/?", "/socket", "/INT/1", "/int", "/int/1/2",
]  # fmt: skip

ORIGIN, OTHER_ORIGIN = ("Origin", "https://one.test"), ("Origin", "http://other.invalid")
ACCEPT = ("Accept-Encoding", "br;q=1.0, gzip;q=0.8")


def other_methods() -> list[bytes]:
    methods = ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "get")
    targets = (
        "/plain",
        "/int/5",
        "/methods",
        "/body/model",
        "/request",
        "/starlette/5",
        "/sub/item/5",
        "/raw/a",
        "/nothing",
        "/slash",
        "/docs",
        "/v1/inner",
        "/stream/sync",
    )
    found = [request(method, target) for method in methods for target in targets]
    found += [
        request("HEAD", target)
        for target in (
            "/head",
            "/head/",
            "/class/file",
            "/own/file",
            "/value/large",
            "/mounted/a",
            "/full/a",
            "/openapi.json",
            "/raise/unknown",
        )
    ]
    return [
        *found,
        request("OPTIONS", "/options"),
        request("DELETE", "/status/gone"),
        request("DELETE", "/status/gone/"),
        request("HEAD", "/class/file", ACCEPT),
    ]


def with_headers() -> list[bytes]:
    ask, token = ("Access-Control-Request-Method", "GET"), ("X-Token", "t1")
    found = [
        request("GET", "/header/one", token), request("GET", "/header/one", token, ("x-token", "t2")), request("GET", "/header/one", ("X-TOKEN", "")),
        request("GET", "/header/one", ("x_token", "no")), request("GET", "/header/one", ("x-token", b"\xc3\xbc \t \xff")), request("GET", "/header/list", token, ("x-token", "a,b")),
        request("GET", "/header/int", ("X-Number", "15"), ("User-Agent", "a b")), request("GET", "/header/int", ("x-number", "-1")), request("GET", "/header/int", ("x-number", "1"), ("x-number", "x")),
        request("GET", "/cookie/one", ("Cookie", "a=1; b=2")), request("GET", "/cookie/one", ("Cookie", "a=1"), ("Cookie", "a=3")), request("GET", "/cookie/one", ("Cookie", 'a="q 1"; =; x; ;')),
        request("GET", "/cookie/two", ("Cookie", "a=1;b=off")), request("GET", "/cookie/two", ("Cookie", "a=x; b=maybe")), request("GET", "/all/1?b=2", token, ("Cookie", "d=blue")),
        request("GET", "/connection", token, ("x-token", "t2")), request("GET", "/request", token, ("Cookie", "a=1; b"), ("x-odd", b"\xe9")), request("GET", "/request/sync/1", token),
        request("GET", "/depends/header", token), request("GET", "/raise/known/1", token), request("GET", "/security/bearer", ("Authorization", "Bearer t")),
        request("GET", "/security/bearer", ("Authorization", "Basic t")), request("GET", "/security/basic", ("Authorization", "Basic dTpw")), request("GET", "/security/basic", ("Authorization", "Basic !")),
        request("GET", "/request/user", ("Authorization", "user ann")), request("GET", "/request/user", ("Authorization", "user ")), request("GET", "/plain", ("Authorization", "user ")),
        request("GET", "/request/session", ("Cookie", "session=bad")), request("GET", "/request/session?add=x", ("Cookie", "session=eyJpdGVtcyI6IFsiYSJdfQ==.ZVPxAA.AAAA")),
        request("GET", "/request/session/clear", ("Cookie", SESSION)), request("GET", "/request/session", ("Cookie", SESSION)), request("GET", "/request/session?add=b", ("Cookie", SESSION)),
        request("GET", "/plain", ("X-Method", "POST")), request("GET", "/methods", ("X-Method", "DELETE")), request("GET", "/nothing", token), request("GET", "/own/file", ("Range", "bytes=3-9")),
        request("GET", "/own/file", ("Range", "bytes=9999-")), request("GET", "/class/file", ("Range", "bytes=0-1,5-6"), ("If-Range", '"x"')), request("GET", "/plain", ("X-Empty", ""), ("X-Long", "a" * 4000)),
        # No X-Forwarded-For and -Proto: uvicorn believes its own machine, where they change the scope; we do not.
        request("GET", "/sub/scope", ("X-Forwarded-Prefix", "/p")),
        request("GET", "/plain", ("TE", "trailers"), ("Upgrade-Insecure-Requests", "1")), request("GET", "/plain", ("Accept-Encoding", "identity")),
    ]  # fmt: skip
    for target in (
        "/plain",
        "/int/x",
        "/raise/unknown",
        "/raise/known/1",
        "/own/vary",
        "/response",
        "/stream/async",
        "/nothing",
        "/sub/item/5",
        "/own/304",
        "/methods",
    ):
        found += [
            request("GET", target, ORIGIN),
            request("GET", target, OTHER_ORIGIN, ("Cookie", "a=1")),
            request("GET", target, ORIGIN, ACCEPT),
        ]
    for target in ("/plain", "/nothing", "/options", "/methods", "/raise/unknown"):
        found += [
            request("OPTIONS", target, ORIGIN, ask), request("OPTIONS", target, OTHER_ORIGIN, ask), request("OPTIONS", target, ORIGIN),
            request("OPTIONS", target, ORIGIN, ("Access-Control-Request-Method", "PATCH"), ("Access-Control-Request-Headers", "x-token, X-Other")),
            request("OPTIONS", target, ask), request("OPTIONS", target, ("Origin", "null"), ask, ("Access-Control-Request-Headers", "X-Number,  Content-Type")),
            request("OPTIONS", target, ORIGIN, ask, ("Access-Control-Request-Private-Network", "true")),
        ]  # fmt: skip
    for target in ("/value/large", "/value/async/large", "/value/none", "/class/html", "/own/encoded", "/own/empty", "/own/304", "/own/file", "/stream/sync", "/stream/async", "/stream/events",
                   "/stream/empty", "/stream/length", "/generator/lines", "/generator/raw", "/model/list", "/int/x", "/raise/stream", "/raise/unknown", "/openapi.json", "/status/gone", "/raw/a",
                   "/class/redirect", "/yield/stream", "/own/backgrounds"):  # fmt: skip
        found += [request("GET", target, ACCEPT), request("HEAD", target, ACCEPT)]
    return found


#: A session of stock.session, signed at the time at which test_matrix.py holds the clock of the signer.
SESSION = "session=eyJpdGVtcyI6IFsiYSJdfQ==.ZVPxAA.wfTU_Wbu3fqpEJmZbTmzBuAcA24"


def with_hosts() -> list[bytes]:
    hosts = (
        b"example.test",
        b"EXAMPLE.test:8000",
        b"www.example.test",
        b"a.example.org",
        b"example.org",
        b"other.test",
        b"bad.invalid",
        b"127.0.0.1:8000",
        b"[::1]:80",
        b"xn--bcher-kva.test",
    )
    targets = ("/plain?a=%20b", "/slash", "/int/5", "/stream/sync", "/request/url/a")
    return [request("GET", target).replace(b"Host: example.test:81", b"Host: " + host) for host in hosts for target in targets]


BODIES = [
    b"", b"{}", b"null", b"1", b"[]", b"{", b'{"x": 1}', b'{"x": "1", "y": "2.5"}', b'{"x": 1.5}', b'{"x": null}', b'{"x": 1, "z": 2}', b'[{"x": 1}, {"x": 2}]', b'[{"x": "a"}]', ITEM, ITEM[:-1],
    b'{"name": "", "price": 0}', b'{"name": "n"}', b'{"name": "n", "price": "x", "points": {"p": {}}}', b'{"a": 11}', b'{"a": -1}', b'{"a": "x"}',
    b'{"value": "red", "children": [{"value": "blue"}]}', b'{"value": "green"}', b'{"point": {"x": 1}, "item": ' + ITEM + b', "importance": 1}', b'{"point": {"x": 1}}', b"[1, 2, 11]", b'"\\ud800"',
    b"\xff", b"\xef\xbb\xbf{}", b'{"x": 1}'.decode().encode("utf-16"), b"[" * 300, b'{"name": "raise", "price": 1}', b'{"pad": "' + b"a" * 5000 + b'"}', b"NaN", b'{"x": 1}garbage', b'{"x": 1, "x": 2}',
]  # fmt: skip

BODY_TARGETS = [
    "/body/model",
    "/body/model/async",
    "/body/list",
    "/body/union",
    "/body/tree",
    "/body/embed",
    "/body/two",
    "/body/any",
    "/request/json",
    "/request/twice",
    "/logged",
]


def with_bodies() -> list[bytes]:
    found = [json_request(target, body) for target in BODY_TARGETS for body in BODIES]
    found += [json_request("/body/optional", body, method="PATCH") for body in BODIES[:12]]
    found += [json_request("/body/item/5?q=a", body, method="PUT") for body in BODIES[:12]]
    for target in (
        "/request/body",
        "/request/stream",
        "/request/receive",
        "/request/unread",
        "/slash/a/",
        "/sub/model",
        "/v1/inner/users/n",
        "/methods",
        "/plain",
        "/raw/a",
        "/router/only/post",
        "/request",
    ):
        found += [json_request(target, body) for body in (b"", b'{"x": 1}', b"a 1" * 40_000)]
    found += [
        json_request("/slash/a", b'{"x": 1}'),
        json_request("/body/model/", ITEM),
        json_request("/body/item/x", b"{}", method="PUT"),
        request("GET", "/plain", body=b"nobody reads it"),
    ]
    for content_type in (
        "text/plain",
        "application/vnd.api+json; a=b",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "APPLICATION/JSON",
    ):
        found += [
            json_request(target, ITEM, content_type) for target in ("/body/model", "/body/any", "/body/bytes", "/request/form", "/form")
        ]
    found += [request("POST", target, body=ITEM) for target in ("/body/model", "/request/body", "/tasks/async")]
    return [*found, *_with_forms(), *_with_other_framing()]


def _with_forms() -> list[bytes]:
    form, parts = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
    found = [
        json_request(target, body, form)
        for target in ("/form", "/request/form")
        for body in (b"a=1&b=%C3%BC", b"a=x", b"", b"a=1&a=2&b", b"%", b"a=1;b=2", b"b=" + b"c" * 2000)
    ]
    found += [
        json_request(target, body, parts)
        for target in ("/upload", "/upload/bytes", "/form", "/request/form")
        for body in (MULTIPART, MULTIPART[:-9], b"", b"--x--\r\n")
    ]
    zipped = gzip.compress(b"[1, 2, 11]", mtime=0)
    return [
        *found,
        json_request("/upload", MULTIPART, "multipart/form-data"),
        request("POST", "/unzip/sum", ("Content-Type", "application/json"), ("Content-Encoding", "gzip"), body=zipped),
        request("POST", "/unzip/sum", ("Content-Type", "application/json"), ("Content-Encoding", "gzip"), body=zipped[:-9]),
        json_request("/unzip/sum", b"[1, 2]"),
        json_request("/unzip/sum", b'["a"]'),
    ]


def _with_other_framing() -> list[bytes]:
    found = []
    for target in (
        "/body/model",
        "/body/model/async",
        "/request/stream",
        "/request/body",
        "/request/unread",
        "/plain",
        "/methods",
        "/upload",
        "/nothing",
    ):
        head = request("POST", target, ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"))
        cut = b"%x\r\n%s\r\n%x;x=y\r\n%s\r\n0\r\n\r\n" % (7, ITEM[:7], len(ITEM) - 7, ITEM[7:])
        found += [head + cut, head + b"0\r\n\r\n", head + b"1\r\n{\r\n0\r\nX-Trailer: 1\r\n\r\n"]
        found.append(request("POST", target, ("Content-Type", "application/json"), ("Expect", "100-continue"), body=ITEM))
    return found


def all_requests() -> list[bytes]:
    """Each once, in an order that is always the same."""
    found = [request("GET", target) for target in TARGETS]
    found += [*other_methods(), *with_headers(), *with_hosts(), *with_bodies()]
    # With one more header, a parameter that nobody declares, and on another form of the same path.
    for target in TARGETS[::3]:
        path, mark, query = target.partition("?")
        found += [
            request("GET", target, ("X-Token", "t1"), ("x-number", "5"), ("Cookie", "a=1; b=true")),
            request("GET", f"{path}/{mark}{query}"),
            request("GET", f"{path}?{query}&zz=1&q=1"),
        ]
    return list(dict.fromkeys(found))
