"""The two ways of a route: by its plan, or by the app's own ASGI call."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute


class OwnRoute(APIRoute):
    """A route whose class finds its requests in its own way has no plan."""

    def matches(self, scope: Any) -> Any:
        return super().matches(scope)


def by_asgi[App: FastAPI](app: App, is_so: bool = True) -> App:
    """The app, before it has routes: those that are declared from here on have no plan, if it is to be so."""
    if is_so:
        app.router.route_class = OwnRoute
    return app
