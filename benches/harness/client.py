"""A plain client: one request, its answer octet by octet. What wrk cannot look at closely, this does."""

import dataclasses
import socket

from harness.rows import Request

ANSWER_SECONDS_MAX = 10


class AnswerError(Exception):
    """The answer is not the right one."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer as it came."""

    status: int
    body: str
    octets: int
    """Head and body together; the same for each answer of a row, as a date has a fixed length."""


def ask(port: int, request: Request, closes: bool = False) -> Answer:
    """Sends the same octets as wrk and reads one answer that has a Content-Length.

    Args:
        closes: Asks for the connection's end too, and takes no answer without one for right.
    """
    lines = [f"{request.method} {request.path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    if closes:
        lines += ["Connection: close"]
    if request.body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(request.body)}"]
    with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS_MAX) as connection:
        connection.sendall("\r\n".join([*lines, "", request.body]).encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += more(connection, received)
        head, _, body = received.partition(b"\r\n\r\n")
        status_line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        if "content-length" not in headers:
            raise AnswerError(f"{request.method} {request.path}: the answer has no Content-Length: {status_line}")
        while len(body) < int(headers["content-length"]):
            body += more(connection, received)
        if closes and (left := connection.recv(65536)):
            raise AnswerError(f"{request.method} {request.path}: the connection should end after its answer, but {left[:200]!r} follows")
    return Answer(int(status_line.split()[1]), body.decode(), len(head) + 4 + len(body))


def more(connection: socket.socket, before: bytes) -> bytes:
    """The next octets."""
    received = connection.recv(65536)
    if not received:
        raise AnswerError(f"the connection closed in an answer, after {before[-200:]!r}")
    return received


def check(port: int, request: Request, closes: bool = False) -> int:
    """Compares status and body, byte for byte.

    Returns:
        The octets of the whole answer.
    Raises:
        AnswerError: It is another answer.
    """
    answer = ask(port, request, closes)
    if (answer.status, answer.body) != (request.status, request.answer):
        seen, right = f"{answer.status} {answer.body!r}", f"{request.status} {request.answer!r}"
        raise AnswerError(f"{request.method} {request.path} gives {seen}, right is {right}")
    return answer.octets


def read_calls(port: int) -> int:
    """How often the counter was stepped; reading it is a step itself."""
    answer = ask(port, Request("/calls", ""))
    if answer.status != 200 or not answer.body.isdecimal():
        raise AnswerError(f"GET /calls gives {answer.status} {answer.body!r}, right is 200 and a whole number")
    return int(answer.body)
