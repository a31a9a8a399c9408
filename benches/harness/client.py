"""A plain client: one request, its answer octet by octet. What wrk cannot look at closely, this does."""

import dataclasses
import gzip
import socket
from collections.abc import Iterator
from typing import BinaryIO

from harness.rows import Request

ANSWER_SECONDS_MAX = 10


class AnswerError(Exception):
    """The answer is not the right one."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer as it came."""

    status: int
    sent: bytes
    """The body as it was sent: without its chunks' frames, but compressed if it was."""
    octets: int
    """Head and body together, with the frames of chunks; the same for each answer of a row, as a date has a fixed length."""
    headers: dict[str, str]

    @property
    def body(self) -> str:
        """What was to be said."""
        return (gzip.decompress(self.sent) if self.headers.get("content-encoding") == "gzip" else self.sent).decode()


def ask(port: int, request: Request, closes: bool = False) -> Answer:
    """Sends the same octets as wrk and reads one answer that has a Content-Length or comes in chunks.

    Args:
        closes: Asks for the connection's end too, and takes no answer without one for right.
    """
    fields = {"Host": f"127.0.0.1:{port}"}
    if closes:
        fields["Connection"] = "close"
    if request.body:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(request.body))}
    fields |= dict(request.headers)
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS_MAX) as connection, connection.makefile("rb") as received:
        connection.sendall("\r\n".join([*lines, "", request.body]).encode())
        status_line, *answered = lines_of_head(received)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in answered)}
        octets = sum(len(line) + 2 for line in [status_line, *answered, ""])
        if "content-length" in headers:
            sent = whole(received, int(headers["content-length"]))
            octets += len(sent)
        elif headers.get("transfer-encoding") == "chunked":
            chunks = list(read_chunks(received))
            sent = b"".join(chunks)
            octets += len(sent) + sum(len(f"{len(chunk):x}") + 4 for chunk in [*chunks, b""])
        else:
            raise AnswerError(f"{request.method} {request.path}: the answer has neither a length nor chunks: {status_line}")
        if closes and (left := received.read(1)):
            raise AnswerError(f"{request.method} {request.path}: the connection should end after its answer, but {left!r} follows")
    return Answer(int(status_line.split()[1]), sent, octets, headers)


def lines_of_head(received: BinaryIO) -> Iterator[str]:
    """The status line and the header lines."""
    while line := line_of(received):
        yield line


def line_of(received: BinaryIO) -> str:
    """The next line, without its end."""
    line = received.readline()
    if not line.endswith(b"\r\n"):
        raise AnswerError(f"the connection closed in an answer, after {line[-200:]!r}")
    return line[:-2].decode("latin-1")


def read_chunks(received: BinaryIO) -> Iterator[bytes]:
    """All but the last, which is empty. A length that is not written as briefly as it can be is one that `ask` counts wrong."""
    while length := int(line_of(received), 16):
        yield whole(received, length)
        line_of(received)
    line_of(received)


def whole(received: BinaryIO, length: int) -> bytes:
    """The next octets."""
    octets = received.read(length)
    if len(octets) < length:
        raise AnswerError(f"the connection closed in an answer, after {octets[-200:]!r}")
    return octets


def check(port: int, request: Request, closes: bool = False) -> Answer:
    """Compares status, the headers that are asked for, and the body, byte for byte.

    Returns:
        The right answer.
    Raises:
        AnswerError: It is another answer.
    """
    answer = ask(port, request, closes)
    if (answer.status, answer.body) != (request.status, request.answer):
        seen, right = f"{answer.status} {answer.body!r}", f"{request.status} {request.answer!r}"
        raise AnswerError(f"{request.method} {request.path} gives {seen}, right is {right}")
    for name, value in request.answer_headers:
        if answer.headers.get(name) != value:
            raise AnswerError(f"{request.method} {request.path} gives {name}: {answer.headers.get(name)!r}, right is {value!r}")
    return answer


def read_calls(port: int) -> int:
    """How often the counter was stepped; reading it is a step itself."""
    answer = ask(port, Request("/calls", ""))
    if answer.status != 200 or not answer.body.isdecimal():
        raise AnswerError(f"GET /calls gives {answer.status} {answer.body!r}, right is 200 and a whole number")
    return int(answer.body)


def more(connection: socket.socket, before: bytes) -> bytes:
    """The next octets."""
    received = connection.recv(65536)
    if not received:
        raise AnswerError(f"the connection closed in an answer, after {before[-200:]!r}")
    return received
