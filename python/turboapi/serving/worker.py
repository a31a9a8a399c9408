"""One worker: its platform, its asyncio loop, its routes. `run` is the whole life of it, on one thread.

The loop's selector is ours (selector.py): where asyncio would wait for descriptors it waits in `_core`, which serves requests there.
Python's own descriptors stay in a stock selector, whose one descriptor `_core` watches. So a service of plain functions never leaves
Rust, and a coroutine that waits for a database is woken on this same thread.
"""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from .. import _core
from ..asgi import TASK_NAME, Gateway
from ..config import Config
from ..errors import StartError
from ..plan import inventory
from ..watching import memory, refusals, watchdog
from . import from_thread, signals, state
from .background import Background
from .hooks import EVERYTHING, Hooks
from .lifespan import Lifespan
from .listeners import Share
from .loop import WorkerLoop
from .pool import Pool
from .selector import WorkerSelector

logger = logging.getLogger("turboapi")

#: Response classes that are their status, headers and body and nothing else, so that `_core` may take them apart.
PLAIN_RESPONSES = [Response, JSONResponse, HTMLResponse, PlainTextResponse, RedirectResponse]


class Worker:
    """One core's server. Everything but `stop` and `abort` happens on the thread that calls `run`.

    Args:
        app: the ASGI app; a FastAPI's routes are compiled into native plans where they can be.
        config: the settings.
        share: the listening sockets that this worker accepts from. They are closed when it stops to accept.
        index: number of this worker, for the log and for `handoff`.
        handoff: how connections go to other workers and come from them; None if there are none.
        exceptions: where each exception that became a 500 is put.
        on_ready: called when requests are accepted.
    """

    def __init__(
        self,
        app: Any,
        config: Config,
        share: Share,
        index: int,
        *,
        handoff: _core.Handoff | None = None,
        exceptions: list[BaseException] | None = None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._config = config
        self._share = share
        self._handoff = handoff
        self._index = index
        self._exceptions = exceptions
        self._on_ready = on_ready
        self._lock = threading.Lock()  # around what other threads ask for, as the loop opens and closes
        self._loop: WorkerLoop | None = None
        self._is_stopping = False
        self._is_aborting = False
        self._is_serving = False
        self._starting: asyncio.Task[None] | None = None
        self._exit: SystemExit | None = None  # what a signal handler of the app's has raised
        self._note: tuple[BaseException, asyncio.Handle] | None = None  # what a task has raised, to be logged
        self._cancel_at: float | None = None  # by the loop's clock; set once draining

    def run(self) -> None:
        """Opens, starts the app, serves until stopped, drains, ends the app, closes.

        Raises:
            StartError: the platform cannot be opened or the app's start-up failed. Nothing was served.
            SystemExit: a signal handler of the app's raised it; all has ended in good order since.
        """
        with contextlib.ExitStack() as stack:
            loop = self._open(stack)
            stack.enter_context(from_thread.is_noted(loop))
            self._complete(loop, self._live(loop))
        if self._exit is not None:
            raise self._exit

    async def _live(self, loop: asyncio.AbstractEventLoop) -> None:
        """The whole life of the app, in one task that is there from its begin to its end: AnyIO keeps its threads as long as it."""
        self._pool.open(self._config.pool_threads)
        if await self._start_app(loop):
            await self._serve(loop)
        await self._end_app(loop)

    def stop(self) -> None:
        """Ends in good order: what is in flight finishes, within `drain_timeout`. From any thread, any number of times."""
        self._ask(self._drain, "_is_stopping")

    def abort(self) -> None:
        """Ends at once: connections are cut. From any thread. A handler that blocks the worker's thread blocks this too."""
        self._ask(self._cut, "_is_aborting")

    def hear(self, number: int) -> None:
        """A signal has come: wakes the worker, on whose thread Python's handlers run, and tells the loop's own. From any thread."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.hear, number)

    def _ask(self, act: Callable[[], None], flag: str) -> None:
        with self._lock:
            setattr(self, flag, True)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(act)

    def _open(self, stack: contextlib.ExitStack) -> asyncio.AbstractEventLoop:
        config = self._config
        selector = self._selector = WorkerSelector()
        stack.callback(selector.close)
        try:
            self._core = _core.Worker(
                backend=config.backend,
                limits=config.limits(),
                watch=selector.descriptor,
                server_header=config.server_header or None,
                date_header=config.date_header,
                headers=list(config.headers),
            )
        except (OSError, ValueError) as error:
            raise StartError(f"worker {self._index} cannot start: {error}") from error
        if self._core.fallback:
            logger.warning("worker %d serves by %s: %s", self._index, self._core.backend, self._core.fallback)
        stack.callback(self._core.close)
        selector.open(self._core)
        selector.on_drain_step = self._on_drain_step
        loop = WorkerLoop(selector, self._core.doorbell.ring, is_alone=state.current() is None)
        # After it: the loop closes the selector itself, and its own socket pair before that.
        stack.callback(loop.close)
        # As in any thread that has none: a `def` that runs here is to see what it sees in others.
        asyncio.set_event_loop(None)
        initializer = state.pool_initializer()
        self._pool = Pool(loop, self._index, initializer)
        stack.callback(self._pool.close)
        # asyncio.to_thread's, of the size that asyncio gives it.
        self._executor = ThreadPoolExecutor(thread_name_prefix=f"turboapi-executor-{self._index}", initializer=initializer)
        loop.set_default_executor(self._executor)
        self._lifespan = Lifespan(self._app, config.lifespan)
        proxies = _core.Proxies(**dataclasses.asdict(config.proxies()))
        self._gateway = Gateway(loop, self._share.servers, config.root_path, proxies, self._lifespan.request_state, self._exceptions)
        stack.callback(self._close_loop)
        with self._lock:
            self._loop = loop
        return loop

    def _close_loop(self) -> None:
        with self._lock:
            self._loop = None

    async def _start_app(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Runs the app's start-up and takes its routes. False if the worker was told to stop meanwhile."""
        self._starting = loop.create_task(self._lifespan.startup(self._config.startup_timeout))
        if self._is_stopping or self._is_aborting:
            self._starting.cancel()
        try:
            await self._starting
        except asyncio.CancelledError:
            return False
        finally:
            self._starting = None
        refused = functools.partial(refusals.log, self._index, self._config)
        background = Background(loop, self._pool, self._core)
        self._hooks = Hooks(self._app, loop, self._gateway, self._pool, background, self._take_routes, refused)
        self._take_routes()
        if self._index == 0 and self._hooks.routes != [EVERYTHING]:
            count = inventory.count_in_words(inventory.inventory(self._app, self._hooks.routes))
            logger.info("%s; `turboapi routes MODULE:APP` says why the others are not", count)
        return True

    def _take_routes(self) -> None:
        self._hooks.refresh()
        self._core.start(
            event_loop=self._loop,
            routes=self._hooks.routes,
            layers=self._hooks.layers,
            redirect_slashes=self._hooks.redirect_slashes,
            hooks=self._hooks,
            response=Response,
            plain_responses=PLAIN_RESPONSES,
            inline_budget=self._config.inline_budget,
        )

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._stopped = loop.create_future()
        for listener in self._share.own:
            self._core.listen(listener.fileno())
        for listener in self._share.for_all:
            self._core.listen(listener.fileno(), for_all=True)
        if self._handoff is not None:
            self._core.join(self._handoff, self._index)
        with self._lock:
            is_over = self._is_stopping or self._is_aborting
        if is_over:
            loop.call_soon(self._drain)
        self._is_serving = True
        # When this task waits already: what a signal handler of the app's raises from now on does not end it.
        loop.call_soon(self._on_ready)
        memory.give_back(loop)
        try:
            with watchdog.watch(self._index, self._config.watchdog_timeout, self._core.activity, self._hooks, self._app):
                await self._stopped
        finally:
            self._is_serving = False

    def _drain(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            return
        config = self._config
        assert self._loop is not None
        if self._cancel_at is not None:
            return
        self._selector.is_draining = True
        self._core.drain(config.drain_timeout + config.cancel_timeout)
        self._cancel_at = self._loop.time() + config.drain_timeout
        self._loop.call_at(self._cancel_at, self._end_drain)
        # Before the core does it, whose clock has ticks of a tenth of a second.
        self._loop.call_at(self._cancel_at + config.cancel_timeout, self._tell_of_cut)
        # A worker with neither listener nor connection is done at once, and no turn would bring it here.
        self._on_drain_step()

    def _end_drain(self) -> None:
        """The time of what was in flight is over."""
        unanswered, tasks = self._core.statistics()["in_flight"], len(self._requests())
        if unanswered or tasks:
            logger.warning(
                "drain_timeout (%g s) is over: worker %d has %d request(s) without a whole answer, and cancels %d task(s)",
                *(self._config.drain_timeout, self._index, unanswered, tasks),
            )
        self._cancel_requests()

    def _tell_of_cut(self) -> None:
        if count := self._core.statistics()["in_flight"]:
            logger.warning("cancel_timeout (%g s) is over: worker %d cuts %d request(s)", self._config.cancel_timeout, self._index, count)

    def _cancel_requests(self) -> None:
        self._gateway.is_cancelling = True
        for task in self._requests():
            task.cancel()

    def _requests(self) -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks(self._loop) if task.get_name() == TASK_NAME]

    def _cut(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            return
        assert self._loop is not None
        self._cancel_requests()
        self._core.drain(0)
        self._stop_loop()

    def _on_drain_step(self) -> None:
        """Something may have ended: the backlog is empty, or nobody is connected any more."""
        if not self._core.listening:
            # Now, not when the last request has ended: a client that connects from here on is refused, and does not wait in vain.
            self._share.close()
        if self._core.drained:
            self._stop_loop()

    def _stop_loop(self) -> None:
        if self._is_serving and not self._stopped.done():
            self._stopped.set_result(None)

    async def _end_app(self, loop: asyncio.AbstractEventLoop) -> None:
        """Waits for what requests left running (background tasks), ends the app, and everything that it left behind."""
        config = self._config
        await self._finish_requests()
        self._pool.close()
        await self._lifespan.shutdown(config.cancel_timeout)
        self._executor.shutdown(wait=False, cancel_futures=True)
        left = asyncio.all_tasks(loop) - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=config.cancel_timeout)
        await loop.shutdown_asyncgens()

    def _complete(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> None:
        task = loop.create_task(coroutine)
        while True:
            try:
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                if task.done():
                    raise
                if signals.is_of_handler(error, self._loop):
                    # A signal handler of the app's, which wants the end, as under other servers. Here what is in flight has its time.
                    self._exit = error if isinstance(error, SystemExit) else None
                    self._drain()
                else:
                    self._note_exit(loop, error)
            except RuntimeError:
                # `loop.stop()`: asyncio has no other way to say that it was called. It ends the server, as under others.
                if task.done():
                    raise
                logger.error("the app has stopped the event loop of worker %d, which ends it", self._index)
                self._cut()

    def _note_exit(self, loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
        """A task raised it, after it was suspended: asyncio has kept it for what waits for that task, and ends the loop with it too. The
        other requests go on."""
        if self._note is None or self._note[0] is not error:
            self._gateway.reported = 0
        else:  # the next task in a row has raised it
            self._note[1].cancel()
        # After what waits for the task: if that is a request, it is logged with its route.
        self._note = error, loop.call_soon(self._log_exit, error)

    def _log_exit(self, error: BaseException) -> None:
        self._note = None
        if self._gateway.reported != id(error):
            logger.error("a task raised %s, which does not end the server", type(error).__name__, exc_info=error)

    async def _finish_requests(self) -> None:
        """Waits until what was begun before the signal has had its time, and no longer: the app's shutdown is due after it."""
        tasks = self._requests()
        if self._is_aborting or not (tasks or self._pool.is_busy):
            return
        now = asyncio.get_running_loop().time
        cancel_at = now() + self._config.drain_timeout if self._cancel_at is None else self._cancel_at
        # A function in a thread, whose client has gone, cannot be cancelled, and nothing tells of its end but its coming back.
        while self._pool.is_busy and now() < cancel_at:
            await asyncio.sleep(0.005)
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=max(0.0, cancel_at - now()))
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=max(0.0, cancel_at + self._config.cancel_timeout - now()))
