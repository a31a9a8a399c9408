"""The processor cores that this process may use, and keeping a thread on one of them."""

import math
import os
from pathlib import Path


def allowed() -> frozenset[int]:
    """The cores that the process may use; all of them where the system cannot say (macOS).

    Asks for the main thread, which is never pinned: a thread's own mask is its maker's.
    """
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(os.getpid()))
    return frozenset(range(os.cpu_count() or 1))


def count() -> int:
    """Cores' worth of time that the process may use: the allowed cores, or less if its container has a quota."""
    cores = len(allowed())
    quota = quota_of_container()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def quota_of_container(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that the control group allows, or None. One level only: a container sees its own group as the root."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None


def pins(workers: int, wish: bool | None) -> bool:
    """Whether workers are kept on one core each. `wish` is the operator's: `Config.pin`.

    By itself only if the workers take all the cores: a server that takes two of eight would otherwise meet every other such
    server of the machine on the first two, and a quota leaves the choice of cores to the kernel.
    """
    if not hasattr(os, "sched_setaffinity"):
        return False
    if wish is not None:
        return wish
    return 1 < workers == len(allowed()) == count()


def pin(index: int) -> None:
    """Keeps the calling thread, and the threads that it makes, on one core: the `index`-th of those allowed, round and round."""
    cores = sorted(allowed())
    set_affinity({cores[index % len(cores)]})


def unpin() -> None:
    """Gives the calling thread all allowed cores again. For the threads of a pool, which inherit their worker's core."""
    set_affinity(allowed())


def set_affinity(cores: set[int] | frozenset[int]) -> None:
    """Sets the calling thread's mask. A machine that refuses (a cpuset changed meanwhile, a sandbox) leaves it as it is."""
    if hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, cores)
        except OSError:
            pass
