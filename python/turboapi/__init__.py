"""A Python web server and framework whose whole request path is Rust until the handler.

```python
from turboapi import TurboAPI

app = TurboAPI()
```

The names are imported when they are first used: the parent of worker processes, the command line and an app that is not
FastAPI's do without FastAPI.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._core import __version__
    from .app import APIRouter, TurboAPI

__all__ = ["APIRouter", "TurboAPI", "__version__"]

_PLACES = {"APIRouter": "turboapi.app", "TurboAPI": "turboapi.app", "__version__": "turboapi._core"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'turboapi' has no attribute {name!r}, it has {', '.join(__all__)}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
