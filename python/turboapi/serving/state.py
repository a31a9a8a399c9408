"""`app.state` when several workers are threads of one process: each worker has its own.

What an app puts there is bound to a loop (a database pool, an HTTP client), so two loops cannot share it, and the lifespan of
each worker would overwrite that of the others. `separate(app)` replaces the `state` of a Starlette or FastAPI app, and of those
mounted in it, by one that asks which worker is calling:

- the worker's own thread, and its pool threads once `enter()` was called in them, by a thread-local;
- any other thread by a context variable, which asyncio.to_thread and anyio carry along;
- a thread that belongs to no worker sees and changes what was there before the workers started.

What was put on `app.state` before the start is where each worker's own begins: the same objects, its own names.
With one worker none of this is used and `app.state` stays as it is.
"""

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from starlette.datastructures import State

from . import cores


class Slot:
    """One worker's storage: for each app, by its `WorkerState`, a dict."""

    __slots__ = ("storages",)

    def __init__(self) -> None:
        self.storages: dict[int, dict[str, Any]] = {}


_by_thread = threading.local()
_by_context: contextvars.ContextVar[Slot | None] = contextvars.ContextVar("turboapi_worker", default=None)


def enter(slot: Slot) -> None:
    """Makes the calling thread, and what runs in copies of its context, part of a worker. Also for a pool's `initializer`."""
    _by_thread.slot = slot
    _by_context.set(slot)


def current() -> Slot | None:
    """The worker that the caller belongs to; None if workers are not threads, or it belongs to none."""
    return getattr(_by_thread, "slot", None) or _by_context.get()


def pool_initializer() -> Callable[[], None]:
    """For the thread pool of the calling worker: makes each of its threads part of the worker, and free to use all cores."""
    slot = current()

    def initialize() -> None:
        cores.unpin()
        if slot is not None:
            enter(slot)

    return initialize


class WorkerState(State):
    """Reads and writes the calling worker's own storage."""

    def __init__(self, initial: dict[str, Any]) -> None:
        # State's __setattr__ writes into the storage, so our one field goes around it.
        object.__setattr__(self, "_initial", initial)

    @property
    def _state(self) -> dict[str, Any]:  # type: ignore[override]
        slot = current()
        if slot is None:
            return self._initial
        # One slot belongs to one worker. Its pool threads may come here at once: setdefault lets one copy win.
        storage = slot.storages.get(id(self))
        return slot.storages.setdefault(id(self), dict(self._initial)) if storage is None else storage


def separate(app: Any) -> None:
    """Gives each worker its own `state` of this app, of the app that it wraps, and of those mounted in it."""
    waiting, seen = [app], set()
    while waiting:
        app = waiting.pop()
        if app is None or id(app) in seen:
            continue
        seen.add(id(app))
        if type(getattr(app, "state", None)) is State:
            app.state = WorkerState(app.state._state)
        waiting.append(getattr(app, "app", None))
        routes = getattr(app, "routes", None)
        if isinstance(routes, list):
            waiting.extend(getattr(route, "app", None) for route in routes)
