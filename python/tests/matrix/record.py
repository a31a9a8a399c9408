"""What an app's parts have noted, in the order in which they were reached."""

import threading
import time
from collections.abc import Callable

Note = Callable[[str], None]


class Record:
    """The events of one app. Endpoints note from any thread."""

    def __init__(self) -> None:
        self._events: list[str] = []
        self._changed = threading.Condition()

    def note(self, event: str) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def take(self) -> list[str]:
        """What was noted since the last call."""
        with self._changed:
            events, self._events = self._events, []
        return events

    def take_when(self, expected: list[str], seconds: float) -> list[str]:
        """The same, as soon as it is what is expected, or longer than it, or so much time has gone by."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._changed.wait_for(
                lambda: self._events == expected or len(self._events) > len(expected), max(0.0, deadline - time.monotonic())
            )
        return self.take()
