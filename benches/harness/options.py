"""What the commands of benches/ share: types of their options, and the two cores. Prints nothing."""

import argparse
import os
import pathlib
import shutil
from typing import NoReturn

from harness.peers import SetupError


class Parser(argparse.ArgumentParser):
    """One that says in one line what is wrong, and ends with status 2."""

    def error(self, message: str) -> NoReturn:
        """Ends the command."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def whole(low: int, high: int):
    """An option's type: a whole number in these bounds."""

    def convert(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return convert


def program(text: str) -> str:
    """An option's type: a program, as a path that holds from any folder (links stay, a venv's Python is one)."""
    found = shutil.which(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a program")
    return str(pathlib.Path(found).absolute())


def output(text: str) -> pathlib.Path:
    """An option's type: a file to write, in a folder that is there."""
    path = pathlib.Path(text).absolute()
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def choose_cores() -> tuple[int, int]:
    """The server's core and the load's: the first and the last that we may use.

    Raises:
        SetupError: This is not Linux, something is not installed, or there is one core only.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise SetupError("this system is not Linux, and CPU time is read from /proc")
    missing = [name for name in ("wrk", "taskset") if not shutil.which(name)]
    if missing:
        raise SetupError(f"{' and '.join(missing)} not on PATH (Debian: apt install wrk util-linux)")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SetupError("one core is all we may use, the server and the load need one each")
    return cores[0], cores[-1]
