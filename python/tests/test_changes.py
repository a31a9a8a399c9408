"""What changes while an app runs counts from the next request on, on native routes as on others, and as it does under uvicorn."""

import contextlib
import threading

import pytest
from differential import serve_ours, serve_uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from wire import PATIENCE, Peer, get

from turboapi import _core
from turboapi.config import Config
from turboapi.plan.changes import Routes
from turboapi.serving.server import open_place
from turboapi.testing import TestServer

pytestmark = pytest.mark.above_platform


def other(id: str) -> dict[str, str]:
    return {"other": id}


def route(path: str = "/users/{id}") -> APIRoute:
    return APIRoute(path, other)


async def teapot(request, error):
    return JSONResponse({"handled": str(error)}, 499)


async def stand_in(scope, receive, send):
    await PlainTextResponse("in place of the stack")(scope, receive, send)


def replace_item(app):
    routes = app.router.routes
    index = next(index for index, found in enumerate(routes) if getattr(found, "path", "") == "/users/{id}")
    routes[index] = route()


def replace_stack_in_place(app):
    app.middleware_stack.app = stand_in


def keep_plain_list(app):
    app.router.routes = [route(), *app.router.routes]


def extend_included(app):
    app.state.included.add_api_route("/later", other_of_nothing)
    app.state.included.add_api_route("/nothing", other_of_nothing)


def other_of_nothing() -> str:
    return "later"


def wrap_app(app):
    found = next(found for found in app.router.routes if getattr(found, "path", "") == "/users/{id}")
    found.app = stand_in


def replace_endpoint(app):
    found = next(found for found in app.router.routes if getattr(found, "path", "") == "/users/{id}")
    found.endpoint = other


def set_default(app):
    app.router.default = stand_in


CHANGES = {
    "insert": lambda app: app.router.routes.insert(0, route()),
    "append": lambda app: app.add_api_route("/nothing", other_of_nothing),
    "pop": lambda app: app.router.routes.pop(-1),
    "remove all": lambda app: app.router.routes.clear(),
    "item": replace_item,
    "slice": lambda app: app.router.routes.__setitem__(slice(0, 0), [route()]),
    "delete": lambda app: app.router.routes.__delitem__(slice(4, None)),
    "reverse": lambda app: app.router.routes.reverse(),
    "attribute": keep_plain_list,
    "held elsewhere": lambda app: app.state.held.insert(0, route()),
    "included router": extend_included,
    "route.app": wrap_app,
    "route.endpoint": replace_endpoint,
    "default": set_default,
    "redirects": lambda app: setattr(app.router, "redirect_slashes", False),
    "stack": lambda app: setattr(app, "middleware_stack", stand_in),
    "within the stack": replace_stack_in_place,
    # Too late, or of no consequence here.
    "handler": lambda app: app.add_exception_handler(KeyError, teapot),
    "handler of 404": lambda app: app.add_exception_handler(404, teapot),
    "overrides": lambda app: app.dependency_overrides.update({number: lambda: 2}),
    "openapi": lambda app: setattr(app, "openapi", lambda: {"openapi": "mine"}),
}


def number() -> int:
    return 1


def make_app(change, when, held=False):
    """`when`: "lifespan", "def", "async" (a native route, then one of the app's own call) or "thread"."""

    @contextlib.asynccontextmanager
    async def lifespan(app):
        if when == "lifespan":
            change(app)
        yield

    app, included = FastAPI(lifespan=lifespan), APIRouter()
    app.state.included = included

    @app.get("/change")
    def change_by_def():
        change(app)

    @app.get("/change-async")
    async def change_by_async(request: Request):
        change(app)

    @app.get("/change-thread")
    def change_by_thread():
        thread = threading.Thread(target=change, args=(app,))
        thread.start()
        thread.join()

    @app.get("/users/{id}")
    def user(id: int):
        return {"user": id}

    @app.get("/key")
    def key():
        raise KeyError("missing")

    @app.get("/key-asgi")
    def key_of_asgi(request: Request):
        raise KeyError("missing")

    @app.get("/number")
    def of_number(found: int = Depends(number)):
        return found

    @included.get("/included")
    def of_included():
        return "included"

    app.include_router(included)
    if held:
        app.state.held = app.router.routes
    return app


ASKED = [
    "/users/1",
    "/users/x",
    "/key",
    "/key-asgi",
    "/number",
    "/included",
    "/later",
    "/nothing",
    "/nothing/",
    "/users/1/",
    "/openapi.json",
]
BY = {"lifespan": None, "def": "/change", "async": "/change-async", "thread": "/change-thread"}


def seen(port, path):
    with Peer(port) as peer:
        answer = peer.get(path, "connection: close")
    headers = [(name, value) for name, value in answer.headers if name.lower() not in ("server", "date", "connection")]
    body = answer.body.replace(str(port).encode(), b"PORT")
    return answer.status, [(name.lower(), value.replace(str(port), "PORT")) for name, value in headers], body


@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")
@pytest.mark.parametrize("when", list(BY))
@pytest.mark.parametrize("name", list(CHANGES))
def test_as_under_uvicorn(name, when):
    if when == "lifespan" and name == "within the stack":
        pytest.skip("the lifespan itself goes through it")
    answers = []
    for serve in (serve_uvicorn, serve_ours):
        app = make_app(CHANGES[name], when, held=name == "held elsewhere")
        with serve(app) as (_, port):
            before = [seen(port, path) for path in ASKED]
            if BY[when]:
                assert seen(port, BY[when])[0] == 200
            # From the very next request on, then again when the plans have been made anew.
            after = [[seen(port, path) for path in ASKED] for _ in range(2)]
        answers.append((before, after))
    theirs, ours = answers
    assert ours == theirs


def test_a_handler_of_the_lifespan_comes_too_late():
    """The case of the issue, by its value: the stack was built before."""
    app = make_app(CHANGES["handler"], "lifespan")
    with TestServer(app) as server:
        assert [get(server.port, path).status for path in ("/key", "/key-asgi")] == [500, 500]


def test_middleware_of_the_lifespan_is_refused():
    app = make_app(lambda app: app.add_middleware(type("M", (), {})), "lifespan")
    with pytest.raises(Exception, match="Cannot add middleware after an application has started"), TestServer(app):
        pass


def test_without_a_lifespan_the_stack_is_that_of_the_start():
    app = make_app(CHANGES["handler"], "def")
    with TestServer(app, lifespan=False) as server:
        assert get(server.port, "/change").status == 200
        assert [get(server.port, path).status for path in ("/key", "/key-asgi")] == [500, 500]


def test_pipelined_behind_the_change():
    with TestServer(make_app(CHANGES["insert"], "def")) as server, Peer(server.port) as peer:
        paths = ["/users/1", "/change", *["/users/2"] * 3]
        peer.send(b"".join(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() for path in paths))
        assert [peer.read().json() for _ in range(5)] == [{"user": 1}, None] + [{"other": "2"}] * 3


def test_routes_become_native_again():
    """The plans are made anew once, not at each request, and what is native then is answered without the app's call."""
    app = FastAPI()

    @app.get("/users/{id}")
    def user(id: int):
        return id

    with TestServer(app) as server:
        assert type(app.router.routes) is Routes
        assert get(server.port, "/users/1").json() == 1
        app.add_api_route("/other/{id}", other)
        assert get(server.port, "/other/1").json() == {"other": "1"}
        worker = server._worker
        version, plans = worker._hooks.version, worker._hooks.routes
        assert [entry.reason for entry in plans if entry.template == "/other/{id}"] == [""]
        for _ in range(20):
            assert get(server.port, "/other/1").json() == {"other": "1"}
        assert (worker._hooks.version, worker._hooks.routes) == (version, plans)


@pytest.mark.parametrize("name", ["insert", "attribute", "stack", "route.app"])
def test_each_of_several_workers_sees_it(name):
    """Two workers of one app: asked both, as each has a listener of its own."""
    from turboapi.serving.worker import Worker

    app = make_app(CHANGES[name], "def")
    app.middleware_stack = app.build_middleware_stack()
    servers = []
    try:
        for index in range(2):
            listeners, ready = open_place(Config(port=0), workers=1), threading.Event()
            worker = Worker(app, Config(workers=1), listeners.share(0), index, on_ready=ready.set)
            thread = threading.Thread(target=worker.run)
            thread.start()
            servers.append((listeners, worker, thread))
            assert ready.wait(PATIENCE)
        ports = [listeners.port for listeners, _, _ in servers]
        assert [get(port, "/users/1").json() for port in ports] == [{"user": 1}] * 2
        assert get(ports[0], "/change").status == 200
        answers = [get(port, "/users/1").body for port in ports * 2]
        assert answers == [b"in place of the stack" if name in ("stack", "route.app") else b'{"other":"1"}'] * 4
    finally:
        for listeners, worker, thread in servers:
            worker.stop()
            thread.join(PATIENCE)
            listeners.close()


def test_every_change_of_the_list_is_told():
    """All that a list has and that changes it; what a list gets in a later Python stands out here."""
    harmless = {"copy", "count", "index"}
    operators = {"__setitem__", "__delitem__", "__iadd__", "__imul__"}
    for name in sorted({name for name in vars(list) if not name.startswith("_")} - harmless | operators):
        assert name in vars(Routes), name
    routes, before = Routes([1, 2, 3]), _core.changes_count()
    routes.append(4)
    routes += [5]
    routes[0] = 0
    del routes[0]
    with pytest.raises(ValueError, match="not in list"):
        routes.remove(99)
    assert (routes, _core.changes_count() - before) == ([2, 3, 4, 5], 5)


def test_other_attributes_are_not_told():
    """An app may write one at every request."""
    app = FastAPI()
    with TestServer(app):
        before = _core.changes_count()
        app.title, app.counter, app.router.prefix = "other", 1, ""
        app.state.routes = 1
        assert _core.changes_count() == before
        app.router.default = stand_in
        assert _core.changes_count() == before + 1
