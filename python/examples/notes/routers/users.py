"""Sign up, sign in, one's own account; all users for who may see them."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, HTTPException
from fastapi.security import OAuth2PasswordRequestForm
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from ..database import SessionDep
from ..errors import ConflictError, NotFoundError
from ..mail import MailerDep
from ..paging import Page, PagingDep, page_of
from ..schemas import Token, UserCreate, UserPublic, UserUpdate
from ..security import Admin, Me, authenticated, get_current_user, hash_password, make_token
from ..settings import SettingsDep
from ..tables import User

router = APIRouter(prefix="/users", tags=["users"])


@router.post("", status_code=201)
def sign_up(
    user_in: UserCreate, session: SessionDep, settings: SettingsDep, mailer: MailerDep, background_tasks: BackgroundTasks
) -> UserPublic:
    user = User(
        **user_in.model_dump(exclude={"password"}),
        password_hash=hash_password(user_in.password),
        is_admin=user_in.email == settings.admin_email,
    )
    session.add(user)
    try:
        session.commit()
    except IntegrityError as error:
        raise ConflictError(f"{user_in.email} is signed up already") from error
    background_tasks.add_task(mailer.send, user.email, "Welcome", f"Hello {user.full_name or user.email}!")
    return UserPublic.model_validate(user)


@router.post("/token")
def sign_in(form: Annotated[OAuth2PasswordRequestForm, Depends()], session: SessionDep, settings: SettingsDep) -> Token:
    user = authenticated(session, form.username, form.password)
    if user is None:
        raise HTTPException(400, "Incorrect email or password")
    scopes = [scope for scope in form.scopes if scope != "admin" or user.is_admin]
    return Token(access_token=make_token(user, scopes, settings), expires_in=settings.token_minutes * 60)


@router.get("/me", response_model=UserPublic)
def read_me(user: Me) -> User:
    return user


@router.patch("/me", response_model=UserPublic)
def update_me(changes: UserUpdate, user: Me, session: SessionDep) -> User:
    changed = changes.model_dump(exclude_unset=True)
    if password := changed.pop("password", None):
        user.password_hash = hash_password(password)
    for name, value in changed.items():
        setattr(user, name, value)
    session.commit()
    return user


@router.get("", response_model=Page[UserPublic])
def list_users(_: Admin, session: SessionDep, paging: PagingDep):
    return page_of(session, select(User).order_by(User.id), paging)


@router.get("/{user_id}", response_model=UserPublic, dependencies=[Depends(get_current_user)])
def read_user(user_id: int, session: SessionDep) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise NotFoundError(f"there is no user {user_id}")
    return user
