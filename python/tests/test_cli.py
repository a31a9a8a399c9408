"""cli.py: finding the app, and what is said when it is not found. Not here: serving (test_server.py)."""

import dataclasses
import os
import signal
import subprocess
import sys

import pytest
from uvicorn.main import main as uvicorn_main

from turboapi import cli
from turboapi.config import Config, kind_of, option_name, variable_name
from turboapi.errors import LoadError

pytestmark = pytest.mark.above_platform

MAIN = """
import flask_like
from fastapi import FastAPI

app = FastAPI()
api = FastAPI()
number = 3
flask = flask_like.Flask()

class Namespace:
    inner = FastAPI()

class Asgi:
    async def __call__(self, scope, receive, send): ...

asgi = Asgi()

def make_app():
    return FastAPI()

def wsgi(environ, start_response):
    return []

def one(scope):
    ...

async def raw(scope, receive, send):
    ...

@app.get("/users/{id}")
def user(id: int):
    return id
"""
FLASK_LIKE = """
class Flask:
    def wsgi_app(self, environ, start_response): ...
    def __call__(self, environ, start_response): ...
"""
BROKEN = "import no_such_library\n"
REFUSING = "raise ValueError('the app refuses its settings')\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "main_of_test.py").write_text(MAIN)
    (tmp_path / "flask_like.py").write_text(FLASK_LIKE)
    (tmp_path / "broken_of_test.py").write_text(BROKEN)
    (tmp_path / "refusing_of_test.py").write_text(REFUSING)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield tmp_path
    for name in ("main_of_test", "flask_like", "broken_of_test", "refusing_of_test"):
        sys.modules.pop(name, None)


def load(folder, target, factory=False):
    return cli.Target.of({"target": target, "factory": factory, "directory": str(folder)}).load()


@pytest.mark.parametrize(
    ("target", "factory"),
    [
        ("main_of_test:app", False),
        ("main_of_test", False),
        ("main_of_test.py:app", False),
        ("main_of_test:Namespace.inner", False),
        ("main_of_test:asgi", False),
        ("main_of_test:raw", False),
        ("main_of_test:make_app", True),
    ],
)
def test_finds(folder, target, factory):
    assert callable(load(folder, target, factory))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mian_of_test:app", "no module 'mian_of_test' in {folder}; there is broken_of_test, flask_like, main_of_test"),
        ("main_of_test.sub:app", "no module 'main_of_test.sub'"),
        (":app", "'' is no module name"),
        ("main_of_test..sub:app", "'main_of_test..sub' is no module name"),
        ("main_of_test:ap", "'main_of_test' has no 'ap'; it has api (FastAPI), app (FastAPI), asgi (Asgi), raw (function)"),
        ("main_of_test:number", "main_of_test:number is a int, which cannot be called"),
        ("main_of_test:Asgi", "main_of_test:Asgi is the class Asgi"),
        ("main_of_test:flask", "main_of_test:flask is a WSGI app (Flask), which turboapi does not serve yet"),
        ("main_of_test:wsgi", "main_of_test:wsgi takes two arguments as a WSGI app does"),
        ("main_of_test:make_app", "main_of_test:make_app takes no arguments: if it makes the app, add --factory"),
        ("main_of_test:one", "main_of_test:one takes (scope), an ASGI app takes (scope, receive, send)"),
    ],
)
def test_does_not_find(folder, target, message):
    with pytest.raises(LoadError) as caught:
        load(folder, target)
    assert str(caught.value).startswith(message.format(folder=folder))


def test_an_import_that_fails_inside_of_the_app_is_not_hidden(folder):
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        load(folder, "broken_of_test:app")
    with pytest.raises(ValueError, match="the app refuses its settings"):
        load(folder, "refusing_of_test:app")


def test_each_setting_has_its_option_and_its_variable():
    options = cli.parser().parse_args(["serve", "main:app"])
    for field in dataclasses.fields(Config):
        assert hasattr(options, field.name)
    given = cli.parser().parse_args(["serve", "main:app", "--header", "x-a: 1", "--header", "x-b: 2"])
    assert given.headers == ["x-a: 1", "x-b: 2"]
    assert {option_name(f) for f in dataclasses.fields(Config)} > {"--header", "--keep-alive-timeout", "--workers", "--head-bytes-max"}
    assert {variable_name(f) for f in dataclasses.fields(Config)} > {"TURBOAPI_IO", "TURBOAPI_KEEP_ALIVE_TIMEOUT"}


def command(*arguments, directory, **environment):
    return subprocess.run(
        [sys.executable, "-m", "turboapi", *arguments],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        (("serve", "main_of_test:app", "--workers", "none"), {}, "turboapi: workers is 'none', allowed is a whole number from 1 to 1024"),
        (("serve", "main_of_test:app", "--port", "65536"), {}, "turboapi: port is 65536, allowed is a whole number from 0 to 65535"),
        (
            ("serve", "main_of_test:app", "--porte", "1"),
            {},
            "turboapi: unrecognized arguments: --porte 1; did you mean --port? (`turboapi serve --help` lists",
        ),
        # Another server's option is no slip of the keyboard.
        (("serve", "main_of_test:app", "--wait"), {}, "turboapi: unrecognized arguments: --wait (`turboapi serve --help` lists"),
        (("serve", "main_of_test:app", "--reload"), {}, "turboapi: --reload: not yet: `watchfiles 'turboapi serve MODULE:APP'`"),
        (
            ("serve", "main_of_test:app", "--ssl-keyfile=k", "--ssl-certfile", "c"),
            {},
            "turboapi: --ssl-keyfile: not yet: TLS is for the proxy",
        ),
        (
            ("serve", "--no-date-header", "main_of_test:app", "--forwarded-allow-ips", "10.0.0.1/8"),
            {},
            "turboapi: forwarded_allow_ips is '10.0.0.1/8': 10.0.0.1/8 has host bits set; allowed are *, unix, addresses",
        ),
        (
            ("--factory", "serve", "main_of_test:app"),
            {},
            "turboapi: unrecognized arguments: --factory; --factory goes behind the command (`turboapi serve --help` lists",
        ),
        (
            ("serve", "main_of_test:app"),
            {"TURBOAPI_DATE_HEADER": "maybe"},
            "turboapi: TURBOAPI_DATE_HEADER is 'maybe', allowed is on or off",
        ),
        (("serve", "main_of_test:app"), {"TURBOAPI_IO": "iocp"}, "turboapi: TURBOAPI_IO is 'iocp', allowed is one of auto, uring, "),
        # A backend of another system.
        (
            ("serve", "main_of_test:app"),
            {"TURBOAPI_IO": "kqueue" if sys.platform == "linux" else "epoll"},
            'turboapi: TURBOAPI_IO is "kqueue", which this build does not have; it has auto, '
            if sys.platform == "linux"
            else 'turboapi: TURBOAPI_IO is "epoll", which this build does not have; it has auto and kqueue',
        ),
        (
            ("serve", "main_of_test:app"),
            {"WEB_CONCURRENCY": "auto"},
            "turboapi: WEB_CONCURRENCY is 'auto', allowed is a whole number from 1 to",
        ),
        (
            ("serve", "main_of_test:app", "--uds", "x", "--port", "1"),
            {},
            "turboapi: port is 1, uds is 'x': a server listens on a port, on a",
        ),
        (("serve",), {}, "turboapi: the following arguments are required: MODULE:APP"),
        ((), {}, "turboapi: the following arguments are required: COMMAND"),
    ],
)
def test_one_line_and_exit_code_2(folder, arguments, environment, line):
    answer = command(*arguments, directory=folder, **environment)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert len(answer.stderr.splitlines()) == 1, answer.stderr
    assert answer.stderr.startswith(line)


def test_what_cannot_be_served_is_one_line_and_exit_code_1(folder):
    answer = command("serve", "mian:app", directory=folder)
    assert (answer.returncode, answer.stdout, len(answer.stderr.splitlines())) == (1, "", 1)
    assert answer.stderr.startswith("turboapi: no module 'mian' in")


def test_every_option_of_uvicorns_is_known():
    """By its own list of them: it works, or is taken and says what there is instead, or is refused with the reason."""
    theirs = {name for option in uvicorn_main.params for name in (*option.opts, *option.secondary_opts) if name.startswith("--")}
    assert len(theirs) > 55
    switches = {option_name(field) for field in dataclasses.fields(Config) if kind_of(field)[0] is bool} | {"--server-header"}
    ours = set(cli.parser().parse_known_args(["serve", "main:app"])[0].parser._option_string_actions)
    ours |= {switch.replace("--", "--no-", 1) for switch in switches} | {"--version"}
    assert sorted(theirs - ours) == []


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["--date-header", "main:app"], {"date_header": "on"}),
        (["main:app", "--no-date-header"], {"date_header": "off"}),
        (["main:app", "--date-header", "off", "--proxy-headers"], {"date_header": "off", "proxy_headers": "on"}),
        (["--no-proxy-headers", "main:app"], {"proxy_headers": "off"}),
        (["--server-header", "main:app"], {"server_header": "turboapi"}),
        (["--no-server-header", "main:app"], {"server_header": ""}),
        (["--server-header", "mine", "main:app"], {"server_header": "mine"}),
        (["main:app", "--server-header"], {"server_header": "turboapi"}),
        (["main:app", "--timeout-keep-alive", "5", "--limit-concurrency=9"], {"keep_alive_timeout": "5", "handlers_in_flight_max": "9"}),
        (["main:app", "--timeout-graceful-shutdown", "8", "--app-dir", "src"], {"drain_timeout": "8", "directory": "src"}),
    ],
)
def test_options_as_uvicorn_has_them(arguments, settings):
    found = vars(cli.parser().parse_args(cli.written_out(["serve", *arguments])))
    assert found["target"] == "main:app"
    assert {name: found[name] for name in settings} == settings


def test_what_has_nothing_to_set_is_told_and_taken(capsys):
    cli.parser().parse_args(cli.written_out(["serve", "--loop", "uvloop", "--no-access-log", "main:app"]))
    assert capsys.readouterr().err.splitlines() == [
        "turboapi: --loop: each worker has a loop of its own, over io_uring, epoll or kqueue",
        "turboapi: --no-access-log: there is no access log",
    ]


def test_version(folder):
    answer = command("--version", directory=folder)
    assert answer.returncode == 0
    assert answer.stdout.startswith("turboapi ")
    assert sys.version.split()[0] in answer.stdout


def test_routes(folder):
    answer = command("routes", "main_of_test:app", directory=folder)
    assert answer.returncode == 0, answer.stderr
    lines = [line.split() for line in answer.stdout.splitlines()]
    assert ["GET", "/users/{id}", "user", "native,"] in [line[:4] for line in lines]
    assert "  native, in threads until it has earned the worker's own\n" in answer.stdout
    assert ["GET,HEAD", "/docs", "swagger_ui_html", "native"] in [line[:4] for line in lines]


def test_routes_of_an_app_that_is_not_fastapi(folder):
    answer = command("routes", "main_of_test:raw", directory=folder)
    assert answer.returncode == 0, answer.stderr
    assert "own ASGI call" in answer.stdout


def test_routes_into_a_closed_pipe(tmp_path):
    (tmp_path / "piped.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "turboapi", "routes", "piped:app"]
    done = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_line_is_logged_once(tmp_path):
    (tmp_path / "logs.py").write_text("import logging\nlogging.basicConfig()\n")
    script = "from turboapi.config import Config\nfrom turboapi.watching.log import logger, set_up_logging\n"
    for order in ("set_up_logging(Config())\nimport logs\n", "import logs\nset_up_logging(Config())\n"):
        command = [sys.executable, "-c", script + order + "logger.info('a line')"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr.count("a line") == 1
