"""`turboapi serve notes.main:app`, from the folder above this one."""

from .app import create_app
from .settings import Settings

app = create_app(Settings.from_environment())
