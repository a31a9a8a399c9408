"""The file descriptors that a process may have, and the connections that they are enough for."""

import logging
import resource

from ..config import CONNECTIONS_MAX, Config, connections_max, descriptors_wanted

logger = logging.getLogger("turboapi")


def connections_of_worker(config: Config, workers: int) -> int:
    """The `connections_max` of each of the `workers` of one process, which is given the descriptors for it."""
    if config.connections_max is None:
        return connections_max(raise_descriptors(descriptors_wanted(CONNECTIONS_MAX)), workers)
    wanted = descriptors_wanted(config.connections_max * workers)
    found = raise_descriptors(wanted)
    if found != resource.RLIM_INFINITY and found < wanted:
        each = f" for each of {workers} workers" if workers > 1 else ""
        logger.warning(
            "connections_max is %d%s, and %d file descriptors are allowed, where that needs %d: raise the limit (`ulimit -n`, LimitNOFILE)",
            *(config.connections_max, each, found, wanted),
        )
    return config.connections_max


def raise_descriptors(wanted: int) -> int:
    """Raises the soft limit of file descriptors to `wanted`, as far as the hard limit allows; returns it.

    The usual soft limit of 1024 is for programs that call select(2), which we do not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    target = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    except (OSError, ValueError):  # macOS has a lower limit of its own (kern.maxfilesperproc)
        return soft
    return target
