"""Names what one worker has of another's loop, where several workers are threads of one process.

What a module keeps that is bound to a loop (an HTTP client made in the lifespan and put into a global) is that of the worker which wrote
it last. Awaiting it fails on the others ("attached to a different loop"), or, worse, writes to a socket whose loop runs meanwhile. Not
here: `app.state`, which is each worker's own (state.py).
"""

import logging
import traceback
from typing import Any

logger = logging.getLogger("turboapi")

CURE = (
    "An object that is bound to one worker's event loop is used on another's. Keep it in the lifespan's state (request.state), not in a "
    "module; or serve with --workers 1, or without --worker-kind threads."
)

#: Frames of a stack that are logged.
FRAMES_MAX = 12

_named: set[tuple[str, int]] = set()


def name(callback: Any) -> None:
    """The calling thread schedules a callback on the loop of another worker: logs where, once for each place."""
    stack = traceback.extract_stack(limit=FRAMES_MAX + 2)[:-2]
    place = next(((frame.filename, frame.lineno or 0) for frame in reversed(stack) if "asyncio" not in frame.filename), ("", 0))
    if place not in _named:
        _named.add(place)
        logger.error("%s Its call, innermost last:\n%s", CURE, "".join(traceback.format_list(stack)).rstrip("\n"))


def hint(error: BaseException) -> str:
    """The cure, if this error comes from it; else nothing."""
    words = str(error)
    return CURE if isinstance(error, RuntimeError) and ("different loop" in words or "different event loop" in words) else ""
