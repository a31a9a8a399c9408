"""Routes by what they answer: values, models, response classes, streams, files."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from pydantic import BaseModel, Field, computed_field
from starlette.background import BackgroundTask, BackgroundTasks

from .record import Note

# Each run has a folder of its own: two at once must not write each other's file while it is compared.
FOLDER = tempfile.TemporaryDirectory(prefix="turboapi-matrix-")
FILE = Path(FOLDER.name) / "file.txt"
FILE.write_text("file ü\n" * 200, encoding="utf-8")


class Account(BaseModel):
    id: int
    name: str = "n"
    nothing: str | None = None
    long_name: str = Field("long", alias="longName")

    @computed_field
    @property
    def label(self) -> str:
        return f"{self.id}:{self.name}"


class AccountWithSecret(Account):
    password: str = "hidden"


def add(app: FastAPI, note: Note) -> None:
    _add_values(app, note)
    _add_models(app, note)
    _add_classes(app, note)
    _add_own(app, note)
    _add_streams(app, note)


def _add_values(app: FastAPI, note: Note) -> None:
    values = {"none": None, "text": "täxt ☃", "number": 1.5, "list": [1, [2, {"a": None}]], "large": {"rows": ["row"] * 400}}
    for name, value in values.items():

        def endpoint(value: object = value) -> object:
            def answering():  # type: ignore[no-untyped-def]
                note("value")
                return value

            return answering

        app.add_api_route(f"/value/{name}", endpoint(), methods=["GET"])

    @app.get("/value/async/large")
    async def value_large():
        note("value large")
        return {"rows": ["row ü"] * 400}

    @app.get("/status/created", status_code=201)
    def created():
        note("created")
        return {"id": 1}

    @app.delete("/status/gone", status_code=204)
    async def gone():
        note("gone")


def _add_models(app: FastAPI, note: Note) -> None:
    @app.get("/model/filtered", response_model=Account)
    def model_filtered():
        note("model filtered")
        return AccountWithSecret(id=1)

    @app.get("/model/annotated")
    async def model_annotated() -> Account:
        note("model annotated")
        return AccountWithSecret(id=2)

    @app.get("/model/dict", response_model=Account)
    def model_dict():
        note("model dict")
        return {"id": "3", "password": "hidden"}

    @app.get("/model/list")
    async def model_list() -> list[Account]:
        note("model list")
        return [Account(id=n) for n in range(30)]

    @app.get("/model/unset", response_model=Account, response_model_exclude_unset=True)
    def model_unset():
        note("model unset")
        return Account(id=4)

    @app.get("/model/none", response_model=Account, response_model_exclude_none=True, response_model_by_alias=False)
    async def model_none():
        note("model none")
        return Account(id=5)

    @app.get("/model/include", response_model=Account, response_model_include={"id", "label"})
    def model_include():
        note("model include")
        return Account(id=6)

    @app.get("/model/union")
    async def model_union() -> Account | int:
        note("model union")
        return 7


def _add_classes(app: FastAPI, note: Note) -> None:
    @app.get("/class/html", response_class=HTMLResponse)
    def class_html():
        note("html")
        return "<p>ü</p>" * 100

    @app.get("/class/text", response_class=PlainTextResponse, status_code=202)
    async def class_text():
        note("text")
        return "text"

    @app.get("/class/json", response_class=JSONResponse)
    def class_json():
        note("json")
        return {"ü": 1}

    @app.get("/class/redirect", response_class=RedirectResponse)
    async def class_redirect():
        note("redirect")
        return "/plain?a=ü b"

    @app.get("/class/redirect/302", response_class=RedirectResponse, status_code=302)
    def class_redirect_302():
        note("redirect 302")
        return "https://other.test/"

    @app.get("/class/file", response_class=FileResponse)
    async def class_file():
        note("file")
        return str(FILE)


def _add_own(app: FastAPI, note: Note) -> None:
    async def after() -> None:
        note("after")

    def after_sync(what: str) -> None:
        note(f"after {what}")

    @app.get("/own/response")
    def own_response():
        note("own response")
        response = Response(b"\x00\xff", 203, {"X-One": "1", "x-two": "ü"}, "image/png")
        response.set_cookie("a", "b", max_age=5, httponly=True, samesite="strict")
        response.set_cookie("c", "d e")
        response.headers.append("X-One", "again")
        return response

    @app.get("/own/background")
    async def own_background():
        note("own background")
        return JSONResponse({"a": 1}, 418, background=BackgroundTask(after))

    @app.get("/own/backgrounds")
    def own_backgrounds():
        note("own backgrounds")
        tasks = BackgroundTasks()
        tasks.add_task(after_sync, "one")
        tasks.add_task(after)
        return PlainTextResponse("text", background=tasks)

    @app.get("/own/encoded")
    def own_encoded():
        note("own encoded")
        return Response(b"not really" * 100, headers={"Content-Encoding": "br", "Vary": "Accept"}, media_type="text/plain")

    @app.get("/own/vary")
    async def own_vary():
        note("own vary")
        return JSONResponse(["v"] * 300, headers={"Vary": "Origin, Accept-Language", "Access-Control-Allow-Origin": "https://own.test"})

    @app.get("/own/304")
    def own_304():
        note("own 304")
        return Response(status_code=304, headers={"ETag": '"e"'})

    @app.get("/own/empty")
    async def own_empty():
        note("own empty")
        return Response()

    @app.get("/own/file")
    def own_file():
        note("own file")
        return FileResponse(FILE, filename="näme.txt", headers={"X-File": "1"})

    @app.get("/own/redirect")
    async def own_redirect():
        note("own redirect")
        return RedirectResponse("../plain", 303)


def _add_streams(app: FastAPI, note: Note) -> None:
    @app.get("/stream/sync")
    def stream_sync():
        def parts() -> Iterator[str]:
            for n in range(4):
                if n:  # the first is made in a thread while a middleware on the loop has the start
                    note(f"part {n}")
                yield f"part {n} " * 50

        note("stream sync")
        return StreamingResponse(parts(), media_type="text/plain", headers={"X-Stream": "1"})

    @app.get("/stream/async")
    async def stream_async():
        async def parts() -> AsyncIterator[bytes]:
            try:
                for n in range(4):
                    note(f"part {n}")
                    yield b"part %d " % n
            finally:
                note("parts end")

        note("stream async")
        return StreamingResponse(parts(), 206, background=BackgroundTask(note, "after stream"))

    @app.get("/stream/events")
    async def stream_events():
        async def parts() -> AsyncIterator[str]:
            for n in range(3):
                yield f"data: {n}\n\n"

        note("stream events")
        return StreamingResponse(parts(), media_type="text/event-stream")

    @app.get("/stream/empty")
    def stream_empty():
        note("stream empty")
        return StreamingResponse(iter(()))

    @app.get("/stream/length")
    async def stream_length():
        note("stream length")
        return StreamingResponse(iter([b"ab", b"", b"cd"]), headers={"Content-Length": "4"})

    @app.get("/generator/lines")
    async def generator_lines():
        for n in range(3):
            note(f"line {n}")
            yield {"n": n}

    @app.get("/generator/raw", response_class=StreamingResponse)
    def generator_raw():
        yield "a" * 300
        note("raw")
        yield "b" * 300
