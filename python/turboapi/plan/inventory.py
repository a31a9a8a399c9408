"""An app's routes for people: which are native, and of the others why not and what would make them so. Not here: how that is found out
(routes.py), how it is shown (cli.py)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount, WebSocketRoute

from .dependencies import full_name
from .routes import Entry, NativeRoute

Runs = Literal["loop", "learned", "threads", "worker"]


@dataclass(frozen=True)
class Row:
    """One route."""

    methods: tuple[str, ...]
    """Sorted; empty for every method. `WEBSOCKET` for a WebSocket."""
    path: str
    """With the prefix of its mount; ends in `/*` for all that is below it."""
    function: str
    """Module and qualified name of what answers."""
    runs: Runs | None
    """Where a native route's function runs: `loop` for a coroutine, `threads` or `worker` as `blocking=` says, `learned` if its calls
    decide. None: the app's own call answers."""
    reason: str
    """Why it is not native; empty if it is."""

    @property
    def native(self) -> bool:
        return not self.reason

    @property
    def remedy(self) -> str:
        """What would make it native; empty if it is."""
        return remedy_of(self.reason) if self.reason else ""


#: Of a route that came in between the table and this.
NOT_IN_TABLE = Entry("", (), "prefix", None, "not in the table")


def inventory(app: FastAPI, entries: Sequence[Entry]) -> list[Row]:
    """A row for each route of the app and of the apps that it mounts. `entries`: its route table, of `compile_app`."""
    return list(_rows(app, iter(entries)))


def count_in_words(rows: Sequence[Row]) -> str:
    """`41 of 44 routes are native`."""
    native = sum(row.native for row in rows)
    return f"{native} of {len(rows)} route{' is' if len(rows) == 1 else 's are'} native"


def _rows(app: FastAPI, entries: Iterator[Entry]) -> Iterator[Row]:
    for context in iter_route_contexts(app.router.routes):
        original = context.original_route
        path = _path_of(context)
        if isinstance(original, WebSocketRoute):
            yield Row(("WEBSOCKET",), path, _name_of(context), None, "WebSocket")
            continue
        # Those of a mounted app's routes stand before that of the mount.
        below: dict[tuple[str, frozenset[str]], Entry] = {}
        entry = NOT_IN_TABLE
        for entry in entries:
            if entry.template in (path, "") and not (isinstance(original, Mount) and entry.kind != "prefix"):
                break
            below[entry.template, frozenset(entry.methods)] = entry
        if isinstance(original, Mount):
            yield from _below(original, path, below, entry.reason, (app,))
        else:
            yield _row(context, path, entry)


def _row(context: Any, path: str, entry: Entry) -> Row:
    methods, name = tuple(sorted(entry.methods)), _name_of(context)
    return Row(methods, path, name, _runs(entry.native), "") if entry.native else Row(methods, path, name, None, entry.reason)


def _below(
    mount: Mount, prefix: str, entries: dict[tuple[str, frozenset[str]], Entry], reason: str, mounted_in: tuple[Any, ...]
) -> Iterator[Row]:
    """`mounted_in`: the apps that the mount is in. One of these may be what it mounts: then it is one row."""
    is_circle = any(mount.app is app for app in mounted_in)
    below = [] if is_circle else list(getattr(mount, "routes", None) or ())
    if not below:
        yield Row((), f"{prefix}/*", _name_of(mount.app), None, reason)
    for context in iter_route_contexts(below):
        path, original = prefix + _path_of(context), context.original_route
        methods = frozenset(getattr(context, "methods", None) or ())
        if isinstance(original, Mount):
            yield from _below(original, path, entries, reason, (*mounted_in, mount.app))
        elif isinstance(original, WebSocketRoute):
            yield Row(("WEBSOCKET",), path, _name_of(context), None, "WebSocket")
        else:
            yield _row(context, path, entries.get((path, methods), Entry(path, tuple(methods), "route", None, reason)))


def _path_of(context: Any) -> str:
    # As in routes.py: FastAPI 0.141 hides the prefixed copy of an included Starlette route.
    effective = getattr(context, "starlette_route", None) or context
    return getattr(effective, "path", None) or ""


def _name_of(context: Any) -> str:
    return full_name(getattr(context, "endpoint", None) or context)


def _runs(native: NativeRoute) -> Runs:
    if inspect.iscoroutinefunction(native.owner):
        return "loop"
    return "learned" if native.blocking is None else "threads" if native.blocking else "worker"


#: By the reason, as a pattern for all of it: what would make such a route native. The first that fits counts.
REMEDIES = (
    (r"WebSocket", "turboapi does not serve WebSocket yet: run this route under another server"),
    (r"the app has middleware", "take the middleware away, or do in a proxy what it does"),
    (r".*middleware.*", "leave the app's and the router's own layers as FastAPI builds them"),
    (r".*telemetry.*|.* was replaced|.* was wrapped|.* is not FastAPI's", "something has replaced a part of FastAPI, such as a tracer or "
     "a subclass: leave it out, or keep FastAPI's own"),
    (r"the app has a root_path", "leave root_path out of FastAPI(...) and give it to the server: --root-path"),
    (r"the app has debug=True.*", "serve the app without debug, as in production"),
    (r".*max_body_size", "give the limit to the server instead: body_bytes_max, of `TurboAPI` routes or of the server"),
    (r"dependencies: .*max_concurrency", "leave max_concurrency out of its dependencies"),
    (r"(dependencies: )?.*code of the app's own.*", "convert such an argument in the endpoint, not in a dependency or a custom route "
     "class"),
    (r"dependencies with yield, .* custom route class", "use FastAPI's APIRoute for it"),
    (r"dependencies: what .* cannot be told", "depend on a function or class, or an object whose __call__ is a plain method"),
    (r"(dependencies|server-sent events): .*is not known", "keep to a version of FastAPI that turboapi knows"),
    (r"mounted app", "move its routes into the app, by include_router, if it is FastAPI"),
    (r"Starlette route", "declare it by @app.get and its sisters; FastAPI's docs pages stay as they are"),
    (r"server-sent events, .*|server-sent events within.*", "leave out of such a route what stands between its call and its events"),
    (r"generator.*|.* wraps a generator.*|server-sent events.*", "generators of JSON lines or of server-sent events, and functions that "
     "return a StreamingResponse, are native"),
    (r".*custom convertor", "use str, int, float, uuid or path in the template"),
    (r".*plain template|.*not in the path", "name each parameter of the path by a plain name between braces"),
    (r".* handler of FastAPI's .*|the handler .*|FastAPI's handler .*", "wrap it as FastAPI's documentation does: in `get_route_handler`, "
     "a function that calls what APIRoute's returns"),
    (r".*file|.*Form|.*File", "forms and files are the app's own to read; a JSON body is native"),
    (r"several body parameters|.*embedded body|body parameters .*", "take one model for the whole body"),
    (r".* argument|\w+: \w+", "take what is needed as parameters (path, query, header, cookie, one JSON body), return the answer"),
    (r".*default.*|.*declared.*|.*declarations.*|.*alias.*|.*more than one value.*|.* read as .*", "declare it in the plain way: "
     "one value, a simple default, one declaration"),
    (r"the endpoint .*|.*async def|not understood.*", "register a plain def or async def whose annotations can be resolved"),
    (r".*status_code.*|.*response class.*", "use a status code from 200 to 999, and a class of Response"),
    (r".* decides by itself .*", "keep to FastAPI's routes: what another kind of route matches is not known"),
)  # fmt: skip


def remedy_of(reason: str) -> str:
    """What would make a route native that is not for this reason."""
    return next(
        (remedy for pattern, remedy in REMEDIES if re.fullmatch(pattern, reason)),
        "declare the route in the plain way that FastAPI's tutorial shows",
    )
