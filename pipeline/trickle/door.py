"""How many clients may be connected at once, in all and from one address."""

import ipaddress
from collections import Counter

from pipeline import log
from pipeline.trickle.limits import RelayLimits, over
from pipeline.trickle.reply import Refusal

MAX_TURNED_AWAY = 256
"""Clients that are over the limit and are being told so; more than these are cut off without a word."""

_IPV6_CLIENT_BITS = 64


class Door:
    """Counts those who are in. Who is over the limit holds nothing but its connection, and that not for long."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._inside: Counter[str] = Counter()
        self._turned_away = 0
        self._closed = False

    def enter(self, address: str) -> Refusal | None:
        """Count a client in; a refusal if there are too many. Either way `leave` has to follow."""
        refusal = self._beyond_limits(client_of(address))
        if refusal is not None:
            self._turned_away += 1
            if not self._closed:
                log.warning("relay.connection_refused", address=address, reason=refusal.text.strip())
        else:
            self._inside[client_of(address)] += 1
        self._closed = refusal is not None
        return refusal

    @property
    def crowded(self) -> bool:
        """Whether there are too many even of those who are turned away."""
        return self._turned_away > MAX_TURNED_AWAY

    def leave(self, address: str, *, was_refused: bool) -> None:
        if was_refused:
            self._turned_away -= 1
            return
        client = client_of(address)
        self._inside[client] -= 1
        if not self._inside[client]:
            del self._inside[client]

    def _beyond_limits(self, client: str) -> Refusal | None:
        limits = self._limits
        if self._inside.total() >= limits.max_connections:
            return over("max_connections", f"there may be {limits.max_connections} connections at once", 503)
        if self._inside[client] >= limits.max_connections_per_address:
            what = f"one address may have {limits.max_connections_per_address} connections at once"
            return over("max_connections_per_address", what, 429)
        return None


def client_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address, which one household has whole."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, _IPV6_CLIENT_BITS), strict=False))
