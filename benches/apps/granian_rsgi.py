"""The least that answers `GET /users/{id}` on Granian's own interface: no framework, no validation."""

from itertools import count
from json import JSONEncoder

calls = count()
encode = JSONEncoder(separators=(",", ":")).encode
headers = [("content-type", "application/json")]


async def app(scope, protocol):
    parts = scope.path.split("/")
    if parts[1] == "users":
        next(calls)
        protocol.response_str(200, headers, encode({"user_id": int(parts[2])}))
    elif parts[1] == "calls":
        protocol.response_str(200, headers, encode(next(calls)))
    else:
        protocol.response_empty(404, [])
