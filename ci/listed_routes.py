"""What `ci/docs-apps` and `ci/public-apps` count of an app's routes."""

import re
from collections.abc import Sequence


def is_counted(methods: Sequence[str], function: str) -> bool:
    """Whether it is an HTTP route with a function of the app's: no WebSocket, no mounted app, none of FastAPI's own docs pages."""
    return bool(methods) and list(methods) != ["WEBSOCKET"] and not function.startswith("fastapi.applications.")


def kind_of(reason: str) -> str:
    """A reason of `turboapi routes` without the names of arguments and dependencies."""
    if reason.startswith("dependencies: "):
        *names, kind = reason.split(": ")
        return f"in a dependency: {kind}" if names[1:] else f"dependencies: {kind}"
    return re.sub(r"^\w+: ", "", reason)
