"""The workers of this process, and the wait for what ends them.

One worker runs on the main thread, which loaded the app: signal handlers, objects that belong to a thread and what was set while the
app was loaded are then as under other servers. A helper thread waits for what ends it, and ends it by force where the main thread
is stuck. Several workers are threads, and the main thread waits. A worker process has one worker. Not here: what a worker does
(worker.py).
"""

import importlib
import logging
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from ..config import Config
from ..errors import StartError
from . import cores
from .ending import end_process, stop_seconds_max
from .listeners import Listeners, Share
from .loading import is_free_threaded
from .relief import Relief
from .signals import STOP_SIGNALS, Signals

logger = logging.getLogger("turboapi")


class WorkerThread:
    """One worker and the thread it runs on. Its fields are written by that thread and read by the one that waits, after `ring`."""

    def __init__(
        self, app: Any, config: Config, share: Share, index: int, handoff: Any, *, is_alone: bool, ring: Callable[[], None]
    ) -> None:
        # By name, as a worker needs the extension module and this file does not.
        worker = importlib.import_module("turboapi.serving.worker").Worker
        self.index = index
        self.share = share
        self.is_ready = False
        self.is_over = False
        self.error: BaseException | None = None
        self._config = config
        self._is_alone = is_alone  # the only worker in this process: `app.state` is its own anyway
        self._ring = ring
        self._worker = worker(app, config, share, index, handoff=handoff, on_ready=self._on_ready)
        # In a copy of the context in which the app was loaded: what its modules set there is seen by each request, as under others.
        self.thread = threading.Thread(target=copy_context().run, args=(self._run,), name=f"turboapi-worker-{index}", daemon=True)

    def run_here(self) -> None:
        """Runs it on the calling thread, to its end."""
        self.thread = threading.current_thread()
        copy_context().run(self._run)

    def stop(self) -> None:
        """Ends it in good order. From any thread."""
        self._worker.stop()

    def hear(self, number: int) -> None:
        """A signal has come, for the handlers that the app has set. From any thread."""
        self._worker.hear(number)

    def _on_ready(self) -> None:
        self.is_ready = True
        self._ring()

    def _run(self) -> None:
        try:
            if cores.pins(self._config.workers or 1, self._config.pin):
                cores.pin(self.index)
            if not self._is_alone:
                from . import state

                state.enter(state.Slot())
            self._worker.run()
        except BaseException as error:  # reported by the main thread, which ends the server
            self.error = error
        finally:
            self.is_over = True
            self._ring()


class Threads:
    """The workers of this process, and the wait for what ends them.

    Args:
        listeners: those of all workers.
        indices: of the workers of this process, counted over all processes.
        handoff: how workers hand connections to each other; None if there is only one.
        parent: in a child of processes.py the socket to its parent: any byte or its end means stop. `R` says that we are ready,
            `D` that we stop without having been told to by the parent.
    """

    def __init__(
        self, app: Any, config: Config, listeners: Listeners, indices: Sequence[int], handoff: Any, *, parent: socket.socket | None = None
    ) -> None:
        self._config = config
        self._listeners = listeners
        self._handoff = handoff
        self._parent = parent
        self._relief: Relief | None = None  # set once all serve
        self._signals = Signals(STOP_SIGNALS, self._hear)
        is_alone = len(indices) == 1
        self._workers = [
            WorkerThread(app, config, listeners.share(index), index, handoff, is_alone=is_alone, ring=self._signals.ring)
            for index in indices
        ]
        self._is_announced = False
        self._deadline: float | None = None  # set once stopping
        self._failure: BaseException | None = None
        self._exit: SystemExit | None = None  # what a signal handler of the app's has raised

    def run(self) -> int:
        """Runs the workers to their end.

        Returns:
            The exit code.

        Raises:
            StartError: a worker could not start; the others have been stopped.
        """
        with self._signals, selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(self._signals.descriptor, selectors.EVENT_READ)
            if self._parent is not None:
                selector.register(self._parent, selectors.EVENT_READ)
            if not self._signals.are_heard:
                logger.warning("signals do not end this server, as it does not run on the main thread")
            if len(self._workers) == 1:
                helper = threading.Thread(target=self._wait, name="turboapi-helper", daemon=True)
                helper.start()
                self._workers[0].run_here()
                helper.join()
            else:
                for worker in self._workers:
                    worker.thread.start()
                self._wait()
                for worker in self._workers:
                    worker.thread.join()
        if isinstance(self._failure, StartError):
            raise self._failure
        return 1 if self._failure else code_of(self._exit)

    def _wait(self) -> None:
        """Until all workers are over."""
        try:
            while not all(worker.is_over for worker in self._workers):
                try:
                    ready = self._selector.select(self._seconds_left())
                except SystemExit as error:
                    self._leave(error)
                    continue
                for key, _ in ready:
                    if key.fileobj is self._parent:
                        # One byte or the end of the parent: both mean stop. The end stays readable, so it is looked at once.
                        self._selector.unregister(self._parent)
                        self._stop(is_last=True)
                self._look()
            self._look()
        except BaseException as error:
            # Nobody would hear a signal from here on.
            logger.critical("the server cannot go on", exc_info=error)
            end_process(1)

    def _look(self) -> None:
        """Takes in what signals and workers have to tell."""
        for number in self._signals.read():
            if self._deadline is None:
                level = logging.INFO if self._parent is None else logging.DEBUG
                logger.log(level, "stopping on %s, requests in flight have %g s", signal.Signals(number).name, self._config.drain_timeout)
                if self._parent is not None:
                    tell(self._parent, b"D")  # it starts our successor, for those who connect from now on
                self._stop(is_last=self._parent is None)
            elif self._parent is None and number != signal.SIGHUP:  # a child leaves that to its parent, as both get a Ctrl-C
                logger.warning("second signal (%s), ending at once", signal.Signals(number).name)
                end_process(128 + number)
        for worker in self._workers:
            if worker.is_over and self._failure is None and not self._ended_as_told(worker):
                self._fail(worker)
        if not self._is_announced and all(worker.is_ready for worker in self._workers) and self._deadline is None:
            self._is_announced = True
            if self._parent is None:
                logger.info("ready")
                if self._handoff is not None:
                    assert self._config.connections_max is not None
                    self._relief = Relief(self._handoff, self._listeners, self._config.connections_max, self._selector)
            else:
                tell(self._parent, b"R")
        if self._relief is not None:
            self._relief.step()
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._give_up()

    def _hear(self, number: int) -> None:
        """Any signal has come. Python's own handlers run on the main thread, which may sleep in its worker."""
        if len(self._workers) == 1:
            self._workers[0].hear(number)

    def _leave(self, exit: SystemExit) -> None:
        """A signal handler of the app's has raised it, on the main thread: the server ends, with its code."""
        self._exit = exit
        if self._deadline is None:
            logger.info("stopping, as a signal handler of the app's wants to exit")
            self._stop(is_last=self._parent is None)

    def _ended_as_told(self, worker: WorkerThread) -> bool:
        """Whether a worker that is over did what it was told. One that was stopped in its start-up may call that an error."""
        if isinstance(worker.error, SystemExit):
            self._leave(worker.error)
            return True
        if self._deadline is None:
            return False
        return worker.error is None or (isinstance(worker.error, StartError) and not worker.is_ready)

    def _fail(self, worker: WorkerThread) -> None:
        """A worker has ended by itself. Threads cannot be replaced safely, so the whole process ends, and the others serve who
        waits for it. Of a worker process those wait for its successor."""
        self._failure = worker.error or StartError(f"worker {worker.index} ended without being told to")
        if not isinstance(self._failure, StartError):
            logger.critical("worker %d died, its process ends", worker.index, exc_info=self._failure)
        if self._parent is None and self._handoff is not None:
            self._clear_up(worker)
        elif self._parent is None:
            logger.warning("connections that worker %d has not accepted yet are closed, as it was the only one", worker.index)
        self._stop(is_last=self._parent is None)

    def _clear_up(self, worker: WorkerThread) -> None:
        try:
            moved, lost = self._handoff.clear_up(worker.index, worker.share.numbered)
        except OSError as error:
            logger.warning("connections that waited for worker %d are lost: %s", worker.index, error)
        else:
            logger.warning("of the connections that waited for worker %d, others serve %d, and %d are closed", worker.index, moved, lost)
        # A client that connects from now on is not to wait for a worker that is not there.
        worker.share.close()

    def _stop(self, *, is_last: bool) -> None:
        """Ends the workers. `is_last`: they have no successors, who would look into their mailboxes."""
        if self._relief is not None:
            self._relief.close()
            self._relief = None
        if is_last and self._handoff is not None:
            # Before they drain, so that each of them sees its mailbox empty for good.
            self._handoff.close()
        if self._deadline is None:
            self._deadline = time.monotonic() + stop_seconds_max(self._config)
            for worker in self._workers:
                worker.stop()

    def _seconds_left(self) -> float | None:
        if self._relief is not None:
            return self._relief.seconds_left()
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic()) + 0.01

    def _give_up(self) -> None:
        """The time to stop is over and a worker is still busy, in a handler that neither ends nor can be cancelled."""
        for worker in self._workers:
            if not worker.is_over:
                logger.warning("worker %d does not end, its handler is cut: %s", worker.index, where_is(worker.thread))
        end_process(1 if self._failure else 0)


def code_of(exit: SystemExit | None) -> int:
    """The exit code that a `sys.exit()` asks for, as Python's own: a text is for stderr, and stands for 1."""
    code = None if exit is None else exit.code
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


def tell(peer: socket.socket, message: bytes) -> None:
    """Sends to the other end of a link between parent and child, if it still lives."""
    try:
        peer.send(message)
    except OSError:
        pass


def where_is(thread: threading.Thread) -> str:
    """The innermost Python line of a thread, as `file:line in function`."""
    if is_free_threaded():  # looking would stop all threads first, and this one may not come to a stop
        return "place unknown"
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "place unknown"
    last = traceback.extract_stack(frame, limit=None)[-1]
    return f"{last.filename}:{last.lineno} in {last.name}"
