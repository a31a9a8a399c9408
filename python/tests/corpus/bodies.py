"""JSON bodies: one, several, embedded; models, scalars, lists, unions."""

import dataclasses
import datetime
import decimal
import enum
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

from fastapi import Body, Query
from pydantic import AliasPath, BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag, field_validator, model_validator

from .ask import with_json
from .kit import Kit, show

T = TypeVar("T")


class Level(enum.Enum):
    LOW = "low"
    HIGH = 2


class Image(BaseModel):
    url: str
    name: str = "n"


class Item(BaseModel):
    name: str = Field(min_length=1)
    price: float = Field(gt=0)
    tags: set[str] = set()
    image: Image | None = None
    level: Level = Level.LOW


class Tree(BaseModel):
    value: int
    children: list["Tree"] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    barks: bool


class Page(BaseModel, Generic[T]):  # noqa: UP046 - as most apps have it
    items: list[T]
    total: int


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    a: int
    when: datetime.datetime | None = None


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int = 1


class Aliased(BaseModel):
    item_name: str = Field(alias="itemName")
    first: int = Field(validation_alias=AliasPath("list", 0))


class Ids(RootModel[list[int]]):
    pass


class Everything(BaseModel):
    id: uuid.UUID
    start: datetime.datetime
    day: datetime.date
    at: datetime.time
    after: datetime.timedelta
    cost: decimal.Decimal


class Typed(TypedDict, total=False):
    a: int
    b: str


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5
    tags: list[str] = dataclasses.field(default_factory=list)


class Coordinate(NamedTuple):
    x: int
    y: int


def kind_of(value: Any) -> str:
    return "list" if isinstance(value, list) else "map"


ITEM = {"name": "n", "price": 1.5, "tags": ["a"], "image": {"url": "u"}, "level": "low"}
EVERYTHING = {
    "id": "00000000-0000-0000-0000-000000000005", "start": "2026-01-02T03:04:05Z", "day": "2026-01-02", "at": "03:04:05",
    "after": 90.5, "cost": "1.10",
}  # fmt: skip

#: Name: annotation, a good value. All that needs no `Body()` is declared without it as well.
SINGLE: dict[str, tuple[Any, Any]] = {
    "model": (Item, ITEM),
    "model_list": (list[Item], [ITEM]),
    "model_dict": (dict[str, Image], {"a": {"url": "u"}}),
    "model_set": (frozenset[int], [1, 2, 2]),
    "model_optional": (Item | None, ITEM),
    "tree": (Tree, {"value": 1, "children": [{"value": 2}]}),
    "union": (Item | Image, {"url": "u"}),
    "union_list": (Image | list[Image], [{"url": "u"}]),
    "discriminated": (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "cat", "lives": 3}),
    "tagged": (Annotated[Annotated[list[int], Tag("list")] | Annotated[dict[str, int], Tag("map")], Discriminator(kind_of)], [1]),
    "generic": (Page[Image], {"items": [{"url": "u"}], "total": 1}),
    "strict": (Strict, {"a": 1}),
    "loose": (Loose, {"a": 1, "b": [2]}),
    "aliased": (Aliased, {"itemName": "n", "list": [3]}),
    "root": (Ids, [1, 2]),
    "everything": (Everything, EVERYTHING),
    "typed": (Typed, {"a": 1, "b": "x"}),
    "dataclass": (Point, {"x": 1, "y": 2}),
    "tuple": (tuple[int, str], [1, "a"]),
    "named_tuple": (Coordinate, [1, 2]),
    "dict": (dict[str, Any], {"a": [1, None, 2.5]}),
    "dict_int": (dict[int, float], {"1": 2}),
    "bare_dict": (dict, {"a": 1}),
    "bare_list": (list, [1, "a"]),
    "mapping": (Mapping[str, int], {"a": 1}),
    "sequence": (Sequence[int], [1]),
    "deque": (deque[int], [1, 2]),
    "set": (set[str], ["a"]),
    "list_any": (list[Any], [1, {"a": None}]),
    "nested": (dict[str, list[dict[str, int]]], {"a": [{"b": 1}]}),
}

#: These are scalars, a body only by `Body()`.
SCALARS: dict[str, tuple[Any, Any]] = {
    "int": (int, 5),
    "float": (float, 1.5),
    "str": (str, "text"),
    "bool": (bool, True),
    "any": (Any, {"a": 1}),
    "none": (None, None),
    "bytes": (bytes, "raw"),
    "enum": (Level, 2),
    "literal": (Literal["a", 1], "a"),
    "date": (datetime.date, "2026-01-02"),
    "optional": (int | None, 5),
    "bounded": (Annotated[int, Field(ge=1, le=9)], 5),
    "union": (int | str, "5"),
    "union_model": (int | Image, {"url": "u"}),
}


def taking(kit: Kit, annotation: Any, default: Any, is_async: bool) -> Callable[..., Any]:
    if is_async:

        async def endpoint_async(body):  # type: ignore[no-untyped-def]
            kit.note("endpoint")
            return show(body)

        endpoint: Callable[..., Any] = endpoint_async
    else:

        def endpoint_sync(body):  # type: ignore[no-untyped-def]
            kit.note("endpoint")
            return show(body)

        endpoint = endpoint_sync
    endpoint.__annotations__ = {"body": annotation}
    if default is not ...:
        endpoint.__defaults__ = (default,)  # type: ignore[attr-defined]
    return endpoint


def add_single(kit: Kit) -> None:
    """/{form}/{name}, with one argument `body`."""
    for number, (name, (annotation, value)) in enumerate((SINGLE | SCALARS).items()):
        is_async = bool(number % 2)
        if name in SINGLE:
            kit.route(f"/inferred/{name}", taking(kit, annotation, ..., is_async), with_json(f"/inferred/{name}", value))
            kit.route(f"/optional/{name}", taking(kit, annotation | None, None, is_async), with_json(f"/optional/{name}", value, "PUT"))
        kit.route(f"/declared/{name}", taking(kit, Annotated[annotation, Body()], ..., is_async), with_json(f"/declared/{name}", value))
        kit.route(
            f"/embedded/{name}",
            taking(kit, Annotated[annotation, Body(embed=True)], ..., is_async),
            with_json(f"/embedded/{name}", {"body": value}),
        )
    for name, default in {"int": 5, "list": [1], "dict": {"a": 1}, "model": Image(url="d"), "none": None}.items():
        path = f"/default/{name}"
        kit.route(path, taking(kit, Annotated[Any, Body()], default, False), with_json(path, {"a": 2}))
        path = f"/old/{name}"
        kit.route(path, taking(kit, Any, Body(default), True), with_json(path, {"a": 2}))


def add_several(kit: Kit) -> None:
    class Checked(BaseModel):
        a: int
        b: list[int] = Field(default_factory=lambda: [kit.mark("factory") or 1])

        @field_validator("a")
        @classmethod
        def _even(cls, value: int) -> int:
            kit.mark(f"validate {value}")
            if value % 2:
                raise ValueError("odd")
            return value

        @model_validator(mode="before")
        @classmethod
        def _before(cls, value: Any) -> Any:
            kit.note("validate before")
            return value

    def factory() -> int:
        kit.mark("factory")
        return 7

    def two(a: Item, b: Image):
        kit.note("endpoint")
        return [a, b]

    async def model_and_scalar(item: Item, n: Annotated[int, Body(gt=0)], q: str | None = None):
        kit.note("endpoint")
        return [item, n, q]

    def all_optional(a: Item | None = None, b: Annotated[int | None, Body()] = None):
        kit.note("endpoint")
        return [a, b]

    async def aliased(a: Annotated[int, Body(alias="first")], b: Annotated[list[int], Body(validation_alias="second")]):
        kit.note("endpoint")
        return [a, b]

    def factories(a: Annotated[int, Body(default_factory=factory)], b: Annotated[list[int], Body(default_factory=list)]):
        kit.note("endpoint")
        return [a, b]

    def checked(body: Checked):
        kit.note("endpoint")
        return body

    async def checked_two(a: Checked, b: Checked | None = None):
        kit.note("endpoint")
        return [a, b]

    def path_query_body(item_id: int, item: Item, q: Annotated[str | None, Query(max_length=3)] = None):
        kit.note("endpoint")
        return {"item_id": item_id, **item.model_dump(mode="json", exclude_unset=True), "q": q}

    async def examples(item: Annotated[Item, Body(examples=[ITEM], title="T", media_type="application/x-json")]):
        kit.note("endpoint")
        return item

    def factory_alone(body: Annotated[dict[str, int], Body(default_factory=dict)]):
        kit.note("endpoint")
        return show(body)

    two_items = {"a": ITEM, "b": {"url": "u"}}
    kit.route("/two", two, with_json("/two", two_items))
    kit.route("/model_and_scalar", model_and_scalar, with_json("/model_and_scalar", {"item": ITEM, "n": 5}, query=(("q", "x"),)))
    kit.route("/all_optional", all_optional, with_json("/all_optional", {"a": ITEM, "b": 5}, "PUT"))
    kit.route("/aliased", aliased, with_json("/aliased", {"first": 1, "second": [2]}))
    kit.route("/factories", factories, with_json("/factories", {"a": 1, "b": [2]}))
    kit.route("/checked", checked, with_json("/checked", {"a": 2}))
    kit.route("/checked_two", checked_two, with_json("/checked_two", {"a": {"a": 2}, "b": {"a": 4, "b": [1]}}))
    path = "/path_query_body/{}"
    kit.route(path.format("{item_id}"), path_query_body, with_json(path, ITEM, "PUT", values=(("item_id", "5"),), query=(("q", "x"),)))
    kit.route("/examples", examples, with_json("/examples", ITEM))
    kit.route("/factory_alone", factory_alone, with_json("/factory_alone", {"a": 1}))
    kit.route("/deleted", checked, with_json("/deleted", {"a": 2}, "DELETE"))
    kit.route("/got", checked, with_json("/got", {"a": 2}, "GET"))
