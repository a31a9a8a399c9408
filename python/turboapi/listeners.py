"""The listening sockets: opened once, by the parent, before any worker starts, and kept by it.

Not here: accepting (Rust), and which worker gets which (server.py, processes.py).
"""

import errno
import socket
import sys
from dataclasses import dataclass

from .errors import ListenError

#: Linux spreads connections over the sockets of one port by a hash. Elsewhere one of them would get all: workers share one.
SPREADS = sys.platform == "linux"

#: Errors of an address family that the machine does not have, as ::1 in a container without IPv6.
FAMILY_IS_MISSING = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


@dataclass(frozen=True)
class Listeners:
    """All listening sockets of a server, on one port.

    Fields:
        host: as it was given; `port`: as it was resolved.
        by_worker: for each worker its own sockets, one for each address that `host` stands for.
    """

    host: str
    port: int
    by_worker: list[list[socket.socket]]

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host and "[" not in host else f"http://{host}:{self.port}"

    def close(self) -> None:
        """Closes this process's sockets; those that a forked worker holds stay open in it."""
        for sockets in self.by_worker:
            for listener in sockets:
                listener.close()


def open_listeners(host: str, port: int, *, workers: int, backlog: int | None) -> Listeners:
    """Opens the sockets of all workers. From now on the port is ours; who connects is refused until somebody listens.

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
            return Listeners(host, chosen, listeners.by_worker)
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
    if missing is not None and not listeners.by_worker[0]:
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
        listeners.by_worker[0].append(first)
        if backlog is not None:
            first.listen(backlog)
        for sockets in listeners.by_worker[1:]:
            sockets.append(first.dup())
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
