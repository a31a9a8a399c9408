"""What a kind of route costs beyond a fixed answer and its own Python: `own` measures the latter, the rest makes a table of figures."""

import dataclasses
import json
import resource
import statistics
import subprocess
import sys

from harness.kinds import Kind
from harness.measure import Sample
from harness.report import OTHERS_SHARE_MAX, median
from harness.rows import APPS

TAX_US_MAX = 6.0
"""DESIGN §9: what a route may cost beyond what nobody can leave out."""
OWN_SECONDS = 0.5
"""How long a kind's own Python is called in each round: over ten thousand times, but for what compresses."""
COMPRESSIONS = 10_000
HEADINGS = ("kind", "CPU µs/request (min–max)", "own Python (min–max)", "fixed answer", "tax", f"bar {TAX_US_MAX:g}")


class OwnError(Exception):
    """A kind's own Python did something else than its route."""


@dataclasses.dataclass
class Figures:
    """Of one kind, one for each round."""

    samples: list[Sample] = dataclasses.field(default_factory=list)
    own_us: list[float] = dataclasses.field(default_factory=list)


def own(kind: Kind, python: str, compressor: str, core: int) -> float:
    """CPU microseconds of a kind's own Python, called in a loop on the server's core, and of what compresses its body.

    Raises:
        OwnError: It has another answer than the route, or the counter was stepped otherwise.
    """
    if not kind.has_own_python:
        return 0.0
    done = run([python, "own_python.py", kind.name, str(OWN_SECONDS)], core)
    found = json.loads(done.stdout)
    check_own(kind, found)
    return found["us"] + (compression(kind, compressor, core) if kind.compresses else 0.0)


def check_own(kind: Kind, found: dict) -> None:
    """Raises OwnError where what apps/own_python.py tells is not right for the kind."""
    if found["answer"] != kind.request.answer:
        raise OwnError(f"the own Python of {kind.name} gives {found['answer'][:300]!r}, right is {kind.request.answer[:300]!r}")
    if found["steps"] != found["driven"] * kind.request.calls:
        raise OwnError(
            f"{found['driven']} calls of {kind.name} stepped the counter {found['steps']} times, right is {kind.request.calls} each"
        )


def compression(kind: Kind, compressor: str, core: int) -> float:
    """CPU microseconds to compress a kind's body, less what the program takes without doing it."""
    body = kind.request.answer.encode()
    costs = []
    for times in (0, COMPRESSIONS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run([compressor, str(times)], core, body)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return (costs[1] - costs[0]) / COMPRESSIONS * 1e6


def run(command: list[str], core: int, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A program on one core, to its end.

    Raises:
        OwnError: It has failed.
    """
    done = subprocess.run(["taskset", "-c", str(core), *command], input=given, capture_output=True, cwd=APPS, timeout=60)
    if done.returncode:
        raise OwnError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.decode()[-300:].strip()}")
    return done


def taxes(fixed: list[Sample], figures: dict[str, Figures]) -> dict[str, float]:
    """Microseconds of each kind that was measured, from medians over the rounds."""
    return {
        name: median(of_kind.samples, "cpu_us") - statistics.median(of_kind.own_us) - median(fixed, "cpu_us")
        for name, of_kind in figures.items()
        if of_kind.samples and fixed
    }


def lines(kinds: list[Kind], fixed: list[Sample], figures: dict[str, Figures], reasons: dict[str, str]) -> list[tuple[str, ...]]:
    """The table: a line for each kind, with its figures or the reason why it has none."""
    table, found = [HEADINGS], taxes(fixed, figures)
    for kind in kinds:
        if kind.name in reasons or kind.name not in found:
            table.append((kind.name, reasons.get(kind.name) or reasons.get("fixed", "not measured"), "", "", "", ""))
            continue
        of_kind, tax = figures[kind.name], found[kind.name]
        table.append(
            (
                kind.name,
                spread([sample.cpu_us for sample in of_kind.samples]),
                spread(of_kind.own_us),
                f"{median(fixed, 'cpu_us'):.2f}",
                f"{tax:.2f}",
                "within" if tax <= TAX_US_MAX else f"over: {kind.may_exceed}" if kind.may_exceed else "OVER",
            )
        )
    return table


def spread(figures: list[float]) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(figures):.2f} ({min(figures):.2f}–{max(figures):.2f})"


def passes(kinds: list[Kind], found: dict[str, float]) -> bool:
    """Whether every kind was measured and none is over the bar that may not be."""
    return all(kind.name in found and (found[kind.name] <= TAX_US_MAX or kind.may_exceed) for kind in kinds)


def warnings(samples: dict[str, list[Sample]]) -> list[str]:
    """What makes the figures weaker than they look, in one line for all."""
    shares = [median(of_row, "others_share") for of_row in samples.values() if of_row]
    if busy := [share for share in shares if share > OTHERS_SHARE_MAX]:
        seen = f"up to {max(busy):.0%} of the two cores, over {OTHERS_SHARE_MAX:.0%} in {len(busy)} of {len(shares)} rows"
        return [f"other processes took {seen}: repeat it on a quiet machine"]
    return []


def progress(number: int, rounds: int, name: str, seen: str) -> None:
    """One line to stderr."""
    print(f"round {number}/{rounds}  {name}  {seen}", file=sys.stderr, flush=True)
