"""`turboapi routes`: the table of an app's routes, for people and for machines. Not here: what is in it (plan/inventory.py)."""

import asyncio
import json
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .config import Config
from .serving.lifespan import Lifespan

if TYPE_CHECKING:
    from .plan.inventory import Row

COLUMNS = 80

PLACES = {
    "loop": "native",
    "learned": "native, in threads until it has earned the worker's own",
    "threads": "native, in threads (blocking=True)",
    "worker": "native, on the worker's own thread (blocking=False)",
}


def rows_of(app: Any, with_lifespan: bool) -> "list[Row] | None":
    """The routes of an app, as they are after its start-up if that is asked for; None if it is no FastAPI.

    Raises:
        LifespanError: its start-up failed.
    """
    from fastapi import FastAPI

    if not isinstance(app, FastAPI):
        return None
    return asyncio.run(_after_startup(app)) if with_lifespan else _rows(app)


def _rows(app: Any) -> "list[Row]":
    from .plan.inventory import inventory
    from .plan.routes import compile_app

    return inventory(app, compile_app(app))


async def _after_startup(app: Any) -> "list[Row]":
    config = Config.of({})
    lifespan = Lifespan(app, "auto")
    await lifespan.startup(config.startup_timeout)
    try:
        return _rows(app)
    finally:
        await lifespan.shutdown(config.cancel_timeout)


def as_json(target: str, rows: "Sequence[Row]") -> str:
    """One object: `app`, `native` and `total` (counts), `routes`: for each `methods`, `path`, `function`, `native`, `runs`, `reason`,
    `remedy`.

    `methods` is empty for every method. `runs` is `loop`, `learned`, `threads` or `worker`, null if it is not native; then `reason` and
    `remedy` say why, and what would make it so. Fields may be added, and none is taken away.
    """
    routes = [
        {
            "methods": row.methods,
            "path": row.path,
            "function": row.function,
            "native": row.native,
            "runs": row.runs,
            "reason": row.reason,
            "remedy": row.remedy,
        }
        for row in rows
    ]
    return json.dumps({"app": target, "native": sum(row.native for row in rows), "total": len(rows), "routes": routes}, indent=2)


def as_table(rows: "Sequence[Row]") -> str:
    """A line for each route, a paragraph for each reason, and the count at the end."""
    from .plan.inventory import count_in_words

    cells = [
        (
            ",".join(row.methods) or "*",
            row.path or "*",
            row.function.rpartition(".")[2],
            PLACES[row.runs] if row.runs is not None else f"ASGI: {row.reason}",
        )
        for row in rows
    ]
    widths = [max((len(cell[column]) for cell in cells), default=0) for column in range(3)]
    lines = ["  ".join([*(text.ljust(width) for text, width in zip(cell, widths, strict=False)), cell[3]]) for cell in cells]
    remedies: dict[str, Counter[str]] = {}
    for row in rows:
        if not row.native:
            # Without the parameter's name: the kind is what counts.
            remedies.setdefault(row.remedy, Counter())[re.sub(r"^\w+: ", "", row.reason)] += 1
    if remedies:
        lines += ["", "What would make the others native:"]
        for remedy, reasons in remedies.items():
            text = f"{reasons.total()} × {'; '.join(reasons)}: {remedy}."
            lines.append(textwrap.fill(text, COLUMNS, initial_indent="- ", subsequent_indent="  ", break_long_words=False))
    return "\n".join([*lines, "", count_in_words(rows)])


def shortfall(rows: "Sequence[Row]", wanted: float) -> str:
    """What is to be said if fewer than `wanted` per cent of the routes are native, else nothing."""
    native, total = sum(row.native for row in rows), len(rows)
    if native * 100 >= wanted * total:
        return ""
    # Down, so that what is missing does not look as if it were there.
    seen = native * 1000 // total / 10
    return f"{seen:g} % of the routes are native ({native} of {total}), {wanted:g} % wanted"
