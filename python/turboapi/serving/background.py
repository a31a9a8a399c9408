"""Background tasks of a response. A plain function among them runs where its standing says: in the worker's threads, or on the worker's
own once it has earned that. All else of a task is Starlette's and FastAPI's: their own code runs it, after the answer.

Not here: responses of the app's own ASGI call, whose tasks AnyIO's threads have; what is measured (python/src/task.rs).
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from typing import Any

import fastapi
from starlette import background, concurrency
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

from .. import _core
from .pool import Pool

#: Whose `__call__` ends with `await self.background()`, and which hold all that they have in their `__dict__`.
RESPONSES = frozenset((Response, JSONResponse, HTMLResponse, PlainTextResponse, RedirectResponse, StreamingResponse, FileResponse))

#: Those of Starlette and FastAPI; a subclass may mean anything.
SEVERAL = (BackgroundTasks, fastapi.BackgroundTasks)

#: What we stand in for, as owner, attribute and value: a library that watches an app may put its own in the place of one of them.
STOCK = [(kind, "__call__", kind.__call__) for kind in (BackgroundTask, *SEVERAL)]
STOCK.append((background, "run_in_threadpool", concurrency.run_in_threadpool))

_FILES = (background.__file__, fastapi.background.__file__)

if any(getattr(getattr(call, "__code__", None), "co_filename", "") not in _FILES for _, _, call in STOCK[:-1]):
    STOCK.append((background, "__name__", None))  # one has done so already


class Background:
    """Runs the background tasks of one worker's responses."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool, core: _core.Worker) -> None:
        self._loop = loop
        self._pool = pool
        self._core = core

    def taken_over(self, response: Any) -> Any:
        """The same response, whose tasks run by their standing; itself, if it has none that could. It is not changed: an app may
        answer with it again, and on another worker."""
        if type(response) not in RESPONSES or response.background is None:
            return response
        ours = self.by_standing(response.background)
        if ours is response.background:
            return response
        response = copied(response)
        response.background = ours
        return response

    def by_standing(self, given: Any) -> Any:
        """The same background tasks, run by their standing; themselves, if there are none that could."""
        if type(given) in (BackgroundTask, *SEVERAL) and stands_in():
            if type(given) is BackgroundTask:
                return self._task(given)
            ours: Any = copied(given)
            ours.tasks = TaskList(given.tasks, self._task)
            return ours
        return given

    def _task(self, task: BackgroundTask) -> Any:
        return task if type(task) is not BackgroundTask or task.is_async else TaskByStanding(task, self)

    async def after(
        self,
        first: Callable[[], Awaitable[None]],
        rest: Iterator[BackgroundTask] | None,
        end: Callable[[BaseException | None], None] | None,
    ) -> None:
        """What is due after an answer that has left, from the first task on that is not called in Rust (python/src/after.rs).

        Args:
            first: is called and awaited.
            rest: those that follow it. It sees what is added meanwhile.
            end: is called whatever became of them, with what they have raised; that is not raised here, then.
        """
        try:
            await (self.by_standing(first))()
            for task in rest or ():
                await (self.by_standing(task))()
        except BaseException as error:
            if end is None:
                raise
            end(error)
        else:
            if end is not None:
                end(None)

    async def run(self, task: BackgroundTask) -> None:
        """Calls the function of a task; what it raises is raised here."""
        # In the first of these the answer goes from our hands to the platform's, in the second from there to the kernel.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # Only now: an answer's first step runs inside of `select`, which has the core for itself. In a copy of the task's context, as in
        # AnyIO's threads.
        call = self._core.task(task.func, functools.partial(copy_context().run, task.func, *task.args, **task.kwargs))
        if call.is_for_worker:
            call.run_here()
        else:
            await self._run_in_thread(call)

    async def _run_in_thread(self, call: _core.TaskCall) -> None:
        returned = self._loop.create_future()
        job = TaskJob(call, self._loop, self._pool, returned)
        self._pool.start(job)
        try:
            await returned
        except asyncio.CancelledError:
            self._pool.withdraw(job)
            raise
        # Not by the future, which takes no StopIteration.
        call.result()


def stands_in() -> bool:
    """Whether Starlette's own code would run the tasks."""
    return all(getattr(owner, name, None) is value for owner, name, value in STOCK)


class TaskJob:
    """A task's call that waits for a thread."""

    __slots__ = ("_call", "_loop", "_pool", "_returned")

    def __init__(self, call: _core.TaskCall, loop: asyncio.AbstractEventLoop, pool: Pool, returned: asyncio.Future[None]) -> None:
        self._call = call
        self._loop = loop
        self._pool = pool
        self._returned = returned

    def run(self) -> None:
        """Calls the function, and tells the worker. In any thread, once."""
        self._call.run()
        try:
            self._loop.call_soon_threadsafe(self._return)
        except RuntimeError:  # the worker has ended meanwhile
            if not self._loop.is_closed():
                raise

    def _return(self) -> None:
        self._pool.returned(1)
        if not self._returned.done():
            self._returned.set_result(None)


class TaskByStanding:
    """Stands for a task whose function is plain: has all that the task has, and runs it by its standing."""

    def __init__(self, task: BackgroundTask, runner: Background) -> None:
        self._task = task
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    async def __call__(self) -> None:
        await self._runner.run(self._task)


class TaskList:
    """The tasks of an answer, which may become more while they run."""

    def __init__(self, tasks: list[BackgroundTask], change: Callable[[BackgroundTask], Any]) -> None:
        self._tasks = tasks
        self._change = change

    def __iter__(self) -> Iterator[Any]:
        return map(self._change, self._tasks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)


def copied(value: Any) -> Any:
    """A shallow copy, without asking the object."""
    fresh = object.__new__(type(value))
    fresh.__dict__.update(value.__dict__)
    return fresh
