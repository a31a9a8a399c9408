"""What others have made for FastAPI answers as under uvicorn, and sees the same: apps and requests are in plugins.py.

On the ordinary build: on the free-threaded one not all of them can be installed. Their versions are pinned in pyproject.toml.
"""

import functools
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.above_platform

FOLDER = Path(__file__).parent
#: Of one process, on a machine under load: nearly all of it goes to imports.
SECONDS = 170

#: Those that share a process, as half of the time goes to what all of them import. A tracer has its own.
GROUPS = (
    ("prometheus",),
    ("sentry",),
    ("opentelemetry",),
    ("starlette_context", "correlation_id", "authlib", "slowapi", "slowapi_asgi"),
    ("slowapi_decorators", "pagination", "cache", "limiter"),
    ("users", "strawberry"),
    ("sqladmin", "mcp"),
)

#: Name in plugins.py, what has to be found in what the plug-in has seen, a status that only the plug-in gives, native routes.
TABLE: list[tuple[str, list[str], int | None, int]] = [
    ("prometheus", ['"handler","/async/{a}"', '"status","2xx"', '"status","5xx"', "http_requests_total"], None, 17),
    ("starlette_context", ['"X-Request-ID":"0123456789abcdef0123456789abcdef"', "X-Correlation-ID"], None, 16),
    ("correlation_id", ['"0123456789abcdef0123456789abcdef"', '"made up"'], None, 17),
    ("authlib", ['{"user":"t"}'], 302, 18),
    ("sentry", ['"transaction", "/async/{a}"', '"event", "/unknown", ["RuntimeError"]', '"internal_error"'], None, 8),
    ("opentelemetry", ['"GET /async/{a}","SERVER"', '"http.status_code":403', '"POST /model http receive"'], None, 16),
    ("slowapi", ["Rate limit exceeded: 2 per 1 hour"], 429, 18),
    ("slowapi_asgi", ["Rate limit exceeded: 2 per 1 hour"], 429, 18),
    # Of the following, too, the routes that all have are native, 16 with FastAPI's own and those of the app that is mounted.
    ("slowapi_decorators", ["Rate limit exceeded: 1 per 1 hour", "x-ratelimit-remaining"], 429, 20),
    ("pagination", ['"total":25,"page":2,"size":10,"pages":3', '"limit":2,"offset":3', '"next":"/page/linked?'], 422, 22),
    ("cache", ["b'x-fastapi-cache', b'HIT'", "b'x-own', b'GET'"], None, 19),
    ("users", ["REGISTER_USER_ALREADY_EXISTS", "LOGIN_BAD_CREDENTIALS", "fastapiusersauth="], 204, 30),
    ("limiter", ["Too Many Requests"], 429, 19),
    ("strawberry", ['"agent":"test at 3"', "b'x-agent', b'asked'", "GraphiQL"], 400, 18),
    ("sqladmin", ["/admin/book/details/2", "Three"], 302, 16),
    ("mcp", ['"structuredContent":{"result":3}'], 406, 16),
]


@functools.cache
def asked(group: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    command = [sys.executable, "-W", "ignore", str(FOLDER / "plugins.py"), *group]
    return subprocess.run(command, env=environment, cwd=FOLDER, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.timeout(SECONDS + 10)
@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="cryptography has no wheel for free-threaded 3.13")
@pytest.mark.parametrize(("name", "seen", "status", "native"), TABLE, ids=[row[0] for row in TABLE])
def test_plugin(name: str, seen: list[str], status: int | None, native: int) -> None:
    done = asked(next(group for group in GROUPS if name in group))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)[name]
    assert found["different"] == []
    assert found["native"] == native
    for text in seen:
        assert text in found["seen"]
    assert status is None or status in found["statuses"]
