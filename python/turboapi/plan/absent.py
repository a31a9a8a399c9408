"""What stands for a value that was not sent: nothing, a constant, or what has to be made for each request."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import functools
import types
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from .field import ModelField
from .rules import rules


@dataclass(frozen=True, slots=True)
class Absent:
    """As FastAPI's `_validate_value_with_model_field` has it."""

    is_refused: bool
    """Nothing stands for it: the value is required."""
    value: object = None
    factory: Callable[[], object] | None = None
    """Called once per request instead of `value`, which is not immutable or has to be computed."""
    is_validated: bool = False
    """Whether that is validated as if it had been sent."""
    runs_app_code: bool = False
    """Whether the app can see that it is made."""


def of_parameter(field: ModelField) -> Absent | str:
    """That of a value of the head, or why it is not for a plan."""
    validates = rules().defaults_are_validated
    info = field.info
    if info.is_required() or validates is False or _is_computed(field) or info.default is None:
        return _of(field)
    if field.is_watched:
        return "default is validated, and a pydantic plugin watches"
    default = info.default
    try:
        validated = field.validate(copy.deepcopy(default))
    except ValidationError:
        return "default does not validate"
    if validates and not _is_immutable(validated) and is_copied_silently(default):
        return Absent(False, None, functools.partial(copy.deepcopy, default), is_validated=True)
    is_same = type(validated) is type(default) and validated == default
    if not _is_immutable(validated) or (validates is None and not is_same):
        return "default is changed by validation"
    return Absent(False, validated)


def of_body(field: ModelField) -> Absent | str:
    """That of a value of the body, or why it is not for a plan."""
    return _of(field)


def _of(field: ModelField) -> Absent | str:
    info = field.info
    if info.is_required():
        return Absent(is_refused=True)
    if _is_computed(field):
        if not rules().forms_are_known:
            # FastAPI 0.141 calls the factory twice for one request, 0.165 once.
            return "validated or computed default"
        if info.default_factory is not None and info.default_factory_takes_validated_data:
            return "the default is computed from other values"
    if info.default_factory is None and _is_immutable(info.default):
        return Absent(False, info.default, is_validated=bool(info.validate_default))
    # A copy of a copy, as in FastAPI: of an object of the app's own both can be seen.
    factory = functools.partial(_copied, functools.partial(info.get_default, call_default_factory=True))
    return Absent(False, None, factory, bool(info.validate_default), not _is_made_silently(info.default_factory, info.default))


def _is_computed(field: ModelField) -> bool:
    return bool(field.info.validate_default) or field.info.default_factory is not None


def _copied(make: Callable[[], object]) -> object:
    return copy.deepcopy(make())


_IMMUTABLE = {
    types.NoneType, bool, int, float, complex, str, bytes, decimal.Decimal, uuid.UUID,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone,
}  # fmt: skip


def _is_immutable(value: object) -> bool:
    if type(value) in (tuple, frozenset):
        return all(_is_immutable(item) for item in value)  # type: ignore[attr-defined]
    return type(value) in _IMMUTABLE or isinstance(value, enum.Enum)


#: What makes an empty value and calls nobody.
SILENT_FACTORIES = (list, dict, set, frozenset, tuple, str, int, float, bool)


def _is_made_silently(factory: Any, default: object) -> bool:
    return factory in SILENT_FACTORIES if factory is not None else is_copied_silently(default)


def is_copied_silently(value: object) -> bool:
    """Whether a deep copy of it calls no method of the app's."""
    if type(value) is dict:
        return all(is_copied_silently(part) for item in value.items() for part in item)
    if type(value) in (list, set, tuple, frozenset):
        return all(is_copied_silently(item) for item in value)  # type: ignore[attr-defined]
    return _is_immutable(value)
