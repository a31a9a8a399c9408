"""The app that the cases are played against: says what it was called with. `Echo` in tests/in_memory.rs is the same.

usage: app.py        serves it on a free port of 127.0.0.1, prints the port, and ends when its stdin does
"""

import sys

from turboapi.testing import TestServer


def escape(octets: bytes) -> str:
    """Printable ASCII as it is, all else as escapes; the same as src/octets.rs writes."""
    known = {0x0D: "\\r", 0x0A: "\\n", 0x09: "\\t", 0x5C: "\\\\"}
    return "".join(known.get(octet) or (chr(octet) if 0x20 <= octet <= 0x7E else f"\\x{octet:02x}") for octet in octets)


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError("no lifespan and no WebSocket here")
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    call = f"{scope['method']} {escape(target)}"
    if body:
        call += f" {escape(body)}" if len(body) <= 64 else f" {len(body)} octets"
    status, parts = 200, []
    if scope["path"].startswith("/status/"):
        status = int(scope["path"].removeprefix("/status/"))
    elif scope["path"] == "/stream":
        parts = [b"one", b"two"]
    else:
        lines = [name + b": " + value + b"\n" for name, value in scope["headers"]]
        parts = [f"path {scope['path']}\n".encode() + b"".join(lines) + b"\n" + body]
    headers = [(b"call", call.encode()), (b"content-type", b"text/plain")]
    if scope["path"] != "/stream":  # also for a 204: the server has to take it out (RFC 9110 §8.6)
        headers.append((b"content-length", str(sum(map(len, parts))).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


def main() -> None:
    with TestServer(app, lifespan=False) as server:
        print(server.port, flush=True)
        sys.stdin.read()
    if server.exceptions:
        sys.exit(f"the app raised {server.exceptions!r}")


if __name__ == "__main__":
    main()
