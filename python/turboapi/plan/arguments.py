"""What the arguments of an endpoint, or of a dependency, are made of: the head of a request, or its JSON body.

Here: a signature becomes `Parameter`s, a `Body` and dependencies, as FastAPI's `analyze_param` reads it, or the reason why it is not for
a plan. Not here: what dependencies need themselves (dependencies.py), and the conversion per request (python/src/plan.rs).
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import fastapi
from fastapi import params
from fastapi.security import SecurityScopes
from pydantic import BaseModel, Json, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from starlette import convertors
from starlette.background import BackgroundTasks
from starlette.datastructures import UploadFile
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from typing_inspection.typing_objects import is_typealiastype

from .field import Kind, ModelField

Source = Literal["path", "query", "header", "cookie"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One scalar argument that comes from the head of the request."""

    name: str
    source: Source
    wire_name: str
    """Path parameter, query key, header name in lower case, or cookie name."""
    kind: Kind
    """Not "validator": an exact type without constraints, whose plain forms `_core` converts itself; it gives all others to `validate`."""
    validate: Callable[[object], object]
    """What FastAPI's field does with the text. Raises ValidationError, or ValueError where a path convertor does."""
    required: bool
    default: object
    default_factory: Callable[[], object] | None
    """Called once per request instead of `default`: the default is not immutable."""


@dataclass(frozen=True, slots=True)
class Body:
    """The one argument that is the whole JSON body. A request without one is for the app, which knows what stands for it."""

    name: str
    validate: Callable[[object], object]


@dataclass(frozen=True, slots=True)
class Given:
    """An argument that says nothing of its own: the request itself, a response whose status and headers count, background tasks, OAuth2's
    scopes."""

    name: str
    kind: Literal["connection", "response", "tasks", "scopes"]


@dataclass(frozen=True, slots=True)
class Arguments:
    """All arguments of a callable."""

    parameters: tuple[Parameter, ...]
    bodies: tuple[Body, ...]
    given: dict[str, str]
    """The names of those that say nothing of their own, by `Given.kind`."""
    depends: tuple[tuple[str, params.Depends], ...]
    """Names and declarations of those that come from dependencies, each with its callable."""


def signature_of(call: Callable[..., Any]) -> inspect.Signature:
    """A signature whose annotations of arguments are values. What a function returns need not be one: FastAPI's `_get_signature`.

    Raises:
        NameError: an annotation names what its module does not have.
    """
    try:
        return inspect.signature(call, eval_str=True)
    except NameError:
        signature = inspect.signature(call)
    names = getattr(inspect.unwrap(call), "__globals__", {})

    def evaluated(argument: inspect.Parameter) -> inspect.Parameter:
        text = argument.annotation
        return argument.replace(annotation=eval(text, names)) if isinstance(text, str) else argument

    return signature.replace(parameters=[evaluated(argument) for argument in signature.parameters.values()])


def read_callable(call: Callable[..., Any], path_convertors: Mapping[str, Any]) -> Arguments | str:
    """All arguments of an endpoint or a dependency, or why they are not for a plan.

    Args:
        path_convertors: Starlette's, by the names in the route's path.
    """
    path_names = set(path_convertors)
    parameters: list[Parameter] = []
    bodies: list[Body] = []
    depends: list[tuple[str, params.Depends]] = []
    given: dict[str, str] = {}
    for argument in signature_of(call).parameters.values():
        declared = _depends(argument)
        read = declared or _read_argument(argument, path_names)
        if isinstance(read, str):
            return f"{argument.name}: {read}"
        if isinstance(read, params.Depends):
            depends.append((argument.name, read))
            continue
        if isinstance(read, Body):
            bodies.append(read)
            continue
        if isinstance(read, Given):
            if read.kind in given:
                return f"{argument.name}: a second argument for the {read.kind}"
            given[read.kind] = read.name
            continue
        if read.source == "path":
            if read.wire_name not in path_names:
                return f"{argument.name}: not in the path"
            read = _converted(read, path_convertors[read.wire_name])
        parameters.append(read)
    return Arguments(tuple(parameters), tuple(bodies), given, tuple(depends))


def _depends(argument: inspect.Parameter) -> params.Depends | str | None:
    """The dependency that an argument is for; None: it is for none."""
    annotation = argument.annotation
    if is_typealiastype(annotation):
        annotation = annotation.__value__
    is_annotated = typing.get_origin(annotation) is typing.Annotated
    extras = annotation.__metadata__ if is_annotated else ()
    found = [extra for extra in (*extras, argument.default) if isinstance(extra, params.Depends)]
    if not found:
        return None
    if len(found) > 1 or any(isinstance(extra, params.Param | params.Body) for extra in (*extras, argument.default)):
        return "several declarations with a Depends"
    if argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
        return f"{argument.kind.description} argument"
    if found[0].dependency is not None:
        return found[0]
    return dataclasses.replace(found[0], dependency=typing.get_args(annotation)[0] if is_annotated else annotation)


def disagreement(call: Callable[..., Any], dependant: Any, arguments: Arguments) -> str:
    """What FastAPI itself made of the signature, where it lets us see it, has to be the same."""
    if dependant.call is not call:
        return "the endpoint was wrapped after it was registered"
    for source in typing.get_args(Source):
        ours = {parameter.name: parameter.wire_name for parameter in arguments.parameters if parameter.source == source}
        theirs = {field.name: field.validation_alias or field.alias for field in getattr(dependant, f"{source}_params")}
        if source == "header":
            theirs = {name: alias.lower() for name, alias in theirs.items()}
        if ours != theirs:
            return f"{source} parameters are read as {theirs}"
    if [body.name for body in arguments.bodies] != [field.name for field in dependant.body_params]:
        return "body parameters are read in another way"
    names = ("request", "http_connection", "response", "background_tasks", "security_scopes")
    theirs = {getattr(dependant, f"{kind}_param_name") for kind in names} - {None}
    if theirs != set(arguments.given.values()):
        return f"request and response are the arguments {sorted(theirs)}"
    return ""


_SPECIAL = (HTTPConnection, Response, BackgroundTasks, SecurityScopes)
_SOURCES: dict[type, Source] = {params.Path: "path", params.Query: "query", params.Header: "header", params.Cookie: "cookie"}


def _read_argument(argument: inspect.Parameter, path_names: set[str]) -> Parameter | Body | Given | str:
    """One argument as FastAPI's `analyze_param` reads it, or why it is not for a plan."""
    if argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
        return f"{argument.kind.description} argument"
    # By exact class and without more: what Annotated or a default adds to these is for FastAPI to say.
    if argument.name not in path_names and argument.default is inspect.Parameter.empty:
        if argument.annotation in (Request, HTTPConnection):
            return Given(argument.name, "connection")
        if argument.annotation is Response:
            return Given(argument.name, "response")
        if argument.annotation in (fastapi.BackgroundTasks, BackgroundTasks):
            return Given(argument.name, "tasks")  # FastAPI's class for either
        if argument.annotation is SecurityScopes:
            return Given(argument.name, "scopes")
    declared = _declaration(argument, path_names)
    if isinstance(declared, str):
        return declared
    info, annotation, default_given = declared
    field = ModelField.of(info, annotation, argument.default if default_given else info.default)
    if type(info) is params.Body:
        if info.embed:
            return "embedded body"
        return Body(argument.name, field.validate)
    source = _SOURCES.get(type(info))
    if source is None:
        return f"declared by {type(info).__name__}"
    if not _is_scalar(field.annotation) or any(type(item) is Json for item in field.metadata):
        return f"more than one value from the {source}"
    default = _scalar_default(field)
    if isinstance(default, str):
        return default
    wire_name = _wire_name(info, argument.name)
    if not wire_name:
        return "alias is not a plain name"
    return Parameter(argument.name, source, wire_name, field.kind, field.validate, *default)


def _declaration(argument: inspect.Parameter, path_names: set[str]) -> tuple[FieldInfo, Any, bool] | str:
    """The `fastapi.params` object that declares the argument, the annotation it counts with, and whether `=` gives the default."""
    annotation: Any = Any if argument.annotation is inspect.Parameter.empty else argument.annotation
    if is_typealiastype(annotation):
        annotation = annotation.__value__
    is_annotated = typing.get_origin(annotation) is typing.Annotated
    extras = annotation.__metadata__ if is_annotated else ()
    bare = typing.get_args(annotation)[0] if is_annotated else annotation
    default = argument.default
    if _is_subclass(bare, _SPECIAL):
        return bare.__name__
    infos = [extra for extra in extras if isinstance(extra, FieldInfo)]
    ours = [info for info in infos if isinstance(info, params.Param | params.Body)]
    if len(ours) > 1 or any(_has_attributes(info) for info in infos if info not in ours):
        # How several declarations merge differs between FastAPI versions; only constraints do not.
        return "several declarations in one Annotated"
    if isinstance(default, FieldInfo):
        if ours:
            return "declared twice"
        return default, bare, False
    has_default = default is not inspect.Parameter.empty
    if ours:
        if default is ...:
            return "default is ..."
        return ours[0], annotation, has_default
    if argument.name in path_names:
        return params.Path(), annotation, False
    if _mentions(bare, UploadFile):
        return "file"
    inferred = params.Query() if _is_scalar(bare) else params.Body()
    return inferred, annotation, has_default and default is not ...


def _has_attributes(info: FieldInfo) -> bool:
    names = ("alias", "validation_alias", "default_factory", "validate_default", "discriminator")
    return info.default is not PydanticUndefined or any(getattr(info, name, None) is not None for name in names)


def _wire_name(info: FieldInfo, name: str) -> str:
    """The key that FastAPI looks up; empty if it is not one plain name."""
    alias = info.validation_alias
    if alias is not None and not isinstance(alias, str):
        return ""
    alias = alias or info.alias
    if not alias:
        alias = name.replace("_", "-") if getattr(info, "convert_underscores", False) else name
    if isinstance(info, params.Header):
        return alias.lower() if alias.isascii() else ""
    return alias


def _is_subclass(annotation: Any, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, kinds)


def _members(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, types.UnionType) else ()


def _mentions(annotation: Any, kind: type) -> bool:
    return _is_subclass(annotation, kind) or any(_mentions(argument, kind) for argument in typing.get_args(annotation))


def _is_scalar(annotation: Any) -> bool:
    """Whether an argument without declaration is a query parameter, not a body."""
    members = _members(annotation)
    if members:
        return all(_is_scalar(member) for member in members)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _is_scalar(typing.get_args(annotation)[0])
    has_schema = hasattr(origin, "__pydantic_core_schema__") or hasattr(origin, "__get_pydantic_core_schema__")
    return not (has_schema or _is_complex(annotation) or _is_complex(origin))


def _is_complex(kind: Any) -> bool:
    if _is_subclass(kind, (str, bytes)):
        return False
    return _is_subclass(kind, (BaseModel, Mapping, UploadFile, Sequence, set, frozenset, tuple)) or dataclasses.is_dataclass(kind)


def _converted(parameter: Parameter, convertor: convertors.Convertor[Any]) -> Parameter:
    """Starlette converts `{x:int}` before FastAPI validates, so the field sees an int, not its text."""
    if isinstance(convertor, convertors.StringConvertor | convertors.PathConvertor):
        return parameter
    is_same_type = parameter.kind == {convertors.IntegerConvertor: "int", convertors.FloatConvertor: "float"}.get(type(convertor))
    convert, validate = convertor.convert, parameter.validate

    def convert_and_validate(text: Any) -> object:
        return validate(convert(text))

    return dataclasses.replace(parameter, kind=parameter.kind if is_same_type else "validator", validate=convert_and_validate)


# Defaults: (required, default, default_factory).
_Default = tuple[bool, object, Callable[[], object] | None]


def _scalar_default(field: ModelField) -> _Default | str:
    info = field.info
    if info.is_required():
        return True, None, None
    if info.validate_default or info.default_factory is not None:
        # FastAPI 0.141 calls the factory twice for one request, 0.165 once.
        return "validated or computed default"
    default = info.default
    validates = _defaults_are_validated()
    if default is None or validates is False:
        return False, *_constant(default)
    try:
        validated = field.validate(copy.deepcopy(default))
    except ValidationError:
        return "default does not validate"
    is_same = type(validated) is type(default) and validated == default
    if not _is_immutable(validated) or (validates is None and not is_same):
        return "default is changed by validation"
    return False, validated, None


def _constant(default: object) -> tuple[object, Callable[[], object] | None]:
    return (default, None) if _is_immutable(default) else (None, functools.partial(copy.deepcopy, default))


_IMMUTABLE = {
    types.NoneType, bool, int, float, complex, str, bytes, decimal.Decimal, uuid.UUID,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone,
}  # fmt: skip


def _is_immutable(value: object) -> bool:
    if type(value) in (tuple, frozenset):
        return all(_is_immutable(item) for item in value)  # type: ignore[attr-defined]
    return type(value) in _IMMUTABLE or isinstance(value, enum.Enum)


@functools.cache
def _defaults_are_validated() -> bool | None:
    """Whether this FastAPI validates the default of a missing query parameter: 0.141 does, 0.165 does not. None: cannot tell.

    Asked of FastAPI itself, as the version that changed it is not written down anywhere.
    """

    def endpoint(number: float = 1) -> None: ...

    try:
        from fastapi.dependencies.utils import get_dependant, request_params_to_args
        from starlette.datastructures import QueryParams

        dependant = get_dependant(path="/", call=endpoint)
        values, errors = request_params_to_args(dependant.query_params, QueryParams(""))
        value = values["number"]
    except Exception:
        return None
    if errors or value != 1:
        return None
    return type(value) is float
