"""One value that pydantic validates or serializes: what FastAPI's ModelField is, from public parts.

Here: a declaration and an annotation become a TypeAdapter with all their constraints. Not here: which declaration counts
(arguments.py), what is made of an answer (answers.py).
"""

from __future__ import annotations

import copy
import functools
import types
import typing
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import annotated_types
from fastapi import params
from pydantic import BaseModel, Field, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, SchemaValidator

Kind = Literal["str", "int", "float", "bool", "validator"]

_ATTRIBUTES = (
    "default", "default_factory", "alias", "alias_priority", "validation_alias", "serialization_alias", "title", "field_title_generator",
    "description", "examples", "exclude", "exclude_if", "discriminator", "deprecated", "json_schema_extra", "frozen", "validate_default",
    "repr", "init", "init_var", "kw_only",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelField:
    """One value to validate."""

    annotation: Any
    metadata: tuple[Any, ...]
    info: FieldInfo
    adapter: TypeAdapter[Any]

    @classmethod
    def of(cls, info: FieldInfo, annotation: Any, default: Any = PydanticUndefined) -> ModelField:
        """The field of a declaration. Those of `PLAIN` say nothing: there is one field for all that validate alike."""
        key = _key(annotation) if PLAIN.get(type(info)) is info and type(default) in _SIMPLE else None
        if key is None:
            return cls._made(info, annotation, default)
        key = (type(info), key, type(default), default)
        return kept(_plain_fields, key, lambda: cls._made(info, annotation, default))

    @classmethod
    def _made(cls, info: FieldInfo, annotation: Any, default: Any) -> ModelField:
        # A declaration inside Annotated stands beside the other constraints there; one that is the default has only its own.
        is_annotated = typing.get_origin(annotation) is typing.Annotated
        merged = type(info).from_annotation(annotation) if is_annotated else info
        if not is_annotated or any(merged is extra for extra in annotation.__metadata__):
            merged = copy.copy(merged)
        merged.default = default
        annotation = merged.annotation if is_annotated else annotation
        attributes = {name: value for name in _ATTRIBUTES if (value := getattr(merged, name, PydanticUndefined)) is not PydanticUndefined}
        return cls(annotation, tuple(merged.metadata), merged, _adapter(annotation, tuple(merged.metadata), attributes))

    @property
    def validate(self) -> Callable[[object], object]:
        return functools.partial(self.adapter.validator.validate_python, from_attributes=True)

    @property
    def is_watched(self) -> bool:
        """Whether a pydantic plugin hears of its validations. One that is only installed, as logfire's may be, does not."""
        return _is_watched(self.adapter.validator)

    @property
    def kind(self) -> Kind:
        if self.is_watched:
            return "validator"
        schema: Any = self.adapter.core_schema
        while schema["type"] in ("default", "nullable"):
            schema = schema["schema"]
        is_plain = schema.keys() <= {"type", "metadata"}
        return schema["type"] if is_plain and schema["type"] in ("str", "int", "float", "bool") else "validator"


#: Declarations by class that say nothing beside it: to share, not to change.
PLAIN: dict[type, FieldInfo] = {kind: kind() for kind in (FieldInfo, params.Path, params.Query, params.Body)}

#: What is kept of one kind for those that come later.
KEPT_MAX = 1024


def kept[Made](cache: dict[Any, Made], key: Any, make: Callable[[], Made]) -> Made:
    """What the cache has of this key, or what `make` makes. A cache that is full begins anew."""
    made = cache.get(key)
    if made is None:
        if len(cache) >= KEPT_MAX:
            cache.clear()
        made = cache[key] = make()
    return made


_plain_fields: dict[Any, ModelField] = {}
_adapters: dict[Any, TypeAdapter[Any]] = {}


def _adapter(annotation: Any, metadata: tuple[Any, ...], attributes: dict[str, Any]) -> TypeAdapter[Any]:
    # Most arguments of an app's routes are of a few kinds: one adapter serves all that validate alike.
    # PERF: of 500 routes with 1,300 values the adapters take 0.03 s, and 0.3 with one for each class only.
    default = attributes.get("default", PydanticUndefined)
    says_no_more = all(attributes[name] == _SILENT[name] for name in attributes.keys() - _NAMES)
    keys = (_key(annotation), _metadata_key(metadata))
    if not says_no_more or None in keys or type(default) not in _SIMPLE:
        return _make_adapter(annotation, metadata, attributes)
    key = (keys, type(default), default)
    only_default = {} if default is PydanticUndefined else {"default": default}
    return kept(_adapters, key, lambda: _make_adapter(annotation, metadata, only_default))


def _key(annotation: Any) -> Any:
    """What tells this annotation from all that validate otherwise; None where that is not known.

    The annotation itself does not: a union is equal to one in another order, and `Literal[1]` may be to `Literal[True]`.
    """
    if annotation is None:
        return types.NoneType
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        # A model that is built anew has another one.
        return annotation, annotation.__dict__.get("__pydantic_validator__")
    origin = typing.get_origin(annotation)
    if origin is not types.UnionType and origin is not typing.Union and not isinstance(origin, type):
        return None
    members = tuple(map(_key, typing.get_args(annotation)))
    return None if None in members or not members else (type(annotation), origin, members)


def _metadata_key(metadata: tuple[Any, ...]) -> Any:
    found = []
    for constraint in metadata:
        value = getattr(constraint, _CONSTRAINTS.get(type(constraint), ""), None)
        if type(value) not in (int, float):
            return None
        found.append((type(constraint), type(value), value))
    return tuple(found)


def _make_adapter(annotation: Any, metadata: tuple[Any, ...], attributes: dict[str, Any]) -> TypeAdapter[Any]:
    if not metadata and not attributes and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        adapter = TypeAdapter(annotation)  # PERF: that is the model's own, 13 µs; with something around it 290 µs.
        if type(adapter.validator) is SchemaValidator:  # else a plugin is installed, to which it is not the one that FastAPI makes
            return adapter
    with warnings.catch_warnings():
        # Pydantic warns about an alias outside a model. FastAPI reads that alias itself, so the warning is not for the user.
        warnings.simplefilter("ignore")
        return TypeAdapter(typing.Annotated[(annotation, *metadata, Field(**attributes))], module=_MODULE)


#: Where FastAPI makes its adapters: a plugin may choose by it what it watches.
_MODULE = "fastapi._compat.v2"


def _is_watched(validator: Any) -> bool:
    """Of an adapter. Where no plugin has asked to be called, pydantic gives out the method of its own validator."""
    return type(getattr(validator.validate_python, "__self__", None)) is not SchemaValidator


#: Which name a value has on the wire is for FastAPI to know; the value's validation does not.
_NAMES = {"default", "alias", "alias_priority", "validation_alias", "serialization_alias"}
#: What a declaration has that says nothing.
_SILENT = {name: getattr(FieldInfo(), name, PydanticUndefined) for name in _ATTRIBUTES}
#: Constraints by a number, and its name there.
_CONSTRAINTS: dict[type, str] = {
    annotated_types.Gt: "gt", annotated_types.Ge: "ge", annotated_types.Lt: "lt", annotated_types.Le: "le",
    annotated_types.MinLen: "min_length", annotated_types.MaxLen: "max_length", annotated_types.MultipleOf: "multiple_of",
}  # fmt: skip
#: Of defaults that can be compared, by type and value, and that nobody changes.
_SIMPLE = {str, int, bool, bytes, type(None), type(PydanticUndefined), type(...)}
