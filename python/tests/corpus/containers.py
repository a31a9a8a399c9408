"""More than one value from the head of a request or a form: lists, sets, tuples, and models of fields."""

import dataclasses
import datetime
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import Cookie, Form, Header, Query
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Json, computed_field, field_validator, model_validator

from .ask import Ask, Pairs
from .kit import Kit, show
from .scalars import SOURCES, Color, good, taking

#: Name: annotation, good texts.
TYPES: dict[str, tuple[Any, list[str]]] = {
    "list": (list, ["a", "b"]),
    "list_int": (list[int], ["1", "2"]),
    "list_optional": (list[str] | None, ["a"]),
    "set_str": (set[str], ["b", "a", "b"]),
    "frozenset": (frozenset[int], ["1", "1"]),
    "tuple": (tuple[int, str], ["1", "a"]),
    "tuple_any": (tuple[float, ...], ["1.5", "2"]),
    "list_enum": (list[Color], ["red", "blue"]),
    "list_bounded": (Annotated[list[int], Field(min_length=1, max_length=2)], ["1", "2"]),
    "list_items": (list[Annotated[int, Field(ge=2)]], ["2", "3"]),
    "list_union": (list[int | str], ["1", "a"]),
    "union_list": (int | list[int], ["1"]),
    "list_dates": (list[datetime.date], ["2026-01-02"]),
    "json": (Json[list[int]], ["[1,2]"]),
}


def add_lists(kit: Kit) -> None:
    for source, declare in SOURCES.items():
        wire_name = "the-value" if source == "header" else "the_value"
        for number, (name, (annotation, texts)) in enumerate(TYPES.items()):
            asked = good(f"/{source}/{name}", source, wire_name, texts[0])
            pairs = tuple((wire_name, text) for text in texts)
            asked = _with(asked, source, pairs)
            kit.route(f"/{source}/{name}", taking(kit, Annotated[annotation, declare()], is_async=bool(number % 2)), asked)
        for name, default in {"none": None, "empty": [], "given": ["d"]}.items():
            path = f"/{source}/default/{name}"
            endpoint = taking(kit, Annotated[list[str] | None, declare()], default)
            kit.route(path, endpoint, good(path, source, wire_name, "a"))
        path = f"/{source}/aliased"
        kit.route(path, taking(kit, Annotated[list[int], declare(alias="other-name")]), good(path, source, "other-name", "1"))


def _with(ask: Ask, source: str, pairs: Pairs) -> Ask:
    return dataclasses.replace(ask, **{{"query": "query", "header": "headers", "cookie": "cookies", "form": "form"}[source]: pairs})


def models(kit: Kit) -> dict[str, tuple[type[BaseModel], Pairs]]:
    """Name: a model of fields, and pairs that make one."""

    class Plain(BaseModel):
        limit: int = Field(10, gt=0, le=100)
        order_by: Literal["created_at", "updated_at"] = "created_at"
        tags: list[str] = []

    class Forbidding(BaseModel):
        model_config = ConfigDict(extra="forbid")
        a: int
        b: str | None = None

    class Allowing(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int = 1

    class Aliased(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        item_id: int = Field(alias="itemId")
        other: str = Field("o", validation_alias="other-one")

    class Choosing(BaseModel):
        a: int = Field(validation_alias=AliasChoices("a", "b"))

    class Validating(BaseModel):
        a: int
        b: int = Field(default_factory=lambda: kit.mark("factory") or 5)

        @field_validator("a")
        @classmethod
        def _even(cls, value: int) -> int:
            kit.mark(f"validate {value}")
            if value % 2:
                raise ValueError("odd")
            return value

        @model_validator(mode="after")
        def _larger(self) -> "Validating":
            kit.note(f"validate model {self.a} {self.b}")
            if self.a > 100:
                raise ValueError("too large")
            return self

        @computed_field
        @property
        def total(self) -> int:
            return self.a + self.b

    class Child(Plain):
        x_token: str = "t"
        when: datetime.datetime | None = None

    return {
        "plain": (Plain, (("limit", "5"), ("order_by", "updated_at"), ("tags", "a"), ("tags", "b"))),
        "forbidding": (Forbidding, (("a", "1"), ("b", "x"))),
        "allowing": (Allowing, (("a", "1"), ("c", "2"))),
        "aliased": (Aliased, (("itemId", "1"), ("other-one", "x"))),
        "choosing": (Choosing, (("b", "1"),)),
        "validating": (Validating, (("a", "2"), ("b", "3"))),
        "child": (Child, (("limit", "5"), ("x-token", "x"), ("when", "2026-01-02T03:04:05Z"))),
    }


def add_models(kit: Kit) -> None:
    declared: dict[str, Callable[..., Any]] = {"query": Query, "header": Header, "cookie": Cookie, "form": Form}
    for source, declare in declared.items():
        for number, (name, (model, pairs)) in enumerate(models(kit).items()):
            path = f"/{source}/{name}"
            asked = _with(good(path, source, "a", "1"), source, pairs)
            kit.route(path, taking(kit, Annotated[model, declare()], is_async=bool(number % 2)), asked)
    kinds = models(kit)
    _add_mixtures(kit, kinds["plain"][0], kinds["aliased"][0])


def _add_mixtures(kit: Kit, plain: Any, aliased: Any) -> None:
    @kit.app.get("/mixed/query")
    def mixed_query(filters: Annotated[plain, Query()], request_id: Annotated[str | None, Header()] = None):
        kit.note("endpoint")
        return [show(filters), request_id]

    @kit.app.get("/mixed/all/{a}")
    async def mixed_all(a: int, q: Annotated[plain, Query()], h: Annotated[aliased, Header()], c: Annotated[plain, Cookie()]):
        kit.note("endpoint")
        return [a, show(q), show(h), show(c)]

    @kit.app.get("/mixed/underscores")
    def mixed_underscores(h: Annotated[plain, Header(convert_underscores=False)]):
        kit.note("endpoint")
        return h

    @kit.app.get("/mixed/returned")
    def mixed_returned(q: Annotated[plain, Query()]) -> plain:
        kit.note("endpoint")
        return q

    kit.ask(
        Ask("/mixed/query", query=(("limit", "5"), ("tags", "a")), headers=(("request-id", "r"),)),
        Ask("/mixed/all/{}", values=(("a", "1"),), query=(("limit", "2"),), headers=(("itemId", "3"),), cookies=(("limit", "4"),)),
        Ask("/mixed/underscores", headers=(("order_by", "updated_at"), ("order-by", "created_at"))),
        Ask("/mixed/returned", query=(("tags", "a"), ("tags", "b"))),
    )
