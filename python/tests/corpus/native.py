"""Which routes of the corpus take the app's own ASGI call, and the list of those that may.

`python -m corpus.native`, in python/tests, prints the list as it is now.
"""

from pathlib import Path

from turboapi.plan.routes import compile_app

from .kit import Kit
from .parts import PARTS

FILE = Path(__file__).with_name("not_native.txt")


def not_native(kits: dict[str, Kit]) -> dict[str, str]:
    """For each of them the reason: `part METHOD /path`."""
    found = {}
    for name, kit in kits.items():
        for entry in compile_app(kit.app):
            if entry.native is None:
                found[f"{name} {','.join(sorted(entry.methods))} {entry.template}"] = entry.reason
    return found


def listed() -> dict[str, str]:
    """The same as not_native.txt has it."""
    lines = (line.partition(": ") for line in FILE.read_text().splitlines() if line and not line.startswith("#"))
    return {route: reason for route, _, reason in lines}


if __name__ == "__main__":
    print("# Routes of the corpus that take the app's own ASGI call, and why. The list may shrink: python -m corpus.native prints it.")
    for route, reason in not_native({name: part.make() for name, part in PARTS.items()}).items():
        print(f"{route}: {reason}")
