"""Holds one server under load for long and watches what should not change: the answers, its memory, its descriptors, its p99.

`ci/soak` runs it. First a short closed load finds out what the server can do, then an open load at a share of that is held, with a
few abusive clients beside it (abuse.py). The client (client/, in Rust) checks every answer. Each second resident memory and open
descriptors are read. Linux only. What counts as a failure stands in `judge`.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

from harness.abuse import Abuser
from harness.parity import slope
from harness.rows import BENCHES
from harness.server import Server, ServerError

WARM_UP_SECONDS_MAX = 120
"""Memory and descriptors are judged from here on, or from the first quarter of a shorter run on: one turn of the timers' wheel (see
churn.py), and what Python fills on its first calls."""
RESIDENT_GROWTH_BYTES = 1 << 20
"""The fitted line may rise by so much over the judged time, whatever its length. A leak of one byte in each request is ten times that
in half an hour at 6,000 requests a second."""
DESCRIPTOR_GROWTH = 8
"""The same for descriptors."""
NOISE_DEVIATIONS = 3
"""And by so many standard deviations of the points around the line: what they do at random makes a slope too."""
P99_FACTOR = 2.0
"""No interval's p99 may be over so many times the first one's."""
SATURATION_SECONDS = 5
RETURN_SECONDS_MAX = 15
"""For descriptors to be as many as before, when all clients have gone."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One second."""

    seconds: float
    resident: int
    descriptors: int


@dataclasses.dataclass(frozen=True)
class Soak:
    """What came of a run."""

    samples: list[Sample]
    intervals: list[dict]
    """The client's lines, one for each whole interval."""
    total: dict
    """The client's last line."""
    abuse: list[str]
    """What abusive clients got that they should not."""
    descriptors_before: int
    descriptors_after: int
    exit_code: int


def judge(soak: Soak, p99_factor: float = P99_FACTOR) -> list[str]:
    """What was wrong, one sentence each; empty if nothing was."""
    found = []
    total = soak.total
    if total["wrong"] or total["lost"]:
        found.append(f"{total['wrong']} of {total['right'] + total['wrong']} answers were wrong, {total['lost']} connections were lost")
    if not total["right"]:
        found.append("no answer came")
    found += soak.abuse[:5]
    found += growth(soak.samples, "resident", RESIDENT_GROWTH_BYTES, "resident memory", "bytes")
    found += growth(soak.samples, "descriptors", DESCRIPTOR_GROWTH, "descriptors", "")
    if soak.descriptors_after > soak.descriptors_before:
        found.append(f"{soak.descriptors_after} descriptors are open when all clients have gone, {soak.descriptors_before} were before")
    for number, interval in enumerate(soak.intervals[1:], 2):
        if interval["p99_us"] > p99_factor * soak.intervals[0]["p99_us"]:
            found.append(
                f"p99 of interval {number} is {interval['p99_us']} µs, the first one's was {soak.intervals[0]['p99_us']} µs"
                f" and may become {p99_factor:g} times that"
            )
    if soak.exit_code:
        found.append(f"the server ended with status {soak.exit_code}")
    return found


def growth(samples: list[Sample], field: str, allowed: float, name: str, unit: str) -> list[str]:
    """Whether a field rose by more than is allowed and more than its noise."""
    if not samples:
        return [f"{name} was never read"]
    first = samples[0].seconds + min(WARM_UP_SECONDS_MAX, (samples[-1].seconds - samples[0].seconds) / 4)
    points = [(sample.seconds, getattr(sample, field)) for sample in samples if sample.seconds >= first]
    if len(points) < 3:
        return [f"{name}: {len(points)} points are too few for a line"]
    line = slope(points)
    risen = line.per_unit * (points[-1][0] - points[0][0])
    middle_x, middle_y = statistics.fmean(x for x, _ in points), statistics.fmean(y for _, y in points)
    noise = statistics.pstdev(y - middle_y - line.per_unit * (x - middle_x) for x, y in points)
    if risen > allowed and risen > NOISE_DEVIATIONS * noise:
        return [f"{name} rose by {risen:.0f} {unit}".rstrip() + f" in {points[-1][0] - points[0][0]:.0f} s (noise is {noise:.0f})"]
    return []


def read_sample(server: Server, started: float) -> Sample:
    """Of the whole tree of processes, shared pages once for each."""
    resident = 0
    for pid in server.pids():
        try:
            resident += int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:  # it has just ended
            continue
    return Sample(time.monotonic() - started, resident, server.descriptors())


def client(options: argparse.Namespace, port: int, core: int | None, **arguments: float) -> Iterator[dict]:
    """Runs the client and yields its lines. What it says about wrong answers goes to stderr."""
    command = [
        *([] if core is None else ["taskset", "-c", str(core)]),
        options.client,
        str(port),
        "--connections",
        str(options.connections),
    ]
    for name, value in arguments.items():
        command += [f"--{name}", str(value)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield json.loads(line)
        finally:
            process.terminate()
    if process.returncode not in (0, 1):
        raise ServerError(f"the client ended with status {process.returncode}")


def run(options: argparse.Namespace) -> Soak:
    """Starts the server, loads it, and ends it."""
    cores = sorted(os.sched_getaffinity(0))
    is_pinned = options.workers == 1 and len(cores) > 1
    server_core, client_core = (cores[0], cores[-1]) if is_pinned else (None, None)
    module = "turbo_app:app" if options.fault is None else f"faulty_app:{options.fault}"
    command = [options.python, "-m", "turboapi", "serve", module, "--port", "PORT", "--workers", str(options.workers)]
    server = Server(command, {}, BENCHES / "apps", server_core)
    try:
        server.wait_until_it_listens()
        *_, first = client(options, server.port, client_core, seconds=options.saturation_seconds)
        saturation = first["answers"] / first["seconds"]
        rate = saturation * options.rate
        print(f"saturation {saturation:.0f} requests/s, held are {rate:.0f}; {server.log_text()}", flush=True)
        descriptors_before = settled(server, 0)
        soak = hold(options, server, rate, client_core, descriptors_before)
        # The closed load's answers count too.
        total = {**soak.total, **{name: soak.total[name] + first[name] for name in ("right", "wrong", "lost")}}
    finally:
        server.stop()
    return dataclasses.replace(soak, total=total, exit_code=server.process.returncode)


def hold(options: argparse.Namespace, server: Server, rate: float, core: int | None, descriptors_before: int) -> Soak:
    """The long part."""
    count = math.ceil(options.connections * options.abusive / 100)
    abusers = [Abuser(server.port, index) for index in range(count)]
    samples, intervals, total = [], [], {"right": 0, "wrong": 0, "lost": 0}
    started = time.monotonic()
    for abuser in abusers:
        abuser.start()
    arguments = {"rate": rate, "seconds": options.minutes * 60, "interval": options.interval}
    print("interval   answers     p50     p99  largest µs   resident   descriptors", flush=True)
    for line in client(options, server.port, core, **arguments):
        if line["kind"] == "second":
            samples.append(read_sample(server, started))
        elif line["kind"] == "interval":
            intervals.append(line)
            shown = f"{len(intervals):8} {line['answers']:9} {line['p50_us']:7} {line['p99_us']:7} {line['largest_us']:11}"
            print(f"{shown} {samples[-1].resident / 2**20:7.1f} MiB {samples[-1].descriptors:9}", flush=True)
        elif line["kind"] == "total":
            total = line
    samples = samples[:-1]  # at the last one the good clients may have gone
    for abuser in abusers:
        abuser.stop()
    for abuser in abusers:
        abuser.join(5)
    endings = sum((abuser.endings for abuser in abusers), Counter())
    print("abusive:", ", ".join(f"{name} {times}" for name, times in sorted(endings.items())) or "none", flush=True)
    failures = [failure for abuser in abusers for failure in abuser.failures]
    return Soak(samples, intervals, total, failures, descriptors_before, settled(server, descriptors_before), 0)


def settled(server: Server, wanted: int) -> int:
    """Descriptors when clients have gone: waits until they are as few as wanted, or become no fewer."""
    deadline = time.monotonic() + RETURN_SECONDS_MAX
    seen = server.descriptors()
    while seen > wanted and time.monotonic() < deadline:
        time.sleep(0.5)
        former, seen = seen, server.descriptors()
        if not wanted and seen == former:
            break
    return seen


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ci/soak", description="Holds the server under load and fails if anything changes.")
    parser.add_argument("--minutes", type=float, default=30, help="how long (default 30)")
    parser.add_argument("--rate", type=float, default=0.7, help="share of saturation that is held (default 0.7)")
    parser.add_argument("--abusive", type=float, default=1, help="abusive clients, percent of the connections (default 1)")
    parser.add_argument("--connections", type=int, default=128, help="good clients (default 128)")
    parser.add_argument("--workers", type=int, default=1, help="workers of the server (default 1)")
    parser.add_argument("--interval", type=float, default=60, help="seconds over which a p99 is taken (default 60)")
    parser.add_argument("--p99-factor", type=float, default=P99_FACTOR, help="over so many times the first p99 is a failure (default 2)")
    parser.add_argument("--saturation-seconds", type=float, default=SATURATION_SECONDS, help="of the closed load (default 5)")
    parser.add_argument("--fault", choices=["leak", "descriptors", "answer", "slow"], help="a server with this fault: the run must fail")
    parser.add_argument("--json", type=pathlib.Path, help="file for each sample and interval")
    parser.add_argument("--python", required=True, help="Python that has turboapi")
    parser.add_argument("--client", required=True, help="the client's binary")
    return parser.parse_args(arguments)


def main() -> int:
    """Returns the exit status: 0, or 1 if something was wrong; with --fault the other way round."""
    options = parse()
    try:
        soak = run(options)
    except ServerError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(dataclasses.asdict(soak)))
    failures = judge(soak, options.p99_factor)
    for failure in failures:
        print(f"FAIL: {failure}")
    if not failures:
        print(f"passed: {soak.total['right']} answers, each checked")
    if options.fault:
        return 0 if failures else 1
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
