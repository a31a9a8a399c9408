"""From one piece of middleware to what it calls, and so on, by the name that Starlette's own has for it."""

from collections.abc import Iterator
from typing import Any

#: Pieces that are gone through. An object may have any attribute that it is asked for, and so no end.
DEPTH_MAX = 100


def chain(first: Any) -> Iterator[Any]:
    """`first`, its `app`, the `app` of that and so on; ends where there is none."""
    layer = first
    for _ in range(DEPTH_MAX):
        if layer is None:
            return
        yield layer
        layer = getattr(layer, "app", None)
