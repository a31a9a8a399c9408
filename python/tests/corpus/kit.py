"""What each part of the corpus is given: an app, where its events go, and where it says what is asked."""

import contextvars
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from matrix.record import Record

from .ask import Ask, spoilt

#: Set by dependencies, endpoints, tasks; its value is a part of every event.
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("corpus_who", default="-")
#: How long something waits for the client to have its answer.
SECONDS_TO_ANSWER = 5


class KnownError(Exception):
    """The app has a handler for it, an async one."""


class OtherError(Exception):
    """The app has a handler for it, a def."""


class UnknownError(Exception):
    """The app has no handler for it."""


class AnswerRecord(Record):
    """The events of one app, and whether the client has the whole answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = threading.Event()


class _Lines(logging.Handler):
    """Notes what is logged."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note(f"log {record.getMessage()}")


class Kit:
    """One app and its events.

    Fields:
        good: what the part has said is asked.
        spoils: of these the ones that are asked in worse forms, too.
        actions: by name, what puts the app into another state before an `Ask`; "" before all others.
        log: a logger whose lines are events.
    """

    def __init__(self, app: FastAPI, record: AnswerRecord) -> None:
        self.app, self.record = app, record
        self.good: list[Ask] = []
        self.spoils: list[Ask] = []
        self.actions: dict[str, Callable[[], None]] = {}
        # Not one of the process: each app has its own, that is heard while the servers' are not.
        self.log = logging.Logger("corpus")
        self.log.manager = logging.Manager(logging.RootLogger(logging.WARNING))
        self.log.addHandler(_Lines(self.note))

    def note(self, event: str) -> None:
        """Writes down what happens, and what this place sees of the context."""
        self.record.note(f"{event} [{WHO.get()}]")

    def mark(self, event: str) -> None:
        """The same, and changes the context."""
        self.note(event)
        WHO.set(f"{WHO.get()[-24:]}+{event.split()[0]}")

    def wait(self, event: str) -> None:
        """Notes whether the client has its whole answer, and gives it time to. Holds its thread."""
        self.note(event if self.record.answered.wait(SECONDS_TO_ANSWER) else f"{event}, without an answer")

    def route(self, path: str, endpoint: Callable[..., Any], *asks: Ask, on: APIRouter | FastAPI | None = None, **options: Any) -> None:
        """A route, and what is asked of it; by default itself. Options are FastAPI's; `methods` is that of the first ask."""
        self.ask(*asks or (Ask(path),))
        options.setdefault("methods", [asks[0].method if asks else "GET"])
        (self.app if on is None else on).add_api_route(path, endpoint, **options)

    def ask(self, *asks: Ask, spoils: bool = True) -> None:
        """What is asked of routes that stand elsewhere; not `spoils`: only as it is."""
        self.good += asks
        self.spoils += asks if spoils else ()

    def worse(self) -> list[Ask]:
        """What is asked beside the good ones."""
        return [worse for ask in self.spoils for worse in itertools.islice(spoilt(ask), 1, None)]


def show(value: object) -> object:
    """What a route got, with its exact type: 1, 1.0, True and "1" are four different answers."""
    return {"type": type(value).__name__, "repr": repr(value)}


def returning(kit: Kit, make: Callable[[], Any], is_async: bool, annotation: Any = None) -> Callable[..., Any]:
    """An endpoint that returns what `make` does."""

    def endpoint():  # type: ignore[no-untyped-def]
        kit.note("endpoint")
        return make()

    async def endpoint_async():  # type: ignore[no-untyped-def]
        kit.note("endpoint")
        return make()

    chosen: Any = endpoint_async if is_async else endpoint
    if annotation is not None:
        chosen.__annotations__["return"] = annotation
    return chosen  # type: ignore[no-any-return]
