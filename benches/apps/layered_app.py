"""turbo_app.py within five layers, for the soak test: CORS, gzip, `@app.middleware("http")`, a BaseHTTPMiddleware and a plain ASGI one.

`GET /garbage` says what a garbage collection finds, by type. The first call turns automatic collections off: what the last one finds is
then all that requests have left in cycles since.
"""

import gc
from collections import Counter
from typing import Any

from fastapi import Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from turbo_app import app


class Stamped:
    """Adds a header to each answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_stamped(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", b"1")]
            await send(message)

        await self.app(scope, receive, send_stamped)


class Passing(BaseHTTPMiddleware):
    """Reads a header, and adds one to the answer."""

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-passed"] = request.headers.get("host", "")
        return response


app.add_middleware(Stamped)
app.add_middleware(Passing)


@app.middleware("http")
async def add_header(request: Request, call_next: Any) -> Any:
    response = await call_next(request)
    response.headers["x-method"] = request.method
    return response


app.add_middleware(GZipMiddleware)
app.add_middleware(CORSMiddleware, allow_origins=["*"])


@app.get("/garbage")
async def garbage():
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.garbage)
    gc.garbage.clear()
    gc.freeze()
    return dict(found)
