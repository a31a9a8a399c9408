"""What Python sees of the extension module; checked against the built module by tests/test_stub.py."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, final

from .plan.layers import Layer
from .plan.routes import Entry

__version__: str

def probe(wish: str) -> tuple[str, str]:
    """Which backend serves for this wish, and why: `(name, reason)`.

    Raises:
        ValueError: the wish has no meaning.
        OSError: it cannot be had.
    """

def changes_count() -> int:
    """How often something has changed that plans were made from, in this process."""

def note_change() -> None:
    """Counts one more."""

def note_needs_thread() -> None:
    """The function that runs on this thread, a worker's own, has asked for what there is only in others: it runs there from now on."""

def watch_namespace(namespace: dict[str, Any]) -> None:
    """Has a change of what plans depend on counted, in the `__dict__` of an app, a router, a route or a middleware.

    A change that has been counted, and that another thread is about to make, has been made when this returns.

    Raises:
        RuntimeError: all eight watchers of dicts that CPython has are taken.
    """

def resident_bytes() -> int | None:
    """Bytes of memory that are resident; None where nothing can be given back."""

def give_back_memory() -> None:
    """Gives free memory back to the system: 0.1 ms a MiB. Other Python threads run meanwhile, until they allocate."""

@final
class Limit:
    """What one limit is: times in seconds, as a float; all else whole. Not made from Python."""

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> Literal["bytes", "bytes per second", "count", "seconds"]: ...
    @property
    def default(self) -> int | float: ...
    @property
    def least(self) -> int | float: ...
    @property
    def most(self) -> int | float: ...
    @property
    def what(self) -> str:
        """What it bounds and what comes of more, for users."""

def limits() -> list[Limit]:
    """What limits there are, in the order in which they are declared (`src/limits.rs`)."""

def connections_max(descriptors: int) -> int:
    """The `connections_max` that so many file descriptors allow."""

@final
class Exchange:
    """One request that the app's own ASGI call answers, and the way back. Belongs to one worker's thread."""

    def fill(
        self, scope: dict[str, Any], root_path: str, raw_root_path: bytes, servers: list[tuple[str, int | None]], proxies: Proxies
    ) -> None:
        """Writes what an ASGI scope has of the request: `http_version`, `server`, `client`, `scheme`, `method`, `path`, `raw_path`,
        `query_string` and `headers`.

        Args:
            root_path: the path under which a proxy serves the app; `raw_root_path` is that percent-encoded.
            servers: address and port of each listener, by a number that means the same place to all workers.
            proxies: who is believed when he says whom he asks for.
        """
    @property
    def route(self) -> int | None:
        """The index of the route that was found for it, in the table as it was then."""
    @property
    def disconnected(self) -> bool:
        """Whether the answer is `over`, or the server ends and this is an event stream."""
    @property
    def over(self) -> bool:
        """Whether the peer waits no longer, or has everything."""
    def note_begun(self) -> None:
        """The app has begun its answer. Middleware may hold that back."""
    @property
    def held_back(self) -> bool:
        """Whether it does."""
    @property
    def started(self) -> bool: ...
    @property
    def complete(self) -> bool: ...
    def read(self) -> tuple[bytes, bool] | None:
        """What has come of the body and was not read yet, and whether more follows. None: nothing has, or the body has broken off,
        and then `disconnected` is true. Asks the peer to go on. Not to be called after the end of the body."""
    def on_body(self, callback: Callable[[], object]) -> None:
        """Calls back once, on the worker's thread, when more of the body has come or none will. In place of any former callback."""
    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Begins the answer; nothing is sent before the first `send`, but for the head of an event stream.

        Raises:
            RuntimeError: it was begun before.
            ValueError: HTTP cannot hold it; nothing of it is sent.
        """
    def send(self, data: bytes, more: bool) -> bool:
        """Sends a part of the body. True: so much is unsent that the caller should wait for `on_writable`.

        Raises:
            OSError: the peer has gone.
            RuntimeError: the app's own Content-Length leaves more or less to send; nothing of `data` was sent.
        """
    def whole(self, status: int, headers: Iterable[tuple[bytes, bytes]], data: bytes) -> None:
        """The whole answer, as `start` and one `send`. For a peer that has gone it is dropped.

        Raises:
            RuntimeError: as `start` and `send`.
            ValueError: as `start`.
        """
    def on_writable(self, callback: Callable[[], object]) -> None:
        """Calls back once, on the worker's thread, when what was sent has left or the peer is gone. In place of any former callback."""
    def on_disconnect(self, callback: Callable[[], object]) -> None:
        """Calls back once, on the worker's thread, when `disconnected` becomes true. In place of any former callback."""
    def on_over(self, callback: Callable[[], object]) -> None:
        """Calls back once, on the worker's thread, when `over` becomes true. In place of any former callback."""
    def finish(self) -> bool:
        """The app has returned or raised. True: its answer is complete, or nobody waits for the rest. Else a 500 if nothing was sent, or
        the connection is cut."""

@final
class Completion:
    """Called by asyncio when a request's task or future is done: answers the request. Not made from Python."""

    def __call__(self, future: Any) -> None: ...

@final
class Doorbell:
    """What other threads wake a worker by. Not made from Python."""

    def ring(self) -> None:
        """There is something for the worker to look at. From any thread; never blocks, and does not let the interpreter go."""

@final
class Job:
    """A function's call that waits for a thread. Not made from Python."""

    def run(self) -> None:
        """Calls the function, and tells the worker. In any thread, once."""
    @property
    def future(self) -> Any:
        """The asyncio future that is done when the function has returned or raised; None if no task waits for it."""
    def result(self) -> Any:
        """What the function has returned, or raises what it has raised. Once, when `future` is done."""

@final
class Matched:
    """One request, and the plan of the route that Rust has found for it. Not made from Python."""

    def remember(self, scope: dict[str, Any]) -> None:
        """What a scope is made of, before anybody else has it. Called first, once; not at all if nobody else will before `call`."""
    def is_of(self, router: Any) -> bool:
        """Whether the route is one of this router's own, with nothing around its handler."""
    def is_for(self, router: Any, scope: Any) -> bool:
        """Whether this router would find the same route for the scope as it is now, with the same parameters, in the worker's own loop."""
    @property
    def reads_body(self) -> bool:
        """Whether an argument is in the body."""
    @property
    def takes_connection(self) -> bool:
        """Whether an argument is the request."""
    @property
    def is_staged(self) -> bool:
        """Whether the function sends the answer itself, by an argument."""
    def make_further(self) -> tuple[Any, Any]:
        """A `Response` and a `BackgroundTasks` as arguments, for `call` and `answer`; None for one that there is not."""
    def by_standing(self, background: Any) -> Any:
        """The same background tasks, to be called in Starlette's way, of which plain functions run by their standing."""
    def call(
        self, scope: dict[str, Any], body: bytes | None, connection: Any, response: Any, tasks: Any, respond: Any
    ) -> tuple[str, Any] | None:
        """Calls the function, with arguments from the request as the scope has it now.

        Returns:
            None: the request is not for the plan, and nothing has happened. Else `("value", result)`, `("awaitable", coroutine)` or
            `("job", Job)`, whose result is still to come; or, where arguments are missing or wrong, `("invalid", (errors, body, cause))`,
            as `Wording.exception` takes them (plan/invalid.py).
        """
    @property
    def wording(self) -> Any:
        """The plan's words for such errors; None if it has none."""
    def refusal(self, errors: list[Any]) -> tuple[Any, ...]:
        """What FastAPI's stock handler answers to errors, as `answer` has it. Raises what it would have raised."""
    def answer(self, value: Any, response: Any, tasks: Any) -> Any:
        """What becomes of the function's value: `(status, header pairs, body, background)`, where the last is to be called afterwards, or
        None; or a response that has to be called.

        Raises what FastAPI would have raised.
        """
    def mark(self, scope: dict[str, Any]) -> None:
        """Writes into the scope what the router writes when it has found the route."""
    @property
    def wrapped(self) -> Any:
        """What stands around the route's handler (`Wrapped`), if the plan runs within that; then `call` does not mark the scope."""
    def is_here(self) -> bool:
        """Whether the caller runs in the worker's own loop."""
    def made(self, value: Any, response: Any) -> Any:
        """What becomes of the function's value, for somebody who wants to see it: a response, or its JSON as bytes.

        Raises what FastAPI would have raised.
        """

@final
class Proxies:
    """Which peers are proxies of one's own, and are believed.

    Args:
        everyone: whether all are.
        unix: whether those that come by a Unix socket are.
        networks: each an address and the length of its prefix.

    Raises:
        ValueError: one is no address.
    """

    def __init__(self, *, everyone: bool, unix: bool, networks: list[tuple[str, int]]) -> None: ...

@final
class Part:
    """A plain function that a composed one calls: by its own standing, on the worker's thread or in another.

    Args:
        function: whose standing it is.
        label: its name in the log.
        blocking: what its route has decided about it.
        is_end: whether its calls are those after the `yield` of a generator. They run however many others do.
    """

    def __init__(self, function: Callable[..., Any], label: str, blocking: bool | None, is_end: bool) -> None: ...
    def __call__(self, **arguments: Any) -> Any:
        """Calls the function, from a task of the worker's loop: what it returns, or the `Job` of a thread that calls it."""
    def run(self, callable: Callable[[], Any]) -> Any:
        """Calls something else that stands for a call of the function."""

@final
class TaskCall:
    """A background task's call, by its function's standing. Not made from Python."""

    @property
    def is_for_worker(self) -> bool:
        """Whether it is one for the worker's own thread."""
    def run_here(self) -> Any:
        """Calls the function, on the worker's thread, once."""
    def run(self) -> None:
        """Calls the function, in any other thread, once; `result` has what comes of it."""
    def result(self) -> Any:
        """What it returned or raised in its thread. On the worker's thread, once."""

@final
class Handoff:
    """Lets workers hand fresh connections to each other. Made by the parent, before it starts threads or forks."""

    def __init__(self, workers: int) -> None: ...
    @property
    def workers(self) -> int: ...
    def loads(self) -> list[int | None]:
        """The connections of each worker, with those that wait for it; None for one that takes no more."""
    def descriptor(self, worker: int) -> int:
        """What is readable when a connection waits in a worker's mailbox."""
    def retire(self, worker: int) -> None:
        """The worker has ended: nothing is handed to it until its successor serves. What it was handed waits for that one."""
    def clear_up(self, worker: int, listeners: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """The worker has ended and has no successor: what waits for it, there or in its listeners, goes to the others.

        Returns:
            How many did, and how many had to be closed as nobody takes them.
        """
    def relieve(self, worker: int, listeners: Sequence[tuple[int, int]], connections_max: int) -> int:
        """If the worker's thread is held by a handler, what waits for it, there or in its listeners, goes to the others, as far as
        these have room.

        Args:
            connections_max: what each may have.

        Returns:
            How many did.
        """
    def close(self) -> None:
        """The server stops: from now on each worker keeps what it accepts, and what was handed over is served."""

@final
class Router:
    """A route table that is not served. `entries` are in order of registration."""

    def __init__(self, entries: Sequence[Entry], redirect_slashes: bool) -> None:
        """Raises TypeError for an entry that lacks something, ValueError for one with an unknown word or a template that cannot be."""
    def find(self, method: str, path: str) -> tuple[Any, ...]:
        """("found", index, parameters), ("method_not_allowed", allow), ("redirect", path), ("not_found",) or ("ask",)."""

@final
class Activity:
    """What one worker's thread runs right now; may be asked from any thread. Not made from Python."""

    def read(self) -> int:
        """0 for nothing of Python's, else a number that stands for this one call."""
    @staticmethod
    def route(number: int) -> int:
        """The index of the route that a number of `read` stands for; -1 for a request without one, -2 for the event loop."""
    def subject(self, number: int) -> bytes | None:
        """Method and path of the request that a number of `read` stands for, cut to 120 bytes, if it runs still and was left to the
        app's own ASGI call. The peer chose it."""

@final
class Worker:
    """One core's server: it is made, turned and closed on one thread, and its maker closes it."""

    def __init__(
        self,
        *,
        backend: str,
        limits: dict[str, int | float],
        watch: int,
        server_header: str | None,
        date_header: bool,
        headers: list[tuple[str, str]] = [],
    ) -> None:
        """`headers` are for the answers that have none of that name.

        Args:
            limits: all of `limits()` by name.

        Raises:
            ValueError: a limit is missing, unknown, of a wrong type or outside of what is allowed, or HTTP cannot hold a header.
            OSError: the backend cannot be had.
        """
    @property
    def backend(self) -> str: ...
    @property
    def fallback(self) -> str | None: ...
    @property
    def activity(self) -> Activity | None: ...
    @property
    def doorbell(self) -> Doorbell: ...
    @property
    def drained(self) -> bool: ...
    @property
    def listening(self) -> bool: ...
    def start(
        self,
        *,
        event_loop: AbstractEventLoop,
        routes: Sequence[Entry],
        layers: Sequence[Layer],
        redirect_slashes: bool,
        hooks: Any,
        response: type,
        plain_responses: Sequence[type],
        inline_budget: float,
    ) -> None:
        """`routes` are in order of registration; what is wrong with one is said as by `Router`. Called again when the app has got
        further ones."""
    def task(self, function: Any, call: Callable[[], Any]) -> TaskCall:
        """A background task's call: `call` is one of `function`, whose standing says where it is to run; of a method or partial
        it is that of the function behind it. After `start`."""
    def listen(self, descriptor: int, *, for_all: bool = False) -> None:
        """Accepts from a listening socket, which the caller keeps open until `close`. If no other worker does, `for_all`, it deals
        out what comes."""
    def join(self, handoff: Handoff, index: int) -> None:
        """Shares connections with the other workers from now on. To be called once it can serve."""
    def select(self, timeout: float | None) -> bool:
        """Serves until asyncio has something to do or the time is over. True: the watched descriptor is readable."""
    def drain(self, timeout: float) -> None:
        """Stops accepting, closes what is idle, lets what was begun finish, and ends what is left after `timeout` seconds."""
    def close(self) -> None:
        """Ends everything. Nothing happens the second time."""
    def statistics(self) -> dict[str, int]:
        """Counters of this worker."""
