"""From samples to the table and the bars. Prints nothing, starts nothing."""

import datetime
import os
import pathlib
import platform
import re
import statistics

from harness.idle import Point
from harness.measure import Sample
from harness.parity import Key, slope
from harness.rows import BARS, Bar

OTHERS_SHARE_MAX = 0.05
BUSY_SHARE = 0.95
HEADINGS = ("row", "CPU µs/request (min–max)", "× fixed", "requests/s", "p50 ms", "p99 ms", "core busy", "MiB at rest", "MiB after")


def median(samples: list[Sample], field: str) -> float:
    """Of one field over the rounds."""
    return statistics.median(getattr(sample, field) for sample in samples)


def lines(samples: dict[str, list[Sample]], reasons: dict[str, str]) -> list[tuple[str, ...]]:
    """One line a row: its figures, or the reason why it has none."""
    fixed = median(samples["fixed"], "cpu_us") if samples.get("fixed") else None
    table = [HEADINGS]
    for name in samples:
        if name in reasons or not samples[name]:
            table.append((name, reasons.get(name, "not measured"), *[""] * (len(HEADINGS) - 2)))
            continue
        of_row = samples[name]
        cpu = sorted(sample.cpu_us for sample in of_row)
        chosen = of_row[-1].backend
        table.append(
            (
                name if not chosen or chosen in name else f"{name} ({chosen})",
                f"{statistics.median(cpu):.2f} ({cpu[0]:.2f}–{cpu[-1]:.2f})",
                f"{statistics.median(cpu) / fixed:.2f}" if fixed else "",
                f"{median(of_row, 'requests_per_second'):,.0f}",
                f"{median(of_row, 'p50_us') / 1e3:.2f}",
                f"{median(of_row, 'p99_us') / 1e3:.2f}",
                f"{median(of_row, 'core_share'):.0%}",
                f"{median(of_row, 'memory_at_rest') / 2**20:.1f}",
                f"{median(of_row, 'memory_after') / 2**20:.1f}",
            )
        )
    return table


def markdown(table: list[tuple[str, ...]]) -> str:
    """The table for a README."""
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table]
    return "\n".join([rows[0], "|---|" + "---:|" * (len(table[0]) - 1), *rows[1:]])


def plain(table: list[tuple[str, ...]]) -> str:
    """The table for a terminal. A reason may run over its column's edge."""
    measured = [line for line in table if line[2] or line[3]]
    widths = [max(len(line[column]) for line in measured) for column in range(1, len(table[0]))]
    widths.insert(0, max(len(line[0]) for line in table))
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table)


PARITY_HEADINGS = (
    "workload",
    "connections",
    "backend",
    "CPU µs/request (min–max)",
    "requests/s",
    "p99 ms",
    "core busy",
    "load's core",
    "limit",
)


def parity_lines(samples: dict[Key, list[Sample]]) -> list[tuple[str, ...]]:
    """One line for each workload, number of connections and backend, the backends beside each other."""
    table = [PARITY_HEADINGS]
    for (workload, connections, backend), of_key in sorted(samples.items(), key=lambda item: order(item[0], samples)):
        cpu = sorted(sample.cpu_us for sample in of_key)
        table.append(
            (
                workload,
                str(connections),
                backend,
                f"{statistics.median(cpu):.2f} ({cpu[0]:.2f}–{cpu[-1]:.2f})",
                f"{median(of_key, 'requests_per_second'):,.0f}",
                f"{p99 / 1e3:.2f}" if (p99 := median(of_key, "p99_us")) else "not known",
                f"{median(of_key, 'core_share'):.0%}",
                f"{median(of_key, 'load_share'):.0%}",
                limit(of_key),
            )
        )
    return table


def order(key: Key, samples: dict[Key, list[Sample]]) -> tuple[int, int, int]:
    """Where it was measured first: a combination that had to be left out leaves no gap."""
    names, backends = list(dict.fromkeys(name for name, _, _ in samples)), list(dict.fromkeys(of for _, _, of in samples))
    return names.index(key[0]), key[1], backends.index(key[2])


def limit(of_key: list[Sample]) -> str:
    """What could do no more: requests/s is a figure of that side only, and CPU per request of the server in either case."""
    server, load = median(of_key, "core_share"), median(of_key, "load_share")
    return "server" if server >= BUSY_SHARE else "load" if load >= BUSY_SHARE else "neither"


def idle_lines(points: dict[tuple[str, str], list[Point]]) -> list[tuple[str, ...]]:
    """One line for each program and backend: the slopes, and the totals that they come from."""
    first = next(iter(points.values()), [])
    table = [("idle", "bytes a connection (Rss)", "of these Anonymous", *(f"MiB at {point.connections:,}" for point in first))]
    for (program, backend), of_key in points.items():
        resident = slope([(point.connections, point.memory.resident) for point in of_key])
        anonymous = slope([(point.connections, point.memory.anonymous) for point in of_key])
        totals = (f"{point.memory.resident / 2**20:.2f}" for point in of_key)
        table.append((f"{program}, {backend}", f"{resident.per_unit:.0f}", f"{anonymous.per_unit:.0f}", *totals))
    return table


def parity_warnings(samples: dict[Key, list[Sample]]) -> list[str]:
    """The same weaknesses as in `warnings`, each in one line for all, and answers of unequal length."""
    found, total = [], len(samples)
    if short := [low for of_key in samples.values() if (low := min(one.cpu_seconds for one in of_key)) < 1]:
        found.append(f"{len(short)} of {total} rows had under 1 s of CPU time in a round, down to {min(short):.2f} s: use more --seconds")
    if busy := [share for of_key in samples.values() if (share := median(of_key, "others_share")) > OTHERS_SHARE_MAX]:
        seen = f"up to {max(busy):.0%} of the two cores, over {OTHERS_SHARE_MAX:.0%} in {len(busy)} of {total} rows"
        found.append(f"other processes took {seen}: repeat it on a quiet machine")
    octets = {of_key[0].answer_octets for of_key in samples.values()}
    if len(octets) > 1:
        found.append(f"answers have {' and '.join(map(str, sorted(octets)))} octets, they should all be equal")
    return found


def judge(bar: Bar, samples: dict[str, list[Sample]], reasons: dict[str, str]) -> tuple[bool, str]:
    """Whether a bar is reached, and the line that says so. What was not measured is not reached."""
    title = f"{bar.name} ≤ {bar.ratio_max:.2f} × {bar.base}"
    absent = [name for name in (bar.name, bar.base) if name in reasons or not samples.get(name)]
    if absent:
        return False, f"none  {title}: {' and '.join(absent)} not measured"
    own, base = (median(samples[name], "cpu_us") for name in (bar.name, bar.base))
    passes = own / base <= bar.ratio_max
    return passes, f"{'pass' if passes else 'FAIL'}  {title}: {own:.2f} µs / {base:.2f} µs = {own / base:.3f}"


def bars(samples: dict[str, list[Sample]], reasons: dict[str, str]) -> list[tuple[bool, str]]:
    """All bars."""
    return [judge(bar, samples, reasons) for bar in BARS]


def warnings(samples: dict[str, list[Sample]]) -> list[str]:
    """What makes figures weaker than they look."""
    found = [
        f"{name}: only {low:.2f} s of CPU time in a round, use more --seconds or --connections"
        for name, of_row in samples.items()
        if of_row and (low := min(sample.cpu_seconds for sample in of_row)) < 1
    ]
    found += [
        f"{name}: other processes took {share:.0%} of the two cores, repeat it on a quiet machine"
        for name, of_row in samples.items()
        if of_row and (share := median(of_row, "others_share")) > OTHERS_SHARE_MAX
    ]
    octets = {name: samples[name][0].answer_octets for name in ("fixed", "turboapi") if samples.get(name)}
    if len(set(octets.values())) > 1:
        found.append(f"the fixed answer has {octets['fixed']} octets and ours {octets['turboapi']}: make them equal in benches/fixed")
    return found


def machine() -> str:
    """What it ran on, in one line."""
    processors = pathlib.Path("/proc/cpuinfo")
    cpu = re.search(r"^model name\s*: (.*)$", processors.read_text() if processors.exists() else "", re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    name = cpu.group(1) if cpu else platform.machine()
    today = datetime.date.today().isoformat()
    return f"{today}, {name}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release().partition('-')[0]}"
