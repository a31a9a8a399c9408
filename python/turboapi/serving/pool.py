"""The threads of one worker, in which a `def` runs until it has earned the worker's own.

They are as AnyIO's: as many calls run at once as the app's own limiter allows, counted together with those of `run_in_threadpool`, and
`anyio.from_thread` works in them (from_thread.py). Not here: the call itself, and where its result goes (python/src/job.rs).
"""

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import anyio
from anyio.to_thread import current_default_thread_limiter

from . import from_thread


class Job(Protocol):
    """What a thread is to do."""

    def run(self) -> None:
        """Does it, and has the worker call `Pool.returned`. Raises nothing."""


#: What a thread does next; None: it ends.
type Next = Job | None
type Inbox = queue.SimpleQueue[Next]


class Pool:
    """Threads, made when they are needed and kept until the worker ends. Everything but the threads' part happens on its thread.

    Args:
        loop: the worker's.
        index: number of the worker, for the names of the threads.
        initializer: called first in each thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, index: int, initializer: Callable[[], None]) -> None:
        self._loop = loop
        self._index = index
        self._initializer = initializer
        self._jobs: deque[Next] = deque()  # for the thread that is next without one
        self._idle: deque[Inbox] = deque()  # of the threads without a job, the last that had one at the end
        self._threads_count = 0
        self._waiting: deque[Job] = deque()  # without a token
        self._tokens: list[object] = []  # one for each job that has been handed to the threads
        self._beyond_count = 0  # jobs there without one
        self._scout: asyncio.Task[None] | None = None
        self._is_closed = False
        self._limiter: anyio.CapacityLimiter | None = None

    def open(self, threads: int) -> None:
        """Begins. Within the running loop, before the app's start-up, which may change the limit.

        Args:
            threads: calls that may run at once, until the app sets `current_default_thread_limiter().total_tokens` itself.
        """
        self._limiter = current_default_thread_limiter()
        self._limiter.total_tokens = threads

    @property
    def is_busy(self) -> bool:
        """Whether jobs are in threads, or wait for one."""
        return bool(self._tokens or self._waiting or self._beyond_count)

    def start(self, job: Job) -> None:
        """Has a job run in a thread, in its turn."""
        limiter = self._limiter
        assert limiter is not None
        if not self._waiting and limiter.available_tokens > 0:
            token = object()
            try:
                limiter.acquire_on_behalf_of_nowait(token)
            except anyio.WouldBlock:  # there are tokens, and others wait for them
                pass
            else:
                self._hand(job, token)
                return
        self._waiting.append(job)
        self._send_scout()

    def start_beyond(self, job: Job) -> None:
        """Has a job run in a thread at once, however many others do: they may wait for what it gives back."""
        self._have_thread()
        self._beyond_count += 1
        self._put(job)

    def withdraw(self, job: Job) -> None:
        """Nobody waits for a job any more: it is not begun, if it was not."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(job)

    def returned(self, count: int, beyond_count: int = 0) -> None:
        """So many jobs have come back; of those beyond the limit so many."""
        self._beyond_count -= beyond_count
        limiter = self._limiter
        assert limiter is not None
        keeps = bool(self._waiting) and limiter.borrowed_tokens <= limiter.total_tokens and not self._others_wait()
        for _ in range(count):
            token = self._tokens.pop()
            if keeps and self._waiting:
                self._hand(self._waiting.popleft(), token)
            else:
                limiter.release_on_behalf_of(token)

    def _others_wait(self) -> bool:
        assert self._limiter is not None
        return self._limiter.statistics().tasks_waiting > (0 if self._scout is None else 1)

    def _send_scout(self) -> None:
        if self._scout is None and self._waiting and not self._is_closed:
            self._scout = self._loop.create_task(self._stand_in_line())
            self._scout.add_done_callback(self._on_scout_done)

    def _on_scout_done(self, scout: asyncio.Task[None]) -> None:
        self._scout = None
        self._send_scout()  # an app may cancel all tasks of its loop

    async def _stand_in_line(self) -> None:
        """Waits for tokens beside all others who do: jobs without one are not to wait for ever for those of other jobs."""
        assert self._limiter is not None
        while self._waiting:
            token = object()
            await self._limiter.acquire_on_behalf_of(token)
            if self._waiting:
                self._hand(self._waiting.popleft(), token)
            else:
                self._limiter.release_on_behalf_of(token)

    def _hand(self, job: Job, token: object) -> None:
        try:
            self._have_thread()
        except (RuntimeError, MemoryError):
            assert self._limiter is not None
            self._limiter.release_on_behalf_of(token)
            raise
        self._tokens.append(token)
        self._put(job)

    def _put(self, job: Next) -> None:
        """Gives a job to the thread that had one last: its stack, its caches and its part of the heap are warm, and those that a
        crowd has needed once sleep on. (In turn, `hashlib.scrypt` by 16 clients and 32 threads took 4 % more.)"""
        try:
            self._idle.pop().put(job)
        except IndexError:
            self._jobs.append(job)
            self._match()

    def _match(self) -> None:
        """Gives a job that waits to a thread that is idle, if there are both. From any thread, after it has added one or the other."""
        while True:
            try:
                inbox = self._idle.pop()
            except IndexError:  # who becomes idle looks for jobs afterwards
                return
            try:
                inbox.put(self._jobs.popleft())
                return
            except IndexError:
                self._idle.append(inbox)
            if not self._is_job_there():  # one may have come while this inbox was out, and found none
                return

    def _is_job_there(self) -> bool:
        try:
            self._jobs[0]  # unlike its length, read under the deque's lock where there is no GIL
        except IndexError:
            return False
        return True

    def _have_thread(self) -> None:
        if len(self._tokens) + self._beyond_count >= self._threads_count:
            try:
                self._add_thread()
            except (RuntimeError, MemoryError):  # the system has no more for us: the job waits for one of those that are there
                if not self._threads_count:
                    raise

    def _add_thread(self) -> None:
        # A daemon: what a handler holds for ever must not hold the process, whose drain has waited for it.
        name = f"turboapi-pool-{self._index}-{self._threads_count}"
        threading.Thread(target=self._work, name=name, daemon=True).start()
        self._threads_count += 1

    def _work(self) -> None:
        inbox: Inbox = queue.SimpleQueue()
        self._initializer()
        with from_thread.works(self._loop):
            while True:
                self._idle.append(inbox)
                if self._is_job_there():
                    self._match()
                job = inbox.get()
                if job is None:
                    return
                job.run()
                del job  # not kept until the next one comes

    def close(self) -> None:
        """Lets the threads end when they have done what they have. Jobs that wait are not begun any more."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._scout is not None:
            self._scout.cancel()
        self._waiting.clear()
        for _ in range(self._threads_count):
            self._put(None)  # behind the jobs that are there
