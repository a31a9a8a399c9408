"""plan/ without a server: which routes are native, and that a native route's parts do what FastAPI's own do."""

import asyncio
import functools
import inspect
import math
import re
from typing import Annotated, Any, Literal

import differential_app
import fastapi.routing
import pytest
from fastapi import APIRouter, Body, Cookie, Depends, FastAPI, Form, Header, HTTPException, Path, Query, Request, Response, params
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import EventSourceResponse, HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import AliasChoices, AliasPath, BaseModel, Field, Json
from pydantic.fields import FieldInfo
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import HTTPConnection
from starlette.routing import Host, Mount, WebSocketRoute
from starlette.types import Receive, Scope, Send

from turboapi.plan import arguments, routes
from turboapi.plan.answers import error_app, http_exception_is_plain
from turboapi.plan.field import PLAIN, ModelField
from turboapi.plan.routes import NativeRoute, compile_app
from turboapi.plan.rules import rules

pytestmark = pytest.mark.above_platform


class Point(BaseModel):
    x: int
    y: int = 0


def one(endpoint: Any, path: str = "/", app: FastAPI | None = None, **options: Any) -> routes.Entry:
    app = app or FastAPI(openapi_url=None)
    app.add_api_route(path, endpoint, **options)
    return compile_app(app)[0]


def native(endpoint: Any, path: str = "/", **options: Any) -> NativeRoute:
    entry = one(endpoint, path, **options)
    assert entry.native is not None, entry.reason
    return entry.native


@pytest.fixture(scope="module")
def big_app() -> FastAPI:
    return differential_app.make_app()


@pytest.fixture(scope="module")
def big_table(big_app: FastAPI) -> dict[tuple[str, tuple[str, ...]], NativeRoute]:
    return {(entry.template, entry.methods): entry.native for entry in compile_app(big_app) if entry.native}


# Which arguments are read, from where, and how.


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        # annotation, default ("" is none), (source, wire name, kind, required, default)
        (int, "", ("query", "the_value", "int", True, None)),
        (str, "", ("query", "the_value", "str", True, None)),
        (float, 1.5, ("query", "the_value", "float", False, 1.5)),
        (bool, False, ("query", "the_value", "bool", False, False)),
        (int | None, None, ("query", "the_value", "int", False, None)),
        (int | str, "", ("query", "the_value", "validator", True, None)),
        (Any, 5, ("query", "the_value", "validator", False, 5)),
        (bytes, b"", ("query", "the_value", "validator", False, b"")),
        (differential_app.Color, differential_app.Color.RED, ("query", "the_value", "validator", False, differential_app.Color.RED)),
        (differential_app.UserId, "", ("query", "the_value", "int", True, None)),
        (differential_app.Limit, "", ("query", "the_value", "validator", True, None)),
        (Annotated[int, Field(ge=1)], "", ("query", "the_value", "validator", True, None)),
        (Annotated[int, Query()], "", ("query", "the_value", "int", True, None)),
        (Annotated[int, Query(strict=True)], "", ("query", "the_value", "validator", True, None)),
        (Annotated[int, Query(alias="other")], 3, ("query", "other", "int", False, 3)),
        (Annotated[int, Query(validation_alias="va")], "", ("query", "va", "int", True, None)),
        (int, Query(7), ("query", "the_value", "int", False, 7)),
        (int, Query(..., le=5), ("query", "the_value", "validator", True, None)),
        (Annotated[str, Header()], "", ("header", "the-value", "str", True, None)),
        (Annotated[str, Header(convert_underscores=False)], "", ("header", "the_value", "str", True, None)),
        (Annotated[str, Header(alias="X-Other_Name")], "", ("header", "X-Other_Name", "str", True, None)),
        (str, Header(None), ("header", "the-value", "str", False, None)),
        (Annotated[bool, Cookie(alias="c d")], True, ("cookie", "c d", "bool", False, True)),
    ],
)
def test_argument(annotation: Any, default: Any, expected: tuple[Any, ...]) -> None:
    def endpoint(the_value): ...  # type: ignore[no-untyped-def]

    endpoint.__annotations__ = {"the_value": annotation}
    if not (isinstance(default, str) and default == ""):
        endpoint.__defaults__ = (default,)
    (read,) = native(endpoint).parameters
    assert (read.source, *read.names, read.kind, read.absent.is_refused, read.absent.value) == expected
    assert read.absent.factory is None and not read.runs_app_code


@pytest.mark.parametrize(
    ("path", "annotation", "kind", "text", "value"),
    [
        ("/{x}", int, "int", "007", 7),
        ("/{x}", str, "str", "a", "a"),
        ("/{x}", Annotated[int, Path(ge=1)], "validator", "1_0", 10),
        ("/{x:int}", int, "int", "007", 7),
        ("/{x:int}", float, "validator", "7", 7.0),
        ("/{x:float}", float, "float", "1.50", 1.5),
        ("/{x:float}", int, "validator", "2.0", 2),
        ("/{x:path}", str, "str", "a/b", "a/b"),
        ("/{x:uuid}", str, "validator", "00000000-0000-0000-0000-000000000005", ValueError),
        ("/{x:int}", str, "validator", "5", ValueError),
        ("/{x:int}", int, "int", "9" * 5000, ValueError),
    ],
)
def test_path_convertor(path: str, annotation: Any, kind: str, text: str, value: Any) -> None:
    def endpoint(x): ...  # type: ignore[no-untyped-def]

    endpoint.__annotations__ = {"x": annotation}
    (read,) = native(endpoint, path).parameters
    assert (read.source, read.names, read.kind) == ("path", ("x",), kind)
    if value is ValueError:
        with pytest.raises(ValueError):
            read.validate(text)
    else:
        result = read.validate(text)
        assert (type(result), result) == (type(value), value)


def test_body_among_parameters() -> None:
    def endpoint(b: Point, q: int, *, k: int = 1) -> None: ...

    route = native(endpoint, "/", methods=["POST"])
    assert [read.name for read in route.bodies] == ["b"]
    assert [read.name for read in route.parameters] == ["q", "k"]


def test_arguments_are_converted_in_fastapis_order() -> None:
    def endpoint(
        c: Annotated[str, Cookie()], h: Annotated[str, Header()], q2: int, b: Point, q1: int, p: int, h2: Annotated[str, Header()] = ""
    ) -> None: ...

    assert [read.name for read in native(endpoint, "/{p}", methods=["POST"]).parameters] == ["p", "q2", "q1", "h", "h2", "c"]


def test_decorated_endpoint() -> None:
    def endpoint(a: int) -> None: ...

    @functools.wraps(endpoint)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    assert [read.name for read in native(wrapper).parameters] == ["a"]
    assert native(wrapper).endpoint is wrapper


@pytest.mark.parametrize("options", [{"default": [1]}, {"default_factory": dict}, {"default": {"a": 1}, "validate_default": True}])
def test_default_of_a_body_is_the_apps(options: dict[str, Any]) -> None:
    def endpoint(data: Any = Body(**options)) -> None: ...

    entry = one(endpoint, methods=["POST"])
    if entry.native is None:
        assert not rules().forms_are_known
        return
    (body,) = entry.native.bodies
    assert body.validate({"x": 1}) == {"x": 1} and not body.runs_app_code
    made = [body.absent.factory() for _ in range(2) if body.absent.factory]
    assert made == [options.get("default", {})] * 2 and made[0] is not made[1]


def test_invalid_default_follows_the_installed_fastapi() -> None:
    def endpoint(q: float = 1) -> None: ...

    (read,) = native(endpoint).parameters
    assert type(read.absent.value) is (float if rules().defaults_are_validated else int)

    def refused(q: Annotated[int, Query(ge=5)] = 1) -> None: ...

    entry = one(refused)
    assert (entry.native is None) == rules().defaults_are_validated


def schema(adapter: Any) -> str:
    # Pydantic makes a new function for each enum. FastAPI 0.141 gives every field an empty addition to its JSON schema.
    return re.sub(" at 0x[0-9a-f]+|'pydantic_js_extra': {}", "", repr(adapter.core_schema))


def test_same_schema_as_fastapi(big_app: FastAPI, big_table: dict[tuple[str, tuple[str, ...]], NativeRoute]) -> None:
    """The strongest check there is: for each argument and answer of the big app, pydantic got the same schema from us and from FastAPI."""
    table, checked = big_table, 0
    for context in iter_route_contexts(big_app.routes):
        route = table.get((context.path, tuple(context.methods or ())))
        if route is None or not isinstance(context.original_route, APIRoute):
            continue
        fields = {
            field.name: field
            for part in ("path", "query", "header", "cookie", "body")
            for field in getattr(context.dependant, f"{part}_params")
        }
        if not route.is_composed:
            assert fields.keys() == {read.name for read in (*route.parameters, *route.bodies)}
        for argument in inspect.signature(route.owner, eval_str=True).parameters.values():
            if argument.name not in fields:  # the request, a dependency
                continue
            declared = arguments._declaration(argument, set(context.param_convertors))
            assert not isinstance(declared, str)
            info, annotation, is_given = declared
            ours = ModelField.of(info, annotation, argument.default if is_given else info.default)
            assert schema(ours.adapter) == schema(fields[argument.name]._type_adapter), (context.path, argument.name)
            checked += 1
        if context.response_model:
            ours = ModelField.of(FieldInfo(annotation=context.response_model), context.response_model)
            assert schema(ours.adapter) == schema(context.response_field._type_adapter), context.path
            checked += 1
    assert checked > 300


# What is left to the app.


def no_arguments() -> None: ...


async def generator():  # type: ignore[no-untyped-def]
    yield 1


def form(a: Annotated[str, Form()]) -> None: ...


def depends(a: int = Depends(form)) -> None: ...


def request_argument(r: Request) -> None: ...


def response_argument(r: Response) -> None: ...


def connection_argument(c: HTTPConnection) -> None: ...


def request_by_default(r: Request = None) -> None: ...  # type: ignore[assignment]


def two_requests(a: Request, b: HTTPConnection) -> None: ...


def response_subclass(r: HTMLResponse) -> None: ...


def several(q: list[int] = Query()) -> None: ...


def two_bodies(a: Point, b: Point) -> None: ...


def embedded(a: Annotated[Point, Body(embed=True)]) -> None: ...


def model_query(a: Annotated[Point, Query()]) -> None: ...


def positional(a: int, /) -> None: ...


def many(*args: int) -> None: ...


def merged(a: Annotated[int, Field(alias="x"), Query()]) -> None: ...


def computed(a: Annotated[int, Query(default_factory=int)]) -> None: ...


def validated(a: Annotated[int, Query(validate_default=True)] = 1) -> None: ...


def choices(a: Annotated[int, Query(validation_alias=AliasChoices("b", "c"))]) -> None: ...


def text_of_json(a: Annotated[Json[list[int]], Query()]) -> None: ...


class PathInModel(BaseModel):
    a: int = Field(validation_alias=AliasPath("b", 0))


def path_in_model(m: Annotated[PathInModel, Query()]) -> None: ...


def path_in_value(a: Annotated[int, Query(validation_alias=AliasChoices("b", AliasPath("c", 0)))]) -> None: ...


def from_others(a: Annotated[int, Query(default_factory=lambda data: len(data))]) -> None: ...


class Callable_:
    def __call__(self) -> None: ...


@functools.wraps(asyncio.sleep)
def def_over_async(*args: Any) -> Any: ...


class CustomRoute(APIRoute):
    pass


@pytest.mark.parametrize(
    ("endpoint", "options", "reason"),
    [
        (no_arguments, {"response_class": EventSourceResponse}, "server-sent events of no generator"),
        (functools.wraps(generator)(lambda: None), {}, "wraps a generator"),
        (depends, {}, "dependencies: form: a: declared by Form"),
        (two_requests, {}, "b: a second argument for the connection"),
        (response_subclass, {}, "r: HTMLResponse"),
        (path_in_value, {}, "alias is not a plain name"),
        (path_in_model, {}, "alias of a is not a plain name"),
        (from_others, {}, "computed"),
        (positional, {}, "positional-only"),
        (many, {}, "variadic"),
        (merged, {}, "several declarations"),
        (Callable_(), {}, "not a function"),
        (functools.partial(no_arguments), {}, "not a function"),
        (no_arguments, {"dependencies": [Depends(form)]}, "dependencies: form: a: declared by Form"),
        (no_arguments, {"status_code": 1000}, "status_code 1000"),
        (no_arguments, {"status_code": 70_000}, "status_code 70000"),
    ],
)
def test_opaque_route(endpoint: Any, options: dict[str, Any], reason: str) -> None:
    entry = one(endpoint, **options)
    assert entry.native is None
    assert reason in entry.reason


@pytest.mark.parametrize(
    ("endpoint", "rule"),
    [
        (several, "lists_are_known"),
        (two_bodies, "bodies_are_known"),
        (embedded, "bodies_are_known"),
        (model_query, "models_are_known"),
        (computed, "forms_are_known"),
        (validated, "forms_are_known"),
        (choices, "models_are_known"),
        (text_of_json, "forms_are_known"),
    ],
)
def test_route_that_some_releases_read_otherwise(endpoint: Any, rule: str) -> None:
    assert (one(endpoint, methods=["POST"]).native is not None) == getattr(rules(), rule)


class Rebuilt(BaseModel):
    x: int


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ((int,), (int,), True),
        ((int | None,), (int | None,), True),
        ((list[Rebuilt],), (list[Rebuilt],), True),
        ((int, 1), (int, 1), True),
        ((int, 1), (int, True), False),
        ((int, 1), (int, 2), False),
        ((int | str,), (str | int,), False),
        ((Literal[1],), (Literal[True],), False),
        ((Annotated[int, Query(ge=1)],), (Annotated[int, Query(ge=1)],), True),
        ((Annotated[int, Query(ge=1)],), (Annotated[int, Query(gt=1)],), False),
        ((Annotated[float, Query(ge=1)],), (Annotated[float, Query(ge=1.0)],), False),
        ((Annotated[str, Query(pattern="a")],), (Annotated[str, Query(pattern="b")],), False),
        ((Annotated[int, Query(strict=True)],), (Annotated[int, Query()],), False),
        ((Annotated[list[str], Query(min_length=1)],), (Annotated[list[str], Query(min_length=1)],), True),
    ],
)
def test_adapters_are_shared(one: tuple[Any, ...], other: tuple[Any, ...], is_shared: bool) -> None:
    """By all that validate alike, and by nobody else."""

    def adapter(annotation: Any, *default: Any) -> Any:
        declared = getattr(annotation, "__metadata__", (PLAIN[params.Query],))[0]
        return ModelField.of(declared, annotation, *default).adapter

    assert (adapter(*one) is adapter(*other)) == is_shared


def test_adapter_of_a_model_built_anew() -> None:
    before = ModelField.of(PLAIN[FieldInfo], list[Rebuilt])
    Rebuilt.model_rebuild(force=True)
    assert ModelField.of(PLAIN[FieldInfo], list[Rebuilt]).adapter is not before.adapter


def test_custom_route_class() -> None:
    app = FastAPI(openapi_url=None)
    app.router.route_class = CustomRoute
    entry = one(no_arguments, app=app)
    assert entry.native is not None, "its name alone says nothing"
    assert entry.native.place.wrapped is None


def test_route_changed_after_it_was_added() -> None:
    def changed(change: Any) -> str:
        app = FastAPI(openapi_url=None)
        app.add_api_route("/", lambda: None)
        change(app.router.routes[0])
        return compile_app(app)[0].reason

    def wrap_app(route: Any) -> None:
        route.app = functools.partial(route.app)

    def hide_app(route: Any) -> None:
        route.app = [route.app].pop

    def wrap_endpoint(route: Any) -> None:
        route.endpoint = no_arguments

    def own_matches(route: Any) -> None:
        route.matches = route.matches

    assert changed(lambda route: None) == ""
    assert changed(wrap_app) == ""
    assert "no handler" in changed(hide_app)
    assert "endpoint was wrapped" in changed(wrap_endpoint)
    assert "decides by itself" in changed(own_matches)


# The table.


def table(app: FastAPI) -> list[tuple[str, tuple[str, ...], str, bool]]:
    return [(entry.template, tuple(sorted(entry.methods)), entry.kind, entry.native is not None) for entry in compile_app(app)]


def test_order_and_kinds() -> None:
    app = FastAPI(openapi_url=None)
    app.add_api_route("/a/{x}", no_arguments)
    inner = APIRouter(prefix="/inner")
    inner.add_api_route("/b", no_arguments, methods=["POST", "PUT"])
    inner.add_route("/s", request_argument)  # type: ignore[arg-type]
    inner.mount("/m", FastAPI(openapi_url=None))
    app.include_router(inner, prefix="/{p}")
    app.include_router(inner, prefix="/guarded", dependencies=[Depends(no_arguments)])
    app.router.routes.append(WebSocketRoute("/ws", generator))  # type: ignore[arg-type]
    app.add_api_route("/odd/{x:odd}", no_arguments)
    mounted = FastAPI(openapi_url=None)
    mounted.add_api_route("/n/{x}", no_arguments)
    app.router.routes.append(Mount("/static", mounted))
    app.router.routes.append(Mount("/{x}", mounted))
    app.router.routes.append(Host("example.test", FastAPI()))  # type: ignore[arg-type]
    app.add_api_route("/last", no_arguments)
    assert table(app) == [
        ("/a/{x}", ("GET",), "route", True),
        ("/{p}/inner/b", ("POST", "PUT"), "route", True),
        ("/{p}/s", ("GET", "HEAD"), "route", True),
        ("/{p}/m", (), "prefix", False),
        ("/guarded/inner/b", ("POST", "PUT"), "route", True),
        ("/guarded/s", ("GET", "HEAD"), "route", True),
        ("/guarded/m", (), "prefix", False),
        ("/odd/{x:odd}", ("GET",), "opaque", False),
        ("/static/n/{x}", ("GET",), "route", True),
        ("/static", (), "prefix", False),
        ("/{x}", (), "prefix", False),
        ("", (), "prefix", False),
        ("/last", ("GET",), "route", True),
    ]


def test_included_response_class() -> None:
    app = FastAPI(openapi_url=None)
    router = APIRouter(default_response_class=HTMLResponse)
    router.add_api_route("/", lambda: "<p>", response_model=None)
    app.include_router(router, prefix="/x")
    (entry,) = compile_app(app)
    assert entry.native is not None and entry.native.render is not None
    assert isinstance(entry.native.render("<p>"), HTMLResponse)


def _with(change: Any, kind: type[FastAPI] = FastAPI, **options: Any) -> FastAPI:
    app = kind(openapi_url=None, **options)
    app.add_api_route("/", no_arguments)
    change(app)
    return app


class OwnCall(FastAPI):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class OwnRouter(APIRouter):
    def matches(self, scope: Scope) -> Any: ...


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (_with(lambda app: setattr(app.router, "app", object())), "APIRouter.app"),
        (_with(lambda app: setattr(app.router, "middleware_stack", object())), "router has middleware"),
        (_with(lambda app: app.include_router(OwnRouter(), prefix="/x")), "OwnRouter.matches"),
    ],
)
def test_opaque_app(app: FastAPI, reason: str) -> None:
    entries = compile_app(app)
    assert all(entry.native is None and reason in entry.reason for entry in entries)
    assert entries[-1][:3] == ("", (), "prefix")


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (_with(lambda app: app.middleware("http")(generator)), "middleware"),
        (_with(lambda app: setattr(app, "root_path", "/x")), "root_path"),
        (_with(lambda app: setattr(app, "middleware_stack", object())), "middleware stack"),
        (_with(lambda app: setattr(app, "build_middleware_stack", object())), "build_middleware_stack"),
        (_with(lambda app: None, kind=OwnCall), "OwnCall.__call__"),
    ],
)
def test_app_around_its_router(app: FastAPI, reason: str) -> None:
    """What stands around the router is passed by each request, and by what no route matches; the routes are native within."""
    first, last = compile_app(app)
    assert first.native is not None and first.native.place.is_within_stack and first.native.place.router is app.router
    assert last[:3] == ("", (), "prefix") and last.native is None and reason in last.reason


def test_nothing_around_the_router() -> None:
    (entry,) = compile_app(_with(lambda app: None))
    assert entry.native is not None and not entry.native.place.is_within_stack


@pytest.mark.parametrize(
    ("endpoint", "connection", "response"),
    [
        (request_argument, "r", None),
        (connection_argument, "c", None),
        (request_by_default, "r", None),
        (response_argument, None, "r"),
    ],
)
def test_arguments_that_are_given(endpoint: Any, connection: str | None, response: str | None) -> None:
    native = one(endpoint).native
    assert native is not None and (native.connection, native.response) == (connection, response)


def test_max_body_size() -> None:
    if "max_body_size" not in inspect.signature(FastAPI).parameters:
        pytest.skip("this FastAPI has no max_body_size")
    assert compile_app(_with(lambda app: None, max_body_size=5))[0].native is None
    assert "max_body_size" in one(no_arguments, max_body_size=5).reason


def test_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    app = _with(lambda app: None)
    telemetry = getattr(app, "_native_telemetry", None)
    if telemetry is None:
        pytest.skip("this FastAPI has no telemetry")
    monkeypatch.setattr(telemetry, "enabled", lambda: True)
    assert compile_app(app)[0].reason == "telemetry is switched on"


def test_patched_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    @functools.wraps(fastapi.routing.run_endpoint_function)
    async def traced(**options: Any) -> Any: ...

    monkeypatch.setattr(fastapi.routing, "run_endpoint_function", traced)
    assert compile_app(_with(lambda app: None))[0].reason == "fastapi.routing.run_endpoint_function was replaced"


@pytest.mark.parametrize("key", [404, 405, HTTPException, StarletteHTTPException, type("Child", (HTTPException,), {})])
def test_own_http_handler(key: Any) -> None:
    app = _with(lambda app: app.add_exception_handler(key, lambda request, error: None))
    assert not http_exception_is_plain(app)
    first, last = compile_app(app)
    assert first.native is not None
    assert last[:3] == ("", (), "prefix")


@pytest.mark.parametrize("key", [500, Exception, ValueError])
def test_other_handlers_leave_http_exception_plain(key: Any) -> None:
    app = _with(lambda app: app.add_exception_handler(key, lambda request, error: None))
    assert http_exception_is_plain(app)
    assert len(compile_app(app)) == 1


def test_own_default() -> None:
    app = _with(lambda app: setattr(app.router, "default", object()))
    assert compile_app(app)[-1].template == ""


# Answers.


def ask(app: Any, path: str, exception: BaseException | None = None) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """One GET over ASGI, without a server."""
    sent: list[Any] = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    if exception is not None:
        scope["turboapi.exception"] = exception
    try:
        asyncio.run(app(scope, receive, send))
    except Exception:
        if not sent:
            raise
    return sent[0]["status"], sent[0]["headers"], b"".join(message.get("body", b"") for message in sent[1:])


def answer(route: NativeRoute, value: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """What `_core` makes of the value that the endpoint returned."""
    if isinstance(value, Response) or route.render is not None:
        response = value if isinstance(value, Response) else route.render(value)  # type: ignore[misc]
        return response.status_code, response.raw_headers, bytes(response.body)
    body = route.serialize(value) if route.serialize is not None else route.encode(value)
    return route.status_code or 200, [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")], body


def answering_paths() -> list[str]:
    wanted = ("/return/", "/status/", "/class/", "/model/")
    return [
        entry.template
        for entry in compile_app(differential_app.make_app())
        if entry.native and entry.template.startswith(wanted) and not entry.template.endswith(("StreamingResponse", "FileResponse"))
    ]


@pytest.mark.parametrize("path", answering_paths())
def test_answer(big_app: FastAPI, big_table: dict[tuple[str, tuple[str, ...]], NativeRoute], path: str) -> None:
    """The plan's parts, called as `_core` calls them, against the app's own ASGI call."""
    (route,) = [route for (template, _), route in big_table.items() if template == path]
    expected = ask(big_app, path)
    try:
        result = route.endpoint()
        actual = answer(route, asyncio.run(result) if route.is_coroutine else result)
    except Exception as error:
        actual = ask(error_app(big_app), path, error)
    assert actual == expected


def test_response_validation_error_says_where() -> None:
    def endpoint() -> Point: ...

    serialize = native(endpoint, "/points").serialize
    assert serialize is not None
    with pytest.raises(ResponseValidationError) as caught:
        serialize({"x": "no"})
    assert caught.value.errors()[0]["loc"] == ("response", "x")
    assert caught.value.body == {"x": "no"}
    message = str(caught.value)
    assert "test_plan.py" in message and "in endpoint" in message and message.endswith("GET /points")


@pytest.mark.parametrize("variant", ["plain", "handlers"])
def test_error_app(variant: str) -> None:
    app = differential_app.VARIANTS[variant]()
    routes = {entry.template: entry.native for entry in compile_app(app) if entry.native and entry.template.startswith("/raise/")}
    answer_error = error_app(app)
    for path, route in routes.items():
        path = path.replace("{status_code}", "404").replace("{x:int}", "05").replace("{y}", "y")
        expected = ask(app, path)
        with pytest.raises(Exception) as caught:
            asyncio.run(
                route.endpoint(**{read.name: read.validate({"x": "5", "y": "y"}.get(read.name, "404")) for read in route.parameters})
            )
        assert ask(answer_error, path, caught.value) == expected, path


def test_error_app_raises_unhandled_again() -> None:
    error = RuntimeError("x")
    app = error_app(FastAPI())

    async def send(message: Any) -> None: ...

    with pytest.raises(RuntimeError) as caught:
        asyncio.run(app({"type": "http", "method": "GET", "path": "/", "headers": [], "turboapi.exception": error}, send, send))  # type: ignore[arg-type]
    assert caught.value is error


def test_encode_refuses_what_json_cannot_hold() -> None:
    for value in (math.nan, {"a": math.inf}, object, 1j, "\ud800"):
        with pytest.raises((ValueError, TypeError)):
            native(no_arguments).encode(value)


@pytest.mark.parametrize(
    ("options", "has_render", "has_serialize"),
    [
        ({"response_model": None}, False, False),
        ({"response_model": Point}, False, True),
        ({"response_model": None, "response_class": JSONResponse}, False, False),
        ({"response_model": Point, "response_class": JSONResponse}, False, True),
        ({"response_model": None, "response_class": PlainTextResponse}, True, False),
        ({"response_model": None, "response_class": Response}, True, False),
        ({"response_model": None, "status_code": 204}, True, False),
        ({"response_model": Point, "status_code": 201}, False, True),
    ],
)
def test_way_to_answer(options: dict[str, Any], has_render: bool, has_serialize: bool) -> None:
    route = native(no_arguments, **options)
    assert (route.render is not None, route.serialize is not None) == (has_render, has_serialize)


# The options that are TurboAPI's own.


def test_options_of_routes() -> None:
    from turboapi.app import APIRouter as OurRouter
    from turboapi.app import TurboAPI

    app = TurboAPI(openapi_url=None)

    @app.get("/a", blocking=True)
    def a() -> None: ...

    @app.post("/b", blocking=False)
    def b() -> None: ...

    @app.api_route("/c", methods=["PUT"])
    def c() -> None: ...

    app.add_api_route("/d", c, blocking=True)
    router = OurRouter()

    @router.delete("/e", blocking=True)
    def e() -> None: ...

    app.include_router(router, prefix="/r")
    assert [(entry.template, entry.native and entry.native.blocking) for entry in compile_app(app)] == [
        ("/a", True), ("/b", False), ("/c", None), ("/d", True), ("/r/e", True),
    ]  # fmt: skip
    app.post("/f", body_bytes_max=5)(c)
    router.add_api_route("/g", c, body_bytes_max=0)
    app.include_router(router, prefix="/s")
    limits = {entry.template: entry.body_bytes_max for entry in compile_app(app)}
    assert (limits["/a"], limits["/f"], limits["/s/e"], limits["/s/g"]) == (None, 5, None, 0)
    outer, middle = FastAPI(openapi_url=None), FastAPI(openapi_url=None)
    middle.mount("/in", app)
    outer.mount("/out", middle)
    outer.mount("/plain", FastAPI(openapi_url=None))
    entries = [(entry.template, entry.kind, entry.native is not None, entry.body_bytes_max) for entry in compile_app(outer)]
    assert ("/out/in/f", "route", True, 5) in entries
    assert entries[-4:] == [
        ("/out/in/s/g", "route", True, 0), ("/out/in", "prefix", False, None),
        ("/out", "prefix", False, None), ("/plain", "prefix", False, None),
    ]  # fmt: skip
    with pytest.raises(TypeError, match="blocking is 1"):
        app.get("/f", blocking=1)(c)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="blocked"):
        app.get("/f", blocked=True)


@functools.lru_cache
def settings() -> dict[str, int]:
    return {"depth": 3}


def by_settings(found: Annotated[dict[str, int], Depends(settings)]) -> dict[str, int]:
    return found


def test_cached_function_as_dependency() -> None:
    """FastAPI's documentation has settings so."""
    assert one(by_settings).native is not None
