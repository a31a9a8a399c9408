"""Clients that behave badly, one after the other and on purpose: what a soak test mixes under the good ones.

Each kind says which statuses it may be answered with. No answer at all, a closed or reset connection, is always right: none of them
asked for anything that could be given. What is not right is any other status, and a connection that stays open for longer than the
server's longest time-out.

They stand for remote ones, so they may cost the server what serves them and no more: they are a process of their own that runs only
where a core has nothing else to do, and send what a line of a few Mbit/s could bring. Run as a program, `python3 -m harness.abuse PORT
COUNT`, they begin when it has said a line, and go on until stdin ends; then one line of JSON says what they got.
"""

import collections
import contextlib
import itertools
import json
import os
import pathlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

PATIENCE = 60
"""Seconds. The longest time-out that one of them meets is the one for answers that nobody reads: 30 s, or a sixteenth more."""
PAUSE = 0.05
"""Seconds between two of one client: they are rude, not a flood."""
PACE = 0.01
"""Seconds between two hundreds of requests that nobody reads the answers of. 90,000 to 110,000 are taken before the kernel's buffers are
full, with this pace or without; with it that takes 10 s, and the 32 s until the server gives up come after that."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: close() is a reset."""
GET = b"GET /users/7 HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Stop(Exception):
    """The run is over."""


class Abuser(threading.Thread):
    """One bad client. It goes through all kinds, from its own one on, until it is stopped.

    Args:
        port: of the server.
        first: the kind to begin with.
    """

    def __init__(self, port: int, first: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._first = first
        self._is_over = threading.Event()
        self.endings: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []

    def stop(self) -> None:
        """Ends it within a second or so."""
        self._is_over.set()

    def run(self) -> None:
        for name in itertools.islice(itertools.cycle(KINDS), self._first, None):
            act, allowed = KINDS[name]
            try:
                with socket.socket() as peer:
                    peer.settimeout(0.2)
                    if name == "never reads":
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    peer.connect(("127.0.0.1", self._port))
                    answer = act(self, peer)
            except Stop:
                return
            except TimeoutError as error:
                self.failures.append(f"{name}: {error}")
                continue
            except OSError:
                answer = b""  # reset, or a send that found nobody
            status = answer[9:12].decode(errors="replace") if answer else "closed"
            self.endings[f"{name}: {status}"] += 1
            if status != "closed" and status not in allowed:
                self.failures.append(f"{name} was answered with {answer[:60]!r}, allowed are {', '.join(allowed) or 'none'}")
            if self._is_over.wait(PAUSE):
                return

    def pause(self, seconds: float) -> None:
        """Waits; raises Stop when the run is over."""
        if self._is_over.wait(seconds):
            raise Stop

    def rest(self, peer: socket.socket) -> bytes:
        """What comes until the server closes; raises TimeoutError if it does not."""
        received = b""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._is_over.is_set():
                raise Stop
            try:
                part = peer.recv(65_536)
            except TimeoutError:
                continue
            if not part:
                return received
            received = (received + part)[:65_536]
        raise TimeoutError(f"still open after {PATIENCE} s")


def silence(abuser: Abuser, peer: socket.socket) -> bytes:
    return abuser.rest(peer)


def byte_by_byte(abuser: Abuser, peer: socket.socket) -> bytes:
    """One byte of a head a second."""
    for byte in GET * 2:
        peer.sendall(bytes([byte]))
        abuser.pause(1)
    return abuser.rest(peer)


def garbage(abuser: Abuser, peer: socket.socket) -> bytes:
    # Never a line feed first: an empty line before a request is skipped, and then there is only silence.
    peer.sendall(b"\x16\x03\x01" + os.urandom(500) + b"\r\n\r\n")
    return abuser.rest(peer)


def reset_within_request(abuser: Abuser, peer: socket.socket) -> bytes:
    peer.sendall(GET[:20])
    abuser.pause(0.01)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return b""


def reset_within_answer(abuser: Abuser, peer: socket.socket) -> bytes:
    peer.sendall(GET * 200)
    peer.recv(1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return b""


def never_reads(abuser: Abuser, peer: socket.socket) -> bytes:
    """As many requests as the server takes, and no answer is read, until it gives up."""
    sent, deadline = 0, time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            sent += peer.send(GET * 100)
            abuser.pause(PACE)
        except TimeoutError:
            abuser.pause(0.2)
        except OSError:
            return b""
    raise TimeoutError(f"still open after {PATIENCE} s, {sent} bytes of requests were taken")


def oversized_head(abuser: Abuser, peer: socket.socket) -> bytes:
    peer.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-large: " + b"a" * 70_000)
    return abuser.rest(peer)


def stalled_body(abuser: Abuser, peer: socket.socket) -> bytes:
    peer.sendall(b"POST /items HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{")
    return abuser.rest(peer)


KINDS: dict[str, tuple[Callable[[Abuser, socket.socket], bytes], tuple[str, ...]]] = {
    "garbage": (garbage, ("400",)),
    "reset within a request": (reset_within_request, ()),
    "oversized head": (oversized_head, ("431",)),
    "reset within an answer": (reset_within_answer, ()),
    "silence": (silence, ()),
    "byte by byte": (byte_by_byte, ("408",)),
    "stalled body": (stalled_body, ("408",)),
    "never reads": (never_reads, ()),
}


def step_back() -> None:
    """From now on this process gets a core only where nobody else wants it, and leaves it at once. It has to have a session of its own:
    where Linux groups processes by session, the group needs it said as well."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/autogroup").write_text("19")


def main() -> None:
    """Abuses until stdin ends."""
    port, count = map(int, sys.argv[1:])
    step_back()
    print("ready", flush=True)
    abusers = [Abuser(port, index) for index in range(count)]
    for abuser in abusers:
        abuser.start()
    sys.stdin.read()
    for abuser in abusers:
        abuser.stop()
    for abuser in abusers:
        abuser.join(5)
    endings = sum((abuser.endings for abuser in abusers), collections.Counter())
    print(json.dumps({"endings": endings, "failures": [failure for abuser in abusers for failure in abuser.failures]}))


if __name__ == "__main__":
    main()
