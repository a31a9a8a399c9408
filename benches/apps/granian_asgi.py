"""The least that answers `GET /users/{id}` over ASGI: no framework, no validation."""

from itertools import count
from json import JSONEncoder

calls = count()
encode = JSONEncoder(separators=(",", ":")).encode
headers = [(b"content-type", b"application/json")]


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # no lifespan here; the server goes on without it
    status, answer = 200, ""
    parts = scope["path"].split("/")
    if parts[1] == "users":
        next(calls)
        answer = encode({"user_id": int(parts[2])})
    elif parts[1] == "calls":
        answer = encode(next(calls))
    else:
        status = 404
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.encode()})
