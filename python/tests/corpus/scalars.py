"""One value from the head of a request, or from a form: each source, each type, each form of declaration."""

import datetime
import decimal
import enum
import functools
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, NewType

from annotated_types import Ge, Le
from fastapi import Cookie, Form, Header, Path, Query
from pydantic import AfterValidator, BeforeValidator, HttpUrl, PlainValidator, SecretStr, StringConstraints

from .ask import Ask
from .kit import Kit, show


class Color(str, enum.Enum):  # noqa: UP042 - as the tutorial has it
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 5


UserId = NewType("UserId", int)
type Page = Annotated[int, Ge(1)]


def even(value: int) -> int:
    if value % 2:
        raise ValueError("odd")
    return value


#: Name: annotation, a good text, a default.
TYPES: dict[str, tuple[Any, str, Any]] = {
    "str": (str, "text", "d"),
    "int": (int, "5", 3),
    "float": (float, "1.5", 2.5),
    "bool": (bool, "yes", True),
    "any": (Any, "x", 1),
    "decimal": (decimal.Decimal, "1.10", decimal.Decimal("2.0")),
    "datetime": (datetime.datetime, "2026-01-02T03:04:05Z", datetime.datetime(2026, 1, 2)),
    "date": (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)),
    "time": (datetime.time, "03:04:05", datetime.time(3, 4)),
    "timedelta": (datetime.timedelta, "PT90S", datetime.timedelta(seconds=90)),
    "uuid": (uuid.UUID, "00000000-0000-0000-0000-000000000005", uuid.UUID(int=7)),
    "bytes": (bytes, "raw", b"b"),
    "enum": (Color, "red", Color.BLUE),
    "intenum": (Size, "5", Size.SMALL),
    "literal": (Literal["a", "b"], "b", "a"),
    "newtype": (UserId, "5", UserId(1)),
    "range": (Annotated[int, Ge(1), Le(5)], "5", 2),
    "pattern": (Annotated[str, StringConstraints(pattern="^[a-z]+$", max_length=5)], "abc", "d"),
    "strip": (Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True)], "abc", "D"),
    "union": (int | str, "5", "u"),
    "after": (Annotated[int, AfterValidator(even)], "4", 2),
    "before": (Annotated[int, BeforeValidator(lambda text: str(text).replace("x", "5"))], "1x", 2),
    "plain": (Annotated[str, PlainValidator(lambda text: f"<{text}>")], "a", "p"),
    "secret": (SecretStr, "s", SecretStr("d")),
    "url": (HttpUrl, "http://a.test/b", None),
}

#: What FastAPI's declarations take beside pydantic's.
OPTIONS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "bounds": (int, {"gt": 0, "le": 9}, "5"),
    "multiple": (float, {"multiple_of": 0.5}, "1.5"),
    "lengths": (str, {"min_length": 2, "max_length": 4}, "abc"),
    "pattern": (str, {"pattern": "^[a-z]+$"}, "abc"),
    "strict": (bool, {"strict": True}, "true"),
    "finite": (float, {"allow_inf_nan": False}, "1.5"),
    "digits": (decimal.Decimal, {"max_digits": 3, "decimal_places": 1}, "1.5"),
    "described": (int, {"title": "T", "description": "d", "deprecated": True, "examples": [1]}, "5"),
    "hidden": (int, {"include_in_schema": False}, "5"),
}

SOURCES: dict[str, Callable[..., Any]] = {"query": Query, "header": Header, "cookie": Cookie, "form": Form}


def good(path: str, source: str, name: str, text: str) -> Ask:
    """A request that gives this one value."""
    pairs = ((name, text),)
    if source == "path":
        return Ask(path, values=pairs)
    if source == "form":
        return Ask(path, "POST", form=pairs)
    place = {"query": "query", "header": "headers", "cookie": "cookies"}[source]
    return Ask(path, **{place: pairs})


def taking(kit: Kit, annotation: Any, default: Any = ..., is_async: bool = False) -> Callable[..., Any]:
    """An endpoint with the argument `the_value`."""
    if is_async:

        async def endpoint_async(the_value):  # type: ignore[no-untyped-def]
            kit.note("endpoint")
            return show(the_value)

        endpoint: Callable[..., Any] = endpoint_async
    else:

        def endpoint_sync(the_value):  # type: ignore[no-untyped-def]
            kit.note("endpoint")
            return show(the_value)

        endpoint = endpoint_sync
    endpoint.__annotations__ = {"the_value": annotation}
    if default is not ...:
        endpoint.__defaults__ = (default,)  # type: ignore[attr-defined]
    return endpoint


def add_source(source: str, kit: Kit) -> None:
    """/{source}/{form}/{type}; forms: required, optional, default, old (declared by default value), alias, factory."""
    declare = SOURCES[source]
    wire_name = "the-value" if source == "header" else "the_value"
    for number, (name, (annotation, text, default)) in enumerate(TYPES.items()):
        is_async = bool(number % 2)
        forms: dict[str, tuple[Any, Any]] = {
            "required": (Annotated[annotation, declare()], ...),
            "optional": (Annotated[annotation | None, declare()], None),
            "default": (Annotated[annotation, declare()], default),
            "old": (annotation, declare(default)),
        }
        if number > 6 and source != "query":  # one kind of default for the rest of them
            del forms["old" if is_async else "default"]
        for form, (declared, value) in forms.items():
            path = f"/{source}/{form}/{name}"
            kit.route(path, taking(kit, declared, value, is_async), good(path, source, wire_name, text))
    for name, (annotation, options, text) in OPTIONS.items():
        path = f"/{source}/options/{name}"
        kit.route(path, taking(kit, Annotated[annotation, declare(**options)]), good(path, source, wire_name, text))
    _add_names(source, wire_name, declare, kit)


def _add_names(source: str, wire_name: str, declare: Callable[..., Any], kit: Kit) -> None:
    for name, alias in {"alias": "other-name", "odd": "X Item!", "upper": "Other-NAME"}.items():
        path = f"/{source}/alias/{name}"
        sent = alias.replace(" ", "+").replace("!", "%21") if source in ("query", "form") else alias
        if source != "header" or name != "odd":
            kit.route(path, taking(kit, Annotated[int, declare(alias=alias)]), good(path, source, sent, "5"))
    path = f"/{source}/alias/validation"
    kit.route(path, taking(kit, Annotated[int, declare(validation_alias="v")]), good(path, source, "v", "5"))
    path = f"/{source}/alias/both"
    kit.route(path, taking(kit, Annotated[int, declare(alias="a", validation_alias="v")]), good(path, source, "v", "5"))
    if source == "header":
        path = "/header/underscores"
        kit.route(path, taking(kit, Annotated[int, Header(convert_underscores=False)]), good(path, source, "the_value", "5"))

    def factory() -> int:
        kit.mark("factory")
        return 4

    path = f"/{source}/factory"
    kit.route(path, taking(kit, Annotated[int, declare(default_factory=factory)]), good(path, source, wire_name, "5"))
    path = f"/{source}/factory/list"
    kit.route(path, taking(kit, Annotated[list[int], declare(default_factory=list)]), good(path, source, wire_name, "5"))


add_query = functools.partial(add_source, "query")
add_header = functools.partial(add_source, "header")
add_cookie = functools.partial(add_source, "cookie")
add_form = functools.partial(add_source, "form")


def add_path(kit: Kit) -> None:
    """/path/{form}/{type}/{the_value}"""
    for number, (name, (annotation, text, _)) in enumerate(TYPES.items()):
        path, asked = f"/path/required/{name}/{{the_value}}", f"/path/required/{name}/{{}}"
        kit.route(path, taking(kit, Annotated[annotation, Path()], is_async=bool(number % 2)), good(asked, "path", "the_value", text))
    for name in ("str", "int", "float", "bool", "enum", "uuid"):
        annotation, text, _ = TYPES[name]
        path, asked = f"/path/inferred/{name}/{{the_value}}", f"/path/inferred/{name}/{{}}"
        kit.route(path, taking(kit, annotation), good(asked, "path", "the_value", text))
    for name, (annotation, options, text) in OPTIONS.items():
        path, asked = f"/path/options/{name}/{{the_value}}", f"/path/options/{name}/{{}}"
        kit.route(path, taking(kit, Annotated[annotation, Path(**options)]), good(asked, "path", "the_value", text))
    for convertor, text in {"int": "5", "float": "1.5", "path": "a/b", "uuid": str(uuid.UUID(int=5)), "str": "a"}.items():
        path, asked = f"/path/convertor/{convertor}/{{the_value:{convertor}}}", f"/path/convertor/{convertor}/{{}}"
        annotation = {"path": str, "str": str}.get(convertor) or TYPES[convertor][0]
        kit.route(path, taking(kit, annotation), good(asked, "path", "the_value", text))
        path, asked = f"/path/text/{convertor}/{{the_value:{convertor}}}", f"/path/text/{convertor}/{{}}"
        kit.route(path, taking(kit, str), good(asked, "path", "the_value", text))

    @kit.app.get("/path/several/{a}/x/{b}")
    def several(b: int, a: str, c: float = 0.5):
        kit.note("endpoint")
        return [a, b, c]

    kit.ask(Ask("/path/several/{}/x/{}", values=(("a", "1"), ("b", "2")), query=(("c", "3"),)))
