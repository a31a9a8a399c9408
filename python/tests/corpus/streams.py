"""Endpoints that are generators: JSON lines, server-sent events, raw parts; with dependencies, and with an end that fails."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, HTTPException, Query, Response
from fastapi.responses import EventSourceResponse, StreamingResponse
from fastapi.sse import ServerSentEvent
from pydantic import BaseModel

from .ask import Ask
from .kit import Kit, UnknownError

#: Bounded, as a stream of as many parts as a client likes does not end.
Times = Annotated[int, Query(le=50)]


class Item(BaseModel):
    n: int
    text: str = "ü"


def add(kit: Kit) -> None:
    async def session() -> AsyncIterator[str]:
        kit.mark("session")
        yield "session"
        kit.mark("session end")

    def lines(times: Times = 2) -> Iterable[Item]:
        for number in range(times):
            kit.mark(f"part {number}")
            yield Item(n=number)

    async def lines_async(times: Times = 2) -> AsyncIterable[Item]:
        for number in range(times):
            kit.mark(f"part {number}")
            yield Item(n=number)

    def untyped(times: Times = 2):  # type: ignore[no-untyped-def]
        for number in range(times):
            yield {"n": number, "é": [None, 1.5]}

    async def untyped_async(times: Times = 2):  # type: ignore[no-untyped-def]
        for number in range(times):
            yield [number, Item(n=1)]

    async def wrong(times: Times = 2) -> AsyncIterable[Item]:
        for number in range(times):
            kit.mark(f"part {number}")
            yield {"n": number if number < 1 else "x"}  # type: ignore[misc]

    def by_session(value: Annotated[str, Depends(session)], tasks: BackgroundTasks, response: Response, times: Times = 2):  # type: ignore[no-untyped-def]
        response.headers["X-Stream"] = "1"
        tasks.add_task(kit.mark, "task")
        for number in range(times):
            kit.mark(f"part {number}")
            yield f"{value} {number}"

    async def fails(times: Times = 2):  # type: ignore[no-untyped-def]
        for number in range(times):
            yield number
        raise UnknownError("in the stream")

    def fails_http(times: Times = 2):  # type: ignore[no-untyped-def]
        yield from range(times)
        raise HTTPException(409, "in the stream")

    lines_of: dict[str, Callable[..., Any]] = {
        "lines": lines, "lines_async": lines_async, "untyped": untyped, "untyped_async": untyped_async, "wrong": wrong,
        "by_session": by_session, "fails": fails, "fails_http": fails_http,
    }  # fmt: skip
    for name, endpoint in lines_of.items():
        kit.route(f"/lines/{name}", endpoint, *(Ask(f"/lines/{name}", query=(("times", times),)) for times in ("2", "0", "20")))
    _add_events(kit, lines_of)
    _add_raw(kit)


def _add_events(kit: Kit, lines_of: dict[str, Callable[..., Any]]) -> None:
    async def events(times: Times = 2) -> AsyncIterable[ServerSentEvent]:
        yield ServerSentEvent(comment="begin")
        for number in range(times):
            yield ServerSentEvent(data={"n": number}, event="number", id=str(number), retry=10)
        yield ServerSentEvent(raw_data="[DONE]", event="done")

    # Not those that note from a thread: FastAPI reads ahead of what it sends, and two threads have no order.
    for name in ("lines_async", "untyped", "untyped_async", "wrong"):
        path = f"/events/{name}"
        kit.route(path, lines_of[name], Ask(path, query=(("times", "2"),)), response_class=EventSourceResponse)
    kit.route("/events/typed", events, Ask("/events/typed", query=(("times", "2"),)), response_class=EventSourceResponse)


def _add_raw(kit: Kit) -> None:
    def raw(times: Times = 2) -> Iterator[str]:
        for number in range(times):
            kit.mark(f"part {number}")
            yield f"<{number}>"

    async def raw_async(times: Times = 2) -> AsyncIterator[bytes]:
        for number in range(times):
            kit.mark(f"part {number}")
            yield f"<{number}>".encode()

    class Text(StreamingResponse):
        media_type = "text/plain"

    for name, endpoint in {"raw": raw, "raw_async": raw_async}.items():
        for kind in (StreamingResponse, Text):
            path = f"/{name}/{kind.__name__}"
            kit.route(path, endpoint, *(Ask(path, query=(("times", times),)) for times in ("2", "0")), response_class=kind)
