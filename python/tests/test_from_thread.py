"""`anyio.from_thread` in functions that have earned the worker's own thread, where it cannot work: they lose it at once, for good."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import anyio.from_thread
import fastapi
import pytest
from differential import Connection, Pair, request, serve_ours, serve_uvicorn
from fastapi import Depends, FastAPI
from test_background import EARNED, wait_until

from turboapi import TurboAPI
from turboapi.testing import TestServer


async def on_the_loop() -> str:
    return "from the loop"


def used(rare: str = "") -> str:
    """Says where it runs, or uses what there is only in threads."""
    match rare:
        case "run":
            return anyio.from_thread.run(on_the_loop)
        case "run_sync":
            return anyio.from_thread.run_sync(str, "from the loop")
        case "caught":
            try:
                return anyio.from_thread.run(on_the_loop)
            except RuntimeError:
                return "caught"
        case _:
            anyio.from_thread.check_cancelled()
            return threading.current_thread().name


def add_endpoint(app: FastAPI, noted: list[str]) -> None:
    app.get("/")(used)


def add_dependency(app: FastAPI, noted: list[str]) -> None:
    @app.get("/")
    async def endpoint(found: str = Depends(used)) -> str:
        return found


def add_yield(app: FastAPI, noted: list[str]) -> None:
    def depend(rare: str = "") -> Any:
        yield used(rare)

    @app.get("/")
    async def endpoint(found: str = Depends(depend)) -> str:
        return found


def add_composed(app: FastAPI, noted: list[str]) -> None:
    @app.get("/")
    def endpoint(found: str = Depends(used)) -> str:
        return found


def add_task(app: FastAPI, noted: list[str]) -> None:
    def work(rare: str) -> None:
        noted.append(used(rare))

    @app.get("/")
    async def endpoint(tasks: fastapi.BackgroundTasks, rare: str = "") -> None:
        tasks.add_task(work, rare)


LABELS: dict[Callable[[FastAPI, list[str]], None], str] = {
    add_endpoint: "GET /",
    add_dependency: "dependency test_from_thread.used",
    add_yield: "dependency test_from_thread.add_yield.<locals>.depend",
    add_composed: "GET /",
    add_task: "background task test_from_thread.add_task.<locals>.work",
}


@pytest.mark.parametrize("rare", ["run", "run_sync", "caught"])
@pytest.mark.parametrize("add", LABELS)
def test_it_is_lost_at_once_and_for_good(add: Any, rare: str, caplog: pytest.LogCaptureFixture) -> None:
    noted: list[str] = []
    app = TurboAPI()
    add(app, noted)

    def ask(rare: str = "") -> str:
        before = len(noted) + len(server.exceptions)
        answer = connection.ask(request("GET", f"/?rare={rare}"))
        if add is add_task:
            wait_until(lambda: len(noted) + len(server.exceptions) > before)
            return noted[-1]
        return answer.body.decode().strip('"')

    with TestServer(app) as server, caplog.at_level(logging.WARNING, "turboapi"):
        connection = Connection(("127.0.0.1", server.port))
        for _ in range(EARNED):
            name = ask()
        assert name.startswith("TestServer-")
        ask(rare)
        assert [type(error).__name__ for error in server.exceptions] == ([] if rare == "caught" else ["NoEventLoopError"])
        server.exceptions.clear()
        for _ in range(3 * EARNED):
            assert ask(rare) == "from the loop"
            assert ask().startswith("turboapi-pool-0")
        for _ in range(3 * EARNED):
            assert ask().startswith("turboapi-pool-0")
        connection.close()
    told = [record.getMessage() for record in caplog.records if "from_thread" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"{LABELS[add]} used anyio.from_thread on the worker's own thread") and "blocking=True" in told[0]


def test_what_was_seen_to_use_it_does_not_come_there() -> None:
    app = FastAPI()
    app.get("/")(used)
    with TestServer(app) as server:
        connection = Connection(("127.0.0.1", server.port))
        assert connection.ask(request("GET", "/?rare=run")).body == b'"from the loop"'
        names = {connection.ask(request("GET", "/")).body[:15] for _ in range(10 * EARNED)}
        assert names == {b'"turboapi-pool-'}
        connection.close()


def test_what_the_app_has_decided_stays(caplog: pytest.LogCaptureFixture) -> None:
    app = TurboAPI()
    app.get("/", blocking=False)(used)
    with TestServer(app) as server, caplog.at_level(logging.WARNING, "turboapi"):
        connection = Connection(("127.0.0.1", server.port))
        for _ in range(3):
            assert connection.ask(request("GET", "/?rare=run")).status == 500
            assert connection.ask(request("GET", "/")).body.startswith(b'"TestServer-')
        connection.close()
    assert "runs in threads from now on" not in caplog.text


def make_async() -> FastAPI:
    """In a coroutine it is a mistake anywhere, and AnyIO's own words say so."""
    app = FastAPI()
    calls: dict[str, Callable[[], Any]] = {
        "run": lambda: anyio.from_thread.run(on_the_loop),
        "run_sync": lambda: anyio.from_thread.run_sync(int),
        "check": anyio.from_thread.check_cancelled,
    }

    @app.get("/{name}")
    async def endpoint(name: str) -> str:
        try:
            return str(calls[name]())
        except RuntimeError as error:
            return repr(error)

    @app.get("/in-threads/{name}")
    def in_threads(name: str) -> str:
        return str(calls[name]())

    return app


def test_as_uvicorn() -> None:
    with serve_uvicorn(make_async()) as theirs, serve_ours(make_async()) as ours:
        pair = Pair(theirs, ours)
        for name in ("run", "run_sync", "check"):
            pair.check(request("GET", f"/{name}"))
            pair.check(request("GET", f"/in-threads/{name}"))
        pair.close()
