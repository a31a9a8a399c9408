"""What was raised, as an ASGI app for an app's exception handlers to stand around.

Not here: which handlers those are (answers.py, stack.py).
"""

from starlette.types import Message, Receive, Scope, Send


class Raising:
    """An ASGI app that raises, once, at its begin or after it has begun to answer. It keeps nothing: the error's frames would hold it."""

    def __init__(self, error: Exception, has_started: bool) -> None:
        self._error: Exception | None = error
        self._has_started = has_started

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._has_started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        error, self._error = self._error, None
        assert error is not None
        try:
            raise error
        finally:
            del error


def after_begin(send: Send) -> Send:
    """A `send` for somebody who does not know that the answer was begun: his own begin is dropped."""
    has_begun = False

    async def send_rest(message: Message) -> None:
        nonlocal has_begun
        if has_begun:
            await send(message)
        has_begun = True

    return send_rest
