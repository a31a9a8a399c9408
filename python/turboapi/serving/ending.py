"""The end of a process: how long it may take, and by force. Not here: draining (worker.py), and who is told to stop (threads.py)."""

import concurrent.futures.thread
import logging
import os
import sys
import threading
import time
from typing import Any, Never

from ..config import Config

logger = logging.getLogger("turboapi")


def stop_seconds_max(config: Config) -> float:
    """From the signal to the end by force: drain, cancel, the app's own shutdown, and a second to see it done."""
    return config.drain_timeout + 2 * config.cancel_timeout + 1.0


def end_process(code: int) -> Never:
    """Ends the process now, whatever its threads do. What was written is flushed, nothing else is run."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # a closed pipe, a closed stream, none at all
            pass
    os._exit(code)


def bound_exit(code: int, seconds: float, threads: set[threading.Thread]) -> None:
    """Bounds the interpreter's wait, when it exits later on, for what the app left behind: threads (a pool in a blocking call), and child
    processes, for which an exit function of multiprocessing's waits. What the caller starts after it has its time."""
    if not left_behind(threads, children := live_children()):
        return
    is_exiting = threading.Event()

    def guard() -> None:
        is_exiting.wait()
        time.sleep(seconds)
        if names := left_behind(threads, children):
            logger.warning("ending without waiting for what is left: %s", ", ".join(names))
            end_process(code)

    threading.Thread(target=guard, name="turboapi-exit", daemon=True).start()
    # Private, but what concurrent.futures uses: it runs before the interpreter waits for threads, atexit only after that.
    threading._register_atexit(is_exiting.set)  # type: ignore[attr-defined]


def live_children() -> list[Any]:
    """Processes of multiprocessing's that live, if the app has used it."""
    module = sys.modules.get("multiprocessing")
    return [] if module is None else module.active_children()


def left_behind(threads: set[threading.Thread], children: list[Any]) -> list[str]:
    """The names of those for which an exit waits still."""
    names = sorted(thread.name for thread in threads if holds_up_exit(thread))
    return names + sorted(child.name for child in children if child.is_alive())


def holds_up_exit(thread: threading.Thread) -> bool:
    """Whether the interpreter waits for this thread when it exits. For those of pools it does also where they are daemons, as all are
    that a worker's thread starts."""
    # Private, and so called since Python 3.2; without it only threads that are no daemons are seen.
    of_pools = getattr(concurrent.futures.thread, "_threads_queues", ())
    return thread.is_alive() and (not thread.daemon or thread in of_pools)
