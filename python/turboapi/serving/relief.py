"""A client that connects to a worker whose thread is held by a handler does not wait for that: others serve it.

The main thread, or the parent of worker processes, does it, as it is never held itself. It sleeps until a listener or a mailbox has
something, and looks a moment later: a worker that is well has taken it by then. So it wakes for nothing that does not connect, and ten
times a second at most.

Not here: which worker counts as blocked, and which gets what (Rust: src/balance.rs).
"""

import logging
import selectors
import time
from typing import Any

from .listeners import Listeners, Share

logger = logging.getLogger("turboapi")

#: From a connection's arrival to the look whether it has been accepted.
PAUSE_SECONDS = 0.1


class Relief:
    """Looks after the listeners of all workers, once all of them serve.

    Args:
        handoff: how connections go to other workers.
        listeners: what each worker accepts from.
        connections_max: connections that a worker may have.
        selector: what the main thread waits in.
    """

    def __init__(self, handoff: Any, listeners: Listeners, connections_max: int, selector: selectors.BaseSelector) -> None:
        self._handoff = handoff
        self._connections_max = connections_max
        self._selector = selector
        self._shares = [listeners.share(worker) for worker in range(len(listeners.by_worker))]
        # One descriptor for all of them, so that turning away from them is one call.
        self._backlogs = selectors.DefaultSelector()
        for worker, share in enumerate(self._shares):
            for waiting in (handoff.descriptor(worker), *share.sockets):
                self._backlogs.register(waiting, selectors.EVENT_READ)
        self._look_at: float | None = None
        selector.register(self._backlogs, selectors.EVENT_READ)

    def step(self) -> None:
        """Looks if it is time to. To be called whenever the selector or the time that is left says so, and else does no harm."""
        now = time.monotonic()
        if self._look_at is None:
            if self._backlogs.select(0):
                self._selector.unregister(self._backlogs)
                self._look_at = now + PAUSE_SECONDS
        elif now >= self._look_at:
            for worker, share in enumerate(self._shares):
                self._relieve(worker, share)
            self._look_at = None
            self._selector.register(self._backlogs, selectors.EVENT_READ)

    def _relieve(self, worker: int, share: Share) -> None:
        try:
            moved = self._handoff.relieve(worker, share.numbered, self._connections_max)
        except OSError as error:  # no descriptor is left: it waits on
            logger.debug("connections that wait for worker %d, which is blocked, wait on: %s", worker, error)
        else:
            if moved:
                logger.debug("worker %d is blocked, others serve %d connection(s) that waited for it", worker, moved)

    def seconds_left(self) -> float | None:
        """Until the next look; None: until something connects."""
        return None if self._look_at is None else max(0.0, self._look_at - time.monotonic())

    def close(self) -> None:
        """Ends it: the listeners are about to be closed."""
        if self._look_at is None:
            self._selector.unregister(self._backlogs)
        self._backlogs.close()

    def abandon(self) -> None:
        """For the child of a fork: closes its copy, and leaves the parent's as it is."""
        self._backlogs.close()
