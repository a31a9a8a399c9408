"""The apps of FastAPI's documentation, and how many of their routes are native. Run by `ci/docs-apps`: `docs_apps.py FOLDER`, with the
folder of FastAPI's source distribution, in an environment that has what the apps import.

Each file is imported in a process of its own: some switch tracers on, and some of their tests import the app of another.
"""

import argparse
import collections
import contextlib
import importlib
import json
import os
import pathlib
import random
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from listed_routes import is_counted, kind_of
from turboapi.plan.inventory import inventory
from turboapi.plan.routes import compile_app, mounted_apps

#: Files and a setting that the apps expect where they are started, as FastAPI's own tests give them.
FILES = ("static/index.html", "templates/item.html", "dist/index.html", "dist/404.html")
ENVIRONMENT = {"ADMIN_EMAIL": "admin@example.com"}
TESTS = pathlib.Path(__file__).parent.parent / "python" / "tests"
#: For an answer of an app that sleeps or never ends.
SECONDS = 5
#: How the end of a body is told is the server's affair: of a stream that is there at once we know the length.
FRAMING = (b"content-length", b"transfer-encoding", b"connection")
#: Characters of an error.
SHOWN = 120


def main() -> int:
    """Prints a line for each file and the total; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--check", type=float, default=0, metavar="PERCENT")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--ask", action="store_true")
    options = parser.parse_args()
    every = sorted((options.folder / "docs_src").rglob("*.py"))
    files = every if options.all else one_of_each(every)
    total, native = 0, 0
    reasons: collections.Counter[str] = collections.Counter()
    failed, different = [], []
    for file in files:
        found = in_its_own_process(looked_at, options.folder, file)
        if isinstance(found, str):
            failed.append(f"{file.relative_to(options.folder)}: {found}")
        elif found:
            counted = collections.Counter(reason for reason in found if reason)
            total, native, reasons = total + len(found), native + len(found) - counted.total(), reasons + counted
            print(f"{file.relative_to(options.folder)}: {len(found) - counted.total()} of {len(found)}{in_words(counted)}", flush=True)
            if options.ask:
                different += [f"{file.relative_to(options.folder)}: {line}" for line in differences(options.folder, file)]
    share = 100 * native / max(total, 1)
    print(f"\nnot looked at, as another file has the same app: {len(every) - len(files)} (--all has them, too)")
    print("\n".join([f"not imported: {len(failed)}", *(f"- {line}" for line in failed)]))
    print("\n".join(["reasons:", *(f"- {count} × {reason}" for reason, count in reasons.most_common())]))
    print(f"{native} of {total} HTTP routes are native, {share:.1f} %; FastAPI's own docs pages are not counted")
    if options.ask:
        print("\n".join([f"answered otherwise than under uvicorn: {len(different)}", *(f"- {line}" for line in different)]))
    return 1 if share < options.check or not total or different else 0


def in_words(reasons: collections.Counter[str]) -> str:
    return "; " * bool(reasons) + ", ".join(f"{count} × {reason}" for reason, count in reasons.most_common())


def one_of_each(files: list[pathlib.Path]) -> list[pathlib.Path]:
    """Without those that are the same app in another spelling: of an app with and without Annotated the former, of those for several
    Pythons the newest."""
    found: dict[str, tuple[tuple[bool, bool, int], pathlib.Path]] = {}
    for file in files:
        path = str(file)
        minor = int(re.search(r"_py3(\d+)", path).group(1)) if "_py3" in path else 0  # type: ignore[union-attr]
        if minor > sys.version_info[1]:
            continue
        rank = ("_non_an" not in path, bool(re.search(r"_an(?![a-z])", path)), minor)
        key = re.sub(r"(_non_an|_an(?![a-z]))?(_py3\d+)?(?=[/.])", "", path)
        if key not in found or found[key][0] < rank:
            found[key] = rank, file
    return sorted(file for _, file in found.values())


def differences(folder: pathlib.Path, file: pathlib.Path) -> list[str]:
    """What the apps of a file answer otherwise under our server, a line each.

    Not what uvicorn itself answers anew each time, as times and tokens are; and not a 500 of ours for a stream that raises before its first
    part, of which uvicorn has sent the head and breaks it off.
    """
    ours, theirs = (in_its_own_process(asked, folder, file, server) for server in ("ours", "uvicorn"))
    if ours == theirs:
        return []
    again = in_its_own_process(asked, folder, file, "uvicorn")
    if any(isinstance(answers, str) for answers in (ours, theirs, again)):
        return [f"{ours!r:.{SHOWN}}, uvicorn: {theirs!r:.{SHOWN}}"]
    compared = zip(ours, theirs, again, strict=True)
    found = [(seen, expected) for seen, expected, same in compared if seen != expected == same]
    return [f"{seen}, uvicorn: {expected[1:]}" for seen, expected in found if (seen[1], expected[1]) != (500, "ConnectionError")]


def in_its_own_process(look: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns that is called in a child of this process, as JSON holds it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as answer:
                json.dump(look(*arguments), answer)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else "the process ended"


def looked_at(folder: pathlib.Path, file: pathlib.Path) -> list[str] | str:
    """For each HTTP route of the apps that a file has, the reason why it is not native, or ""; or why it was not imported."""
    with imported(folder, file) as apps:
        if isinstance(apps, str):
            return apps
        rows = [row for app in apps for row in inventory(app, compile_app(app))]
        return [kind_of(row.reason) for row in rows if is_counted(row.methods, row.function)]


def asked(folder: pathlib.Path, file: pathlib.Path, server: str) -> list[list[Any]] | str:
    """What the apps of a file answer under one server: for each request its first bytes, and status, headers and body."""
    sys.path.insert(0, str(TESTS))
    import differential
    from docs_requests import requests_of

    differential.SECONDS_TO_ANSWER = SECONDS
    random.seed(SECONDS)  # what an app draws is the same under both
    answers: list[list[Any]] = []
    with imported(folder, file) as apps:
        for app in () if isinstance(apps, str) else apps:
            serve = differential.serve_ours if server == "ours" else differential.serve_uvicorn
            with serve(app) as address:
                for raw in requests_of(app.openapi()):
                    connection = differential.Connection(address)
                    try:
                        answer = connection.ask(raw)
                        headers = [repr(header) for header in answer.headers if header[0] not in FRAMING]
                        answers.append([repr(raw), answer.status, headers, repr(answer.body)])
                    except OSError as error:
                        answers.append([repr(raw), type(error).__name__, [], ""])
                    finally:
                        connection.close()
    return answers


@contextlib.contextmanager
def imported(folder: pathlib.Path, file: pathlib.Path) -> Iterator[list[FastAPI] | str]:
    """The apps of a file, in a folder where it finds what it needs; or why it was not imported. Only in a child: all else is silent."""
    os.environ |= ENVIRONMENT
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(folder))
    with tempfile.TemporaryDirectory() as there:
        os.chdir(there)
        for path in map(pathlib.Path, FILES):
            path.parent.mkdir(exist_ok=True)
            path.touch()
        name = ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        found: list[FastAPI] | str
        try:
            found = own_apps(importlib.import_module(name))
        except Exception as error:
            found = f"{type(error).__name__}: {error}".splitlines()[0][:SHOWN]
        yield found


def own_apps(module: Any) -> list[FastAPI]:
    """The apps that this module makes, without those that it mounts in another."""
    found = {id(app): app for app in vars(module).values() if isinstance(app, FastAPI)}
    others = [other for name, other in sys.modules.items() if name.startswith("docs_src.") and other is not module]
    imported = {id(app) for other in others for app in vars(other).values()}
    below = {id(app) for outer in found.values() for app in mounted_apps(outer)}
    return [app for key, app in found.items() if key not in imported | below]


if __name__ == "__main__":
    sys.exit(main())
