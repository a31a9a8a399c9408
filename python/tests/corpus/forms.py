"""Forms and files."""

from typing import Annotated, Any

from fastapi import File, Form, UploadFile
from pydantic import BaseModel, ConfigDict

from .ask import Ask, with_files
from .ask import File as Sent
from .kit import Kit, show


class Login(BaseModel):
    username: str
    password: str = "p"
    scopes: list[str] = []


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")
    username: str


async def seen(file: Any) -> Any:
    """What an endpoint sees of a file."""
    if not isinstance(file, UploadFile):
        return show(file)
    return [file.filename, file.content_type, file.size, (await file.read()).decode("latin-1"), sorted(file.headers)]


TEXT = Sent("file", b"abc \xff", "a.txt", "text/plain")
OTHER = Sent("file", b"", "\xfc b.bin", "application/octet-stream")
LARGE = Sent("file", b"x" * 1_100_000, "large.bin", "application/octet-stream")


def add(kit: Kit) -> None:
    _add_forms(kit)
    _add_files(kit)


def _add_forms(kit: Kit) -> None:
    def fields(username: Annotated[str, Form()], age: Annotated[int | None, Form(ge=0)] = None, agrees: Annotated[bool, Form()] = False):
        kit.note("endpoint")
        return [show(value) for value in (username, age, agrees)]

    async def model(data: Annotated[Login, Form()]):
        kit.note("endpoint")
        return data

    def forbidding(data: Annotated[Forbidding, Form()]):
        kit.note("endpoint")
        return data

    async def old(username: str = Form(), password: str = Form(min_length=2)):
        kit.note("endpoint")
        return [username, password]

    def aliased(user: Annotated[str, Form(alias="user-name")] = "d"):
        kit.note("endpoint")
        return user

    def several(tags: Annotated[list[str], Form()], numbers: Annotated[list[int] | None, Form()] = None):
        kit.note("endpoint")
        return [tags, numbers]

    pairs = (("username", "u"), ("age", "5"), ("agrees", "on"))
    kit.route("/fields", fields, Ask("/fields", "POST", form=pairs))
    kit.route("/model", model, Ask("/model", "POST", form=(("username", "u"), ("scopes", "a"), ("scopes", "b"))))
    kit.route("/forbidding", forbidding, Ask("/forbidding", "PUT", form=(("username", "u"),)))
    kit.route("/old", old, Ask("/old", "POST", form=(("username", "a+b"), ("password", "%C3%BC%20c"))))
    kit.route("/aliased", aliased, Ask("/aliased", "POST", form=(("user-name", "u"),)))
    kit.route("/several", several, Ask("/several", "POST", form=(("tags", "a"), ("tags", ""), ("numbers", "1"))))
    kit.ask(with_files("/fields", Sent("username", b"u"), Sent("age", b"5"), Sent("username", b"v")))


def _add_files(kit: Kit) -> None:
    async def upload(file: UploadFile):
        kit.note("endpoint")
        return await seen(file)

    async def optional(file: UploadFile | None = None):
        kit.note("endpoint")
        return await seen(file)

    def octets(file: Annotated[bytes, File()]):
        kit.note("endpoint")
        return show(file[:20])

    async def several(file: list[UploadFile]):
        kit.note("endpoint")
        return [await seen(one) for one in file]

    def several_octets(file: Annotated[list[bytes], File()]):
        kit.note("endpoint")
        return show([one[:20] for one in file])

    async def mixed(
        file: Annotated[UploadFile, File(description="d")], token: Annotated[str, Form()], more: Annotated[bytes, File()] = b"d"
    ):
        kit.note("endpoint")
        return [await seen(file), token, show(more)]

    def read_sync(file: UploadFile):
        kit.note("endpoint")
        return file.file.read(20).decode("latin-1")

    files: dict[str, tuple[Any, list[Ask]]] = {
        "/upload": (upload, [with_files("/upload", TEXT), with_files("/upload", LARGE), with_files("/upload", TEXT, OTHER)]),
        "/optional": (optional, [with_files("/optional", OTHER), with_files("/optional", Sent("file", b"text"))]),
        "/octets": (octets, [with_files("/octets", TEXT)]),
        "/several": (several, [with_files("/file/several", TEXT, OTHER, TEXT)]),
        "/several_octets": (several_octets, [with_files("/several_octets", TEXT, OTHER)]),
        "/mixed": (mixed, [with_files("/mixed", TEXT, Sent("token", b"t"), Sent("more", b"m", "m"))]),
        "/read_sync": (read_sync, [with_files("/read_sync", TEXT)]),
    }
    for path, (endpoint, asks) in files.items():
        at = "/file" + path
        kit.route(at, endpoint, *(Ask(at, "POST", body=ask.body, content_type=ask.content_type) for ask in asks))
