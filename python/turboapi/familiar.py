"""Options of uvicorn's that `turboapi serve` knows by their names: people have a Dockerfile and a unit already.

Here: what is written in another way, what is taken and has nothing to set here, and what is refused with what to do. All others of
uvicorn's have the same name and meaning here. Not here: our own options (config.py).
"""

import itertools
from collections.abc import Sequence

from .config import SWITCHES

#: Other names of settings.
ALIASES = {
    "keep_alive_timeout": "--timeout-keep-alive",
    "drain_timeout": "--timeout-graceful-shutdown",
    "handlers_in_flight_max": "--limit-concurrency",
}

#: Taken, and what there is instead, by name; those in SWITCHED have no value.
TAKEN = {
    "--loop": "each worker has a loop of its own, over io_uring, epoll or kqueue",
    "--http": "HTTP is read in Rust",
    "--h11-max-incomplete-event-size": "--head-bytes-max bounds a request's head",
    "--timeout-worker-healthcheck": "others see that a worker does not turn, and the log names what holds it (--watchdog-timeout)",
    "--use-colors": "log lines have no colours",
    "--no-use-colors": "log lines have no colours",
    "--reset-contextvars": "each request has a fresh copy of the context in which the app was loaded",
    "--no-access-log": "there is no access log",
}
SWITCHED = frozenset(("--use-colors", "--no-use-colors", "--reset-contextvars", "--no-access-log"))

_RELOAD = "not yet: `watchfiles 'turboapi serve MODULE:APP'` starts it anew after each change"
_TLS = "not yet: TLS is for the proxy in front, see --forwarded-allow-ips"
_WEBSOCKET = "not yet: a WebSocket's handshake is answered with 501"

#: Refused, and why, by name. The value, if there is one, goes with it.
REFUSED = {
    "--reload": _RELOAD,
    "--reload-dir": _RELOAD,
    "--reload-include": _RELOAD,
    "--reload-exclude": _RELOAD,
    "--reload-delay": _RELOAD,
    "--http2": "not supported: let the proxy in front speak HTTP/2",
    "--ws": _WEBSOCKET,
    "--ws-max-size": _WEBSOCKET,
    "--ws-max-queue": _WEBSOCKET,
    "--ws-ping-interval": _WEBSOCKET,
    "--ws-ping-timeout": _WEBSOCKET,
    "--ws-per-message-deflate": _WEBSOCKET,
    "--interface": "not yet: an ASGI 3 app needs no word, a WSGI app is wrapped as a2wsgi.WSGIMiddleware(app)",
    "--env-file": "not yet: `set -a; . FILE` in the shell, or `env_file:` of Docker Compose, gives the same variables",
    "--log-config": "not yet: call logging.config in the module of the app; loggers are turboapi's own and the app's",
    "--access-log": "not yet: there is no access log; the proxy in front has one",
    "--limit-max-requests": "not yet: workers are replaced when they die, not by number",
    "--limit-max-requests-jitter": "not yet: workers are replaced when they die, not by number",
    "--ssl-keyfile": _TLS,
    "--ssl-certfile": _TLS,
    "--ssl-keyfile-password": _TLS,
    "--ssl-version": _TLS,
    "--ssl-cert-reqs": _TLS,
    "--ssl-ca-certs": _TLS,
    "--ssl-ciphers": _TLS,
}


def with_values(arguments: Sequence[str], switches: Sequence[str], server_header: str) -> list[str]:
    """The arguments with a value for each switch: `--date-header` is `--date-header=on`, `--no-date-header` is `--date-header=off`.
    One that has a value keeps it.

    Args:
        switches: options that are on or off.
        server_header: what `--server-header` alone means; `--no-server-header` is none.
    """
    found = []
    for argument, next_one in itertools.pairwise([*arguments, ""]):
        positive = argument.replace("--no-", "--", 1) if argument.startswith("--no-") else ""
        if argument in switches and next_one.strip().lower() not in SWITCHES:
            argument = f"{argument}=on"
        elif positive in switches:
            argument = f"{positive}=off"
        elif argument == "--no-server-header":
            argument = "--server-header="
        elif argument == "--server-header" and (next_one.startswith("-") or not next_one or _is_target(next_one)):
            argument = f"--server-header={server_header}"
        found.append(argument)
    return found


def _is_target(text: str) -> bool:
    module, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))
