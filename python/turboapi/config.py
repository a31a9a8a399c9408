"""The settings of a server, as one frozen value that travels unchanged from here to the workers.

Each field can be given to `app.run()`, on the command line (`--keep-alive-timeout`) and in the environment
(`TURBOAPI_KEEP_ALIVE_TIMEOUT`); the earlier of these wins, then comes the default. Everything that reads a field, its option or
its variable is made from the dataclass: a new setting is one new field. The limits are declared in `src/limits.rs`, where each has its
reason. They stand here once more, for type checkers and so that settings are read without the extension; tests/test_limits_declared.py
compares the two.
"""

import dataclasses
import difflib
import math
import os
import re
import resource
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from .errors import ConfigError
from .proxies import ALLOWED, Trusted, trusted

KIB = 1024
MIB = 1024 * 1024
HOUR = 3600

#: The most connections that `connections_max` takes by itself.
CONNECTIONS_MAX = 65_536


#: RFC 9110 §5.6.2
TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")

#: Headers that say how this one message is to be read. The server writes them, or the app for its own answer.
OF_ONE_ANSWER = ("connection", "content-length", "content-type", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")

#: The settings that say where to listen; those of one set belong together, those of two contradict each other.
PLACES = ({"host", "port"}, {"uds"}, {"fd"})


def setting(
    default: Any,
    description: str,
    *,
    minimum: float = 0,
    maximum: float = math.inf,
    environment: str = "",
    common: str = "",
    limit: bool = False,
    is_path: bool = False,
    option: str = "",
) -> Any:
    """One field: its default, what it means, what is allowed, and whether it is one of the limits of `src/limits.rs`.

    `option` is its name on the command line where it may be given there several times, a value each. `common`: a variable that other
    servers have for it too, and platforms set; ours comes first.
    """
    metadata = {"description": description, "minimum": minimum, "maximum": maximum, "environment": environment, "limit": limit}
    return dataclasses.field(default=default, metadata={**metadata, "common": common, "is_path": is_path, "option": option})


def limit(default: float | None, description: str, minimum: float, maximum: float) -> Any:
    """One of the limits of `src/limits.rs`, as it is there."""
    return setting(default, description, minimum=minimum, maximum=maximum, limit=True)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of a server. Times are seconds, sizes are bytes; limits hold for each worker by itself.

    Raises:
        ConfigError: a value is of the wrong type or outside of what is allowed.
    """

    host: str = setting("127.0.0.1", "address or name to listen on; an empty one means all addresses")
    port: int = setting(8000, "port to listen on; 0 lets the system choose a free one", maximum=65_535, common="PORT")
    uds: str | None = setting(
        None, "path of a Unix socket to listen on, instead of host and port; the umask says who may connect", is_path=True
    )
    fd: int | None = setting(None, "number of an inherited descriptor that listens, instead of host and port", maximum=2**20)
    workers: int | None = setting(
        None, "workers; by default 1, and one per core if they are threads", minimum=1, maximum=1024, common="WEB_CONCURRENCY"
    )
    worker_kind: Literal["auto", "threads", "processes"] = setting(
        "auto", "what several workers are; auto: processes. Threads need a free-threaded Python and an app that was made for them"
    )
    backend: Literal["auto", "uring", "monoio", "tokio-uring", "epoll", "kqueue"] = setting(
        "auto", "how the kernel is talked to; auto probes", environment="TURBOAPI_IO"
    )
    pin: bool | None = setting(None, "keep each worker on one core; by default if there are as many workers as cores")
    root_path: str = setting("", "path under which a proxy serves the app")
    proxy_headers: bool = setting(True, "believe X-Forwarded-For and X-Forwarded-Proto of the peers in forwarded_allow_ips")
    forwarded_allow_ips: str = setting(
        "127.0.0.1,::1", f"proxies of your own that are believed: {ALLOWED}", environment="FORWARDED_ALLOW_IPS"
    )
    lifespan: Literal["auto", "on", "off"] = setting("auto", "the app's start-up and shutdown; auto: if it has them")
    log_level: Literal["debug", "info", "warning", "error", "critical"] = setting("info", "least severe log line that is written")
    server_header: str = setting("turboapi", "value of the server header; an empty one means none")
    date_header: bool = setting(True, "send a date header")
    headers: tuple[tuple[str, str], ...] = setting(
        (), "header of every answer that has none of this name, refusals too; may be repeated", option="--header"
    )
    pool_threads: int = setting(
        40, "calls of `def` functions in threads at once; the app may set its own, AnyIO's", minimum=1, maximum=10_000
    )
    inline_budget: float = setting(
        0.002, "computing of a `def` function on the worker's own thread; longer ones run in threads", maximum=HOUR
    )
    watchdog_timeout: float = setting(1.0, "before the log names what holds a worker's own thread; 0 turns it off", maximum=HOUR)
    startup_timeout: float = setting(300.0, "for the app's start-up", minimum=0.001, maximum=24 * HOUR)

    request_line_bytes_max: int = limit(16 * KIB, "request line; longer is 414", 64, MIB)
    head_bytes_max: int = limit(32 * KIB, "request line and headers together; more is 431", 256, MIB)
    header_count_max: int = limit(100, "headers of a request; more is 431", 4, 10_000)
    body_bytes_max: int = limit(16 * MIB, "body of a request, unless its route has a limit of its own; more is 413", 0, 2**40)
    body_untaken_bytes_max: int = limit(64 * KIB, "streamed body that its handler has not taken, before no more is read", 0, 64 * MIB)
    chunk_extension_bytes_max: int = limit(16 * KIB, "chunk extensions of one body; more is 400", 0, MIB)
    trailer_bytes_max: int = limit(16 * KIB, "trailer lines of one body; more is 431", 0, MIB)
    silence_timeout: float = limit(10.0, "from accept to the first byte; then the connection is closed", 0.01, HOUR)
    head_timeout: float = limit(10.0, "from the first byte of a head to its last; then 408", 0.01, HOUR)
    body_idle_timeout: float = limit(20.0, "without a byte of a body that is due; then 408", 0.01, HOUR)
    body_bytes_per_second_min: int = limit(240, "slowest body that is taken after body_rate_grace; slower is 408", 0, 2**30)
    body_rate_grace: float = limit(5.0, "before body_bytes_per_second_min is asked for", 0, HOUR)
    write_timeout: float = limit(30.0, "without progress in sending an answer; then the connection is reset", 0.01, HOUR)
    write_bytes_per_second_min: int = limit(240, "slowest taking of an answer that counts as progress in sending it", 0, 2**30)
    keep_alive_timeout: float = limit(75.0, "idle between two requests; then the connection is closed", 0, 24 * HOUR)
    linger_timeout: float = limit(2.0, "reading and dropping what a refused peer still sends, so that it sees the refusal", 0, 60)
    linger_bytes_max: int = limit(64 * KIB, "dropped while lingering, before the connection is closed", 0, 16 * MIB)
    unsent_bytes_max: int = limit(64 * KIB, "answers that the peer has not taken, before no more is read from it", KIB, 64 * MIB)
    connections_max: int | None = limit(None, "open connections of one worker; by default from the number of file descriptors", 1, 2**20)
    handlers_in_flight_max: int = limit(16_384, "handlers that run or wait on one worker; more is 503", 1, 2**20)
    backlog: int = limit(2048, "connections that the kernel holds until a worker takes them", 1, 65_535)
    drain_timeout: float = limit(30.0, "after SIGTERM for what is in flight; then handlers are cancelled", 0, 24 * HOUR)
    cancel_timeout: float = limit(5.0, "for cancelled handlers to end; then connections close; as long for the app's shutdown", 0, HOUR)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            # The only place that writes to a frozen Config: 10 becomes 10.0 where seconds are meant.
            object.__setattr__(self, field.name, check(field, field.name, getattr(self, field.name)))
        if self.request_line_bytes_max > self.head_bytes_max:
            raise ConfigError(
                f"request_line_bytes_max is {self.request_line_bytes_max}, head_bytes_max allows {self.head_bytes_max}",
                setting="request_line_bytes_max",
                seen=self.request_line_bytes_max,
                allowed="at most head_bytes_max",
            )
        self.proxies()
        if self.uds is not None and self.fd is not None:
            raise two_places({"uds": self.uds, "fd": self.fd})

    @classmethod
    def of(cls, arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Self:
        """The settings from all places: argument before environment before default.

        Of the environment `PORT`, as platforms set it, is the last that says where to listen, and says then: on all addresses, as gunicorn
        takes it.

        Args:
            arguments: by field name; a value that is None was not given. Text is read where the field is no text.
            environment: `os.environ` if None.

        Raises:
            ConfigError: an argument is unknown, or a value cannot be read.
        """
        environment = os.environ if environment is None else environment
        fields = {field.name: field for field in dataclasses.fields(cls)}
        chosen: dict[str, Any] = {}
        for name, value in (arguments or {}).items():
            if name not in fields:
                raise unknown(name, list(fields), "option")
            if value is not None:
                field = fields[name]
                chosen[name] = check(field, name, read(field, name, value) if isinstance(value, str) else value)
        # What an argument decides is not read from the environment, so a wrong value there does no harm. An argument says where to
        # listen for good: another place of the environment is no contradiction.
        decided = decided_by(chosen)
        values: dict[str, Any] = {}
        for field in fields.values():
            variable = variable_name(field)
            if field.name not in decided and environment.get(variable):
                values[field.name] = from_environment(field, variable, environment[variable])
        values |= chosen
        values |= cls._by_common_variables(values, environment)
        if sum(bool(place & values.keys()) for place in PLACES) > 1:
            raise two_places({name: values[name] for name in fields if name in values and any(name in place for place in PLACES)})
        return cls(**values)

    @staticmethod
    def _by_common_variables(values: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
        """What is said by variables that other servers have too, beside the values that are there."""
        said: dict[str, Any] = {}
        decided = decided_by(values)
        for field in dataclasses.fields(Config):
            variable = field.metadata["common"]
            if variable and field.name not in decided and environment.get(variable):
                said[field.name] = from_environment(field, variable, environment[variable])
        if "port" in said and "host" not in values:
            said["host"] = ""
        return said

    @staticmethod
    def places_given(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
        """Which settings that say where to listen were given, be it with their default value."""
        fields = [field for field in dataclasses.fields(Config) if any(field.name in place for place in PLACES)]
        return [field.name for field in fields if arguments.get(field.name) is not None or environment.get(variable_name(field))]

    def proxies(self) -> Trusted:
        """Who is believed when he says whom he asks for."""
        if not self.proxy_headers:
            return Trusted()
        try:
            return trusted(self.forwarded_allow_ips)
        except ValueError as error:
            raise ConfigError(
                f"forwarded_allow_ips is {self.forwarded_allow_ips!r}: {error}; allowed are {ALLOWED}",
                setting="forwarded_allow_ips",
                seen=self.forwarded_allow_ips,
                allowed=ALLOWED,
            ) from error

    def limits(self) -> dict[str, int | float]:
        """The limits by name, all of them set: what the Rust core takes."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.metadata["limit"]}
        if values["connections_max"] is None:
            values["connections_max"] = connections_max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], workers=1)
        return values


def connections_max(descriptors: int, workers: int) -> int:
    """Connections of one worker when `workers` of them share the file descriptors of one process."""
    if descriptors == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    # A tenth and 64 are left for Python's files, sockets and databases.
    return max(1, min(CONNECTIONS_MAX, (descriptors - descriptors // 10 - 64) // workers))


def descriptors_wanted(connections: int) -> int:
    """The file descriptors of a process that has so many connections, with what is left for Python's."""
    return connections * 10 // 9 + 128


def option_name(field: dataclasses.Field[Any]) -> str:
    """`--keep-alive-timeout`."""
    return field.metadata["option"] or "--" + field.name.replace("_", "-")


def variable_name(field: dataclasses.Field[Any]) -> str:
    """`TURBOAPI_KEEP_ALIVE_TIMEOUT`."""
    return field.metadata["environment"] or f"TURBOAPI_{field.name.upper()}"


def decided_by(values: Mapping[str, Any]) -> set[str]:
    """The fields that these leave nothing to say of: their own, and where they say where to listen, those of the other places."""
    others = {name for place in PLACES if not place & values.keys() for name in place}
    return {*values, *(others if any(place & values.keys() for place in PLACES) else ())}


def two_places(given: Mapping[str, object]) -> ConfigError:
    """The error for settings that name different places to listen on."""
    words = ", ".join(f"{name} is {value!r}" for name, value in given.items())
    return ConfigError(
        f"{words}: a server listens on a port, on a Unix socket or on an inherited descriptor; give one of them",
        setting=next(reversed(given)),
        seen=words,
        allowed="host and port, or uds, or fd",
    )


def stray_variables(environment: Mapping[str, str]) -> list[str]:
    """One line for each `TURBOAPI_…` variable that is no setting: it may be a misspelled one. To be logged as a warning."""
    known = [variable_name(field) for field in dataclasses.fields(Config)]
    return [str(unknown(name, known, "variable")) for name in sorted(environment) if name.startswith("TURBOAPI_") and name not in known]


def unknown(name: str, known: list[str], kind: str) -> ConfigError:
    """The error for a name that no setting has."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(known)}"
    return ConfigError(f"unknown {kind} {name!r}; {hint}", setting=name, seen=name, allowed=", ".join(known))


def choices_of(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The texts that a field of a closed set allows; empty for all others."""
    return typing.get_args(field.type) if typing.get_origin(field.type) is Literal else ()


def kind_of(field: dataclasses.Field[Any]) -> tuple[type, bool]:
    """The plain type of a field, and whether it may be None."""
    if choices_of(field):
        return str, False
    if typing.get_origin(field.type) is tuple:
        return tuple, False
    if isinstance(field.type, types.UnionType):
        parts = typing.get_args(field.type)
        return next(part for part in parts if part is not types.NoneType), True
    return field.type, False  # type: ignore[return-value]


def allowed_in_words(field: dataclasses.Field[Any]) -> str:
    """`a whole number from 1 to 1024`: what a message says is allowed."""
    if choices := choices_of(field):
        return "one of " + ", ".join(choices)
    kind, _ = kind_of(field)
    if kind is bool:
        return "on or off"
    if kind is tuple:
        return f"NAME:VALUE in printable ASCII, and no {', '.join(OF_ONE_ANSWER[:-1])} or {OF_ONE_ANSWER[-1]}"
    if field.metadata["is_path"]:
        return "a path"
    if kind is str:
        return "printable ASCII"
    noun = "a whole number" if kind is int else "seconds"
    minimum, maximum = field.metadata["minimum"], field.metadata["maximum"]
    return f"{noun} from {minimum:g} up" if maximum == math.inf else f"{noun} from {minimum:g} to {int(maximum)}"


def refuse(field: dataclasses.Field[Any], name: str, value: object) -> ConfigError:
    """The error for a value that `field` does not allow."""
    allowed = allowed_in_words(field)
    return ConfigError(f"{name} is {value!r}, allowed is {allowed}", setting=name, seen=value, allowed=allowed)


SWITCHES = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}


def read(field: dataclasses.Field[Any], name: str, text: str) -> Any:
    """The value of a field from text, as it stands on a command line or in the environment. Not yet checked."""
    kind, _ = kind_of(field)
    text = text.strip()
    try:
        if kind is bool:
            return SWITCHES[text.lower()]
        if kind is tuple:
            return text.splitlines()
        return kind(text)
    except (KeyError, ValueError) as error:
        raise refuse(field, name, text) from error


def from_environment(field: dataclasses.Field[Any], variable: str, text: str) -> Any:
    """The value of a field from its variable, checked."""
    try:
        return check(field, variable, read(field, variable, text))
    except ConfigError as error:
        if field.name != "port" or not text.startswith("tcp://"):
            raise
        raise ConfigError(
            f"{error}; Kubernetes sets it so for a service named turboapi: give --port, or set enableServiceLinks: false in the pod",
            setting=variable,
            seen=text,
            allowed=allowed_in_words(field),
        ) from error


def check(field: dataclasses.Field[Any], name: str, value: Any) -> Any:
    """The value, if the field allows it."""
    kind, is_optional = kind_of(field)
    if value is None and is_optional:
        return None
    if kind is tuple:
        return check_headers(field, name, value)
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is not kind:
        raise refuse(field, name, value)
    if choices := choices_of(field):
        is_allowed = value in choices
    elif field.metadata["is_path"]:
        is_allowed = value.isprintable() and value != ""
    elif kind is str:
        # Text goes into headers, addresses and paths: no line break and nothing that HTTP cannot hold.
        is_allowed = value.isascii() and (value.isprintable() or not value)
    elif kind is bool:
        is_allowed = True
    else:
        is_allowed = field.metadata["minimum"] <= value <= field.metadata["maximum"] and value != math.inf
    if not is_allowed:
        raise refuse(field, name, value)
    return value


def check_headers(field: dataclasses.Field[Any], name: str, value: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of name and value from pairs, a mapping, or texts as `NAME:VALUE`."""
    if not isinstance(value, Mapping | list | tuple):
        raise refuse(field, name, value)
    pairs = []
    for given in value.items() if isinstance(value, Mapping) else value:
        pair = given.split(":", 1) if isinstance(given, str) else given
        if not isinstance(pair, list | tuple) or [type(part) for part in pair] != [str, str]:
            raise refuse(field, name, given)
        header, text = (part.strip(" \t") for part in pair)
        is_text = text.isascii() and text.isprintable()
        if not TOKEN.fullmatch(header) or not is_text or header.lower() in OF_ONE_ANSWER:
            raise refuse(field, name, given)
        pairs.append((header, text))
    return tuple(pairs)
