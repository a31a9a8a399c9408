"""What the installed FastAPI makes of arguments, asked of itself: which of its releases changed it is written down nowhere.

Here: small signatures with known input, and what has to come of them. Not here: plans (arguments.py), which leave to the app's own call
whatever has another answer here. FastAPI's private parts are called only to find disagreement: without them nothing is known.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Header, Query
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Json
from starlette.datastructures import Headers, QueryParams


class Rules:
    """How arguments are read. PERF: each sample costs a millisecond or two at start, so only what an app has is asked."""

    @functools.cached_property
    def defaults_are_validated(self) -> bool | None:
        """Whether the default of a query parameter that was not sent is validated: 0.141 does, 0.165 does not. None: cannot tell."""
        return _defaults_are_validated()

    @functools.cached_property
    def errors_are_known(self) -> bool:
        """Whether one missing or wrong value is worded as `invalid.py` does."""
        return _holds(_one_value)

    @functools.cached_property
    def forms_are_known(self) -> bool:
        """Whether lists, texts of JSON and computed defaults are read as by 0.165."""
        return _holds(_computed)

    @functools.cached_property
    def lists_are_known(self) -> bool:
        """Whether several values of one name, in query or headers, are read so. FastAPI 0.141 does too, and validates their default."""
        return self.forms_are_known or (self.defaults_are_validated is True and _holds(_lists))

    @functools.cached_property
    def models_are_known(self) -> bool:
        """The same of models, and of a value that has several names."""
        return _holds(_computed, _names, _models, _headers)

    @functools.cached_property
    def bodies_are_known(self) -> bool:
        """The same of several bodies, and of one within an object, but for a value that is `null`."""
        return _holds(_bodies) and (self.takes_null or _holds(_no_null))

    @functools.cached_property
    def takes_null(self) -> bool:
        """Whether `null` in a body is a value: before 0.165 it is as if nothing was sent."""
        return _holds(_null)


@functools.cache
def rules() -> Rules:
    """Those of the installed FastAPI."""
    return Rules()


def _holds(*samples: Callable[[], bool]) -> bool:
    try:
        return all(sample() for sample in samples)
    except Exception:  # FastAPI has other parts now, or they take other arguments
        return False


def _defaults_are_validated() -> bool | None:
    def endpoint(number: float = 1) -> None: ...

    try:
        values, errors = _from_query(endpoint, "")
        value = values["number"]
    except Exception:
        return None
    return type(value) is float if not errors and value == 1 else None


def _from_query(endpoint: Callable[..., None], query: str) -> tuple[dict[str, Any], list[Any]]:
    from fastapi.dependencies.utils import get_dependant, request_params_to_args

    values, errors = request_params_to_args(get_dependant(path="/", call=endpoint).query_params, QueryParams(query))
    return values, list(errors)


def _from_body(endpoint: Callable[..., None], body: object) -> tuple[dict[str, Any], list[Any]]:
    from fastapi.dependencies.utils import _should_embed_body_fields, get_dependant, request_body_to_args

    fields = get_dependant(path="/", call=endpoint).body_params
    reading = request_body_to_args(body_fields=fields, received_body=body, embed_body_fields=_should_embed_body_fields(fields))
    try:
        reading.send(None)
    except StopIteration as done:
        values, errors = done.value
        return values, list(errors)
    raise RuntimeError("it waits for something")


def _missing(*loc: str) -> dict[str, Any]:
    return {"type": "missing", "loc": loc, "msg": "Field required", "input": None}


def _wrong(text: object, *loc: str | int) -> dict[str, Any]:
    message = "Input should be a valid integer, unable to parse string as an integer"
    return {"type": "int_parsing", "loc": loc, "msg": message, "input": text}


def _one_value() -> bool:
    def scalars(a: int, b: int, c: int = 1) -> None: ...

    def body(a: Annotated[int, Body()]) -> None: ...

    (_, of_query), (_, of_body) = _from_query(scalars, "a=x&c=y"), _from_body(body, "x")
    expected = [_wrong("x", "query", "a"), _missing("query", "b"), _wrong("y", "query", "c"), _wrong("x", "body")]
    # In this order within an error, too: it is the order of the JSON.
    return repr(of_query + of_body) == repr(expected)


def _computed() -> bool:
    calls: list[int] = []

    def compute() -> int:
        calls.append(1)
        return len(calls)

    def endpoint(
        a: Annotated[int, Query(default_factory=compute)],
        b: Annotated[list[int], Query()] = [7],  # noqa: B006 - what FastAPI makes of it is the question
        c: Annotated[int, Query(validate_default=True)] = "3",  # type: ignore[assignment]
        d: Annotated[list[int] | None, Query()] = None,
        e: Annotated[Json[list[int]], Query()] = None,  # type: ignore[assignment]
    ) -> None: ...

    first, second = _from_query(endpoint, ""), _from_query(endpoint, "d=1&d=&d=x&e=[2]&e=[3]")
    errors = [_wrong("", "query", "d", 1), _wrong("x", "query", "d", 2)]
    values = ({"a": 1, "b": [7], "c": 3, "d": None, "e": None}, {"a": 2, "b": [7], "c": 3, "e": [3]})
    return first == (values[0], []) and second == (values[1], errors)


def _lists() -> bool:
    def endpoint(
        c: Annotated[set[str], Query()],
        a: Annotated[list[int] | None, Query()] = None,
        b: Annotated[set[int], Query()] = [7],  # type: ignore[assignment] # noqa: B006 - what FastAPI makes of it is the question
    ) -> None: ...

    without, some, wrong = (_from_query(endpoint, query) for query in ("", "c=1&c=", "a=1&a=&a=x&b=y&c=2&b=3"))
    absent = {"a": None, "b": {7}}
    errors = [_wrong("", "query", "a", 1), _wrong("x", "query", "a", 2), _wrong("y", "query", "b", 0)]
    return without == (absent, [_missing("query", "c")]) and some == ({**absent, "c": {"1", ""}}, []) and wrong == ({"c": {"2"}}, errors)


def _names() -> bool:
    def endpoint(a: Annotated[int, Query(validation_alias=AliasChoices("a1", "a2"))] = 0) -> None: ...

    first, second, third = (_from_query(endpoint, query) for query in ("", "a2=5&a2=6", "a2=5&a1="))
    return (first, second, third) == (({"a": 0}, []), ({"a": 6}, []), ({}, [_wrong("", "query", "a1")]))


def _models() -> bool:
    class First(BaseModel):
        model_config = ConfigDict(extra="allow", populate_by_name=True)
        a: int = Field(5, alias="A")
        many: list[int] = []

    class Second(BaseModel):
        model_config = ConfigDict(extra="forbid")
        b: int

    def several(first: Annotated[First, Query()], second: Annotated[Second | None, Query()] = None, c: int = 1) -> None: ...

    values, errors = _from_query(several, "many=1&x=1&a=2&x=2&c=3&many=4&a=6&b=7")
    first = values["first"]
    read = {"a": "6", "many": ["1", "4"], "x": ["1", "2"], "c": "3", "b": "7"}
    extra = [
        {"type": "extra_forbidden", "loc": ("query", name), "msg": "Extra inputs are not permitted", "input": text}
        for name, text in {"many": ["1", "4"], "x": ["1", "2"], "a": ["2", "6"], "c": "3"}.items()
    ]
    is_first = first.a == 6 and first.many == [1, 4] and first.model_extra == {name: read[name] for name in ("x", "c", "b")}
    without = _from_query(several, "")
    return is_first and errors == extra and values["c"] == 3 and without[0]["second"] is None and without[0]["first"].a == 5


def _headers() -> bool:
    from fastapi.dependencies.utils import get_dependant, request_params_to_args

    class Fields(BaseModel):
        model_config = ConfigDict(extra="forbid")
        x_one: int
        x_two: list[str] = []
        x_three: int = 0

    def endpoint(fields: Annotated[Fields, Header()]) -> None: ...

    lines = [(b"x-one", b"y"), (b"x-two", b"a"), (b"x_one", b"1"), (b"x-two", b"b"), (b"x_three", b"z"), (b"other", b"5")]
    _, errors = request_params_to_args(get_dependant(path="/", call=endpoint).header_params, Headers(raw=lines))
    forbidden = {"type": "extra_forbidden", "loc": ("header", "other"), "msg": "Extra inputs are not permitted", "input": "5"}
    return bool(errors == [_wrong("y", "header", "x-one"), forbidden])


def _one(a: Annotated[int | None, Body()] = 4) -> None: ...


def _several(a: Annotated[int, Body()], b: Annotated[int | None, Body(alias="B")] = 4) -> None: ...


def _embedded(a: Annotated[int, Body(embed=True)]) -> None: ...


def _no_body() -> Any:
    """What stands for a body that was not sent."""
    from fastapi.dependencies.utils import solve_dependencies

    return inspect.signature(solve_dependencies).parameters["body"].default


def _bodies() -> bool:
    return (
        _from_body(_one, _no_body()) == ({"a": 4}, [])
        and _from_body(_several, {"a": 1}) == ({"a": 1, "b": 4}, [])
        and _from_body(_several, {"a": 1, "B": 2, "b": 3}) == ({"a": 1, "b": 2}, [])
        and _from_body(_several, [1]) == ({}, [_missing("body", "a"), _missing("body", "B")])
        and _from_body(_several, _no_body()) == ({"b": 4}, [_missing("body", "a")])
        and _from_body(_several, b"{}") == ({"b": 4}, [_missing("body", "a")])
        and _from_body(_embedded, _no_body()) == ({}, [_missing("body", "a")])
        and _from_body(_embedded, {"a": "x"}) == ({}, [_wrong("x", "body", "a")])
    )


def _null() -> bool:
    return (
        _from_body(_one, None) == ({"a": None}, [])
        and _from_body(_several, None) == ({}, [_missing("body", "a"), _missing("body", "B")])
        and _from_body(_several, {"a": 1, "B": None, "b": 2}) == ({"a": 1, "b": None}, [])
    )


def _no_null() -> bool:
    return (
        _from_body(_one, None) == ({"a": 4}, [])
        and _from_body(_several, None) == ({"b": 4}, [_missing("body", "a")])
        and _from_body(_several, {"a": None, "B": None}) == ({"b": 4}, [_missing("body", "a")])
    )
