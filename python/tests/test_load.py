"""`kill -TERM` under load: what was begun is answered, the exit code is 0, and it does not take long."""

import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from process import THREADS

APP = """
import asyncio, time
from fastapi import Request
from fastapi.responses import StreamingResponse
from turboapi import TurboAPI

app = TurboAPI()

@app.get("/def")
def function():
    return "x" * 100

@app.get("/async")
async def coroutine():
    await asyncio.sleep(0.02)
    return "slept"

@app.get("/pool", blocking=True)
def pool():
    time.sleep(0.01)
    return "blocked"

@app.get("/stream")
async def stream():
    async def body():
        for _ in range(5):
            yield "y" * 1000
            await asyncio.sleep(0.005)
    return StreamingResponse(body())

@app.post("/body")
async def body(request: Request):
    return len(await request.body())

@app.get("/slow")
async def slow():
    await asyncio.sleep(1)
    return "slow"
"""


def request(path: str, body: bytes = b"") -> bytes:
    return f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


#: What a client asks again and again, in which pieces, and how many seconds it thinks after an answer.
HABITS = [
    ([request("/def")], 0.0),
    ([request("/def")], 0.02),
    ([request("/async")], 0.0),
    ([request("/pool")], 0.0),
    ([request("/stream")], 0.0),
    ([request("/body", b"z" * 50)[:-20], b"z" * 20], 0.0),
    ([request("/body", b"z" * 300_000)], 0.0),
    ([request("/slow")], 0.0),
]


def end_of(answer: bytes) -> int:
    """The length of the first whole answer; -1 if it is not whole."""
    head, mark, body = answer.partition(b"\r\n\r\n")
    if not mark:
        return -1
    if b"transfer-encoding: chunked" in head:
        at = body.find(b"0\r\n\r\n")
        return -1 if at < 0 else len(head) + 4 + at + 5
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    return len(head) + 4 + length if len(body) >= length else -1


class Client(threading.Thread):
    """One connection that asks until it is told to close it, or finds it closed."""

    def __init__(self, port: int, pieces: list[bytes], pause: float) -> None:
        super().__init__(daemon=True)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.pieces = pieces
        self.pause = pause
        self.answers = 0
        self.has_asked = False
        #: What was wrong: a request that had been sent, wholly or in part, and not been answered wholly.
        self.problem = ""

    def run(self) -> None:
        try:
            while not self.problem and self.ask():
                self.answers += 1
                if self.pause and self.closes_while_thinking():
                    break
        except Exception as error:
            self.problem = f"{self.pieces[0][:20]!r}: {error!r}"
        self.socket.close()

    def ask(self) -> bool:
        """One request and its answer. False: the server has said that it was the last one."""
        received = b""
        try:
            if not self.has_asked:
                self.send()
            self.has_asked = False
            while end_of(received) < 0:
                data = self.socket.recv(65_536)
                if not data:
                    raise ConnectionResetError("end of file")
                received += data
        except ConnectionError as error:
            self.problem = f"{self.pieces[0][:20]!r}: cut after {self.answers} answers and {len(received)} bytes of the next: {error}"
            return False
        if not received.startswith(b"HTTP/1.1 200 "):
            self.problem = f"{self.pieces[0][:20]!r}: {received[:100]!r}"
        return b"connection: close" not in received.partition(b"\r\n\r\n")[0]

    def send(self) -> None:
        for piece in self.pieces:
            self.socket.sendall(piece)
        self.has_asked = True

    def closes_while_thinking(self) -> bool:
        """Whether the server ends the connection while nothing is asked, as it may at any time."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            return bool(selector.select(self.pause))


@pytest.fixture
def serve(tmp_path):
    """Starts the server as a process; gives it and its port."""
    (tmp_path / "load_app.py").write_text(APP)
    processes = []

    def start(*options: str) -> tuple[subprocess.Popen, int]:
        environment = {**os.environ, **THREADS, "PYTHONPATH": str(Path(__file__).parent.parent)}
        command = [sys.executable, "-m", "turboapi", "serve", "load_app:app", "--port", "0", *options]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment)
        processes.append(process)
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.endswith("INFO ready\n"):
                break
        found = re.search(r"serving http://127\.0\.0\.1:(\d+)", "".join(lines))
        assert found, "".join(lines)
        return process, int(found[1])

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("attempt", range(2))
def test_nothing_that_was_begun_is_cut(serve, workers, attempt):
    process, port = serve("--workers", workers)
    clients = [Client(port, *habit) for habit in HABITS for _ in range(3)]
    for client in clients:
        client.start()
    # Each has been answered a few times: all of them are under way.
    deadline = time.monotonic() + 20
    while min(client.answers for client in clients) < 1 + attempt and time.monotonic() < deadline:
        time.sleep(0.01)
    # And some ask just now, whom the server may not have accepted yet.
    late = [Client(port, *HABITS[0]) for _ in range(20)]
    for client in late:
        client.send()
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    for client in late:
        client.start()
    for client in clients + late:
        client.join(20)
    _, log = process.communicate(timeout=20)
    seconds = time.monotonic() - begin
    assert [client.problem for client in clients + late if client.problem] == []
    assert process.returncode == 0, log
    assert "Traceback" not in log
    assert sum(client.answers for client in clients) > 20
    # The slowest handler takes one second.
    assert seconds < 5
    print(f"{sum(client.answers for client in clients)} answers, and {seconds:.2f} s from the signal to the exit")
