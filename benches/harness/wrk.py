"""The load: wrk on its own core. A closed loop: each connection asks again when its answer is there."""

import dataclasses
import pathlib
import subprocess

from harness.rows import ONE_BY_ONE, Request, Shape

SCRIPT = pathlib.Path(__file__).with_name("wrk.lua")
TIMEOUT_SECONDS = 10


class LoadError(Exception):
    """wrk did not run, or what it saw is wrong."""


@dataclasses.dataclass(frozen=True)
class Load:
    """What wrk saw."""

    requests: int
    microseconds: int
    octets: int
    failed: int
    """Connections that failed or timed out."""
    over_399: int
    wrong: int
    """Answers that differ, where all were compared."""
    p50_us: int
    p99_us: int
    max_us: int
    closes: int = 0
    """Requests that said `Connection: close`; of those, up to one a connection may be in flight at the end."""


def run(
    port: int, request: Request, core: int | None, connections: int, seconds: int, right: bytes | None, shape: Shape = ONE_BY_ONE
) -> Load:
    """Loads the server for a while.

    Args:
        right: The body that every answer must have, beside its status. To compare costs wrk some speed, so it is not done (None) while
            CPU time is read.
    Raises:
        LoadError: A connection failed, or a status or a body was wrong.
    """
    command = [] if core is None else ["taskset", "-c", str(core)]
    command += ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{TIMEOUT_SECONDS}s"]
    command += ["-s", str(SCRIPT), f"http://127.0.0.1:{port}{request.path}", "--"]
    # In hexadecimal, as a compressed body has zeros, which end an argument.
    command += [request.method, request.body, str(request.status), (right or b"").hex(), "" if right is None else "check"]
    command += [str(shape.depth), str(shape.requests_per_connection), *(part for header in request.headers for part in header)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 3 * TIMEOUT_SECONDS)
    results = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not results:
        raise LoadError(f"wrk ended with status {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    load = Load(*(int(field) for field in results[0]))
    if load.requests == 0:
        raise LoadError(f"not one answer in {seconds} s")
    if load.failed:
        raise LoadError(f"{load.failed} connections failed or timed out")
    if load.wrong:
        raise LoadError(f"{load.wrong} of {load.requests} answers are wrong, one is: {done.stdout.partition('SAMPLE ')[2].strip()[:300]}")
    if load.over_399 != (load.requests if request.status > 399 else 0):
        raise LoadError(f"{load.over_399} of {load.requests} statuses are over 399, right is {request.status} for all")
    if shape.requests_per_connection and not is_share(load, shape.requests_per_connection):
        raise LoadError(f"{load.closes} connections ended in {load.requests} requests, right is one in {shape.requests_per_connection}")
    return load


def is_share(load: Load, one_in: int) -> bool:
    """Whether connections ended as often as they should, within five standard deviations of what chance does."""
    right = load.requests / one_in
    return abs(load.closes - right) <= 5 * right**0.5 + 1
