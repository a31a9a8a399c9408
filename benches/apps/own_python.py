"""What a kind of route's own Python costs: `python own_python.py KIND SECONDS` calls it in a loop, without a server.

That is all that users write or ask for: endpoint, dependencies with their ends, pydantic's work, Starlette's `Request` and `Response`
where the function has them, middleware of Python around an app that only answers. Not: reading a request, finding its route, the scope,
JSON of plain values, and nothing of FastAPI. Middleware that turboapi runs in Rust, and what of Starlette's stack it has no need of, are
none of it either, so that nothing is taken off the server's figure that it does not spend. An `async def` is run by `send(None)`.

It writes one line of JSON: CPU microseconds a call, how many calls, how often the app's counter was stepped, and the body of the last.
"""

import json
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import kinds_app as kinds
from fastapi import BackgroundTasks
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

BATCH = 200
WARM_UP_CALLS = 2000
ORDER = b'{"title":"lamp","price":12.5,"labels":["a","b"],"place":{"street":"Via Appia","town":"Rome"}}'
HEADERS = [(b"host", b"kinds.test"), (b"authorization", b"Bearer letmein")]
SCOPE = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": HEADERS, "http_version": "1.1", "scheme": "http"}

user, window, order, stored, all_stored = map(TypeAdapter, (kinds.User, kinds.Window, kinds.Order, kinds.Stored, list[kinds.Stored]))


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What it returns, at its first step."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError(f"{coroutine} waits for something")


def drive_depends() -> bytes:
    sessions = kinds.open_session()
    token = run(kinds.bearer(Request(SCOPE)))
    found = run(kinds.current_user(token, run(sessions.__anext__())))
    body = user.dump_json(user.validate_python(run(kinds.me(found)), from_attributes=True))
    try:
        run(sessions.__anext__())
    except StopAsyncIteration:
        return body
    raise AssertionError("the session has not ended")


def drive_page() -> Any:
    return run(kinds.page(window.validate_python({"start": "3", "size": "10"}), "x"))


def drive_items() -> bytes:
    return all_stored.dump_json(all_stored.validate_python(run(kinds.list_orders()), from_attributes=True))


def drive_post() -> bytes:
    created = run(kinds.create_order(order.validate_json(ORDER)))
    return stored.dump_json(stored.validate_python(created, from_attributes=True))


def drive_background() -> Any:
    tasks = BackgroundTasks()
    answer = run(kinds.background(tasks))
    for task in tasks.tasks:
        task.func(*task.args, **task.kwargs)
    return answer


def drive_stream() -> list[bytes]:
    parts, found = run(kinds.stream()).body_iterator, []
    while True:
        try:
            found.append(run(parts.__anext__()))
        except StopAsyncIteration:
            return found


def drive_function_middleware() -> bytes:
    """The middleware's function between a request and an answer of Starlette's public classes, and that answer sent."""

    async def call_next(request: Request) -> Response:
        return Response(json.dumps(await kinds.get_user_async(1), separators=(",", ":")))

    return run(sent(run(kinds.dispatch(Request(SCOPE), call_next))))


async def answer_only(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI app that does nothing but call the endpoint and answer."""
    body = json.dumps(await kinds.get_user_async(1), separators=(",", ":")).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"13")]})
    await send({"type": "http.response.body", "body": body})


def drive_asgi_middleware() -> bytes:
    return run(sent(kinds.Timing(answer_only)))


async def sent(app: Any) -> bytes:
    """The body that it sends, and with it the middleware's header."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    await app(SCOPE, None, send)
    start, body = messages
    assert (b"x-timing", b"1") in start["headers"] and start["status"] == 200
    return body["body"]


DRIVERS: dict[str, Callable[[], Any]] = {
    "users": lambda: kinds.get_user(1),
    "ausers": lambda: run(kinds.get_user_async(1)),
    "text": lambda: run(kinds.text()).body,
    "raw": lambda: run(kinds.raw(Request(SCOPE))).body,
    "cors": lambda: run(kinds.get_user_async(1)),
    "gzip": drive_items,
    "mwhttp": drive_function_middleware,
    "pure": drive_asgi_middleware,
    "depends": drive_depends,
    "page": drive_page,
    "items": drive_items,
    "post": drive_post,
    "bg": drive_background,
    "stream": drive_stream,
}


def octets(answer: Any) -> bytes:
    """Of what a driver returns: plain values as JSON, parts as one."""
    if isinstance(answer, list):
        return b"".join(answer)
    return answer if isinstance(answer, bytes) else json.dumps(answer, separators=(",", ":")).encode()


def main() -> None:
    kind, seconds = sys.argv[1], float(sys.argv[2])
    drive = DRIVERS[kind]
    for _ in range(WARM_UP_CALLS):
        drive()
    steps, driven = next(kinds.calls), 0
    begun = time.process_time()
    while (spent := time.process_time() - begun) < seconds:
        for _ in range(BATCH):
            answer = drive()
        driven += BATCH
    steps = next(kinds.calls) - steps - 1
    print(json.dumps({"us": spent / driven * 1e6, "driven": driven, "steps": steps, "answer": octets(answer).decode()}))


if __name__ == "__main__":
    main()
