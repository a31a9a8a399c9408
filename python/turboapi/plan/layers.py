"""The app's middleware, as far as `_core` runs it itself: Starlette's four stock classes, by their exact class and what their constructors
have made of their options.

Here: which of them an app has (`reason`, `read`), and the same objects around something else than the app's router (`around`), for answers
that `_core` does not make. Not here: what they do (src/layers.rs).

INVARIANT: `_core` does what these classes do in the versions of Starlette whose source it was written after. What reads otherwise, was
replaced, or has options of other types, is a reason for the ASGI path.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import re
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import FastAPI
from starlette import _utils, datastructures
from starlette.middleware import gzip
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._core import Exchange
from . import changes
from .chain import chain


@dataclass(frozen=True, slots=True)
class Cors:
    """A `CORSMiddleware`, its texts in the octets that they are compared with and sent as."""

    allow_origins: list[bytes]
    allow_methods: list[bytes]
    allow_headers: list[bytes]
    allow_all_origins: bool
    allow_all_headers: bool
    allow_credentials: bool
    preflight_explicit_allow_origin: bool
    allow_private_network: bool
    origin_matches: Callable[[str], object] | None
    """The pattern's own `fullmatch`."""
    simple_headers: list[tuple[bytes, bytes]]
    preflight_headers: list[tuple[bytes, bytes]]
    live: list[list[str]]
    """What of the above the middleware looks up in the app's own lists at each request."""
    kind: Literal["cors"] = "cors"


@dataclass(frozen=True, slots=True)
class Gzip:
    minimum_size: int
    thread_minimum_size: int
    level: int
    exclude_content_types: list[str]
    kind: Literal["gzip"] = "gzip"


@dataclass(frozen=True, slots=True)
class TrustedHost:
    allowed_hosts: list[str]
    allow_any: bool
    www_redirect: bool
    root_path: str
    kind: Literal["trusted_host"] = "trusted_host"


@dataclass(frozen=True, slots=True)
class HttpsRedirect:
    root_path: str
    kind: Literal["https_redirect"] = "https_redirect"


Layer = Cors | Gzip | TrustedHost | HttpsRedirect


def reason(app: FastAPI) -> str:
    """Why `_core` cannot run this app's middleware, or ""."""
    try:
        read(app, "")
    except _NotUnderstood as problem:
        return str(problem)
    return ""


def read(app: FastAPI, root_path: str) -> list[Layer]:
    """All of the app's middleware, outermost first. Asked of an app for which there is no `reason`.

    Args:
        root_path: the path under which a proxy serves the app.
    """
    return [_READERS[type(layer)](layer, root_path) for layer in _instances(app)]


def around(app: FastAPI, inner: ASGIApp) -> ASGIApp:
    """The app's middleware around another app."""
    for layer in reversed(_instances(app)):
        # They keep nothing of a request. What the app changes in an option's list counts in the copy too.
        outer = copy.copy(layer)
        outer.app = inner
        inner = outer
    return inner


class Noted:
    """A response that tells when it has begun. Middleware may hold that back, and what fails then has failed after it all the same."""

    def __init__(self, response: ASGIApp, exchange: Exchange) -> None:
        self._response = response
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._exchange.note_begun()
            await send(message)

        await self._response(scope, receive, tell)


#: The key of a scope under which `respond` finds what it is to send.
RESPONSE_KEY = "turboapi.response"


async def respond(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends a response that a native route has returned: what `around` goes around."""
    await scope[RESPONSE_KEY](scope, receive, send)


# What there is.


class _NotUnderstood(Exception):
    """A reason for the ASGI path."""


#: As many as `_core` takes; nobody has five.
LAYERS_MAX = 32


def _instances(app: FastAPI) -> list[Any]:
    """The objects in the app's stack, or such as will be there when it is built."""
    declared: list[Any] = [middleware.cls for middleware in app.user_middleware]
    for kind in declared:
        if kind not in _READERS:
            raise _NotUnderstood("the app has middleware")
        _check_source(kind)
    if len(declared) > LAYERS_MAX:
        raise _NotUnderstood(f"the app has {len(declared)} middlewares")
    if app.middleware_stack is None:
        try:
            return [cls(_nobody, *args, **kwargs) for cls, args, kwargs in app.user_middleware]
        except Exception as error:
            # The app says it better, at its first request.
            raise _NotUnderstood(f"its middleware cannot be made: {type(error).__name__}") from error
    found = [layer for layer in chain(app.middleware_stack) if type(layer) in _READERS]
    if [type(layer) for layer in found] != declared:
        raise _NotUnderstood("the app's middleware stack was replaced")
    return found


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("an object that is only read was called")


#: SHA-256 of what `_check_source` reads, of Starlette 1.10. A version in which nothing of it has changed is known too.
_KNOWN_SOURCES = {
    CORSMiddleware: {"fce9d679b52dd9670f38216daacdcab159c6995cdb5256ee5162dc58d25a5c4f"},
    GZipMiddleware: {"d8396f87b8dbb514bddc885f30f40fc094c31ec7648c7ed14fe0814180fb1159"},
    TrustedHostMiddleware: {"129f443d6d737ec423b15631402940ea9f757e24dabcfe653c78a276977eb816"},
    HTTPSRedirectMiddleware: {"ea0561d1994ae0e61216b9b7ec3d309756e9471fa2898fba375dc1fc0ad4e063"},
}


@functools.cache
def _source_hash(kind: type) -> str:
    """Of all that decides what a class does; "" where there is no source."""
    parts: list[Any] = [inspect.getmodule(kind)]
    try:
        if kind in (TrustedHostMiddleware, HTTPSRedirectMiddleware):
            parts += [_utils.ParsedHost, _utils.parse_host_header, datastructures.URL]
        texts = [inspect.getsource(part) for part in parts]
        if len(parts) > 1:
            texts.append(repr(_utils._HOST_RE))
    except (AttributeError, OSError, TypeError):
        return ""
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def _check_source(kind: type) -> None:
    if _source_hash(kind) not in _KNOWN_SOURCES[kind]:
        raise _NotUnderstood(f"{kind.__name__} of this version of Starlette is not known")
    classes = [kind]
    if kind is GZipMiddleware:
        classes += [gzip.IdentityResponder, gzip.GZipResponder]
    for owner in classes:
        for name, member in vars(owner).items():
            function = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if callable(function) and not _is_written_there(function, owner.__module__):
                raise _NotUnderstood(f"{owner.__name__}.{name} was replaced")


def _is_written_there(function: Any, module: str) -> bool:
    return type(function) is types.FunctionType and function.__module__ == module and not hasattr(function, "__wrapped__")


# What they are.


def _values(layer: Any, *names: str) -> dict[str, Any]:
    """The attributes of an object that has these and no others."""
    values: dict[str, Any] = vars(layer)
    if values.keys() - {changes.MARK} != {"app", *names}:
        raise _NotUnderstood(f"{type(layer).__name__} was changed")
    return values


def _texts(layer: Any, name: str, values: Any) -> list[str]:
    """A collection of texts: an iterator would be used up, and a text is a collection of others."""
    if type(values) not in (list, tuple) or not all(type(value) is str for value in values):
        raise _NotUnderstood(f"{name} of {type(layer).__name__} is not a list or tuple of str")
    return list(values)


def _plain(layer: Any, name: str, value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise _NotUnderstood(f"{name} of {type(layer).__name__} is not {kind.__name__}")
    return value


def _octets(texts: Iterable[str]) -> list[bytes]:
    """As a header has them; what none can have is equal to nothing that a request has."""
    found = []
    for text in texts:
        try:
            found.append(text.encode("latin-1"))
        except UnicodeEncodeError:
            continue
    return found


_NAME = re.compile(r"[A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")


def _lines(layer: Any, name: str, lines: Any) -> list[tuple[bytes, bytes]]:
    if type(lines) is not dict:
        raise _NotUnderstood(f"{name} of {type(layer).__name__} is not a dict")
    for key, value in lines.items():
        if not (type(key) is type(value) is str and _NAME.fullmatch(key) and _VALUE.fullmatch(value)):
            raise _NotUnderstood(f"{name} of {type(layer).__name__} has what no answer can have")
        if key.lower() != "vary" and not key.startswith("Access-Control-"):
            raise _NotUnderstood(f"{name} of {type(layer).__name__} was changed")
    return [(key.lower().encode(), value.encode("latin-1")) for key, value in lines.items()]


def _read_cors(layer: CORSMiddleware, _root_path: str) -> Cors:
    flags = ("allow_all_origins", "allow_all_headers", "allow_credentials", "preflight_explicit_allow_origin", "allow_private_network")
    lists = ("allow_origins", "allow_methods", "allow_headers")
    values = _values(layer, *flags, *lists, "allow_origin_regex", "simple_headers", "preflight_headers")
    pattern = values["allow_origin_regex"]
    if pattern is not None and type(pattern) is not re.Pattern:
        raise _NotUnderstood("allow_origin_regex of CORSMiddleware is not a pattern")
    options: dict[str, Any] = {name: _plain(layer, name, values[name], bool) for name in flags}
    options |= {name: _octets(_texts(layer, name, values[name])) for name in lists}
    options |= {name: _lines(layer, name, values[name]) for name in ("simple_headers", "preflight_headers")}
    return Cors(
        **options,
        origin_matches=None if pattern is None else pattern.fullmatch,
        live=[values[name] for name in ("allow_origins", "allow_methods") if type(values[name]) is list],
    )


def _read_gzip(layer: GZipMiddleware, _root_path: str) -> Gzip:
    values = _values(layer, "minimum_size", "compresslevel", "thread_minimum_size", "exclude_content_types")
    sizes = {name: min(max(_plain(layer, name, values[name], int), 0), 2**62) for name in ("minimum_size", "thread_minimum_size")}
    level = _plain(layer, "compresslevel", values["compresslevel"], int)
    if not -1 <= level <= 9:
        raise _NotUnderstood(f"compresslevel of GZipMiddleware is {level}")
    excluded = _texts(layer, "exclude_content_types", values["exclude_content_types"])
    # What is not ASCII is equal to no media type that is; another one's answer goes its own way.
    return Gzip(level=6 if level == -1 else level, exclude_content_types=[kind for kind in excluded if kind.isascii()], **sizes)


def _read_trusted_host(layer: TrustedHostMiddleware, root_path: str) -> TrustedHost:
    values = _values(layer, "allowed_hosts", "allow_any", "www_redirect")
    hosts = _texts(layer, "allowed_hosts", values["allowed_hosts"])
    flags = {name: _plain(layer, name, values[name], bool) for name in ("allow_any", "www_redirect")}
    return TrustedHost(allowed_hosts=hosts, root_path=root_path, **flags)


def _read_https_redirect(layer: HTTPSRedirectMiddleware, root_path: str) -> HttpsRedirect:
    _values(layer)
    return HttpsRedirect(root_path)


_READERS: dict[type, Callable[[Any, str], Layer]] = {
    CORSMiddleware: _read_cors,
    GZipMiddleware: _read_gzip,
    TrustedHostMiddleware: _read_trusted_host,
    HTTPSRedirectMiddleware: _read_https_redirect,
}
