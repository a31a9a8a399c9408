"""A client for tests: sends bytes as they are and reads answers by the rules, no more. It never repairs anything."""

import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, Self

PATIENCE = 45.0


@dataclass(frozen=True)
class Answer:
    """One answer as it came over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of the first header of this name."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """One connection to a server. A context manager."""

    def __init__(self, port: int, receive_buffer: int | None = None, patience: float = PATIENCE) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(patience)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: test", *headers]
        if body:
            lines.append(f"content-length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def get(self, path: str, *headers: str) -> Answer:
        self.ask(path, *headers)
        return self.read()

    def read(self, method: str = "GET") -> Answer:
        """The next answer.

        Raises:
            EOFError: the connection ended before it did.
        """
        head = self.until(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        answer = Answer(int(status.split()[1]), headers, b"")
        if method == "HEAD" or answer.status in (204, 304):
            return answer
        if (answer.header("transfer-encoding") or "").lower() == "chunked":
            chunks = []
            while size := int(self.until(b"\r\n"), 16):
                chunks.append(self._exactly(size + 2)[:-2])
            self._exactly(2)
            body = b"".join(chunks)
        elif (length := answer.header("content-length")) is not None:
            body = self._exactly(int(length))
        else:
            body = self.rest()
        return Answer(answer.status, headers, body)

    def rest(self) -> bytes:
        """Everything to the end of the connection; a reset ends it too."""
        try:
            while self._more():
                pass
        except ConnectionResetError:
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def reset(self) -> None:
        """Closes with a reset: what a client does that was killed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def until(self, mark: bytes) -> bytes:
        """Everything up to this mark, and it."""
        while mark not in self._buffer:
            if not self._more():
                raise EOFError(f"the connection ended after {self._buffer!r}")
        at = self._buffer.index(mark) + len(mark)
        found, self._buffer = self._buffer[:at], self._buffer[at:]
        return found

    def _exactly(self, size: int) -> bytes:
        parts, left = [self._buffer[:size]], size - len(self._buffer[:size])
        self._buffer = self._buffer[size:]
        while left:
            part = self.socket.recv(min(left, 1 << 20))
            if not part:
                raise EOFError(f"the connection ended {left} bytes too early")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _more(self) -> bool:
        data = self.socket.recv(1 << 16)
        self._buffer += data
        return bool(data)


def get(port: int, path: str, *headers: str, patience: float = PATIENCE) -> Answer:
    """One request on a connection of its own."""
    with Peer(port, patience=patience) as peer:
        return peer.get(path, *headers)
