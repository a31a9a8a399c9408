"""Connections that come and go, most of them badly: does a server's memory or its number of descriptors grow from it?

The client is a process of its own, which is this file run as a program: `python3 -m harness.churn PORT RATE SECONDS`.
"""

import dataclasses
import json
import select
import socket
import statistics
import struct
import subprocess
import sys
import time

from harness import client
from harness.parity import Slope, slope
from harness.rows import BENCHES, ITEM, USER, Request
from harness.server import Server

GROWTH_BYTES_MAX = 256 * 1024
"""What resident memory may grow by over the judged time: the line's slope times it. Measured was 1 to 11 KiB in a minute, on each
backend; a leak of 16 bytes a connection is 470 KiB in a minute at 500 connections a second."""
WARM_UP_SHARE = 0.1
WARM_UP_SECONDS_MIN = 110
"""One turn of the timers' wheel (src/timers.rs: 1024 slots of a tenth of a second) and a little more: by then whatever a connection
sets off later has come once."""
SAMPLE_SECONDS, SAMPLES_MAX = 2, 2000
RETURN_SECONDS_MAX = 15
BATCH = 20
"""Connections that are open at once."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: close() is a reset."""


class ChurnError(Exception):
    """The client could not go on, or what it got was wrong."""


@dataclasses.dataclass(frozen=True)
class Churn:
    """What came of one run."""

    seconds: float
    """Warm-up and all."""
    endings: dict[str, int]
    """How many connections ended in each way."""
    memory: list[tuple[float, int]]
    """Seconds since the start and resident bytes."""
    descriptors: list[int]
    """At the same times."""
    descriptors_before: int
    descriptors_after: int
    calls: int
    """Of handlers."""

    def growth(self) -> Slope:
        """Resident bytes per second, after the warm-up."""
        return slope([(at, size) for at, size in self.memory if at >= warm_up_seconds(self.seconds)])

    def growth_bytes(self) -> float:
        """What the line gains from the end of the warm-up to the end."""
        return self.growth().per_unit * (self.seconds - warm_up_seconds(self.seconds))

    def faults(self) -> list[str]:
        """What is not as it should be; nothing, if all is well."""
        found = []
        if self.descriptors_after > self.descriptors_before:
            found.append(f"{self.descriptors_after} descriptors are open after it, {self.descriptors_before} were before it")
        if self.growth_bytes() > GROWTH_BYTES_MAX:
            found.append(f"memory grew by {self.growth_bytes() / 1024:.0f} KiB, allowed is {GROWTH_BYTES_MAX // 1024}")
        answered = sum(count for name, count in self.endings.items() if name in ANSWERED)
        if self.calls != answered:
            found.append(f"handlers ran {self.calls} times for {answered} whole requests")
        return found

    def line(self) -> str:
        """In one line."""
        total = sum(self.endings.values())
        growth = f"{self.growth_bytes() / 1024:+.0f} KiB ({self.growth().per_unit:+.0f} B/s)"
        return (
            f"{total} connections in {self.seconds:.0f} s, memory {growth} "
            f"after {warm_up_seconds(self.seconds):.0f} s of warm-up, "
            f"descriptors {self.descriptors_before} before, {statistics.median(self.descriptors):.0f} while (median), "
            f"{self.descriptors_after} after"
        )


def measure(server: Server, backend: str, seconds: int, rate: int) -> Churn:
    """Runs the client against a server that has just been started.

    Args:
        seconds: After the warm-up.
        rate: Connections a second, at the most.
    Raises:
        ChurnError: The client failed.
    """
    server.wait_until_it_listens()
    client.check(server.port, USER)
    client.check(server.port, ITEM)
    server.check_place(backend)
    descriptors_before = settled_descriptors(server, 0)
    calls_before = client.read_calls(server.port)
    total = max(seconds + WARM_UP_SECONDS_MIN, round(seconds / (1 - WARM_UP_SHARE)))
    command = [sys.executable, "-m", "harness.churn", str(server.port), str(rate), str(total)]
    memory, descriptors, started = [], [], time.monotonic()
    with subprocess.Popen(command, cwd=BENCHES, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while process.poll() is None:
                memory.append((time.monotonic() - started, server.memory().resident))
                descriptors.append(server.descriptors())
                try:
                    process.wait(max(SAMPLE_SECONDS, total / SAMPLES_MAX))
                except subprocess.TimeoutExpired:
                    continue
            spent = time.monotonic() - started
            written, complaint = process.communicate()
        finally:
            process.kill()
    if process.returncode:
        raise ChurnError(f"the client: {(complaint.strip().splitlines() or ['ended without a word'])[-1]}")
    calls = client.read_calls(server.port) - calls_before - 1
    descriptors_after = settled_descriptors(server, descriptors_before)
    client.check(server.port, USER)
    return Churn(spent, json.loads(written), memory, descriptors, descriptors_before, descriptors_after, calls)


def warm_up_seconds(seconds: float) -> float:
    """Of a run of so many seconds: what is not judged."""
    return max(WARM_UP_SHARE * seconds, WARM_UP_SECONDS_MIN)


def settled_descriptors(server: Server, right: int) -> int:
    """How many there are when they are `right`, or when they have not changed for a second."""
    deadline, seen, since = time.monotonic() + RETURN_SECONDS_MAX, -1, time.monotonic()
    while time.monotonic() < deadline:
        count = server.descriptors()
        if count != seen:
            seen, since = count, time.monotonic()
        if seen == right or (right == 0 and time.monotonic() > since + 1):
            break
        time.sleep(0.05)
    return seen


def request_bytes(port: int, request: Request) -> bytes:
    """A whole one."""
    length = f"Content-Type: application/json\r\nContent-Length: {len(request.body)}\r\n" if request.body else ""
    return f"{request.method} {request.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{length}\r\n{request.body}".encode()


def read_answer(connection: socket.socket) -> None:
    """Raises AnswerError where it is not the right one."""
    answer = b""
    while not answer.endswith(USER.answer.encode()):
        answer += client.more(connection, answer)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise client.AnswerError(f"{USER.path} gives {answer!r}")


def reset(connection: socket.socket) -> None:
    """Ends it at once."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def end_answered_reset(connection: socket.socket) -> None:
    """The usual one: its answer was read, then a reset."""
    read_answer(connection)
    reset(connection)


def end_answered_close(connection: socket.socket) -> None:
    """As a browser does."""
    read_answer(connection)
    connection.close()


def end_half_close(connection: socket.socket) -> None:
    """Says that it will send no more, and takes its answer up to the end."""
    connection.shutdown(socket.SHUT_WR)
    read_answer(connection)
    if seen := connection.recv(100):
        raise client.AnswerError(f"after a half-closed connection's answer comes {seen!r}")
    connection.close()


def end_unread(connection: socket.socket) -> None:
    """Leaves its answer unread, which makes a reset of the close."""
    if not select.select([connection], [], [], client.ANSWER_SECONDS_MAX)[0]:
        raise client.AnswerError("no answer came")
    connection.close()


ANSWERED = {
    "answered, reset": end_answered_reset,
    "answered, closed": end_answered_close,
    "half-closed": end_half_close,
    "answer unread": end_unread,
}
CUT = {"reset in a head": USER, "reset in a body": ITEM}
"""Half of this request's head or body is sent."""
TURNS = [*ANSWERED, *CUT, *["answered, reset"] * 4]


def churn(port: int, rate: int, seconds: int) -> dict[str, int]:
    """Opens batches of connections and ends each of them in its way, until the time is over."""
    counts = dict.fromkeys([*ANSWERED, *CUT], 0)
    started, opened = time.monotonic(), 0
    while time.monotonic() < started + seconds:
        batch = [(TURNS[(opened + number) % len(TURNS)], socket.create_connection(("127.0.0.1", port), 10)) for number in range(BATCH)]
        opened += BATCH
        for name, connection in batch:
            if name in ANSWERED:
                connection.sendall(request_bytes(port, USER))
            else:
                whole = request_bytes(port, CUT[name])
                connection.sendall(whole[: len(whole) - len(CUT[name].body) // 2 - (0 if CUT[name].body else 20)])
        for name, connection in batch:
            ANSWERED.get(name, reset)(connection)
            counts[name] += 1
        # Never faster than was asked for, also after a pause of the machine.
        time.sleep(max(0.0, started + opened / rate - time.monotonic()))
    return counts


if __name__ == "__main__":
    print(json.dumps(churn(*(int(argument) for argument in sys.argv[1:]))))
