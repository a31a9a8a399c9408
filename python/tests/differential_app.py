"""Apps with every kind of route that the plan knows or leaves to the app. Used by test_plan.py and test_differential.py.

`make_app()` is the plain one; `VARIANTS` has what concerns a whole app: own exception handlers, middleware.
Nothing here may depend on time or on earlier requests: two servers are asked the same and have to answer the same.
"""

import asyncio
import dataclasses
import datetime
import decimal
import enum
import functools
import ipaddress
import math
import tempfile
import uuid
from collections import deque
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, NewType, TypedDict

from annotated_types import Ge
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
    UploadFile,
)
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from fastapi.security import HTTPBasic, OAuth2PasswordBearer
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, SecretStr, computed_field
from starlette.convertors import CONVERTOR_TYPES, StringConvertor
from starlette.middleware.gzip import GZipMiddleware

# Each run has a folder of its own: two at once must not write each other's file while it is compared.
FOLDER = tempfile.TemporaryDirectory(prefix="turboapi-differential-")
FILE = FilePath(FOLDER.name) / "file.txt"
FILE.write_text("file ü", encoding="utf-8")


class Color(str, enum.Enum):  # noqa: UP042 - jsonable_encoder has to see through this old form
    RED = "red"
    BLUE = "blue"


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class Point(BaseModel):
    x: int
    y: float = 0.5


class Item(BaseModel):
    name: str = Field(min_length=1)
    price: float = Field(gt=0)
    tags: list[str] = []
    at: datetime.datetime | None = None
    points: dict[str, Point] = {}


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    item_name: str = Field(alias="itemName")
    secret: SecretStr = SecretStr("s")
    unset: int = 7
    nothing: str | None = None


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int = 1


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    a: int
    b: float = 1.0


class Out(BaseModel):
    id: int
    name: str

    @computed_field
    @property
    def label(self) -> str:
        return f"{self.id}:{self.name}"


class OutWithSecret(Out):
    password: str = "hidden"


class Filters(BaseModel):
    limit: int = 10
    tag: list[str] = []


class Typed(TypedDict):
    a: int
    b: str


@dataclasses.dataclass
class Pair:
    left: int
    right: str = "r"


class Plain:
    def __init__(self) -> None:
        self.a = 1
        self.b = "x"


class OddConvertor(StringConvertor):
    regex = "[a-c]+"


CONVERTOR_TYPES["odd"] = OddConvertor()

UserId = NewType("UserId", int)
type Limit = Annotated[int, Query(ge=1, le=5)]


def not_nine(value: int) -> int:
    if value == 9:
        raise ValueError("nine")
    return value


SCALARS: dict[str, tuple[Any, Any]] = {
    # name: (annotation, a default that is valid)
    "str": (str, "d"),
    "int": (int, 3),
    "float": (float, 2.5),
    "bool": (bool, True),
    "decimal": (decimal.Decimal, decimal.Decimal("1.10")),
    "datetime": (datetime.datetime, datetime.datetime(2026, 1, 2, 3, 4, 5)),
    "date": (datetime.date, datetime.date(2026, 1, 2)),
    "timedelta": (datetime.timedelta, datetime.timedelta(seconds=90)),
    "uuid": (uuid.UUID, uuid.UUID(int=5)),
    "color": (Color, Color.RED),
    "number": (Number, Number.ONE),
    "literal": (Literal["a", "b", 1], "a"),
    "ge": (Annotated[int, Ge(2)], 3),
    "user": (UserId, UserId(1)),
    "union": (int | str, 1),
    "after": (Annotated[int, AfterValidator(not_nine)], 1),
    "bytes": (bytes, b"raw"),
}

CONSTRAINTS: dict[str, tuple[type, dict[str, Any]]] = {
    "range": (int, {"ge": -2, "lt": 100}),
    "multiple": (float, {"multiple_of": 0.5}),
    "length": (str, {"min_length": 2, "max_length": 4}),
    "pattern": (str, {"pattern": "^[a-z]+$"}),
    "strict": (int, {"strict": True}),
    "finite": (float, {"allow_inf_nan": False}),
    "alias": (int, {"alias": "other-name"}),
}

SOURCES: dict[str, Any] = {"query": Query, "header": Header, "cookie": Cookie}


def show(value: object) -> object:
    """What a route got, with its exact type: 1, 1.0, True and "1" are four different answers."""
    return {"type": type(value).__name__, "repr": repr(value)}


def _add_scalar_routes(app: FastAPI) -> None:
    """/{source}/{form}/{name}, with one argument `the_value`, form: required, optional, default, old (declared by default value)."""

    def add(path: str, annotation: Any, default: Any = ..., is_coroutine: bool = False) -> None:
        if is_coroutine:

            async def endpoint_async(the_value):  # type: ignore[no-untyped-def]
                return show(the_value)

            endpoint: Any = endpoint_async
        else:

            def endpoint_sync(the_value):  # type: ignore[no-untyped-def]
                return show(the_value)

            endpoint = endpoint_sync
        endpoint.__annotations__ = {"the_value": annotation}
        if default is not ...:
            endpoint.__defaults__ = (default,)
        app.add_api_route(path, endpoint, methods=["GET"])

    for name, (annotation, default) in SCALARS.items():
        add(f"/path/required/{name}/{{the_value}}", annotation)
        for source, declare in SOURCES.items():
            add(f"/{source}/required/{name}", Annotated[annotation, declare()])
            add(f"/{source}/optional/{name}", Annotated[annotation | None, declare()], None, is_coroutine=True)
            add(f"/{source}/default/{name}", Annotated[annotation, declare()], default)
            add(f"/{source}/old/{name}", annotation, declare(default))
    for name, (annotation, options) in CONSTRAINTS.items():
        if name != "alias":
            add(f"/path/constraint/{name}/{{the_value}}", Annotated[annotation, Path(**options)])
        for source, declare in SOURCES.items():
            add(f"/{source}/constraint/{name}", Annotated[annotation, declare(**options)], is_coroutine=True)
            add(f"/{source}/oldconstraint/{name}", annotation, declare(..., **options))


def _add_head_routes(app: FastAPI) -> None:
    @app.get("/inferred/{a}/{b}")
    def inferred(a: int, b: str, c: int, d: str = "d", e: float | None = None, f: bool = False, *, g: int = 7):
        return [show(value) for value in (a, b, c, d, e, f, g)]

    @app.get("/untyped/{a}")
    def untyped(a, b=None, c=5):  # type: ignore[no-untyped-def]
        return [show(a), show(b), show(c)]

    @app.get("/odddefaults")
    def odd_defaults(a: float = 1, b: int = "5", c: int = None, d: int = Query(default=0, ge=1)):  # type: ignore[assignment]  # noqa: RUF013
        return [show(value) for value in (a, b, c, d)]

    @app.get("/alias-type")
    def alias_type(limit: Limit):
        return show(limit)

    @app.get("/headers")
    def headers(
        user_agent: Annotated[str | None, Header()] = None,
        x_token: Annotated[str, Header()] = "none",
        raw_name: Annotated[str | None, Header(convert_underscores=False)] = None,
        renamed: Annotated[str | None, Header(alias="X-ReNamed")] = None,
        accept: str | None = Header(None),
    ):
        return [user_agent, x_token, raw_name, renamed, accept]

    @app.get("/cookies")
    def cookies(session: Annotated[str | None, Cookie()] = None, n: Annotated[int, Cookie(alias="count")] = 0):
        return [session, n]

    @app.get("/all/{p}")
    async def all_sources(p: int, q: int, h: Annotated[int, Header()], c: Annotated[int, Cookie()]):
        return [p, q, h, c]

    @app.get("/convertor/int/{x:int}")
    def convertor_int(x: int):
        return show(x)

    @app.get("/convertor/intstr/{x:int}")
    def convertor_int_str(x: str):
        return show(x)

    @app.get("/convertor/float/{x:float}")
    def convertor_float(x: float):
        return show(x)

    @app.get("/convertor/floatint/{x:float}")
    def convertor_float_int(x: int):
        return show(x)

    @app.get("/convertor/uuid/{x:uuid}")
    def convertor_uuid(x: uuid.UUID):
        return show(x)

    @app.get("/convertor/path/{x:path}")
    def convertor_path(x: str):
        return show(x)

    @app.get("/convertor/odd/{x:odd}")
    def convertor_odd(x: str):
        return show(x)

    @app.get("/convertor/odd/{x}")
    def convertor_after_odd(x: str):
        return show([x])

    @app.get("/place/{x:int}")
    def place_int(x: int):
        return ["int", x]

    @app.get("/place/me")
    def place_me():
        return "me"

    @app.get("/place/{name}")
    def place_name(name: str):
        return ["name", name]

    @app.post("/place/{other}")
    def place_other(other: str):
        return ["other", other]

    # ASGI path: more than one value, or models.
    @app.get("/list")
    def several(q: Annotated[list[int], Query()] = [], h: Annotated[list[str] | None, Header()] = None):  # noqa: B006
        return [q, h]

    @app.get("/filters")
    def filters(filters: Annotated[Filters, Query()]):
        return filters

    @app.get("/choices")
    def choices(q: Annotated[int, Query(validation_alias=AliasChoices("a", "b"))] = 0):
        return q

    @app.get("/factory")
    def factory(q: Annotated[int, Query(default_factory=lambda: 4)]):
        return q


def _add_body_routes(app: FastAPI) -> None:
    @app.post("/body/item")
    def body_item(item: Item):
        return item

    @app.put("/body/item/{id}")
    async def body_item_and_more(id: int, item: Item, q: str | None = None):
        return {"id": id, "item": item.model_dump(mode="json"), "q": q}

    @app.post("/body/first")
    def body_first(item: Point, q: int = 0):
        return [item, q]

    @app.post("/body/dict")
    def body_dict(data: dict[str, Any]):
        return [show(value) for value in data.items()]

    @app.post("/body/intkeys")
    def body_int_keys(data: dict[int, float]):
        return data

    @app.post("/body/list")
    async def body_list(data: list[int]):
        return data

    @app.post("/body/set")
    def body_set(data: set[int]):
        return sorted(data)

    @app.post("/body/bare")
    def body_bare(data: dict):  # type: ignore[type-arg]
        return data

    @app.post("/body/any")
    def body_any(data: Annotated[Any, Body()]):
        return show(data)

    @app.post("/body/optional")
    def body_optional(item: Point | None = None):
        return show(item)

    @app.post("/body/mutable")
    def body_mutable(data: Annotated[list[int], Body()] = [1]):  # noqa: B006
        data.append(2)
        return data

    @app.post("/body/factory")
    def body_factory(data: Annotated[dict[str, int], Body(default_factory=dict)]):
        data["a"] = 1
        return data

    @app.post("/body/int")
    def body_int(n: Annotated[int, Body(ge=1)]):
        return show(n)

    @app.post("/body/str")
    def body_str(s: Annotated[str, Body()]):
        return show(s)

    @app.post("/body/float")
    def body_float(x: Annotated[float, Body()]):
        return show(x)

    @app.post("/body/bytes")
    def body_bytes(data: Annotated[bytes, Body()]):
        return show(data)

    @app.post("/body/union")
    def body_union(data: Point | list[Point]):
        return show(data)

    @app.post("/body/typed")
    def body_typed(data: Typed):
        return data

    @app.post("/body/dataclass")
    def body_dataclass(data: Pair):
        return data

    @app.post("/body/strict")
    def body_strict(data: Strict):
        return data

    @app.post("/body/loose")
    def body_loose(data: Loose):
        return data

    @app.post("/body/aliased")
    def body_aliased(data: Aliased):
        return show(data)

    @app.post("/body/old")
    def body_old(data: dict[str, int] = Body(..., min_length=1)):
        return data

    # ASGI path.
    @app.post("/body/embed")
    def body_embed(item: Annotated[Point, Body(embed=True)]):
        return item

    @app.post("/body/two")
    def body_two(a: Point, b: Annotated[int, Body()]):
        return [a, b]

    @app.post("/form")
    def form(a: Annotated[int, Form()], b: Annotated[str, Form()] = "b"):
        return [a, b]

    @app.post("/upload")
    async def upload(file: UploadFile, more: Annotated[bytes | None, File()] = None):
        return {"name": file.filename, "size": len(await file.read()), "more": more and len(more)}


RETURNS: dict[str, Any] = {
    "dict": lambda: {"a": 1, "é": 'ü\u2028"\\\n\x00', "n": None, "t": True, "nested": {"l": [1, 2.5, []]}},
    "keys": lambda: {1: "int", 2.5: "float", False: "bool", None: "none", "_sa_x": "dropped", Color.RED: "enum"},
    "list": lambda: [1, "a", None],
    "str": lambda: "text ☃ \U0001f600 </script>",
    "int": lambda: 5,
    "bigint": lambda: 2**200,
    "float": lambda: [1.0, 1e16, 1e-7, 1.5e300, -0.0, 0.1, 123456789012345680.0, 5e-324],
    "bool": lambda: True,
    "none": lambda: None,
    "decimal": lambda: [decimal.Decimal("1.10"), decimal.Decimal(7)],
    "datetime": lambda: [datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), datetime.date(2026, 1, 2), datetime.time(1, 2)],
    "timedelta": lambda: datetime.timedelta(hours=1),
    "enum": lambda: [Color.RED, Number.TWO],
    "uuid": lambda: uuid.UUID(int=7),
    "set": lambda: {4},
    "frozenset": lambda: frozenset({4}),
    "deque": lambda: deque([1, 2]),
    "tuple": lambda: (1, "b", (2.0,)),
    "generator": lambda: (n for n in range(3)),
    "bytes": lambda: b"bytes",
    "path": lambda: FilePath("/a/b"),
    "ip": lambda: ipaddress.ip_address("::1"),
    "secret": lambda: SecretStr("x"),
    "dataclass": lambda: Pair(1),
    "model": lambda: Item(name="n", price=1, at=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), points={"p": Point(x=1)}),
    "aliased": lambda: Aliased(itemName="n"),
    "models": lambda: {"items": [Point(x=1), Point(x=2)]},
    "object": Plain,
    "strsubclass": lambda: type("Text", (str,), {})("sub"),
    "dictsubclass": lambda: type("Map", (dict,), {})(a=1),
    # 500: not JSON
    "nan": lambda: math.nan,
    "inf": lambda: {"a": [math.inf]},
    "lambda": lambda: len,
    "surrogate": lambda: "\ud800",
    "badbytes": lambda: b"\xff",
    "complex": lambda: 1j,
    # Responses
    "Response": lambda: Response(b"raw \xff", media_type="application/octet-stream"),
    "ResponseEmpty": lambda: Response(),
    "Response204": lambda: Response(status_code=204),
    "Response304": lambda: Response(status_code=304, headers={"etag": '"x"'}),
    "JSONResponse": lambda: JSONResponse({"a": 1}, status_code=202, headers={"X-A": "1", "x-b": "ü"}),
    "HTMLResponse": lambda: HTMLResponse("<h1>ü</h1>"),
    "PlainTextResponse": lambda: PlainTextResponse("text", headers={"content-type": "text/x"}),
    "RedirectResponse": lambda: RedirectResponse("/place/me?x=ü"),
    "StreamingResponse": lambda: StreamingResponse(iter(["a", b"b", "c"]), media_type="text/plain"),
    "FileResponse": lambda: FileResponse(FILE, filename="ü.txt"),
}


def _cookies() -> Response:
    response = JSONResponse({"a": 1})
    response.set_cookie("session", "a b;c", max_age=5, httponly=True, samesite="strict")
    response.delete_cookie("old")
    return response


def _add_answer_routes(app: FastAPI) -> None:
    for name, make in RETURNS.items():

        def no_arguments(make: Any = make) -> Any:
            def endpoint():  # type: ignore[no-untyped-def]
                return make()

            return endpoint

        def async_arguments(make: Any = make) -> Any:
            async def endpoint():  # type: ignore[no-untyped-def]
                await asyncio.sleep(0)
                return make()

            return endpoint

        app.add_api_route(f"/return/sync/{name}", no_arguments(), methods=["GET"])
        app.add_api_route(f"/return/async/{name}", async_arguments(), methods=["GET", "POST"])
    app.add_api_route("/return/cookies", _cookies, methods=["GET"], response_model=None)

    for status_code in (200, 201, 202, 204, 304, 400, 418, 500):

        @app.get(f"/status/dict/{status_code}", status_code=status_code)
        def with_status():
            return {"a": 1}

        @app.get(f"/status/none/{status_code}", status_code=status_code)
        async def with_status_none():
            return None

        if status_code not in (204, 304):

            @app.get(f"/status/model/{status_code}", status_code=status_code)
            def with_status_model() -> Point:
                return Point(x=1)

    for response_class in (JSONResponse, HTMLResponse, PlainTextResponse, Response, RedirectResponse):
        name = response_class.__name__

        @app.get(f"/class/str/{name}", response_class=response_class)
        def of_class():
            return "/place/<me>"

        @app.get(f"/class/dict/{name}", response_class=response_class)
        def of_class_dict():
            return {"a": 1.0, "é": "ü"}

        @app.get(f"/class/204/{name}", response_class=response_class, status_code=204)
        def of_class_204():
            return ""

        @app.get(f"/class/model/{name}", response_class=response_class, response_model=Out)
        def of_class_model():
            return {"id": 1, "name": "ü", "extra": 1}

    @app.get("/class/FileResponse", response_class=FileResponse)
    def of_class_file():
        return str(FILE)

    @app.get("/model/filter", response_model=Out)
    def model_filter():
        return OutWithSecret(id=1, name="n")

    @app.get("/model/annotation")
    async def model_annotation() -> Out:
        return OutWithSecret(id=1, name="n")

    @app.get("/model/fromdict")
    def model_from_dict() -> Out:
        return {"id": "5", "name": "n", "more": 1}  # type: ignore[return-value]

    @app.get("/model/fromobject", response_model=Loose)
    def model_from_object():
        return Plain()

    @app.get("/model/list")
    def model_list() -> list[Point]:
        return [Point(x=1), {"x": 2, "y": 1e16}]  # type: ignore[list-item]

    @app.get("/model/dict")
    def model_dict() -> dict[str, Any]:
        return {"a": decimal.Decimal("1.10"), "b": {1}, "c": b"x", "d": math.nan, "e": datetime.timedelta(1), "f": 1e16}

    @app.get("/model/scalar")
    def model_scalar() -> int:
        return "7"  # type: ignore[return-value]

    @app.get("/model/none")
    def model_none() -> None:
        return None

    @app.get("/model/optional")
    def model_optional() -> Point | None:
        return None

    @app.get("/model/typed")
    def model_typed() -> Typed:
        return {"a": 1, "b": "x"}

    @app.get("/model/dataclass")
    def model_dataclass() -> Pair:
        return Pair(1)

    for option in ("by_alias", "exclude_unset", "exclude_defaults", "exclude_none"):
        value = option != "by_alias"

        @app.get(f"/model/{option}", response_model=Aliased, **{f"response_model_{option}": value})
        def model_option():
            return Aliased(itemName="n", unset=7)

    @app.get("/model/include", response_model=Aliased, response_model_include={"item_name", "unset"}, response_model_exclude={"unset"})
    def model_include():
        return {"itemName": "n"}

    @app.get("/model/wrong", response_model=Out)
    def model_wrong():
        return {"id": "x"}

    @app.get("/model/wrongasync", response_model=list[int])
    async def model_wrong_async():
        return ["x"]

    @app.get("/model/response")
    def model_response() -> JSONResponse:
        return JSONResponse([1])

    @app.get("/model/butresponse", response_model=Out)
    def model_but_response():
        return JSONResponse({"not": "an Out"})

    @app.get("/model/off", response_model=None)
    def model_off() -> Out:
        return OutWithSecret(id=1, name="n")


def _add_error_routes(app: FastAPI) -> None:
    details: dict[str, Any] = {"text": "no ☃", "dict": {"a": [1]}, "none": None, "list": [1, None], "empty": "", "number": 1.5}
    for name, detail in details.items():

        def endpoint(detail: Any) -> Any:
            def raising():  # type: ignore[no-untyped-def]
                raise HTTPException(418, detail=detail, headers={"X-Error": "ü", "x-other": "1"})

            return raising

        app.add_api_route(f"/raise/detail/{name}", endpoint(detail), methods=["GET"])

    @app.get("/raise/http/{status_code}")
    async def raise_http(status_code: int):
        raise HTTPException(status_code)

    @app.get("/raise/unhandled")
    def raise_unhandled():
        raise RuntimeError("secret text")

    @app.get("/raise/async")
    async def raise_async():
        await asyncio.sleep(0)
        raise KeyError("secret text")

    @app.get("/raise/badheaders")
    def raise_bad_headers():
        raise HTTPException(400, headers={"X-Error": "☃"})

    @app.get("/raise/baddetail")
    def raise_bad_detail():
        raise HTTPException(400, detail={1, 2})

    @app.get("/raise/validation")
    def raise_validation():
        raise RequestValidationError([{"type": "made_up", "loc": ("body",), "msg": "m", "input": 1}])

    @app.get("/raise/pydantic")
    def raise_pydantic():
        return Point(x="no")  # type: ignore[arg-type]

    @app.get("/raise/custom")
    def raise_custom():
        raise CustomError("c")

    @app.get("/raise/customchild")
    async def raise_custom_child():
        raise CustomChildError("cc")

    @app.get("/raise/parameters/{x:int}/{y}")
    def raise_parameters(x: int, y: str):
        raise CustomError(y)

    @app.get("/raise/nested")
    def raise_nested():
        raise NestedError


class CustomError(Exception):
    pass


class CustomChildError(CustomError):
    pass


class NestedError(Exception):
    """Its handler raises a CustomError."""


def _add_opaque_routes(app: FastAPI) -> None:
    """What stays on the app's own path."""

    def depend(q: int = 0) -> int:
        return q + 1

    async def depend_yield(response: Response):  # type: ignore[no-untyped-def]
        response.headers["x-yield"] = "1"
        yield "y"

    @app.get("/depends")
    def depends(a: Annotated[int, Depends(depend)], b: str = Depends(depend_yield)):
        return [a, b]

    @app.get("/dependencies", dependencies=[Depends(depend)])
    async def dependencies():
        return 1

    @app.get("/security/basic")
    def basic(credentials: Annotated[Any, Depends(HTTPBasic(realm="r"))]):
        return credentials.username

    @app.get("/security/bearer")
    def bearer(token: Annotated[str, Depends(OAuth2PasswordBearer("token"))]):
        return token

    @app.api_route("/request", methods=["GET", "POST", "DELETE"])
    async def request(request: Request):
        return {
            "method": request.method,
            "path": request.url.path,
            "query": request.url.query,
            "headers": [(k, v) for k, v in request.headers.items() if k != "host"],
            "body": (await request.body()).decode("latin-1"),
        }

    @app.get("/response", status_code=201)
    def response(response: Response):
        response.headers["x-set"] = "1"
        response.set_cookie("a", "b")
        return {"a": 1}

    @app.get("/background")
    def background(tasks: BackgroundTasks):
        tasks.add_task(lambda: None)
        return 1

    @app.get("/stream/jsonl")
    async def stream_jsonl():
        yield {"a": 1}
        yield Point(x=1)

    @app.get("/stream/sync")
    def stream_sync():
        yield from ({"n": n} for n in range(3))

    @app.get("/stream/raw", response_class=StreamingResponse)
    async def stream_raw():
        yield "a"
        yield "b"

    from fastapi.sse import EventSourceResponse

    @app.get("/stream/sse", response_class=EventSourceResponse)
    async def stream_sse():
        yield {"a": 1}

    class Callable_:
        def __call__(self, q: int = 1):
            return q

    app.add_api_route("/callable", Callable_(), methods=["GET"])
    app.add_api_route("/partial", functools.partial(lambda a, b=1: [a, b], b=2), methods=["GET"])

    def decorated_with_names(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return {"args": len(args), "kwargs": sorted(kwargs), "value": function(*args, **kwargs)}

        return wrapper

    @app.get("/decorated/{a}")
    @decorated_with_names
    def decorated(a: int, b: str = "b"):
        return [a, b]

    class Methods:
        def method(self, a: int = 1):
            return a

    app.add_api_route("/method", Methods().method, methods=["GET"])

    async def starlette_route(request: Request) -> Response:
        return PlainTextResponse(f"{request.method} {request.path_params}")

    app.add_route("/starlette/{x:int}", starlette_route, methods=["GET", "PUT"])

    @app.head("/onlyhead")
    def only_head():
        return {"a": 1}

    @app.delete("/delete/{id}", status_code=204)
    async def delete(id: int):
        return None

    @app.get("/multi")
    @app.post("/multi")
    def multi():
        return "multi"

    @app.get("/slash/")
    def slash():
        return "slash"

    @app.get("/noslash/{x}")
    def no_slash(x: str):
        return x

    sub = FastAPI()

    @sub.get("/users/{id}")
    def sub_user(id: int):
        return {"sub": id}

    app.mount("/sub", sub)

    inner = APIRouter(prefix="/inner", tags=["t"])

    @inner.get("/users/{id}")
    def inner_user(id: int, q: int = 0):
        return [id, q]

    @inner.post("/users/{name}", status_code=201)
    def inner_create(name: str, point: Point) -> Point:
        return point

    @inner.get("")
    def inner_root():
        return "root"

    async def inner_starlette(request: Request) -> Response:
        return PlainTextResponse("inner")

    inner.add_route("/starlette", inner_starlette)
    outer = APIRouter(prefix="/outer", default_response_class=PlainTextResponse)

    @outer.get("/text")
    def outer_text():
        return "text"

    outer.include_router(inner)
    app.include_router(inner, prefix="/v1")
    app.include_router(inner, prefix="/guarded", dependencies=[Depends(depend)])
    app.include_router(outer, prefix="/{tenant}")


def make_app(**options: Any) -> FastAPI:
    app = FastAPI(**options)
    for add in (_add_scalar_routes, _add_head_routes, _add_body_routes, _add_answer_routes, _add_error_routes, _add_opaque_routes):
        add(app)
    return app


def make_app_with_handlers() -> FastAPI:
    app = make_app()

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException):
        return PlainTextResponse(f"{request.url.path} {error.status_code} {error.detail}", status_code=error.status_code)

    @app.exception_handler(404)
    def on_404(request: Request, error: Exception):
        return JSONResponse({"missing": request.url.path}, status_code=404)

    @app.exception_handler(RequestValidationError)
    async def on_validation(request: Request, error: RequestValidationError):
        return JSONResponse({"count": len(error.errors()), "path": str(request.path_params)}, status_code=400)

    @app.exception_handler(CustomError)
    def on_custom(request: Request, error: CustomError):
        seen = {
            "parameters": repr(request.path_params),
            "route": request.scope["route"].path,
            "endpoint": request.scope["endpoint"].__name__,
        }
        return JSONResponse({"custom": str(error), **seen, "url": request.url.path}, status_code=409)

    @app.exception_handler(NestedError)
    async def on_nested(request: Request, error: NestedError):
        raise CustomError("from the handler")

    @app.exception_handler(500)
    async def on_500(request: Request, error: Exception):
        return PlainTextResponse(f"oops {type(error).__name__}", status_code=500)

    return app


def make_app_with_middleware() -> FastAPI:
    app = make_app()
    app.add_middleware(GZipMiddleware, minimum_size=10)

    @app.middleware("http")
    async def add_header(request: Request, call_next: Any):
        response = await call_next(request)
        response.headers["x-middleware"] = request.url.path.encode("ascii", "replace").decode()
        return response

    return app


VARIANTS = {"plain": make_app, "handlers": make_app_with_handlers, "middleware": make_app_with_middleware}
