"""What the app raises, and how that is answered: as a problem (RFC 9457)."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError

from .schemas import Problem


class ProblemError(Exception):
    status = 400
    title = "Bad request"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotFoundError(ProblemError):
    status = 404
    title = "Not found"


class ConflictError(ProblemError):
    status = 409
    title = "Conflict"


def add_exception_handlers(app: FastAPI) -> None:
    @app.exception_handler(ProblemError)
    async def on_problem(request: Request, error: ProblemError) -> JSONResponse:
        return answer(error.title, error.status, error.detail)

    @app.exception_handler(OperationalError)
    async def on_database(request: Request, error: OperationalError) -> JSONResponse:
        return answer("Service unavailable", 503, "the database does not answer", {"Retry-After": "5"})


def answer(title: str, status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    problem = Problem(title=title, status=status, detail=detail)
    return JSONResponse(problem.model_dump(), status, headers, media_type="application/problem+json")
