"""One's own notes."""

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Body, Depends, Header, Query, Response
from sqlalchemy import select

from ..database import SessionDep
from ..errors import NotFoundError
from ..mail import MailerDep
from ..paging import Page, Paging, page_of
from ..schemas import NoteCreate, NotePublic, NoteUpdate
from ..security import Writer
from ..tables import Note

router = APIRouter(prefix="/notes", tags=["notes"])


class Order(StrEnum):
    oldest = "oldest"
    newest = "newest"
    title = "title"


ORDERS = {Order.oldest: Note.id, Order.newest: Note.id.desc(), Order.title: Note.title}


class Filter(Paging):
    title: str | None = None
    order: Order = Order.oldest


def get_note(note_id: int, user: Writer, session: SessionDep) -> Note:
    note = session.get(Note, note_id)
    if note is None or note.owner_id != user.id:
        raise NotFoundError(f"there is no note {note_id}")
    return note


NoteDep = Annotated[Note, Depends(get_note)]


@router.get("", response_model=Page[NotePublic])
def list_notes(user: Writer, session: SessionDep, chosen: Annotated[Filter, Query()]):
    notes = select(Note).where(Note.owner_id == user.id).order_by(ORDERS[chosen.order])
    if chosen.title:
        notes = notes.where(Note.title.icontains(chosen.title, autoescape=True))
    return page_of(session, notes, Paging(limit=chosen.limit, offset=chosen.offset))


@router.get("/tags")
def count_tags(user: Writer, session: SessionDep, tag: Annotated[list[str] | None, Query()] = None) -> dict[str, int]:
    counts: dict[str, int] = {}
    for tags in session.scalars(select(Note.tags).where(Note.owner_id == user.id)):
        for found in tags:
            counts[found] = counts.get(found, 0) + 1
    return {name: count for name, count in sorted(counts.items()) if tag is None or name in tag}


@router.post("", status_code=201, response_model=NotePublic)
def create_note(note_in: NoteCreate, user: Writer, session: SessionDep, response: Response) -> Note:
    note = Note(**note_in.model_dump(), owner_id=user.id)
    session.add(note)
    session.commit()
    response.headers["Location"] = f"/notes/{note.id}"
    return note


@router.get("/{note_id}", response_model=NotePublic)
def read_note(note: NoteDep, response: Response, if_none_match: Annotated[str | None, Header()] = None):
    etag = f'"{note.id}-{len(note.text)}"'
    if if_none_match == etag:
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return note


@router.patch("/{note_id}", response_model=NotePublic)
def update_note(changes: NoteUpdate, note: NoteDep, session: SessionDep) -> Note:
    for name, value in changes.model_dump(exclude_unset=True).items():
        setattr(note, name, value)
    session.commit()
    return note


@router.delete("/{note_id}", status_code=204)
def delete_note(note: NoteDep, session: SessionDep) -> None:
    session.delete(note)
    session.commit()


@router.post("/{note_id}/mail", status_code=202)
async def mail_note(
    note: NoteDep, user: Writer, mailer: MailerDep, background_tasks: BackgroundTasks, to: Annotated[str, Body(embed=True, max_length=200)]
) -> dict[str, str]:
    background_tasks.add_task(mailer.send, to, f"{user.email} shares a note: {note.title}", note.text)
    return {"sent_to": to}
