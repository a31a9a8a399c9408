"""All exceptions of turboapi: those that ask the operator to act.

Not here: what a peer did wrong (Rust answers that by itself), a developer's mistake in a declaration (Python's own TypeError and
ValueError, and FastAPI's), what an app may raise (FastAPI's HTTPException and so on).
"""


class TurboAPIError(Exception):
    """The base of them all."""


class StartError(TurboAPIError):
    """The server cannot start. The message is the one line that the operator gets to read."""

    #: What the process ends with.
    exit_code = 1


class ConfigError(StartError):
    """A setting is unknown, or cannot be read.

    Fields:
        setting: its name (`workers`, of the command line too), or the variable's (`TURBOAPI_WORKERS`).
        seen: what was given.
        allowed: what may be given, in words.
    """

    exit_code = 2

    def __init__(self, message: str, *, setting: str, seen: object, allowed: str) -> None:
        super().__init__(message)
        self.setting = setting
        self.seen = seen
        self.allowed = allowed


class ListenError(StartError):
    """An address cannot be listened on: taken, unknown, privileged, not of this machine; or what was inherited is no listener.

    Fields:
        host: address or name; the path of a Unix socket; empty for what was inherited. `port`: 0 for those two.
    """

    def __init__(self, message: str, *, host: str = "", port: int = 0) -> None:
        super().__init__(message)
        self.host = host
        self.port = port


class LoadError(StartError):
    """The app that was named cannot be loaded, or is nothing that can be served."""

    def __init__(self, message: str, *, target: str) -> None:
        super().__init__(message)
        self.target = target


class LifespanError(StartError):
    """The app's own start-up failed: it raised, said `lifespan.startup.failed`, or took too long.

    Fields:
        reason: what the app said, often a whole traceback; empty if it said nothing.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason
