"""The app: more than 150 routes, and one set-up around them."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, WebSocket
from fastapi.routing import APIRoute

from . import dependencies, failures, inputs, nested, outputs, protocol, requesting
from .layers import SETUPS
from .record import Note

DESCRIBED = 12


def make_app(set_up_name: str, note: Note) -> FastAPI:
    """A fresh app in this set-up, that tells `note` what happens."""
    set_up = SETUPS[set_up_name]

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        app.state.started = "yes"
        yield {"lifespan": "state"}

    app = protocol.KINDS.get(set_up, FastAPI)(lifespan=lifespan, title="Matrix")
    for part in (inputs, outputs, requesting, dependencies, failures, nested):
        part.add(app, note)

    # Only some are on the docs pages: a description of all takes longer than the rest of a set-up's requests.
    for route in app.router.routes[DESCRIBED:]:
        if isinstance(route, APIRoute):
            route.include_in_schema = False

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        raise AssertionError("no test opens it")

    set_up(app, note)
    return app
