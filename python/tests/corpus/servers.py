"""The three servers of matrix/servers.py with one part of the corpus, and what they do otherwise."""

from typing import Any

from differential import serve_uvicorn
from fastapi import FastAPI
from matrix.servers import Client, Matrix, Seen, Side, is_disconnect, name_of, wrapped

from turboapi.testing import TestServer

from .ask import Ask
from .kit import AnswerRecord, Kit
from .parts import Part
from .set_ups import is_refusal


class Raised(list[BaseException]):
    """What an app raises to its server, which is an event, too."""

    def __init__(self, record: AnswerRecord) -> None:
        super().__init__()
        self._record = record

    def append(self, error: BaseException) -> None:
        # As in `Side.ask`.
        if not is_disconnect(error) and not is_refusal(error):
            self._record.note(f"server saw {name_of(error)}")
        super().append(error)


class GatedClient(Client):
    """A client that tells the app when it has its answer."""

    def __init__(self, address: tuple[str, int], record: AnswerRecord) -> None:
        super().__init__(address)
        self._record = record

    def exchange(self, raw: bytes) -> Seen:
        self._record.answered.clear()
        try:
            return super().exchange(raw)
        finally:
            self._record.answered.set()


class Servers(Matrix):
    """One part in one set-up. A context manager. uvicorn and our ASGI path share an app, one after the other."""

    def __init__(self, part: Part, set_up_name: str) -> None:
        self._part, self._set_up_name = part, set_up_name
        self.kits: list[Kit] = []
        super().__init__(make=None)  # type: ignore[arg-type] # `_open` is all that calls it

    def _open(self) -> None:
        kit, raised = self._kit()
        app = wrapped(kit.app, kit.record, raised)
        address = self._stack.enter_context(serve_uvicorn(app))
        self._add(Side("uvicorn", GatedClient(address, kit.record), kit.record, raised))
        port = self._stack.enter_context(TestServer(app)).port
        self._add(Side("asgi", GatedClient(("127.0.0.1", port), kit.record), kit.record, raised))
        kit, raised = self._kit()
        self.app: FastAPI = kit.app
        server = TestServer(self.app)
        server.exceptions = raised
        self._stack.enter_context(server)
        self._add(Side("native", GatedClient(("127.0.0.1", server.port), kit.record), kit.record, raised))

    def _kit(self) -> tuple[Kit, Raised]:
        kit = self._part.make(self._set_up_name)
        self.kits.append(kit)
        return kit, Raised(kit.record)

    def ask(self, ask: Ask) -> list[str]:
        """What is not the same on all sides, a line each."""
        for kit in self.kits:
            for name in ("", ask.before):
                action: Any = kit.actions.get(name)
                if action is not None:
                    action()
        return self.differences(ask.raw())

    def left(self) -> list[str]:
        """What has come late, once the servers have ended."""
        late = [line for side in self.sides.values() for line in side.late]
        return late + [f"{name}: {events} came at the end" for name, side in self.sides.items() if (events := side.record.take())]
