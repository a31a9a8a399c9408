"""The parts: each is an app of its own."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from . import (
    answers,
    bodies,
    callables,
    containers,
    failures,
    forms,
    injected,
    models,
    nested,
    overrides,
    scalars,
    security,
    streams,
    yields,
)
from .kit import AnswerRecord, Kit
from .set_ups import SET_UPS


@dataclass(frozen=True)
class Part:
    """Routes that are served together."""

    add: Callable[[Kit], None]
    options: Callable[[Callable[[], Kit]], dict[str, Any]] = dataclasses.field(default=lambda kit: {})
    """What its app is made with. It is given what returns the kit, as soon as there is one."""

    def make(self, set_up_name: str = "plain") -> Kit:
        """A fresh app with a record of its own."""
        kits: list[Kit] = []
        kit = Kit(FastAPI(openapi_url=None, **self.options(lambda: kits[0])), AnswerRecord())
        kits.append(kit)
        self.add(kit)
        SET_UPS[set_up_name](kit)
        return kit


PARTS: dict[str, Part] = {
    "path": Part(scalars.add_path),
    "query": Part(scalars.add_query),
    "header": Part(scalars.add_header),
    "cookie": Part(scalars.add_cookie),
    "form": Part(scalars.add_form),
    "lists": Part(containers.add_lists),
    "fields": Part(containers.add_models),
    "body": Part(bodies.add_single),
    "bodies": Part(bodies.add_several),
    "files": Part(forms.add),
    "callables": Part(callables.add),
    "levels": Part(callables.add_levels, callables.app_options),
    "nested": Part(nested.add),
    "yields": Part(yields.add),
    "pairs": Part(yields.add_pairs),
    "security": Part(security.add),
    "users": Part(security.add_users),
    "overrides": Part(overrides.add),
    "injected": Part(injected.add),
    "tasks": Part(injected.add_tasks),
    "answers": Part(answers.add),
    "models": Part(models.add),
    "streams": Part(streams.add),
    "failures": Part(failures.add),
}
