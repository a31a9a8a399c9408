"""The kinds of route whose tax is measured: what each is asked, and what its own Python is. No process is started here."""

import dataclasses
import json

from harness.rows import Request, Row

ORDER = '{"title":"lamp","price":12.5,"labels":["a","b"],"place":{"street":"Via Appia","town":"Rome"}}'
STORED = [
    {
        "title": f"order {number}",
        "price": number + 0.5,
        "labels": ["new", "paid"],
        "place": {"street": "Via Appia", "town": "Rome"},
        "id": number,
    }
    for number in range(20)
]
CREATED = ORDER[:-1] + ',"id":7}'
WRONG = (
    '{"detail":[{"type":"int_parsing","loc":["path","id"],'
    '"msg":"Input should be a valid integer, unable to parse string as an integer","input":"x"}]}'
)
HOST = ("Host", "kinds.test")
TIMED = (("x-timing", "1"),)


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of route, in apps/kinds_app.py."""

    name: str
    request: Request
    layer: str = ""
    """The middleware around the app; its BENCH_LAYER."""
    has_own_python: bool = True
    """apps/own_python.py has a driver for it. Where not, no Python of the app's has to run: its own cost is 0."""
    compresses: bool = False
    """Its body is compressed, which costs what examples/compressor.rs says."""
    may_exceed: str = ""
    """Why its tax may be over the bar."""

    def row(self) -> Row:
        """What the harness runs."""
        arguments = ("-m", "turboapi", "serve", "kinds_app:app", "--host", "127.0.0.1", "--port", "PORT", "--workers", "1")
        return Row(self.name, self.request, "turboapi", arguments, "turboapi")


def get(path: str, answer: object, headers: tuple[tuple[str, str], ...] = (), **more) -> Request:
    """A GET request. An answer that is no text is sent as JSON."""
    text = answer if isinstance(answer, str) else json.dumps(answer, separators=(",", ":"))
    return Request(path, text, headers=(HOST, *headers), **more)


USER = {"user_id": 1}
KINDS = (
    Kind("users", get("/users/1", USER)),
    Kind("ausers", get("/async/users/1", USER)),
    Kind("text", get("/text", "hello")),
    Kind("raw", get("/raw", {"host": "kinds.test"})),
    Kind(
        "cors",
        get(
            "/async/users/1",
            USER,
            (("Origin", "https://shop.test"),),
            answer_headers=(("access-control-allow-origin", "https://shop.test"),),
        ),
        "cors",
    ),
    Kind(
        "gzip",
        get("/orders", STORED, (("Accept-Encoding", "gzip"),), answer_headers=(("content-encoding", "gzip"),)),
        "gzip",
        compresses=True,
    ),
    Kind("mwhttp", get("/async/users/1", USER, answer_headers=TIMED), "mwhttp"),
    Kind("pure", get("/async/users/1", USER, answer_headers=TIMED), "pure"),
    Kind("404", get("/nowhere", {"detail": "Not Found"}, status=404, calls=0), has_own_python=False),
    # The session's end is counted too, and so is the background task.
    Kind("depends", get("/me", {"id": 7, "name": "ada"}, (("Authorization", "Bearer letmein"),), calls=2)),
    Kind("page", get("/page?start=3&size=10&word=x", {"start": 3, "size": 10, "word": "x"})),
    Kind("items", get("/orders", STORED)),
    Kind("post", Request("/orders", CREATED, "POST", ORDER, 201, headers=(HOST,))),
    Kind("bg", get("/background", {"ok": True}, calls=2)),
    Kind("stream", get("/stream", "s" * 10_000), may_exceed="ten parts are sent as they come, and the fixed answer is one"),
    Kind("422", get("/async/users/x", WRONG, status=422, calls=0), has_own_python=False),
)
FIXED = Row("fixed", get("/users/123", {"user_id": 123}), "fixed")
