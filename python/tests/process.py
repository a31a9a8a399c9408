"""The server as a user starts it, in a process of its own; and what that process holds and uses, read from /proc."""

import os
import queue
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

from wire import PATIENCE

from turboapi.serving.loading import is_free_threaded

MIB = 1024 * 1024

#: Has several workers be threads where they can be, and processes elsewhere: variables of the environment.
THREADS = {"TURBOAPI_WORKER_KIND": "threads"} if is_free_threaded() else {}


class Process:
    """`turboapi serve` in a folder. A context manager, whose end is the server's: it must be in good order.

    Args:
        folder: where the app is written to.
        app: source of a module that has an `app`.
        options: of the command line.
        variables: of the environment.
    """

    def __init__(self, folder: Path, app: str, *options: str, **variables: str) -> None:
        (folder / "served_app.py").write_text(app)
        command = [sys.executable, "-m", "turboapi", "serve", "served_app:app", "--port", "0", *options]
        environment = {**os.environ, **THREADS, "PYTHONPATH": str(Path(__file__).parent.parent), **variables}
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        #: What it has logged.
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self.line(r"serving http://\S+:(\d+) ")[1])
        self.line("INFO ready")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._queue.put(line)
        self._queue.put(None)

    def line(self, pattern: str) -> re.Match[str]:
        """The next line of the log that matches."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"no line like {pattern!r}, but {self.lines}"
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Waits for its end; returns the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while (line := self._queue.get()) is not None:
            self.lines.append(line)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        try:
            if kind is None:
                self.signal(signal.SIGTERM)
                assert self.end() == 0, self.lines
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def children(self) -> list[int]:
        """Its worker processes; none where workers are threads, or there is one."""
        return [int(word) for task in Path(f"/proc/{self.pid}/task").iterdir() for word in read(task / "children")]

    def resident(self) -> float:
        """MiB of memory that it holds, with its workers. Pages that several of them share count once for each."""
        sizes = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in [self.pid, *self.children()])
        return sum(sizes) * resource.getpagesize() / MIB

    def cpu_seconds(self) -> float:
        """What its threads have computed, to the nanosecond, those included that have ended: a thread's own file goes with it, and a
        difference of two sums of those files can be negative."""
        # clock_getcpuclockid(3) of Linux, as Python has only pthread_getcpuclockid: the complement of the pid, and 2 for CPUCLOCK_SCHED.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in [self.pid, *self.children()])

    def descriptors(self) -> int:
        """How many are open."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in [self.pid, *self.children()])

    def peak_over(self, base: float, until: threading.Event) -> float:
        """The most MiB over `base` until something has happened."""
        peak = 0.0
        while not until.wait(0.005):
            peak = max(peak, self.resident() - base)
        return peak


def read(file: Path) -> list[str]:
    """The words of a file in /proc; none if its thread has ended meanwhile."""
    try:
        return file.read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
