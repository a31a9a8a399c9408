# ruff: noqa: E501 - tables of inputs read best as long lines
"""Response models: by annotation and by `response_model`, with each option, of each kind that FastAPI takes; and what does not fit."""

import dataclasses
import datetime
import decimal
import enum
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

from fastapi import Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, RootModel, computed_field, field_validator

from .ask import Ask
from .kit import Kit, returning

T = TypeVar("T")


class User(BaseModel):
    name: str
    email: str | None = None
    tags: list[str] = []
    item_id: int = Field(5, alias="itemId")
    model_config = ConfigDict(populate_by_name=True)


class Private(User):
    password: str = "secret"

    @computed_field
    @property
    def shout(self) -> str:
        return self.name.upper()


class Deep(BaseModel):
    user: User
    users: dict[str, User] = {}
    at: datetime.datetime = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    cost: decimal.Decimal = decimal.Decimal("1.10")


class FromObject(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    name: str = "d"


class Page(BaseModel, Generic[T]):  # noqa: UP046 - as most apps have it
    items: list[T]
    total: int = 0


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Typed(TypedDict):
    a: int
    b: NotRequired[str]


@dataclasses.dataclass
class Data:
    a: int
    b: list[Cat] = dataclasses.field(default_factory=list)


class Coordinate(NamedTuple):
    x: int
    y: int = 2


class Ids(RootModel[list[int]]):
    pass


class Shade(enum.Enum):
    DARK = "dark"


class Row:
    """As an ORM has it."""

    def __init__(self, id: Any = 1, **more: Any) -> None:
        self.id = id
        self.__dict__.update(more)


Money = Annotated[decimal.Decimal, PlainSerializer(lambda value: f"{value} €", return_type=str)]

#: Name: the model, and what is returned: good, then what is converted or filtered, then what does not fit.
MODELS: dict[str, tuple[Any, list[Callable[[], Any]]]] = {
    "model": (User, [lambda: User(name="n"), lambda: Private(name="n"), lambda: {"name": "n", "itemId": "7", "more": 1}, dict, lambda: None]),
    "list": (list[User], [lambda: [User(name="n")], list, lambda: (Private(name="n"), {"name": "m"}), lambda: [{"name": 1}], lambda: User(name="n")]),
    "dict": (dict[str, User], [lambda: {"a": User(name="n")}, lambda: {"a": {"name": "n"}}, lambda: {1: User(name="n")}, list]),
    "deep": (Deep, [lambda: Deep(user=User(name="n")), lambda: {"user": Private(name="n"), "users": {"a": {"name": "b"}}}, lambda: {"user": 1}]),
    "optional": (User | None, [lambda: None, lambda: User(name="n"), lambda: 1]),
    "union": (Cat | Dog, [Dog, lambda: {"kind": "cat"}, lambda: {"kind": "cow"}]),
    "discriminated": (Annotated[Cat | Dog, Field(discriminator="kind")], [Cat, lambda: {"kind": "dog"}, dict]),
    "list_union": (list[Cat | Dog], [lambda: [Cat(), Dog()], lambda: [{"kind": "dog"}]]),
    "generic": (Page[User], [lambda: Page[User](items=[User(name="n")]), lambda: {"items": [{"name": "n"}], "total": "3"}, lambda: Page[Any](items=[1])]),
    "object": (FromObject, [lambda: Row(1), lambda: Row("5", name="n"), lambda: {"id": 1}, lambda: Row("x")]),
    "objects": (list[FromObject], [lambda: [Row(1), Row(2, name="b")], lambda: [Row(None)]]),
    "no_attributes": (User, [lambda: Row(1, name="n"), lambda: Row(1)]),
    "typed": (Typed, [lambda: {"a": 1}, lambda: {"a": "1", "b": "b", "c": 2}, lambda: {"b": "b"}]),
    "dataclass": (Data, [lambda: Data(1), lambda: {"a": "1", "b": [{"lives": 3}]}, lambda: Data("x"), lambda: Row(1, a=1)]),
    "dataclasses": (list[Data], [lambda: [Data(1, [Cat()]), {"a": 2}], lambda: [1]]),
    "namedtuple": (Coordinate, [lambda: Coordinate(1), lambda: (1, 2), lambda: {"x": 1}]),
    "root": (Ids, [lambda: Ids([1]), lambda: ["2"], lambda: "x"]),
    "int": (int, [lambda: 5, lambda: "7", lambda: True, lambda: 1.5, lambda: "x"]),
    "float": (float, [lambda: 1.0, lambda: 1, lambda: 1e16, lambda: float("nan")]),
    "str": (str, [lambda: "ü\u2028", lambda: b"b", lambda: 1]),
    "bool": (bool, [lambda: False, lambda: "yes"]),
    "none": (type(None), [lambda: None, lambda: 1]),
    "any": (Any, [lambda: {"a": decimal.Decimal("1.10")}, lambda: Row(1), lambda: len]),
    "list_any": (list[Any], [lambda: [1, decimal.Decimal("1"), Cat()], lambda: [object()]]),
    "bare_dict": (dict, [lambda: {"a": 1, 2: Cat()}, lambda: {"a": {1}}]),
    "dict_any": (dict[str, Any], [lambda: {"a": datetime.timedelta(1), "b": b"x", "c": 1e16}, lambda: {1: 2}]),
    "list_int": (list[int], [lambda: [1, 2], lambda: ["3"], lambda: {4}, lambda: ["x"]]),
    "set": (set[int], [lambda: {1}, lambda: [1, 1]]),
    "tuple": (tuple[int, str], [lambda: (1, "a"), lambda: [1, "a"], lambda: (1,)]),
    "iterable": (Iterable[int], [lambda: [1, 2], lambda: (number for number in range(2))]),
    "enum": (Shade, [lambda: Shade.DARK, lambda: "dark", lambda: "light"]),
    "literal": (Literal["a", 1], [lambda: "a", lambda: 1, lambda: 2]),
    "datetime": (datetime.datetime, [lambda: datetime.datetime(2026, 1, 2), lambda: "2026-01-02T03:04:05Z", lambda: "x"]),
    "decimal": (decimal.Decimal, [lambda: decimal.Decimal("1.10"), lambda: 1.5]),
    "money": (list[Money], [lambda: [decimal.Decimal("1.10")]]),
    "bytes": (bytes, [lambda: b"b", lambda: "ü", lambda: b"\xff"]),
}  # fmt: skip

OPTIONS: dict[str, dict[str, Any]] = {
    "include": {"response_model_include": {"name", "item_id"}},
    "include_list": {"response_model_include": ["name"]},
    "exclude": {"response_model_exclude": {"email", "tags"}},
    "include_exclude": {"response_model_include": {"name", "email"}, "response_model_exclude": {"email"}},
    "exclude_deep": {"response_model_exclude": {"users": {"a": {"name"}}, "user": {"name"}}},
    "by_name": {"response_model_by_alias": False},
    "exclude_unset": {"response_model_exclude_unset": True},
    "exclude_defaults": {"response_model_exclude_defaults": True},
    "exclude_none": {"response_model_exclude_none": True},
    "text_class": {"response_class": PlainTextResponse},
    "json_class": {"response_class": JSONResponse},
    "status": {"status_code": 201},
}


def add(kit: Kit) -> None:
    """/{annotation or model}/{name}/{number of what is returned}"""
    for name, (model, makes) in MODELS.items():
        for number, make in enumerate(makes):
            kit.route(f"/annotation/{name}/{number}", returning(kit, make, bool(number % 2), model))
            kit.route(f"/model/{name}/{number}", returning(kit, make, not number % 2), response_model=model)
    for option, options in OPTIONS.items():
        for name in ("model", "list", "deep", "dataclass", "dict"):
            model, makes = MODELS[name]
            for number, make in enumerate(makes[:3]):
                kit.route(f"/option/{option}/{name}/{number}", returning(kit, make, bool(number % 2)), response_model=model, **options)
    _add_responses(kit)
    _add_order(kit)


def _add_responses(kit: Kit) -> None:
    def annotated() -> JSONResponse:
        return JSONResponse([1])

    def annotated_union() -> Response | dict[str, int]:
        return {"a": 1}

    async def redirect() -> RedirectResponse:
        return RedirectResponse("/a")

    def returns_model() -> Response:
        return User(name="n")  # type: ignore[return-value]

    def off() -> User:
        return Private(name="n")

    kit.route("/response/annotated", annotated)
    kit.route("/response/union", annotated_union, response_model=None)
    kit.route("/response/redirect", redirect)
    kit.route("/response/model", returns_model)
    kit.route("/response/off", off, response_model=None)
    kit.route("/response/other", off, response_model=FromObject)
    kit.route("/response/despite", annotated, response_model=User)


def _add_order(kit: Kit) -> None:
    """Validators and serializers of what is returned are called when the endpoint has ended."""

    def seen(value: int) -> int:
        kit.mark(f"after {value}")
        return value

    class Checked(BaseModel):
        a: Annotated[int, AfterValidator(seen)]
        b: Annotated[int, PlainSerializer(lambda value: kit.mark("serialize") or value)] = 2
        c: int = Field(default_factory=lambda: kit.mark("factory") or 3)

        @field_validator("b")
        @classmethod
        def _positive(cls, value: int) -> int:
            kit.mark(f"validate {value}")
            if value < 0:
                raise ValueError("negative")
            return value

    def endpoint(b: int = 2) -> Checked:
        kit.mark("endpoint")
        return {"a": "1", "b": b}  # type: ignore[return-value]

    async def instance(b: int = 2) -> Checked:
        kit.mark("endpoint")
        return Checked(a=1, b=b)

    def several(b: int = 2) -> list[Checked]:
        kit.mark("endpoint")
        return [Checked(a=1), {"a": 2, "b": b}]  # type: ignore[list-item]

    for path, chosen in {"/order/dict": endpoint, "/order/instance": instance, "/order/several": several}.items():
        kit.route(path, chosen, Ask(path, query=(("b", "5"),)), Ask(path, query=(("b", "-5"),)))
