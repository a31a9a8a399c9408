"""What Python sees of the extension module; checked against the built module by tests/test_stub.py."""

from collections.abc import Callable, Sequence
from typing import Any

__version__: str

class Exchange:
    """One request that the app's own ASGI call answers, and the way back. Belongs to one worker's thread."""

    @property
    def method(self) -> str: ...
    @property
    def http_version(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def raw_path(self) -> bytes: ...
    @property
    def query_string(self) -> bytes: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...
    @property
    def client(self) -> tuple[str, int] | None: ...
    @property
    def body(self) -> bytes: ...
    def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Begins the answer; nothing is sent before the first `send`. Raises ValueError for a header that HTTP cannot hold."""
    def send(self, data: bytes, more: bool) -> bool:
        """Sends a part of the body. True: so much is unsent that the caller should await `writable` first."""
    def on_writable(self, callback: Callable[[], object]) -> None:
        """Calls back once, on the worker's thread, when what was sent has left or the peer is gone."""
    def on_disconnect(self, callback: Callable[[], object]) -> None:
        """Calls back once, on the worker's thread, when the peer is gone or the answer is complete."""
    @property
    def disconnected(self) -> bool: ...
    @property
    def started(self) -> bool: ...
    def fail(self) -> None:
        """Ends the exchange after an error: a 500 if nothing was started, else the connection is cut."""

class Worker:
    """One core's server. Unsendable: it is made, turned and closed on one thread."""

    def __init__(self, *, backend: str, limits: dict[str, float | int], watch: int, server_header: str | None, date_header: bool) -> None: ...
    @property
    def backend(self) -> str: ...
    def start(
        self,
        *,
        loop: Any,
        routes: Sequence[tuple[str, Sequence[str], str, Any | None]],
        redirect_slashes: bool,
        fallback: Callable[[Exchange], object],
        hooks: Any,
    ) -> None:
        """`routes`: (template, methods, kind "route" | "prefix" | "opaque", plan.NativeRoute or None for the app's own ASGI call), in order of registration."""
    def listen(self, descriptor: int) -> None: ...
    def select(self, timeout: float | None) -> bool:
        """Serves until asyncio has something to do or the time is over. True: the watched descriptor is readable."""
    def drain(self, timeout: float) -> None: ...
    @property
    def drained(self) -> bool: ...
    def close(self) -> None: ...
    def statistics(self) -> dict[str, int]: ...
