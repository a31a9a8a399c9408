"""Dependencies that yield: how they end, when, and what becomes of exceptions on either side."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, HTTPException, Response
from fastapi.responses import JSONResponse, StreamingResponse

from .ask import Ask
from .kit import Kit, KnownError, OtherError, UnknownError

ERRORS: dict[str, Callable[[], Exception]] = {
    "http": lambda: HTTPException(418, "of the endpoint", {"X-Tea": "1"}),
    "known": lambda: KnownError("of the endpoint"),
    "other": lambda: OtherError("of the endpoint"),
    "unknown": lambda: UnknownError("of the endpoint"),
}

#: What a generator does when it is thrown into, and at its end.
ENDS = (
    "plain",
    "finally",
    "reraises",
    "swallows",
    "translates",
    "to_known",
    "chains",
    "yields_on",
    "http_after",
    "known_after",
    "unknown_after",
)
BEGINNINGS = ("never", "http_before", "known_before", "unknown_before", "twice")


def _at_error(kit: Kit, end: str, error: BaseException) -> None:
    """What an `except` of that kind does; returns where it swallows."""
    kit.mark(f"dependency saw {type(error).__name__}")
    if end == "reraises":
        raise error
    if end == "translates":
        raise HTTPException(409, f"translated {type(error).__name__}") from error
    if end == "to_known":
        raise KnownError("of the dependency")
    if end == "chains":
        raise UnknownError("of the dependency") from error


def _at_end(kit: Kit, end: str) -> None:
    kit.mark("dependency end")
    kit.log.warning("dependency ends")
    if end == "http_after":
        raise HTTPException(402, "after")
    if end == "known_after":
        raise KnownError("after")
    if end == "unknown_after":
        raise UnknownError("after")


def _at_begin(kit: Kit, end: str) -> bool:
    """Whether it yields at all."""
    kit.mark("dependency")
    if end == "http_before":
        raise HTTPException(403, "before")
    if end == "known_before":
        raise KnownError("before")
    if end == "unknown_before":
        raise UnknownError("before")
    return end != "never"


def generators(kit: Kit, end: str) -> dict[str, Callable[..., Any]]:
    """The same behaviour as a def and as an async def."""
    if end in ("plain", "http_after", "known_after", "unknown_after", "twice", *BEGINNINGS):

        def plain() -> Iterator[str]:
            if _at_begin(kit, end):
                yield "value"
                if end == "twice":
                    yield "second"
                _at_end(kit, end)

        async def plain_async() -> AsyncIterator[str]:
            if _at_begin(kit, end):
                yield "value"
                if end == "twice":
                    yield "second"
                _at_end(kit, end)

        return {"def": plain, "async": plain_async}

    def guarded() -> Iterator[str]:
        _at_begin(kit, end)
        try:
            yield "value"
        except Exception as error:
            if end == "finally":
                raise
            if end == "yields_on":
                yield "more"
            _at_error(kit, end, error)
        finally:
            _at_end(kit, end)

    async def guarded_async() -> AsyncIterator[str]:
        _at_begin(kit, end)
        try:
            yield "value"
        except Exception as error:
            if end == "finally":
                raise
            if end == "yields_on":
                yield "more"
            _at_error(kit, end, error)
        finally:
            _at_end(kit, end)

    return {"def": guarded, "async": guarded_async}


def add(kit: Kit) -> None:
    """/{scope}/{kind}/{end}/{outcome}; outcome is what the endpoint does."""
    number = 0
    for end in (*ENDS, *BEGINNINGS):
        for (kind, generator), scope in itertools.product(generators(kit, end).items(), ("request", "function")):
            number += 1
            path = f"/{scope}/{kind}/{end}"
            endpoint = _endpoint(kit, Depends(generator, scope=scope), bool(number % 2))  # type: ignore[arg-type]
            outcomes = ("value", "response", *ERRORS, "invalid") if end in ENDS else ("value", "known")
            asks = [Ask(path + "/{}", values=(("outcome", outcome),)) for outcome in outcomes]
            kit.ask(*asks, Ask(path + "/value", query=(("r", "x"),)), spoils=False)
            kit.app.add_api_route(path + "/{outcome}", endpoint, methods=["GET"], response_model=dict[str, str] | list[str])


def _endpoint(kit: Kit, dependency: Any, is_async: bool) -> Callable[..., Any]:
    def answer(value: str, outcome: str, tasks: BackgroundTasks) -> Any:
        kit.mark("endpoint")
        tasks.add_task(kit.mark, "task")
        if outcome in ERRORS:
            raise ERRORS[outcome]()
        if outcome == "response":
            return JSONResponse([value], 201)
        return [object()] if outcome == "invalid" else [value, outcome]

    def endpoint(value: Annotated[str, dependency], outcome: str, tasks: BackgroundTasks, r: int = 0):
        return answer(value, outcome, tasks)

    async def endpoint_async(value: Annotated[str, dependency], outcome: str, tasks: BackgroundTasks, r: int = 0):
        return answer(value, outcome, tasks)

    return endpoint_async if is_async else endpoint


def add_pairs(kit: Kit) -> None:
    """Two that yield, one on the other or beside it, in each mixture of scopes and kinds that FastAPI allows; and streams in them."""
    for number, (outer_kind, inner_kind) in enumerate(itertools.product(("def", "async"), repeat=2)):
        for outer_scope, inner_scope in (("request", "request"), ("function", "request"), ("function", "function")):
            inner = Depends(_named(kit, inner_kind, "inner", None), scope=inner_scope)  # type: ignore[arg-type]
            outer = Depends(_named(kit, outer_kind, "outer", inner), scope=outer_scope)  # type: ignore[arg-type]
            path = f"/nested/{outer_kind}_{outer_scope}/{inner_kind}_{inner_scope}"
            asks = [Ask(path + "/{}", values=(("outcome", outcome),)) for outcome in ("value", "response", *ERRORS, "invalid")]
            kit.ask(*asks, spoils=False)
            kit.app.add_api_route(path + "/{outcome}", _endpoint(kit, outer, bool(number % 2)), methods=["GET"], response_model=list[str])
        _add_beside(kit, outer_kind, inner_kind)
        _add_streams(kit, outer_kind, bool(number % 2))


def _named(kit: Kit, kind: str, name: str, inner: Any) -> Callable[..., Any]:
    def generator(below: str = "-") -> Iterator[str]:
        kit.mark(name)
        try:
            yield f"{name} {below}"
        except Exception as error:
            kit.mark(f"{name} saw {type(error).__name__}")
            raise
        finally:
            kit.mark(f"{name} end")

    async def async_generator(below: str = "-") -> AsyncIterator[str]:
        kit.mark(name)
        try:
            yield f"{name} {below}"
        except Exception as error:
            kit.mark(f"{name} saw {type(error).__name__}")
            raise
        finally:
            kit.mark(f"{name} end")

    made: Any = generator if kind == "def" else async_generator
    if inner is not None:
        made.__annotations__["below"] = Annotated[str, inner]
        made.__defaults__ = None
    return made  # type: ignore[no-any-return]


def _add_beside(kit: Kit, first_kind: str, second_kind: str) -> None:
    first, second = _named(kit, first_kind, "first", None), _named(kit, second_kind, "second", None)

    async def fails(outcome: str) -> None:
        kit.mark("fails")
        if outcome in ERRORS:
            raise ERRORS[outcome]()

    def endpoint(
        a: Annotated[str, Depends(first)],
        b: Annotated[str, Depends(second, scope="function")],
        c: Annotated[None, Depends(fails)],
        d: Annotated[str, Depends(first, scope="function")],
        response: Response,
        number: int = 0,
    ):
        kit.mark("endpoint")
        response.headers["X-Number"] = str(number)
        return [a, b, d]

    path = f"/beside/{first_kind}/{second_kind}"
    asks = [Ask(path + "/{}", values=(("outcome", outcome),), query=(("number", "5"),)) for outcome in ("value", *ERRORS)]
    kit.route(path + "/{outcome}", endpoint, *asks)


def _add_streams(kit: Kit, kind: str, is_async: bool) -> None:
    for scope in ("request", "function"):
        dependency = Depends(_named(kit, kind, "session", None), scope=scope)  # type: ignore[arg-type]

        def endpoint(value: Annotated[str, dependency], fails: bool = False):
            def parts() -> Iterator[str]:
                for number in range(3):
                    kit.note(f"part {number}")
                    yield f"{value} {number}"
                if fails:
                    raise UnknownError("in the stream")

            kit.mark("endpoint")
            return StreamingResponse(parts(), media_type="text/plain")

        async def endpoint_async(value: Annotated[str, dependency], fails: bool = False):
            async def parts() -> AsyncIterator[str]:
                for number in range(3):
                    kit.note(f"part {number}")
                    yield f"{value} {number}"
                if fails:
                    raise UnknownError("in the stream")

            kit.mark("endpoint")
            return StreamingResponse(parts(), media_type="text/plain")

        for name, chosen in {"def": endpoint, "async": endpoint_async}.items():
            path = f"/stream/{kind}_{is_async:d}/{scope}/{name}"
            kit.route(path, chosen, Ask(path, query=(("fails", "no"),)), Ask(path, query=(("fails", "yes"),)))
