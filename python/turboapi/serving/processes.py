"""Workers as processes, one each, forked by a parent that does nothing but look after them.

The parent stays single-threaded (a fork copies one thread only) and keeps the listeners and the workers' mailboxes, so that what
queues at a worker that died is served by its successor. A child hears from its parent over a socket, and ends in good order when
that closes: no worker outlives its server.

Not here: what runs in a child, which is `Threads` of threads.py with one worker.
"""

import atexit
import importlib
import logging
import os
import selectors
import signal
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Never

from ..config import Config
from ..errors import StartError
from .ending import end_process, stop_seconds_max
from .listeners import Listeners
from .loading import Loader, load, prepare
from .relief import Relief
from .signals import STOP_SIGNALS, Signals, ignore
from .threads import Threads, tell

logger = logging.getLogger("turboapi")

SIGNALS = (*STOP_SIGNALS, signal.SIGCHLD)

#: A worker that lived this long is in order: when it dies it is replaced at once, and its earlier deaths are forgotten.
SETTLED_SECONDS = 10.0

#: Wait before the second, third, … replacement of a worker that does not settle. The first is at once.
BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0)


@dataclass
class Child:
    """One worker process, as its parent sees it."""

    index: int
    pid: int
    link: socket.socket
    born: float
    #: `R` once it is ready, `D` when it stops without having been told to by us; then `E` and what went wrong.
    said: bytes = b""
    is_replaced: bool = False

    @property
    def is_ready(self) -> bool:
        return self.said.startswith(b"R")

    @property
    def drains(self) -> bool:
        return b"D" in self.said.partition(b"E")[0]

    @property
    def complaint(self) -> str:
        return self.said.partition(b"E")[2].decode(errors="replace")


class Processes:
    """The parent of the worker processes."""

    def __init__(self, app: Any, config: Config, listeners: Listeners, handoff: Any) -> None:
        self._app = app
        self._config = config
        self._listeners = listeners
        self._handoff = handoff
        self._signals = Signals(SIGNALS)
        self._children: dict[int, Child] = {}  # by pid
        self._deaths: dict[int, int] = {}  # by index: deaths in a row of workers that had not settled
        self._due: dict[int, float] = {}  # by index: when its replacement is forked
        self._has_started = False
        self._relief: Relief | None = None  # set once all serve
        self._deadline: float | None = None  # set once stopping
        self._failure: StartError | None = None

    def run(self) -> int:
        """Forks the workers and replaces those that die, until a signal.

        Returns:
            The exit code.

        Raises:
            StartError: a worker of the first set could not start; the others have been stopped.
        """
        if not isinstance(self._app, Loader):
            prepare(self._app, workers=1)
            others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
            if others:
                logger.warning(
                    "worker processes will be without the threads that the app has started (%s): start them in its lifespan",
                    ", ".join(others),
                )
        # Each worker needs it, and FastAPI with it: a fork that has them serves half a second earlier, and shares their memory.
        importlib.import_module("turboapi.serving.worker")
        with self._signals, selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(self._signals.descriptor, selectors.EVENT_READ)
            try:
                for index in range(self._config.workers or 1):
                    self._fork(index)
            except OSError as error:  # no memory, or the limit of processes
                self._failure = StartError(f"worker {index} cannot be started: {error}; use fewer workers, or raise the limit")
                self._stop()
            while self._children or (self._due and self._deadline is None):
                ready = selector.select(self._seconds_to_wait())
                self._look([key.data for key, _ in ready if key.data is not None])
        if self._failure is not None:
            raise self._failure
        return 0

    def _look(self, speakers: list[Child]) -> None:
        """Takes in what signals and children have to tell, then does what is due."""
        for number in self._signals.read():
            if number != signal.SIGCHLD:
                self._on_stop_signal(signal.Signals(number))
        for child in speakers:
            self._hear(child)
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._bury(child, status)
        if not self._has_started and self._deadline is None and self._children and all(c.is_ready for c in self._children.values()):
            self._has_started = True
            logger.info("ready")
            assert self._config.connections_max is not None
            self._relief = Relief(self._handoff, self._listeners, self._config.connections_max, self._selector)
        if self._relief is not None:
            self._relief.step()
        now = time.monotonic()
        for index, moment in list(self._due.items()):
            if moment <= now and self._deadline is None:
                del self._due[index]
                try:
                    self._fork(index)
                except OSError as error:  # the others go on meanwhile
                    delay = self._next_delay(index)
                    logger.error("worker %d cannot be started: %s; it is tried again %s", index, error, when_in_words(delay))
        if self._deadline is not None and now > self._deadline:
            for child in self._children.values():
                logger.warning("worker %d (pid %d) does not end and is killed", child.index, child.pid)
                os.kill(child.pid, signal.SIGKILL)
            self._deadline = now + 1.0

    def _on_stop_signal(self, number: signal.Signals) -> None:
        if self._deadline is None:
            logger.info("stopping on %s, requests in flight have %g s", number.name, self._config.drain_timeout)
            self._stop()
            return
        if number == signal.SIGHUP:
            return
        logger.warning("second signal (%s), ending at once", number.name)
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
        end_process(128 + number)

    def _stop(self) -> None:
        if self._deadline is not None:
            return
        self._deadline = time.monotonic() + stop_seconds_max(self._config) + 1.0  # its children count by themselves, and first
        self._handoff.close()
        if self._relief is not None:
            self._relief.close()
            self._relief = None
        # A listener is gone only when every process has closed it: the workers accept what is queued, then close theirs.
        self._listeners.close()
        for child in self._children.values():
            tell(child.link, b"d")

    def _hear(self, child: Child) -> None:
        """Takes in what a child has said, without waiting for more."""
        try:
            said = child.link.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        child.said += said
        if not said:
            self._selector.unregister(child.link)
        if child.drains and not child.is_replaced and self._has_started and self._deadline is None:
            # Its part of those who connect from now on would wait for as long as its last handler takes.
            child.is_replaced = True
            logger.info("worker %d (pid %d) was told to stop, its replacement starts at once", child.index, child.pid)
            self._due[child.index] = time.monotonic()

    def _bury(self, child: Child, status: int) -> None:
        """A child has ended: replaces it, or ends the server if it is one of the first set and never was ready."""
        del self._children[child.pid]
        if child.link in self._selector.get_map():
            self._hear(child)
        if child.link in self._selector.get_map():  # a program that the app started may hold the other end
            self._selector.unregister(child.link)
        child.link.close()
        has_successor = any(other.index == child.index for other in self._children.values())
        if self._deadline is not None:
            if not has_successor:
                self._count_lost(child)
            return
        if not has_successor:
            self._handoff.retire(child.index)
        if child.is_replaced:
            logger.info("worker %d (pid %d) %s", child.index, child.pid, end_in_words(status))
            return
        if not self._has_started:
            self._failure = StartError(child.complaint or f"worker {child.index} {end_in_words(status)} before it was ready")
            self._stop()
            return
        now = time.monotonic()
        has_settled = child.is_ready and now - child.born >= SETTLED_SECONDS
        if has_settled:
            self._deaths[child.index] = 0
        delay = self._next_delay(child.index)
        how = f"could not go on: {child.complaint}" if child.complaint else end_in_words(status)
        logger.error("worker %d (pid %d) %s; its replacement starts %s", child.index, child.pid, how, when_in_words(delay))

    def _next_delay(self, index: int) -> float:
        """Has a worker started after a time that grows with each failure in a row; returns it, in seconds."""
        deaths = self._deaths.get(index, 0)
        delay = BACK_OFF_SECONDS[min(deaths, len(BACK_OFF_SECONDS) - 1)]
        self._deaths[index] = deaths + 1
        self._due[index] = time.monotonic() + delay
        return delay

    def _count_lost(self, child: Child) -> None:
        """A worker that stops empties its mailbox; one that was killed meanwhile does not, and has no successor now."""
        _, lost = self._handoff.clear_up(child.index, [])
        if lost:
            logger.warning("%d connections that waited for worker %d are closed", lost, child.index)

    def _seconds_to_wait(self) -> float | None:
        moments = [self._deadline] if self._deadline is not None else list(self._due.values())
        seconds = [max(0.0, min(moments) - time.monotonic()) + 0.005] if moments else []
        if self._relief is not None and (left := self._relief.seconds_left()) is not None:
            seconds.append(left)
        return min(seconds, default=None)

    def _fork(self, index: int) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        # A signal that meets the child before it has its own handlers would be written to the parent's socket.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._live_as_child(index, ours, theirs)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            theirs.close()
        child = Child(index, pid, ours, time.monotonic())
        self._children[pid] = child
        self._selector.register(ours, selectors.EVENT_READ, child)
        logger.debug("worker %d has pid %d", index, pid)

    def _live_as_child(self, index: int, ours: socket.socket, parent: socket.socket) -> Never:
        """The whole life of a worker process. Never returns: the frames above belong to the parent's script."""
        code = 1
        try:
            self._let_go(index, ours)
            app = self._app
            if isinstance(app, Loader):
                app = load(app)
                prepare(app, workers=1)
            # Only now is there somebody to answer. The kernel's queue is the socket's, not ours: it outlives this process.
            for listener in self._listeners.share(index).sockets:
                if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    listener.listen(self._config.backlog)
            code = Threads(app, self._config, self._listeners, [index], self._handoff, parent=parent).run()
            atexit._run_exitfuncs()
        except StartError as error:
            tell(parent, b"E" + str(error).encode(errors="replace"))
        except BaseException as error:
            logger.critical("worker %d died", index, exc_info=error)
        finally:
            logging.shutdown()
            end_process(code)

    def _let_go(self, index: int, ours: socket.socket) -> None:
        """Gives up what belongs to the parent, and takes the signals of a child."""
        # The parent's exit functions are the parent's: one that removes a folder would do so under its feet.
        atexit._clear()
        signal.set_wakeup_fd(-1)
        self._signals.close()
        if self._relief is not None:
            self._relief.abandon()
        self._selector.close()
        # While a sibling holds the parent's end of a link, that link does not close when the parent dies.
        ours.close()
        for child in self._children.values():
            child.link.close()
        own = self._listeners.share(index).sockets
        for sockets in [*self._listeners.by_worker, self._listeners.shared]:
            for listener in sockets:
                if listener not in own:
                    listener.close()
        # SIGTERM ends a child that is still loading its app; Ctrl-C reaches parent and children, and is the parent's to judge.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def end_in_words(status: int) -> str:
    """How a process ended, from what waitpid gave: `was ended by SIGKILL`, `exited with code 3`."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"was ended by signal {-code}"


def when_in_words(delay: float) -> str:
    """`at once`, `in 0.5 s`."""
    return "at once" if delay == 0 else f"in {delay:g} s"
