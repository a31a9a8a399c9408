"""Starts a server: settings, listeners, then workers in this process (threads.py) or as processes (processes.py), whose children run
one each.

Not here: no request, no loop, no Rust.
"""

import dataclasses
import importlib
import logging
import os
import signal
import sysconfig
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from ..config import Config, stray_variables
from ..errors import ConfigError, ListenError, StartError
from ..watching.log import say, set_up_logging
from . import cores
from .descriptors import connections_of_worker
from .ending import bound_exit
from .listeners import Listeners, activated, inherit, open_place
from .loading import Loader, is_free_threaded, load, prepare
from .threads import Threads

logger = logging.getLogger("turboapi")


def run(app: Any, options: Mapping[str, Any]) -> None:
    """Serves an app until it is told to stop: what `app.run()` and the command line call.

    Raises:
        SystemExit: the server could not start, or ended by an error. What was wrong has been said on stderr.
    """
    try:
        config = Config.of(options)
    except StartError as error:
        say(error)
        raise SystemExit(error.exit_code) from None
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
        return error.exit_code
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
    # Only an app that was made for it runs in several threads at once: see `worker_kind`.
    asks_for_threads = config.worker_kind == "threads"
    if isinstance(app, Loader) and is_free_threaded() and asks_for_threads:
        app = load(app)
    # Only now: a library without support for free threading turns the GIL on again when it is imported.
    are_threads_parallel = is_free_threaded()
    workers = config.workers or (cores.count() if asks_for_threads and are_threads_parallel else 1)
    uses_processes = workers > 1 and not asks_for_threads
    if asks_for_threads and not are_threads_parallel and workers > 1:
        raise ConfigError(
            f"worker_kind is 'threads' for {workers} workers, and this Python has a GIL, under which threads take turns; "
            "leave it out and workers are processes, or use a free-threaded Python",
            setting="worker_kind",
            seen="threads",
            allowed="auto or processes",
        )
    if sysconfig.get_config_var("Py_GIL_DISABLED") and asks_for_threads and not are_threads_parallel:
        logger.warning("a library has turned the GIL on, one worker serves (python's own RuntimeWarning above names the library)")
    if isinstance(app, Loader) and not uses_processes:
        app = load(app)
    connections = connections_of_worker(config, 1 if uses_processes else workers)
    config = dataclasses.replace(config, workers=workers, connections_max=connections)
    # Before anything listens: nobody is to connect to what cannot serve.
    backend = backend_in_words(config)
    listeners = handed_down(sockets, config, workers, given) if sockets else open_place(config, workers=workers, late=uses_processes)
    # One alone is a thread of this process, and mostly its main one.
    words = "1 worker" if workers == 1 else f"{workers} worker {'processes' if uses_processes else 'threads'}"
    logger.info("serving %s with %s, %s", listeners.words, words, backend)
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


def backend_in_words(config: Config) -> str:
    """Which backend serves and why, from the probe of the extension module.

    Raises:
        ConfigError: it was asked for by name, and cannot be had.
        StartError: none can.
    """
    try:
        # By name, as everywhere here.
        name, reason = importlib.import_module("turboapi._core").probe(config.backend)
    except (OSError, ValueError) as error:
        if config.backend == "auto":
            raise StartError(str(error)) from error
        raise ConfigError(str(error), setting="backend", seen=config.backend, allowed="auto, or one that runs here") from error
    return f"backend {name} ({reason})"


def plural(count: int, noun: str) -> str:
    """The ending of a noun."""
    return "" if count == 1 else "es" if noun.endswith("s") else "s"
