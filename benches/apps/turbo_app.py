"""The measured app. The same file runs under turboapi (`python turbo_app.py PORT`) and, where that is absent, uvicorn."""

import asyncio
import sys
import time
from itertools import count

import anyio.to_thread
from fastapi import Depends
from pydantic import BaseModel

try:
    from turboapi import TurboAPI
except ImportError:
    from fastapi import FastAPI as TurboAPI

app = TurboAPI()
calls = count()  # `next` is one step, so it counts right in uvicorn's thread pool and on a free-threaded Python


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


@app.get("/users/{id}")
def get_user(id: int):
    next(calls)
    return {"user_id": id}


@app.get("/async/users/{id}")
async def get_user_async(id: int):
    next(calls)
    return {"user_id": id}


@app.post("/items")
def create(item: Item):
    next(calls)
    return item


def dependency():
    return 1


@app.get("/wait/{us}")
def wait(us: int):
    """As for a database: most of a handler's time is none of the processor's."""
    next(calls)
    time.sleep(us / 1e6)
    return {"us": us}


@app.get("/to-thread")
async def to_thread():
    next(calls)
    return {"value": await asyncio.to_thread(int, 1)}


@app.get("/anyio-thread")
async def anyio_thread():
    next(calls)
    return {"value": await anyio.to_thread.run_sync(int, 1)}


@app.get("/def-depends")
async def def_depends(value: int = Depends(dependency)):
    next(calls)
    return {"value": value}


@app.get("/calls")
def get_calls():
    return next(calls)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]), workers=1)
