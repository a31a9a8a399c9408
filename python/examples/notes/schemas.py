"""What clients send and see."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Tag = Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1, max_length=30)]


class UserBase(BaseModel):
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$", max_length=200)]
    full_name: Annotated[str, Field(max_length=200)] | None = None


class UserCreate(UserBase):
    password: Annotated[str, Field(min_length=8, max_length=100)]


class UserUpdate(BaseModel):
    full_name: Annotated[str, Field(max_length=200)] | None = None
    password: Annotated[str, Field(min_length=8, max_length=100)] | None = None


class UserPublic(UserBase):
    model_config = ConfigDict(from_attributes=True)

    id: int
    created_at: datetime


class NoteBase(BaseModel):
    title: Annotated[str, Field(min_length=1, max_length=100)]
    text: str = ""
    tags: list[Tag] = []


class NoteCreate(NoteBase):
    model_config = ConfigDict(extra="forbid")


class NoteUpdate(BaseModel):
    title: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    text: str | None = None
    tags: list[Tag] | None = None


class NotePublic(NoteBase):
    model_config = ConfigDict(from_attributes=True)

    id: int
    owner_id: int
    created_at: datetime


class Token(BaseModel):
    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int


class Problem(BaseModel):
    """RFC 9457."""

    title: str
    status: int
    detail: str
