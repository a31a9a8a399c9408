"""Set-ups of the middlewares that Starlette has, and their orders. The one that is added last is the outermost."""

from collections.abc import Callable

from fastapi import FastAPI
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, BaseUser, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection

from .record import Note

SetUp = Callable[[FastAPI, Note], None]


def none(app: FastAPI, note: Note) -> None:
    """The app as it is."""


def cors_any(app: FastAPI, note: Note) -> None:
    app.add_middleware(CORSMiddleware, allow_origins=["*"])


def cors_listed(app: FastAPI, note: Note) -> None:
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["https://one.test", "https://two.test"],
        allow_credentials=True,
        allow_methods=["GET", "POST"],
        allow_headers=["X-Token", "X-Number"],
        expose_headers=["X-Set", "X-One"],
        max_age=77,
    )


def cors_pattern(app: FastAPI, note: Note) -> None:
    app.add_middleware(CORSMiddleware, allow_origin_regex=r"https://.*\.test", allow_methods=["*"], allow_headers=["*"])


def cors_any_credentials(app: FastAPI, note: Note) -> None:
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True, allow_methods=["*"], allow_headers=["*"])


def cors_nobody(app: FastAPI, note: Note) -> None:
    app.add_middleware(CORSMiddleware)


def gzip(app: FastAPI, note: Note) -> None:
    app.add_middleware(GZipMiddleware)


def gzip_everything(app: FastAPI, note: Note) -> None:
    app.add_middleware(GZipMiddleware, minimum_size=0, compresslevel=1)


def trusted_host(app: FastAPI, note: Note) -> None:
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["example.test", "*.example.org", "www.other.test"])


def trusted_host_any(app: FastAPI, note: Note) -> None:
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["*"], www_redirect=False)


def https_redirect(app: FastAPI, note: Note) -> None:
    app.add_middleware(HTTPSRedirectMiddleware)


def cors_in_gzip(app: FastAPI, note: Note) -> None:
    cors_listed(app, note)
    app.add_middleware(GZipMiddleware, minimum_size=100)


def gzip_in_cors(app: FastAPI, note: Note) -> None:
    app.add_middleware(GZipMiddleware, minimum_size=100)
    cors_pattern(app, note)


def cors_gzip_trusted(app: FastAPI, note: Note) -> None:
    cors_any_credentials(app, note)
    gzip(app, note)
    trusted_host(app, note)


def trusted_in_cors(app: FastAPI, note: Note) -> None:
    trusted_host(app, note)
    cors_listed(app, note)


def https_in_cors_in_gzip(app: FastAPI, note: Note) -> None:
    https_redirect(app, note)
    cors_any(app, note)
    gzip_everything(app, note)


def cors_twice(app: FastAPI, note: Note) -> None:
    cors_listed(app, note)
    cors_any(app, note)


def gzip_twice(app: FastAPI, note: Note) -> None:
    gzip(app, note)
    gzip_everything(app, note)


def session(app: FastAPI, note: Note) -> None:
    app.add_middleware(SessionMiddleware, secret_key="matrix", max_age=3600)


def session_until_closed(app: FastAPI, note: Note) -> None:
    app.add_middleware(
        SessionMiddleware, secret_key="matrix", session_cookie="other", max_age=None, path="/request", same_site="strict", https_only=True
    )


class HeaderBackend(AuthenticationBackend):
    """`Authorization: user NAME`."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        kind, _, name = conn.headers.get("authorization", "").partition(" ")
        if kind != "user":
            return None
        if not name:
            raise AuthenticationError("no name")
        return AuthCredentials(["authenticated", "named"]), SimpleUser(name)


def authentication(app: FastAPI, note: Note) -> None:
    app.add_middleware(AuthenticationMiddleware, backend=HeaderBackend())


def session_authentication_cors(app: FastAPI, note: Note) -> None:
    session(app, note)
    authentication(app, note)
    cors_listed(app, note)
