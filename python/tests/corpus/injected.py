"""What endpoints and dependencies get by annotation: request, response, background tasks; and what reaches the answer of it."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal

from fastapi import BackgroundTasks, Depends, HTTPException, Query, Request, Response  # noqa: F401 - Query in a string below
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.background import BackgroundTask
from starlette.background import BackgroundTasks as StarletteTasks
from starlette.requests import HTTPConnection

from .ask import Ask, with_json
from .kit import Kit, KnownError, UnknownError


def add(kit: Kit) -> None:
    _add_requests(kit)
    _add_responses(kit)


def _seen(request: HTTPConnection) -> dict[str, Any]:
    """What of a request does not depend on the server."""
    return {
        "path": request.url.path,
        "query": request.query_params.multi_items(),
        "headers": [(name, value) for name, value in request.headers.items() if name != "host"],
        "cookies": request.cookies,
        "parameters": request.path_params,
        "route": request.scope["route"].path,
        "endpoint": request.scope["endpoint"].__name__,
        "state": sorted(request.state._state),
    }


def _add_requests(kit: Kit) -> None:
    def of_request(request: Request):
        kit.mark("of_request")
        request.state.user = "u"
        return _seen(request)

    async def of_connection(connection: HTTPConnection):
        kit.mark("of_connection")
        connection.state.other = "o"
        return _seen(connection)

    async def of_body(request: Request):
        kit.mark("of_body")
        return (await request.body()).decode("latin-1")

    async def of_generator(request: Request) -> AsyncIterator[str]:
        kit.mark("of_generator")
        yield request.url.path
        kit.mark(f"of_generator end {sorted(request.state._state)}")

    def request_sync(request: Request, item_id: int):
        kit.mark("endpoint")
        return _seen(request)

    async def request_async(request: Request, item_id: int, q: str | None = None):
        kit.mark("endpoint")
        return [_seen(request), q]

    async def connection(connection: HTTPConnection, item_id: str):
        kit.mark("endpoint")
        return _seen(connection)

    def depended(a: Annotated[Any, Depends(of_request)], b: Annotated[Any, Depends(of_connection)], request: Request):
        kit.mark("endpoint")
        return [a, b, _seen(request)]

    async def same(request: Request, again: Request, a: Annotated[Any, Depends(of_generator)]):
        kit.mark("endpoint")
        request.state.late = 1
        return [request is again, a]

    async def body(request: Request, a: Annotated[str, Depends(of_body)], data: dict[str, Any] | None = None):
        kit.mark("endpoint")
        return [a, data, (await request.body()).decode("latin-1")]

    async def streamed(request: Request):
        kit.mark("endpoint")
        return [part.decode("latin-1") async for part in request.stream()] != []

    async def read(request: Request):
        kit.mark("endpoint")
        return await request.json()

    def marked(request: Request, a: Annotated[Any, Depends(of_request)]):
        kit.mark("endpoint")
        return {"app": request.app is kit.app, "user": request.state.user, "url": str(request.url_for("found", item_id=5).path)}

    def defaulted(request: Request = None, response: Response = None, tasks: BackgroundTasks = None, q: int = 1):  # type: ignore[assignment]
        kit.mark("endpoint")
        response.status_code = 202
        tasks.add_task(kit.mark, "task")
        return [_seen(request), q]

    def signed(**given: Any):
        kit.mark("signed")
        given["response"].headers["X-Signed"] = "1"
        return [given["q"], given["connection"].url.path]

    # As of a module with `from __future__ import annotations`.
    texts = {"connection": "HTTPConnection", "response": "Response", "q": "Annotated[int, Query(le=9)]"}
    signed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=text) for name, text in texts.items()]
    )

    async def by_signed(value: Annotated[Any, Depends(signed)]):
        kit.mark("endpoint")
        return value

    pairs: dict[str, tuple[Callable[..., Any], Ask]] = {
        "/defaulted": (defaulted, Ask("/defaulted", query=(("q", "5"),))),
        "/signed": (signed, Ask("/signed", query=(("q", "5"),))),
        "/signed/depended": (by_signed, Ask("/signed/depended", query=(("q", "5"),))),
        "/request/sync/{item_id}": (
            request_sync,
            Ask("/request/sync/{}", values=(("i", "5"),), query=(("a", "1"),), cookies=(("c", "d"),)),
        ),
        "/request/async/{item_id}": (request_async, Ask("/request/async/{}", values=(("i", "5"),), query=(("q", "%C3%BC"),))),
        "/connection/{item_id}": (connection, Ask("/connection/{}", values=(("i", "5"),), headers=(("X-A", "%C3%BC"),))),
        "/depended/{item_id}": (depended, Ask("/depended/{}", values=(("i", "5"),), query=(("q", "1"),))),
        "/same": (same, Ask("/same")),
        "/body": (body, with_json("/body", {"a": 1})),
        "/streamed": (streamed, with_json("/streamed", {"a": 1})),
        "/read": (read, with_json("/read", {"a": 1})),
        "/marked": (marked, Ask("/marked")),
    }
    for path, (endpoint, ask) in pairs.items():
        kit.route(path, endpoint, ask)
    kit.route("/found/{item_id}", lambda item_id: item_id, Ask("/found/{}", values=(("i", "5"),)), name="found")


def _add_responses(kit: Kit) -> None:
    def sets_header(response: Response):
        kit.mark("sets_header")
        response.headers["X-Dependency"] = "1"
        response.headers.append("X-Many", "dependency")
        return response

    async def sets_cookie(response: Response):
        kit.mark("sets_cookie")
        response.set_cookie("session", "a b;c", max_age=5, httponly=True, samesite="strict")
        response.set_cookie("other", "ü", path="/x", secure=True)

    def sets_status(response: Response):
        kit.mark("sets_status")
        response.status_code = 202

    def generator(response: Response) -> Iterator[None]:
        response.headers["X-Generator"] = "begin"
        yield
        kit.mark("generator end")
        response.headers["X-Generator"] = "end"

    def sync(response: Response):
        kit.mark("endpoint")
        response.headers["X-Endpoint"] = "ü"
        response.headers.append("X-Many", "endpoint")
        response.set_cookie("endpoint", "e", samesite=None)
        response.set_cookie("old", "", max_age=0, expires="Thu, 01 Jan 1970 00:00:00 GMT")  # not by the clock, as delete_cookie
        return {"a": 1}

    async def coroutine(response: Response, code: Literal["201", "204", "304", "404", "500"] = "201"):
        kit.mark("endpoint")
        response.status_code = int(code)
        response.headers["content-type"] = "application/x-own"
        return {"code": code}

    def content_length(response: Response):
        kit.mark("endpoint")
        response.headers["content-length"] = "9"
        response.headers["x-a"] = "b"
        return "abcdefg"

    def own(response: Response):
        response.headers["X-Lost"] = "1"
        return PlainTextResponse("own", headers={"X-Own": "1"})

    def same_response(response: Response):
        response.headers["X-Kept"] = "1"
        response.status_code = 203
        response.body = b"same"
        return response

    def of_class(response: JSONResponse):  # type: ignore[no-untyped-def]
        response.headers["X-Class"] = type(response).__name__
        return "of class"

    def fails(response: Response, kind: str = "http"):
        response.headers["X-Lost"] = "1"
        raise HTTPException(400, "fails", {"X-Error": "1"}) if kind == "http" else KnownError(kind)

    async def identity(a: Annotated[Response, Depends(sets_header)], response: Response):
        kit.mark("endpoint")
        return a is response

    depended = [Depends(sets_header), Depends(sets_cookie), Depends(sets_status)]
    kit.route("/response/sync", sync)
    kit.route(
        "/response/async", coroutine, *(Ask("/response/async", query=(("code", code),)) for code in ("201", "204", "304", "404", "500"))
    )
    kit.route("/response/own", own)
    kit.route("/response/same", same_response)
    kit.route("/response/length", content_length)
    kit.route("/response/fails", fails, Ask("/response/fails", query=(("kind", "http"),)))
    kit.route("/response/identity", identity)
    kit.route("/response/class", of_class)
    for number, endpoint in enumerate((sync, coroutine, own, same_response, fails)):
        path = f"/response/depended/{number}"
        kit.route(path, endpoint, dependencies=depended)
        path = f"/response/generator/{number}"
        kit.route(path, endpoint, dependencies=[Depends(generator), *depended[:2]], status_code=203)
    path = "/response/model"
    kit.route(path, sync, Ask(path), response_model=dict[str, str | int], status_code=206, dependencies=depended[:1])


def add_tasks(kit: Kit) -> None:
    """Background tasks: where they are added, what they do, and that the client has its answer before."""
    _add_tasks(kit)
    _add_waits(kit)


def _add_tasks(kit: Kit) -> None:
    def adds(tasks: BackgroundTasks):
        kit.mark("adds")
        tasks.add_task(kit.mark, "dependency task")

    async def adds_async(tasks: StarletteTasks) -> AsyncIterator[int]:
        tasks.add_task(coroutine_task, "generator task")
        yield 1
        kit.mark("generator end")

    async def coroutine_task(name: str, times: int = 1) -> None:
        for _ in range(times):
            kit.mark(name)

    def logs() -> None:
        kit.log.info("task logs")
        kit.log.warning("task %s", "warns")

    def raises() -> None:
        kit.mark("raises")
        raise UnknownError("in a task")

    async def raises_known() -> None:
        kit.mark("raises known")
        raise KnownError("in a task")

    def sync(tasks: BackgroundTasks):
        kit.mark("endpoint")
        tasks.add_task(kit.mark, "first")
        tasks.add_task(coroutine_task, "second", times=2)
        tasks.add_task(logs)
        return 1

    async def coroutine(tasks: BackgroundTasks, q: int = 0):
        kit.mark("endpoint")
        tasks.add_task(coroutine_task, name="only")
        return {"q": q}

    def of_response():
        kit.mark("endpoint")
        return PlainTextResponse("own", background=BackgroundTask(kit.mark, "own task"))

    def of_both(tasks: BackgroundTasks):
        tasks.add_task(kit.mark, "lost task")
        return PlainTextResponse("own", background=BackgroundTask(kit.mark, "own task"))

    def kept(tasks: BackgroundTasks):
        tasks.add_task(kit.mark, "kept task")
        return JSONResponse([1], 201)

    async def failing(tasks: BackgroundTasks):
        tasks.add_task(kit.mark, "before")
        tasks.add_task(raises)
        tasks.add_task(kit.mark, "never")
        return 1

    def failing_known(tasks: BackgroundTasks):
        tasks.add_task(raises_known)
        return 1

    def refused(tasks: BackgroundTasks):
        tasks.add_task(kit.mark, "never")
        raise HTTPException(400, "refused")

    def tasks_of_tasks(tasks: BackgroundTasks):
        def again() -> None:
            kit.mark("again")
            tasks.add_task(kit.mark, "added late")

        tasks.add_task(again)
        return 1

    def invalid(tasks: BackgroundTasks) -> int:
        tasks.add_task(kit.mark, "never")
        return "x"  # type: ignore[return-value]

    def same(tasks: BackgroundTasks, others: BackgroundTasks):
        tasks.add_task(kit.mark, "task")
        return tasks is others

    endpoints = (sync, coroutine, of_response, of_both, kept, failing, failing_known, refused, tasks_of_tasks, invalid, same)
    for endpoint in endpoints:
        path = f"/{endpoint.__name__}"
        kit.route(path, endpoint)
        kit.route(f"/depended{path}", endpoint, dependencies=[Depends(adds), Depends(adds_async)])
    kit.route("/status", sync, status_code=204)


def _add_waits(kit: Kit) -> None:
    """The whole answer is with the client before its tasks and before the ends of request scope: each waits for it."""

    async def waits(name: str) -> None:
        await asyncio.to_thread(kit.wait, name)

    def session() -> Iterator[int]:
        yield 1
        kit.wait("session end")

    async def session_async() -> AsyncIterator[int]:
        yield 1
        await waits("session_async end")

    def with_def(tasks: BackgroundTasks):
        tasks.add_task(kit.wait, "task")
        return "x" * 100_000

    async def with_async(tasks: BackgroundTasks):
        tasks.add_task(waits, "async task")
        return 1

    def of_response():
        return PlainTextResponse("own", background=BackgroundTask(waits, "own task"))

    def by_session(value: Annotated[int, Depends(session)]):
        return value

    async def by_session_async(value: Annotated[int, Depends(session_async)], tasks: BackgroundTasks):
        tasks.add_task(kit.wait, "task")
        return value

    for endpoint in (with_def, with_async, of_response, by_session, by_session_async):
        path = f"/waits/{endpoint.__name__}"
        kit.ask(Ask(path), spoils=False)
        kit.app.add_api_route(path, endpoint, methods=["GET"])
