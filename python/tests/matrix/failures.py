"""Routes that raise, and the handlers of what they raise."""

from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as StarletteHTTPException

from .record import Note


class KnownError(Exception):
    """The app has a handler for it, an async one."""


class KnownChildError(KnownError):
    """Handled as its parent."""


class OtherError(Exception):
    """The app has a handler for it, a def, with a background task."""


class NestedError(Exception):
    """Its handler raises."""


class Number(BaseModel):
    n: int


def add(app: FastAPI, note: Note) -> None:
    _add_handlers(app, note)
    _add_http(app, note)
    _add_known(app, note)
    _add_unknown(app, note)
    _add_late(app, note)


def _add_handlers(app: FastAPI, note: Note) -> None:
    @app.exception_handler(KnownError)
    async def on_known(request: Request, error: KnownError) -> Response:
        note(f"on known {type(error).__name__}")
        seen = {"parameters": request.path_params, "route": request.scope["route"].path, "endpoint": request.scope["endpoint"].__name__}
        return JSONResponse({"known": str(error), **seen, "token": request.headers.get("x-token")}, 409, {"X-Known": "1"})

    @app.exception_handler(OtherError)
    def on_other(request: Request, error: OtherError) -> Response:
        note("on other")
        return PlainTextResponse(f"{request.url.path} {error}", 410, background=BackgroundTask(note, "after other"))

    @app.exception_handler(NestedError)
    async def on_nested(request: Request, error: NestedError) -> Response:
        note("on nested")
        raise KnownError("from the handler")


def _add_http(app: FastAPI, note: Note) -> None:
    @app.get("/raise/http/{code}")
    def raise_http(code: int):
        note("raise http")
        raise HTTPException(code, headers={"X-Error": "ü", "x-error": "2"})

    @app.get("/raise/http/async/{code}")
    async def raise_http_async(code: int):
        note("raise http async")
        raise HTTPException(code, detail={"code": [code, None]})

    @app.get("/raise/starlette")
    async def raise_starlette():
        note("raise starlette")
        raise StarletteHTTPException(418, "tea", {"X-Tea": "1"})

    @app.get("/raise/validation")
    def raise_validation():
        note("raise validation")
        raise RequestValidationError([{"type": "made_up", "loc": ("body", 1), "msg": "m", "input": {"a": 1}}])


def _add_known(app: FastAPI, note: Note) -> None:
    @app.get("/raise/known/{a}")
    async def raise_known(a: int):
        note("raise known")
        raise KnownError(f"known {a}")

    @app.get("/raise/child/{a}")
    def raise_child(a: str):
        note("raise child")
        raise KnownChildError(a)

    @app.get("/raise/other")
    def raise_other():
        note("raise other")
        raise OtherError("other")

    @app.get("/raise/nested")
    async def raise_nested():
        note("raise nested")
        raise NestedError


def _add_unknown(app: FastAPI, note: Note) -> None:
    @app.get("/raise/unknown")
    def raise_unknown():
        note("raise unknown")
        raise RuntimeError("secret text")

    @app.get("/raise/unknown/async")
    async def raise_unknown_async():
        note("raise unknown async")
        raise KeyError("secret text")

    @app.get("/raise/group")
    async def raise_group():
        note("raise group")
        raise ExceptionGroup("two", [ValueError("one"), KeyError("two")])

    @app.get("/raise/answer", response_model=Number)
    def raise_answer():
        note("raise answer")
        return {"n": "no number"}

    @app.get("/raise/answer/async")
    async def raise_answer_async() -> list[Number]:
        note("raise answer async")
        return [{"m": 1}]  # type: ignore[list-item]

    @app.get("/raise/unserializable")
    def raise_unserializable():
        note("raise unserializable")
        return {"nan": float("nan")}


def _add_late(app: FastAPI, note: Note) -> None:
    @app.get("/raise/stream")
    def raise_stream():
        def parts() -> Iterator[str]:
            yield "one "
            yield "two "
            note("raise stream")
            raise RuntimeError("in a stream")

        return StreamingResponse(parts(), media_type="text/plain")

    @app.get("/raise/stream/async")
    async def raise_stream_async():
        async def parts() -> AsyncIterator[bytes]:
            yield b"one "
            note("raise stream async")
            raise KnownError("in a stream")

        return StreamingResponse(parts())

    @app.get("/raise/stream/first")
    async def raise_stream_first():
        async def parts() -> AsyncIterator[bytes]:
            note("raise stream first")
            raise OtherError("before the first part")
            yield b""

        return StreamingResponse(parts())
