"""One measurement: a fresh server, checks, warm-up, load, and whether all counts agree."""

import dataclasses
import os
import pathlib
import resource

from harness import client, wrk
from harness.rows import Row
from harness.server import Server

WARM_UP_SECONDS = 1


class CountError(Exception):
    """Two sides counted differently: the figures cannot be trusted."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """The figures of one row in one round."""

    cpu_us: float
    """Server CPU time per request, microseconds."""
    cpu_seconds: float
    core_share: float
    """How busy the server's core was. Well under 1: the load was the slower one, and requests per second are its figure."""
    requests_per_second: float
    p50_us: int
    p99_us: int
    """Both 0 where requests are sent in batches: not known."""
    others_share: float
    """What else ran on the two cores, and what the host took of them. Over a few per cent, the figures are noise."""
    memory_at_rest: int
    memory_after: int
    answer_octets: int
    backend: str
    """Which one turboapi says that it serves with; empty for other servers."""
    load_share: float = 0.0
    """How busy the load's core was. Near 1 where `core_share` is below it: the server could do more."""


def measure(row: Row, server: Server, load_core: int | None, connections: int, seconds: int) -> Sample:
    """Measures a server that has just been started."""
    server.wait_until_it_listens()
    request, port = row.request, server.port
    answer = client.check(port, request)
    octets = answer.octets
    # The answer after which the connection ends says so, and is longer.
    octets_last = client.check(port, request, closes=True).octets if row.shape.requests_per_connection else octets
    server.check_place(row.backend)
    memory_at_rest = server.memory_bytes()
    wrk.run(port, request, load_core, connections, WARM_UP_SECONDS, answer.sent, row.shape)

    calls_before = client.read_calls(port)
    cores = {server.core, load_core}
    busy_before, load_before = busy_seconds(cores), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_before = server.cpu_seconds()
    load = wrk.run(port, request, load_core, connections, seconds, None, row.shape)
    cpu_seconds = server.cpu_seconds() - cpu_before
    load_after = resource.getrusage(resource.RUSAGE_CHILDREN)
    load_seconds = load_after.ru_utime + load_after.ru_stime - load_before.ru_utime - load_before.ru_stime
    others = busy_seconds(cores) - busy_before - load_seconds - cpu_seconds
    calls = client.read_calls(port) - calls_before - 1

    memory_after = server.memory_bytes()
    check_counts(row, load, calls, octets, connections, octets_last)
    if client.check(port, request).octets != octets:
        raise CountError(f"the answer had {octets} octets before the load and has others after it")
    return Sample(
        cpu_us=cpu_seconds / load.requests * 1e6,
        cpu_seconds=cpu_seconds,
        core_share=cpu_seconds / (load.microseconds / 1e6),
        requests_per_second=load.requests / (load.microseconds / 1e6),
        # wrk expects an answer where it counts sixteen, and so corrects a batch's latency away: down to 0 in some runs.
        p50_us=load.p50_us if row.shape.depth == 1 else 0,
        p99_us=load.p99_us if row.shape.depth == 1 else 0,
        others_share=max(0.0, others) / (2 * load.microseconds / 1e6),
        memory_at_rest=memory_at_rest,
        memory_after=memory_after,
        answer_octets=octets,
        backend=server.backend(),
        load_share=load_seconds / (load.microseconds / 1e6),
    )


def busy_seconds(cores: set[int | None]) -> float:
    """How long these cores have not been idle since the machine started, time that the host took included.

    0 where the system does not pin a process to a core, and so does not tell.
    """
    user, nice, system, _idle, _iowait, irq, softirq, steal = core_seconds(cores)
    return user + nice + system + irq + softirq + steal


def stolen_seconds(cores: set[int | None]) -> float:
    """How long the host ran something else while these cores had work; 0 where it does not tell."""
    return core_seconds(cores)[7]


def core_seconds(cores: set[int | None]) -> list[float]:
    """The first eight figures of /proc/stat, summed over these cores; zeros where the system does not pin a process to a core."""
    sums = [0.0] * 8
    if None in cores:
        return sums
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in {f"cpu{core}" for core in cores}:
            sums = [total + int(ticks) / os.sysconf("SC_CLK_TCK") for total, ticks in zip(sums, fields[:8], strict=True)]
    return sums


def check_counts(row: Row, load: wrk.Load, calls: int, octets: int, connections: int, octets_last: int = 0) -> None:
    """Raises CountError where answers, handler calls and octets do not agree.

    A batch of requests (one, where they are not pipelined) may be in flight on each connection at the end.

    Args:
        octets_last: Of an answer after which the connection ends, where the row has such.
    """
    in_flight = connections * row.shape.depth
    calls_min, calls_max = row.request.calls * load.requests, row.request.calls * (load.requests + in_flight)
    if not calls_min <= calls <= calls_max:
        raise CountError(f"the handler ran {calls} times for {load.requests} answers, allowed is {calls_min} to {calls_max}")
    # All answers of a row are equally long, so their sum shows a wrong one that its status does not.
    more = octets_last - octets if load.closes else 0
    octets_min = load.requests * octets + max(0, load.closes - connections - 1) * more
    octets_max = (load.requests + in_flight) * octets + load.closes * more
    if not octets_min <= load.octets <= octets_max:
        raise CountError(
            f"{load.requests} answers had {load.octets} octets, right is {octets} each, allowed is {octets_min} to {octets_max}"
        )
