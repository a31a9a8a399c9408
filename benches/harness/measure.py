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
    others_share: float
    """What else ran on the two cores, and what the host took of them. Over a few per cent, the figures are noise."""
    memory_at_rest: int
    memory_after: int
    answer_octets: int
    backend: str
    """Which one turboapi says that it serves with; empty for other servers."""


def measure(row: Row, server: Server, load_core: int, connections: int, seconds: int) -> Sample:
    """Measures a server that has just been started."""
    server.wait_until_it_listens()
    request, port = row.request, server.port
    octets = client.check(port, request)
    server.check_place(row.backend)
    memory_at_rest = server.memory_bytes()
    wrk.run(port, request, load_core, connections, WARM_UP_SECONDS, compares=True)

    calls_before = client.read_calls(port)
    busy_before, load_before = busy_seconds({server.core, load_core}), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_before = server.cpu_seconds()
    load = wrk.run(port, request, load_core, connections, seconds, compares=False)
    cpu_seconds = server.cpu_seconds() - cpu_before
    load_after = resource.getrusage(resource.RUSAGE_CHILDREN)
    load_seconds = load_after.ru_utime + load_after.ru_stime - load_before.ru_utime - load_before.ru_stime
    others = busy_seconds({server.core, load_core}) - busy_before - load_seconds - cpu_seconds
    calls = client.read_calls(port) - calls_before - 1

    memory_after = server.memory_bytes()
    check_counts(row, load, calls, octets, connections)
    if client.check(port, request) != octets:
        raise CountError(f"the answer had {octets} octets before the load and has others after it")
    return Sample(
        cpu_us=cpu_seconds / load.requests * 1e6,
        cpu_seconds=cpu_seconds,
        core_share=cpu_seconds / (load.microseconds / 1e6),
        requests_per_second=load.requests / (load.microseconds / 1e6),
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        others_share=max(0.0, others) / (2 * load.microseconds / 1e6),
        memory_at_rest=memory_at_rest,
        memory_after=memory_after,
        answer_octets=octets,
        backend=server.backend(),
    )


def busy_seconds(cores: set[int]) -> float:
    """How long these cores have not been idle since the machine started, time that the host took included."""
    ticks = 0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in {f"cpu{core}" for core in cores}:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def check_counts(row: Row, load: wrk.Load, calls: int, octets: int, connections: int) -> None:
    """Raises CountError where answers, handler calls and octets do not agree; one request a connection may be in flight at the end."""
    calls_min, calls_max = (load.requests, load.requests + connections) if row.request.is_handled else (0, 0)
    if not calls_min <= calls <= calls_max:
        raise CountError(f"the handler ran {calls} times for {load.requests} answers, allowed is {calls_min} to {calls_max}")
    # All answers of a row are equally long, so their sum shows a wrong one that its status does not.
    if not load.requests * octets <= load.octets <= (load.requests + connections) * octets:
        raise CountError(f"{load.requests} answers had {load.octets} octets, right is {octets} each")
