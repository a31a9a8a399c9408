"""Whether the app can work."""

from fastapi import APIRouter
from sqlalchemy import text

from ..database import SessionDep

router = APIRouter(tags=["health"])


@router.get("/health")
def health(session: SessionDep) -> dict[str, str]:
    session.execute(text("SELECT 1"))
    return {"status": "ok"}
