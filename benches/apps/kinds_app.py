"""The kinds of route that FastAPI apps are made of, as plain FastAPI: what `benches/tax` measures, and apps/own_python.py calls directly.

BENCH_LAYER is what stands around it: cors, gzip, mwhttp or pure; without it nothing does. What each function here has more than it would
have is `next(calls)`, so that its calls can be counted.
"""

import os
from collections.abc import AsyncIterator
from itertools import count
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Query, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, Field

app = FastAPI()
calls = count()  # `next` is one step, so it counts right in any thread


class Timing:
    """A plain ASGI middleware that adds a header, as those of metrics and correlation ids do."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_timed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-timing", b"1")]
            await send(message)

        await self.app(scope, receive, send_timed)


async def dispatch(request: Request, call_next: Any) -> Any:
    """A middleware function that adds a header."""
    response = await call_next(request)
    response.headers["x-timing"] = "1"
    return response


match os.environ.get("BENCH_LAYER", ""):
    case "cors":
        app.add_middleware(CORSMiddleware, allow_origins=["https://shop.test"], allow_credentials=True, allow_methods=["*"])
    case "gzip":
        app.add_middleware(GZipMiddleware)
    case "mwhttp":
        app.middleware("http")(dispatch)
    case "pure":
        app.add_middleware(Timing)
    case "":
        pass
    case unknown:
        raise SystemExit(f"BENCH_LAYER is {unknown!r}, allowed are cors, gzip, mwhttp and pure")


class User(BaseModel):
    id: int
    name: str


class Window(BaseModel):
    start: int = 0
    size: int = Field(25, le=100)


class Place(BaseModel):
    street: str
    town: str


class Order(BaseModel):
    title: str
    price: float = Field(gt=0)
    labels: list[str] = []
    place: Place


class Stored(Order):
    id: int


class Session:
    """What a database's session would be."""

    def user(self, token: str) -> dict[str, Any]:
        return {"id": len(token), "name": "ada"}


STORED = [
    Stored(id=number, title=f"order {number}", price=number + 0.5, labels=["new", "paid"], place=Place(street="Via Appia", town="Rome"))
    for number in range(20)
]
PART = b"s" * 1000
bearer = OAuth2PasswordBearer(tokenUrl="token")


async def open_session() -> AsyncIterator[Session]:
    session = Session()
    try:
        yield session
    finally:
        next(calls)


async def current_user(token: Annotated[str, Depends(bearer)], session: Annotated[Session, Depends(open_session)]) -> User:
    if token != "letmein":
        raise HTTPException(401)
    return User(**session.user(token))


@app.get("/users/{id}")
def get_user(id: int):
    next(calls)
    return {"user_id": id}


@app.get("/async/users/{id}")
async def get_user_async(id: int):
    next(calls)
    return {"user_id": id}


@app.get("/text")
async def text():
    next(calls)
    return PlainTextResponse("hello")


@app.get("/raw")
async def raw(request: Request):
    next(calls)
    return JSONResponse({"host": request.headers["host"]})


@app.get("/me")
async def me(user: Annotated[User, Depends(current_user)]) -> User:
    next(calls)
    return user


@app.get("/page")
async def page(window: Annotated[Window, Query()], word: str | None = None):
    next(calls)
    return {"start": window.start, "size": window.size, "word": word}


@app.get("/orders", response_model=list[Stored])
async def list_orders():
    next(calls)
    return STORED


@app.post("/orders", response_model=Stored, status_code=201)
async def create_order(order: Order):
    next(calls)
    return {"id": 7, **order.model_dump()}


def note() -> None:
    """A background task."""
    next(calls)


@app.get("/background")
async def background(tasks: BackgroundTasks):
    next(calls)
    tasks.add_task(note)
    return {"ok": True}


@app.get("/stream")
async def stream():
    async def parts():
        for _ in range(10):
            yield PART

    next(calls)
    return StreamingResponse(parts())


@app.get("/calls")
def get_calls():
    return next(calls)
