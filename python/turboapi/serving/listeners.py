"""The listening sockets: opened once, by the parent, before any worker starts, and kept by it. Ports, Unix sockets, and sockets
that somebody else has opened and handed down: `fd`, or systemd's.

Not here: accepting, and how connections are dealt out to the workers (Rust: src/balance.rs).
"""

import contextlib
import dataclasses
import errno
import fcntl
import functools
import os
import socket
import stat
import sys
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from ..config import Config
from ..errors import ListenError

#: Linux spreads connections over the sockets of one port by a hash. Elsewhere one of them would get all: one worker accepts.
SPREADS = sys.platform == "linux"

#: Errors of an address family that the machine does not have, as ::1 in a container without IPv6.
FAMILY_IS_MISSING = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


#: The first descriptor that systemd hands down. Source: sd_listen_fds(3).
ACTIVATED_FIRST = 3


@dataclass(frozen=True)
class Share:
    """What one worker accepts from.

    Fields:
        own: other workers have sockets of their own on the same port.
        for_all: no other worker accepts from these, so it deals out what comes.
        servers: where each listener of the server is, for the apps; (path, None) for a Unix socket. A connection that another worker
            has accepted says by which of them it came.
    """

    own: list[socket.socket]
    for_all: list[socket.socket]
    servers: tuple[tuple[str, int | None], ...]

    @property
    def sockets(self) -> list[socket.socket]:
        """In the order of `servers`, as far as this worker accepts from them."""
        return self.own + self.for_all

    @property
    def numbered(self) -> list[tuple[int, int]]:
        """Number and descriptor of those that are open."""
        return [(number, listener.fileno()) for number, listener in enumerate(self.sockets) if listener.fileno() >= 0]

    def close(self) -> None:
        for listener in self.sockets:
            listener.close()


@dataclass(frozen=True)
class SocketFile:
    """The file of a Unix socket that we have made."""

    path: str
    identity: tuple[int, int, int]

    @classmethod
    def of(cls, path: str) -> "SocketFile":
        status = os.lstat(path)
        # With its time: a file system gives the number of one that was removed to the next one (ext4 does so each time).
        return cls(path, (status.st_dev, status.st_ino, status.st_mtime_ns))

    def remove(self) -> None:
        """Removes it if it is still ours: a server that was started meanwhile may have put its own in its place."""
        with contextlib.suppress(OSError), locked_folder(self.path):
            self.remove_locked()

    def remove_locked(self) -> None:
        """The same for a caller that has locked the folder already."""
        if SocketFile.of(self.path) == self:
            Path(self.path).unlink()


@contextlib.contextmanager
def locked_folder(path: str) -> Iterator[None]:
    """Keeps other servers from making or removing sockets beside this one for a moment: looking whether one is stale, removing
    it and binding anew are three steps. Where a file system has no such locks it is done without.

    Raises:
        OSError: there is no such folder.
    """
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@dataclass(frozen=True)
class Listeners:
    """All listening sockets of a server.

    Fields:
        host: as it was given; `port`: as it was resolved. Empty and 0 where there is none.
        by_worker: for each worker its own sockets, one for each address that `host` stands for.
        shared: those of which there is one for all workers. The first worker accepts for all of them.
        places: what to call sockets that are not on `host` and `port`.
        file: what is to be removed at the end.
    """

    host: str
    port: int
    by_worker: list[list[socket.socket]]
    shared: list[socket.socket] = dataclasses.field(default_factory=list)
    places: tuple[str, ...] = ()
    file: SocketFile | None = None

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server; `unix:/run/app.sock` for a Unix socket."""
        if self.places:
            return self.places[0]
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host and "[" not in host else f"http://{host}:{self.port}"

    @property
    def words(self) -> str:
        """All places, for the log."""
        return ", ".join(self.places) or self.url

    def share(self, worker: int) -> Share:
        """What this worker accepts from."""
        own, shared = self.by_worker[worker], self.shared if worker == 0 else []
        # A worker that is alone deals nothing out.
        return Share(own + shared, [], self.servers) if len(self.by_worker) == 1 else Share(own, shared, self.servers)

    @functools.cached_property
    def servers(self) -> tuple[tuple[str, int | None], ...]:
        """Where the listeners of any worker are, as apps are told. Kept, as a forked worker closes the sockets that are not its own."""
        names = [listener.getsockname() for listener in self.by_worker[0] + self.shared]
        return tuple((name[0], name[1]) if isinstance(name, tuple) else (unix_name(name), None) for name in names)

    def close(self) -> None:
        """Closes this process's sockets; those that a forked worker holds stay open in it. Removes the file of a Unix socket."""
        for sockets in [*self.by_worker, self.shared]:
            for listener in sockets:
                listener.close()
        if self.file is not None:
            self.file.remove()


def open_place(config: Config, *, workers: int, late: bool = False) -> Listeners:
    """Opens what the settings name: a port, a Unix socket, or a descriptor.

    Args:
        late: whether the workers call `listen` for a port themselves, as they have an app to load first.

    Raises:
        ListenError: with the one line for the operator.
    """
    if config.uds is not None:
        return open_unix(config.uds, workers=workers, backlog=config.backlog)
    if config.fd is not None:
        return inherit([(config.fd, f"fd {config.fd}")], workers=workers)
    return open_listeners(config.host, config.port, workers=workers, backlog=None if late else config.backlog)


def open_listeners(host: str, port: int, *, workers: int, backlog: int | None) -> Listeners:
    """Opens the sockets of all workers. From now on the port is ours; a client that connects is refused until a worker listens.

    Args:
        host: an address or a name; an empty one means all addresses.
        port: 0 lets the system choose one, the same for all addresses and workers.
        backlog: how many may wait to be accepted; None leaves `listen` to the worker processes, which have an app to load first.

    Raises:
        ListenError: with the one line for the operator.
    """
    addresses = resolve(host, port)
    for attempt in range(8):
        listeners = Listeners(host, port, [[] for _ in range(workers)])
        try:
            chosen = open_addresses(listeners, addresses, backlog)
            return dataclasses.replace(listeners, port=chosen)
        except OSError as error:
            listeners.close()
            # The port that the system chose for the first address may be taken on the second one: choose again.
            if not (port == 0 and len(addresses) > 1 and error.errno == errno.EADDRINUSE and attempt < 7):
                raise explain(error, host, port) from error
    raise AssertionError("the last attempt returns or raises")


def resolve(host: str, port: int) -> list[tuple[int, str]]:
    """The addresses of a host, as (family, address), in the system's order and each once."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"host {host!r} is no address or name that this machine can resolve", host=host, port=port) from error
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def open_addresses(listeners: Listeners, addresses: list[tuple[int, str]], backlog: int | None) -> int:
    """Opens every address for every worker; returns the port. Addresses of a family that is missing are left out, but not all."""
    port = listeners.port
    missing: OSError | None = None
    for family, address in addresses:
        try:
            port = open_address(listeners, family, address, port, backlog)
        except OSError as error:
            if error.errno not in FAMILY_IS_MISSING:
                raise
            missing = error
    if missing is not None and not (listeners.by_worker[0] or listeners.shared):
        raise missing
    return port


def open_address(listeners: Listeners, family: int, address: str, port: int, backlog: int | None) -> int:
    """Opens one address for every worker; returns the port."""
    workers = len(listeners.by_worker)
    is_spread = SPREADS and workers > 1
    # Several sockets of one user may share a port if all of them ask for it: a second server would start without an error
    # and take every second connection from the first. So we first see whether the port is free to one that does not ask.
    first = bind(family, address, port, is_spread=False)
    port = first.getsockname()[1]
    if not is_spread:
        (listeners.by_worker[0] if workers == 1 else listeners.shared).append(first)
        if backlog is not None:
            first.listen(backlog)
        return port
    first.close()
    for sockets in listeners.by_worker:
        listener = bind(family, address, port, is_spread=True)
        sockets.append(listener)
        if backlog is not None:
            listener.listen(backlog)
    return port


def bind(family: int, address: str, port: int, *, is_spread: bool) -> socket.socket:
    """A socket on the address, not yet listening."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Else a restart waits until the kernel has forgotten the connections of the server before (about a minute).
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_spread:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted sockets inherit it: one system call less for each connection.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((address, port))
    except BaseException:
        listener.close()
        raise
    return listener


def open_unix(path: str, *, workers: int, backlog: int) -> Listeners:
    """Opens a Unix socket. Its file has the permissions that the umask leaves (022: only its user may connect; 007: its group too).

    It listens at once: a socket that is only bound would look like one whose server has died.

    Raises:
        ListenError: another server listens there, or what is there is no socket, or it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with locked_folder(path):
            try:
                listener.bind(path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                remove_stale(path)
                listener.bind(path)
            file = SocketFile.of(path)
            listener.listen(backlog)
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError):
            raise explain_unix(error, path) from error
        raise
    return Listeners("", 0, [[] for _ in range(workers)], [listener], (f"unix:{path}",), file)


def remove_stale(path: str) -> None:
    """Removes the socket of a server that has died without doing it itself. The folder is locked.

    Raises:
        ListenError: it is none: its server lives, or it is no socket.
    """
    found = SocketFile.of(path)
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ListenError(f"{path} is there and is no socket; remove it, or choose another path", host=path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)  # a server whose backlog is full lives too
        code = client.connect_ex(path)
    if code in (0, errno.EAGAIN):
        raise ListenError(f"{path} is served by another process; stop it, or choose another path", host=path)
    if code != errno.ECONNREFUSED:
        raise OSError(code, os.strerror(code))
    found.remove_locked()


def explain_unix(error: OSError, path: str) -> ListenError:
    """The one line for the operator."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            text = f"{path} cannot be made, {Path(path).parent} is no folder"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            text = f"{path} cannot be made or used by this user ({os.strerror(error.errno)}); choose a folder that it may write to"
        case errno.EADDRINUSE:
            text = f"{path} was taken by another process just now"
        case None:  # Python's own, before it asks the system
            text = f"{path} is {len(os.fsencode(path))} bytes, a Unix socket's path has at most {107 if sys.platform == 'linux' else 103}"
        case _:
            text = f"{path} cannot be listened on: {error.strerror or error}"
    return ListenError(text, host=path)


def activated(environment: MutableMapping[str, str], pid: int) -> list[tuple[int, str]]:
    """The sockets that systemd has handed down, each with the words that name it. They are taken once: the variables are removed.

    Source: sd_listen_fds(3).

    Raises:
        ListenError: the variables cannot be read.
    """
    if environment.get("LISTEN_PID") != str(pid):  # they are for somebody else, who ran us
        return []
    del environment["LISTEN_PID"]
    number, names = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_FDNAMES", "").split(":")
    if not number.isascii() or not number.isdigit() or int(number) > 1000:
        raise ListenError(f"LISTEN_FDS is {number!r}, it must be a number of sockets; systemd sets it with LISTEN_PID")
    found = []
    for index in range(int(number)):
        name = names[index] if index < len(names) else ""
        found.append((ACTIVATED_FIRST + index, f"systemd's fd {ACTIVATED_FIRST + index}" + (f" {name}" if name else "")))
    return found


def inherit(descriptors: list[tuple[int, str]], *, workers: int) -> Listeners:
    """Takes sockets that somebody else has opened, and that listen already. They are not handed down further.

    Args:
        descriptors: each with the words that name it.

    Raises:
        ListenError: one of them is no listening stream socket. The others are closed.
    """
    taken: list[socket.socket] = []
    places, port = [], 0
    try:
        for descriptor, words in descriptors:
            listener = take(descriptor, words)
            taken.append(listener)
            name = listener.getsockname()
            if isinstance(name, tuple):
                port = port or name[1]
                places.append(f"{Listeners(name[0], name[1], []).url} ({words})")
            else:
                places.append(f"unix:{unix_name(name)} ({words})")
    except BaseException:
        for listener in taken:
            listener.close()
        raise
    return Listeners("", port, [[] for _ in range(workers)], taken, tuple(places))


def unix_name(name: str | bytes) -> str:
    """What to call a Unix socket: its path, or as `ss` writes it `@name`, where it is in no folder and its name begins with NUL."""
    return os.fsdecode(name).replace("\0", "@")


def take(descriptor: int, words: str) -> socket.socket:
    """The socket of an inherited descriptor, if it is one that can be accepted from."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError as error:
        raise ListenError(
            f"{words} is not open ({os.strerror(error.errno or 0)}); it must be a listening socket that was handed down"
        ) from error
    if not is_socket:
        raise ListenError(f"{words} is no socket; it must be a listening one")
    listener = socket.socket(fileno=descriptor)
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if listener.type != socket.SOCK_STREAM or listener.family not in families:
        seen = f"{listener.family!r}, {listener.type!r}"
        listener.detach()
        raise ListenError(f"{words} is a socket of another kind ({seen}); it must be a stream of TCP or Unix")
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise ListenError(f"{words} is a socket that does not listen; the program that hands it down has to call listen()")
    listener.set_inheritable(False)
    return listener


def explain(error: OSError, host: str, port: int) -> ListenError:
    """The one line for the operator: what was seen, the likely cause, the cure."""
    where = f"{host or 'all addresses'} port {port}"
    match error.errno:
        case errno.EADDRINUSE:
            text = f"{where} is taken by another process; stop it or choose another port (`ss -ltnp 'sport = :{port}'` names it)"
        case errno.EACCES | errno.EPERM:
            text = f"{where} is not allowed to this user; ports below 1024 need root or CAP_NET_BIND_SERVICE: choose a higher one"
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            text = f"{where} is no address of this machine; 127.0.0.1 is this machine only, 0.0.0.0 all its IPv4 addresses"
        case errno.EMFILE | errno.ENFILE:
            text = f"{where} cannot be opened, no file descriptor is left; raise the limit (`ulimit -n`) or take fewer workers"
        case _:
            text = f"{where} cannot be listened on: {error.strerror or error}"
    return ListenError(text, host=host, port=port)
