"""What endpoints return: each kind of value and of response, without a model; status codes, response classes, headers and cookies."""

import collections
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import math
import pathlib
import re
import uuid
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, RootModel, SecretStr, computed_field, field_serializer, model_serializer

from .ask import Ask
from .kit import Kit, returning


class Shade(enum.Enum):
    DARK = "dark"
    NUMBER = 7


class Point(BaseModel):
    x: int
    y: float = 0.5


class Wide(BaseModel):
    model_config = ConfigDict(extra="allow")
    item_name: str = Field("n", alias="itemName")
    secret: SecretStr = SecretStr("s")
    at: datetime.datetime = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    nothing: None = None
    point: Point = Point(x=1)

    @computed_field
    @property
    def label(self) -> str:
        return self.item_name.upper()


class Serialized(BaseModel):
    value: decimal.Decimal

    @field_serializer("value")
    def _text(self, value: decimal.Decimal) -> str:
        return f"<{value}>"


class Whole(BaseModel):
    a: int = 1

    @model_serializer
    def _all(self) -> dict[str, int]:
        return {"whole": self.a}


class Numbers(RootModel[list[int]]):
    pass


@dataclasses.dataclass
class Record:
    left: int
    right: list[Point] = dataclasses.field(default_factory=list)


class Plain:
    def __init__(self) -> None:
        self.a, self.b, self._c = 1, [Point(x=1)], 2


class Mapping_(collections.UserDict[str, int]):
    pass


Coordinate = collections.namedtuple("Coordinate", "x y")

VALUES: dict[str, Callable[[], Any]] = {
    "dict": lambda: {"a": 1, "é": 'ü\u2028"\\\n\x00\x7f', "n": None, "t": True, "deep": {"l": [1, 2.5, [], {}]}},
    "keys": lambda: {1: "int", 2.5: "float", False: "bool", None: "none", "_sa_x": "dropped"},
    "enum_keys": lambda: {Shade.DARK: 1, uuid.UUID(int=1): 2},
    "empty_dict": dict,
    "list": lambda: [1, "a", None, [True], 1.5],
    "large": lambda: [{"id": number, "name": f"name {number}", "on": number % 2 == 0} for number in range(500)],
    "str": lambda: "text ☃ \U0001f600 </script>",
    "empty_str": str,
    "int": lambda: 5,
    "big": lambda: [2**63, -(2**63), 2**64, 10**40],
    "floats": lambda: [1.0, 1e16, 1e-7, 1.5e300, -0.0, 0.1, 5e-324, 123456789012345680.0, 1e22, 1e21],
    "bool": lambda: False,
    "none": lambda: None,
    "decimal": lambda: [decimal.Decimal("1.10"), decimal.Decimal(7), decimal.Decimal("1E+3")],
    "dates": lambda: [datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), datetime.date(2026, 1, 2), datetime.time(1, 2)],
    "timedelta": lambda: datetime.timedelta(hours=1, microseconds=5),
    "enum": lambda: [Shade.DARK, Shade.NUMBER],
    "uuid": lambda: uuid.UUID(int=7),
    "set": lambda: {4},
    "frozenset": lambda: frozenset({"a"}),
    "deque": lambda: collections.deque([1, 2]),
    "tuple": lambda: (1, "b", (2.0,)),
    "namedtuple": lambda: Coordinate(1, 2),
    "generator": lambda: (number for number in range(3)),
    "bytes": lambda: b"bytes",
    "path": lambda: pathlib.PurePosixPath("/a/b"),
    "ip": lambda: [ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8")],
    "pattern": lambda: re.compile("a+"),
    "secret": lambda: SecretStr("x"),
    "url": lambda: AnyUrl("http://a.test/ü"),
    "dataclass": lambda: Record(1, [Point(x=1)]),
    "model": lambda: Wide(itemName="n", more={"a": (1,)}),
    "models": lambda: {"items": [Point(x=1), Serialized(value=decimal.Decimal("1.0"))]},
    "whole": Whole,
    "root": lambda: Numbers([1, 2]),
    "object": Plain,
    "userdict": lambda: Mapping_(a=1),
    "counter": lambda: collections.Counter("aab"),
    "defaultdict": lambda: collections.defaultdict(int, a=1),
    "ordered": lambda: collections.OrderedDict(b=1, a=2),
    "str_subclass": lambda: type("Text", (str,), {})("sub"),
    "int_subclass": lambda: type("Number", (int,), {})(5),
    "dict_subclass": lambda: type("Map", (dict,), {})(a=1),
    "list_subclass": lambda: type("List", (list,), {})([1]),
    "exception": lambda: ValueError("v"),
    # What is no JSON.
    "nan": lambda: {"a": math.nan},
    "inf": lambda: [math.inf],
    "lambda": lambda: len,
    "surrogate": lambda: "\ud800",
    "bad_bytes": lambda: b"\xff",
    "complex": lambda: 1j,
    "module": lambda: [math],
    "tuple_key": lambda: {(1, 2): 3},
    "circle": lambda: _circle(),
}


def _circle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def _with_cookies() -> Response:
    response = JSONResponse({"a": 1}, headers={"Cache-Control": "no-store"})
    response.set_cookie("session", "a b;c", max_age=5, httponly=True, samesite="strict", path="/p", domain="example.test")
    response.set_cookie("second", "2", secure=True)
    return response


def _with_lines() -> Response:
    response = PlainTextResponse("lines")
    response.headers.append("X-Line", "1")
    response.headers.append("x-line", "2")
    response.headers["X-Text"] = "ü"
    return response


class OwnJson(JSONResponse):
    media_type = "application/vnd.own+json"

    def render(self, content: Any) -> bytes:
        return b"own " + super().render(content)


async def _async_parts() -> Any:
    for part in ("a", b"b", "ü"):
        yield part


RESPONSES: dict[str, Callable[[], Any]] = {
    "Response": lambda: Response(b"raw \xff", media_type="application/octet-stream"),
    "Response_empty": Response,
    "Response_text": lambda: Response("ü", media_type="text/plain"),
    "Response_204": lambda: Response(status_code=204),
    "Response_304": lambda: Response(status_code=304, headers={"etag": '"x"'}),
    "Response_205": lambda: Response(status_code=205),
    "Response_length": lambda: Response(b"abc", headers={"content-length": "3", "X-A": "1"}),
    "JSONResponse": lambda: JSONResponse({"a": 1.0, "é": "ü"}, status_code=202, headers={"X-A": "1", "x-b": "ü"}),
    "JSONResponse_none": lambda: JSONResponse(None),
    "JSONResponse_204": lambda: JSONResponse({"a": 1}, status_code=204),
    "JSONResponse_bad": lambda: JSONResponse({"a": math.nan}),
    "HTMLResponse": lambda: HTMLResponse("<h1>ü</h1>"),
    "PlainTextResponse": lambda: PlainTextResponse("text", headers={"content-type": "text/x"}),
    "PlainTextResponse_none": lambda: PlainTextResponse(None),
    "RedirectResponse": lambda: RedirectResponse("/a?x=ü b"),
    "RedirectResponse_303": lambda: RedirectResponse("https://a.test/", 303, headers={"X-A": "1"}),
    "StreamingResponse": lambda: StreamingResponse(iter(["a", b"b", "c"]), media_type="text/plain"),
    "StreamingResponse_async": lambda: StreamingResponse(_async_parts(), status_code=206, headers={"X-A": "1"}),
    "StreamingResponse_empty": lambda: StreamingResponse(iter(())),
    "StreamingResponse_length": lambda: StreamingResponse(iter([b"abc"]), headers={"content-length": "3"}),
    "FileResponse": lambda: FileResponse(__file__, media_type="text/x-python", filename="ü.py"),
    "FileResponse_missing": lambda: FileResponse("/nothing/here"),
    "OwnJson": lambda: OwnJson({"a": 1}),
    "cookies": _with_cookies,
    "lines": _with_lines,
    "large": lambda: PlainTextResponse("x" * 300_000),
}


def add(kit: Kit) -> None:
    """/{def or async}/{value}, then status codes and classes."""
    for name, make in (VALUES | RESPONSES).items():
        kit.route(f"/def/{name}", returning(kit, make, False))
        kit.route(f"/async/{name}", returning(kit, make, True), Ask(f"/async/{name}"), Ask(f"/async/{name}", "HEAD"))
    # Not 205: FastAPI drops its body but keeps the length, and a client waits for what never comes.
    for code in (200, 201, 202, 203, 204, 206, 300, 304, 400, 404, 418, 500, 503):
        for name in ("dict", "none", "JSONResponse", "str"):
            make = (VALUES | RESPONSES)[name]
            kit.route(f"/status/{code}/{name}", returning(kit, make, bool(code % 2)), status_code=code)
    _add_classes(kit)


def _add_classes(kit: Kit) -> None:
    classes = (JSONResponse, HTMLResponse, PlainTextResponse, Response, RedirectResponse, StreamingResponse, FileResponse, OwnJson)
    values: dict[str, Callable[[], Any]] = {
        "str": lambda: "/a<b>",
        "dict": lambda: {"a": 1.0, "é": "ü"},
        "none": lambda: None,
        "bytes": lambda: b"b",
        "model": lambda: Point(x=1),
        "response": lambda: PlainTextResponse("own"),
        "file": lambda: __file__,
    }
    for kind in classes:
        for number, (name, make) in enumerate(values.items()):
            # A file that is not there is told with the place where it was looked for, which is the same for all.
            path = f"/class/{kind.__name__}/{name}"
            options = {"status_code": 202} if name == "dict" else {}
            kit.route(path, returning(kit, make, bool(number % 2)), response_class=kind, **options)
    router = APIRouter(prefix="/default", default_response_class=PlainTextResponse)
    for name in ("str", "none", "response"):
        kit.route(f"/{name}", returning(kit, values[name], False), Ask(f"/default/{name}"), on=router)
    kit.app.include_router(router)
