"""Routers and apps inside the app, and routes that are not FastAPI's own."""

import gzip
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route, Router

from .failures import KnownError
from .inputs import Item, Point
from .protocol import Marking
from .record import Note


def add(app: FastAPI, note: Note) -> None:
    _add_included(app, note)
    _add_slashes(app, note)
    _add_route_classes(app, note)
    _add_starlette(app, note)
    _add_sub_app(app, note)
    # The last: it takes what is left under its prefix.
    _add_raw_app(app, note)


def _add_included(app: FastAPI, note: Note) -> None:
    def guard(q: int = 0) -> int:
        note("guard")
        if q == 13:
            raise HTTPException(403, "guarded")
        return q

    inner = APIRouter(prefix="/inner", tags=["inner"])

    @inner.get("")
    def inner_root():
        note("inner root")
        return "root"

    @inner.get("/users/{a}")
    def inner_user(a: int, q: int = 0):
        note("inner user")
        return [a, q]

    @inner.post("/users/{name}", status_code=201)
    async def inner_create(name: str, point: Point) -> Point:
        note("inner create")
        return point

    outer = APIRouter(prefix="/outer", default_response_class=PlainTextResponse)

    @outer.get("/text")
    async def outer_text(request: Request):
        note("outer text")
        return f"text of {request.scope['route'].path}"

    outer.include_router(inner)
    app.include_router(inner, prefix="/v1")
    app.include_router(inner, prefix="/guarded", dependencies=[Depends(guard)], responses={403: {}})
    app.include_router(outer, prefix="/tenant/{tenant}")


def _add_slashes(app: FastAPI, note: Note) -> None:
    @app.get("/slash/")
    def slash():
        note("slash")
        return "slash"

    @app.post("/slash/{a}/")
    async def slash_post(a: str, request: Request):
        note("slash post")
        return [a, len(await request.body())]


class UnzippedRequest(Request):
    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            body = await super().body()
            self._body = gzip.decompress(body) if "gzip" in self.headers.getlist("Content-Encoding") else body
        return self._body


def _add_route_classes(app: FastAPI, note: Note) -> None:
    Handler = Callable[[Request], Any]

    class UnzippingRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            handler = super().get_route_handler()

            async def unzipping(request: Request) -> Response:
                return await handler(UnzippedRequest(request.scope, request.receive))

            return unzipping

    class TimedRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            handler = super().get_route_handler()

            async def timed(request: Request) -> Response:
                note("timed in")
                response = await handler(request)
                response.headers["X-Response-Time"] = "0"
                note("timed out")
                return response

            return timed

    class LoggingRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            handler = super().get_route_handler()

            async def logging(request: Request) -> Response:
                try:
                    return await handler(request)
                except Exception as error:
                    # Not `body()`: where reading it has raised, it would wait for ever.
                    note(f"logged {type(error).__name__} {len(getattr(request, '_body', b''))}")
                    raise HTTPException(422 if isinstance(error, ValueError) else 500, type(error).__name__) from error

            return logging

    unzipping, timed, logged = APIRouter(route_class=UnzippingRoute), APIRouter(route_class=TimedRoute), APIRouter(route_class=LoggingRoute)

    @unzipping.post("/unzip/sum")
    async def unzip_sum(numbers: Annotated[list[int], Body()]):
        note("unzip sum")
        return {"sum": sum(numbers)}

    @timed.get("/timed/{a}")
    def timed_get(a: int):
        note("timed")
        return a

    @timed.get("/timed/raise/{a}")
    async def timed_raise(a: int):
        raise KnownError("timed")

    @logged.post("/logged")
    async def logged_post(item: Item):
        note("logged")
        if item.name == "raise":
            raise KeyError("logged")
        return item

    for router in (unzipping, timed, logged):
        app.include_router(router)


def _add_starlette(app: FastAPI, note: Note) -> None:
    async def show(request: Request) -> Response:
        note("starlette")
        return PlainTextResponse(f"{request.method} {request.path_params} {request.scope['root_path']}")

    def show_sync(request: Request) -> Response:
        note("starlette sync")
        return JSONResponse({"path": request.url.path, "root": request.scope.get("root_path")})

    marking = [Middleware(Marking, note=note, name="inner")]
    app.add_route("/starlette/{a:int}", show, methods=["GET", "PUT"])
    app.router.routes.append(Route("/starlette/marked/{a}", show_sync, middleware=marking))
    app.router.routes.append(Mount("/mounted", routes=[Route("/{a}", show), Route("/", show_sync)], middleware=marking))
    app.mount("/router", Router([Route("/{a}", show_sync), Route("/only/post", show, methods=["POST"])], middleware=marking))
    app.mount("/full", Starlette(routes=[Route("/{a}", show)], middleware=marking, exception_handlers={404: _not_here}))


async def _not_here(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"not here {request.url.path}", 404)


def _add_sub_app(app: FastAPI, note: Note) -> None:
    sub = FastAPI()

    @sub.get("/item/{a}")
    def sub_item(a: int, q: str = ""):
        note("sub item")
        return [a, q]

    @sub.get("/scope")
    async def sub_scope(request: Request):
        note("sub scope")
        scope = request.scope
        return [
            scope["root_path"],
            scope["path"],
            scope["app"] is sub,
            scope["route"].path,
            str(request.url),
            str(request.url_for("sub_item", a=1)),
        ]

    @sub.get("/raise/{a}")
    async def sub_raise(a: str):
        note("sub raise")
        raise KnownError(a) if a == "known" else HTTPException(404, a)

    @sub.post("/model")
    def sub_model(point: Point) -> Point:
        note("sub model")
        return point

    @sub.exception_handler(KnownError)
    async def on_known(request: Request, error: KnownError) -> Response:
        note("sub on known")
        return PlainTextResponse(f"sub {error}", 411)

    marked = FastAPI()
    marked.add_middleware(Marking, note=note, name="sub")

    @marked.get("/item/{a}")
    async def marked_item(a: int):
        note("marked item")
        return a

    sub.mount("/marked", marked)
    app.mount("/sub", sub, name="sub")


def _add_raw_app(app: FastAPI, note: Note) -> None:
    async def raw(scope: Any, receive: Any, send: Any) -> None:
        note("raw")
        body = f"{scope['method']} {scope['path']} {scope['root_path']}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Raw", b"1"), (b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    app.mount("/raw", raw)
