"""An endpoint's arguments that are converted within a composed function, after its dependencies, as FastAPI converts them.

So are all of an endpoint with dependencies where code of the app's own converts one (app_code.py): it sees what the dependencies have
done, and they see the RequestValidationError where it refuses a value. Not here: the function (compose.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.types import Scope

from .absent import Absent
from .arguments import Body, Parameter
from .invalid import Failure, Wording
from .rules import rules

NOT_SENT: Any = object()


@dataclass(frozen=True, slots=True)
class Deferred:
    """The arguments as a request has them, and what makes the endpoint's of these."""

    parameters: tuple[Parameter, ...]
    bodies: tuple[Body, ...]
    """The whole body, if anything is in it."""
    names: tuple[str, ...]
    """Of the endpoint's arguments, in the order of `convert`."""
    converted: tuple[Parameter | Body, ...]
    wording: Wording

    def convert(self, connection: Any, *sent: Any) -> list[Any]:
        """The endpoint's arguments. Raises RequestValidationError, or whatever the app's code raises."""
        # A dependency may have read the body, too, and what it has changed in it counts.
        whole = vars(connection).get("_json", sent[-1]) if self.bodies else NOT_SENT
        return converted(self.converted, sent, whole, self.wording, connection.scope)


def defer(parameters: Sequence[Parameter], bodies: Sequence[Body], wording: Wording) -> Deferred | str:
    """Makes them of an endpoint's arguments, or says why that is not for a plan."""
    for parameter in parameters:
        if len(parameter.names) > 1 or (parameter.gathering is not None and parameter.gathering.rewrites_names):
            return f"dependencies: {parameter.name} has more than one name, among arguments that code of the app's own converts"
    not_sent = Absent(False, NOT_SENT)
    raw = [
        dataclasses.replace(parameter, kind="validator", validate=_as_it_is, absent=not_sent, runs_app_code=False)
        for parameter in parameters
    ]
    whole = (Body("the body", (), _as_it_is, not_sent, runs_app_code=False),) if bodies else ()
    arguments: tuple[Parameter | Body, ...] = (*parameters, *bodies)
    return Deferred(tuple(raw), whole, tuple(argument.name for argument in arguments), arguments, wording)


def converted(arguments: Sequence[Parameter | Body], sent: Sequence[Any], whole: Any, wording: Wording, scope: Scope) -> list[Any]:
    """Their values. Raises RequestValidationError, or whatever the app's code raises.

    Args:
        sent: of each parameter, which come first.
        whole: what was read of the body.
        wording: of these arguments.
    """
    values: list[Any] = []
    failures: list[Failure] = []
    for number, argument in enumerate(arguments):
        try:
            value, name = _found(argument, whole if isinstance(argument, Body) else sent[number])
        except _MissingError:
            failures.append((number, None, 0))
            continue
        is_validated = True
        if value is NOT_SENT:
            # What a factory raises is not what a validator says.
            absent = argument.absent
            value, is_validated = absent.value if absent.factory is None else absent.factory(), absent.is_validated
        try:
            values.append(argument.validate(value) if is_validated else value)
        except ValidationError as error:
            # Without its frames, which hold it.
            failures.append((number, error.with_traceback(None), name))
    if failures:
        raise wording.exception(wording.errors(failures), None if whole is NOT_SENT else whole, None, scope)
    return values


class _MissingError(Exception):
    """Nothing stands for a value that was not sent."""


def _found(argument: Parameter | Body, sent: Any) -> tuple[Any, int]:
    """What was sent for an argument, and under which of its names."""
    if isinstance(argument, Body) and argument.keys and sent is not NOT_SENT:
        if type(sent) is not dict:
            raise _MissingError
        sent, name = next(((sent[key], at) for at, key in enumerate(argument.keys) if key in sent), (NOT_SENT, 0))
    else:
        name = 0
    if sent is None and isinstance(argument, Body) and not rules().takes_null:
        sent = NOT_SENT
    if sent is NOT_SENT and argument.absent.is_refused:
        raise _MissingError
    return sent, name


def _as_it_is(value: object) -> object:
    return value
