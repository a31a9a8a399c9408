"""What the environment says."""

import os
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel


class Settings(BaseModel):
    database_url: str = "sqlite:///notes.db"
    secret_key: str = "change me: whoever knows this can sign in as anyone"
    token_minutes: int = 30
    allowed_origins: list[str] = ["http://localhost:5173"]
    admin_email: str = "admin@example.com"
    smtp_host: str | None = None

    @classmethod
    def from_environment(cls) -> "Settings":
        found: dict[str, Any] = {name: os.environ[name.upper()] for name in cls.model_fields if name.upper() in os.environ}
        if "allowed_origins" in found:
            found["allowed_origins"] = found["allowed_origins"].split(",")
        return cls.model_validate(found)


def get_settings(request: Request) -> Settings:
    return request.app.state.settings


SettingsDep = Annotated[Settings, Depends(get_settings)]
