"""`TestServer`: the real server, on a socket, inside the calling process, for tests of apps and of turboapi itself.

One worker on one thread; started and stopped in milliseconds. Not here: signals, worker processes, logging: those are the
server's (serving/server.py), and a test of them starts `turboapi serve` as a process.
"""

import threading
from contextvars import copy_context
from types import TracebackType
from typing import Any, Self

from .config import Config
from .errors import StartError
from .serving.listeners import Listeners, open_place

#: A test's handlers are given this long to end; `drain_timeout=` and `cancel_timeout=` change it.
TIMEOUTS = {"drain_timeout": 1.0, "cancel_timeout": 0.5, "startup_timeout": 30.0}


class TestServer:
    """Serves an app for the length of a test.

    ```python
    with TestServer(app) as server:
        assert httpx.get(f"{server.url}/users/1").status_code == 200
        assert server.exceptions == []
    ```

    Args:
        app: any ASGI app.
        host: address to listen on.
        port: 0 takes a free one, see `port` and `url` once it is started.
        lifespan: whether the app's start-up and shutdown are run.
        options: the other fields of `turboapi.config.Config`. The environment counts too, so a whole suite runs over
            another backend with `TURBOAPI_IO`.

    Fields:
        exceptions: what became a 500, in order.
    """

    __test__ = False  # pytest, this is no class of tests

    def __init__(self, app: Any, host: str = "127.0.0.1", port: int = 0, lifespan: bool = True, **options: Any) -> None:
        settings = {**TIMEOUTS, "lifespan": "auto" if lifespan else "off", **options}
        # A Unix socket or a descriptor that the test names is instead of them.
        place = {} if {"uds", "fd"} & options.keys() else {"host": host, "port": port}
        self.config = Config.of({**settings, **place, "workers": 1})
        self.exceptions: list[BaseException] = []
        self._app = app
        self._listeners: Listeners | None = None
        self._thread: threading.Thread | None = None
        self._worker: Any = None
        self._error: BaseException | None = None
        self._is_settled = threading.Event()  # it is ready, or it is over

    @property
    def port(self) -> int:
        """The port that it listens on. Stays readable after `stop`."""
        return self._opened().port

    @property
    def url(self) -> str:
        """`http://127.0.0.1:41234`, without a slash at the end; `unix:/tmp/app.sock` for `uds="/tmp/app.sock"`."""
        return self._opened().url

    def start(self) -> Self:
        """Starts the server and returns when it answers.

        Raises:
            StartError: it cannot start: the port is taken, the app's start-up failed.
        """
        if self._thread is not None:
            raise RuntimeError("the server is started already, stop() it first")
        # Here, not above: the module needs the extension, and a test may want to replace it.
        from .serving.worker import Worker

        self._error = None
        self._is_settled.clear()
        self._listeners = open_place(self.config, workers=1)
        self._worker = Worker(
            self._app, self.config, self._listeners.share(0), 0, exceptions=self.exceptions, on_ready=self._is_settled.set
        )
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name=f"TestServer-{self.port}", daemon=True)
        self._thread.start()
        self._is_settled.wait()
        if self._error is not None:
            self._end()
        return self

    def stop(self) -> None:
        """Ends the server: what is in flight may end within `drain_timeout`, is cancelled after it, then cut. Twice does no harm.

        Raises:
            BaseException: what ended the worker, if it did not end in good order.
            RuntimeError: a handler blocks the worker's thread and does not come back.
        """
        if self._thread is None:
            return
        self._worker.stop()
        self._thread.join(self.config.drain_timeout + 2 * self.config.cancel_timeout + 0.5)
        if self._thread.is_alive():
            self._worker.abort()
        self._end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._worker.run()
        except BaseException as error:  # for the caller of start() or stop()
            self._error = error
        finally:
            self._is_settled.set()

    def _end(self) -> None:
        """Clears up, and raises what there is to raise."""
        assert self._thread is not None
        assert self._listeners is not None
        thread, self._thread, self._worker = self._thread, None, None
        error, self._error = self._error, None
        thread.join(1.0)
        if thread.is_alive():
            # Its sockets stay open: closing them under a worker that still runs could hit the next one that gets their numbers.
            raise RuntimeError("a handler blocks the server's thread and does not come back")
        self._listeners.close()
        if error is not None:
            raise error

    def _opened(self) -> Listeners:
        if self._listeners is None:
            raise StartError("the server is not started: use it in a with statement, or call start()")
        return self._listeners
