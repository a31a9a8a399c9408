"""`turboapi routes`: the table, its JSON, and what a build can make of it."""

import json
import logging

import pytest
from fastapi import FastAPI
from test_cli import command

from turboapi import TurboAPI
from turboapi.plan import inventory
from turboapi.plan.routes import compile_app
from turboapi.testing import TestServer

pytestmark = pytest.mark.above_platform

APP = """
import contextlib
from fastapi import APIRouter, Depends, FastAPI, Form, Request, WebSocket
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from turboapi import TurboAPI

@contextlib.asynccontextmanager
async def lifespan(app):
    print("started")
    app.add_api_route("/late", late)
    yield
    print("shut down")

async def failing(app):
    raise ValueError("no database")
    yield

async def late(): ...
def form(a: str = Form()): ...

app = TurboAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
router, sub = APIRouter(prefix="/v1"), FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

@app.get("/users/{id}")
def user(id: int): ...
@router.post("/items")
async def items(body: dict): ...
@app.get("/threads", blocking=True)
def in_threads(): ...
@app.get("/worker", blocking=False)
def on_worker(): ...
@app.get("/depends")
def depends(found=Depends(form)): ...
@app.get("/request")
def request(request: Request): ...
@app.websocket("/ws")
async def ws(socket: WebSocket): ...
@sub.get("/inner")
def inner(): ...

app.include_router(router)
app.mount("/sub", sub)
app.mount("/files", StaticFiles(directory="."))
app.mount("/star", Starlette(routes=[Mount("/deep", routes=[Route("/er", inner)])]))

broken = FastAPI(lifespan=contextlib.asynccontextmanager(failing))
none = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
async def raw(scope, receive, send): ...
"""

#: Path, methods, function, where it runs, the end of its reason.
ROWS = [
    ("/users/{id}", ["GET"], "user", "learned", ""),
    ("/threads", ["GET"], "in_threads", "threads", ""),
    ("/worker", ["GET"], "on_worker", "worker", ""),
    ("/depends", ["GET"], "depends", None, "dependencies: form: a: declared by Form"),
    ("/request", ["GET"], "request", "learned", ""),
    ("/ws", ["WEBSOCKET"], "ws", None, "WebSocket"),
    ("/v1/items", ["POST"], "items", "loop", ""),
    ("/sub/inner", ["GET"], "inner", "learned", ""),
    ("/files/*", [], "StaticFiles", None, "mounted app"),
    ("/star/deep/er", ["GET", "HEAD"], "inner", None, "mounted app"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("routes")
    (folder / "listed.py").write_text(APP)
    return folder


def run(folder, name, *options):
    return command("routes", f"listed:{name}", *options, directory=folder)


def test_json(folder):
    answer = run(folder, "app", "--json")
    listed = json.loads(answer.stdout)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert (listed["app"], listed["native"], listed["total"]) == ("listed:app", 6, 10)
    for found, (path, methods, function, runs, reason) in zip(listed["routes"], ROWS, strict=True):
        assert set(found) == {"methods", "path", "function", "native", "runs", "reason", "remedy"}
        assert (found["path"], found["methods"], found["runs"], found["native"]) == (path, methods, runs, runs is not None)
        assert found["function"].endswith(f".{function}")
        assert found["reason"].endswith(reason)
        assert bool(found["remedy"]) == bool(found["reason"]) == (not found["native"])


def test_table(folder):
    lines = run(folder, "app").stdout.splitlines()
    assert lines[0].split()[:3] == ["GET", "/users/{id}", "user"]
    assert lines[0].endswith("  native, in threads until it has earned the worker's own")
    assert lines[6].split() == ["POST", "/v1/items", "items", "native"]
    assert lines[-1] == "6 of 10 routes are native"
    below = lines[lines.index("What would make the others native:") :]
    assert "- 2 × mounted app: move its routes into the app, by include_router, if it is" in below
    assert max(map(len, below)) <= 80


@pytest.mark.parametrize(
    ("name", "options", "code", "said"),
    [
        ("app", ["--check", "60"], 0, ""),
        ("app", ["--check", "60.1"], 1, "turboapi: 60 % of the routes are native (6 of 10), 60.1 % wanted\n"),
        ("app", ["--check", "0"], 0, ""),
        ("none", ["--check", "100"], 0, ""),
        ("raw", ["--check", "0"], 0, ""),
        ("raw", ["--check", "90"], 1, "turboapi: listed:raw is no FastAPI, and 90 % of its routes are wanted native\n"),
        ("broken", ["--lifespan"], 1, "turboapi: start-up of the app failed: ValueError: no database\n"),
        *(
            ("app", ["--check", text], 2, f"turboapi: argument --check: is {text!r}, allowed are 0 to 100, per cent")
            for text in ("101", "ninety", "nan", "-1")
        ),
    ],
)
def test_check(folder, name, options, code, said):
    # argparse takes what begins with a minus for an option.
    options = [f"{options[0]}={options[1]}"] if options[-1] == "-1" else options
    answer = run(folder, name, *options)
    assert answer.returncode == code
    assert answer.stderr.startswith(said) if said else answer.stderr == ""


def test_lifespan(folder):
    """Routes that the start-up adds are there, and the shutdown is run."""
    answer = run(folder, "app", "--lifespan")
    assert answer.returncode == 0
    lines = answer.stdout.splitlines()
    assert lines[:2] == ["started", "shut down"]
    assert lines[-1] == "7 of 11 routes are native"
    assert any(line.split() == ["GET", "/late", "late", "native"] for line in lines)


def test_json_of_what_is_no_fastapi(folder):
    assert json.loads(run(folder, "raw", "--json").stdout) == {"app": "listed:raw", "native": 0, "total": 0, "routes": []}


def test_the_log_has_the_count(caplog):
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.get("/")(lambda: 1)
    with caplog.at_level(logging.INFO, "turboapi"), TestServer(app):
        pass
    assert [line for line in caplog.messages if "native" in line] == [
        "1 of 1 route is native; `turboapi routes MODULE:APP` says why the others are not"
    ]


def test_limits_of_mounted_routes_shift_nothing():
    """The table has lines for these before that of their mount."""
    app, sub = TurboAPI(), TurboAPI()
    sub.get("/a", body_bytes_max=5)(lambda: 1)
    app.mount("/sub", sub)
    app.get("/after")(lambda: 1)
    rows = inventory.inventory(app, compile_app(app))
    assert [(row.path, row.native) for row in rows][-2:] == [("/sub/a", True), ("/after", True)]


#: Reasons of plan/routes.py and plan/arguments.py, one of each kind, and a word of the remedy.
REASONS = {
    "the app has middleware": "middleware away",
    "the router has middleware": "layers",
    "the app's middleware stack was replaced": "layers",
    "App.__call__ is not FastAPI's": "FastAPI's own",
    "FastAPI.__call__ was replaced": "FastAPI's own",
    "telemetry is switched on": "leave it out",
    "the app has a root_path": "--root-path",
    "the app has a max_body_size": "body_bytes_max",
    "dependencies: max_concurrency": "max_concurrency",
    "dependencies: code of the app's own converts an argument": "in the endpoint",
    "dependencies with yield, or background tasks, within a custom route class": "APIRoute",
    "dependencies: what Odd is cannot be told": "__call__",
    "dependencies: a dependant has x, which is not known": "version of FastAPI",
    "dependencies: form: a: declared by Form": "forms",
    "x: Request": "as parameters",
    "generator: its answer is not JSON lines": "generators",
    "server-sent events of no generator": "generators",
    "server-sent events of a default response class": "generators",
    "server-sent events, and a dependency that ends before them": "between its call and its events",
    "server-sent events within a custom route class": "between its call and its events",
    "server-sent events: how this FastAPI sends them is not known": "version of FastAPI",
    "path parameter 'x' has a custom convertor": "uuid",
    "no handler of FastAPI's is found in what wraps it": "APIRoute",
    "the handler was made with another status_code than the route's": "APIRoute",
    "several body parameters": "one model",
    "x: embedded body": "one model",
    "x: default is changed by validation": "plain way",
    "not understood: NameError: name 'x' is not defined": "annotations",
    "the endpoint is a partial, not a function": "plain def",
    "Mine decides by itself what it matches": "FastAPI's routes",
}


@pytest.mark.parametrize("reason", list(REASONS))
def test_remedies(reason):
    assert REASONS[reason] in inventory.remedy_of(reason)
