"""Functions of FastAPI's and Starlette's in whose place something of ours runs: which of them somebody else has replaced. Tracers and
profilers do, and would not be called."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import fastapi.dependencies.utils
import fastapi.routing
from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute, APIRouter
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Router

Functions = Sequence[tuple[Any, Sequence[str]]]

#: A plan runs in the place of these. What makes a route's handler is not among them: wrapped.py looks at what it has made.
WITHIN: Functions = (
    (fastapi.routing, ("run_endpoint_function", "serialize_response", "solve_dependencies")),
    (fastapi.dependencies.utils, ("request_params_to_args", "request_body_to_args")),
    (APIRoute, ("matches",)),
    (APIRouter, ("app", "handle", "matches")),
)

#: These are around it.
AROUND: Functions = (
    (FastAPI, ("__call__", "build_middleware_stack")),
    (Starlette, ("__call__", "build_middleware_stack")),
    (Router, ("__call__",)),
    (ExceptionMiddleware, ("__call__",)),
    (AsyncExitStackMiddleware, ("__call__",)),
    (ServerErrorMiddleware, ("__call__",)),
)


def patched_reason(known: Functions) -> str:
    """Which of these functions is not FastAPI's or Starlette's own any more, or ""."""
    for owner, names in known:
        for name in names:
            if not is_original(owner, name):
                return f"{owner.__name__}.{name} was replaced"
    return ""


def is_original(owner: Any, name: str) -> bool:
    """Whether this function of a class or module is FastAPI's or Starlette's own, or is not there."""
    function = getattr(owner, name, None)
    if function is None:
        return True
    is_theirs = type(function) is types.FunctionType and function.__module__.startswith(("fastapi.", "starlette."))
    return is_theirs and not hasattr(function, "__wrapped__")
