"""What the log says of what the server itself has refused, before any handler was asked. Not here: the counting, and when to tell
(`src/refusals.rs`): at once the first time, then once a minute at most."""

import logging
from collections.abc import Mapping

from ..config import Config

logger = logging.getLogger("turboapi")


def log(index: int, config: Config, counts: Mapping[str, int]) -> None:
    """One line for what the operator's limits are too small for, one for what peers did wrong, one for what is missing here.

    Args:
        index: of the worker.
        counts: how often since the last time, by status or as named in `python/src/hooks.rs`.
    """
    limits = config.limits()
    ours = []
    if count := counts.get("503"):
        ours.append(f"{count} request(s) got 503 (handlers_in_flight_max is {limits['handlers_in_flight_max']})")
    if count := counts.get("connections_max"):
        ours.append(f"it stopped accepting {count} time(s) (connections_max is {limits['connections_max']})")
    if count := counts.get("no_descriptor"):
        ours.append(f"accepting failed {count} time(s) for want of file descriptors or memory (`ulimit -n`, LimitNOFILE)")
    if ours:
        logger.warning("worker %d is at its limits: %s", index, "; ".join(ours))
    hints = {"413": f" (body_bytes_max is {limits['body_bytes_max']}, a route may have its own)"}
    theirs = [
        f"{count} with {status}{hints.get(status, '')}" for status, count in sorted(counts.items()) if status.isdigit() and status != "503"
    ]
    if theirs:
        logger.info("worker %d refused requests: %s", index, ", ".join(theirs))
    if count := counts.get("websocket"):
        logger.warning("worker %d refused %d WebSocket handshake(s) with 501: turboapi does not serve WebSocket yet", index, count)
    if count := counts.get("not_taken"):
        logger.info("worker %d reset %d connection(s) that took nothing of their answers for %g s", index, count, config.write_timeout)
