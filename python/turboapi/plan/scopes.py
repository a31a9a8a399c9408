"""AnyIO's cancel scopes, for tasks that it has not started itself: whether one is in a scope, and putting one into a scope later.

AnyIO has no way for either, so both go to its own table of tasks. Whoever uses them asks `is_known()` first, at start.
"""

import inspect
from asyncio import Task
from typing import Any
from weakref import WeakKeyDictionary, ref

import anyio
from anyio._backends import _asyncio as backend


def in_scope(task: Task[Any]) -> bool:
    """Whether this task is in a cancel scope. Of the table only the entry is read, which costs less than to ask by its methods."""
    state = backend._task_states.data.get(ref(task))  # type: ignore[attr-defined]
    return state is not None and state.cancel_scope is not None


def adopt(task: Task[Any], scope: anyio.CancelScope, host: Task[Any]) -> None:
    """Puts a task, with the scopes that it has entered, into this scope of `host`, as if it had been started there."""
    inside: Any = scope
    state = backend._task_states.get(task)
    if state is not None and state.cancel_scope is not None:
        outermost = state.cancel_scope
        while outermost._parent_scope is not None:
            outermost = outermost._parent_scope
        outermost._parent_scope = inside
        inside._child_scopes.add(outermost)
    else:
        backend._task_states[task] = backend.TaskState(id(host), inside)
        inside._tasks.add(task)
    task.add_done_callback(inside._tasks.discard)


def is_known() -> bool:
    """Whether the installed AnyIO has its table and scopes in the form that is read and written here."""
    if not {"_tasks", "_child_scopes", "_parent_scope"} <= set(getattr(backend.CancelScope, "__slots__", ())):
        return False
    if not isinstance(getattr(backend, "_task_states", None), WeakKeyDictionary):
        return False
    state = getattr(backend, "TaskState", None)
    return state is not None and list(inspect.signature(state).parameters) == ["parent_id", "cancel_scope"]
