"""Starts the workers, waits for the signal to stop, and ends them. The main thread does nothing else.

How it goes on from here: workers that are threads of this process are run by `Threads` below; workers that are processes by
processes.py, whose children come back to `Threads` with one worker each. What a worker does is worker.py's.

Not here: no request, no loop, no Rust.
"""

import concurrent.futures.thread
import dataclasses
import gc
import importlib
import logging
import os
import resource
import selectors
import signal
import socket
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Never

from ..config import CONNECTIONS_MAX, Config, connections_max, descriptors_wanted, stray_variables
from ..errors import ListenError, StartError
from . import cores
from .listeners import Listeners, Share, activated, inherit, open_place
from .relief import Relief
from .signals import Alarm

logger = logging.getLogger("turboapi")

#: SIGHUP comes when the terminal is closed, from the shell and from the kernel: a second one is no second wish. By default it ends a
#: program at once, which leaves a Unix socket's file behind.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Loader:
    """An app that is not loaded yet. A parent of worker processes leaves that to them, and so stays small and single-threaded."""

    load: Callable[[], Any]


def run(app: Any, options: Mapping[str, Any]) -> None:
    """Serves an app until it is told to stop: what `app.run()` and the command line call.

    Raises:
        SystemExit: the server could not start, or ended by an error. What was wrong has been said on stderr.
    """
    try:
        config = Config.of(options)
    except StartError as error:
        say(error)
        raise SystemExit(1) from None
    code = serve(app, config, Config.places_given(options, os.environ))
    if code:
        raise SystemExit(code)


def serve(app: Any, config: Config, given: Sequence[str] = ()) -> int:
    """Serves an app, or what a `Loader` loads, until it is told to stop.

    Args:
        given: the settings of where to listen that somebody has asked for.

    Returns:
        The exit code: 0 after a stop that was asked for, 1 after an error, which has been said on stderr.
    """
    set_up_logging(config)
    for line in stray_variables(os.environ):
        logger.warning(line)
    threads_before = set(threading.enumerate())
    try:
        code = start(app, config, given)
    except StartError as error:
        say(error)
        return 1
    except KeyboardInterrupt:  # while the app was being loaded; later it is a signal like SIGTERM
        return 128 + signal.SIGINT
    bound_exit(code, config.cancel_timeout, set(threading.enumerate()) - threads_before)
    return code


def start(app: Any, config: Config, given: Sequence[str]) -> int:
    """Chooses threads or processes, opens the listeners, runs the workers.

    Raises:
        StartError: nothing is served; the listeners are closed again.
    """
    # First of all: what the app starts while it is loaded shall not take them for its own.
    sockets = activated(os.environ, os.getpid())
    if isinstance(app, Loader) and (is_free_threaded() or config.workers in (None, 1)):
        app = load(app)
    # Only now: a library without support for free threading turns the GIL on again when it is imported.
    are_threads_parallel = is_free_threaded()
    workers = config.workers or (cores.count() if are_threads_parallel else 1)
    if sysconfig.get_config_var("Py_GIL_DISABLED") and not are_threads_parallel:
        logger.warning("a library has turned the GIL on, workers are processes (python's own RuntimeWarning above names the library)")
    uses_processes = workers > 1 and not are_threads_parallel
    connections = connections_of_worker(config, 1 if uses_processes else workers)
    config = dataclasses.replace(config, workers=workers, connections_max=connections)
    # Before anything listens: nobody is to connect to what cannot serve.
    backend = backend_in_words(config)
    listeners = handed_down(sockets, config, workers, given) if sockets else open_place(config, workers=workers, late=uses_processes)
    kind = "process" if uses_processes else "thread"
    logger.info("serving %s with %d worker %s%s, %s", listeners.words, workers, kind, plural(workers, kind), backend)
    try:
        # By name, as everywhere here. A worker that is alone has nobody to share with.
        handoff = importlib.import_module("turboapi._core").Handoff(workers) if workers > 1 else None
        if uses_processes:
            from .processes import Processes

            return Processes(app, config, listeners, handoff).run()
        prepare(app, workers)
        return Threads(app, config, listeners, range(workers), handoff).run()
    finally:
        listeners.close()


def handed_down(sockets: list[tuple[int, str]], config: Config, workers: int, given: Sequence[str]) -> Listeners:
    """The listeners that systemd has opened for us.

    Raises:
        ListenError: the settings name another place, or one of them is no listener.
    """
    for name in given:
        raise ListenError(
            f"{name} is {getattr(config, name)!r}, and systemd has handed down {len(sockets)} socket{plural(len(sockets), 'socket')} "
            "(LISTEN_FDS); leave one of them out"
        )
    return inherit(sockets, workers=workers)


def load(loader: Loader) -> Any:
    """Loads the app; an error in the app's own code is logged with its traceback.

    Raises:
        StartError: it cannot be loaded.
    """
    try:
        return loader.load()
    except StartError:
        raise
    except Exception as error:
        logger.error("the app raised while it was loaded", exc_info=error)
        raise StartError(f"the app cannot be loaded: {type(error).__name__}: {error}") from error


def prepare(app: Any, workers: int) -> None:
    """Makes a loaded app ready to be called by `workers` threads of this process."""
    if workers > 1:
        from . import state

        state.separate(app)
        # Starlette builds its middleware on the first call. Two workers would do so at once, and one would be thrown away.
        if getattr(app, "middleware_stack", 0) is None and hasattr(app, "build_middleware_stack"):
            app.middleware_stack = app.build_middleware_stack()
    # All that is loaded now stays for good: no collection needs to walk it again, and forked workers keep sharing its pages.
    gc.collect()
    gc.freeze()
    if is_free_threaded():
        # There a collection stops all workers. The default of 2,000 new objects is about one for every hundred requests.
        gc.set_threshold(50_000, *gc.get_threshold()[1:])


class WorkerThread:
    """One worker and the thread it runs on. Its fields are written by that thread and read by the main one after `ring`."""

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
        # A context of its own: a free-threaded Python would hand on ours, and all workers would share (and contend for) its values.
        self.thread = threading.Thread(target=Context().run, args=(self._run,), name=f"turboapi-worker-{index}", daemon=True)

    def stop(self) -> None:
        """Ends it in good order. From any thread."""
        self._worker.stop()

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
    """The workers of this process, and the main thread's wait for what ends them.

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
        self._alarm = Alarm(STOP_SIGNALS)
        is_alone = len(indices) == 1
        self._workers = [
            WorkerThread(app, config, listeners.share(index), index, handoff, is_alone=is_alone, ring=self._alarm.ring) for index in indices
        ]
        self._is_announced = False
        self._deadline: float | None = None  # set once stopping
        self._failure: BaseException | None = None

    def run(self) -> int:
        """Runs the workers to their end.

        Returns:
            The exit code.

        Raises:
            StartError: a worker could not start; the others have been stopped.
        """
        with self._alarm, selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(self._alarm.descriptor, selectors.EVENT_READ)
            if self._parent is not None:
                selector.register(self._parent, selectors.EVENT_READ)
            for worker in self._workers:
                worker.thread.start()
            while not all(worker.is_over for worker in self._workers):
                for key, _ in selector.select(self._seconds_left()):
                    if key.fileobj is self._parent:
                        # One byte or the end of the parent: both mean stop. The end stays readable, so it is looked at once.
                        selector.unregister(self._parent)
                        self._stop(is_last=True)
                self._look()
            self._look()
        for worker in self._workers:
            worker.thread.join()
        if isinstance(self._failure, StartError):
            raise self._failure
        return 1 if self._failure else 0

    def _look(self) -> None:
        """Takes in what signals and workers have to tell."""
        for number in self._alarm.read():
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

    def _ended_as_told(self, worker: WorkerThread) -> bool:
        """Whether a worker that is over did what it was told. One that was stopped in its start-up may call that an error."""
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
            moved, lost = self._handoff.clear_up(worker.index, [s.fileno() for s in worker.share.sockets if s.fileno() >= 0])
        except OSError as error:
            logger.warning("connections that waited for worker %d are lost: %s", worker.index, error)
        else:
            logger.warning("of the connections that waited for worker %d, others serve %d, and %d are closed", worker.index, moved, lost)
        # Who connects from now on is not to wait for somebody who is not there.
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


def tell(peer: socket.socket, message: bytes) -> None:
    """Sends to the other end of a link between parent and child, if it still lives."""
    try:
        peer.send(message)
    except OSError:
        pass


def stop_seconds_max(config: Config) -> float:
    """From the signal to the end by force: drain, cancel, the app's own shutdown, and a second to see it done."""
    return config.drain_timeout + 2 * config.cancel_timeout + 1.0


def where_is(thread: threading.Thread) -> str:
    """The innermost Python line of a thread, as `file:line in function`."""
    if is_free_threaded():  # looking would stop all threads first, and this one may not come to a stop
        return "place unknown"
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "place unknown"
    last = traceback.extract_stack(frame, limit=None)[-1]
    return f"{last.filename}:{last.lineno} in {last.name}"


def end_process(code: int) -> Never:
    """Ends the process now, whatever its threads do. What was written is flushed, nothing else is run."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # a closed pipe, a closed stream, none at all
            pass
    os._exit(code)


def bound_exit(code: int, seconds: float, threads: set[threading.Thread]) -> None:
    """Bounds the interpreter's wait for threads that the app left behind (a pool in a blocking call) when it exits later on."""
    if not any(holds_up_exit(thread) for thread in threads):
        return
    is_exiting = threading.Event()

    def guard() -> None:
        is_exiting.wait()
        time.sleep(seconds)
        names = ", ".join(sorted(thread.name for thread in threads if holds_up_exit(thread)))
        logger.warning("ending without waiting for the threads that are left: %s", names)
        end_process(code)

    threading.Thread(target=guard, name="turboapi-exit", daemon=True).start()
    # Private, but what concurrent.futures uses: it runs before the interpreter waits for threads, atexit only after that.
    threading._register_atexit(is_exiting.set)  # type: ignore[attr-defined]


def holds_up_exit(thread: threading.Thread) -> bool:
    """Whether the interpreter waits for this thread when it exits. For those of pools it does also where they are daemons, as all are
    that a worker's thread starts."""
    # Private, and so called since Python 3.2; without it only threads that are no daemons are seen.
    of_pools = getattr(concurrent.futures.thread, "_threads_queues", ())
    return thread.is_alive() and (not thread.daemon or thread in of_pools)


def is_free_threaded() -> bool:
    """Whether threads of this process run Python at the same time, now."""
    return not getattr(sys, "_is_gil_enabled", lambda: True)()


def connections_of_worker(config: Config, workers: int) -> int:
    """The `connections_max` of each of the `workers` of one process, which is given the descriptors for it."""
    if config.connections_max is None:
        return connections_max(raise_descriptors(descriptors_wanted(CONNECTIONS_MAX)), workers)
    wanted = descriptors_wanted(config.connections_max * workers)
    found = raise_descriptors(wanted)
    if found != resource.RLIM_INFINITY and found < wanted:
        each = f" for each of {workers} workers" if workers > 1 else ""
        logger.warning(
            "connections_max is %d%s, and %d file descriptors are allowed, where that needs %d: raise the limit (`ulimit -n`, LimitNOFILE)",
            *(config.connections_max, each, found, wanted),
        )
    return config.connections_max


def raise_descriptors(wanted: int) -> int:
    """Raises the soft limit of file descriptors to `wanted`, as far as the hard limit allows; returns it.

    The usual soft limit of 1024 is for programs that call select(2), which we do not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    target = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    except (OSError, ValueError):  # macOS has a lower limit of its own (kern.maxfilesperproc)
        return soft
    return target


def backend_in_words(config: Config) -> str:
    """Which backend serves and why, from the probe of the extension module.

    Raises:
        StartError: it was asked for by name and cannot be had.
    """
    try:
        # By name, as everywhere here.
        name, reason = importlib.import_module("turboapi._core").probe(config.backend)
    except (OSError, ValueError) as error:
        raise StartError(str(error)) from error
    return f"backend {name} ({reason})"


def set_up_logging(config: Config) -> None:
    """Lets our log lines reach stderr, unless the app has set up logging itself. Then only our level is set."""
    logger.setLevel(config.log_level.upper())
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)


def say(error: StartError) -> None:
    """The one line for the operator."""
    print(f"turboapi: {error}", file=sys.stderr, flush=True)


def plural(count: int, noun: str) -> str:
    """The ending of a noun."""
    return "" if count == 1 else "es" if noun.endswith("s") else "s"
