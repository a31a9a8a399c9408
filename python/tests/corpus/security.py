# ruff: noqa: E501 - tables of inputs read best as long lines
"""Security: each stock class with and without automatic errors, forms of OAuth2, scopes from routes and from dependencies."""

import base64
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Security
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
    HTTPDigest,
    OAuth2,
    OAuth2AuthorizationCodeBearer,
    OAuth2PasswordBearer,
    OAuth2PasswordRequestForm,
    OAuth2PasswordRequestFormStrict,
    OpenIdConnect,
    SecurityScopes,
)
from fastapi.security.http import HTTPBase

from .ask import Ask
from .kit import Kit, show


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode().replace("=", "%3D")


AUTHORIZATIONS = [
    "Bearer token", "bearer token", "BEARER  token", "Bearer", "Bearer ", "Bearer a b", "token", "Basic", "Basic x", "Basic " + basic("u", "p"), "basic " + basic("u", ""),
    "Basic " + basic("%C3%BC", "p:q"), "Basic dTpwX", "Basic %C3%BC", "Basic bm9jb2xvbg%3D%3D", "Basic /////w%3D%3D", "Digest x", "digest username%3D\"u\"", "Other x", "Bearer\ttoken", "Bearer,token",
]  # fmt: skip

SCHEMES: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[str, str]]] = {
    # name: class, what it is made with, and what it reads: place and name
    "password": (OAuth2PasswordBearer, {"tokenUrl": "token"}, ("headers", "Authorization")),
    "password_scopes": (OAuth2PasswordBearer, {"tokenUrl": "token", "scopes": {"a": "A", "b": "B"}}, ("headers", "Authorization")),
    "code": (OAuth2AuthorizationCodeBearer, {"authorizationUrl": "auth", "tokenUrl": "token"}, ("headers", "Authorization")),
    "oauth2": (OAuth2, {}, ("headers", "Authorization")),
    "bearer": (HTTPBearer, {}, ("headers", "Authorization")),
    "bearer_format": (HTTPBearer, {"bearerFormat": "JWT", "scheme_name": "jwt", "description": "d"}, ("headers", "Authorization")),
    "basic": (HTTPBasic, {}, ("headers", "Authorization")),
    "basic_realm": (HTTPBasic, {"realm": "r"}, ("headers", "Authorization")),
    "digest": (HTTPDigest, {}, ("headers", "Authorization")),
    "base": (HTTPBase, {"scheme": "other"}, ("headers", "Authorization")),
    "openid": (OpenIdConnect, {"openIdConnectUrl": "openid"}, ("headers", "Authorization")),
    "key_header": (APIKeyHeader, {"name": "X-Key"}, ("headers", "X-Key")),
    "key_query": (APIKeyQuery, {"name": "key"}, ("query", "key")),
    "key_cookie": (APIKeyCookie, {"name": "key"}, ("cookies", "key")),
}


def _asks(path: str, place: str, name: str) -> list[Ask]:
    texts = AUTHORIZATIONS if name == "Authorization" else ["k", "", "a%20b"]
    return [Ask(path, **{place: ((name, text),)}) for text in texts]


class Derived(OAuth2PasswordBearer):
    """As apps derive one: not the stock class any more."""

    async def __call__(self, request: Any) -> str | None:
        found = await super().__call__(request)
        return found and found[::-1]


def add(kit: Kit) -> None:
    schemes = {name: (kind, options) for name, (kind, options, _) in SCHEMES.items()} | {"derived": (Derived, {"tokenUrl": "token"})}
    for number, (name, (kind, options)) in enumerate(schemes.items()):
        place, wire_name = SCHEMES[name][2] if name in SCHEMES else ("headers", "Authorization")
        for is_strict in (True, False):
            scheme = kind(**options, auto_error=is_strict)
            for form, declared in {"depends": Depends(scheme), "security": Security(scheme, scopes=["a"])}.items():
                path = f"/{name}/{'strict' if is_strict else 'lax'}/{form}"
                _add_one(kit, path, declared, bool(number % 2), _asks(path, place, wire_name))
            path = f"/{name}/{'strict' if is_strict else 'lax'}/decorator"
            kit.route(path, lambda: kit.note("endpoint"), *_asks(path, place, wire_name)[:3], dependencies=[Security(scheme)])


def _add_one(kit: Kit, path: str, declared: Any, is_async: bool, asks: list[Ask]) -> None:
    def endpoint(value: Annotated[Any, declared]):
        kit.note("endpoint")
        return show(value)

    async def endpoint_async(value: Annotated[Any, declared]):
        kit.note("endpoint")
        return show(value)

    # What is spoilt is in the list of authorizations already.
    kit.ask(*asks, Ask(path), Ask(path, headers=(("Authorization", "Bearer a"), ("Authorization", "Basic b"))), spoils=False)
    kit.app.add_api_route(path, endpoint_async if is_async else endpoint, methods=["GET"])


USERS = {"alice": ["read", "write"], "bob": ["read"], "carol": []}


def add_users(kit: Kit) -> None:
    """The tutorial's users: a token is a name, scopes are asked for by routes, routers and dependencies."""
    oauth2 = OAuth2PasswordBearer("token", scopes={"read": "R", "write": "W"})
    optional = OAuth2PasswordBearer("token", auto_error=False)

    async def user(scopes: SecurityScopes, token: Annotated[str, Depends(oauth2)]):
        kit.mark(f"user {scopes.scope_str}")
        challenge = f'Bearer scope="{scopes.scope_str}"' if scopes.scopes else "Bearer"
        if token not in USERS:
            raise HTTPException(401, "unknown", {"WWW-Authenticate": challenge})
        for scope in scopes.scopes:
            if scope not in USERS[token]:
                raise HTTPException(401, f"lacks {scope}", {"WWW-Authenticate": challenge})
        return token

    async def active(name: Annotated[str, Security(user, scopes=["read"])]):
        kit.mark("active")
        if name == "carol":
            raise HTTPException(400, "inactive")
        return name

    def both(name: Annotated[str, Security(active, scopes=["write"])], scopes: SecurityScopes):
        kit.mark(f"both {scopes.scopes}")
        return [name, scopes.scopes]

    def perhaps(token: Annotated[str | None, Depends(optional)]):
        kit.mark("perhaps")
        return token

    def me(name: Annotated[str, Depends(active)]):
        kit.mark("endpoint")
        return name

    async def items(name: Annotated[str, Security(active, scopes=["items", "read"])]):
        kit.mark("endpoint")
        return name

    def status(name: Annotated[str, Depends(user)], again: Annotated[str, Security(user, scopes=["read"])]):
        kit.mark("endpoint")
        return [name, again]

    async def everything(a: Annotated[Any, Security(both, scopes=["read"])], b: Annotated[Any, Depends(perhaps)]):
        kit.mark("endpoint")
        return [a, b]

    def guest(name: Annotated[str | None, Depends(perhaps)]):
        kit.mark("endpoint")
        return name

    routes = {"/me": me, "/items": items, "/status": status, "/everything": everything, "/guest": guest}
    for path, endpoint in routes.items():
        kit.route(path, endpoint, *_tokens(path))
    router = APIRouter(prefix="/guarded", dependencies=[Security(user, scopes=["write"])])
    for path, endpoint in routes.items():
        kit.route(path, endpoint, *_tokens(f"/guarded{path}"), on=router)
    kit.app.include_router(router)
    _add_logins(kit)


def _tokens(path: str) -> list[Ask]:
    return [Ask(path, headers=(("Authorization", f"Bearer {token}"),)) for token in (*USERS, "mallory")] + [Ask(path)]


def _add_logins(kit: Kit) -> None:
    def login(form: Annotated[OAuth2PasswordRequestForm, Depends()]):
        kit.note("endpoint")
        return [form.grant_type, form.username, form.password, form.scopes, form.client_id, form.client_secret]

    async def login_strict(form: Annotated[OAuth2PasswordRequestFormStrict, Depends()]):
        kit.note("endpoint")
        return [form.grant_type, form.username, form.scopes]

    def credentials(given: Annotated[HTTPAuthorizationCredentials, Security(HTTPBearer())]) -> HTTPAuthorizationCredentials:
        kit.note("endpoint")
        return given

    def checked(given: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]):
        kit.note("checked")
        if given.username != "u":
            raise HTTPException(401, "wrong", {"WWW-Authenticate": "Basic"})
        return given.username

    def by_basic(name: Annotated[str, Depends(checked)]):
        kit.note("endpoint")
        return name

    form = (("grant_type", "password"), ("username", "u"), ("password", "p"), ("scope", "a+b"), ("client_id", "c"))
    kit.route("/login", login, Ask("/login", "POST", form=form))
    kit.route("/login_strict", login_strict, Ask("/login_strict", "POST", form=form))
    kit.route("/credentials", credentials, *_asks("/credentials", "headers", "Authorization")[:8])
    kit.route("/by_basic", by_basic, *_asks("/by_basic", "headers", "Authorization")[7:13])
