"""Routes by what they take: path, query, header, cookie, body, form."""

import datetime
import enum
import uuid
from typing import Annotated, Any

from fastapi import Body, Cookie, FastAPI, File, Form, Header, Path, Query, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from .record import Note


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    y: float = 0.5


class Item(BaseModel):
    name: str = Field(min_length=1, max_length=20)
    price: float = Field(gt=0)
    tags: list[str] = []
    at: datetime.datetime | None = None
    points: dict[str, Point] = {}


class Tree(BaseModel):
    value: Color
    children: list["Tree"] = []


class Filters(BaseModel):
    model_config = ConfigDict(extra="forbid")
    limit: int = Field(10, ge=1, le=100)
    tag: list[str] = []


def shown(*values: object) -> list[str]:
    """With their exact types: 1, 1.0, True and "1" are four different answers."""
    return [f"{type(value).__name__} {value!r}" for value in values]


def add(app: FastAPI, note: Note) -> None:
    _add_paths(app, note)
    _add_queries(app, note)
    _add_headers(app, note)
    _add_bodies(app, note)
    _add_forms(app, note)


def _add_paths(app: FastAPI, note: Note) -> None:
    @app.get("/plain")
    def plain():
        note("plain")
        return {"plain": True}

    @app.get("/plain/async")
    async def plain_async():
        note("plain async")
        return {"plain": True}

    @app.get("/int/{a}")
    def path_int(a: int):
        note("int")
        return shown(a)

    @app.get("/int/async/{a}")
    async def path_int_async(a: int):
        note("int async")
        return shown(a)

    @app.get("/float/{a}")
    def path_float(a: float):
        note("float")
        return shown(a)

    @app.get("/bool/{a}")
    async def path_bool(a: bool):
        note("bool")
        return shown(a)

    @app.get("/str/{a}")
    def path_str(a: str):
        note("str")
        return shown(a)

    @app.get("/str/{a}/{b}")
    async def path_two(a: str, b: str):
        note("two")
        return shown(a, b)

    @app.get("/enum/{a}")
    def path_enum(a: Color):
        note("enum")
        return shown(a)

    @app.get("/uuid/{a}")
    async def path_uuid(a: uuid.UUID):
        note("uuid")
        return shown(a)

    @app.get("/datetime/{a}")
    def path_datetime(a: datetime.datetime):
        note("datetime")
        return a

    @app.get("/range/{a}")
    def path_range(a: Annotated[int, Path(ge=1, lt=10)]):
        note("range")
        return shown(a)

    @app.get("/rest/{a:path}")
    async def path_rest(a: str):
        note("rest")
        return shown(a)

    @app.get("/convertor/{a:int}/{b:float}")
    def path_convertor(a: int, b: float):
        note("convertor")
        return shown(a, b)


def _add_queries(app: FastAPI, note: Note) -> None:
    @app.get("/query/required")
    def query_required(a: int):
        note("query required")
        return shown(a)

    @app.get("/query/optional")
    async def query_optional(a: str | None = None):
        note("query optional")
        return shown(a)

    @app.get("/query/default")
    def query_default(a: float = 1.5, b: bool = False, c: Color = Color.RED):
        note("query default")
        return shown(a, b, c)

    @app.get("/query/list")
    async def query_list(a: Annotated[list[int], Query()]):
        note("query list")
        return shown(*a)

    @app.get("/query/set")
    def query_set(a: Annotated[set[str] | None, Query(max_length=2)] = None):
        note("query set")
        return sorted(a or ())

    @app.get("/query/constrained")
    async def query_constrained(
        a: Annotated[str, Query(min_length=2, max_length=4, pattern="^[a-z]+$")], b: Annotated[int, Query(le=5)] = 5
    ):
        note("query constrained")
        return shown(a, b)

    @app.get("/query/model")
    def query_model(filters: Annotated[Filters, Query()]):
        note("query model")
        return filters

    @app.get("/query/alias")
    async def query_alias(a: Annotated[int, Query(alias="other-name")] = 0):
        note("query alias")
        return shown(a)

    @app.get("/query/time")
    def query_time(a: datetime.datetime, b: datetime.date | None = None, c: uuid.UUID | None = None):
        note("query time")
        return [a, b, c]


def _add_headers(app: FastAPI, note: Note) -> None:
    @app.get("/header/one")
    def header_one(x_token: Annotated[str, Header()]):
        note("header one")
        return shown(x_token)

    @app.get("/header/list")
    async def header_list(x_token: Annotated[list[str] | None, Header()] = None):
        note("header list")
        return shown(x_token)

    @app.get("/header/int")
    def header_int(x_number: Annotated[int, Header(ge=0)] = 7, user_agent: Annotated[str | None, Header()] = None):
        note("header int")
        return shown(x_number, user_agent)

    @app.get("/cookie/one")
    def cookie_one(a: Annotated[str, Cookie()]):
        note("cookie one")
        return shown(a)

    @app.get("/cookie/two")
    async def cookie_two(a: Annotated[int | None, Cookie()] = None, b: Annotated[bool, Cookie()] = True):
        note("cookie two")
        return shown(a, b)

    @app.get("/all/{a}")
    async def all_sources(
        a: int, b: Annotated[float, Query()], x_token: Annotated[str, Header()] = "none", d: Annotated[Color | None, Cookie()] = None
    ):
        note("all")
        return shown(a, b, x_token, d)


def _add_bodies(app: FastAPI, note: Note) -> None:
    @app.post("/body/model")
    def body_model(item: Item):
        note("body model")
        return item

    @app.post("/body/model/async", status_code=201)
    async def body_model_async(item: Item) -> Item:
        note("body model async")
        return item

    @app.post("/body/list")
    def body_list(points: list[Point]):
        note("body list")
        return points

    @app.post("/body/union")
    async def body_union(value: Point | Item | int):
        note("body union")
        return {"type": type(value).__name__, "value": value}

    @app.post("/body/tree")
    def body_tree(tree: Tree) -> Tree:
        note("body tree")
        return tree

    @app.post("/body/embed")
    async def body_embed(a: Annotated[int, Body(embed=True, ge=0)]):
        note("body embed")
        return shown(a)

    @app.post("/body/two")
    def body_two(point: Point, item: Item, importance: Annotated[int, Body()] = 0):
        note("body two")
        return [point, item, importance]

    @app.put("/body/item/{a}")
    async def body_put(a: int, point: Point, q: str | None = None):
        note("body put")
        return {"a": a, "point": point, "q": q}

    @app.post("/body/any")
    def body_any(value: Annotated[Any, Body()]):
        note("body any")
        return {"value": value}

    @app.patch("/body/optional")
    async def body_optional(point: Point | None = None):
        note("body optional")
        return {"point": point}

    @app.post("/body/bytes")
    def body_bytes(value: Annotated[bytes, Body(media_type="application/octet-stream")]):
        note("body bytes")
        return len(value)


def _add_forms(app: FastAPI, note: Note) -> None:
    @app.post("/form")
    def form(a: Annotated[int, Form()], b: Annotated[str, Form()] = "b"):
        note("form")
        return shown(a, b)

    @app.post("/upload")
    async def upload(file: UploadFile, note_: Annotated[str, Form(alias="note")] = ""):
        note("upload")
        return {"name": file.filename, "size": len(await file.read()), "type": file.content_type, "note": note_}

    @app.post("/upload/bytes")
    def upload_bytes(file: Annotated[bytes, File()]):
        note("upload bytes")
        return len(file)

    @app.api_route("/methods", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def methods(a: int = 1):
        note("methods")
        return shown(a)

    @app.head("/head")
    def head():
        note("head")
        return {"never": "sent"}

    @app.options("/options")
    async def options():
        note("options")
        return {"allow": "all"}
