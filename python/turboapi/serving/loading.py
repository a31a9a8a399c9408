"""An app that is not loaded yet, loading it, and making it ready for the threads that call it. Not here: where it is found (cli.py)."""

import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import StartError

logger = logging.getLogger("turboapi")


@dataclass(frozen=True)
class Loader:
    """An app that is not loaded yet. A parent of worker processes leaves that to them, and so stays small and single-threaded."""

    load: Callable[[], Any]


def load(loader: Loader) -> Any:
    """Loads the app; an error in the app's own code is logged with its traceback.

    Raises:
        StartError: it cannot be loaded.
    """
    try:
        return loader.load()
    except StartError:
        raise
    except Exception as error:
        logger.error("the app raised while it was loaded", exc_info=error)
        raise StartError(f"the app cannot be loaded: {type(error).__name__}: {error}") from error


def prepare(app: Any, workers: int) -> None:
    """Makes a loaded app ready to be called by `workers` threads of this process."""
    if workers > 1:
        from . import state

        state.separate(app)
        # Starlette builds its middleware on the first call. Two workers would do so at once, and one would be thrown away.
        if getattr(app, "middleware_stack", 0) is None and hasattr(app, "build_middleware_stack"):
            app.middleware_stack = app.build_middleware_stack()
    # All that is loaded now stays for good: no collection needs to walk it again, and forked workers keep sharing its pages.
    gc.collect()
    gc.freeze()
    if is_free_threaded():
        # There a collection stops all workers. The default of 2,000 new objects is about one for every hundred requests.
        gc.set_threshold(50_000, *gc.get_threshold()[1:])


def is_free_threaded() -> bool:
    """Whether threads of this process run Python at the same time, now."""
    return not getattr(sys, "_is_gil_enabled", lambda: True)()
