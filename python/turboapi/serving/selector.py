"""What a worker's event loop waits in. Not here: what is served meanwhile (`_core`), and the loop itself (worker.py)."""

import selectors
from collections.abc import Callable, Mapping
from typing import Any

from .. import _core


class WorkerSelector(selectors.BaseSelector):
    """What the loop waits in: `_core` serves requests there, and a stock selector knows Python's own descriptors."""

    def __init__(self) -> None:
        self._stock = selectors.DefaultSelector()
        self._select: Callable[[float | None], bool] = self._not_open
        self.is_draining = False
        self.on_drain_step: Callable[[], None] = lambda: None

    def _not_open(self, timeout: float | None) -> bool:
        raise RuntimeError("the selector is used before the worker is open")

    def open(self, core: _core.Worker) -> None:
        """Waits in this worker from now on."""
        self._core = core
        self._select = core.select

    @property
    def descriptor(self) -> int:
        """Readable when one of Python's own descriptors is ready."""
        return self._stock.fileno()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        is_ready = self._select(timeout)
        if self.is_draining:
            self.on_drain_step()
        return self._stock.select(0) if is_ready else []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._stock.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._stock.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._stock.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._stock.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._stock.get_key(fileobj)

    def close(self) -> None:
        # Tasks know the loop, and the loop its selector: a task that an app keeps must not keep the worker too.
        self._select = self._not_open
        self.on_drain_step = lambda: None
        self._stock.close()
