"""What holds our server against uvicorn: both in this process, a client that sends exactly the bytes it is given, and requests as bytes."""

import contextlib
import os
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

IGNORED = {b"server", b"date"}
SECONDS_TO_ANSWER = 20

# A client that sends exactly the bytes it is given. No library does: they order, merge and rename headers.


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Connection:
    """One keep-alive connection; opened again when the server has closed it.

    A request whose connection was closed before an answer is sent again. What counts what a request did wants one that is not
    `kept`: uvicorn closes its connection when an app fails after its answer, and may have begun the next request by then.
    """

    def __init__(self, address: tuple[str, int], *, kept: bool = True) -> None:
        self.address = address
        self.kept = kept
        self.socket: socket.socket | None = None
        self.received = b""

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        self.received = b""

    def ask(self, request: bytes) -> Answer:
        was_open = self.socket is not None
        try:
            answer, keeps_alive = self._ask(request)
        except ConnectionError:
            has_begun = bool(self.received)
            self.close()
            # uvicorn closes without a word after a 500.
            if was_open and not has_begun:
                return self.ask(request)
            raise
        except BaseException:
            self.close()
            raise
        if not (keeps_alive and self.kept):
            self.close()
        return answer

    def _ask(self, request: bytes) -> tuple[Answer, bool]:
        if self.socket is None:
            self.socket = socket.create_connection(self.address, timeout=SECONDS_TO_ANSWER)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(request)
        status_line, *lines = self._until(b"\r\n\r\n").split(b"\r\n")
        headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines))
        status = int(status_line.split(b" ")[1])
        fields = dict(headers)
        keeps_alive = fields.get(b"connection", b"").lower() != b"close"
        if request.startswith(b"HEAD ") or status < 200 or status in (204, 304):
            body = b""
        elif fields.get(b"transfer-encoding") == b"chunked":
            body = self._chunks()
        elif b"content-length" in fields:
            body = self._exactly(int(fields[b"content-length"]))
        else:
            body, keeps_alive = self._rest(), False
        compared = tuple((name, value) for name, value in headers if name not in IGNORED)
        return Answer(status, compared, body), keeps_alive

    def _more(self) -> bytes:
        assert self.socket is not None
        data = self.socket.recv(65536)
        self.received += data
        return data

    def _until(self, end: bytes) -> bytes:
        while end not in self.received:
            if not self._more():
                raise ConnectionError(f"closed after {self.received!r}")
        found, _, self.received = self.received.partition(end)
        return found

    def _exactly(self, length: int) -> bytes:
        while len(self.received) < length:
            if not self._more():
                raise ConnectionError(f"closed after {len(self.received)} of {length} bytes")
        found, self.received = self.received[:length], self.received[length:]
        return found

    def _chunks(self) -> bytes:
        body = b""
        while length := int(self._until(b"\r\n"), 16):
            body += self._exactly(length)
            self._exactly(2)
        self._exactly(2)
        return body

    def _rest(self) -> bytes:
        while self._more():
            pass
        found, self.received = self.received, b""
        return found


class Pair:
    """Both servers, each with an app of its own and one connection that stays open."""

    def __init__(self, theirs: tuple[str, int], ours: tuple[str, int]) -> None:
        self.theirs, self.ours = Connection(theirs), Connection(ours)

    def close(self) -> None:
        self.theirs.close()
        self.ours.close()

    def check(self, request: bytes) -> Answer:
        expected, answer = self.theirs.ask(request), self.ours.ask(request)
        if answer != expected:
            # A cookie that is deleted has expired now: the second may have changed between the two.
            expected = self.theirs.ask(request)
        assert answer == expected, request
        return expected


# The two servers.


@contextlib.contextmanager
def serve_uvicorn(app: object, **options: Any) -> Iterator[tuple[str, int]]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", **options))  # type: ignore[arg-type]
    started = threading.Event()
    startup = server.startup

    async def startup_and_tell(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = startup_and_tell  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(SECONDS_TO_ANSWER)
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def serve_ours(app: object) -> Iterator[tuple[str, int]]:
    if os.environ.get("TURBOAPI_DIFFERENTIAL") == "h11":
        with serve_uvicorn(app, http="h11") as address:
            yield address
        return
    from turboapi.testing import TestServer

    with TestServer(app) as server:
        url = urllib.parse.urlsplit(server.url)
        assert url.hostname is not None and url.port is not None
        yield url.hostname, url.port


def serve(way: str, app: object) -> contextlib.AbstractContextManager[tuple[str, int]]:
    """By uvicorn if that is the way, else by our server."""
    return serve_uvicorn(app) if way == "uvicorn" else serve_ours(app)


# Requests. The Host header is the same for both servers: redirects repeat it.


def request(method: str, target: str | bytes, *headers: tuple[str, str | bytes], body: bytes | None = None) -> bytes:
    def octets(text: str | bytes) -> bytes:
        return text if isinstance(text, bytes) else text.encode("latin-1")

    lines = [octets(method) + b" " + octets(target) + b" HTTP/1.1", b"Host: example.test:81"]
    lines += [octets(name) + b": " + octets(value) for name, value in headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def json_request(path: str, body: bytes, content_type: str = "application/json", method: str = "POST") -> bytes:
    return request(method, path, ("Content-Type", content_type), body=body)
