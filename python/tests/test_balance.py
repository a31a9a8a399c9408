"""Connections over workers: evenly dealt out, over ports, Unix sockets and inherited descriptors, and not lost when a worker dies.

All of it from the outside: each answer says which worker gave it. The workers are processes on an ordinary build, threads on a
free-threaded one; the same code deals out to both.
"""

import collections
import contextlib
import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from process import THREADS

from turboapi.errors import ListenError
from turboapi.serving.listeners import activated, inherit, open_unix
from turboapi.serving.loading import is_free_threaded
from turboapi.testing import TestServer

APP = """
import asyncio, os, threading, time
from fastapi import Request
from turboapi import TurboAPI

app = TurboAPI()

def me():
    return f"{os.getpid()}.{threading.get_native_id()}"

@app.get("/who")
async def who():
    return me()

@app.get("/busy", blocking=False)
def busy():
    time.sleep(0.7)
    return me()

@app.get("/held", blocking=False)
def held():
    time.sleep(2.0)
    return me()

@app.get("/slow")
async def slow():
    await asyncio.sleep(1.5)
    return me()

@app.get("/die", blocking=False)
async def die():
    # What a broken platform does: the call that the loop waits in raises. Soon, so that nobody takes it for blocked before.
    time.sleep(0.15)
    def broken(timeout=None):
        raise OSError(9, "broken on purpose")
    asyncio.get_running_loop()._selector.select = broken
    asyncio.get_running_loop().call_soon(int)  # so that the present call ends, and the next one is that
    return me()

@app.get("/scope")
async def scope(request: Request):
    return {name: request.scope[name] for name in ("client", "server", "scheme")} | {"worker": me()}
"""

processes_only = pytest.mark.skipif(is_free_threaded(), reason="workers are threads here")
threads_only = pytest.mark.skipif(not is_free_threaded(), reason="workers are processes here")

#: Runs a command as systemd does: these descriptors become 3, 4, ... and the variables name the process that it becomes.
ACTIVATE = """
import os, sys
count = int(sys.argv[1])
given = [os.dup(int(number)) for number in sys.argv[2 : 2 + count]]
given = [os.dup2(os.dup2(number, 100 + index), 3 + index) for index, number in enumerate(given)]
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": "web:local"}
os.execv(sys.executable, [sys.executable, *sys.argv[2 + count :]])
"""


FORK_FAILS = """
import errno, os
fork = os.fork
def fork_that_may_fail():
    if os.path.exists({fails!r}):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()
os.fork = fork_that_may_fail
"""
"""A module that Python imports when it starts."""


class Served:
    """`turboapi serve` as a process, ended with the test."""

    def __init__(self, folder: Path, *options: str, descriptors: list[int] | None = None, activates: bool = False, path: str = "") -> None:
        (folder / "balance_app.py").write_text(APP)
        serve = ["-m", "turboapi", "serve", "balance_app:app", *options]
        given = descriptors or []
        command = [sys.executable, *serve]
        if activates:
            command = [sys.executable, "-c", ACTIVATE, str(len(given)), *map(str, given), *serve]
        environment = {**os.environ, **THREADS, "PYTHONPATH": f"{Path(__file__).parent.parent}:{path}"}
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment, pass_fds=given)
        self.log = ""
        for line in self.process.stderr:
            self.log += line
            if line.endswith("INFO ready\n"):
                break
        found = re.search(r"serving http://127\.0\.0\.1:(\d+)", self.log)
        self.address = ("127.0.0.1", int(found[1])) if found else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.log += self.process.communicate(timeout=30)[1]
        return self.process.returncode


def connect(address) -> socket.socket:
    is_six = not isinstance(address, str) and ":" in address[0]
    client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if is_six else socket.AF_INET)
    client.settimeout(20)
    client.connect(address)
    return client


def ask(client: socket.socket, path: str = "/who") -> None:
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())


def answer(client: socket.socket) -> str:
    """The body of one answer. A connection that ends before is an error."""
    received = b""
    while True:
        head, mark, body = received.partition(b"\r\n\r\n")
        if mark and len(body) >= int(re.search(rb"content-length: (\d+)", head)[1]):
            assert head.startswith(b"HTTP/1.1 200 "), received
            return body.decode().strip('"')
        data = client.recv(65_536)
        if not data:
            raise ConnectionResetError(f"end of file after {received!r}")
        received += data


def pid_of(worker: str) -> int:
    return int(worker.partition(".")[0])


def served_by(clients: list[socket.socket]) -> collections.Counter[str]:
    """Asks on all of them at once; which worker answered how many."""
    for client in clients:
        ask(client)
    return collections.Counter(map(answer, clients))


def timed(clients: list[socket.socket]) -> tuple[collections.Counter[str], float]:
    """The same, and in how many seconds."""
    begin = time.monotonic()
    return served_by(clients), time.monotonic() - begin


def close(clients: list[socket.socket]) -> None:
    """Closes them, when their workers have done so too: the next round is to begin with nothing."""
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    for client in clients:
        assert client.recv(1) == b""
        client.close()
    time.sleep(0.1)


@pytest.mark.parametrize(("workers", "bar"), [(4, 1.25), (8, 1.3)])
@pytest.mark.parametrize("place", ["port", "unix"])
def test_sixty_four_connections_are_dealt_out_evenly(tmp_path, workers, bar, place):
    path = str(tmp_path / "app.sock")
    options = ["--port", "0"] if place == "port" else ["--uds", path]
    with Served(tmp_path, "--workers", str(workers), *options) as served:
        address = served.address or path
        for is_at_once in [True, False] * 3:
            seen = collections.Counter()
            clients = []
            for _ in range(64):
                clients.append(connect(address))
                if not is_at_once:
                    ask(clients[-1])
                    seen[answer(clients[-1])] += 1
            if is_at_once:
                for client in clients:
                    ask(client)
                seen.update(map(answer, clients))
            assert len(seen) == workers
            assert max(seen.values()) <= bar * 64 / workers, sorted(seen.values())
            # They stay where they are.
            ask(clients[0])
            assert answer(clients[0]) in seen
            close(clients)
        assert served.end() == 0
        assert "Traceback" not in served.log
        assert "are closed" not in served.log


def test_a_worker_without_room_is_no_target(tmp_path):
    """Ten connections on two workers of five: all are served. The eleventh waits until one has gone."""
    path = str(tmp_path / "app.sock")
    with Served(tmp_path, "--workers", "2", "--connections-max", "5", "--uds", path) as served:
        clients = [connect(path) for _ in range(10)]
        assert sorted(served_by(clients).values()) == [5, 5]
        late = connect(path)
        ask(late)
        late.settimeout(0.4)
        with pytest.raises(TimeoutError):
            late.recv(1)
        late.settimeout(20)
        # Whichever of the two it is: the worker that accepts learns of it.
        clients.pop().close()
        assert answer(late)
        assert served.end() == 0


@pytest.mark.parametrize("backend", ["auto", "epoll"])
def test_a_burst_passes_the_bound_of_connections_by_a_batch_at_most(tmp_path, backend):
    if backend != "auto" and sys.platform != "linux":
        pytest.skip("epoll is Linux's")
    with Served(tmp_path, "--workers", "1", "--connections-max", "10", "--port", "0", "--backend", backend) as served:
        busy = connect(served.address)
        ask(busy, "/busy")
        time.sleep(0.1)
        clients = [connect(served.address) for _ in range(200)]  # all of them wait in the backlog
        for client in clients:
            ask(client)
        answer(busy)
        time.sleep(0.5)
        is_served = {client: bool(select.select([client], [], [], 0)[0]) for client in clients}
        assert 9 <= sum(is_served.values()) <= 9 + 64
        # The others have not been closed, and have their turn when there is room.
        for client in sorted(clients, key=lambda client: not is_served[client]):
            assert answer(client)
            client.close()
        busy.close()
        assert served.end() == 0


def test_a_worker_that_is_blocked_is_handed_nothing(tmp_path):
    """And one that has slept for as long in the kernel is."""
    path = str(tmp_path / "app.sock")
    with Served(tmp_path, "--workers", "3", "--uds", path) as served:
        first, second = connect(path), connect(path)
        for client in (first, second):
            ask(client)
        accepts, blocked = answer(first), answer(second)
        assert accepts != blocked
        time.sleep(0.5)
        # The best of three: on a busy machine a worker may come to its handler late, or be no sooner seen than it is done.
        for _ in range(3):
            ask(second, "/held")
            time.sleep(0.4)
            clients = [connect(path) for _ in range(12)]
            counts, seconds = timed(clients)
            assert answer(second) == blocked
            if blocked not in counts:
                break
            close(clients)
            time.sleep(0.5)
        assert blocked not in counts
        assert len(counts) == 2
        assert seconds < 1.0, "the handler has 1.6 s to go"
        time.sleep(0.1)
        late = [connect(path) for _ in range(4)]
        for client in late:
            ask(client)
        assert set(map(answer, late)) == {blocked}, "now it has the least"
        close([first, second, *clients, *late])
        assert served.end() == 0


@pytest.mark.parametrize("place", ["port", "unix"])
def test_who_connects_to_a_worker_that_is_blocked_is_served_by_the_others(tmp_path, place):
    """Also over a Unix socket, where it is the one that accepts for all. When it is back it serves again."""
    path = str(tmp_path / "app.sock")
    options = ["--port", "0"] if place == "port" else ["--uds", path]
    with Served(tmp_path, "--workers", "3", *options) as served:
        address = served.address or path
        first = connect(address)
        ask(first)
        held = answer(first)
        for _ in range(2):
            ask(first, "/held")
            time.sleep(0.1)
            clients = [connect(address) for _ in range(24)]
            counts, seconds = timed(clients)
            print(f"{place}: 24 answered {seconds:.2f} s after they connected, by {dict(counts)}")
            assert held not in counts
            assert len(counts) == 2
            assert seconds < 1.0, "the handler has 1.9 s to go"
            assert answer(first) == held
            time.sleep(0.1)
            close(clients)
        clients = [connect(address) for _ in range(24)]
        assert held in served_by(clients)
        close([first, *clients])
        assert served.end() == 0
        assert "are closed" not in served.log


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_main_thread_sleeps_while_nobody_connects(tmp_path):
    path = str(tmp_path / "app.sock")
    with Served(tmp_path, "--workers", "2", "--uds", path) as served:

        def switches() -> int:
            text = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/status").read_text()
            return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M)[1])

        client = connect(path)
        ask(client)
        answer(client)
        time.sleep(0.5)
        before = switches()
        for _ in range(50):
            ask(client)
            answer(client)
            time.sleep(0.01)
        assert switches() - before <= 2
        assert served.end() == 0


# Where a server listens


def test_a_unix_socket(tmp_path):
    path = str(tmp_path / "app.sock")
    umask = os.umask(0o007)
    try:
        with Served(tmp_path, "--workers", "2", "--uds", path) as served:
            assert f"serving unix:{path} with 2 worker" in served.log
            assert stat.S_IMODE(Path(path).stat().st_mode) == 0o770
            clients = [connect(path) for _ in range(4)]
            for client in clients:
                ask(client, "/scope")
            assert all(f'"client":null,"server":["{path}",null],' in answer(client) for client in clients)
            assert served.end() == 0
    finally:
        os.umask(umask)
    assert not Path(path).exists()


def test_a_test_server_on_a_unix_socket(tmp_path):
    from turboapi import TurboAPI

    path = str(tmp_path / "ü.sock")
    with TestServer(TurboAPI(), uds=path) as server:
        assert server.url == f"unix:{path}"
        client = connect(path)
        client.sendall(b"GET /none HTTP/1.1\r\nhost: h\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 404 ")
        client.close()


def test_the_file_of_a_dead_server_is_replaced(tmp_path):
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    listeners = open_unix(path, workers=2, backlog=8)
    connect(path).close()
    listeners.close()
    assert not Path(path).exists()


def test_a_file_that_is_not_ours_any_more_stays(tmp_path):
    path = str(tmp_path / "app.sock")
    listeners = open_unix(path, workers=1, backlog=8)
    Path(path).rename(path + ".old")  # so that its number is not given to the next one
    with open_unix_socket(path):
        listeners.close()
        assert Path(path).exists()


def test_of_servers_that_find_the_same_stale_file_one_gets_it(tmp_path):
    path = str(tmp_path / "app.sock")
    for _ in range(50):
        open_unix_socket(path).close()
        opened, refused = [], []
        barrier = threading.Barrier(4)

        def start(opened=opened, refused=refused, barrier=barrier):
            barrier.wait()
            try:
                opened.append(open_unix(path, workers=1, backlog=8))
            except ListenError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused == [f"{path} is served by another process; stop it, or choose another path"] * 3
        connect(path).close()
        opened[0].close()


def test_a_server_that_ends_leaves_its_successors_file(tmp_path):
    """Also where the file system gives the successor's file the same number."""
    path = str(tmp_path / "app.sock")
    for _ in range(20):
        ending = open_unix(path, workers=1, backlog=8)
        for listener in ending.shared:
            listener.close()
        successor = open_unix(path, workers=1, backlog=8)
        ending.close()
        connect(path).close()
        successor.close()
        assert not Path(path).exists()


def test_workers_that_have_nothing_to_do_end_at_once(tmp_path):
    """Of all workers of a Unix socket only one has a listener."""
    with Served(tmp_path, "--workers", "3", "--uds", str(tmp_path / "app.sock")) as served:
        begin = time.monotonic()
        assert served.end() == 0
        assert time.monotonic() - begin < 10  # drain_timeout is 30 s


@processes_only
def test_a_fork_that_fails_is_tried_again(tmp_path):
    """As it does at a limit of processes: for one that has died meanwhile the others go on."""
    fails = tmp_path / "fails"
    (tmp_path / "sitecustomize.py").write_text(FORK_FAILS.format(fails=str(fails)))
    with Served(tmp_path, "--workers", "2", "--port", "0", path=str(tmp_path)) as served:
        client = connect(served.address)
        ask(client)
        victim = pid_of(answer(client))
        fails.touch()
        threading.Timer(1.0, fails.unlink).start()
        os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + 20
        workers = set()
        while len(workers - {victim}) < 2 and time.monotonic() < deadline:
            with contextlib.suppress(ConnectionError), connect(served.address) as client:
                ask(client)
                workers.add(pid_of(answer(client)))
        assert len(workers - {victim}) == 2
        assert served.end() == 0
        assert re.search(r"worker \d cannot be started: .*; it is tried again in 0.5 s", served.log)


def open_unix_socket(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener


def test_a_unix_socket_that_cannot_be_had(tmp_path):
    live = str(tmp_path / "live.sock")
    (tmp_path / "file").write_text("precious")
    before = len(list(Path("/dev/fd").iterdir()))
    with open_unix_socket(live):
        for path, message in [
            (live, "live.sock is served by another process; stop it, or choose another path"),
            (str(tmp_path / "file"), "file is there and is no socket; remove it, or choose another path"),
            (str(tmp_path), " is there and is no socket"),
            (str(tmp_path / "none" / "app.sock"), "none is no folder"),
            (str(tmp_path / ("x" * 120)), " bytes, a Unix socket's path has at most "),
        ]:
            with pytest.raises(ListenError) as caught:
                open_unix(path, workers=1, backlog=8)
            assert message in str(caught.value)
            assert caught.value.host == path
        connect(live).close()
    assert (tmp_path / "file").read_text() == "precious"
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_an_inherited_descriptor(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number, address = listener.fileno(), listener.getsockname()
        with Served(tmp_path, "--workers", "2", "--fd", str(number), descriptors=[number]) as served:
            assert f"serving http://127.0.0.1:{address[1]} (fd {number}) with 2 worker" in served.log
            clients = [connect(address) for _ in range(8)]
            assert sorted(served_by(clients).values()) == [4, 4]
            close(clients)
            assert served.end() == 0
        # It is somebody else's, and as open as it was.
        connect(address).close()


def test_a_descriptor_that_is_no_listener(tmp_path):
    with socket.socket() as idle, socket.socket(type=socket.SOCK_DGRAM) as datagrams, (tmp_path / "file").open("w") as file:
        closed = os.dup(file.fileno())
        os.close(closed)
        for number, message in [
            (idle.fileno(), "is a socket that does not listen; the program that hands it down has to call listen()"),
            (datagrams.fileno(), "is a socket of another kind (<AddressFamily.AF_INET"),
            (file.fileno(), "is no socket; it must be a listening one"),
            (closed, "is not open (Bad file descriptor)"),
        ]:
            with pytest.raises(ListenError) as caught:
                inherit([(number, f"fd {number}")], workers=1)
            assert str(caught.value).startswith(f"fd {number} {message}")
        assert idle.fileno() >= 0
        os.fstat(idle.fileno())


def test_sockets_of_systemd(tmp_path):
    path = str(tmp_path / "local.sock")
    with socket.create_server(("127.0.0.1", 0)) as web, open_unix_socket(path) as local:
        address = web.getsockname()
        options = ("--workers", "2")
        with Served(tmp_path, *options, descriptors=[web.fileno(), local.fileno()], activates=True) as served:
            assert f"http://127.0.0.1:{address[1]} (systemd's fd 3 web), unix:{path} (systemd's fd 4 local) with" in served.log
            for where in (address, path, path, address):
                client = connect(where)
                ask(client)
                assert answer(client)
            assert served.end() == 0
    assert Path(path).exists()  # systemd's, not ours


def places_of_uvicorn(listeners: list[socket.socket], reach: list[Any]) -> list[dict[str, Any]]:
    """What uvicorn tells an app of connections to these addresses."""
    seen: list[dict[str, Any]] = []

    async def app(scope, receive, send):
        seen.append({name: scope[name] for name in ("client", "server", "scheme")})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener.dup() for listener in listeners],))
    thread.start()
    try:
        for address in reach:
            with connect(address) as client:
                ask(client)
                answer(client)
                seen[-1]["client"] = seen[-1]["client"] and [seen[-1]["client"][0], seen[-1]["client"][1] == client.getsockname()[1]]
    finally:
        server.should_exit = True
        thread.join()
    return json.loads(json.dumps(seen))


def test_a_connection_says_where_it_came_in(tmp_path):
    """As under uvicorn: on every listener, whichever worker accepts there, and whichever then serves."""
    path = str(tmp_path / "local.sock")
    with (
        socket.create_server(("127.0.0.1", 0)) as web,
        socket.create_server(("0.0.0.0", 0)) as everywhere,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both,
        open_unix_socket(path) as local,
    ):
        listeners = [web, everywhere, six, both, local]
        port = {listener: listener.getsockname()[1] for listener in listeners[:-1]}
        reach = [
            ("127.0.0.1", port[web]),
            ("127.0.0.2", port[everywhere]),
            ("::1", port[six]),
            ("::1", port[both]),
            ("127.0.0.3", port[both]),
            path,
        ]
        expected = places_of_uvicorn(listeners, reach)
        assert expected[1]["server"] == ["127.0.0.2", port[everywhere]], "not 0.0.0.0"
        with Served(tmp_path, "--workers", "2", descriptors=[listener.fileno() for listener in listeners], activates=True) as served:
            workers = set()
            for address, told in zip(reach * 2, expected * 2, strict=True):
                clients = [connect(address) for _ in range(6)]  # so many that both workers have some
                for client in clients:
                    ask(client, "/scope")
                for client in clients:
                    seen = json.loads(answer(client))
                    workers.add(seen.pop("worker"))
                    seen["client"] = seen["client"] and [seen["client"][0], seen["client"][1] == client.getsockname()[1]]
                    assert seen == told, address
                close(clients)
            assert len(workers) == 2
            assert served.end() == 0


@pytest.mark.parametrize(
    ("options", "variables", "seen"),
    [
        (["--port", "8001"], {}, "port is 8001"),
        (["--port", "8000"], {}, "port is 8000"),  # the default, but somebody wants it
        (["--host", "127.0.0.1"], {}, "host is '127.0.0.1'"),
        ([], {"TURBOAPI_PORT": "8000"}, "port is 8000"),
        (["--uds", "app.sock"], {}, "uds is 'app.sock'"),
        (["--fd", "3"], {}, "fd is 3"),
    ],
)
def test_sockets_of_systemd_and_another_place(tmp_path, monkeypatch, options, variables, seen):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with (
        socket.create_server(("127.0.0.1", 0)) as web,
        Served(tmp_path, *options, descriptors=[web.fileno()], activates=True) as served,
    ):
        assert served.process.wait(20) == 1
        assert f"{seen}, and systemd has handed down 1 socket (LISTEN_FDS); leave one of them out" in served.log


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has names without a file")
def test_a_name_without_a_file_is_printed_as_others_print_it(tmp_path):
    name = f"turboapi-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        with Served(tmp_path, "--workers", "2", "--fd", str(listener.fileno()), descriptors=[listener.fileno()]) as served:
            assert f"serving unix:@{name} (fd {listener.fileno()}) with" in served.log
            client = connect(f"\0{name}")
            ask(client, "/scope")
            assert f'"client":null,"server":["@{name}",null],' in answer(client)
            client.close()
            assert served.end() == 0
        assert "\0" not in served.log


@pytest.mark.parametrize(
    ("environment", "expected", "left"),
    [
        ({}, [], {}),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, [], {"LISTEN_PID": "8", "LISTEN_FDS": "1"}),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "1", "PATH": "/"}, [(3, "systemd's fd 3")], {"PATH": "/"}),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"}, [(3, "systemd's fd 3 a"), (4, "systemd's fd 4")], {}),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, [], {}),
    ],
)
def test_variables_of_systemd(environment, expected, left):
    assert activated(environment, 7) == expected
    assert environment == left


@pytest.mark.parametrize("number", ["", "-1", "two", "9999"])
def test_variables_of_systemd_that_cannot_be_read(number):
    with pytest.raises(ListenError, match=rf"^LISTEN_FDS is '{number}', it must be a number of sockets"):
        activated({"LISTEN_PID": "7", "LISTEN_FDS": number}, 7)


# Workers that go


class Asking(threading.Thread):
    """One connection that asks again and again. When it breaks, it remembers of whom, and connects anew."""

    def __init__(self, address, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.stop = stop
        self.client = connect(address)
        self.worker = self.ask()
        self.broken: list[str] = []
        self.answers = 0
        self.problem = ""

    def ask(self) -> str:
        ask(self.client)
        return answer(self.client)

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                try:
                    assert self.ask() == self.worker
                    self.answers += 1
                except ConnectionError:
                    self.broken.append(self.worker)
                    self.client.close()
                    self.client = connect(self.address)
                    self.worker = self.ask()
                time.sleep(0.002)
        except Exception as error:
            self.problem = repr(error)
        self.client.close()


@processes_only
@pytest.mark.parametrize("place", ["port", "unix"])
def test_kill_9_under_load_harms_nobody_else(tmp_path, place):
    path = str(tmp_path / "app.sock")
    options = ["--port", "0"] if place == "port" else ["--uds", path]
    with Served(tmp_path, "--workers", "4", *options) as served:
        address = served.address or path
        stop = threading.Event()
        clients = [Asking(address, stop) for _ in range(24)]
        for client in clients:
            client.start()
        time.sleep(0.3)
        # The first that was forked: over a Unix socket the one that accepts for all.
        victim = min(pid_of(client.worker) for client in clients)
        before = {client: client.worker for client in clients}
        # It stands still, so that what connects now waits in its backlog or its mailbox for certain, then it is no more.
        os.kill(victim, signal.SIGSTOP)
        while any(" T " not in stat.read_text() for stat in Path(f"/proc/{victim}/task").glob("*/stat")):
            time.sleep(0.001)
        queued = [connect(address) for _ in range(40)]
        for client in queued:
            ask(client)
        os.kill(victim, signal.SIGKILL)  # before the others take it for blocked
        begin = time.monotonic()
        served_by = collections.Counter(pid_of(answer(client)) for client in queued)
        seconds = time.monotonic() - begin
        time.sleep(0.3)
        stop.set()
        for client in clients:
            client.join(20)
        assert [client.problem for client in clients if client.problem] == []
        for client in clients:
            was_victims = pid_of(before[client]) == victim
            assert client.broken == ([before[client]] if was_victims else []), "its own connections break, no others"
            assert client.answers > 0
        assert any(client.broken for client in clients)
        assert victim not in served_by
        assert len(served_by) == 4, "the successor has served its predecessor's queue"
        assert seconds < 20.0  # on a quiet machine it is a quarter of a second; a queue that nobody has is never answered
        print(f"{place}: 40 queued connections answered {seconds:.2f} s after the kill, by {dict(served_by)}")
        for client in queued:
            client.close()
        assert served.end() == 0
        assert "are closed" not in served.log


@processes_only
def test_what_queues_at_a_worker_that_is_told_to_stop_does_not_wait_for_its_last_request(tmp_path):
    with Served(tmp_path, "--workers", "2", "--port", "0") as served:
        busy = connect(served.address)
        ask(busy)
        victim = pid_of(answer(busy))
        ask(busy, "/slow")
        time.sleep(0.2)
        os.kill(victim, signal.SIGTERM)
        begin = time.monotonic()
        clients = []
        for _ in range(30):
            clients.append(connect(served.address))
            ask(clients[-1])
            time.sleep(0.005)
        workers = {pid_of(answer(client)) for client in clients}
        seconds = time.monotonic() - begin
        assert pid_of(answer(busy)) == victim, "and that request is answered"
        assert len(workers - {victim}) == 2
        print(f"30 connections answered {seconds:.2f} s after the signal")
        for client in clients:
            client.close()
        assert served.end() == 0


@threads_only
@pytest.mark.parametrize("place", ["port", "unix"])
def test_what_waits_for_a_thread_that_dies_is_served_by_the_others(tmp_path, place):
    path = str(tmp_path / "app.sock")
    options = ["--port", "0"] if place == "port" else ["--uds", path]
    with Served(tmp_path, "--workers", "3", *options) as served:
        address = served.address or path
        fatal = connect(address)
        ask(fatal, "/die")
        time.sleep(0.05)
        waiting = [connect(address) for _ in range(30)]
        for client in waiting:
            ask(client)
        answers = collections.Counter(answer(client) for client in waiting)
        assert 1 <= len(answers) <= 2
        served.log += served.process.communicate(timeout=30)[1]
        assert served.process.returncode == 1
        found = re.search(r"of the connections that waited for worker \d, others serve (\d+), and 0 are closed", served.log)
        assert found, served.log
        assert int(found[1]) > 0
        assert "broken on purpose" in served.log
