"""Apps with one fault each, for the soak test to find: `turboapi serve faulty_app:leak`. Otherwise as turbo_app.py."""

import os
import time
from collections.abc import Callable

from turbo_app import Item
from turboapi import TurboAPI

KEPT = []
STARTED = time.monotonic()


def app_with(fault: Callable[[int], int]) -> TurboAPI:
    """Three routes, the first of which has the fault: it answers what `fault` makes of the id."""
    app = TurboAPI()

    @app.get("/users/{id}", blocking=False)
    def get_user(id: int):
        return {"user_id": fault(id)}

    @app.get("/async/users/{id}")
    async def get_user_async(id: int):
        return {"user_id": id}

    @app.post("/items")
    def create(item: Item):
        return item

    return app


def keep(id: int) -> int:
    """Each call keeps about 100 bytes."""
    KEPT.append(bytes(64))
    return id


def keep_descriptor(id: int) -> int:
    """One call in 1,009 keeps a descriptor."""
    if id % 1009 == 0:
        KEPT.append(os.open(os.devnull, os.O_RDONLY))
    return id


def mistake(id: int) -> int:
    """One call in 10,007 answers with its neighbour's number."""
    return id + 1 if id % 10_007 == 0 else id


def slow_down(id: int) -> int:
    """After 15 seconds one request in 1,000 computes for 10 ms: its core is as busy as it would be in a handler that is slow."""
    if id % 1000 == 5 and (begun := time.monotonic()) - STARTED > 15:
        while time.monotonic() - begun < 0.01:
            pass
    return id


leak = app_with(keep)
descriptors = app_with(keep_descriptor)
answer = app_with(mistake)
slow = app_with(slow_down)
