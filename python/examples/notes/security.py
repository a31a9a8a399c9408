"""Passwords, tokens, and who a request is from."""

import base64
import hashlib
import hmac
import os
from datetime import timedelta
from typing import Annotated

import jwt
from fastapi import Depends, HTTPException, Security, status
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from sqlalchemy import select
from sqlalchemy.orm import Session

from .database import SessionDep
from .settings import Settings, SettingsDep
from .tables import User, now

ALGORITHM = "HS256"

SCOPES = {"me": "Read and change one's own account.", "notes": "Read and change one's own notes.", "admin": "See all users."}

oauth2_scheme = OAuth2PasswordBearer(tokenUrl="users/token", scopes=SCOPES)


def hash_password(password: str) -> str:
    salt = os.urandom(16)
    return base64.b64encode(salt + _derived(password, salt)).decode()


def is_password(password: str, password_hash: str) -> bool:
    decoded = base64.b64decode(password_hash)
    salt, derived = decoded[:16], decoded[16:]
    return hmac.compare_digest(derived, _derived(password, salt))


def _derived(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**12, r=8, p=1)


def authenticated(session: Session, email: str, password: str) -> User | None:
    user = session.scalar(select(User).where(User.email == email))
    return user if user and is_password(password, user.password_hash) else None


def make_token(user: User, scopes: list[str], settings: Settings) -> str:
    claims = {"sub": str(user.id), "scope": " ".join(scopes), "exp": now() + timedelta(minutes=settings.token_minutes)}
    return jwt.encode(claims, settings.secret_key, algorithm=ALGORITHM)


def get_current_user(
    security_scopes: SecurityScopes, token: Annotated[str, Depends(oauth2_scheme)], session: SessionDep, settings: SettingsDep
) -> User:
    challenge = f'Bearer scope="{security_scopes.scope_str}"' if security_scopes.scopes else "Bearer"
    unauthorized = HTTPException(status.HTTP_401_UNAUTHORIZED, "Could not validate credentials", {"WWW-Authenticate": challenge})
    try:
        claims = jwt.decode(token, settings.secret_key, algorithms=[ALGORITHM])
        user = session.get(User, int(claims["sub"]))
    except (jwt.InvalidTokenError, KeyError, ValueError) as error:
        raise unauthorized from error
    if user is None:
        raise unauthorized
    granted = claims.get("scope", "").split()
    if any(scope not in granted for scope in security_scopes.scopes):
        raise HTTPException(status.HTTP_403_FORBIDDEN, "Not enough permissions", {"WWW-Authenticate": challenge})
    return user


#: Whoever is asked for by these has the scope.
Me = Annotated[User, Security(get_current_user, scopes=["me"])]
Writer = Annotated[User, Security(get_current_user, scopes=["notes"])]
Admin = Annotated[User, Security(get_current_user, scopes=["admin"])]
