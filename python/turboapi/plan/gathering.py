"""Parameter models: what is gathered from a query, the header lines or the cookies for the fields of one model.

Here: a model becomes the names to look for, as FastAPI's `_request_param_model_to_args` does. Not here: the looking
(python/src/gathering.rs).
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import params
from pydantic import AliasChoices, BaseModel, Json
from pydantic.fields import FieldInfo
from starlette.datastructures import UploadFile


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a parameter model."""

    name: str
    choices: list[tuple[str, str]]
    """Its key for the model's validator, and the name that is looked for; the first that is there counts."""
    takes_all: bool
    """All values of the name, as a list. Else one, which is left out if it is empty and `drops_empty`."""
    drops_empty: bool
    further_names: list[str]
    """Are none of the model's further values either: a header under the name that its field has in Python."""


@dataclass(frozen=True, slots=True)
class Gathering:
    """What a model is made of. All further values go in under their own names: it is for the model to take, ignore or forbid them."""

    fields: list[Field]
    is_optional: bool
    """Without any value of its own there is none, and its default stands for it."""
    takes_further: bool
    """Whether further values are its own, too."""
    rewrites_names: bool
    """Whether errors name a header's field as it is in a request."""


def read(info: FieldInfo, annotation: Any, source: str) -> Gathering | str | None:
    """How the values of a parameter are gathered; why that is not for a plan; None: it is not a model."""
    model = model_of(annotation)
    if model is None:
        return None
    default = getattr(info, "convert_underscores", True)
    fields = []
    for name, field in model.model_fields.items():
        converts = source == "header" and bool(getattr(field, "convert_underscores", default))
        read = _field(name, field, model, source, converts)
        if read is None:
            return f"alias of {name} is not a plain name"
        fields.append(read)
    config = model.model_config
    takes_further = config.get("extra") in ("allow", "forbid")
    return Gathering(fields, annotation is not model, takes_further, source == "header" and bool(config.get("loc_by_alias", True)))


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a parameter is, or None."""
    members = union_members(annotation)
    if len(members) == 2 and types.NoneType in members:
        annotation = next(member for member in members if member is not types.NoneType)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _field(name: str, info: FieldInfo, model: type[BaseModel], source: str, converts: bool) -> Field | None:
    pairs = _aliases(name, info, model, converts)
    names = [request_name for _, request_name in pairs]
    if not pairs or isinstance(info, params.Path) or (source == "header" and not all(map(str.isascii, names))):
        return None
    further = [key for key, request_name in pairs if source == "header" and key != request_name]
    takes_several, is_list = is_sequence(info.annotation), not is_json(info) and source != "cookie"
    return Field(name, pairs, takes_several and is_list, takes_several and not is_list, further)


def _aliases(name: str, info: FieldInfo, model: type[BaseModel], converts: bool) -> list[tuple[str, str]]:
    """As FastAPI's `_get_param_aliases`; empty for paths into a value."""
    declared = info.validation_alias
    alias = declared if isinstance(declared, str) and declared else name if info.alias is None else info.alias
    pairs = [(alias, alias.replace("_", "-") if converts and alias == name else alias)]
    if isinstance(declared, AliasChoices):
        if not all(isinstance(choice, str) for choice in declared.choices):
            return []
        pairs = [(choice, choice) for choice in declared.choices if isinstance(choice, str)]
    elif declared is not None and not isinstance(declared, str):
        return []
    kind = info.annotation
    is_plain = isinstance(kind, type) and issubclass(kind, BaseModel | dict)
    config: Any = {} if is_plain or dataclasses.is_dataclass(kind) else model.model_config
    by_name = (name, name.replace("_", "-") if converts else name)
    if config.get("validate_by_alias") is False:
        return [by_name]
    if config.get("validate_by_name", config.get("populate_by_name", False)) and name not in (key for key, _ in pairs):
        pairs.append(by_name)
    return pairs


# Annotations, as FastAPI's `_compat.shared` reads them.


def is_json(info: FieldInfo) -> bool:
    """Whether the value is a text of JSON, whatever is in it."""
    return any(type(item) is Json for item in info.metadata)


def union_members(annotation: Any) -> tuple[Any, ...]:
    """Empty for what is no union."""
    return typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, types.UnionType) else ()


def is_sequence(annotation: Any) -> bool:
    """Whether several values are taken, or may be."""
    members = union_members(annotation)
    if members:
        return any(is_sequence(member) for member in members)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return is_sequence(typing.get_args(annotation)[0])
    return _is_sequence_class(annotation) or _is_sequence_class(origin)


def is_scalar_sequence(annotation: Any) -> bool:
    """Whether several values are taken, or may be, each of which is one."""
    members = union_members(annotation)
    if members:
        kinds = [is_scalar_sequence(member) for member in members]
        return any(kinds) and all(kind or is_scalar(member) for kind, member in zip(kinds, members, strict=True))
    if typing.get_origin(annotation) is typing.Annotated:
        return is_scalar_sequence(typing.get_args(annotation)[0])
    return is_sequence(annotation) and all(is_scalar(argument) for argument in typing.get_args(annotation))


def is_scalar(annotation: Any) -> bool:
    """Whether an argument without declaration is a query parameter, not a body."""
    if annotation is ... or (type(annotation) is type and annotation in _SCALARS):
        return True
    members = union_members(annotation)
    if members:
        return all(is_scalar(member) for member in members)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return is_scalar(typing.get_args(annotation)[0])
    has_schema = hasattr(origin, "__pydantic_core_schema__") or hasattr(origin, "__get_pydantic_core_schema__")
    return not (has_schema or _is_complex(annotation) or _is_complex(origin))


#: The most frequent ones, not to be looked at.
_SCALARS = frozenset({str, int, float, bool, types.NoneType})


def _is_complex(kind: Any) -> bool:
    is_known = isinstance(kind, type) and issubclass(kind, (BaseModel, Mapping, UploadFile))
    return is_known or _is_sequence_class(kind) or dataclasses.is_dataclass(kind)


def _is_sequence_class(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, (Sequence, set, frozenset)) and not issubclass(kind, (str, bytes))
