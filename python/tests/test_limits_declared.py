"""The limits are declared once, in the core (`_core.limits()`): all that says more of them says the same."""

import ast
import dataclasses
import os
import re
from pathlib import Path

import pytest

from turboapi import _core, cli
from turboapi.config import Config, connections_max
from turboapi.familiar import ALIASES

pytestmark = pytest.mark.above_platform

ROWS = _core.limits()
NAMES = [row.name for row in ROWS]


def kind(row):
    return float if row.unit == "seconds" else int


def default_in_words(row, number):
    """Empty where it is worked out at the start."""
    return "" if row.name == "connections_max" else f"{row.default:{number}}"


def test_the_settings():
    """Names, order, types, defaults, ranges, descriptions."""
    here = [
        (field.name, field.type, field.default, field.metadata["minimum"], field.metadata["maximum"], field.metadata["description"])
        for field in dataclasses.fields(Config)
        if field.metadata["limit"]
    ]
    there = [
        (row.name, kind(row) | None, None, row.least, row.most, row.what)
        if row.name == "connections_max"
        else (row.name, kind(row), row.default, row.least, row.most, row.what)
        for row in ROWS
    ]
    assert here == there
    assert all(type(value) is kind(row) for row in ROWS for value in (row.default, row.least, row.most))
    assert list(Config().limits()) == NAMES


def test_a_default_that_is_worked_out():
    """The core's for one worker, over all that a process may have."""
    assert next(row.default for row in ROWS if row.name == "connections_max") == _core.connections_max(1024)
    for descriptors in [*range(3000), *range(72_000, 74_000), 2**20, 2**31, 2**62]:
        assert connections_max(descriptors, workers=1) == _core.connections_max(descriptors), descriptors
    assert connections_max(-1, workers=1) == _core.connections_max(2**64 - 1), "no bound"


def test_the_help(capsys):
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    # Python 3.12 writes the value behind each name of an option, later ones behind the last.
    text = re.sub(r" (N|SECONDS), --", ", --", " ".join(capsys.readouterr().out.split()))
    at = 0
    for row in ROWS:
        default = default_in_words(row, "g" if kind(row) is float else "d")
        option, metavar, noun = row.name.replace("_", "-"), *{int: ("N", "a whole number"), float: ("SECONDS", "seconds")}[kind(row)]
        other = f", {ALIASES[row.name]}" if row.name in ALIASES else ""
        entry = f" --{option}{other} {metavar} {row.what}{default and f' (default {default})'} "
        entry += f"[TURBOAPI_{row.name.upper()}] {noun} from {row.least:g} to {row.most:.0f}"
        assert entry in text
        assert at < (at := text.index(entry)), "in the order of the rows"


def test_the_readme():
    def line(row):
        default = default_in_words(row, "g" if kind(row) is float else ",")
        return f"| `{row.name}` |{default and f' {default}'}{' s' if kind(row) is float else ''} | {row.what} |"

    lines = (Path(__file__).parents[1] / "README.md").read_text().splitlines()
    table = [line(row) for row in ROWS]
    first = lines.index(table[0])
    assert lines[first : first + len(table) + 1] == [*table, ""]


def test_the_stub():
    """Members are compared in test_stub.py; here what their types promise."""
    stub = ast.parse((Path(_core.__file__).parent / "_core.pyi").read_text())
    limit = next(node for node in stub.body if isinstance(node, ast.ClassDef) and node.name == "Limit")
    types = {node.name: ast.unparse(node.returns) for node in limit.body if isinstance(node, ast.FunctionDef)}
    units = sorted({row.unit for row in ROWS})
    assert types.pop("unit") == f"Literal[{', '.join(map(repr, units))}]"
    assert types == {"name": "str", "default": "int | float", "least": "int | float", "most": "int | float", "what": "str"}
    assert all(type(getattr(row, name)).__name__ in types[name].split(" | ") for row in ROWS for name in types)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("nonsense", 1, f'unknown limit "nonsense", allowed are {", ".join(NAMES)}'),
        ("head_bytes_max", -1, "head_bytes_max is -1, allowed are 256 to 1048576"),
        ("head_bytes_max", 255, "head_bytes_max is 255, allowed are 256 to 1048576"),
        ("head_bytes_max", 2**80, f"head_bytes_max is {2**80}, allowed are 256 to 1048576"),
        ("head_bytes_max", 300.0, "head_bytes_max is 300.0, allowed are 256 to 1048576"),
        ("head_bytes_max", 300, "request_line_bytes_max is 16384, allowed are 64 to 300"),
        ("header_count_max", "many", "header_count_max is 'many', allowed are 4 to 10000"),
        ("handlers_in_flight_max", True, "handlers_in_flight_max is True, allowed are 1 to 1048576"),
        ("connections_max", None, "connections_max is None, allowed are 1 to 1048576"),
        ("head_timeout", float("nan"), "head_timeout is nan, allowed are 0.01 s to 3600 s"),
        ("head_timeout", float("inf"), "head_timeout is inf, allowed are 0.01 s to 3600 s"),
        ("head_timeout", -1.0, "head_timeout is -1.0, allowed are 0.01 s to 3600 s"),
        ("linger_timeout", 60.5, "linger_timeout is 60.5 s, allowed are 0 s to 60 s"),
        ("linger_timeout", "2", "linger_timeout is '2', allowed are 0 s to 60 s"),
    ],
)
def test_what_a_worker_refuses(name, value, message):
    assert refusal(Config().limits() | {name: value}) == message


def test_a_worker_is_given_all_limits():
    limits = Config().limits()
    for row in ROWS:
        rest = {name: value for name, value in limits.items() if name != row.name}
        assert refusal(rest).startswith(f"{row.name} is missing, allowed are ")


def refusal(limits):
    """The error of a worker with these limits."""
    ours, theirs = os.pipe()
    try:
        with pytest.raises(ValueError, match=r".") as caught:
            _core.Worker(backend="auto", limits=limits, watch=ours, server_header=None, date_header=True)
        return str(caught.value)
    finally:
        os.close(ours)
        os.close(theirs)
