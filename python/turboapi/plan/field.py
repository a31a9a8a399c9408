"""One value that pydantic validates or serializes: what FastAPI's ModelField is, from public parts.

Here: a declaration and an annotation become a TypeAdapter with all their constraints. Not here: which declaration counts
(arguments.py), what is made of an answer (answers.py).
"""

from __future__ import annotations

import copy
import functools
import typing
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, TypeAdapter
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
        # A declaration inside Annotated stands beside the other constraints there; one that is the default has only its own.
        is_annotated = typing.get_origin(annotation) is typing.Annotated
        merged = copy.copy(type(info).from_annotation(annotation) if is_annotated else info)
        merged.default = default
        annotation = merged.annotation if is_annotated else annotation
        attributes = {name: value for name in _ATTRIBUTES if (value := getattr(merged, name, PydanticUndefined)) is not PydanticUndefined}
        return cls(annotation, tuple(merged.metadata), merged, _adapter(annotation, tuple(merged.metadata), attributes))

    @property
    def validate(self) -> Callable[[object], object]:
        return functools.partial(self.adapter.validator.validate_python, from_attributes=True)

    @property
    def kind(self) -> Kind:
        if type(self.adapter.validator) is not SchemaValidator:
            return "validator"  # A pydantic plugin watches validation.
        schema: Any = self.adapter.core_schema
        while schema["type"] in ("default", "nullable"):
            schema = schema["schema"]
        is_plain = schema.keys() <= {"type", "metadata"}
        return schema["type"] if is_plain and schema["type"] in ("str", "int", "float", "bool") else "validator"


def _adapter(annotation: Any, metadata: tuple[Any, ...], attributes: dict[str, Any]) -> TypeAdapter[Any]:
    # Most arguments of an app's routes are of a few classes, without more: one adapter serves all that validate alike.
    # PERF: the table of 500 routes takes 0.25 s, and 0.63 with an adapter each, which is mostly pydantic's time.
    default = attributes.get("default", PydanticUndefined)
    says_no_more = all(attributes[name] == _SILENT[name] for name in attributes.keys() - _NAMES)
    if isinstance(annotation, type) and not metadata and says_no_more and type(default) in _SIMPLE:
        return _adapter_of_class(annotation, type(default), default)
    return _make_adapter(annotation, metadata, attributes)


@functools.lru_cache(maxsize=1024)
def _adapter_of_class(annotation: type, _default_type: type, default: Any) -> TypeAdapter[Any]:
    return _make_adapter(annotation, (), {} if default is PydanticUndefined else {"default": default})


def _make_adapter(annotation: Any, metadata: tuple[Any, ...], attributes: dict[str, Any]) -> TypeAdapter[Any]:
    with warnings.catch_warnings():
        # Pydantic warns about an alias outside a model. FastAPI reads that alias itself, so the warning is not for the user.
        warnings.simplefilter("ignore")
        return TypeAdapter(typing.Annotated[(annotation, *metadata, Field(**attributes))])


#: Which name a value has on the wire is for FastAPI to know; the value's validation does not.
_NAMES = {"default", "alias", "alias_priority", "validation_alias", "serialization_alias"}
#: What a declaration has that says nothing.
_SILENT = {name: getattr(FieldInfo(), name, PydanticUndefined) for name in _ATTRIBUTES}
#: Of defaults that can be compared, by type and value, and that nobody changes.
_SIMPLE = {str, int, bool, bytes, type(None), type(PydanticUndefined), type(...)}
