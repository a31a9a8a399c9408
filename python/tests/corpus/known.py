"""Requests that our native routes are known to answer otherwise, and why. They are left out of the others, as some leave a trace in the
worker; each is asked by itself, and has to differ: what is mended is taken out of here. The list may only shrink.
"""

from .ask import Ask
from .kit import Kit

#: Part: the beginnings of paths, and why.
KNOWN: dict[str, dict[str, str]] = {}


def is_known(part_name: str, ask: Ask) -> bool:
    """Whether this one is left out."""
    return ask.path.startswith(tuple(KNOWN.get(part_name, ())))


def known_asks(part_name: str, kit: Kit) -> dict[str, list[Ask]]:
    """What is to differ, by the beginning of a path."""
    asks = [*kit.good, *kit.worse()]
    return {path: [ask for ask in asks if ask.path.startswith(path)] for path in KNOWN.get(part_name, ())}
