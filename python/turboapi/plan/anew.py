"""Arguments that are converted once more, as a dependency before them has changed the request.

FastAPI converts a callable's arguments when all that it depends on has been called; a plan does so first, as nothing of the app's runs in
between that could see it. But a dependency that has the request may change what the others are made of. Where it has not, and that is
nearly always, they stay as they are.
Source: fastapi/dependencies/utils.py `solve_dependencies`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import fastapi.dependencies.utils
from fastapi.exceptions import RequestValidationError

from .arguments import Body, Source
from .deferred import NOT_SENT, converted
from .dependencies import Node
from .invalid import Wording
from .wrapped import is_as_in_scope

#: By source, in FastAPI's order, the attribute of a request that has its values.
_LOOKED_INTO: dict[Source, str] = {"path": "path_params", "query": "query_params", "header": "headers", "cookie": "cookies"}


#: Whether FastAPI has what converts arguments of a changed request.
IS_KNOWN = hasattr(fastapi.dependencies.utils, "request_params_to_args")


class Noted(NamedTuple):
    """What arguments are made of, before anybody has the request."""

    headers: tuple[Any, ...]
    path_params: tuple[Any, ...]


def note(connection: Any) -> Noted:
    scope = connection.scope
    return Noted(tuple(scope["headers"]), tuple(scope["path_params"].items()))


class Anew:
    """Of one callable.

    Args:
        dependant: FastAPI's view of it.
        wording: of its arguments from the body.
    """

    def __init__(self, node: Node, dependant: Any, bodies: Sequence[Body], wording: Wording) -> None:
        self._node = node
        self._dependant = dependant
        self._bodies = bodies
        self._wording = wording

    def __call__(self, connection: Any, noted: Noted, *values: Any) -> Sequence[Any]:
        """The values of its parameters, then of its bodies: those that it is given, unless the request says something else now."""
        head = len(values) - len(self._bodies)
        parameters, bodies = values[:head], values[head:]
        if head and (note(connection) != noted or not is_as_in_scope(connection, reads_body=False)):
            parameters = self._parameters(connection)
        whole = vars(connection).get("_json", NOT_SENT) if bodies else NOT_SENT
        if whole is not NOT_SENT:
            # What the request keeps of its body is what FastAPI has read, and may have been changed in place.
            bodies = tuple(converted(self._bodies, (), whole, self._wording, connection.scope))
        return (*parameters, *bodies)

    def _parameters(self, connection: Any) -> tuple[Any, ...]:
        if self._node.kind == "security":
            (value,) = self._node.arguments.parameters
            return (getattr(connection, _LOOKED_INTO[value.source]).get(value.names[0]),)
        found: dict[str, Any] = {}
        errors: list[Any] = []
        for source, received in _LOOKED_INTO.items():
            fields = getattr(self._dependant, f"{source}_params")
            values, wrong = fastapi.dependencies.utils.request_params_to_args(fields, getattr(connection, received))
            found.update(values)
            errors += wrong
        if errors:
            raise RequestValidationError(errors, body=vars(connection).get("_json"))
        return tuple(found[parameter.name] for parameter in self._node.arguments.parameters)
