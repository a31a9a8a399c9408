"""One page of many."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session


class Paging(BaseModel):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    offset: Annotated[int, Field(ge=0)] = 0


PagingDep = Annotated[Paging, Query()]


class Page[Item](BaseModel):
    items: list[Item]
    total: int
    limit: int
    offset: int


def page_of(session: Session, chosen: Select[Any], paging: Paging) -> dict[str, Any]:
    """The rows of one page, and how many there are; the route's response model makes items of the rows."""
    total = session.scalar(select(func.count()).select_from(chosen.order_by(None).subquery()))
    items = session.scalars(chosen.limit(paging.limit).offset(paging.offset)).all()
    return {"items": items, "total": total, **paging.model_dump()}
