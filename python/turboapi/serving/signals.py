"""What wakes the thread that waits for a server's end: signals, and other threads that have something to tell.

Not here: what a signal means (threads.py, processes.py). No Python runs in a signal handler: the interpreter's own C handler
writes the signal's number into a socket, and the thread that waits on it reads it there. So a signal is heard also where Python on the
main thread is stuck.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any, Self

#: SIGHUP comes when the terminal is closed, from the shell and from the kernel: a second one is no second wish. By default it ends a
#: program at once, which leaves a Unix socket's file behind.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: The same signal again so soon is the same wish: timeout(1) signals its command and then the group, of which that is one.
ECHO_SECONDS = 0.2


def ignore(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing. SIG_IGN would be inherited by the programs that an app starts; this is not."""


def is_of_handler(error: BaseException, loop: Any) -> bool:
    """Whether a signal handler of the app's has raised this: one of Python's, or of the event loop's."""
    if threading.current_thread() is not threading.main_thread():
        return False  # Python calls signal handlers nowhere else
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return True  # it has no frame of its own
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    # Private, and so called since Python 3.4.
    handlers += [handle._callback for handle in getattr(loop, "_signal_handlers", {}).values()]
    codes = {getattr(handler, "__code__", None) for handler in handlers} - {None}
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code in codes:
            return True
        step = step.tb_next
    return False


class Signals:
    """Signals and `ring()` make `descriptor` readable; `read()` says which. A context manager that puts everything back.

    Off the main thread Python allows no signal handlers; there only `ring()` is heard. A child that the app forks has them back, too:
    what it gets is its own.

    Args:
        signals: those that are for us.
        hear: called in `read()` with each signal that has a handler of Python's, ours or the app's.
    """

    def __init__(self, signals: Iterable[signal.Signals], hear: Callable[[int], None] = lambda number: None) -> None:
        self._hear = hear
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)  # set_wakeup_fd asks for it: a handler must never wait
        self._signals = tuple(signals) if threading.current_thread() is threading.main_thread() else ()
        self._handlers: dict[signal.Signals, Any] = {}
        self._wakeup = -1
        self._seen: dict[int, float] = {}  # by signal: when it came last
        self._first: int | None = None  # that was for us

    @property
    def descriptor(self) -> int:
        """Readable when there is something to `read()`."""
        return self._ours.fileno()

    @property
    def are_heard(self) -> bool:
        """Whether this is the main thread, where signals can be heard."""
        return bool(self._signals)

    def _take_notice(self) -> int:
        """Has the interpreter tell of signals here; returns the descriptor where it did before."""
        return signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)

    def listen(self, lost: int | None = None) -> None:
        """Has the interpreter tell of signals here again. `lost`: one that may have no handler any more; if it is ours it gets ours."""
        self._take_notice()
        if lost is not None and lost in self._handlers:
            signal.signal(lost, self._heal)

    def __enter__(self) -> Self:
        global _present
        if self._signals:
            self._wakeup = self._take_notice()
            _present = self
            # `nohup` has SIGHUP ignored, so that what it starts outlives the terminal.
            heard = [n for n in self._signals if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, self._heal) for number in heard}
        return self

    def _heal(self, number: int, frame: FrameType | None) -> None:
        """The handler. If the app, a library or a loop has taken the interpreter's notice of signals, this one has gone elsewhere."""
        if self._take_notice() != self._theirs.fileno():
            self._tell(number)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.give_back()
        self.close()
        # A handler that the app has set before it was served: now it is its turn.
        handler = self._handlers.get(signal.Signals(self._first)) if self._first is not None else None
        if callable(handler) and handler is not signal.default_int_handler and error is None:
            signal.raise_signal(self._first)

    def give_back(self) -> None:
        """Puts handlers and descriptor back as they were."""
        global _present
        if _present is self:
            _present = None
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._signals:
            signal.set_wakeup_fd(self._wakeup)

    def close(self) -> None:
        """Closes the sockets and leaves the handlers: for the child of a fork, which sets its own."""
        self._ours.close()
        self._theirs.close()

    def ring(self) -> None:
        """Wakes the thread that waits. From any thread; never blocks, never raises."""
        self._tell(0)

    def _tell(self, number: int) -> None:
        try:
            self._theirs.send(bytes([number]))
        except OSError:  # full: it is awake anyway; closed: nobody listens any more
            pass

    def read(self) -> list[int]:
        """The signals that came since the last call, in order, without their echoes. Never blocks."""
        try:
            heard = self._ours.recv(4096)
        except BlockingIOError:
            return []
        for number in heard:
            if number:
                self._hear(number)
        numbers = [number for number in heard if number in self._signals]
        now, news = time.monotonic(), []
        for number in numbers:
            if now - self._seen.get(number, -ECHO_SECONDS) >= ECHO_SECONDS:
                news.append(number)
                self._first = self._first or number
            self._seen[number] = now
        return news


#: Those that this process hears.
_present: Signals | None = None

#: Of a thread that is about to fork: its signal mask before.
_forking = threading.local()


def listen_again(lost: int | None = None) -> None:
    """Asyncio has taken the interpreter's notice of signals for its loop, or given it up: it is ours again."""
    if _present is not None:
        _present.listen(lost)


def _before_fork() -> None:
    # A signal that meets the child before it has its own handlers would be written to our socket.
    _forking.mask = None if _present is None else signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _after_fork(*, is_child: bool) -> None:
    if _forking.mask is not None:
        if is_child and _present is not None:
            _present.give_back()
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


# For good, and once for all servers of this process: there is no way to take these back.
os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(is_child=False),
    after_in_child=lambda: _after_fork(is_child=True),
)
