"""The decorators of `TurboAPI` and `APIRouter` take what FastAPI's take, by name and type, and a type checker says so."""

import importlib.util
import inspect
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

import fastapi
import pytest
from fastapi.datastructures import DefaultPlaceholder

import turboapi.app
from turboapi import APIRouter, TurboAPI

pytestmark = pytest.mark.above_platform

METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace", "api_route", "add_api_route"]

#: What only newer FastAPIs have.
NEWER = {"max_body_size", "form_limits"}

#: What the installed FastAPI has and we do not name. It is passed on all the same; add it to turboapi/app.py.
NOT_YET: set[str] = set()


def plain(annotation: Any) -> Any:
    """Without FastAPI's own mark for "not given"."""
    if isinstance(annotation, types.UnionType):
        parts = [part for part in typing.get_args(annotation) if part is not DefaultPlaceholder]
        return typing.Union[tuple(parts)]  # noqa: UP007
    return annotation


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What app.py imports for type checkers only."""
    spec = importlib.util.find_spec("fastapi._form_limits")
    limits = importlib.import_module("fastapi._form_limits")._FormLimits if spec else dict
    monkeypatch.setattr(turboapi.app, "_FormLimits", limits, raising=False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("ours", "theirs"), [(TurboAPI, fastapi.FastAPI), (APIRouter, fastapi.APIRouter)])
@pytest.mark.usefixtures("names")
def test_signature(ours: type, theirs: type, method: str) -> None:
    parameters = dict(inspect.signature(getattr(theirs, method)).parameters)
    hints = typing.get_type_hints(getattr(theirs, method))
    own = dict(inspect.signature(getattr(ours, method)).parameters)
    own_hints = typing.get_type_hints(getattr(ours, method))
    (table,) = typing.get_args(own_hints.pop("options"))
    known = typing.get_type_hints(table)
    assert own.pop("options").kind is inspect.Parameter.VAR_KEYWORD
    for name in ("blocking", "body_bytes_max"):
        assert (own[name].kind, own[name].default) == (inspect.Parameter.KEYWORD_ONLY, None)
        del own[name]
    for name, parameter in own.items():
        assert (parameter.kind, parameter.default) == (parameters[name].kind, parameters[name].default), name
        assert own_hints.get(name) == hints.get(name), name
    keywords = parameters.keys() - own.keys()
    # Each is by keyword and has a default, which is FastAPI's as long as it is not given.
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in keywords)
    assert all(parameters[name].default is not inspect.Parameter.empty for name in keywords)
    assert not table.__required_keys__
    assert keywords - known.keys() == NOT_YET & keywords
    assert known.keys() - keywords <= NEWER
    for name in keywords & known.keys():
        assert plain(known[name]) == plain(hints[name]), name


def test_newer_parameters_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def get(self: Any, path: str, **options: Any) -> Any:
        seen.update(options, path=path)
        return lambda function: function

    monkeypatch.setattr(fastapi.FastAPI, "get", get)
    app = TurboAPI(openapi_url=None)
    app.get("/", of_tomorrow=1)(print)  # type: ignore[call-arg]
    assert seen == {"path": "/", "of_tomorrow": 1}


CALLS = """
from turboapi import APIRouter, TurboAPI

app = TurboAPI()
router = APIRouter()

@app.get("/", tags=["a"], status_code=201, blocking=True, body_bytes_max=1)
def good(x: int) -> str:
    return str(x)

@router.api_route("/", methods=["GET"], summary="s")
def fine() -> None: ...

app.add_api_route("/", fine, methods=["PUT"], name="n")
number: int = good(1)  # wrong: the decorator keeps the signature

@app.get("/", status_cod=201)  # wrong
def keyword() -> None: ...

@router.post("/", status_code="201")  # wrong
def kind() -> None: ...

@app.put("/", blocking=1)  # wrong
def option() -> None: ...

app.add_api_route("/", fine, callback=[])  # wrong
"""


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
@pytest.mark.timeout(240)
def test_type_checker(tmp_path: Path) -> None:
    (tmp_path / "calls.py").write_text(CALLS)
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--no-error-summary", "calls.py"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    wrong = {number for number, line in enumerate(CALLS.splitlines(), 1) if "# wrong" in line}
    assert {int(line.split(":")[1]) for line in found.splitlines() if ": error:" in line} == wrong, found
