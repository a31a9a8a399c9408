"""The measured app. The same file runs under turboapi (`python turbo_app.py PORT`) and, where that is absent, uvicorn."""

import sys
from itertools import count

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


@app.get("/calls")
def get_calls():
    return next(calls)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]), workers=1)
