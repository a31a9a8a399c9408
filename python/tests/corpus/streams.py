"""Endpoints that are generators: JSON lines, server-sent events, raw parts; with dependencies, and with an end that fails."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Annotated, Any

from fastapi import BackgroundTasks, Body, Depends, Header, HTTPException, Query, Request, Response
from fastapi.responses import EventSourceResponse, StreamingResponse
from fastapi.sse import ServerSentEvent
from pydantic import BaseModel, field_validator

from .ask import Ask
from .kit import Kit, KnownError, UnknownError

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
    async def typed(times: Times = 2) -> AsyncIterable[ServerSentEvent]:
        yield ServerSentEvent(comment="begin")
        for number in range(times):
            yield ServerSentEvent(data={"n": number}, event="number", id=str(number), retry=10)
        yield ServerSentEvent(raw_data="[DONE]", event="done")

    async def mixed(times: Times = 2) -> AsyncIterable[Item]:
        kit.mark("begin")
        yield Item(n=times)
        yield {"n": "7", "more": 1}  # type: ignore[misc]
        # An event is not validated, whatever the route declares.
        yield ServerSentEvent(data=Item(n=1, text="a\nb"))  # type: ignore[misc]
        kit.mark("end")

    async def of_text(text: str = "x", times: Times = 1) -> AsyncIterable[ServerSentEvent]:
        for _ in range(times):
            yield ServerSentEvent(raw_data=text, comment=text)
            yield ServerSentEvent(data=[text, float("nan"), None])
            yield ServerSentEvent(event=text, id=text, data="")  # of one line

    def of_head(response: Response, last_event_id: Annotated[int | None, Header()] = None) -> Iterable[Item]:
        response.headers["X-Stream"] = "1"
        response.status_code = 207
        for number in range(last_event_id or 0, 3):
            yield Item(n=number)

    async def of_body(item: Item, other: Annotated[int, Body()] = 1) -> AsyncIterable[ServerSentEvent]:
        for word in item.text.split(" "):
            yield ServerSentEvent(data=word, event="token")
        yield ServerSentEvent(data=other)

    async def waiting(times: Times = 2):  # type: ignore[no-untyped-def]
        for number in range(times):
            kit.mark(f"part {number}")
            yield number
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        kit.note("end")

    async def fails_at_once(times: Times = 2):  # type: ignore[no-untyped-def]
        kit.mark("begin")
        if times < 50:
            raise KnownError("before the first event")
        yield times

    # Not those that note from a thread: FastAPI reads ahead of what it sends, and two threads have no order.
    names = ("lines_async", "untyped", "untyped_async", "wrong", "fails", "fails_http")
    events_of = {name: lines_of[name] for name in names} | {
        "typed": typed, "mixed": mixed, "waiting": waiting, "fails_at_once": fails_at_once,
    }  # fmt: skip
    for name, endpoint in events_of.items():
        path = f"/events/{name}"
        kit.route(path, endpoint, *(Ask(path, query=(("times", times),)) for times in ("2", "0", "20")), response_class=EventSourceResponse)
    wholes = ("x", "%C3%BC", "", "a%0D%0Ab%0Dc%0A", "%00", "+x+", ":+y", "%E2%80%A8", "%0B%0C%C2%85")
    texts = [Ask("/events/text", query=(("text", text), ("times", "2"))) for text in wholes]
    kit.route("/events/text", of_text, *texts, response_class=EventSourceResponse)
    heads = [Ask("/events/head", headers=headers) for headers in ((), (("Last-Event-ID", "2"),), (("Last-Event-ID", "x"),))]
    kit.route("/events/head", of_head, *heads, response_class=EventSourceResponse, status_code=201)
    json = (b'{"item": {"n": 1, "text": "a b"}, "other": 2}', b'{"item": {"n": 1}}', b'{"item": {}}', b"[]")
    bodies = [Ask("/events/body", "POST", body=body, content_type="application/json") for body in json]
    kit.route("/events/body", of_body, *bodies, response_class=EventSourceResponse)
    _add_events_within(kit)


def _add_events_within(kit: Kit) -> None:
    """With dependencies that end, tasks, and what validators see."""

    async def session(name: str = "s") -> AsyncIterator[str]:
        kit.mark("session")
        try:
            yield name
        except BaseException as error:
            kit.note(f"session saw {type(error).__name__}")
            raise
        finally:
            kit.mark("session end")

    class Loud(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def _note(cls, n: int) -> int:
            kit.mark(f"valid {n}")
            return n

    async def by_session(value: Annotated[str, Depends(session)], tasks: BackgroundTasks, times: Times = 2):  # type: ignore[no-untyped-def]
        tasks.add_task(kit.mark, "task")
        for number in range(times):
            kit.mark(f"part {number}")
            yield f"{value} {number}"

    async def by_ended(value: Annotated[str, Depends(session, scope="function")], times: Times = 2):  # type: ignore[no-untyped-def]
        for number in range(times):
            yield f"{value} {number}"

    async def fails_in_session(value: Annotated[str, Depends(session)], times: Times = 2):  # type: ignore[no-untyped-def]
        for number in range(times):
            yield number
        raise KnownError(value)

    async def with_request(request: Request, value: Annotated[str, Depends(session)]):  # type: ignore[no-untyped-def]
        yield [value, request.url.path, dict(request.query_params)]

    async def loud(times: Times = 2) -> AsyncIterable[Loud]:
        for number in range(times):
            kit.mark(f"part {number}")
            yield {"n": number}  # type: ignore[misc]

    by_name: dict[str, Callable[..., Any]] = {
        "by_session": by_session, "by_ended": by_ended, "fails_in_session": fails_in_session, "with_request": with_request, "loud": loud,
    }  # fmt: skip
    for name, endpoint in by_name.items():
        asks = (Ask(f"/events/{name}", query=(("times", times),)) for times in ("2", "0", "20"))
        kit.route(f"/events/{name}", endpoint, *asks, response_class=EventSourceResponse)
    kit.route("/lines/loud", loud, *(Ask("/lines/loud", query=(("times", times),)) for times in ("2", "20")))


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
