"""Several routes of every simple kind. `python examples/multi_route_app.py`, then http://127.0.0.1:8000/docs."""

import argparse
import asyncio
import threading
from typing import Annotated

from fastapi import Header, HTTPException, Query
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field

from turboapi import TurboAPI

app = TurboAPI(title="Many routes")


class Item(BaseModel):
    name: str = Field(min_length=1, max_length=100)
    price: float = Field(gt=0)
    tags: list[str] = []


class StoredItem(Item):
    id: int


ITEMS: dict[int, StoredItem] = {1: StoredItem(id=1, name="lamp", price=19.5, tags=["home"])}
#: What several threads change is looked at and changed by one at a time: a `def` runs in threads, and workers may be threads.
ITEMS_LOCK = threading.Lock()


@app.get("/")
def index():
    return {"message": "hello"}


@app.get("/users/{id}")
def get_user(id: int):
    return {"user_id": id}


@app.get("/async/users/{id}")
async def get_user_async(id: int):
    return {"user_id": id}


@app.get("/search")
def search(
    q: Annotated[str, Query(min_length=1)], limit: Annotated[int, Query(ge=1, le=100)] = 10, user_agent: Annotated[str, Header()] = ""
):
    with ITEMS_LOCK:
        found = [item for item in ITEMS.values() if q in item.name]
    return {"q": q, "items": found[:limit], "user_agent": user_agent}


@app.get("/items/{id}")
def get_item(id: int) -> StoredItem:
    if id not in ITEMS:
        raise HTTPException(404, f"no item {id}")
    return ITEMS[id]


@app.post("/items", status_code=201)
async def create_item(item: Item) -> StoredItem:
    with ITEMS_LOCK:
        stored = StoredItem(id=len(ITEMS) + 1, **item.model_dump())
        ITEMS[stored.id] = stored
    return stored


@app.get("/slow")
async def slow(seconds: Annotated[float, Query(ge=0, le=60)] = 1.0):
    await asyncio.sleep(seconds)
    return {"slept": seconds}


@app.get("/countdown", response_class=PlainTextResponse)
async def countdown():
    async def lines():
        for second in (3, 2, 1):
            yield f"{second}\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/error")
def error():
    raise RuntimeError("the log has this, the client gets a plain 500")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int)
    # What it answers may be another thing the next time: nobody shall keep it.
    app.run(headers=["Cache-Control: no-store"], **vars(parser.parse_args()))
