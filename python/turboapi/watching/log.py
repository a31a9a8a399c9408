"""How our lines reach the operator: the log, and the one line on stderr of a server that does not start."""

import logging
import sys

from ..config import Config
from ..errors import StartError

logger = logging.getLogger("turboapi")


def set_up_logging(config: Config) -> None:
    """Lets our log lines reach stderr, unless the app has set up logging itself. Then only our level is set.

    An app that sets it up later, as it is loaded, does not get them too: each line is written once, as under uvicorn."""
    logger.setLevel(config.log_level.upper())
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False


def say(error: StartError) -> None:
    """The one line for the operator."""
    print(f"turboapi: {error}", file=sys.stderr, flush=True)
