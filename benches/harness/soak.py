"""Holds one server under load for long and watches what should not change: the answers, its memory, its descriptors, its p99.

`ci/soak` runs it. First a short closed load finds out what the server can do, then an open load at a share of that is held, with a
few abusive clients beside it (abuse.py). The client (client/, in Rust) checks every answer. Each second resident memory and open
descriptors are read. Linux only. What counts as a failure stands in `judge`.

The p99 is to be the server's and not the machine's: the client finds out when a core stood still (client/src/stalls.rs), and what was
due then, or before it had been made up for, is in no p99. Server and client come before ordinary processes where that is permitted,
and how long they waited for a core is read. Where either is more than a small part, there is no verdict (`undecided`).
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from harness.client import ask
from harness.measure import stolen_seconds
from harness.parity import slope
from harness.rows import BENCHES, Request
from harness.server import Server, ServerError, prefer

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
DISTURBED_SHARE_MAX = 0.1
"""Of an interval's answers, what the machine may have disturbed. They are left out by when they were due, not by how late they were, so the
others are a fair sample; but a machine that stands still that often also does it too shortly to be seen."""
CATCH_UP_MARGIN = 2.0
"""A load of R needs R / (1 - R) of a stop's length to be worked off. Twice that is right even where the server can do a seventh less (at
R = 0.7) than it showed at its saturation; rounds of one measurement differ by a tenth."""
RATE_SHARE = 0.8
"""Of what a closed load would have held, the rate that is tried first. A request costs a third more there than at saturation, as fewer come
in one turn: 70 % of the answers kept the server's core busy for 90 % of the time. What is held is a share of the core's time."""
LIMIT_SHARE = 0.95
"""Of its core, what a side uses that limits the load. The kernel's interrupts have the rest."""
WAITED_SHARE_MAX = 0.03
"""Of an interval, what the server or the client may have waited for a core while other threads than the meters had it. In one second with a
per cent of it or less p99 was 0.6 to 1.5 ms, in one with two 3.6, with four 5 to 25."""
GARBAGE_ONE_IN = 1000
"""Requests, for each object of a type that a collection may find: Starlette and asyncio leave some, but not for every request."""
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
class Usage:
    """CPU seconds until now, or between two points of time; the server's and the client's are of one core where they are pinned."""

    seconds: float
    server: float
    client: float
    server_waited: float
    """For a core, while it could have run and something else did: other processes, the meters, or its own threads."""
    client_waited: float
    meter: float
    """What a meter took of its core, the mean of all."""
    stolen: float
    """What the host took of the cores, as it tells itself. What the meters see should be about that and no more: they also see
    the kernel when it lets nobody in, and that could be the server's doing."""

    def waited(self) -> tuple[float, float]:
        """For which share of the time the server and the client waited, but for the meters."""
        server, load = (max(0.0, waited - self.meter) / self.seconds for waited in (self.server_waited, self.client_waited))
        return server, load

    def since(self, former: "Usage") -> "Usage":
        """The difference."""
        return Usage(*(getattr(self, field.name) - getattr(former, field.name) for field in dataclasses.fields(self)))


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
    usage: list[Usage] = dataclasses.field(default_factory=list)
    """Of each interval."""
    saturation: Usage | None = None
    garbage: dict[str, int] = dataclasses.field(default_factory=dict)
    """What a collection found at the end, by type, where none had run since the load began."""


def judge(soak: Soak, p99_factor: float = P99_FACTOR) -> list[str]:
    """What was wrong, one sentence each; empty if nothing was. With a factor of 0 no p99 is judged."""
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
    quiet = [not stood_still(interval) for interval in soak.intervals]
    for number, interval in enumerate(soak.intervals[1:], 2):
        if p99_factor and quiet[0] and quiet[number - 1] and interval["p99_us"] > p99_factor * soak.intervals[0]["p99_us"]:
            # Waiting excuses nobody, as it could be for the server's own threads; it only says where to look first.
            waiting = waited(soak.usage[number - 1])
            found.append(
                f"p99 of interval {number} is {interval['p99_us']} µs, the first one's was {soak.intervals[0]['p99_us']} µs"
                f" and may become {p99_factor:g} times that" + (f" ({waiting})" if waiting else "")
            )
    found += litter(soak)
    if soak.exit_code:
        found.append(f"the server ended with status {soak.exit_code}")
    return found


def litter(soak: Soak) -> list[str]:
    """What requests have left in reference cycles: nothing of ours at all, and nothing for every so many of them."""
    most = soak.total["right"] / GARBAGE_ONE_IN
    return [
        f"a collection found {count} of {name}, {'none' if name.startswith('turboapi') else f'{most:.0f}'} are allowed"
        for name, count in sorted(soak.garbage.items())
        if name.startswith("turboapi") or count > most
    ]


def undecided(soak: Soak) -> str:
    """Why of some interval's p99 it cannot be said that it was good; empty if of each it can."""
    reasons = [stood_still(interval) or waited(used) for interval, used in zip(soak.intervals, soak.usage, strict=True)]
    found = [(number, why) for number, why in enumerate(reasons, 1) if why]
    if not found:
        return ""
    number, why = found[0]
    return f"{len(found)} of {len(reasons)} intervals were disturbed; in interval {number} {why}: repeat it on a quiet machine"


def stood_still(interval: dict) -> str:
    """Whether the machine did so for too long to say anything of the interval's p99."""
    if (share := disturbed_share(interval)) <= DISTURBED_SHARE_MAX:
        return ""
    return (
        f"the machine stood still for {interval['stalled_us'] / 1000:.0f} ms and disturbed {share:.0%} of the answers,"
        f" {DISTURBED_SHARE_MAX:.0%} are allowed"
    )


def waited(used: Usage) -> str:
    """Whether server or client did so for too long to say that the interval's p99 was good, or that the first one's was not too high."""
    server, load = used.waited()
    if max(server, load) <= WAITED_SHARE_MAX:
        return ""
    return (
        f"the server waited for a core {server:.1%} of the time and the client {load:.1%} while others had it,"
        f" {WAITED_SHARE_MAX:.1%} are allowed"
    )


def disturbed_share(interval: dict) -> float:
    """Of the interval's answers."""
    return interval["disturbed"] / max(1, interval["answers"])


def limit(usage: Usage) -> str:
    """Which side could do no more, in a sentence."""
    server, load = usage.server / usage.seconds, usage.client / usage.seconds
    server_waited, load_waited = usage.waited()
    seen = (
        f"at saturation the server used {server:.0%} of its core and waited {server_waited:.0%} of the time for others to leave it,"
        f" the client used {load:.0%} and waited {load_waited:.0%}"
    )
    if server >= LIMIT_SHARE:
        return f"{seen}: the server is the limit"
    if load >= LIMIT_SHARE:
        return f"{seen}: the CLIENT is the limit, the server could do more and is held at less than was asked for"
    return f"{seen}: NEITHER is the limit, what is held is a share of what the machine let them do"


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


class Client:
    """The load client, while it runs. What it says about wrong answers goes to stderr.

    Args:
        cores: to be watched, with a meter on each.
        core: its own one.
    """

    def __init__(self, options: argparse.Namespace, port: int, cores: list[int], core: int | None, **arguments: float) -> None:
        command = [
            *([] if core is None else ["taskset", "-c", str(core)]),
            options.client,
            str(port),
            "--connections",
            str(options.connections),
        ]
        if cores:
            catch_up = CATCH_UP_MARGIN * options.rate / (1 - options.rate)
            command += ["--watch-cores", ",".join(map(str, cores)), "--catch-up", str(catch_up)]
        for name, value in arguments.items():
            command += [f"--{name}", str(value)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        prefer(self._process.pid)
        self.pid = self._process.pid

    def lines(self) -> Iterator[dict]:
        """What it writes, until it ends."""
        assert self._process.stdout is not None
        with self._process as process:
            try:
                for line in process.stdout:
                    yield json.loads(line)
            finally:
                process.terminate()
        if process.returncode not in (0, 1):
            raise ServerError(f"the client ended with status {process.returncode}")


def read_usage(server: Server, client: Client, cores: list[int], line: dict | None = None) -> Usage:
    """Until now."""
    of_server = [scheduled(task) for pid in server.pids() for task in tasks(pid)]
    ran, waiting = sum(ran for ran, _ in of_server), sum(waiting for _, waiting in of_server)
    # The client's first thread is the one that loads, the others are meters. Its times can be read until `lines` ends.
    client_ran, client_waited = scheduled(pathlib.Path(f"/proc/{client.pid}"))
    meter = line["meters_cpu_us"] / 1e6 / len(cores) if line else 0.0
    return Usage(time.monotonic(), ran, client_ran, waiting, client_waited, meter, stolen_seconds(set(cores)))


def tasks(pid: int) -> list[pathlib.Path]:
    """The threads of a process."""
    with contextlib.suppress(OSError):
        return list(pathlib.Path(f"/proc/{pid}/task").iterdir())
    return []


def scheduled(task: pathlib.Path) -> tuple[float, float]:
    """For how many seconds a thread has run, and waited to; nothing if it has ended."""
    with contextlib.suppress(OSError):
        ran, waited, _ = (task / "schedstat").read_text().split()
        return int(ran) / 1e9, int(waited) / 1e9
    return 0.0, 0.0


def run(options: argparse.Namespace) -> Soak:
    """Starts the server, loads it, and ends it."""
    cores = sorted(os.sched_getaffinity(0))
    is_pinned = options.workers == 1 and len(cores) > 1
    server_core, client_core = (cores[0], cores[-1]) if is_pinned else (None, None)
    cores = [cores[0], cores[-1]] if is_pinned else cores
    module = f"{'layered' if options.layered else 'turbo'}_app:app" if options.fault is None else f"faulty_app:{options.fault}"
    command = [options.python, "-m", "turboapi", "serve", module, "--port", "PORT", "--workers", str(options.workers)]
    server = Server(command, {}, BENCHES / "apps", server_core)
    try:
        prefer(server.process.pid)
        server.wait_until_it_listens()
        first, saturation = load(options, server, cores, client_core)
        most = first["answers"] / first["seconds"]
        rate = most * options.rate
        if is_pinned:
            rate *= RATE_SHARE
            _, tried = load(options, server, cores, client_core, rate=rate)
            rate *= options.rate * tried.seconds / tried.server
        print(f"saturation {most:.0f} requests/s, held are {rate:.0f}; {server.log_text()}", flush=True)
        if is_pinned:
            print(limit(saturation), flush=True)
        descriptors_before = settled(server, 0)
        if options.layered:
            read_garbage(server.port)  # that of the start
        soak = hold(options, server, rate, cores, client_core, descriptors_before)
        if options.layered:
            soak = dataclasses.replace(soak, garbage=read_garbage(server.port))
            print(f"garbage after {soak.total['right']} answers: {soak.garbage or 'none'}", flush=True)
        # The closed load's answers count too.
        total = {**soak.total, **{name: soak.total[name] + first[name] for name in ("right", "wrong", "lost")}}
    finally:
        server.stop()
    return dataclasses.replace(soak, total=total, exit_code=server.process.returncode, saturation=saturation)


def read_garbage(port: int) -> dict[str, int]:
    """Has apps/layered_app.py collect it, by type."""
    return json.loads(ask(port, Request("/garbage", "")).body)


def load(options: argparse.Namespace, server: Server, cores: list[int], core: int | None, rate: float = 0) -> tuple[dict, Usage]:
    """A short load, a closed one without a rate: what came of it, and who used what from its first second to its last. No core is
    watched: it is the server's."""
    client = Client(options, server.port, [], core, seconds=options.saturation_seconds, rate=rate)
    usage, total = [], {}
    for line in client.lines():
        if line["kind"] == "second":
            usage.append(read_usage(server, client, cores))
        elif line["kind"] == "total":
            total = line
    return total, usage[-1].since(usage[0])


def hold(options: argparse.Namespace, server: Server, rate: float, cores: list[int], core: int | None, descriptors_before: int) -> Soak:
    """The long part."""
    samples, intervals, used, total = [], [], [], {"right": 0, "wrong": 0, "lost": 0}
    started = time.monotonic()
    abusers = abuse(server.port, math.ceil(options.connections * options.abusive / 100))
    arguments = {"rate": rate, "seconds": options.minutes * 60, "interval": options.interval}
    client = Client(options, server.port, cores, core, **arguments)
    usage = read_usage(server, client, cores)
    print(HEADING, flush=True)
    for line in client.lines():
        if line["kind"] == "second":
            samples.append(read_sample(server, started))
        elif line["kind"] == "interval":
            intervals.append(line)
            former, usage = usage, read_usage(server, client, cores, line)
            used.append(usage.since(former))
            print(row(len(intervals), line, used[-1], samples[-1]), flush=True)
        elif line["kind"] == "total":
            total = line
    samples = samples[:-1]  # at the last one the good clients may have gone
    seen = [f"{samples[int(part * (len(samples) - 1))].resident / 2**20:.1f} at {part:.0%}" for part in (0.1, 0.5, 1)] if samples else []
    print(f"resident MiB: {', '.join(seen)}", flush=True)
    abused = json.loads(abusers.communicate(timeout=60)[0])
    print("abusive:", ", ".join(f"{name} {times}" for name, times in sorted(abused["endings"].items())) or "none", flush=True)
    return Soak(samples, intervals, total, abused["failures"], descriptors_before, settled(server, descriptors_before), 0, used)


def abuse(port: int, count: int) -> subprocess.Popen[str]:
    """Starts so many abusive clients, as soon as they stand back. They end when it is communicated with, or when this process ends."""
    command = [sys.executable, "-m", "harness.abuse", str(port), str(count)]
    abusers = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=BENCHES, start_new_session=True)
    assert abusers.stdout is not None
    abusers.stdout.readline()
    return abusers


HEADING = (
    "           answers       p50 µs        p99 µs         machine stood still ms     server        client      each\n"
    "interval       all disturbed  judged  judged      raw   largest  times  seen of host    ran waited    ran waited  meter"
    "   resident descriptors"
)


def row(number: int, line: dict, used: Usage, sample: Sample) -> str:
    """One interval, for people."""
    server_waited, client_waited = used.waited()
    shares = [used.server / used.seconds, server_waited, used.client / used.seconds, client_waited, used.meter / used.seconds]
    return (
        f"{number:8} {line['answers']:9} {disturbed_share(line):9.2%} {line['p50_us']:7} {line['p99_us']:7} {line['raw_p99_us']:8}"
        f" {line['largest_us']:9} {line['stalls']:6} {line['stalled_us'] / 1000:5.0f} {used.stolen * 1000:7.0f}"
        f" {' '.join(f'{share:6.1%}' for share in shares)} {sample.resident / 2**20:5.1f} MiB {sample.descriptors:11}"
    )


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


def share(text: str) -> float:
    """An option's type: over 0 and under 1. At 1 no stop would ever be worked off."""
    if not 0 < float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return float(text)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ci/soak", description="Holds the server under load and fails if anything changes.")
    parser.add_argument("--minutes", type=float, default=30, help="how long (default 30)")
    parser.add_argument(
        "--rate",
        type=share,
        default=0.7,
        help="share of its core's time that the server is kept busy; of several workers, of their most answers (default 0.7)",
    )
    parser.add_argument("--abusive", type=float, default=1, help="abusive clients, percent of the connections (default 1)")
    parser.add_argument("--connections", type=int, default=128, help="good clients (default 128)")
    parser.add_argument("--workers", type=int, default=1, help="workers of the server (default 1)")
    parser.add_argument("--interval", type=float, default=60, help="seconds over which a p99 is taken (default 60)")
    parser.add_argument("--p99-factor", type=float, default=P99_FACTOR, help="times the first p99 that is a failure (default 2, 0: none)")
    parser.add_argument("--saturation-seconds", type=float, default=SATURATION_SECONDS, help="of the closed load (default 5)")
    parser.add_argument("--layered", action="store_true", help="within five layers, with automatic garbage collection off")
    parser.add_argument("--fault", choices=["leak", "descriptors", "answer", "slow"], help="a server with this fault: the run must fail")
    parser.add_argument("--json", type=pathlib.Path, help="file for each sample and interval")
    parser.add_argument("--python", required=True, help="Python that has turboapi")
    parser.add_argument("--client", required=True, help="the client's binary")
    return parser.parse_args(arguments)


def main() -> int:
    """Returns the exit status: 0, 1 if something was wrong, 3 if nothing was and of p99 nothing can be said; with --fault, 0 and 1 are
    the other way round."""
    options = parse()
    try:
        soak = run(options)
    except ServerError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(dataclasses.asdict(soak)))
    failures, no_verdict = judge(soak, options.p99_factor), undecided(soak) if options.p99_factor else ""
    for failure in failures:
        print(f"FAIL: {failure}")
    if no_verdict:
        print(f"{'note' if failures else 'NO VERDICT on p99'}: {no_verdict}")
    elif not failures:
        print(f"passed: {soak.total['right']} answers, each checked")
    if failures:
        return 0 if options.fault else 1
    return 3 if no_verdict else int(options.fault is not None)


if __name__ == "__main__":
    raise SystemExit(main())
