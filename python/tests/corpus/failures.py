"""Exceptions: raised by endpoints and dependencies, plain and with the app's own handlers; validation errors in their order."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Cookie, Depends, Header, HTTPException, Query, Request
from fastapi.exceptions import FastAPIError, RequestValidationError, ResponseValidationError
from pydantic import AfterValidator, BaseModel, Field, field_validator
from starlette.exceptions import HTTPException as StarletteHTTPException

from .ask import Ask, with_json
from .kit import Kit, KnownError, OtherError, UnknownError


class KnownChildError(KnownError):
    """Handled as its parent."""


class TeapotError(HTTPException):
    """A subclass, as apps have them."""

    def __init__(self, detail: str) -> None:
        super().__init__(418, detail, {"X-Tea": "ü"})


class Point(BaseModel):
    x: int


RAISED: dict[str, Callable[[], BaseException]] = {
    "text": lambda: HTTPException(400, "no ☃"),
    "dict": lambda: HTTPException(409, {"a": [1, None]}, {"X-Error": "ü", "x-error": "2"}),
    "none": lambda: HTTPException(404),
    "empty": lambda: HTTPException(422, ""),
    "no_content": lambda: HTTPException(204),
    "not_modified": lambda: HTTPException(304, headers={"etag": "x"}),
    "server": lambda: HTTPException(500, "own"),
    "bad_detail": lambda: HTTPException(400, {1, 2}),
    "bad_headers": lambda: HTTPException(400, headers={"X-Error": "☃"}),
    "model_detail": lambda: HTTPException(400, Point(x=1)),
    "starlette": lambda: StarletteHTTPException(418, "tea"),
    "teapot": lambda: TeapotError("pot"),
    "known": lambda: KnownError("k"),
    "known_child": lambda: KnownChildError("kc"),
    "other": lambda: OtherError("o"),
    "unknown": lambda: UnknownError("secret"),
    "validation": lambda: RequestValidationError([{"type": "made_up", "loc": ("body", 1), "msg": "m", "input": {"a": 1}}]),
    "answer_validation": lambda: ResponseValidationError([{"type": "made_up", "loc": ("response",), "msg": "m", "input": 1}]),
    "fastapi": lambda: FastAPIError("f"),
    "group": lambda: ExceptionGroup("g", [ValueError("a"), KeyError("b")]),
    "assertion": lambda: AssertionError("a"),
    "stop": lambda: StopIteration("s"),
    "lookup": lambda: KeyError("k"),
    "timeout": lambda: TimeoutError("t"),
}


def add(kit: Kit) -> None:
    for number, (name, make) in enumerate(RAISED.items()):
        _add_raised(kit, name, make, bool(number % 2))
    _add_pydantic(kit)
    _add_validation(kit)


def _add_raised(kit: Kit, name: str, make: Callable[[], BaseException], is_async: bool) -> None:
    def endpoint(item_id: int):
        kit.mark("endpoint")
        kit.log.error("endpoint fails")
        raise make()

    async def endpoint_async(item_id: int):
        kit.mark("endpoint")
        kit.log.error("endpoint fails")
        raise make()

    def dependency():
        kit.mark("dependency")
        raise make()

    async def dependency_async():
        kit.mark("dependency")
        raise make()

    if name != "stop":  # a coroutine may not raise it, and in a thread its future does not end
        kit.route(
            f"/endpoint/{name}/{{item_id}}", endpoint_async if is_async else endpoint, Ask(f"/endpoint/{name}/{{}}", values=(("i", "5"),))
        )
        kit.route(f"/other/{name}/{{item_id}}", endpoint if is_async else endpoint_async, Ask(f"/other/{name}/{{}}", values=(("i", "5"),)))
    chosen = dependency_async if is_async or name == "stop" else dependency
    kit.route(f"/dependency/{name}", lambda: kit.mark("never"), dependencies=[Depends(chosen)])


def _add_pydantic(kit: Kit) -> None:
    def invalid_in_endpoint():
        return Point(x="no")  # type: ignore[arg-type]

    async def chained():
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise KnownError("chained") from error

    def of_request(request: Request):
        raise OtherError(str(request.path_params))

    kit.route("/pydantic", invalid_in_endpoint)
    kit.route("/chained", chained)
    kit.route("/of_request", of_request)


def _add_validation(kit: Kit) -> None:
    """Errors of all sources at once; what is validated in Python by the app, in order with the dependencies."""

    def noted(name: str) -> Any:
        def validate(value: int) -> int:
            kit.mark(f"validate {name} {value}")
            if value == 5:
                raise ValueError("five")
            return value

        return AfterValidator(validate)

    def factory(name: str, value: int) -> Callable[[], int]:
        return lambda: kit.mark(f"factory {name}") or value

    class Checked(BaseModel):
        a: Annotated[int, noted("body a")]
        b: int = Field(default_factory=factory("body b", 2))

        @field_validator("b")
        @classmethod
        def _noted(cls, value: int) -> int:
            kit.mark(f"validate body b {value}")
            return value

    async def first(q: Annotated[int, noted("first q"), Query(default_factory=factory("first q", 1))], x: Annotated[int, Header()] = 0):
        kit.mark("first")
        return q + x

    def second(value: Annotated[int, Depends(first)], s: Annotated[int, noted("second s")] = 0):
        kit.mark("second")
        return value + s

    def everything(
        item_id: Annotated[int, noted("path")],
        d: Annotated[int, Depends(second)],
        q: Annotated[int, noted("query")],
        x: Annotated[int, noted("header"), Header()],
        c: Annotated[int, noted("cookie"), Cookie()],
        body: Checked,
        f: Annotated[int, noted("factory"), Query(default_factory=factory("query", 3))],
    ):
        kit.mark("endpoint")
        return [item_id, d, q, x, c, body, f]

    async def embedded(d: Annotated[int, Depends(first)], a: Checked, n: Annotated[int, noted("n"), Body(default_factory=factory("n", 4))]):
        kit.mark("endpoint")
        return [d, a, n]

    def only_head(a: Annotated[int, noted("a")], d: Annotated[int, Depends(first)], b: Annotated[int | None, noted("b")] = None):
        kit.mark("endpoint")
        return [a, b, d]

    async def no_dependency(a: Annotated[int, noted("a")], b: Annotated[list[Annotated[int, noted("b")]], Query()], c: int):
        kit.mark("endpoint")
        return [a, b, c]

    path = "/everything/{}"
    parts: dict[str, Any] = {
        "values": (("item_id", "1"),),
        "query": (("q", "2"), ("s", "3"), ("f", "4")),
        "headers": (("x", "6"),),
        "cookies": (("c", "7"),),
    }
    kit.route(path.format("{item_id}"), everything, with_json(path, {"a": 1, "b": 2}, **parts))
    kit.route("/embedded", embedded, with_json("/embedded", {"a": {"a": 1}, "n": 2}, query=(("q", "1"),)))
    kit.route("/only_head", only_head, Ask("/only_head", query=(("a", "1"), ("b", "2"), ("q", "3")), headers=(("x", "4"),)))
    kit.route("/no_dependency", no_dependency, Ask("/no_dependency", query=(("a", "1"), ("b", "2"), ("b", "3"), ("c", "4"))))
