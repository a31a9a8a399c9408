"""The tree of a route's dependencies, as FastAPI's `get_dependant` reads it: who is called for whom, in which order, with what.

Here: declarations become `Node`s, or the reason why they are not for a plan. Not here: a callable's own arguments (arguments.py), and what
becomes of the tree (compose.py).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import params, security

from .absent import Absent
from .arguments import Arguments, Parameter, disagreement, read_callable
from .patches import is_original
from .streams import is_generator

logger = logging.getLogger("turboapi")

Kind = Literal["def", "async def", "generator", "async generator", "security", "stream"]


@dataclass(frozen=True, slots=True)
class Node:
    """One callable: the endpoint at the root, or what is called for one of its callers' arguments."""

    call: Callable[..., Any]
    name: str | None
    """Of the caller's argument that it is for; None: of no argument."""
    kind: Kind
    """"stream" is an endpoint that is a generator: calling it runs nothing of it yet."""
    arguments: Arguments
    """Its own ones, but for those that nodes are for."""
    nodes: tuple[Node, ...]
    """In the order in which they are solved: before the node itself is called, each with its own first."""
    own_scopes: tuple[str, ...] = ()
    """OAuth2's, of its `Security`."""
    outer_scopes: tuple[str, ...] = ()
    """Of those that it is called for."""
    use_cache: bool = True
    scope: str | None = None
    """Of a generator: "function" ends before the answer is sent, None or "request" after its background tasks."""

    @property
    def scopes(self) -> list[str]:
        """What its `SecurityScopes` has."""
        scopes = list(self.outer_scopes)
        for scope in self.own_scopes:
            if scope not in scopes:
                scopes.append(scope)
        return scopes

    @property
    def is_generator(self) -> bool:
        return self.kind in ("generator", "async generator")

    @property
    def key(self) -> tuple[Any, tuple[str, ...], str]:
        """Calls with the same one are one call, where they are cached."""
        scopes = tuple(sorted(set(self.scopes))) if self.uses_scopes else ()
        return self.call, scopes, self.scope or ("request" if self.is_generator else "")

    @property
    def uses_scopes(self) -> bool:
        says_so = bool(self.own_scopes) or "scopes" in self.arguments.given or isinstance(unwrapped(self.call), security.base.SecurityBase)
        return says_so or any(node.uses_scopes for node in self.nodes)

    def preorder(self) -> Iterator[Node]:
        """Itself and those below it, each before its own."""
        yield self
        for node in self.nodes:
            yield from node.preorder()

    def walk(self) -> Iterator[Node]:
        """Those below it and itself, in the order of calls."""
        for node in self.nodes:
            yield from node.walk()
        yield self


def read_tree(context: Any) -> Node | str:
    """The endpoint of a route with all its dependencies, or why they are not for a plan. `context` is FastAPI's of the route."""
    endpoint = context.endpoint
    arguments = read_callable(endpoint, context.param_convertors)
    if isinstance(arguments, str):
        return arguments
    dependant = getattr(context, "dependant", None)
    declared = [*((None, depends) for depends in context.dependencies or ()), *arguments.depends]
    nodes = [
        _read(name, depends, theirs, context.param_convertors, (), ())
        for (name, depends), theirs in zip(declared, _theirs(dependant, len(declared)), strict=True)
    ]
    if reason := next((node for node in nodes if isinstance(node, str)), ""):
        return reason
    kind: Kind = "stream" if is_generator(endpoint) else "async def" if inspect.iscoroutinefunction(endpoint) else "def"
    root = Node(endpoint, None, kind, arguments, tuple(node for node in nodes if isinstance(node, Node)))
    if dependant is None:
        return "FastAPI does not show the route's dependencies" if nodes else root
    return _disagreement(root, dependant) or root


#: A chain of dependencies this long is a circle.
_DEPTH_MAX = 50


def _theirs(dependant: Any, count: int) -> Sequence[Any]:
    """What FastAPI has made of so many dependencies; of each None where it has made something else."""
    found = getattr(dependant, "dependencies", ())
    return found if len(found) == count else [None] * count


def _read(
    name: str | None, depends: params.Depends, theirs: Any, convertors: Any, outer_scopes: Sequence[str], callers: tuple[Any, ...]
) -> Node | str:
    call = depends.dependency
    known = getattr(theirs, "call", None)
    if type(call) is type(known) is types.FunctionType and call.__code__ is known.__code__:
        call = known  # An annotation that is a text has made another one for us: `Depends(limit(10))`.
    if call is None or len(callers) > _DEPTH_MAX:
        return "dependencies: one has no callable"
    if unknown := [field.name for field in dataclasses.fields(depends) if field.name not in _DECLARATION]:
        return _unknown(f"Depends has {unknown[0]}")
    if getattr(depends, "max_concurrency", None) is not None:
        return "dependencies: max_concurrency"
    scope = getattr(depends, "scope", None)
    if scope not in (None, "function", "request"):
        return f"dependencies: scope {scope!r}"
    own_scopes = tuple(depends.scopes or ()) if isinstance(depends, params.Security) else ()
    use_cache = depends.use_cache or name is None  # FastAPI does not look at it where there is no argument
    stock = _stock_security(call)
    kind = "security" if stock else _kind(call)
    if kind is None:
        return f"dependencies: what {_name(call)} is cannot be told"
    arguments = stock or read_callable(call, convertors)
    if isinstance(arguments, str):
        return f"dependencies: {_name(call)}: {arguments}"
    nodes = []
    for (argument, further), beside in zip(arguments.depends, _theirs(theirs, len(arguments.depends)), strict=True):
        node = _read(argument, further, beside, convertors, (*outer_scopes, *own_scopes), (*callers, call))
        if isinstance(node, str):
            return node
        nodes.append(node)
    return Node(call, name, kind, arguments, tuple(nodes), own_scopes, tuple(outer_scopes), use_cache, scope)


_DECLARATION = {"dependency", "use_cache", "scope", "scopes", "max_concurrency", "_concurrency"}


def _name(call: Any) -> str:
    return getattr(call, "__qualname__", type(call).__qualname__)


def full_name(call: Any) -> str:
    """`reports.send`; of an object that has no name, its class's."""
    named = call if hasattr(call, "__qualname__") else type(call)
    return f"{getattr(named, '__module__', '')}.{named.__qualname__}"


def _bare(call: Any) -> Any:
    while isinstance(call, functools.partial):
        call = call.func
    return call


def unwrapped(call: Any) -> Any:
    return inspect.unwrap(_bare(call))


#: What `functools.lru_cache` makes.
_Cached = type(functools.lru_cache(lambda: None))


def _kind(call: Any) -> Kind | None:
    """What calling it gives. None: the layers of decorators around it say different things, and FastAPI decides by all of them."""
    bare = _bare(call)
    if inspect.isclass(bare):
        kinds: set[Kind | None] = {"def"}
    elif isinstance(bare, types.FunctionType | types.MethodType | types.BuiltinFunctionType):
        kinds = {_kind_of_function(bare), _kind_of_function(inspect.unwrap(bare))}
    elif type(bare) is _Cached:  # of settings, as FastAPI's documentation has it
        kinds = {_kind_of_function(inspect.unwrap(bare))} & {"def"}
    elif "__call__" in getattr(bare, "__dict__", {}) or hasattr(bare, "__wrapped__"):
        return None
    else:
        method = type(bare).__call__
        kinds = {_kind_of_function(method), _kind_of_function(inspect.unwrap(method))}
    kind = kinds.pop() if len(kinds) == 1 else None
    return kind if kind is not None and _fastapi_agrees(call, kind) else None


def _kind_of_function(function: Any) -> Kind | None:
    if hasattr(function, "_is_coroutine") or hasattr(function, "_is_coroutine_mark"):
        return None
    if inspect.isgeneratorfunction(function):
        return "generator"
    if inspect.isasyncgenfunction(function):
        return "async generator"
    return "async def" if inspect.iscoroutinefunction(function) else "def"


def _fastapi_agrees(call: Any, kind: Kind) -> bool:
    """Whether FastAPI's own classification, where it lets us see it, is the same."""
    from fastapi.dependencies import models

    names = {"generator": "_is_gen_callable", "async generator": "_is_async_gen_callable", "async def": "_is_coroutine_callable"}
    for word, name in names.items():
        classify = getattr(models, name, None)
        if classify is not None and bool(classify(call)) != (word == kind):
            return False
    return True


# Security schemes that FastAPI has: each looks at one value of the request, and neither waits nor calls anything of the app's.


_BY_AUTHORIZATION = (
    *(security.OAuth2, security.OAuth2PasswordBearer, security.OAuth2AuthorizationCodeBearer, security.OpenIdConnect),
    *(security.HTTPBasic, security.HTTPBearer, security.HTTPDigest),
)
_BY_KEY: dict[type, Literal["query", "header", "cookie"]] = {
    security.APIKeyQuery: "query",
    security.APIKeyHeader: "header",
    security.APIKeyCookie: "cookie",
}


def _stock_security(scheme: Any) -> Arguments | None:
    """What FastAPI's own scheme is given: the one value that it looks at, under the name `value`. None: it is no such scheme."""
    kind = type(scheme)
    if kind not in _BY_AUTHORIZATION and kind not in _BY_KEY:
        return None
    if any(hasattr(kind, name) for name in vars(scheme)) or not is_original(kind, "__call__"):  # a method that somebody has replaced
        return None
    if kind in _BY_AUTHORIZATION:
        source, name = "header", "authorization"
    else:
        source, name = _BY_KEY[kind], scheme.model.name
        if source == "header" and not name.isascii():
            return None
    value = Parameter("value", source, (name,), "str", False, False, None, str, Absent(False), False)  # type: ignore[arg-type]
    return Arguments((value,), (), {}, ())


class _OneValue:
    """What a scheme looks into."""

    __slots__ = ("_value",)

    def __init__(self, value: str | None) -> None:
        self._value = value

    def get(self, _name: str) -> str | None:
        return self._value


class _Connection:
    """What a scheme looks at: whichever it asks for has the one value."""

    __slots__ = ("cookies", "headers", "query_params")

    def __init__(self, value: str | None) -> None:
        self.cookies = self.headers = self.query_params = _OneValue(value)


def checks(scheme: Any) -> Callable[..., Any]:
    """A function of the `value` of `_stock_security`, that does what the scheme does: returns its credentials, or raises what it raises."""
    look = functools.partial(type(scheme).__call__, scheme)

    def check(value: str | None) -> Any:
        looking = look(_Connection(value))
        try:
            looking.send(None)
        except StopIteration as done:
            return done.value
        looking.close()
        raise RuntimeError(f"{type(scheme).__name__} waits for something, which FastAPI's own does not")

    return check


# FastAPI's own view.


_KNOWN_FIELDS = {
    *("path_params", "query_params", "header_params", "cookie_params", "body_params", "dependencies", "name", "call"),
    *("request_param_name", "websocket_param_name", "http_connection_param_name", "response_param_name", "background_tasks_param_name"),
    *("security_scopes_param_name", "own_oauth_scopes", "parent_oauth_scopes", "use_cache", "path", "scope", "concurrency"),
}


@functools.cache
def _unknown(what: str) -> str:
    """A reason that is said once: whoever updates FastAPI has to know why all is slower."""
    logger.warning("this version of FastAPI is not known: %s; routes with dependencies are answered by the app's own call", what)
    return f"dependencies: {what}, which is not known"


@functools.cache
def _strangeness(kind: type) -> str:
    """What the class of a dependant has that is not known here; empty if nothing."""
    if not dataclasses.is_dataclass(kind):
        return "a dependant is no dataclass"
    unknown = [field.name for field in dataclasses.fields(kind) if field.name not in _KNOWN_FIELDS]
    return f"a dependant has {unknown[0]}" if unknown else ""


def _disagreement(node: Node, dependant: Any) -> str:
    """What FastAPI itself made of the declarations has to be the same."""
    if strange := _strangeness(type(dependant)):
        return _unknown(strange)
    if len(dependant.dependencies) != len(node.nodes):
        return "dependencies are read in another way"
    if getattr(dependant, "concurrency", None) is not None:
        return "dependencies: max_concurrency"
    if node.kind != "security" and (reason := disagreement(node.call, dependant, node.arguments)):
        return reason
    for ours, theirs in zip(node.nodes, dependant.dependencies, strict=True):
        said = (ours.call, ours.name, ours.use_cache, ours.scope, ours.own_scopes, ours.outer_scopes)
        seen = (
            *(theirs.call, theirs.name, theirs.use_cache, theirs.scope),
            *(tuple(theirs.own_oauth_scopes or ()), tuple(theirs.parent_oauth_scopes or ())),
        )
        if said[0] is not seen[0] or said[1:] != seen[1:]:
            return "dependencies are read in another way"
        if reason := _disagreement(ours, theirs):
            return reason
    return ""
