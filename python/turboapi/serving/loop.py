"""The event loop of a worker: asyncio's own, which other threads wake by the worker's doorbell. What it waits in is selector.py."""

import asyncio
import selectors
import sys
from collections.abc import Callable
from typing import Any

from .. import strangers
from ..asgi import TASK_NAME
from . import signals

#: What may be called from anywhere.
THREADSAFE_CODE = asyncio.BaseEventLoop.call_soon_threadsafe.__code__


class WorkerLoop(asyncio.SelectorEventLoop):
    """A selector loop that is woken without a socket.

    Args:
        selector: what it waits in.
        ring: wakes the worker, from any thread.
        is_alone: whether this process has no other worker.
    """

    def __init__(self, selector: selectors.BaseSelector, ring: Callable[[], None], *, is_alone: bool) -> None:
        super().__init__(selector)
        if not is_alone:
            self._call_soon = self._call_soon_from_its_thread  # type: ignore[method-assign]
        # Called by `call_soon_threadsafe`, when what it adds is in its queue. Private, and so called since Python 3.4; asyncio's own
        # sends a byte to a socket that the loop watches, and lets the interpreter go for it.
        self._write_to_self = ring

    def _call_soon_from_its_thread(self, *args: Any) -> asyncio.Handle:
        """`call_soon` and what goes by it. From another worker's thread it is a race that shows much later, and somewhere else."""
        running = asyncio._get_running_loop()
        if running is not self and isinstance(running, WorkerLoop) and sys._getframe(1).f_code is not THREADSAFE_CODE:
            strangers.name(args[0])
        return super()._call_soon(*args)

    def stop(self) -> None:
        """As asyncio's, which looks for it when it has callbacks: one is added, as a handler may run where there are none."""
        super().stop()
        if not self.is_closed():
            self.call_soon(int)

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:
        """As asyncio's, which would have the interpreter tell of signals nobody but this loop."""
        super().add_signal_handler(sig, callback, *args)
        signals.listen_again()

    def remove_signal_handler(self, sig: int) -> bool:
        """As asyncio's; a signal that ends the server does so still."""
        was_there = super().remove_signal_handler(sig)
        signals.listen_again(sig)
        return was_there

    def hear(self, number: int) -> None:
        """A signal has come."""
        if number in self._signal_handlers:
            self._handle_signal(number)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Leaves out what was logged with its request: a `sys.exit()` in a handler is no exception that nobody has asked for."""
        task, error = context.get("task") or context.get("future"), context.get("exception")
        is_known = isinstance(task, asyncio.Task) and task.get_name() == TASK_NAME and isinstance(error, SystemExit | KeyboardInterrupt)
        if not is_known:
            super().call_exception_handler(context)
