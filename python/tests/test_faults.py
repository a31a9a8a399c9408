"""Faults of the process, not of its peers: stopped, busy, forked, out of backlog, its clock moved, its log gone. The server goes on.

Not here: workers that die (test_server.py), descriptors that run out (test_load.py).
"""

import calendar
import contextlib
import email.utils
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from process import Process
from wire import PATIENCE, Answer, Peer, get

from turboapi.serving.loading import is_free_threaded

needs_proc = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="reads /proc")
processes_only = pytest.mark.skipif(is_free_threaded(), reason="workers are threads here")

APP = """
import asyncio, logging, multiprocessing, os, subprocess, sys, threading, time
from fastapi import Request
from fastapi.responses import StreamingResponse
from turboapi import TurboAPI

app = TurboAPI()

@app.get("/")
def root():
    return os.getpid()

@app.get("/hold", blocking=False)
def hold(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return os.getpid(), threading.get_ident()

@app.get("/sleep")
async def sleep(seconds: float):
    await asyncio.sleep(seconds)
    return "slept"

@app.get("/exec")
def exec(closes: bool):
    return subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=closes, capture_output=True, text=True, check=True).stdout

@app.get("/fork")
def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

# In a thread of `concurrent.futures` such a child ends with 1, as CPython has it wait for that thread: not ours to test.
@app.get("/multiprocessing", blocking=False)
def forked():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.01,))
    process.start()
    process.join()
    return process.exitcode

@app.get("/daemon")
def daemon(seconds: float):
    pid = os.fork()
    if pid == 0:
        time.sleep(seconds)
        os._exit(0)
    return pid

@app.get("/log")
def log(bytes: int = 10):
    logging.getLogger("turboapi").error("x" * bytes)
    print("x" * bytes, file=sys.stderr)
    return "logged"

@app.get("/raises")
def raises():
    raise ValueError("seen by nobody")

@app.get("/raises_later")
async def raises_later(length: int = 0):
    async def parts():
        yield b"begun"
        await asyncio.sleep(0.01)
        raise ValueError("after the head")
    return StreamingResponse(parts(), headers={"content-length": str(length)} if length else {})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Process(tmp_path_factory.mktemp("faults"), APP, "--workers", "1") as process:
        yield process


@pytest.mark.parametrize("length", [0, 50])
def test_an_app_that_raises_within_its_answer(server, length):
    """The peer must not take what it got for the whole."""
    with Peer(server.port) as peer:
        peer.ask(f"/raises_later?length={length}")
        head = peer.until(b"\r\n\r\n")
        assert b"200 OK" in head
        rest = peer.rest()
        assert rest == (b"begun" if length else b"5\r\nbegun\r\n")
    assert server.line("ERROR .* raised ValueError")
    assert get(server.port, "/").status == 200


def test_a_program_that_a_handler_starts_inherits_nothing(server):
    """Also one that was started without care for descriptors."""
    for closes in ("true", "false"):
        with Peer(server.port) as peer:
            found = peer.get(f"/exec?closes={closes}").json()
            assert " 0 -> /dev/null" in found
            assert "socket:" not in found
            assert "anon_inode:" not in found
            assert peer.get("/").status == 200


@pytest.mark.parametrize(("path", "expected"), [("/fork", 7), ("/multiprocessing", 0)])
def test_a_handler_that_forks(server, path, expected):
    with Peer(server.port) as idle, Peer(server.port) as peer:
        idle.ask("/hold?seconds=0")
        for _ in range(3):
            assert peer.get(path).json() == expected
            assert peer.get("/").json() == server.pid
        assert idle.read().status == 200


def test_a_child_that_outlives_its_request(server):
    """It has copies of all descriptors. Who is to be closed sees the end all the same."""
    with Peer(server.port) as before:
        before.get("/")
        with Peer(server.port) as peer:
            begin = time.monotonic()
            peer.get("/daemon?seconds=2")
            for each in (before, peer):
                each.ask("/", "connection: close")
                assert each.read().status == 200
                assert each.rest() == b""
            with Peer(server.port) as bad:
                bad.send(b"BAD\r\n\r\n")
                assert bad.read().status == 400
                assert bad.rest() == b""
            assert time.monotonic() - begin < 1.5


def late(peers: list[Peer], since: float) -> list[tuple[float, int]]:
    """The next answer of each, and the seconds until it came; read at the same time."""
    answers: list[tuple[float, int]] = []

    def read(peer: Peer) -> None:
        status = peer.read().status
        answers.append((time.monotonic() - since, status))

    threads = [threading.Thread(target=read, args=(peer,)) for peer in peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(answers)


def test_time_outs_of_a_worker_that_computes(tmp_path):
    """It holds the interpreter for 2 s. Who is due with it is ended right after, who is due elsewhere in time, and a request that came is
    answered."""
    with Process(tmp_path, APP, "--workers", "2", "--head-timeout", "0.5") as server, contextlib.ExitStack() as stack:

        def connect() -> Peer:
            return stack.enter_context(Peer(server.port))

        holder, partial, whole = connect(), [connect() for _ in range(60)], [connect() for _ in range(20)]
        for peer in whole:
            assert peer.get("/").status == 200
        holder.ask("/hold?seconds=2")
        time.sleep(0.1)
        begin = time.monotonic()
        for peer in partial:
            peer.send(b"GET / HTTP/1.1\r\nhost: te")
        for peer in whole:
            peer.ask("/")
        ended = late(partial, begin)
        assert [status for _, status in ended] == [408] * len(partial)
        assert [status for _, status in late(whole, begin)] == [200] * len(whole)
        assert holder.read().status == 200
        in_time = [seconds for seconds, _ in ended if seconds < 1.5]
        print(f"{len(in_time)} of {len(partial)} in time; from {ended[0][0]:.2f} to {ended[-1][0]:.2f} s")
        assert ended[0][0] > 0.45
        assert len(in_time) > 10, "those of the other worker"
        assert len(in_time) < len(partial), "else nobody was with the one that computes"
        # It ends 1.9 s after `begin`, and has its next turn at once.
        assert ended[-1][0] < 3


@needs_proc
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=processes_only)])
def test_a_worker_that_is_stopped_for_a_while(tmp_path, workers):
    """Its peers wait, and are answered, over their keep-alive time-out too; those of another worker notice nothing."""
    with (
        Process(tmp_path, APP, "--workers", str(workers), "--keep-alive-timeout", "1") as server,
        contextlib.ExitStack() as stack,
    ):
        peers = [stack.enter_context(Peer(server.port)) for _ in range(20)]
        pids = [peer.get("/").json() for peer in peers]
        stopped = pids[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            for peer in peers:
                peer.ask("/")
            others = [peer for peer, pid in zip(peers, pids, strict=True) if pid != stopped]
            assert [peer.read().status for peer in others] == [200] * len(others)
            assert bool(others) == (workers == 2)
            time.sleep(1.5)
        finally:
            os.kill(stopped, signal.SIGCONT)
        waiting = [peer for peer, pid in zip(peers, pids, strict=True) if pid == stopped]
        assert [peer.read().json() for peer in waiting] == [stopped] * len(waiting)
        assert not [line for line in server.lines if "ERROR" in line]


@needs_proc
def test_more_connect_than_the_backlog_holds(tmp_path):
    """The kernel drops who comes too many, and their kernels ask again: all are served in the end, and nobody is reset."""
    with Process(tmp_path, APP, "--workers", "1", "--backlog", "4") as server:
        answers: list[Answer] = []

        def ask() -> None:
            # On a busy machine a kernel may have to ask four times, the last time after 31 seconds.
            answers.append(get(server.port, "/", patience=60))

        threads = [threading.Thread(target=ask) for _ in range(40)]
        server.signal(signal.SIGSTOP)
        for thread in threads:
            thread.start()
            # Their kernels ask again after 1, 3, 7, 15 seconds: all in the same millisecond most would be dropped each time.
            time.sleep(0.01)
        time.sleep(0.3)
        server.signal(signal.SIGCONT)
        for thread in threads:
            thread.join()
        assert [answer.status for answer in answers] == [200] * len(threads)


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

/* The wall clock is as many seconds ahead as the file of CLOCK_FILE says. */
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    static volatile long *ahead;
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (!ahead) ahead = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, open(getenv("CLOCK_FILE"), O_RDONLY | O_CLOEXEC), 0);
    int failed = real(clock, time);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) time->tv_sec += *ahead;
    return failed;
}
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs a C compiler, and glibc's way to put a function before its own"
)
def test_the_wall_clock_jumps(tmp_path):
    """A day ahead, then two back: the date follows, and no time-out notices."""
    (tmp_path / "clock.c").write_text(CLOCK)
    library, file = tmp_path / "clock.so", tmp_path / "seconds"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    file.write_bytes((0).to_bytes(8, sys.byteorder, signed=True))

    def date(answer: Answer) -> float:
        parsed = email.utils.parsedate(answer.header("date"))
        assert parsed is not None
        return calendar.timegm(parsed)

    variables = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(file)}
    with Process(tmp_path, APP, "--workers", "1", "--head-timeout", "1.2", **variables) as server:
        for ahead in (86_400, -86_400):
            with Peer(server.port) as idle, Peer(server.port) as partial, Peer(server.port) as asleep:
                assert idle.get("/").status == 200
                begin = time.monotonic()
                partial.send(b"GET / HTTP/1.1\r\n")
                asleep.ask("/sleep?seconds=0.6")
                time.sleep(0.1)
                with file.open("r+b") as opened:
                    opened.write(ahead.to_bytes(8, sys.byteorder, signed=True))
                time.sleep(0.2)
                assert abs(date(idle.get("/")) - time.time() - ahead) < 3
                assert asleep.read().status == 200
                assert 0.6 <= time.monotonic() - begin < 1.1
                assert partial.read().status == 408
                assert 1.2 <= time.monotonic() - begin < 3
                assert idle.get("/").status == 200


def start_with_pipe(folder: Path, *options: str) -> tuple[subprocess.Popen, int, int]:
    """The server, its port, and the end of the pipe where its log comes out."""
    (folder / "served_app.py").write_text(APP)
    log, theirs = os.pipe()
    command = [sys.executable, "-m", "turboapi", "serve", "served_app:app", "--port", "0", "--workers", "1", *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    while b"INFO ready" not in text:
        data = os.read(log, 65_536)
        assert data, text
        text += data
    return process, int(text.partition(b"http://127.0.0.1:")[2].split()[0]), log


def test_a_log_that_nobody_reads_any_more(tmp_path):
    """Its pipe is closed: what is logged is lost, and the server serves, and ends with 0."""
    process, port, log = start_with_pipe(tmp_path)
    os.close(log)
    try:
        with Peer(port) as peer:
            for _ in range(3):
                assert peer.get("/").status == 200
                assert peer.get("/raises").status == 500
                with Peer(port) as cut:
                    cut.ask("/raises_later")
                    assert b"begun" in cut.rest()
                # An app's own print gets the error, as everywhere.
                assert peer.get("/log").status == 500
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()


def test_a_log_that_is_read_late(tmp_path):
    """Its pipe is full: who logs waits, and goes on when it is read. Nobody else's time is shortened by that."""
    process, port, log = start_with_pipe(tmp_path, "--head-timeout", "0.3")
    try:
        with Peer(port) as peer, Peer(port) as waiting:
            assert waiting.get("/").status == 200
            peer.ask("/log?bytes=100000")
            time.sleep(0.2)
            waiting.ask("/")
            time.sleep(0.8)
            threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(log, 65_536), b"")]).start()
            assert peer.read().json() == "logged"
            assert waiting.read().status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()


def test_ipv6(tmp_path):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with Process(tmp_path, APP, "--host", "::1", "--workers", "2") as server:
        for host in (f"[::1]:{server.port}", "[::1]", "example.test"):
            with socket.create_connection(("::1", server.port), timeout=PATIENCE) as client:
                client.sendall(f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
                assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 OK\r\n")
