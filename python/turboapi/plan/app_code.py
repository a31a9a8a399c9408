"""Whether validating a value can run functions of the app's own: validators, factories, a model's `__init__`.

Such a value is validated where FastAPI does it: within the request's own task, whose context those functions see and may change.
Here: pydantic's core schema is searched for them. What is not known for certain counts as the app's. Not here: where it runs.
"""

from __future__ import annotations

import abc
import enum
import functools
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from .absent import SILENT_FACTORIES, is_copied_silently
from .field import KEPT_MAX, ModelField


def runs_app_code(field: ModelField) -> bool:
    """Whether a validation of this field can."""
    return field.kind == "validator" and (field.is_watched or _adapter_runs_any(field.adapter))


# PERF: one adapter serves all fields that validate alike; a schema is gone through once.
@functools.lru_cache(maxsize=KEPT_MAX)
def _adapter_runs_any(adapter: TypeAdapter[Any]) -> bool:
    try:
        return _runs_any(adapter.core_schema)
    except (AttributeError, KeyError, TypeError, RecursionError):
        return True


#: Of which nothing but what is within can call anybody.
_SILENT = {
    "any", "none", "bool", "int", "float", "decimal", "str", "bytes", "date", "time", "datetime", "timedelta", "literal", "url",
    "multi-host-url", "uuid", "complex", "missing-sentinel", "list", "tuple", "set", "frozenset", "dict", "nullable", "union", "chain",
    "lax-or-strict", "json-or-python", "json", "typed-dict", "typed-dict-field", "model-fields", "model-field", "dataclass-args",
    "dataclass-field", "arguments", "definitions", "definition-ref", "custom-error", "callable",
}  # fmt: skip


def _runs_any(schema: Mapping[str, Any]) -> bool:
    kind = schema["type"]
    if kind.startswith("function-"):
        runs = not _is_known(schema["function"]["function"])
    elif kind == "default":
        runs = schema.get("default_factory", list) not in SILENT_FACTORIES or not is_copied_silently(schema.get("default"))
    elif kind == "enum":
        runs = schema.get("missing") is not None
    elif kind in ("is-instance", "is-subclass"):
        runs = type(schema["cls"]) not in (type, abc.ABCMeta, enum.EnumType)
    elif kind == "model":
        runs = _makes_loudly(schema["cls"]) or schema.get("custom_init", False) or not _is_known_method(schema)
    elif kind == "dataclass":
        runs = _makes_loudly(schema["cls"]) or schema.get("post_init", False)
    elif kind == "tagged-union":
        runs = callable(schema["discriminator"])
    else:
        runs = kind not in _SILENT
    return runs or any(_runs_any(part) for part in _parts(schema))


def _parts(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas in this one, not those of its serialization."""
    for key, part in value.items():
        if key not in ("serialization", "metadata", "config", "computed_fields", "ref", "cls"):
            yield from _schemas(part)


def _schemas(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if isinstance(part.get("type"), str):
            yield part
        else:
            for inner in part.values():
                yield from _schemas(inner)
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from _schemas(inner)


def _makes_loudly(kind: type) -> bool:
    return kind.__new__ is not object.__new__


def _is_known_method(schema: Mapping[str, Any]) -> bool:
    name = schema.get("post_init")
    return name is None or _is_known(getattr(schema["cls"], name))


#: Of pydantic's parts, those that hold functions of the app's where nobody sees them.
_HOLDERS = ("pydantic.v1", "pydantic.deprecated", "pydantic.experimental", "pydantic._internal._decorators_v1")


def _is_known(function: Any, depth: int = 4) -> bool:
    """Whether this is pydantic's or Python's own, and calls nothing else."""
    if depth == 0:
        return False
    if isinstance(function, functools.partial):
        held = (function.func, *function.args, *function.keywords.values())
        return all(_is_known(part, depth - 1) for part in held if callable(part))
    if isinstance(function, types.MethodType):
        return _is_known(function.__func__, depth - 1) and (not callable(function.__self__) or _is_known(function.__self__, depth - 1))
    owner = getattr(function, "__objclass__", None)
    module = getattr(owner if owner is not None else function, "__module__", None) or ""
    if module.startswith(_HOLDERS) or module.split(".")[0] not in {"pydantic", "pydantic_core", *sys.stdlib_module_names} - {"__main__"}:
        return False
    cells = (cell.cell_contents for cell in getattr(function, "__closure__", None) or ())
    return all(_is_known(held, depth - 1) for held in cells if callable(held))
