"""What the arguments of an endpoint, or of a dependency, are made of: the head of a request, or its JSON body.

Here: a signature becomes `Parameter`s, `DeclaredBody`s and dependencies, as FastAPI's `analyze_param` reads it, or the reason why it is not
for a plan. Not here: what dependencies need themselves (dependencies.py), the conversion per request (python/src/parameter.rs), and what
stands for values that were not sent (absent.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import fastapi
from fastapi import params
from fastapi.security import SecurityScopes
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from starlette import convertors
from starlette.background import BackgroundTasks
from starlette.datastructures import UploadFile
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from typing_inspection.typing_objects import is_typealiastype

from . import absent, gathering
from .absent import Absent
from .app_code import runs_app_code
from .field import PLAIN, Kind, ModelField, kept
from .gathering import Gathering, is_json, is_scalar, is_scalar_sequence, is_sequence
from .invalid import Origin
from .rules import rules

Source = Literal["path", "query", "header", "cookie"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument that comes from the head of the request."""

    name: str
    source: Source
    names: tuple[str, ...]
    """Path parameter, query keys, header names or cookie names, as errors name them: the first that is there counts. None for a model."""
    kind: Kind
    """Not "validator": an exact type without constraints, whose plain forms `_core` converts itself; it gives all others to `validate`."""
    takes_all: bool
    """All values of the name, as a list of texts. Else one, which counts as not sent if it is empty and `drops_empty`."""
    drops_empty: bool
    gathering: Gathering | None
    """It is a model, made of many values."""
    validate: Callable[[object], object]
    """What FastAPI's field does with it. Raises ValidationError, or ValueError where a path convertor does."""
    absent: Absent
    runs_app_code: bool
    """Whether the app can see that it is converted."""

    @property
    def origin(self) -> Origin:
        """In words."""
        return Origin(self.source, self.names, self.gathering)


@dataclass(frozen=True, slots=True)
class Body:
    """One argument that is in the JSON body."""

    name: str
    keys: tuple[str, ...]
    """Its names in the body's object, of which the first that is there counts. None: it is the whole body."""
    validate: Callable[[object], object]
    absent: Absent
    runs_app_code: bool
    """Whether the app can see that it is converted."""

    @property
    def origin(self) -> Origin:
        """In words."""
        return Origin("body", self.keys, None)


@dataclass(frozen=True, slots=True)
class DeclaredBody:
    """An argument of the body, before it is known how many there are."""

    name: str
    names: tuple[str, ...]
    """That it has in an object, if it is within one."""
    is_embedded: bool
    """Whether it says so."""
    field: ModelField


@dataclass(frozen=True, slots=True)
class Given:
    """An argument that says nothing of its own: the request itself, a response whose status and headers count, background tasks, OAuth2's
    scopes."""

    name: str
    kind: Literal["connection", "response", "tasks", "scopes"]


@dataclass(frozen=True, slots=True)
class Arguments:
    """All arguments of a callable, in the order in which FastAPI converts them: path, query, header, cookie, body."""

    parameters: tuple[Parameter, ...]
    bodies: tuple[DeclaredBody, ...]
    given: dict[str, str]
    """The names of those that say nothing of their own, by `Given.kind`."""
    depends: tuple[tuple[str, params.Depends], ...]
    """Names and declarations of those that come from dependencies, each with its callable."""


def signature_of(call: Callable[..., Any]) -> inspect.Signature:
    """A signature whose annotations of arguments are values. What a function returns need not be one: FastAPI's `_get_signature`.

    Raises:
        NameError: an annotation names what its module does not have.
    """
    signature = inspect.signature(call)
    if not any(isinstance(argument.annotation, str) for argument in signature.parameters.values()):
        return signature
    with contextlib.suppress(NameError):  # FastAPI goes on with the texts, too
        signature = inspect.signature(call, eval_str=True)
    # One that a callable says of itself (`__signature__`) is taken as it is.
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
    bodies: list[DeclaredBody] = []
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
        if isinstance(read, DeclaredBody):
            bodies.append(read)
            continue
        if isinstance(read, Given):
            if read.kind in given:
                return f"{argument.name}: a second argument for the {read.kind}"
            given[read.kind] = read.name
            continue
        if read.source == "path":
            if read.names[0] not in path_names:
                return f"{argument.name}: not in the path"
            read = _converted(read, path_convertors[read.names[0]])
        parameters.append(read)
    order = typing.get_args(Source)
    parameters.sort(key=lambda parameter: order.index(parameter.source))
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
    if len(found) > 1 or any(isinstance(extra, _DECLARATIONS) for extra in (*extras, argument.default)):
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
    for source, attribute in _THEIR_FIELDS.items():
        ours = [(parameter.name, _first(parameter.names)) for parameter in arguments.parameters if parameter.source == source]
        theirs = [(field.name, _theirs(field)) for field in getattr(dependant, attribute)]
        if (ours or theirs) and not _agree(ours, theirs):
            return f"{source} parameters are read as {dict(theirs)}"
    ours = [(body.name, _first(body.names)) for body in arguments.bodies]
    if not _agree(ours, [(field.name, _theirs(field)) for field in dependant.body_params]):
        return "body parameters are read in another way"
    for field in dependant.body_params:
        if isinstance(field.field_info, params.Form):  # as 0.165 takes a bare `list` for one of files
            return f"{type(field.field_info).__name__}: what {field.name} is read as"
    given = {name for attribute in _THEIR_GIVEN if (name := getattr(dependant, attribute)) is not None}
    if given != set(arguments.given.values()):
        return f"request and response are the arguments {sorted(given)}"
    return ""


#: Where a Dependant has the fields of each source, and the names of the arguments that say nothing of their own.
_THEIR_FIELDS = {source: f"{source}_params" for source in typing.get_args(Source)}
_THEIR_GIVEN = ("request_param_name", "http_connection_param_name", "response_param_name", "background_tasks_param_name",
                "security_scopes_param_name")  # fmt: skip


def _agree(ours: Sequence[tuple[str, str]], theirs: Sequence[tuple[str, str]]) -> bool:
    """Whether these are the same arguments, under the same names where we look for one: a model or a whole body has none."""
    if len(ours) != len(theirs):
        return False
    return all(name == known and first in ("", looked_for) for (name, first), (known, looked_for) in zip(ours, theirs, strict=True))


def _first(names: Sequence[str]) -> str:
    return names[0] if names else ""


def _theirs(field: Any) -> str:
    """The first name under which FastAPI looks for a field."""
    declared = field.field_info.validation_alias
    return str(declared.choices[0]) if isinstance(declared, AliasChoices) else field.validation_alias or field.alias


_DECLARATIONS = (params.Param, params.Body)
#: Starlette's that leave the text as it is.
OF_TEXT = (convertors.StringConvertor, convertors.PathConvertor)
_SPECIAL = (HTTPConnection, Response, BackgroundTasks, SecurityScopes)
_SOURCES: dict[type, Source] = {params.Path: "path", params.Query: "query", params.Header: "header", params.Cookie: "cookie"}


def _read_argument(argument: inspect.Parameter, path_names: set[str]) -> Parameter | DeclaredBody | Given | str:
    """One argument as FastAPI's `analyze_param` reads it, or why it is not for a plan."""
    if argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
        return f"{argument.kind.description} argument"
    # By exact class and without more: what Annotated adds to these is for FastAPI to say. A default never counts.
    if argument.name not in path_names:
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
        return DeclaredBody(argument.name, _names(info, argument.name), bool(info.embed), field)
    source = _SOURCES.get(type(info))
    return f"declared by {type(info).__name__}" if source is None else _kept_parameter(argument.name, source, info, field)


def _kept_parameter(name: str, source: Source, info: FieldInfo, field: ModelField) -> Parameter | str:
    """As `_parameter`. `id: int` and `limit: int = 100` are in many routes: one serves all whose declaration says no more.

    PERF: of 500 routes with 1,300 values they take 20 ms less.
    """
    if PLAIN.get(type(info)) is not info:
        return _parameter(name, source, info, field)
    return kept(_kept_parameters, (name, source, id(field), rules()), lambda: (field, _parameter(name, source, info, field)))[1]


#: Each with its field, whose identity is thereby its own.
_kept_parameters: dict[Any, tuple[ModelField, Parameter | str]] = {}


def _parameter(name: str, source: Source, info: FieldInfo, field: ModelField) -> Parameter | str:
    """An argument from the head."""
    read = absent.of_parameter(field)
    if isinstance(read, str):
        return read
    gathered = None if is_json(field.info) else gathering.read(info, field.annotation, source)
    names = _names(info, name)
    if isinstance(gathered, str) or not names:
        return gathered if isinstance(gathered, str) else "alias is not a plain name"
    if gathered is None and not is_scalar(field.annotation) and not is_scalar_sequence(field.annotation) and not is_json(field.info):
        return f"its type is none for a value from the {source}"
    takes_several = gathered is None and is_sequence(field.annotation)
    takes_all = takes_several and not is_json(field.info) and source != "cookie"
    # What FastAPI has read in the same way for a long time, and what it may read in another.
    is_plain = gathered is None and not takes_several and len(names) == 1 and not is_json(field.info)
    is_known = rules().models_are_known
    if gathered is None and len(names) == 1:
        is_known = rules().lists_are_known if takes_all else rules().forms_are_known
    if not is_plain and (source == "path" or not is_known):
        return f"more than one value from the {source}"
    return Parameter(
        name=name,
        source=source,
        names=() if gathered else names,
        kind=field.kind if is_plain else "validator",
        takes_all=takes_all,
        drops_empty=takes_several and not takes_all,
        gathering=gathered,
        validate=field.validate,
        absent=read,
        runs_app_code=read.runs_app_code or runs_app_code(field),
    )


def place_bodies(declared: Sequence[DeclaredBody]) -> tuple[Body, ...] | str:
    """Where the arguments of the body are in it, as FastAPI's `_should_embed_body_fields` has it, or why that is not for a plan.

    Args:
        declared: those of the whole route, also of dependencies.
    """
    is_embedded = len({body.name for body in declared}) > 1 or (bool(declared) and declared[0].is_embedded)
    bodies = []
    for body in declared:
        read = absent.of_body(body.field)
        if isinstance(read, str):
            return f"{body.name}: {read}"
        if is_embedded and not body.names:
            return f"{body.name}: alias is not a plain name"
        if is_embedded and not (rules().bodies_are_known and (len(body.names) == 1 or rules().models_are_known)):
            return "embedded body"
        runs = read.runs_app_code or runs_app_code(body.field)
        bodies.append(Body(body.name, body.names if is_embedded else (), body.field.validate, read, runs))
    return tuple(bodies)


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
    ours = [info for info in infos if isinstance(info, _DECLARATIONS)]
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
        return PLAIN[params.Path], annotation, False
    if _mentions(bare, UploadFile):
        return "file"
    inferred = PLAIN[params.Query if is_scalar(bare) else params.Body]
    return inferred, annotation, has_default and default is not ...


def _has_attributes(info: FieldInfo) -> bool:
    names = ("alias", "validation_alias", "default_factory", "validate_default", "discriminator")
    return info.default is not PydanticUndefined or any(getattr(info, name, None) is not None for name in names)


def _names(info: FieldInfo, name: str) -> tuple[str, ...]:
    """The names that FastAPI looks up, in order; none if there are others than plain ones."""
    alias = info.validation_alias
    names: tuple[str, ...] = ()
    if isinstance(alias, AliasChoices) and not isinstance(info, params.Path):
        if all(isinstance(choice, str) for choice in alias.choices):
            names = tuple(choice for choice in alias.choices if isinstance(choice, str))
    elif alias is None or isinstance(alias, str):
        own = name.replace("_", "-") if getattr(info, "convert_underscores", False) else name
        names = (alias or info.alias or own,)
    return names if all(names) and (not isinstance(info, params.Header) or all(map(str.isascii, names))) else ()


def _is_subclass(annotation: Any, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, kinds)


def _mentions(annotation: Any, kind: type) -> bool:
    return _is_subclass(annotation, kind) or any(_mentions(argument, kind) for argument in typing.get_args(annotation))


def _converted(parameter: Parameter, convertor: convertors.Convertor[Any]) -> Parameter:
    """Starlette converts `{x:int}` before FastAPI validates, so the field sees an int, not its text."""
    if isinstance(convertor, OF_TEXT):
        return parameter
    is_same_type = parameter.kind == {convertors.IntegerConvertor: "int", convertors.FloatConvertor: "float"}.get(type(convertor))
    convert, validate = convertor.convert, parameter.validate

    def convert_and_validate(text: Any) -> object:
        return validate(convert(text))

    return dataclasses.replace(parameter, kind=parameter.kind if is_same_type else "validator", validate=convert_and_validate)
