"""What an idle connection costs: memory of a server at several numbers of keep-alive connections that have had their answer.

The connections are held by a process of its own, which is this file run as a program: `python3 -m harness.idle PORT`.
"""

import dataclasses
import platform
import socket
import subprocess
import sys
import time

from harness import client
from harness.rows import BENCHES, USER
from harness.server import Memory, Server

STEPS = 4
"""Measured are 0 and so many equal steps."""
WARM_UP_CONNECTIONS = 200
SETTLE_SECONDS = 0.5
IP_BIND_ADDRESS_NO_PORT = 24
"""Of Linux's ip(7); Python names it since 3.12."""


class IdleError(Exception):
    """The connections could not be held, or one of them got a wrong answer."""


@dataclasses.dataclass(frozen=True)
class Point:
    """The memory of the whole process tree at a number of connections."""

    connections: int
    memory: Memory


def measure(server: Server, backend: str, connections: int) -> list[Point]:
    """Opens the connections in steps. The server has just been started.

    Raises:
        IdleError: The holder of the connections failed.
    """
    server.wait_until_it_listens()
    client.check(server.port, USER)
    server.check_place(backend)
    # What is made at the first use, and tables that grow at the first connections, are nobody's idle memory.
    with Holder(server.port) as warm_up:
        warm_up.open(WARM_UP_CONNECTIONS)
    time.sleep(SETTLE_SECONDS)
    points = [Point(0, server.memory())]
    with Holder(server.port) as holder:
        for step in range(1, STEPS + 1):
            count = connections * step // STEPS
            holder.open(count)
            time.sleep(SETTLE_SECONDS)
            points.append(Point(count, server.memory()))
        holder.check()
    return points


class Holder:
    """The process that has the connections."""

    def __init__(self, port: int):
        """Starts it."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.idle", str(port)],
            cwd=BENCHES,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Holder":
        """It, running."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it, and with it the connections."""
        self.process.kill()
        self.process.communicate()

    def open(self, connections: int) -> None:
        """Returns when there are so many, each with one right answer."""
        self.command(str(connections))

    def check(self) -> None:
        """Raises IdleError where the server has closed one of them: its memory was not measured."""
        self.command("check")

    def command(self, words: str) -> None:
        """Has it done, and raises IdleError with what it says where it fails."""
        try:
            self.process.stdin.write(words + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        if self.process.stdout.readline().strip() != words:
            lines = self.process.stderr.read().strip().splitlines() or ["it ended without a word"]
            raise IdleError(f"holding connections: {lines[-1]}")


def connect(port: int, source: str) -> socket.socket:
    """A connection from this address."""
    connection = socket.socket()
    connection.settimeout(client.ANSWER_SECONDS_MAX)
    if platform.system() == "Linux":
        # The port is chosen at connect, for this destination: else those that still wait after an earlier run are taken.
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", port))
    return connection


def hold(port: int) -> None:
    """The holder's own loop: a number on each line of stdin, the same on stdout when so many are open."""
    request = f"{USER.method} {USER.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    held: list[socket.socket] = []
    for line in sys.stdin:
        if line.strip() == "check":
            for connection in held:
                connection.setblocking(False)
                try:
                    seen = connection.recv(100)
                except BlockingIOError:
                    continue
                raise client.AnswerError(f"an idle connection was closed or got {seen!r}")
        else:
            while len(held) < int(line):
                # 10,000 from each address: a port number has 16 bits, and not all of them are for this.
                connection = connect(port, f"127.0.0.{1 + len(held) // 10_000}")
                connection.sendall(request)
                answer = b""
                while not answer.endswith(USER.answer.encode()):
                    answer += client.more(connection, answer)
                if not answer.startswith(b"HTTP/1.1 200 "):
                    raise client.AnswerError(f"{USER.path} gives {answer!r}")
                held.append(connection)
        print(line.strip(), flush=True)


if __name__ == "__main__":
    hold(int(sys.argv[1]))
