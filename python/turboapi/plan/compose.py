"""An endpoint and its dependencies as one function, written as Python source at start, with nothing in it that its route does not need.

Its arguments are those of all of them; it calls each in the order in which FastAPI solves them, and the endpoint last. It is a `def` if
all of it is: then one thread does it all, or the worker's own. Else it is an `async def`, and each `def` in it goes by its own standing.
With dependencies that end after a `yield` it sends the answer itself, by its argument `respond`: what ends after that is around it.

Not here: what is called for what (dependencies.py).
Source: fastapi/dependencies/utils.py `solve_dependencies`, fastapi/routing.py `request_response`
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import anyio
from fastapi.security import SecurityScopes

from .._core import Job, Part
from .anew import IS_KNOWN, Anew, note
from .arguments import Body, Parameter, place_bodies
from .deferred import Deferred, defer
from .dependencies import Node, checks, full_name
from .ends import SHIELDS, in_threads, not_awaited, returned, shielded
from .invalid import Wording
from .rules import rules

#: So many blocks of a function can be open at once, less those that are open anyway: CPython's limit is 20.
BLOCKS_MAX = 16


@dataclass(frozen=True, slots=True)
class Composed:
    """One function for several."""

    function: Callable[..., Any]
    is_coroutine: bool
    is_staged: bool
    """Whether it has the answer sent, by `respond`."""
    parameters: tuple[Parameter, ...]
    bodies: tuple[Body, ...]
    given: dict[str, str]
    """Names of the arguments that say nothing of their own, by kind."""
    parts: tuple[Part, ...]
    """What it calls by their own standing."""
    wording: Wording | None = None
    """What is wrong with its arguments. None: FastAPI calls dependencies also where they are, and says what is wrong with theirs first."""

    @property
    def runs_app_code(self) -> bool:
        """Whether the app can see that its arguments are converted."""
        return any(parameter.runs_app_code for parameter in self.parameters) or any(body.runs_app_code for body in self.bodies)


def compose(root: Node, dependant: Any, label: str, path: str, blocking: bool | None, is_within_stack: bool) -> Composed | str:
    """Makes it, or says why not.

    Args:
        dependant: FastAPI's view of the tree.
        label: the route's method and path.
        path: the route's in its app.
        blocking: what the route has decided about its endpoint.
        is_within_stack: whether something stands around the app's router, which may cancel what is within.
    """
    nodes = list(root.walk())
    placed = _place_bodies(root)
    if isinstance(placed, str):
        return placed
    bodies, read = placed.get(id(root), ()), root.arguments
    loud = [node for node in nodes if any(argument.runs_app_code for argument in (*node.arguments.parameters, *placed.get(id(node), ())))]
    if loud and (any(node is not root for node in loud) or not rules().errors_are_known):
        return "dependencies: code of the app's own converts an argument"
    words = Wording(tuple(argument.origin for argument in (*read.parameters, *bodies)), root.call, path)
    said = None if root.nodes or not rules().errors_are_known else words
    if not root.nodes and "scopes" not in read.given:
        return Composed(root.call, root.kind == "async def", False, read.parameters, bodies, read.given, (), said)
    deferred = defer(read.parameters, bodies, words) if loud else None
    if isinstance(deferred, str):
        return deferred
    if deferred is not None:
        if placed.keys() > {id(root)}:
            return "dependencies: one takes a body, and code of the app's own converts an argument"
        placed = {id(root): deferred.bodies}
    anew = {}
    if any("connection" in node.arguments.given for node in nodes if node is not root):
        if not IS_KNOWN:
            return "dependencies: one takes the request, and how FastAPI converts arguments is not known"
        anew = _anew(root, dependant, placed, path)
    writer = _Writer(root, nodes, placed, deferred, anew, label, blocking, is_within_stack)
    return dataclasses.replace(writer.write(), wording=said)


def _anew(root: Node, dependant: Any, placed: _Placed, path: str) -> dict[int, Anew]:
    """What converts the arguments of nodes again, by the identity of the node."""
    found: dict[int, Anew] = {}
    pairs = [(root, dependant)]
    for node, view in pairs:
        bodies = placed.get(id(node), ())
        found[id(node)] = Anew(node, view, bodies, Wording(tuple(body.origin for body in bodies), root.call, path))
        pairs += zip(node.nodes, view.dependencies, strict=True)
    return found


#: Where the arguments of nodes are in the body, by the identity of the node.
_Placed = dict[int, tuple[Body, ...]]


def _place_bodies(root: Node) -> _Placed | str:
    """Whether they are the whole body or stand in it by their names depends on those of all nodes, in the order of FastAPI's
    `_get_flat_body_params`."""
    nodes = [node for node in root.preorder() if node.arguments.bodies]
    bodies = place_bodies([body for node in nodes for body in node.arguments.bodies])
    if isinstance(bodies, str):
        return bodies
    rest = iter(bodies)
    return {id(node): tuple(itertools.islice(rest, len(node.arguments.bodies))) for node in nodes}


class _Writer:
    """Of one function."""

    def __init__(
        self,
        root: Node,
        nodes: list[Node],
        placed: _Placed,
        deferred: Deferred | None,
        anew: dict[int, Anew],
        label: str,
        blocking: bool | None,
        is_within_stack: bool,
    ) -> None:
        self._root = root
        self._placed = placed
        self._bodies: list[Body] = []
        self._deferred = deferred
        self._anew = anew
        #: Whether a dependency that has the request has been called.
        self._may_have_changed = False
        self._label = label
        self._blocking = blocking
        kinds = {node.kind for node in nodes}
        #: A stream begins on the worker's own thread, where plain functions have to earn their place. What is deferred is converted in the
        #: request's own task.
        self._is_coroutine = deferred is not None or bool(kinds - {"def", "security", "stream"}) or kinds >= {"def", "stream"}
        generators = [node for node in nodes if node.is_generator]
        self._is_staged = bool(generators)
        #: They end in another order than nested blocks, or are more than there may be of these.
        self._has_stacks = len(generators) > BLOCKS_MAX or any(node.scope == "function" for node in generators)
        #: Who cancels what is within may be something around the router, or another of these dependencies.
        self._is_shielded = SHIELDS and [node.kind for node in nodes].count("async generator") > (0 if is_within_stack else 1)
        #: Each plain function has a context of its own; one that is the only one has that of the call.
        self._is_alone = sum(node.kind == "def" for node in nodes) == 1
        #: What the source calls by name.
        self._names: dict[str, Any] = {"copy_context": copy_context, "Job": Job, "returned": returned}
        self._names.update(CancelScope=anyio.CancelScope, AsyncExitStack=AsyncExitStack, SecurityScopes=SecurityScopes)
        self._names["not_awaited"] = not_awaited
        self._parameters: list[Parameter] = []
        self._given: dict[str, str] = {}
        self._parts: list[Part] = []
        #: The variable of each call that may be another's too.
        self._solved: dict[Any, str] = {}
        self._lines: list[str] = []
        self._depth = 1
        self._count = 0

    def write(self) -> Composed:
        if self._is_staged:
            self._line("is_answered = False")
        if self._has_stacks:
            self._open("async with AsyncExitStack() as requests:")
            if self._is_shielded:
                self._line("scope = requests.enter_context(CancelScope())")
            self._open("async with AsyncExitStack() as functions:")
        elif self._is_shielded:
            self._open("with CancelScope() as scope:")
        if self._anew:
            self._names["note"] = note
            self._line(f"noted = note({self._given.setdefault('connection', 'connection')})")
        value = self._call(self._root, self._solve(self._root))
        if not self._is_staged:
            self._line(f"return {value}")
        elif self._has_stacks:
            # As FastAPI calls it: where an exit has suppressed what was raised there is none, which the error says that comes then.
            self._line(f"response = respond.make({value})")
            self._depth -= 1
            self._line("await respond.send(response)")
        else:
            self._line(f"await respond.send(respond.make({value}))")
        if self._is_staged:
            self._line("is_answered = True")
            self._depth = 1
            self._line("if not is_answered: raise not_awaited()")
        return self._made()

    def _made(self) -> Composed:
        arguments = [*(read.name for read in (*self._parameters, *self._bodies)), *self._given.values()]
        head = (
            f"{'async ' if self._is_coroutine else ''}def composed({', '.join([*arguments, *(['respond'] if self._is_staged else [])])}):"
        )
        source = "\n".join([head, *self._lines])
        exec(compile(source, f"<turboapi {self._label}>", "exec"), self._names)
        return Composed(
            function=self._names["composed"],
            is_coroutine=self._is_coroutine,
            is_staged=self._is_staged,
            parameters=tuple(self._parameters),
            bodies=tuple(self._bodies),
            given=self._given,
            parts=tuple(self._parts),
        )

    def _line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    def _open(self, text: str) -> None:
        self._line(text)
        self._depth += 1

    def _name(self, kind: str, value: Any) -> str:
        """A name of the source for a value of ours."""
        name = f"{kind}{len(self._names)}"
        self._names[name] = value
        return name

    def _variable(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _solve(self, node: Node) -> dict[str, str]:
        """Writes the calls of all that a node depends on. Returns what they are in its own call, by its arguments."""
        values: dict[str, str] = {}
        for inner in node.nodes:
            arguments, key = self._solve(inner), inner.key
            value = self._solved.get(key) if inner.use_cache else None
            if value is None:
                value = self._call(inner, arguments)
            self._solved.setdefault(key, value)
            if inner.name is not None:
                values[inner.name] = value
        return values

    def _call(self, node: Node, values: dict[str, str]) -> str:
        """Writes the call of a node. Returns the variable that has its value."""
        deferred = self._deferred if node is self._root else None
        for parameter in node.arguments.parameters if deferred is None else deferred.parameters:
            name = f"a{len(self._parameters)}"
            self._parameters.append(dataclasses.replace(parameter, name=name))
            values[parameter.name] = name
        for body in self._placed.get(id(node), ()):
            name = f"b{len(self._bodies)}"
            self._bodies.append(dataclasses.replace(body, name=name))
            values[body.name] = name
        if deferred is not None:
            sent = [values.pop(argument.name) for argument in (*deferred.parameters, *deferred.bodies)]
            values.update(self._convert(deferred, sent))
        elif self._may_have_changed:
            self._convert_anew(node, values)
        for kind, argument in node.arguments.given.items():
            if kind == "scopes":
                values[argument] = f"SecurityScopes(scopes={node.scopes!r})"
            else:
                values[argument] = self._given.setdefault(kind, _GIVEN[kind])
        arguments = ", ".join(f"{name}={value}" for name, value in values.items())
        variable = self._variable()
        match node.kind:
            case "security":
                self._line(f"{variable} = {self._name('check', checks(node.call))}({arguments})")
            case "stream":
                self._line(f"{variable} = {self._name('function', node.call)}({arguments})")
            case "async def":
                self._line(f"{variable} = await {self._name('function', node.call)}({arguments})")
            case "def":
                self._call_def(node, variable, arguments)
            case _:
                self._enter(node, variable, arguments)
        self._may_have_changed |= "connection" in node.arguments.given
        return variable

    def _convert_anew(self, node: Node, values: dict[str, str]) -> None:
        """Writes what gives the node's own arguments other values, if the request says something else by then."""
        own = [values[argument.name] for argument in (*node.arguments.parameters, *self._placed.get(id(node), ()))]
        if own:
            self._line(f"{', '.join(own)}, = {self._name('anew', self._anew[id(node)])}(connection, noted, {', '.join(own)})")

    def _convert(self, deferred: Deferred, sent: list[str]) -> dict[str, str]:
        """Writes the conversion of what was sent. Returns what the endpoint's arguments are then."""
        connection = self._given.setdefault("connection", "connection")
        arguments = ", ".join([connection, *sent])
        self._line(f"converted = {self._name('convert', deferred.convert)}({arguments})")
        return {name: f"converted[{number}]" for number, name in enumerate(deferred.names)}

    def _call_def(self, node: Node, variable: str, arguments: str) -> None:
        if self._is_coroutine:
            is_endpoint = node is self._root
            part = self._part(node, blocking=self._blocking if is_endpoint else None, is_end=False)
            self._line(f"{variable} = {part}({arguments})")
            self._line(f"if type({variable}) is Job: {variable} = await returned({variable})")
            return
        function = self._name("function", node.call)
        if self._is_alone:
            self._line(f"{variable} = {function}({arguments})")
        else:
            self._line(f"{variable} = copy_context().run({', '.join([function, *([arguments] if arguments else [])])})")

    def _enter(self, node: Node, variable: str, arguments: str) -> None:
        """Writes the begin of a generator, and has its end come after all that follows."""
        if node.kind == "generator":
            begin, end = (self._part(node, blocking=None, is_end=is_end) for is_end in (False, True))
            manage = in_threads(node.call, self._names[begin], self._names[end])
        elif self._is_shielded:
            manage, arguments = shielded(node.call), ", ".join(["scope", *([arguments] if arguments else [])])
        else:
            manage = asynccontextmanager(node.call)
        manager = f"{self._name('manage', manage)}({arguments})"
        if self._has_stacks:
            stack = "functions" if node.scope == "function" else "requests"
            self._line(f"{variable} = await {stack}.enter_async_context({manager})")
        else:
            self._open(f"async with {manager} as {variable}:")

    def _part(self, node: Node, *, blocking: bool | None, is_end: bool) -> str:
        label = self._label if node is self._root else f"{'the end of ' if is_end else ''}dependency {full_name(node.call)}"
        part = Part(node.call, label, blocking, is_end)
        self._parts.append(part)
        return self._name("part", part)


#: Names of the arguments that say nothing of their own.
_GIVEN = {"connection": "connection", "response": "injected", "tasks": "tasks"}
