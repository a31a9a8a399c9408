"""What is around an app of the corpus, by name."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import JSONResponse, PlainTextResponse

from .kit import Kit, KnownError, OtherError

Message = MutableMapping[str, Any]


def plain(kit: Kit) -> None:
    """Nothing but the handlers of the exceptions that the parts' own routes raise."""
    app = kit.app

    @app.exception_handler(KnownError)
    async def on_known(request: Request, error: KnownError) -> Response:
        kit.note(f"on known {error}")
        return JSONResponse({"known": str(error), "parameters": request.path_params}, 409, {"X-Known": "1"})

    @app.exception_handler(OtherError)
    def on_other(request: Request, error: OtherError) -> Response:
        kit.note(f"on other {error}")
        return PlainTextResponse(f"{request.url.path} {error}", 410)


def is_refusal(error: BaseException) -> bool:
    """Whether it is h11's, of a body where 204 and 304 have none, which other servers drop."""
    return type(error).__name__ == "LocalProtocolError"


class Recorder:
    """A middleware of plain ASGI that notes the answer's messages as they pass."""

    def __init__(self, app: Callable[..., Awaitable[None]], kit: Kit) -> None:
        self.app, self.kit = app, kit

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.kit.note(f"send start {message['status']}")
            else:
                self.kit.note(f"send body {len(message.get('body', b''))} {message.get('more_body', False)}")
            await send(message)

        self.kit.mark("in")
        try:
            await self.app(scope, receive, recorded)
        except Exception as error:
            if not is_refusal(error):
                self.kit.note(f"saw {type(error).__name__}")
            raise
        finally:
            self.kit.note("out")


def recorder(kit: Kit) -> None:
    """One more layer that sees the answer."""
    plain(kit)
    kit.app.add_middleware(Recorder, kit=kit)


def handlers(kit: Kit) -> None:
    """The app's own word for every error."""
    plain(kit)
    app: FastAPI = kit.app

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        kit.note(f"on http {error.status_code}")
        return JSONResponse({"own": error.detail, "path": request.url.path}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        kit.note(f"on invalid {len(error.errors())}")
        return PlainTextResponse(f"{[(item['type'], item['loc']) for item in error.errors()]} {error.body!r}", 400)

    @app.exception_handler(ResponseValidationError)
    def on_invalid_answer(request: Request, error: ResponseValidationError) -> Response:
        kit.note(f"on invalid answer {len(error.errors())}")
        return PlainTextResponse("invalid answer", 502)

    @app.exception_handler(Exception)
    async def on_any(request: Request, error: Exception) -> Response:
        if not is_refusal(error):
            kit.note(f"on any {type(error).__name__}")
        return PlainTextResponse(f"any {type(error).__name__}", 500)


SET_UPS: dict[str, Callable[[Kit], None]] = {"plain": plain, "recorder": recorder, "handlers": handlers}
