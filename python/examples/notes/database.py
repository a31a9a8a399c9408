"""Sessions: one for a request, committed by who changes something, rolled back when the request fails."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.orm import Session


def make_engine(url: str) -> Engine:
    # SQLite's connections belong to one thread, and a session goes through several: its dependency's, the endpoint's.
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    return create_engine(url, connect_args={"check_same_thread": False} if is_sqlite else {}, pool_pre_ping=not is_sqlite)


def get_session(request: Request) -> Iterator[Session]:
    with request.state.sessions() as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session)]
