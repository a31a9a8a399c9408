"""The three servers beside each other, and one request to each: the same answer, and the same order of events.

`native`: our server with the app as it is. `asgi`: our server with the app in a plain function, so that there is no plan and every
request takes the app's own ASGI call. `uvicorn`: what both are held against.
"""

import contextlib
import dataclasses
import select
import socket
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from differential import IGNORED, SECONDS_TO_ANSWER, Connection, serve_uvicorn
from fastapi import FastAPI

from turboapi.asgi import is_disconnect
from turboapi.plan.routes import compile_app
from turboapi.testing import TestServer

from .record import Note, Record


@dataclass(frozen=True)
class Seen:
    """All that one request has brought about."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    is_whole: bool
    """Not: the connection has ended before the answer did."""
    events: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()
    """Types of what the app raised to its server."""


class Client(Connection):
    """A connection that can tell an answer that ends early from one that is whole."""

    def exchange(self, raw: bytes) -> Seen:
        """Sends a request, and returns its answer without the events."""
        if self.socket is not None and select.select([self.socket], [], [], 0)[0]:
            self.close()  # the server has closed it since
        was_open = self.socket is not None
        try:
            return self._exchange(raw)
        except ConnectionError:
            # It has closed it meanwhile: uvicorn does so without a word after an exception, before it reads on.
            if not was_open or self.received:
                raise
            self.close()
            return self._exchange(raw)

    def _exchange(self, raw: bytes) -> Seen:
        if self.socket is None:
            self.socket = socket.create_connection(self.address, timeout=SECONDS_TO_ANSWER)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.socket.sendall(raw)
        status, headers = self._head()
        while status < 200:  # 100 Continue, which a server may leave out as the body is there already (RFC 9110 §10.1.1)
            status, headers = self._head()
        fields = dict(headers)
        has_no_body = raw.startswith(b"HEAD ") or status in (204, 304)
        is_whole, keeps_alive = True, fields.get(b"connection", b"").lower() != b"close"
        parts: list[bytes] = []
        try:
            if has_no_body:
                pass
            elif fields.get(b"transfer-encoding") == b"chunked":
                while length := int(self._until(b"\r\n"), 16):
                    parts.append(self._exactly(length))
                    self._exactly(2)
                self._exactly(2)
            elif b"content-length" in fields:
                parts.append(self._exactly(int(fields[b"content-length"])))
            else:
                parts.append(self._rest())
                keeps_alive = False
        except ConnectionError:
            parts.append(self.received)
            is_whole = False
        left = self.received
        # What is left would be taken for the next answer, and uvicorn closes after an exception.
        if not (is_whole and keeps_alive) or status >= 500 or left:
            self.close()
        assert not left or not is_whole, f"more than one answer: {left!r}"
        # Whether a server goes on after a body that nobody has read is its own affair (RFC 9112 §9.3).
        ignored = IGNORED | {b"connection"}
        return Seen(status, tuple(pair for pair in headers if pair[0] not in ignored), b"".join(parts), is_whole)

    def _head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        status_line, *lines = self._until(b"\r\n\r\n").split(b"\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        return int(status_line.split(b" ")[1]), headers


@dataclass
class Side:
    """One server with an app of its own."""

    name: str
    client: Client
    record: Record
    exceptions: list[BaseException]
    last: bytes = b""
    late: list[str] = field(default_factory=list)
    """Events that came when their request was taken to be over, and what had been asked before."""

    def ask(self, raw: bytes, expected: Seen | None = None) -> Seen:
        """One request. With `expected`, waits for its events; without, the app is wrapped so that it tells of its end."""
        if events := self.record.take():
            self.late.append(f"{self.name}: {events} came late, after {self.last!r}")
        self.exceptions.clear()
        self.last = raw
        try:
            seen = self.client.exchange(raw)
        except BaseException:
            self.client.close()
            raise
        if expected is None:
            events = self._events_to_the_end()
        else:
            events = self.record.take_when(list(expected.events), PATIENCE)
            deadline = time.monotonic() + PATIENCE
            # What became of a request is noted a moment after its events; there is nothing that tells of it.
            while len(self.exceptions) < len(expected.exceptions) and time.monotonic() < deadline:
                time.sleep(0.0005)
        # Of a peer that has gone our server does not speak. h11 refuses a body where 204 and 304 have none, which we drop, as others do.
        raised = [error for error in self.exceptions if not (is_disconnect(error) or type(error).__name__ == "LocalProtocolError")]
        names = tuple(map(name_of, raised))
        return Seen(seen.status, seen.headers, seen.body, seen.is_whole, tuple(events), names)

    def _events_to_the_end(self) -> list[str]:
        events: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while not events or events[-1] != END:
            assert time.monotonic() < deadline, f"{self.name}: the app did not return, after {events}"
            events += self.record.take_when([END], 0.05)
        return events[:-1]


#: The setting `linger_bytes_max` that a server has by itself: of a body that nobody has taken, what is dropped behind an answer.
LINGER_BYTES_MAX = 65_536
#: How long a side may take to bring about what another has brought about.
PATIENCE = 5.0
END = "the app has returned"


def wrapped(app: Any, record: Record, exceptions: list[BaseException]) -> Callable[..., Any]:
    """The app as an ASGI function of which no server knows more, that tells when it returns and what it raises."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            # A copy: uvicorn looks at the method when it is sent a body, and a middleware may have changed it.
            await app(dict(scope), receive, send)
        except BaseException as error:
            exceptions.append(error)
            raise
        finally:
            record.note(END)

    return call


def name_of(error: BaseException) -> str:
    """Its type. Of Starlette's complaint that the answer had begun before a handler could see an error: the type of that error."""
    is_complaint = type(error) is RuntimeError and "response already started" in str(error)
    return type(error.__cause__ if is_complaint else error).__name__


#: In the head of what gzip has made at level 1 (RFC 1952 §2.3.1, XFL), where our compressor cuts its blocks otherwise than zlib.
FASTEST = (8, 4)


def unzipped(seen: Seen) -> Seen:
    """With its body as it was before gzip's level 1, without its length."""
    place, level = FASTEST
    if (b"content-encoding", b"gzip") not in seen.headers or seen.body[place : place + 1] != bytes([level]):
        return seen
    headers = tuple(pair for pair in seen.headers if pair[0] != b"content-length")
    # Not by `gzip`: a stream may have been cut.
    return dataclasses.replace(seen, headers=headers, body=zlib.decompressobj(wbits=31).decompress(seen.body))


def is_known(raw: bytes, seen: Seen, expected: Seen) -> bool:
    """Whether our server differs from uvicorn only as it always does: by how the end of an answer without a length is told, and by the
    bytes of a quickly compressed one.

    uvicorn sends such an answer in chunks. We hold its head back until the first part: if that is all of it, it gets a length; if what
    makes it raises before it, that is a 500. Where it is given before the end has come of a body that is too long to be dropped behind it,
    we close the connection and say so; how much has come by then is chance.
    """
    seen, expected = unzipped(seen), unzipped(expected)
    if seen == expected:
        return True
    closes = (b"connection", b"close")
    if len(raw) > LINGER_BYTES_MAX and closes in seen.headers and closes not in expected.headers:
        seen = dataclasses.replace(seen, headers=tuple(pair for pair in seen.headers if pair != closes))
        if seen == expected:
            return True
    if (b"transfer-encoding", b"chunked") not in expected.headers:
        return False
    if not (expected.is_whole or expected.body):
        began_none = (seen.status, seen.body) == (500, b"Internal Server Error")
        return began_none and (seen.events, seen.exceptions) == (expected.events, expected.exceptions)
    unframed = tuple(pair for pair in expected.headers if pair[0] != b"transfer-encoding")
    length = b"%d" % len(seen.body)
    if raw.startswith(b"HEAD "):  # that of GET's answer, and none if it has no body
        if seen == dataclasses.replace(expected, headers=unframed):
            return True
        length = dict(seen.headers).get(b"content-length", b"")
    return seen == dataclasses.replace(expected, headers=(*unframed, (b"content-length", length)))


class Matrix:
    """The three servers with one app. A context manager.

    Args:
        make: makes a fresh app, that notes its events there.
        shares_app: `uvicorn` and `asgi` have the same one, as neither knows what it is, and one is asked after the other: to make one takes
            as long as 30 requests. Not where it remembers requests.
    """

    def __init__(self, make: Callable[[Note], FastAPI], shares_app: bool = True) -> None:
        self.sides: dict[str, Side] = {}
        #: The one that our server knows as what it is.
        self.app: FastAPI
        self._make, self._shares_app = make, shares_app
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._open()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        record, raised, app = self._wrapped()
        address = self._stack.enter_context(serve_uvicorn(app))
        self._add(Side("uvicorn", Client(address), record, raised))
        if not self._shares_app:
            record, raised, app = self._wrapped()
        plain = self._stack.enter_context(TestServer(app))
        self._add(Side("asgi", Client(("127.0.0.1", plain.port)), record, raised))
        record = Record()
        self.app = self._make(record.note)
        native = self._stack.enter_context(TestServer(self.app))
        self._add(Side("native", Client(("127.0.0.1", native.port)), record, native.exceptions))

    def _wrapped(self) -> tuple[Record, list[BaseException], Callable[..., Any]]:
        record, raised = Record(), list[BaseException]()
        return record, raised, wrapped(self._make(record.note), record, raised)

    def _add(self, side: Side) -> None:
        self._stack.callback(side.client.close)
        self.sides[side.name] = side

    def native_count(self) -> int:
        """How many routes are native."""
        return sum(entry.native is not None for entry in compile_app(self.app))

    def differences(self, raw: bytes) -> list[str]:
        """What is not the same on all sides, a line each."""
        return self.compared(raw)[1]

    def compared(self, raw: bytes) -> tuple[Seen, list[str]]:
        """What uvicorn does, and what the others do otherwise."""
        expected = self.sides["uvicorn"].ask(raw)
        found = []
        for name in ("asgi", "native"):
            try:
                seen = self.sides[name].ask(raw, expected if name == "native" else None)
            except (OSError, AssertionError, ValueError) as error:
                found.append(f"{name}: {type(error).__name__} {error}")
                continue
            if is_known(raw, seen, expected):
                continue
            found += [
                f"{name} {part}: {getattr(seen, part)!r}, uvicorn: {getattr(expected, part)!r}"
                for part in Seen.__dataclass_fields__
                if getattr(seen, part) != getattr(expected, part)
            ]
        return expected, found
