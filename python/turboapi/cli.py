"""The command line: `turboapi serve main:app`, `turboapi routes main:app`, `turboapi --version`.

The options of `serve` are the fields of `Config`, one each. A mistake is one line on stderr. Exit codes: 2 for a wrong option or setting,
1 for what cannot be served or listened on.
"""

import argparse
import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import os
import signal
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from . import familiar, listing
from .config import Config, allowed_in_words, choices_of, kind_of, option_name, variable_name
from .errors import LoadError, StartError
from .serving.loading import Loader
from .serving.server import run
from .watching.log import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    try:
        found, unknown = parser().parse_known_args(written_out(sys.argv[1:] if arguments is None else arguments))
        options = vars(found)
        command, its_parser = options.pop("command"), options.pop("parser")
        if unknown:
            its_parser.error(f"unrecognized arguments: {' '.join(unknown)}{its_parser.nearest(unknown)}")
        code = command(options)
        if sys.stdout is not None:  # closed from the start: nothing was printed
            sys.stdout.flush()
        return code
    except StartError as error:
        say(error)
        return error.exit_code
    except BrokenPipeError:  # `| head` has seen enough
        # What is left in the buffer is flushed once more at exit, and must not fail there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def written_out(arguments: Sequence[str]) -> list[str]:
    """With a value for each option of `serve` that is on or off."""
    fields = {field.name: field for field in dataclasses.fields(Config)}
    switches = [option_name(field) for field in fields.values() if kind_of(field)[0] is bool]
    return familiar.with_values(arguments, switches, fields["server_header"].default)


class OneLineParser(argparse.ArgumentParser):
    """Answers a mistake with one line, as the rest of the server does, not with the whole usage."""

    def error(self, message: str) -> NoReturn:
        print(f"turboapi: {message} (`{self.prog} --help` lists what there is)", file=sys.stderr)
        raise SystemExit(2)

    def nearest(self, unknown: Sequence[str]) -> str:
        """`; did you mean --port?`, if an option is near the first unknown one."""
        name = next((text.partition("=")[0] for text in unknown if text.startswith("-")), "")
        if name in self._option_string_actions:
            return f"; {name} goes behind the command"
        # Near enough for a slip of the keyboard: another server's option has a name of its own.
        near = difflib.get_close_matches(name, self._option_string_actions, n=1, cutoff=0.75)
        return f"; did you mean {near[0]}?" if near else ""


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    main_parser = OneLineParser(prog="turboapi", description="Serves Python web apps from Rust.", allow_abbrev=False)
    main_parser.add_argument("--version", action=VersionAction)
    commands = main_parser.add_subparsers(metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="serve an app", allow_abbrev=False, formatter_class=argparse.RawTextHelpFormatter)
    serve.set_defaults(command=run_serve, parser=serve)
    add_target(serve)
    settings = serve.add_argument_group("settings", "Each can also be given in the environment, under the name in brackets.")
    for field in dataclasses.fields(Config):
        # The value is read by Config, which has the better message.
        action = "append" if field.metadata["option"] else "store"
        names = [option_name(field), *filter(None, [familiar.ALIASES.get(field.name)])]
        settings.add_argument(*names, dest=field.name, action=action, metavar=metavar_of(field), help=help_of(field))

    others = serve.add_argument_group("options of uvicorn's that have nothing to set here")
    for name, instead in familiar.TAKEN.items():
        count = 0 if name in familiar.SWITCHED else None
        others.add_argument(
            name,
            action=Taken,
            dest=argparse.SUPPRESS,
            nargs=count,
            metavar=None if count == 0 else "VALUE",
            help=instead.replace("%", "%%"),
        )
    for name, reason in familiar.REFUSED.items():
        serve.add_argument(name, action=Refused, dest=argparse.SUPPRESS, nargs="?", help=argparse.SUPPRESS, const=reason)

    routes = commands.add_parser("routes", help="list the routes of an app, and which of them Rust answers", allow_abbrev=False)
    routes.set_defaults(command=run_routes, parser=routes)
    add_target(routes)
    routes.add_argument("--json", action="store_true", help="print one JSON object: app, native, total, routes")
    routes.add_argument("--check", type=percentage, metavar="PERCENT", help="exit with 1 if fewer of the routes are native")
    routes.add_argument(
        "--lifespan", action="store_true", help="run the app's start-up first, and its shutdown: it may add routes or tracers"
    )
    return main_parser


class Taken(argparse.Action):
    """An option that has nothing to set: one line says what there is instead."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, values: Any, option_string: str | None = None) -> None:
        print(f"turboapi: {option_string}: {self.help}", file=sys.stderr)


class Refused(argparse.Action):
    """An option that is refused, for its `const`."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, values: Any, option_string: str | None = None) -> None:
        parser.error(f"{option_string}: {self.const}")


def add_target(command: argparse.ArgumentParser) -> None:
    """What both commands need to find the app."""
    command.add_argument("target", metavar="MODULE:APP", help="the app, as in main:app; without a name it is `app`")
    command.add_argument("--factory", action="store_true", help="APP is a function that makes the app")
    command.add_argument("--directory", "--app-dir", default=".", help="folder to import MODULE from (default: the current one)")


def metavar_of(field: dataclasses.Field[Any]) -> str:
    kind, _ = kind_of(field)
    return {bool: "on|off", int: "N", float: "SECONDS", tuple: "NAME:VALUE"}.get(kind, "|".join(choices_of(field)) or "TEXT")


def help_of(field: dataclasses.Field[Any]) -> str:
    description = field.metadata["description"]
    default = field.default
    text = "" if default in (None, "", ()) else f" (default {'on' if default is True else format_default(default)})"
    lines = ", one a line" if field.metadata["option"] else ""
    variables = ", ".join(filter(None, [variable_name(field), field.metadata["common"]]))
    return f"{description}{text}\n[{variables}{lines}] {allowed_in_words(field)}".replace("%", "%%")


def format_default(default: Any) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


class VersionAction(argparse.Action):
    """`turboapi 0.1.0, Python 3.14.1 free-threaded`."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version and end")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        build = " free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
        print(f"turboapi {version()}, Python {sys.version.split()[0]}{build}")
        raise SystemExit(0)


def version() -> str:
    """The version of the extension module, or what is known of it when it is not built."""
    try:
        from ._core import __version__
    except ImportError as error:
        return f"unknown ({error})"
    return __version__


def run_serve(options: dict[str, Any]) -> int:
    """`turboapi serve`."""
    target = Target.of(options)
    run(Loader(target.load), options)
    return 0


def run_routes(options: dict[str, Any]) -> int:
    """`turboapi routes`: method, path, function, who answers, and why it is not Rust. 1 if fewer are native than `--check` asks for."""
    target = Target.of(options)
    app = target.load()
    rows = listing.rows_of(app, options["lifespan"])
    if options["json"]:
        print(listing.as_json(str(target), rows or ()))
    elif rows is None:
        print(f"{target} is a {type(app).__name__}: all its requests go through its own ASGI call")
    else:
        print(listing.as_table(rows))
    if options["check"] is None:
        return 0
    if rows is None:
        problem = f"{target} is no FastAPI, and {options['check']:g} % of its routes are wanted native" if options["check"] else ""
    else:
        problem = listing.shortfall(rows, options["check"])
    if problem:
        sys.stdout.flush()
        print(f"turboapi: {problem}", file=sys.stderr)
    return 1 if problem else 0


def percentage(text: str) -> float:
    """What `--check` is given."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"is {text!r}, allowed are 0 to 100, per cent")
    return value


@dataclass(frozen=True)
class Target:
    """Where an app is found: `main:app` in a folder."""

    module: str
    name: str
    is_factory: bool
    directory: str

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Target":
        """Takes its options out of `options`."""
        module, _, name = options.pop("target").partition(":")
        if module.endswith(".py"):  # what the shell's completion gives
            module = module.removesuffix(".py").replace("/", ".").lstrip(".")
        return cls(module, name or "app", options.pop("factory"), options.pop("directory"))

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"

    def load(self) -> Any:
        """Imports the module and returns the app.

        Raises:
            LoadError: there is no such module or name, or what is there cannot be served.
        """
        directory = str(Path(self.directory).resolve())
        if directory not in sys.path:
            sys.path.insert(0, directory)
        found: Any = self._import()
        for part in self.name.split("."):
            if not hasattr(found, part):
                raise self._error(f"{self.module!r} has no {self.name!r}; {offers(found)}")
            found = getattr(found, part)
        if self.is_factory:
            if not callable(found):
                raise self._error(f"{self} is a {type(found).__name__}, --factory needs a function")
            found = found()
        if objection := objection_to(found):
            raise self._error(f"{self} {objection}")
        return found

    def _import(self) -> ModuleType:
        if not all(self.module.split(".")):
            raise self._error(f"{self.module!r} is no module name; write it as main:app")
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            # Only a part of the target's own name: anything else is an import inside of the app, which has a traceback to show.
            if error.name is None or not (self.module == error.name or self.module.startswith(error.name + ".")):
                raise
            here = Path(self.directory).resolve()
            raise self._error(f"no module {self.module!r} in {here}; {modules_in(here)}") from error

    def _error(self, message: str) -> LoadError:
        return LoadError(message, target=str(self))


def modules_in(directory: Path) -> str:
    """`there is main, settings`."""
    names = [path.stem for path in directory.glob("*.py")] if directory.is_dir() else []
    names += [path.parent.name for path in directory.glob("*/__init__.py")]
    return f"there is {', '.join(sorted(names)[:10])}" if names else "there is no Python file"


def offers(module: Any) -> str:
    """`it has app (FastAPI)`: the names that could have been meant."""
    names = []
    for name, value in vars(module).items() if hasattr(module, "__dict__") else ():
        # By type, as a proxy (Flask's `request`) raises when it is looked at outside of a request.
        if not name.startswith("_") and not issubclass(type(value), type | ModuleType) and not objection_to(value):
            names.append(f"{name} ({type(value).__name__})")
    return f"it has {', '.join(sorted(names)[:10])}" if names else "it has nothing that could be served"


def objection_to(app: Any) -> str:
    """Why this is nothing that can be served, as the end of a sentence; empty if it may be an ASGI app.

    An ASGI app is called with (scope, receive, send) and returns a coroutine. A signature says how many arguments are taken;
    one that cannot be read is taken on trust.
    """
    if not callable(app):
        return f"is a {type(app).__name__}, which cannot be called: name the app itself"
    if inspect.isclass(app):
        return f"is the class {app.__name__}: name an object of it, or add --factory"
    if hasattr(app, "wsgi_app"):
        return "is a WSGI app (Flask), which turboapi does not serve yet: wrap it as a2wsgi.WSGIMiddleware(app)"
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return ""
    if takes(signature, 3):
        return ""
    if takes(signature, 2):
        return "takes two arguments as a WSGI app does, which turboapi does not serve yet: wrap it as a2wsgi.WSGIMiddleware(app)"
    if takes(signature, 0):
        return "takes no arguments: if it makes the app, add --factory"
    return f"takes {signature}, an ASGI app takes (scope, receive, send)"


def takes(signature: inspect.Signature, count: int) -> bool:
    """Whether it can be called with so many positional arguments."""
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
