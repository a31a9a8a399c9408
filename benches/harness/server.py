"""One server under measurement: started on its core, its whole process tree's CPU time and memory read, stopped."""

import contextlib
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import tempfile
import time

START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 10
LOG_BYTES_MAX = 1 << 20


class ServerError(Exception):
    """The server did not do what the row needs."""


class AbsentBackend(ServerError):
    """The machine or the build has not the backend that was asked for: no failure, there is nothing to measure."""


class Server:
    """A running server. It has a session of its own, so that all that it starts can be found and ended."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: pathlib.Path, core: int):
        """Starts it; `PORT` in the command becomes a port that was free a moment ago."""
        self.port = free_port()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the server
        self.core = core
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), *(str(self.port) if part == "PORT" else part for part in command)],
            env={**os.environ, **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def wait_until_it_listens(self) -> None:
        """Raises ServerError where it ends first or takes too long."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                text = self.log_text()
                # turboapi refuses a setting that it cannot follow with one line and status 1.
                kind = AbsentBackend if self.process.returncode == 1 and "Traceback" not in text else ServerError
                raise kind(f"ended at start with status {self.process.returncode}: {text}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise ServerError(f"does not listen after {START_SECONDS_MAX} s: {self.log_text()}")

    def log_lines(self) -> list[str]:
        """What it wrote until now."""
        written = os.pread(self.log.fileno(), LOG_BYTES_MAX, 0).decode(errors="replace")
        return [line.strip() for line in written.splitlines() if line.strip()]

    def log_text(self) -> str:
        """The last lines that it wrote, as one."""
        return " | ".join(self.log_lines()[-4:]) or "it wrote nothing"

    def backend(self) -> str:
        """What turboapi's line at start calls the backend; empty for other servers."""
        found = re.search(r"\bbackend ([a-z_-]+)", "\n".join(self.log_lines()))
        return found.group(1) if found else ""

    def pids(self) -> list[int]:
        """It, all that descend from it, and all in its session (a child whose parent ended stays in it)."""
        parents, found = {}, set()
        for pid in (int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdecimal()):
            with contextlib.suppress(OSError):
                fields = stat_fields(pid)
                parents[pid] = int(fields[1])
                if self.process.pid in (pid, int(fields[3])):
                    found.add(pid)
        while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
            found |= more
        return sorted(found)

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree, of ended threads and of reaped children too."""
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                # Linux: a process's CPU clock has the number (~pid << 3) | 2. It counts nanoseconds where /proc/PID/stat
                # counts 10 ms, and keeps the time of threads that have ended, which /proc/PID/task loses.
                total += time.clock_gettime((~pid << 3) | 2)
                total += sum(int(ticks) for ticks in stat_fields(pid)[13:15]) / os.sysconf("SC_CLK_TCK")
        return total

    def memory_bytes(self) -> int:
        """Proportional set size of the tree: what is shared is counted once."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += sum(int(size) for size in re.findall(r"^Pss: +(\d+) kB", rollup, re.MULTILINE)) * 1024
        return total

    def check_place(self, backend: str) -> None:
        """Raises ServerError where a thread left the core, or where the kernel shows another kind of I/O than `backend`."""
        has_ring = False
        for pid in self.pids():
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    cores = os.sched_getaffinity(int(task.name))
                    if cores != {self.core}:
                        raise ServerError(f"thread {task.name} may run on cores {sorted(cores)}, allowed is {self.core}")
            for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    has_ring |= "io_uring" in str(link.readlink())
        if backend == "epoll" and has_ring:
            raise ServerError(f"asked for epoll, but it has an io_uring: {self.log_text()}")
        if backend not in ("", "epoll") and not has_ring:
            raise AbsentBackend(f"asked for {backend}, but it has no io_uring: {self.log_text()}")
        if backend and self.backend() not in ("", backend):
            raise AbsentBackend(f"asked for {backend}, but it serves with {self.backend()}: {self.log_text()}")

    def stop(self) -> None:
        """Asks it to end, then ends what is left of it."""
        pids = self.pids()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS_MAX)
        for pid in set(pids) & set(self.pids()):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        while any(is_running(pid) for pid in pids):  # the next server must have the core for itself
            time.sleep(0.01)
        self.log.close()


def free_port() -> int:
    """One below those that Linux gives to outgoing connections: such a one could take it before the server is up."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def is_running(pid: int) -> bool:
    """It is there, and not just a dead one that nobody has collected."""
    with contextlib.suppress(OSError):
        return stat_fields(pid)[0] not in "ZX"
    return False


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, group, session, ..., cutime and cstime at 13 and 14."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
