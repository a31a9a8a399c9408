"""Which peers are proxies of one's own, as `--forwarded-allow-ips` says it. Not here: what is believed of them (src/proxies.rs)."""

import ipaddress
from dataclasses import dataclass

#: What may stand in such a list.
ALLOWED = "*, unix, addresses, and networks as 10.0.0.0/8, with commas between"


@dataclass(frozen=True)
class Trusted:
    """The same as `_core.Proxies` takes it."""

    everyone: bool = False
    unix: bool = False
    networks: tuple[tuple[str, int], ...] = ()


def trusted(text: str) -> Trusted:
    """Reads a list.

    Raises:
        ValueError: with the one that is none of those, or says more than its network (10.0.0.1/8).
    """
    items = [item.strip() for item in text.split(",") if item.strip()]
    named = [item for item in items if item not in ("*", "unix")]
    networks = [ipaddress.ip_network(item) for item in named]
    pairs = tuple((str(network.network_address), network.prefixlen) for network in networks)
    return Trusted("*" in items, "unix" in items, pairs)
