"""On a free-threaded build: the GIL stays off, workers compute at the same time, and threads do not disturb each other."""

import gc
import os
import re
import selectors
import signal
import statistics
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import pytest
from fastapi import FastAPI
from process import THREADS
from pydantic import BaseModel
from wire import Peer, get

from turboapi.testing import TestServer

pytestmark = pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")

ENVIRONMENT = {**os.environ, **THREADS, "PYTHONPATH": str(Path(__file__).parent.parent)}

APP = """
import time
from turboapi import TurboAPI

app = TurboAPI()

@app.get("/compute", blocking=False)
def compute():
    # About 20 ms of work, of objects that belong to this call alone.
    total, number = 0, 1
    while number < ROUNDS:
        total = (total * 31 + number) % 1000003
        number += 1
    return total

@app.get("/worker")
async def worker():
    import threading
    return threading.get_ident()

@app.get("/gil")
def gil():
    import sys
    return sys._is_gil_enabled()
"""


def test_the_gil_stays_off():
    """After everything is imported and has served once: a module without support for free threading turns it on."""
    code = """
import sys
import fastapi, pydantic, starlette.responses, anyio, multipart, httpx, hypothesis
import turboapi, turboapi.cli, turboapi.serving.server, turboapi.serving.processes, turboapi.testing, turboapi._core
from turboapi.testing import TestServer
from wire import get

app = turboapi.TurboAPI()

@app.get("/")
def handler(number: int = 3):
    return number

with TestServer(app) as server:
    assert get(server.port, "/").json() == 3
    assert get(server.port, "/?number=x").status == 422
    assert get(server.port, "/docs").status == 200
assert not sys._is_gil_enabled()
"""
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(Path(__file__).parent)])}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rounds_for(seconds):
    """How many steps of the handler's loop take so long on this machine."""

    def compute(rounds):
        total, number = 0, 1
        while number < rounds:
            total = (total * 31 + number) % 1000003
            number += 1

    count = 10_000
    while True:
        begin = time.perf_counter()
        compute(count)
        taken = time.perf_counter() - begin
        if taken > seconds / 4:
            return int(count * seconds / taken)
        count *= 2


class Served:
    """`turboapi serve` with so many workers, and two connections to each of them."""

    def __init__(self, folder, workers):
        command = [sys.executable, "-m", "turboapi", "serve", "compute_app:app", "--port", "0", "--workers", str(workers)]
        self.process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if line.endswith("INFO ready\n"):
                break
        self.port = int(re.search(r"serving http://127\.0\.0\.1:(\d+)", "".join(lines))[1])
        assert f"with {workers} worker" in "".join(lines)

        self.peers = []
        by_worker = {}
        # Two on each worker, so that none waits for its next request; the kernel decides which worker takes a connection.
        while len(by_worker) < workers or min(by_worker.values()) < 2:
            peer = Peer(self.port)
            worker = peer.get("/worker").json()
            if by_worker.setdefault(worker, 0) < 2:
                by_worker[worker] += 1
                self.peers.append(peer)
            else:
                peer.socket.close()

    def throughput(self, seconds):
        """Answers in a second, when all connections ask all the time."""
        question = b"GET /compute HTTP/1.1\r\nhost: test\r\n\r\n"
        with selectors.DefaultSelector() as selector:
            for peer in self.peers:
                selector.register(peer.socket, selectors.EVENT_READ, peer)
                peer.send(question)
            answers, begin = 0, time.perf_counter()
            while (now := time.perf_counter()) < begin + seconds:
                for key, _ in selector.select(1):
                    assert key.data.read().status == 200
                    key.data.send(question)
                    answers += 1
        for peer in self.peers:
            assert peer.read().status == 200
        return answers / (now - begin)

    def stop(self):
        for peer in self.peers:
            peer.socket.close()
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, log


def idle_seconds():
    """CPU time of all cores that nobody has used so far."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(cores() < 2 or not Path("/proc/stat").exists(), reason=f"two workers need two cores, and there is {cores()}")
def test_two_workers_compute_at_the_same_time(tmp_path):
    """1.8 times the work of one. Where a machine cannot give that (shared or busy cores), at least no core may idle meanwhile."""
    (tmp_path / "compute_app.py").write_text(APP.replace("ROUNDS", str(rounds_for(0.02))))
    one, two = Served(tmp_path, 1), Served(tmp_path, 2)
    try:
        assert get(two.port, "/gil").json() is False
        singles, doubles, idle = [], [], []
        # In turns, as the machine has other work, now more and now less.
        for _ in range(10):
            singles.append(one.throughput(0.8))
            begin = idle_seconds()
            doubles.append(two.throughput(0.8))
            idle.append((idle_seconds() - begin) / 0.8)
            best = max(doubles) / max(singles)
            if len(singles) > 1 and best >= 1.8:
                break
        words = f"two workers against one: {best:.2f}, from {max(singles):.0f} to {max(doubles):.0f} answers in a second"
        print(words)
        if best < 1.8 and statistics.median(idle) < 0.2:
            pytest.skip(f"the cores have other work, or are less than two: {words}, and none was idle")
        assert best >= 1.8, words
    finally:
        one.stop()
        two.stop()


class Model(BaseModel):
    name: str
    numbers: list[int] = []


def test_many_servers_of_one_app_in_many_threads():
    """They share the app's functions, models and values; a collector runs against them again and again."""
    app, shared = FastAPI(), {"list": [1, 2, {"a": "ü"}], "number": 0}

    @app.get("/def/{number}")
    def function(number: int):
        shared["number"] = number
        shared["list"].append(number)
        if len(shared["list"]) > 50:
            shared["list"] = [1, 2, {"a": "ü"}]
        return shared

    @app.get("/async/{number}")
    async def coroutine(number: int):
        return {"number": number}

    @app.post("/model")
    def model(model: Model) -> Model:
        return model

    problems, is_over = [], threading.Event()

    def work():
        try:
            for _ in range(2):
                with TestServer(app) as server, Peer(server.port) as peer:
                    for number in range(30):
                        answer = peer.get(f"/def/{number}")
                        assert (answer.status, answer.json()["list"][:3]) == (200, [1, 2, {"a": "ü"}])
                        assert peer.get(f"/async/{number}").json() == {"number": number}
                        peer.ask("/model", "content-type: application/json", method="POST", body=b'{"name": "x", "numbers": [1]}')
                        assert peer.read().json() == {"name": "x", "numbers": [1]}
                        assert peer.get("/def/x").status == 422
                        assert peer.get("/none").status == 404
                assert server.exceptions == []
        except BaseException as error:
            problems.append(error)

    def collect():
        while not is_over.wait(0.05):
            gc.collect()

    threads = [threading.Thread(target=work) for _ in range(6)]
    collector = threading.Thread(target=collect)
    for thread in [*threads, collector]:
        thread.start()
    for thread in threads:
        thread.join()
    is_over.set()
    collector.join()
    assert problems == []
    assert not sys._is_gil_enabled()


def test_a_sleeping_worker_does_not_stop_the_collector():
    """A collection waits for every attached thread: one that slept attached would hold it for ever."""

    def collections() -> float:
        begin = time.monotonic()
        for _ in range(20):
            gc.collect()
        return time.monotonic() - begin

    alone = collections()
    app = FastAPI()
    with TestServer(app), TestServer(app):
        assert collections() < 3 * alone + 5  # how long it takes by itself depends on what this process has imported
