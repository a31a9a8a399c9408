"""What FastAPI answers where arguments are missing or wrong: the errors of a RequestValidationError, and that exception itself.

Here: what a plan could not fill (python/src/plan.rs) in FastAPI's words. Its stock handler answers with 422 and `{"detail": errors}`, which
`_core` writes. Not here: whether that handler has them (answers.py, leaf.py); an app's own one is called as for any exception.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.types import Scope

from .gathering import Gathering

#: What failed: number of the argument, pydantic's error or None if nothing was sent, and which of its names was looked at, or of each of
#: a model's fields which of its.
Failure = tuple[int, ValidationError | None, int | list[int]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an argument comes from, in words."""

    source: str
    names: tuple[str, ...]
    """Under which it is looked for there; none: it is all of it."""
    gathering: Gathering | None


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of one route."""

    origins: tuple[Origin, ...]
    """Of its arguments, as they are numbered."""
    endpoint: Callable[..., Any]
    path: str

    def errors(self, failures: Sequence[Failure]) -> list[dict[str, Any]]:
        """Errors as FastAPI collects them, in the order of the failures."""
        return [line for number, error, names in failures for line in _lines(self.origins[number], error, names)]

    def malformed(self, error: json.JSONDecodeError) -> list[dict[str, Any]]:
        """The errors where a body is not JSON."""
        context = {"error": error.msg}
        return [{"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error", "input": {}, "ctx": context}]

    def exception(self, errors: list[Any], body: object, cause: json.JSONDecodeError | None, scope: Scope) -> RequestValidationError:
        """What FastAPI would have raised. `body` is what was read of it, None if nothing was sent."""
        context = {**where(self.endpoint), "path": f"{scope['method']} {scope.get('root_path', '').rstrip('/')}{self.path}"}
        error = RequestValidationError(errors, body=body if cause is None else cause.doc, endpoint_ctx=context)  # type: ignore[arg-type]
        error.__cause__ = cause
        return error


def read_json(body: bytes) -> object:
    """As `Request.json` does: what `_core` does not take for JSON may be such for Python, which alone knows the words for what is wrong."""
    return json.loads(body)


#: As FastAPI has it from pydantic.
_MISSING = dict(ValidationError.from_exception_data("", [{"type": "missing", "loc": (), "input": {}}]).errors(include_url=False)[0])


def _lines(origin: Origin, error: ValidationError | None, names: int | list[int]) -> list[dict[str, Any]]:
    loc = (origin.source, *origin.names[names : names + 1]) if isinstance(names, int) else (origin.source,)
    if error is None:
        return [{**_MISSING, "loc": loc, "input": None}]
    lines: list[dict[str, Any]] = [{**line, "loc": (*loc, *line["loc"])} for line in error.errors(include_url=False)]
    if origin.gathering is not None and origin.gathering.rewrites_names and isinstance(names, list):
        _rewrite(lines, _headers(origin.gathering, names))
    return lines


def _headers(gathering: Gathering, names: list[int]) -> dict[str, str]:
    """By field, the header that was read for it, where it has another name."""
    chosen = ((field.name, field.choices[number]) for field, number in zip(gathering.fields, names, strict=True))
    return {name: header for name, (key, header) in chosen if key != header}


def _rewrite(lines: list[dict[str, Any]], headers: dict[str, str]) -> None:
    for line in lines:
        loc = line["loc"]
        if len(loc) > 1 and loc[1] in headers:
            line["loc"] = (loc[0], headers[loc[1]], *loc[2:])


@functools.lru_cache(maxsize=1024)
def where(endpoint: Callable[..., Any]) -> dict[str, Any]:
    """What the message of an exception names: FastAPI's `_extract_endpoint_context`. Reads the source file, once, as it takes milliseconds:
    only after a failure."""
    context: dict[str, Any] = {}
    try:
        if (file := inspect.getsourcefile(endpoint)) is not None:
            context["file"] = file
        context["line"] = inspect.getsourcelines(endpoint)[1]
        if (name := getattr(endpoint, "__name__", None)) is not None:
            context["function"] = name
    except Exception:  # as FastAPI has it
        return {}
    return context
