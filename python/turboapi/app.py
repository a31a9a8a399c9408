"""TurboAPI, a FastAPI that serves itself, and the options that its routes have more. Not here: how it serves (serving/server.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import fastapi
from fastapi.params import Depends
from fastapi.routing import APIRoute
from fastapi.types import IncEx
from starlette.responses import Response
from starlette.routing import BaseRoute

if TYPE_CHECKING:
    from fastapi._form_limits import _FormLimits  # FastAPI's own word for it; older ones have none

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

#: As `body_bytes_max` of turboapi.config.
_BODY_BYTES_MAX = 2**40


def _record(routes: list[Any], blocking: bool | None, body_bytes_max: int | None) -> None:
    """Writes the options on the route that was added last, where `compile_app` of plan/routes.py finds them. FastAPI never sees them."""
    if blocking is not None:
        if not isinstance(blocking, bool):
            raise TypeError(f"blocking is {blocking!r}, allowed are True, False and None")
        routes[-1].turboapi_blocking = blocking
    if body_bytes_max is not None:
        if not isinstance(body_bytes_max, int) or isinstance(body_bytes_max, bool) or not 0 <= body_bytes_max <= _BODY_BYTES_MAX:
            raise TypeError(f"body_bytes_max is {body_bytes_max!r}, allowed are None and a whole number from 0 to {_BODY_BYTES_MAX}")
        routes[-1].turboapi_body_bytes_max = body_bytes_max


class AnyRoute(TypedDict, total=False):
    """FastAPI's parameters of a route, as a type checker and an editor need them. What was not given is not passed on, so that each
    FastAPI has its own defaults, and none is given what it does not know. tests/test_app.py holds them against FastAPI's signatures."""

    response_model: Any
    status_code: int | None
    tags: list[str | Enum] | None
    dependencies: Sequence[Depends] | None
    summary: str | None
    description: str | None
    response_description: str
    responses: dict[int | str, dict[str, Any]] | None
    deprecated: bool | None
    operation_id: str | None
    response_model_include: IncEx | None
    response_model_exclude: IncEx | None
    response_model_by_alias: bool
    response_model_exclude_unset: bool
    response_model_exclude_defaults: bool
    response_model_exclude_none: bool
    include_in_schema: bool
    response_class: type[Response]
    name: str | None
    openapi_extra: dict[str, Any] | None
    generate_unique_id_function: Callable[[APIRoute], str]
    max_body_size: int | None
    form_limits: _FormLimits | None


class MethodRoute(AnyRoute, total=False):
    """`get` and its sisters."""

    callbacks: list[BaseRoute] | None


class AppRoute(AnyRoute, total=False):
    """`api_route` and `add_api_route` of an app."""

    methods: list[str] | None


class RouterRoute(MethodRoute, total=False):
    """`api_route` of a router."""

    methods: list[str] | None


class AddedRoute(MethodRoute, total=False):
    """`add_api_route` of a router."""

    methods: set[str] | list[str] | None
    route_class_override: type[APIRoute] | None
    strict_content_type: bool


class RouteOptions:
    """Adds `blocking=` and `body_bytes_max=` to what registers a route; everything else is passed on as it is.

    blocking: True: the `def` endpoint always runs in threads. False: always on the worker's own thread, which it then holds for as long
        as it waits. None (default): in threads until its calls have shown that they neither wait nor compute for longer than
        `inline_budget`, and there again when they do.
    body_bytes_max: bytes of the largest body that a request of this route may have; a larger one is answered 413, before the endpoint
        is called if its length is declared, else as soon as it is passed. None (default): the server's own setting of that name.
    """

    routes: list[Any]

    def _recording(self, decorate: Callable[[Any], Any], blocking: bool | None, body_bytes_max: int | None) -> Callable[[Any], Any]:
        def decorator(function: Any) -> Any:
            registered = decorate(function)
            _record(self.routes, blocking, body_bytes_max)
            return registered

        return decorator

    def get(
        self, path: str, *, blocking: bool | None = None, body_bytes_max: int | None = None, **options: Unpack[MethodRoute]
    ) -> Callable[[Endpoint], Endpoint]:
        return self._recording(super().get(path, **options), blocking, body_bytes_max)  # type: ignore[misc]

    def put(
        self, path: str, *, blocking: bool | None = None, body_bytes_max: int | None = None, **options: Unpack[MethodRoute]
    ) -> Callable[[Endpoint], Endpoint]:
        return self._recording(super().put(path, **options), blocking, body_bytes_max)  # type: ignore[misc]

    def post(
        self, path: str, *, blocking: bool | None = None, body_bytes_max: int | None = None, **options: Unpack[MethodRoute]
    ) -> Callable[[Endpoint], Endpoint]:
        return self._recording(super().post(path, **options), blocking, body_bytes_max)  # type: ignore[misc]

    def delete(
        self, path: str, *, blocking: bool | None = None, body_bytes_max: int | None = None, **options: Unpack[MethodRoute]
    ) -> Callable[[Endpoint], Endpoint]:
        return self._recording(super().delete(path, **options), blocking, body_bytes_max)  # type: ignore[misc]

    def options(
        self, path: str, *, blocking: bool | None = None, body_bytes_max: int | None = None, **options: Unpack[MethodRoute]
    ) -> Callable[[Endpoint], Endpoint]:
        return self._recording(super().options(path, **options), blocking, body_bytes_max)  # type: ignore[misc]

    def head(
        self, path: str, *, blocking: bool | None = None, body_bytes_max: int | None = None, **options: Unpack[MethodRoute]
    ) -> Callable[[Endpoint], Endpoint]:
        return self._recording(super().head(path, **options), blocking, body_bytes_max)  # type: ignore[misc]

    def patch(
        self, path: str, *, blocking: bool | None = None, body_bytes_max: int | None = None, **options: Unpack[MethodRoute]
    ) -> Callable[[Endpoint], Endpoint]:
        return self._recording(super().patch(path, **options), blocking, body_bytes_max)  # type: ignore[misc]

    def trace(
        self, path: str, *, blocking: bool | None = None, body_bytes_max: int | None = None, **options: Unpack[MethodRoute]
    ) -> Callable[[Endpoint], Endpoint]:
        return self._recording(super().trace(path, **options), blocking, body_bytes_max)  # type: ignore[misc]


class APIRouter(RouteOptions, fastapi.APIRouter):
    """FastAPI's APIRouter, with `blocking=` and `body_bytes_max=` on its routes."""

    def add_api_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        blocking: bool | None = None,
        body_bytes_max: int | None = None,
        **options: Unpack[AddedRoute],
    ) -> None:
        super().add_api_route(path, endpoint, **options)
        _record(self.routes, blocking, body_bytes_max)

    def api_route(
        self, path: str, *, blocking: bool | None = None, body_bytes_max: int | None = None, **options: Unpack[RouterRoute]
    ) -> Callable[[Endpoint], Endpoint]:
        return self._recording(super().api_route(path, **options), blocking, body_bytes_max)


class TurboAPI(RouteOptions, fastapi.FastAPI):
    """FastAPI with `run()`. Still an ordinary ASGI app: any other server can serve it too."""

    def add_api_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        blocking: bool | None = None,
        body_bytes_max: int | None = None,
        **options: Unpack[AppRoute],
    ) -> None:
        super().add_api_route(path, endpoint, **options)
        _record(self.routes, blocking, body_bytes_max)

    def api_route(
        self, path: str, *, blocking: bool | None = None, body_bytes_max: int | None = None, **options: Unpack[AppRoute]
    ) -> Callable[[Endpoint], Endpoint]:
        return self._recording(super().api_route(path, **options), blocking, body_bytes_max)

    def run(self, host: str | None = None, port: int | None = None, workers: int | None = None, **options: Any) -> None:
        """Serves until SIGINT, SIGTERM or SIGHUP.

        Args:
            host: Address to listen on; None is `TURBOAPI_HOST`, and without that 127.0.0.1.
            port: 0 takes a free one; None is `TURBOAPI_PORT`, and without that 8000.
            workers: None is `TURBOAPI_WORKERS`, and without that 1, or one per core with `worker_kind="threads"`.
            options: The other fields of `turboapi.config.Config`, each with its variable too. `uds="/run/app.sock"` listens on a
                Unix socket and `fd=3` on a descriptor that was handed down, instead of host and port.

        Raises:
            SystemExit: The server could not start, or ended by an error; what was wrong has been said on stderr.
        """
        from turboapi.serving import server

        server.run(self, {"host": host, "port": port, "workers": workers, **options})
