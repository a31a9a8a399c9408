"""examples/notes under our server and under uvicorn: a user's way through it has the same answers, and sends the same mail."""

import contextlib
import json
import queue
import re
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from differential import Connection, request, serve_uvicorn

from turboapi.plan.inventory import inventory
from turboapi.plan.routes import compile_app
from turboapi.testing import TestServer

# Nearly all of its time goes to imports and to what FastAPI makes of the routes.
pytestmark = [pytest.mark.above_platform, pytest.mark.timeout(180)]

EXAMPLES = str(Path(__file__).parent.parent / "examples")
#: Of one mail, on a machine under load.
PATIENCE = 20

FORM = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/json")
ORIGIN = ("Origin", "http://localhost:5173")
WILL_POST = ("Access-Control-Request-Method", "POST")

#: Why the routes are not native that are not: nothing may come to this list.
NOT_NATIVE = {
    "POST /users/token": "OAuth2PasswordRequestForm: grant_type: declared by Form",
}


@dataclass(frozen=True)
class Step:
    """One request; `{ann}` in a header stands for the token that was given to her."""

    method: str
    target: str
    status: int
    body: Any = None
    """Sent as JSON, or as a form if it is text."""
    token: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    gives: str = ""
    """The answer has a token, which is kept under this name."""
    mails: int = 0


def credentials(email: str, password: str, scope: str) -> str:
    return urllib.parse.urlencode({"grant_type": "password", "username": email, "password": password, "scope": scope})


ANN = {"email": "ann@example.com", "full_name": "Ann Ü", "password": "correct horse"}
ADMIN = {"email": "admin@example.com", "password": "battery staple"}
NOTE = {"title": "Groceries", "text": "milk", "tags": [" Home ", "food"]}

STEPS = [
    Step("GET", "/health", 200),
    Step("GET", "/notes", 401),
    Step("POST", "/users", 201, ANN, mails=1),
    Step("POST", "/users", 409, ANN),
    Step("POST", "/users", 201, ADMIN, mails=1),
    Step("POST", "/users", 422, {"email": "ann", "password": "short"}),
    Step("POST", "/users", 422),
    Step("POST", "/users/token", 400, credentials(ANN["email"], "wrong", "me")),
    Step("POST", "/users/token", 422, "username=ann"),
    Step("POST", "/users/token", 200, credentials(ANN["email"], ANN["password"], "me notes"), gives="ann"),
    Step("POST", "/users/token", 200, credentials(ANN["email"], ANN["password"], "me admin"), gives="reader"),
    Step("POST", "/users/token", 200, credentials(ADMIN["email"], ADMIN["password"], "me notes admin"), gives="admin"),
    Step("GET", "/users/me", 200, token="ann"),
    Step("GET", "/users/me", 401, headers=(("Authorization", "Bearer nonsense"),)),
    Step("GET", "/users/me", 401, headers=(("Authorization", "Basic YTpi"),)),
    Step("PATCH", "/users/me", 200, {"full_name": None}, token="ann"),
    Step("PATCH", "/users/me", 422, {"password": "short"}, token="ann"),
    Step("GET", "/users", 403, token="reader"),
    Step("GET", "/users?limit=1&offset=1", 200, token="admin"),
    Step("GET", "/users?limit=0&offset=x", 422, token="admin"),
    Step("GET", "/users/1", 200, token="reader"),
    Step("GET", "/users/99", 404, token="ann"),
    Step("GET", "/users/x", 422, token="ann"),
    Step("GET", "/users/x", 401),
    Step("POST", "/notes", 403, NOTE, token="reader"),
    Step("POST", "/notes", 201, NOTE, token="ann", headers=(ORIGIN,)),
    Step("POST", "/notes", 201, {"title": "Plan", "tags": ["work"]}, token="ann"),
    Step("POST", "/notes", 422, {"title": "", "tags": [""], "owner_id": 1}, token="ann"),
    Step("POST", "/notes", 401, {"title": "", "tags": [""], "owner_id": 1}),
    Step("GET", "/notes", 200, token="ann", headers=(ORIGIN,)),
    Step("GET", "/notes?order=newest&limit=1", 200, token="ann"),
    Step("GET", "/notes?title=GROC", 200, token="ann"),
    Step("GET", "/notes?order=random&limit=1000", 422, token="ann"),
    Step("GET", "/notes", 200, token="admin"),
    Step("GET", "/notes/tags", 200, token="ann"),
    Step("GET", "/notes/tags?tag=home&tag=work", 200, token="ann"),
    Step("GET", "/notes/1", 200, token="ann"),
    Step("GET", "/notes/1", 304, token="ann", headers=(("If-None-Match", '"1-4"'),)),
    Step("GET", "/notes/1", 404, token="admin"),
    Step("GET", "/notes/one", 422, token="ann"),
    Step("PATCH", "/notes/1", 200, {"text": "milk, bread", "tags": ["HOME"]}, token="ann"),
    Step("PATCH", "/notes/1", 422, [], token="ann"),
    Step("POST", "/notes/1/mail", 202, {"to": "ben@example.com"}, token="ann", mails=1),
    Step("POST", "/notes/1/mail", 422, {"to": 1}, token="ann"),
    Step("POST", "/notes/99/mail", 404, {"to": "ben@example.com"}, token="ann"),
    Step("DELETE", "/notes/1", 204, token="ann"),
    Step("DELETE", "/notes/1", 404, token="ann"),
    Step("PUT", "/notes/2", 405, token="ann"),
    Step("GET", "/nowhere", 404, headers=(ORIGIN,)),
    Step("OPTIONS", "/notes", 200, headers=(ORIGIN, WILL_POST, ("Access-Control-Request-Headers", "authorization"))),
    Step("OPTIONS", "/notes", 400, headers=(("Origin", "http://other.test"), WILL_POST)),
    Step("GET", "/openapi.json", 200),
]


@dataclass
class Outbox:
    """In the place of a mail server."""

    sent: "queue.Queue[tuple[str, str, str]]" = field(default_factory=queue.Queue)

    def send(self, to: str, subject: str, text: str) -> None:
        self.sent.put((to, subject, text))


@dataclass
class Side:
    connection: Connection
    outbox: Outbox
    tokens: dict[str, str] = field(default_factory=dict)

    def ask(self, step: Step) -> tuple[int, list[tuple[bytes, bytes]], str, list[tuple[str, str, str]]]:
        """What came of it: status, headers and body without what differs from run to run, and the mails."""
        headers, body = list(step.headers), None
        if step.token:
            headers.append(("Authorization", f"Bearer {self.tokens[step.token]}"))
        if step.body is not None:
            headers.append(FORM if isinstance(step.body, str) else JSON)
            body = (step.body if isinstance(step.body, str) else json.dumps(step.body)).encode()
        answer = self.connection.ask(request(step.method, step.target, *headers, body=body))
        if step.gives:
            self.tokens[step.gives] = json.loads(answer.body)["access_token"]
        mails = [self.outbox.sent.get(timeout=PATIENCE) for _ in range(step.mails)]
        same = [(name, b"" if name in (b"server-timing", b"content-length") else value) for name, value in answer.headers]
        text = re.sub(r'"(access_token|created_at)":"[^"]*"', r'"\1":""', answer.body.decode())
        return answer.status, same, text, mails


@pytest.fixture(scope="module")
def notes() -> Iterator[Any]:
    """The package, which is nobody else's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        import notes.app
        import notes.mail
        import notes.settings

        yield notes
        for name in [name for name in sys.modules if name.partition(".")[0] == "notes"]:
            del sys.modules[name]


def make(notes: Any, folder: Path, name: str) -> tuple[Any, Outbox]:
    settings = notes.settings.Settings(database_url=f"sqlite:///{folder / name}.db", secret_key="of the test, and long enough for SHA-256")
    app, outbox = notes.app.create_app(settings), Outbox()
    app.dependency_overrides[notes.mail.get_mailer] = lambda: outbox
    return app, outbox


def test_answers(notes: Any, tmp_path: Path) -> None:
    ours, our_mail = make(notes, tmp_path, "ours")
    theirs, their_mail = make(notes, tmp_path, "theirs")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(TestServer(ours))
        sides = [
            Side(Connection(("127.0.0.1", server.port)), our_mail),
            Side(Connection(stack.enter_context(serve_uvicorn(theirs))), their_mail),
        ]
        for side in sides:
            stack.callback(side.connection.close)
        for step in STEPS:
            found, expected = (side.ask(step) for side in sides)
            assert found == expected, step
            assert found[0] == step.status, (step, found)
        assert server.exceptions == []
    assert our_mail.sent.empty()
    assert their_mail.sent.empty()


def test_native(notes: Any, tmp_path: Path) -> None:
    app, _ = make(notes, tmp_path, "never opened")
    rows = inventory(app, compile_app(app))
    found = {f"{','.join(row.methods)} {row.path}": re.sub(r"^\w+: ", "", row.reason) for row in rows if not row.native}
    assert found == NOT_NATIVE
    assert len(rows) == 14 + 4, "FastAPI's docs pages are routes, too"


def test_every_route_is_asked(notes: Any, tmp_path: Path) -> None:
    app, _ = make(notes, tmp_path, "never opened")
    succeeded = {(step.method, re.sub(r"(?<=/)\d+(?=/|$)", "{}", step.target.partition("?")[0])) for step in STEPS if step.status < 300}
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            assert (method.upper(), re.sub(r"{\w+}", "{}", path)) in succeeded
