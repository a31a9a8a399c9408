"""The app, put together."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from sqlalchemy.orm import sessionmaker

from turboapi import TurboAPI

from .database import make_engine
from .errors import add_exception_handlers
from .routers import health, notes, users
from .settings import Settings
from .tables import Base


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    engine = make_engine(app.state.settings.database_url)
    Base.metadata.create_all(engine)
    # Objects are read after the commit, by the response model.
    yield {"sessions": sessionmaker(engine, expire_on_commit=False)}
    engine.dispose()


def create_app(settings: Settings) -> TurboAPI:
    app = TurboAPI(title="Notes", lifespan=lifespan)
    app.state.settings = settings

    @app.middleware("http")
    async def add_timing(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        response.headers["Server-Timing"] = f"app;dur={1000 * (time.perf_counter() - started):.1f}"
        return response

    # Added last, so it is outermost: it answers a browser's question before the others see it.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["Authorization"],
        expose_headers=["Location", "Server-Timing"],
    )
    add_exception_handlers(app)
    for module in (health, users, notes):
        app.include_router(module.router)
    return app
