"""What is measured: servers, how each is started, and the one request that a row repeats. No process is started here."""

import dataclasses
import pathlib

BENCHES = pathlib.Path(__file__).resolve().parent.parent
APPS = BENCHES / "apps"
BACKENDS = ("uring", "monoio", "tokio-uring", "epoll")


@dataclasses.dataclass(frozen=True)
class Request:
    """A request and its one right answer."""

    path: str
    answer: str
    method: str = "GET"
    body: str = ""
    status: int = 200
    calls: int = 1
    """How often the app's counter is stepped for it. Where that is 0, not one step may be counted."""
    headers: tuple[tuple[str, str], ...] = ()
    """What it has beyond `Host`, and `Content-Type` and `Content-Length` where it has a body; `Host` too, where it is to be another."""
    answer_headers: tuple[tuple[str, str], ...] = ()
    """Lines that its answer must have, names in lower case. With `content-encoding: gzip`, `answer` is what was compressed."""


USER = Request("/users/123", '{"user_id":123}')
ASYNC_USER = Request("/async/users/123", '{"user_id":123}')
WRONG_USER = Request(
    "/users/abc",
    '{"detail":[{"type":"int_parsing","loc":["path","id"],'
    '"msg":"Input should be a valid integer, unable to parse string as an integer","input":"abc"}]}',
    status=422,
    calls=0,
)
ITEM = Request(
    "/items",
    '{"name":"bolt","price":0.5,"tags":["m4","steel"]}',
    method="POST",
    body='{"name": "bolt", "price": 0.5, "tags": ["m4", "steel"]}',
)


#: What waits, and what goes through threads.
WAITING = (
    *((f"wait-{us}", Request(f"/wait/{us}", f'{{"us":{us}}}')) for us in (200, 1000, 4000)),
    *((kind, Request(f"/{kind}", '{"value":1}')) for kind in ("to-thread", "anyio-thread", "def-depends")),
)


@dataclasses.dataclass(frozen=True)
class Shape:
    """How requests go down a connection."""

    depth: int = 1
    """Requests that are sent at once; the next ones follow when all their answers are there."""
    requests_per_connection: int = 0
    """On average, drawn at random: the last one says `Connection: close`. 0: the connection stays."""


ONE_BY_ONE = Shape()


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    `program` says what runs it: "fixed" (our binary), "turboapi" (the Python under test) or "peers" (the peers' Python).
    `PORT` in an argument stands for the port. `module` is what that Python must be able to import.
    """

    name: str
    request: Request
    program: str
    arguments: tuple[str, ...] = ("PORT",)
    module: str = ""
    backend: str = ""
    shape: Shape = ONE_BY_ONE


def granian(interface: str) -> Row:
    """Granian with its own defaults, one worker; it takes uvloop where that is installed."""
    arguments = ("-m", "granian", "--interface", interface, "--host", "127.0.0.1", "--port", "PORT")
    arguments += ("--workers", "1", "--no-ws", "--log-level", "warning", f"granian_{interface}:app")
    return Row(f"granian-{interface}", USER, "peers", arguments, "granian")


def uvicorn(name: str, request: Request) -> Row:
    """FastAPI on uvicorn's quickest settings, one worker."""
    arguments = ("-m", "uvicorn", "--host", "127.0.0.1", "--port", "PORT", "--http", "httptools", "--loop", "auto")
    arguments += ("--no-access-log", "--log-level", "warning", "turbo_app:app")
    return Row(name, request, "peers", arguments, "uvicorn")


def turboapi(backend: str = "", kind: str = "", request: Request = USER) -> Row:
    """Our row: without a backend it is whatever turboapi chooses by itself, which is what the bars judge."""
    name = "-".join(part for part in ("turboapi", backend, kind) if part)
    return Row(name, request, "turboapi", ("turbo_app.py", "PORT"), "turboapi", backend)


KINDS = (("", USER), ("async", ASYNC_USER), ("422", WRONG_USER), ("post", ITEM))
ROWS = (
    Row("fixed", USER, "fixed"),
    turboapi(),
    *(turboapi(backend, kind, request) for backend in BACKENDS for kind, request in KINDS),
    *(turboapi("", kind, request) for kind, request in WAITING),
    granian("rsgi"),
    granian("asgi"),
    *(uvicorn(f"uvicorn-{kind}".rstrip("-"), request) for kind, request in (*KINDS, *WAITING)),
    Row("robyn", USER, "peers", ("robyn_app.py", "PORT", "--processes", "1", "--workers", "1", "--log-level", "ERROR"), "robyn"),
)


@dataclasses.dataclass(frozen=True)
class Bar:
    """CPU per request of row `name` must be at most `ratio_max` of row `base`'s, in the same run."""

    name: str
    base: str
    ratio_max: float


BARS = (
    Bar("turboapi", "fixed", 1.4),
    Bar("turboapi", "granian-rsgi", 1 / 2.5),
    Bar("turboapi", "uvicorn", 1 / 10),
    Bar("turboapi-wait-1000", "uvicorn-wait-1000", 1 / 2),
    Bar("turboapi-to-thread", "uvicorn-to-thread", 1 / 2.5),
    Bar("turboapi-anyio-thread", "uvicorn-anyio-thread", 1 / 2),
    Bar("turboapi-def-depends", "uvicorn-def-depends", 1 / 1.2),
)
