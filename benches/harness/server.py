"""One server under measurement: started on its core, its whole process tree's CPU time and memory read, stopped."""

import contextlib
import dataclasses
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 10
LOG_BYTES_MAX = 1 << 20
# What Linux tells in /proc, other systems tell through ps: CPU time to 10 ms, and no set of pages by kind.
HAS_PROC = pathlib.Path("/proc/self/stat").exists()


class ServerError(Exception):
    """The server did not do what the row needs."""


class AbsentBackend(ServerError):
    """The machine or the build has not the backend that was asked for: no failure, there is nothing to measure."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Of a process tree, bytes."""

    resident: int
    """All pages that are in memory: the Rss of smaps_rollup. Pages of files (programs, libraries) are among them."""
    anonymous: int
    """Of these, those that belong to no file: heap, stacks, and a ring's buffers."""


class Server:
    """A running server. It has a session of its own, so that all that it starts can be found and ended."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: pathlib.Path, core: int | None):
        """Starts it; `PORT` in the command becomes a port that was free a moment ago. Without a core it runs on any."""
        self.port = free_port()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the server
        self.core = core
        self.process = subprocess.Popen(
            [*([] if core is None else ["taskset", "-c", str(core)]), *(str(self.port) if part == "PORT" else part for part in command)],
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
                if said := self.refusal():
                    raise AbsentBackend(said)
                raise ServerError(f"ended at start with status {self.process.returncode}: {self.log_text()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise ServerError(f"does not listen after {START_SECONDS_MAX} s: {self.log_text()}")

    def refusal(self) -> str:
        """What it said if it has ended, as turboapi does, at a backend that it cannot have; empty otherwise.

        Its socket may listen before that, so the first that is seen of it can be a connection that is reset: then wait a moment.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        said = [line for line in self.log_lines() if "TURBOAPI_IO is" in line]
        return said[-1][said[-1].index("TURBOAPI_IO is") :] if self.process.poll() == 1 and said else ""

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
        if not HAS_PROC:
            parents = {pid: listed.parent for pid, listed in process_table().items()}
            found = parents.keys() & {self.process.pid}
        for pid in all_pids() if HAS_PROC else ():
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
        if not HAS_PROC:
            listed = process_table()
            return sum(listed[pid].cpu_seconds for pid in self.pids() if pid in listed)
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
        return self.rollup("Pss") if HAS_PROC else self.memory().resident

    def memory(self) -> Memory:
        """What is resident, shared pages once for each process."""
        if HAS_PROC:
            return Memory(self.rollup("Rss"), self.rollup("Anonymous"))
        listed = process_table()
        resident = sum(listed[pid].resident_bytes for pid in self.pids() if pid in listed)
        return Memory(resident, resident)

    def rollup(self, field: str) -> int:
        """The tree's sum of one field of smaps_rollup, in bytes."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += sum(int(size) for size in re.findall(rf"^{field}: +(\d+) kB", rollup, re.MULTILINE)) * 1024
        return total

    def descriptors(self) -> int:
        """Open ones of the tree. Linux only."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += sum(1 for _ in pathlib.Path(f"/proc/{pid}/fd").iterdir())
        return total

    def check_place(self, backend: str) -> None:
        """Raises ServerError where a thread left the core, or where the kernel shows another kind of I/O than `backend`."""
        has_ring = False
        if backend and self.backend() not in ("", backend):
            raise AbsentBackend(f"asked for {backend}, but it serves with {self.backend()}: {self.log_text()}")
        if not HAS_PROC:
            return  # no pinning, and one kind of I/O only
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


@dataclasses.dataclass(frozen=True)
class Listed:
    """A line of ps."""

    parent: int
    cpu_seconds: float
    resident_bytes: int


def process_table(text: str | None = None) -> dict[int, Listed]:
    """All processes by number, from what `ps -axo pid=,ppid=,time=,rss=` writes (where not given, it is asked)."""
    if text is None:
        text = subprocess.run(["ps", "-axo", "pid=,ppid=,time=,rss="], capture_output=True, text=True, check=True).stdout
    table = {}
    for line in text.splitlines():
        pid, parent, cpu, kibibytes = line.split()
        days, _, clock = cpu.rpartition("-")
        # macOS writes minutes and hundredths (12:34.56), others hours (1-02:03:04).
        seconds = sum(float(part) * 60**place for place, part in enumerate(reversed(clock.split(":"))))
        table[int(pid)] = Listed(int(parent), seconds + int(days or 0) * 86_400, int(kibibytes) * 1024)
    return table


def all_pids() -> list[int]:
    """Of every process that /proc shows."""
    return [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdecimal()]


def prefer(pid: int) -> None:
    """Puts a process that has a session of its own, and no threads yet, before ordinary ones, as far as that is permitted."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, -20)
    with contextlib.suppress(OSError):  # where Linux groups processes by session, it weighs the groups first
        pathlib.Path(f"/proc/{pid}/autogroup").write_text("-20")


@contextlib.contextmanager
def preferred() -> Iterator[None]:
    """The same for this process, and what it starts in its session, as long as this lasts."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    prefer(os.getpid())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        with contextlib.suppress(OSError):
            pathlib.Path("/proc/self/autogroup").write_text("0")


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
