"""What wakes the main thread: signals, and other threads that have something to tell.

Not here: what a signal means (threads.py, processes.py). No Python runs in a signal handler: the interpreter's own C handler
writes the signal's number into a socket, and the main thread, which waits on it, reads it there.
"""

import signal
import socket
import threading
import time
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any, Self

#: SIGHUP comes when the terminal is closed, from the shell and from the kernel: a second one is no second wish. By default it ends a
#: program at once, which leaves a Unix socket's file behind.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: The same signal again so soon is the same wish: timeout(1) signals its command and then the group, of which that is one.
ECHO_SECONDS = 0.2


def ignore(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing. SIG_IGN would be inherited by the programs that an app starts; this is not."""


class Signals:
    """Signals and `ring()` make `descriptor` readable; `read()` says which. A context manager that puts everything back.

    Off the main thread Python allows no signal handlers; there only `ring()` is heard.
    """

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)  # set_wakeup_fd asks for it: a handler must never wait
        self._signals = tuple(signals) if threading.current_thread() is threading.main_thread() else ()
        self._handlers: dict[signal.Signals, Any] = {}
        self._wakeup = -1
        self._seen: dict[int, float] = {}  # by signal: when it came last

    @property
    def descriptor(self) -> int:
        """Readable when there is something to `read()`."""
        return self._ours.fileno()

    def __enter__(self) -> Self:
        if self._signals:
            self._wakeup = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
            # `nohup` has SIGHUP ignored, so that what it starts outlives the terminal.
            heard = [n for n in self._signals if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, ignore) for number in heard}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._signals:
            signal.set_wakeup_fd(self._wakeup)
        self.close()

    def close(self) -> None:
        """Closes the sockets and leaves the handlers: for the child of a fork, which sets its own."""
        self._ours.close()
        self._theirs.close()

    def ring(self) -> None:
        """Wakes the main thread. From any thread; never blocks, never raises."""
        try:
            self._theirs.send(b"\0")
        except OSError:  # full: it is awake anyway; closed: nobody listens any more
            pass

    def read(self) -> list[int]:
        """The signals that came since the last call, in order, without their echoes. Never blocks."""
        try:
            numbers = [number for number in self._ours.recv(4096) if number in self._signals]
        except BlockingIOError:
            return []
        now, news = time.monotonic(), []
        for number in numbers:
            if now - self._seen.get(number, -ECHO_SECONDS) >= ECHO_SECONDS:
                news.append(number)
            self._seen[number] = now
        return news
