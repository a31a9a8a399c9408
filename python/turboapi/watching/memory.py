"""Memory that a crowd has needed goes back to the system when the crowd has gone.

The heap of glibc shrinks at its end only. A small block that lives on there keeps all that is free before it resident, for as long as
the process lives: 5,000 connections that had each sent 100 KB of a body, answered and idle, left 500 MiB where 50 were in use.

Not here: what a connection holds (none of an idle one's buffers), Python's garbage (its collector), other C libraries.
"""

import asyncio
import time

from .. import _core

#: Seconds between two looks, which take 10 µs.
PERIOD = 10.0

#: Over the least that was resident, before anything is given back: what a server's traffic takes and leaves is not worth it.
EXCESS_BYTES_MAX = 16 * 1024 * 1024

#: Of the time, for giving back: 0.1 ms a MiB, and as much again where the memory is needed anew; nothing to give is 0.1 ms.
TIME_SHARE_MAX = 0.001


def give_back(loop: asyncio.AbstractEventLoop) -> None:
    """Looks after the memory of this process for as long as this loop runs. Each worker does: the first that sees it gives back."""
    resident = _core.resident_bytes()
    if resident is None:
        return
    least = resident

    def look() -> None:
        nonlocal least
        begin = time.thread_time()
        resident = _core.resident_bytes() or least
        if resident > least + EXCESS_BYTES_MAX:
            _core.give_back_memory()
            resident = _core.resident_bytes() or least
        least = min(least, resident)
        loop.call_later(max(PERIOD, (time.thread_time() - begin) / TIME_SHARE_MAX), look)

    loop.call_later(PERIOD, look)
