"""From samples to ratios, the default, the bars and the record. Prints nothing, starts nothing, reads no file."""

import dataclasses
import itertools
import statistics

from harness.measure import Sample
from harness.workloads import DEF, FIXED

NOISE = 0.03
"""Two medians of paired ratios that differ by less are equal."""
OTHER_MACHINE_NOISE = 0.15
"""The same between two machines: another kernel's TCP is in both sides of a ratio, but not in the same part."""
IDLE_BYTES_MAX = 1024
IDLE_BACKENDS = ("uring", "epoll")
BUSY_CONNECTIONS = (64, 512)

Key = tuple[str, int, str]
"""Workload, connections, backend."""
Costs = dict[Key, list[float]]
"""CPU microseconds per request, one for each round, in the order of the rounds."""


@dataclasses.dataclass(frozen=True)
class Slope:
    """A straight line through measured points, by least squares."""

    per_unit: float
    """Bytes for each connection, or for each second."""
    deviation_max: float
    """The furthest that a point is from the line."""


def slope(points: list[tuple[float, float]]) -> Slope:
    """Fits at least two points of different x."""
    line = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    return Slope(line.slope, max(abs(y - line.intercept - line.slope * x) for x, y in points))


def costs(samples: dict[Key, list[Sample]]) -> Costs:
    """The figure that is compared."""
    return {key: [sample.cpu_us for sample in of_key] for key, of_key in samples.items() if of_key}


def ratio(own: list[float], base: list[float]) -> float:
    """Median of the rounds' own ratios: what slowed a whole round down slowed both sides of its ratio."""
    return statistics.median(a / b for a, b in zip(own, base, strict=True))


def measured_backends(figures: Costs) -> list[str]:
    """Those with figures, in their first order."""
    return list(dict.fromkeys(backend for _, _, backend in figures))


def pooled(figures: Costs, workload: str, backend: str) -> dict[int, list[float]]:
    """One backend's rounds of a workload, by connections."""
    return {connections: rounds for (name, connections, of), rounds in figures.items() if (name, of) == (workload, backend)}


def pooled_ratio(figures: Costs, workload: str, own: str, base: str) -> float:
    """Median over all rounds at all numbers of connections; NaN where nothing was measured for both."""
    ours, theirs = pooled(figures, workload, own), pooled(figures, workload, base)
    pairs = [pair for connections in ours.keys() & theirs.keys() for pair in zip(ours[connections], theirs[connections], strict=True)]
    return statistics.median(a / b for a, b in pairs) if pairs else float("nan")


def decide(figures: Costs) -> tuple[str, list[str]]:
    """Which backend takes the least CPU per request with the `def` handler, and which are within noise of it.

    Returns:
        The best and its ties; "" where the handler was not measured.
    """
    candidates = [backend for backend in measured_backends(figures) if pooled(figures, DEF, backend)]
    if not candidates:
        return "", []
    # The best is the one whose worst comparison is best: medians of ratios need not be transitive.
    worst = {own: max(pooled_ratio(figures, DEF, own, base) for base in candidates) for own in candidates}
    best = min(candidates, key=worst.__getitem__)
    return best, [one for one in candidates if one != best and pooled_ratio(figures, DEF, one, best) <= 1 + NOISE]


def decision_lines(figures: Costs, default: str) -> list[tuple[bool, str]]:
    """The line that says which one should be the default, and the one that says whether it is."""
    best, ties = decide(figures)
    if not best:
        return [(False, "default: not decided, the def handler was not measured")]
    others = [backend for backend in measured_backends(figures) if backend != best and pooled(figures, DEF, backend)]
    against = ", ".join(f"{pooled_ratio(figures, DEF, best, other):.3f} × {other}" for other in others) or "nothing to compare it with"
    tied = f"; within {NOISE:.0%}, so equal: {', '.join(ties)}" if ties else ""
    lines = [(True, f"default: {best}, the lowest CPU per request with the def handler ({against}){tied}")]
    passes = default == best or default in ties
    seen = f"turboapi takes {default or 'none that it names'} by itself"
    lines.append((passes, f"{'pass' if passes else 'FAIL'}  {seen}: {'this one, or equal to it' if passes else 'not this one'}"))
    return lines


def load_bars(figures: Costs) -> list[tuple[bool, str]]:
    """Nothing is quicker than uring where many connections are busy. What was not measured is not reached."""
    judged = []
    names = list(dict.fromkeys(workload for workload, _, _ in figures)) or [DEF]
    for workload, connections in itertools.product(names, BUSY_CONNECTIONS):
        own = figures.get((workload, connections, "uring"))
        others = {of: rounds for (name, count, of), rounds in figures.items() if (name, count) == (workload, connections) and of != "uring"}
        title = f"uring ≤ {1 + NOISE:.2f} × the others, {workload} at {connections} connections"
        if not own or not others:
            judged.append((False, f"none  {title}: not measured"))
            continue
        ratios = {of: ratio(own, rounds) for of, rounds in others.items()}
        passes = max(ratios.values()) <= 1 + NOISE
        seen = ", ".join(f"{value:.3f} × {of}" for of, value in ratios.items())
        judged.append((passes, f"{'pass' if passes else 'FAIL'}  {title}: {seen}"))
    return judged


def idle_bars(idle: dict[tuple[str, str], Slope], backends: tuple[str, ...] = IDLE_BACKENDS) -> list[tuple[bool, str]]:
    """An idle connection of the whole server is small. What was not measured is not reached."""
    judged = []
    for backend in backends:
        title = f"an idle connection ≤ {IDLE_BYTES_MAX} bytes on {backend}"
        found = idle.get(("turboapi", backend))
        if found is None:
            judged.append((False, f"none  {title}: not measured"))
            continue
        passes = found.per_unit <= IDLE_BYTES_MAX
        judged.append((passes, f"{'pass' if passes else 'FAIL'}  {title}: {found.per_unit:.0f}"))
    return judged


def record(figures: Costs, idle: dict[tuple[str, str], Slope], default: str, machine: str) -> dict:
    """What another machine can compare itself with: no time, only ratios to the same backend's own fixed answer, and bytes."""
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    for (workload, connections, backend), rounds in figures.items():
        fixed = figures.get((FIXED, connections, backend))
        if workload != FIXED and fixed:
            ratios.setdefault(workload, {}).setdefault(str(connections), {})[backend] = round(ratio(rounds, fixed), 4)
    idle_bytes: dict[str, dict[str, int]] = {}
    for (program, backend), found in idle.items():
        idle_bytes.setdefault(program, {})[backend] = round(found.per_unit)
    return {"machine": machine, "default": default, "ratios_to_fixed": ratios, "idle_bytes": idle_bytes}


def compare(own: dict, recorded: dict) -> list[tuple[bool, str]]:
    """One line for each ratio of ours: how it stands to the recorded backends' range, another machine's noise allowed.

    Args:
        own: What `record` gives for this run.
        recorded: What it gave elsewhere.
    """
    lines = []
    for workload, by_connections in own["ratios_to_fixed"].items():
        for connections, by_backend in by_connections.items():
            base = recorded.get("ratios_to_fixed", {}).get(workload, {}).get(connections, {})
            for backend, seen in by_backend.items():
                title = f"{backend}, {workload} at {connections} connections: {seen:.3f} × its own fixed answer"
                if not base:
                    lines.append((False, f"none  {title}; nothing was recorded for it"))
                    continue
                highest = max(base.values())
                passes = seen <= highest * (1 + OTHER_MACHINE_NOISE)
                names = ", ".join(f"{of} {value:.3f}" for of, value in base.items())
                lines.append((passes, f"{'pass' if passes else 'FAIL'}  {title}; recorded: {names}"))
    return lines or [(False, "none  nothing to compare: no workload was measured beside its fixed answer")]
