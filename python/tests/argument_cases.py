# ruff: noqa: B006 - mutable defaults are among the cases
"""An app with every form of argument: models, lists, aliases, several bodies, computed defaults, validators of the app's own, dependencies.

Used by test_arguments.py. Each app has a list of its own of what its functions have seen, in order: `/events` gives it and forgets
it. So a request and the next one for `/events` say everything that a client and the app itself can see of how arguments were converted.
"""

import contextvars
import datetime
import decimal
import enum
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import Body, Cookie, Depends, FastAPI, Header, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    field_validator,
    model_validator,
)

SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="-")


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Page(BaseModel):
    skip: int = 0
    limit: int = Field(20, le=100)
    tags: list[str] = []


class Strictly(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int
    many: set[int] = set()
    color: Color | None = None


class Openly(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int = 1
    pair: tuple[int, str] | None = None


class Renamed(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    item_name: str = Field(alias="itemName")
    other: int = Field(3, validation_alias="Other-Name")
    either: int = Field(0, validation_alias=AliasChoices("e1", "e2", "item_name"))
    text: Json[list[int]] | None = None


class Named(BaseModel):
    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True, loc_by_alias=False)
    first_name: list[int] = Field([], alias="firstName")
    second: decimal.Decimal = Field(decimal.Decimal(1), alias="Second")


class Lines(BaseModel):
    """Header lines, or cookies."""

    x_token: str
    x_many: list[int] = []
    accept_language: str | None = None
    Upper_Case: bool = False
    plain: Annotated[float, Field(alias="X_Plain", gt=0)] = 1.0


class StrictLines(BaseModel):
    model_config = ConfigDict(extra="forbid")
    host: str
    x_token: int = 0
    content_length: int | None = None


class OpenLines(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True)
    x_one: int = Field(1, alias="xOne")
    x_two: frozenset[str] = frozenset()


class Point(BaseModel):
    x: int
    y: float = 0.5


class Item(BaseModel):
    name: str = Field(min_length=1)
    points: list[Point] = []


QUERY_MODELS: dict[str, Any] = {
    "page": Page,
    "strictly": Strictly,
    "openly": Openly,
    "renamed": Renamed,
    "named": Named,
    "optional": Page | None,
    "optional-strictly": Strictly | None,
    "constrained": Annotated[Page, AfterValidator(lambda page: page)],
}

LINE_MODELS: dict[str, Any] = {"lines": Lines, "strict": StrictLines, "open": OpenLines, "optional": Lines | None, "page": Page}

#: annotation and default (... is none)
SEVERAL: dict[str, tuple[Any, Any]] = {
    "list": (list[int], ...),
    "list-of-str": (list[str], ["d"]),
    "bare": (list, []),
    "set": (set[int], ...),
    "frozenset": (frozenset[str], frozenset({"a"})),
    "tuple": (tuple[int, ...], ()),
    "pair": (tuple[int, str], ...),
    "deque": (deque[float], ...),
    "optional": (list[int] | None, None),
    "union": (list[int] | int, 5),
    "colors": (list[Color], [Color.RED]),
    "literal": (list[Literal["a", 1]], []),
    "short": (Annotated[list[int], Field(max_length=2)], ...),
    "each": (list[Annotated[int, Field(gt=3)]], ...),
    "dates": (list[datetime.date], ...),
    "json": (Json[list[int]], ...),
    "json-default": (Json[list[int]], [1]),
}

BODIES: dict[str, tuple[Any, Any]] = {
    "model": (Item, ...),
    "optional": (Item | None, None),
    "union": (Item | Point, ...),
    "list": (list[Point], ...),
    "dict": (dict[str, int], {"d": 4}),
    "default": (Annotated[list[int], Body()], [1]),
    "int": (Annotated[int, Body()], ...),
    "str": (Annotated[str, Body()], "d"),
    "nullable": (Annotated[int | None, Body()], 5),
    "embedded": (Annotated[Point, Body(embed=True)], ...),
    "embedded-optional": (Annotated[Point | None, Body(embed=True)], None),
    "embedded-alias": (Annotated[int, Body(embed=True, alias="other")], 1),
    "embedded-choices": (Annotated[int, Body(embed=True, validation_alias=AliasChoices("a", "b"))], ...),
    "factory": (Annotated[dict[str, int], Body(default_factory=dict)], ...),
    "validated": (Annotated[int, Body(validate_default=True)], "7"),
    "refused-default": (Annotated[int, Body(validate_default=True)], "x"),
}


def show(value: object) -> object:
    """With its exact type. Sets are in the order of their values, which two processes may hash differently."""
    if isinstance(value, BaseModel):
        return {"model": type(value).__name__, "fields": {name: show(getattr(value, name)) for name in type(value).model_fields},
                "extra": [show(pair) for pair in (value.model_extra or {}).items()], "set": sorted(value.model_fields_set)}  # fmt: skip
    if isinstance(value, set | frozenset):
        return {"type": type(value).__name__, "items": sorted(map(repr, value))}
    return {"type": type(value).__name__, "repr": repr(value)}


def _add(app: FastAPI, path: str, annotation: Any, default: Any, method: str) -> None:
    def endpoint(the_value):  # type: ignore[no-untyped-def]
        return show(the_value)

    async def endpoint_async(the_value):  # type: ignore[no-untyped-def]
        return show(the_value)

    function = endpoint if len(path) % 2 else endpoint_async
    function.__annotations__ = {"the_value": annotation}
    if default is not ...:
        function.__defaults__ = (default,)
    app.add_api_route(path, function, methods=[method])


def _add_simple_routes(app: FastAPI) -> None:
    for name, model in QUERY_MODELS.items():
        _add(app, f"/query/{name}", Annotated[model, Query()], None if "optional" in name else ..., "GET")
    for name, model in LINE_MODELS.items():
        default = None if name == "optional" else ...
        _add(app, f"/header/{name}", Annotated[model, Header()], default, "GET")
        _add(app, f"/rawheader/{name}", Annotated[model, Header(convert_underscores=False)], default, "GET")
        _add(app, f"/cookie/{name}", Annotated[model, Cookie()], default, "GET")
    for name, (annotation, default) in SEVERAL.items():
        _add(app, f"/several/query/{name}", Annotated[annotation, Query()], default, "GET")
        _add(app, f"/several/header/{name}", Annotated[annotation, Header()], default, "GET")
        _add(app, f"/several/cookie/{name}", Annotated[annotation, Cookie()], default, "GET")
    for name, (annotation, default) in BODIES.items():
        _add(app, f"/body/{name}", annotation, default, "POST")
    choices = AliasChoices("the_value", "b", "c-d")
    _add(app, "/several/query/choices", Annotated[list[int], Query(validation_alias=choices)], ..., "GET")
    _add(app, "/several/header/choices", Annotated[int, Header(validation_alias=choices)], 7, "GET")
    _add(app, "/several/cookie/choices", Annotated[int, Cookie(validation_alias=choices)], ..., "GET")


def _add_mixed_routes(app: FastAPI) -> None:
    @app.get("/mixed/query")
    async def mixed_query(p: Annotated[Page, Query()], s: Annotated[Strictly | None, Query()] = None, limit: int = 3, q: str | None = None):
        return [show(value) for value in (p, s, limit, q)]

    @app.put("/mixed/all/{a}")
    def mixed_all(
        c: Annotated[int, Cookie()],
        item: Item,
        h: Annotated[Lines, Header()],
        a: Annotated[int, Path(lt=100)],
        tags: Annotated[list[int], Query()] = [],
        point: Point | None = None,
        n: Annotated[int, Body(gt=3)] = 4,
    ):
        return [show(value) for value in (c, item, h, a, tags, point, n)]

    @app.post("/mixed/bodies")
    async def mixed_bodies(a: Point, b: Annotated[Item | None, Body()] = None, c: Annotated[list[int], Body(alias="C")] = [1]):
        c.append(1)
        return [show(value) for value in (a, b, c)]

    @app.get("/mixed/constant")
    def mixed_constant(q: Annotated[list[int], Query()] = [1], n: Annotated[int, Query(validate_default=True, gt=3)] = "5"):  # type: ignore[assignment]
        q.append(2)
        return [show(q), show(n)]

    @app.get("/mixed/refused")
    def mixed_refused(n: Annotated[int, Query(validate_default=True)] = "x", m: int = 1):  # type: ignore[assignment]
        return [show(n), show(m)]


def _add_watched_routes(app: FastAPI, events: list[str]) -> None:
    """Whose conversion runs code of the app's."""

    def note(what: str) -> None:
        events.append(f"{what} {SEEN.get()}")
        SEEN.set(f"{SEEN.get()}{what[0]}")

    def watched(name: str) -> Any:
        def watch(value: object) -> object:
            note(f"{name} {value}")
            if value in ("wrong", -1):
                raise ValueError(f"{name} is wrong")
            if value in ("teapot", -2):
                raise HTTPException(418, name)
            if value in ("key", -3):
                raise KeyError(name)
            return value

        return watch

    class Watched(BaseModel):
        x: int = 0
        y: str = ""

        @field_validator("x")
        @classmethod
        def see_x(cls, value: int) -> int:
            return int(str(watched("x")(value)))

        @model_validator(mode="after")
        def see_all(self) -> "Watched":
            note("model")
            return self

    number = Annotated[int, AfterValidator(watched("number"))]
    text = Annotated[str, BeforeValidator(watched("text"))]

    def made(name: str) -> Callable[[], int]:
        def make() -> int:
            note(f"made {name}")
            return len(name)

        return make

    @app.get("/watched/def/{a}")
    def watched_def(a: number, q: text = "d", n: int = 1):
        note("endpoint")
        return [a, q, n]

    @app.get("/watched/async/{a}")
    async def watched_async(a: int, q: Annotated[number, Query()], h: Annotated[text, Header()] = "d", n: int = 1):
        note("endpoint")
        return [a, q, h, n]

    @app.get("/watched/model")
    def watched_model(m: Annotated[Watched, Query()], q: Annotated[list[number], Query()] = [], n: int = 1):
        note("endpoint")
        return [m, q, n]

    @app.post("/watched/body")
    async def watched_body(b: Watched, q: Annotated[number, Query()] = 1):
        note("endpoint")
        return [b, q]

    @app.post("/watched/bodies")
    def watched_bodies(b: Watched, c: Annotated[number, Body()], d: Annotated[text, Body()] = "d", q: number = 1):
        note("endpoint")
        return [b, c, d, q]

    @app.get("/watched/made")
    async def watched_made(
        a: Annotated[int, Query(default_factory=made("a"))],
        b: Annotated[number, Query(default_factory=made("b"), validate_default=True)],
        h: Annotated[int, Header(default_factory=made("h"))],
        n: int,
    ):
        note("endpoint")
        return [a, b, h, n]

    @app.post("/watched/made")
    def watched_made_body(b: Annotated[int, Body(default_factory=made("body"))], c: Annotated[int, Query(default_factory=made("c"))]):
        note("endpoint")
        return [b, c]

    async def session():
        note("begin")
        try:
            yield "session"
        except Exception as error:
            note(f"seen {type(error).__name__}")
            raise
        finally:
            note("end")

    def user(limit: int = 1):
        note("user")
        return limit

    @app.post("/watched/depends")
    def watched_depends(b: Watched, s: Annotated[str, Depends(session)], q: number = 1, t: text = "d", n: int = 1):
        note("endpoint")
        return [b, s, q, t, n]

    @app.post("/watched/depends/bodies/{p}")
    async def watched_depends_bodies(
        p: int,
        c: Annotated[number, Body()],
        u: Annotated[int, Depends(user)],
        d: Annotated[int, Body(default_factory=made("d"))],
        e: Annotated[text, Body(alias="E")] = "e",
        m: Annotated[Page | None, Query()] = None,
    ):
        note("endpoint")
        return [p, c, u, d, e, show(m)]

    @app.post("/watched/email")
    def watched_email(b: Annotated[dict[str, Annotated[str, AfterValidator(str.strip)]], Body()], q: number = 1):
        return [b, q]


def _add_own_routes(app: FastAPI, events: list[str]) -> None:
    @app.get("/events")
    def show_events():
        seen = list(events)
        events.clear()
        return [*seen, SEEN.get()]


def make_app(variant: str = "plain", route_class: type[APIRoute] = APIRoute) -> FastAPI:
    """A fresh one. `variant`: what stands around its routes, and who answers where arguments are wrong."""
    app, events = FastAPI(openapi_url=None), list[str]()
    app.router.route_class = route_class
    _add_simple_routes(app)
    _add_mixed_routes(app)
    _add_watched_routes(app, events)
    _add_own_routes(app, events)
    VARIANTS[variant](app, events)
    return app


def _plain(app: FastAPI, events: list[str]) -> None:
    pass


def _handler(app: FastAPI, events: list[str]) -> None:
    @app.exception_handler(RequestValidationError)
    async def answer(request: Request, error: RequestValidationError) -> JSONResponse:
        events.append(f"handler {SEEN.get()}")
        body = (await request.body()).decode("latin-1")
        cause = repr(error.__cause__)
        said = [str(error), error.endpoint_function, repr(error.body), repr(error.errors()), cause, body, sorted(request.path_params)]
        return JSONResponse(said, 400)


def _parent_handler(app: FastAPI, events: list[str]) -> None:
    @app.exception_handler(Exception)
    async def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": type(error).__name__}, 500)

    @app.exception_handler(422)
    def answer_422(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse("no exception has this status", 500)

    @app.exception_handler(KeyError)
    async def answer_key_error(request: Request, error: KeyError) -> JSONResponse:
        return JSONResponse(["key", str(error), SEEN.get()], 409)

    @app.exception_handler(UnicodeEncodeError)
    async def answer_no_json(request: Request, error: UnicodeEncodeError) -> JSONResponse:
        events.append("no JSON")
        return JSONResponse("no JSON", 410)


class Around:
    """Middleware that changes nothing that a client does not see."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_on(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-around", str(message["status"]).encode())]
            await send(message)

        await self.app(scope, receive, send_on)


def _around(app: FastAPI, events: list[str]) -> None:
    app.add_middleware(Around)


def _around_with_handler(app: FastAPI, events: list[str]) -> None:
    _handler(app, events)
    _around(app, events)


def _around_with_parent_handler(app: FastAPI, events: list[str]) -> None:
    _parent_handler(app, events)
    _around(app, events)


def _layers(app: FastAPI, events: list[str]) -> None:
    app.add_middleware(CORSMiddleware, allow_origins=["https://example.com"], allow_credentials=True)


def _function(app: FastAPI, events: list[str]) -> None:
    @app.middleware("http")
    async def around(request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Any:
        response = await call_next(request)
        response.headers["x-around"] = str(response.status_code)
        return response


VARIANTS: dict[str, Callable[[FastAPI, list[str]], None]] = {
    "plain": _plain,
    "handler": _handler,
    "parent-handler": _parent_handler,
    "around": _around,
    "around-handler": _around_with_handler,
    "around-parent-handler": _around_with_parent_handler,
    "layers": _layers,
    "function": _function,
}
