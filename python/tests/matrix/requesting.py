"""Routes that take the request itself, the answer's headers, background tasks, or the context."""

import contextvars
import threading
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request, Response
from starlette.requests import ClientDisconnect, HTTPConnection

from .record import Note

#: Set by middlewares, dependencies and endpoints of this test.
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("matrix_who", default="nobody")


def add(app: FastAPI, note: Note) -> None:
    _add_requests(app, note)
    _add_bodies(app, note)
    _add_responses(app, note)
    _add_tasks(app, note)
    _add_contexts(app, note)


def _add_requests(app: FastAPI, note: Note) -> None:
    @app.api_route("/request", methods=["GET", "POST", "DELETE"])
    async def request(request: Request):
        note("request")
        return {
            "method": request.method,
            "url": str(request.url),
            "base": str(request.base_url),
            "query": request.query_params.multi_items(),
            "headers": request.headers.items(),
            "cookies": request.cookies,
            "client": None if request.client is None else request.client.host,
        }

    @app.get("/request/sync/{a}")
    def request_sync(request: Request, a: int):
        note("request sync")
        return {"a": a, "parameters": request.path_params, "header": request.headers.get("x-token"), "user": request.scope.get("user_name")}

    @app.get("/request/scope/{a}")
    async def request_scope(request: Request, a: str):
        note("request scope")
        scope = request.scope
        return {
            "type": scope["type"],
            "path": scope["path"],
            "raw_path": scope["raw_path"].decode("latin-1"),
            "query_string": scope["query_string"].decode("latin-1"),
            "root_path": scope["root_path"],
            "http_version": scope["http_version"],
            "scheme": scope["scheme"],
            "route": scope["route"].path,
            "endpoint": scope["endpoint"].__name__,
            "path_params": scope["path_params"],
            "app": scope["app"] is app,
            "router": scope["router"] is app.router,
            "extra": {key: repr(value) for key, value in scope.items() if key.startswith("matrix")},
        }

    @app.get("/request/state")
    def request_state(request: Request):
        note("request state")
        state = request.state._state
        return {key: str(value) for key, value in sorted(state.items())}

    @app.get("/request/app")
    async def request_app(request: Request):
        note("request app")
        return {"is": request.app is app, "state": getattr(request.app.state, "started", None)}

    @app.get("/request/url/{a}", name="named")
    def request_url(request: Request, a: str):
        note("request url")
        return [
            str(request.url_for("named", a="x y")),
            str(request.url_for("sub", path="/item/1")),
            request.url.include_query_params(z=a).query,
        ]

    @app.get("/request/session")
    async def request_session(request: Request, add: str = ""):
        note("request session")
        session = request.scope.get("session")
        if session is not None and add:
            session["items"] = [*session.get("items", []), add]
        return session

    @app.get("/request/session/clear")
    def request_session_clear(request: Request):
        note("request session clear")
        if "session" in request.scope:
            request.session.clear()
        return "cleared"

    @app.get("/request/user")
    async def request_user(request: Request):
        note("request user")
        if "user" not in request.scope:
            return None
        return [request.user.is_authenticated, request.user.display_name, request.auth.scopes]

    @app.get("/connection")
    def connection(connection: HTTPConnection):
        note("connection")
        return {"header": connection.headers.getlist("x-token"), "path": connection.url.path}


def _add_bodies(app: FastAPI, note: Note) -> None:
    @app.post("/request/body")
    async def request_body(request: Request):
        note("request body")
        return [len(await request.body()), (await request.body())[:40].decode("latin-1")]

    @app.post("/request/json")
    async def request_json(request: Request):
        note("request json")
        return await request.json()

    @app.post("/request/stream")
    async def request_stream(request: Request):
        note("request stream")
        return len(b"".join([part async for part in request.stream()]))

    @app.post("/request/form")
    async def request_form(request: Request):
        note("request form")
        return sorted((name, str(value)) for name, value in (await request.form()).multi_items())

    @app.post("/request/twice")
    async def request_twice(request: Request, value: dict[str, Any]):
        note("request twice")
        return [value, (await request.body()).decode("latin-1")]

    @app.post("/request/unread")
    async def request_unread(request: Request):
        note("request unread")
        return request.headers.get("content-length")

    @app.post("/request/receive")
    async def request_receive(request: Request):
        body, more = b"", True
        while more:
            message = await request.receive()
            if message["type"] != "http.request":
                raise ClientDisconnect
            body += message.get("body", b"")
            more = message.get("more_body", False)
        note(f"request receive {len(body)}")
        return len(body)


def _add_responses(app: FastAPI, note: Note) -> None:
    @app.get("/response")
    def response(response: Response):
        note("response")
        response.headers["X-Set"] = "1"
        response.headers.append("x-set", "2")
        response.set_cookie("a", "b", path="/response")
        response.status_code = 203
        return {"a": 1}

    @app.get("/response/async", status_code=201)
    async def response_async(response: Response):
        note("response async")
        response.headers["Content-Language"] = "de"
        response.headers["content-type"] = "application/vnd.matrix+json"
        return {"a": 1}

    @app.get("/response/own")
    async def response_own(response: Response):
        note("response own")
        response.headers["X-Lost"] = "1"
        return Response("own", 202)

    @app.get("/response/204")
    def response_204(response: Response):
        note("response 204")
        response.status_code = 204

    @app.get("/response/request/{a}")
    def response_request(request: Request, response: Response, a: int = 0):
        note("response request")
        response.headers["X-Path"] = request.url.path
        return a


def _add_tasks(app: FastAPI, note: Note) -> None:
    async def task(what: str) -> None:
        note(f"task {what} as {WHO.get()}")

    def task_sync(what: str) -> None:
        note(f"sync task {what} as {WHO.get()}")

    def task_raises() -> None:
        note("task raises")
        raise RuntimeError("in a task")

    @app.get("/tasks")
    def tasks(tasks: BackgroundTasks):
        note("tasks")
        tasks.add_task(task_sync, "one")
        tasks.add_task(task, what="two")
        return "tasks"

    @app.post("/tasks/async", status_code=202)
    async def tasks_async(tasks: BackgroundTasks, response: Response):
        note("tasks async")
        WHO.set("endpoint")
        response.headers["X-Tasks"] = "1"
        tasks.add_task(task, "one")
        tasks.add_task(task_sync, "two")
        return {"accepted": True}

    @app.get("/tasks/raise")
    async def tasks_raise(tasks: BackgroundTasks):
        note("tasks raise")
        tasks.add_task(task_raises)
        tasks.add_task(task, "never")
        return "tasks"


def _add_contexts(app: FastAPI, note: Note) -> None:
    @app.get("/context")
    async def context():
        note(f"context {WHO.get()}")
        seen = WHO.get()
        WHO.set("context")
        return seen

    @app.get("/context/sync")
    def context_sync():
        note(f"context {WHO.get()}")
        seen = WHO.get()
        WHO.set("context sync")
        return seen

    @app.get("/waits")
    def waits():
        # In a thread, or on the worker's own: it waits in both.
        threading.Event().wait(0.003)
        note("waits")
        return {"waits": True}

    @app.get("/waits/async")
    async def waits_async():
        import asyncio

        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "woken")
        note("waits async")
        return await future
