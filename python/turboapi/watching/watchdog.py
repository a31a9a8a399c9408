"""Names what holds a worker's thread for too long: a `def` handler that waits, a coroutine that computes. The other requests of that
worker wait meanwhile, and nothing else says why.

One thread a process looks at what each worker has published (`_core.Activity`), four times within `watchdog_timeout`. Whatever it
finds there twice for longer than that is logged once per route, with the stack of the worker's thread. Nothing is cut short: Python
has no safe way to.

What it cannot see: on a build with the GIL, code in C that keeps the GIL keeps it from this thread too, and is named when it lets go
if it runs on then. Functions in the thread pool hold no worker, and are not looked at.
"""

import asyncio.events
import contextlib
import faulthandler
import itertools
import logging
import os
import re
import select
import signal
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._core import Activity
from ..plan.routes import Entry

logger = logging.getLogger("turboapi")

#: Looks within one time-out: what overstays is named a quarter of the time-out late at most.
LOOKS = 4

#: For the thread to end, which only a log that does not take its record can delay.
JOIN_SECONDS_MAX = 1.0

#: Frames that a log record has; of a deeper stack the innermost ones.
FRAMES_MAX = 40

#: Calls that are named where there is no route to count them by: one record each for so many different ones, then silence.
UNROUTED_MAX = 16

UNKNOWN_TASK = "a task or callback of the event loop"

#: Route of a request that the table has none for, and of what the event loop runs; as `Activity.route` gives them.
NO_ROUTE, LOOP = -1, -2

CURE = (
    "Other requests of this worker wait meanwhile. If it waits: `await` it, declare the route as a plain `def` with blocking=True, "
    "or hand it to a thread (asyncio.to_thread). If it computes: a process of its own."
)


@dataclass
class Watched:
    """One worker, as the watchdog sees it. Made on the worker's own thread."""

    index: int
    timeout: float
    activity: Activity
    #: Has the route table, with the indices that `activity` names.
    hooks: Any
    app: Any
    thread: int = field(default_factory=threading.get_ident)
    #: Held for the length of a look. What ends the worker takes it first: a thread that has ended cannot be asked for its stack.
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_over: bool = False
    #: What was seen last, when it was first seen, and whether it has been dealt with.
    number: int = 0
    since: float = 0.0
    is_known: bool = False
    named: set[Any] = field(default_factory=set)
    unrouted_count: int = 0


class Watchdog:
    """The thread of this process. It lives as long as there is a worker to look at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: list[Watched] = []
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, watched: Watched) -> None:
        """Looks at this worker from now on."""
        with self._lock:
            self._watched.append(watched)
            if self._thread is None or not self._thread.is_alive():  # a fork takes no thread along
                self._thread = threading.Thread(target=self._run, name="turboapi-watchdog", daemon=True)
                self._thread.start()
            self._changed.set()

    def remove(self, watched: Watched) -> None:
        """The worker ends. It is looked at no more when this returns."""
        with watched.lock:
            watched.is_over = True
        with self._lock:
            self._watched.remove(watched)
            ending = None
            if not self._watched:
                ending, self._thread = self._thread, None
            self._changed.set()
        if ending is not None:
            ending.join(JOIN_SECONDS_MAX)

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._thread is not threading.current_thread():
                    return
                self._changed.clear()
                present = list(self._watched)
            for watched in present:
                try:
                    with watched.lock:
                        if not watched.is_over:
                            look(watched)
                except Exception:  # one look that fails must not end all others
                    logger.exception("the watchdog failed at worker %d", watched.index)
            self._changed.wait(min(watched.timeout for watched in present) / LOOKS)


WATCHDOG = Watchdog()


@contextlib.contextmanager
def watch(index: int, timeout: float, activity: Activity | None, hooks: Any, app: Any) -> Iterator[None]:
    """Looks at the worker whose thread this is, for the length of a `with`. Nothing happens if `timeout` is 0."""
    if not timeout or activity is None:
        yield
        return
    watched = Watched(index, timeout, activity, hooks, app)
    WATCHDOG.add(watched)
    try:
        yield
    finally:
        WATCHDOG.remove(watched)


def look(watched: Watched) -> None:
    """One look at one worker; logs what is due."""
    number, now = watched.activity.read(), time.monotonic()
    if number != watched.number:
        watched.number, watched.since, watched.is_known = number, now, False
        return
    # Counted from the look that saw it first: it may have run for a quarter of the time-out before.
    seconds = now - watched.since
    if number == 0 or watched.is_known or seconds < watched.timeout:
        return
    watched.is_known = True
    route = watched.activity.route(number)
    label = route_label(watched.hooks.routes, route)
    if label in watched.named or (not label and watched.unrouted_count >= UNROUTED_MAX):
        return
    stack = stack_of(watched.thread)
    subject = watched.activity.subject(number) if route != LOOP and not label else None
    if watched.activity.read() != number:  # it has ended meanwhile: the stack may be another's
        return
    stack = own_part(stack)
    key: Any = label
    if not label:
        label = subject_in_words(subject) if route != LOOP else task_in_words(watched, stack)
        key = label
        if label == UNKNOWN_TASK and stack:
            key = (stack[-1].filename, stack[-1].name)
        if key in watched.named:
            return
        watched.unrouted_count += 1
    watched.named.add(key)
    lines = traceback.format_list(stack[-FRAMES_MAX:]) or ["  could not be had"]
    message = "%s has held the thread of worker %d for %.1f s and still does. %s Its stack, innermost call last:\n%s"
    logger.warning(message, label, watched.index, seconds, CURE, "".join(lines).rstrip("\n"))


def route_label(routes: list[Entry], index: int) -> str:
    """`GET /users/{id}`; empty where the table's line stands for more than a route, or there is none."""
    if not 0 <= index < len(routes):
        return ""
    entry = routes[index]
    if entry.native is not None:
        return entry.native.label
    if not entry.template:
        return ""
    return f"{','.join(entry.methods) or 'any method'} {entry.template}{'/…' if entry.kind == 'prefix' else ''}"


def subject_in_words(subject: bytes | None) -> str:
    """Method and path that a peer chose, fit for a log: bounded where they were kept, and escaped here."""
    return "a request" if subject is None else repr(subject.decode("ascii", "backslashreplace"))


def task_in_words(watched: Watched, stack: list[traceback.FrameSummary]) -> str:
    """Which route's handler the event loop has resumed, if the stack shows one of those that are known."""
    places = {(frame.filename, frame.name) for frame in stack}
    for entry in watched.hooks.routes:
        if entry.native is not None and place_of(entry.native.endpoint) in places:
            return f"{entry.native.label} (a later step, in the event loop)"
    for route in getattr(watched.app, "routes", ()):
        if place_of(getattr(route, "endpoint", None)) in places:
            methods = ",".join(sorted(getattr(route, "methods", None) or ()))
            return f"{methods} {route.path} (a later step, in the event loop)"
    return UNKNOWN_TASK


def place_of(function: Any) -> tuple[str, str] | None:
    """File and name of a function, as the frames of its calls have them."""
    code = getattr(function, "__code__", None)
    return None if code is None else (code.co_filename, code.co_name)


OUR_FOLDER = Path(__file__).parents[1]

#: Where the frames that lead to every handler end: in what serves requests, and what runs a callback.
BORDERS = ((str(OUR_FOLDER / "serving" / "selector.py"), "select"), (asyncio.events.__file__, "_run"))


def own_part(stack: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The stack without the calls that lead to every handler."""
    for depth, frame in enumerate(stack):
        if (frame.filename, frame.name) in BORDERS:
            stack = stack[depth + 1 :]
            break
    return list(itertools.dropwhile(lambda frame: OUR_FOLDER in Path(frame.filename).parents, stack))


def stack_of(thread: int) -> list[traceback.FrameSummary]:
    """The stack of another thread, outermost call first; empty if it cannot be had."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return written_stack(thread)
    frame = sys._current_frames().get(thread)
    return [] if frame is None else traceback.extract_stack(frame)


#: Ignored by a process that does not wait for urgent data of a socket, and none does. Go's runtime uses it, for the same reason.
SIGNAL = signal.SIGURG

#: For the thread to come to its signal handler. It waits for no safe point of Python's, only for the kernel.
WRITTEN_SECONDS_MAX = 1.0

LINE = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')


def written_stack(thread: int) -> list[traceback.FrameSummary]:
    """The same without the GIL: a signal makes the thread write down its stack itself.

    To walk the frames of a thread that runs may crash there, and to stop all threads first would wait for this one.
    Source: https://docs.python.org/3/howto/free-threading-python.html, "Frame objects".
    """
    if signal.getsignal(SIGNAL) not in (signal.SIG_DFL, signal.SIG_IGN):  # the app's own
        return []
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)  # at most 100 frames are written, and the pipe holds them; if not the rest is lost
        faulthandler.register(SIGNAL, file=writer, all_threads=False)
        try:
            signal.pthread_kill(thread, SIGNAL)
            written = b""
            patience = WRITTEN_SECONDS_MAX
            while select.select([reader], [], [], patience)[0]:
                written += os.read(reader, 1 << 16)
                patience = 0.02  # it writes in small pieces, one after the other
        finally:
            faulthandler.unregister(SIGNAL)
    finally:
        os.close(reader)
        os.close(writer)
    found = [LINE.fullmatch(line) for line in written.decode(errors="replace").splitlines()]
    return [traceback.FrameSummary(match["file"], int(match["line"]), match["name"]) for match in reversed(found) if match]
