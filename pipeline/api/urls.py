"""Where a URL that somebody names may lead. This machine opens it, from within its own network: without a check whoever
may ask for a stream could reach what only this machine can reach.

The name may lead elsewhere by the time that it is used. The control and events channels are checked each time that they
are opened; the stages open the others. Redirects are not followed by the trickle client.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from pipeline.trickle.target import Target, parse_url

RESOLVE_SECONDS = 5.0
MAX_URL_LENGTH = 2048

_CHANNEL_NAME = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
"""Where clouds hand out a machine's credentials: AWS, Azure and Google, Alibaba, Oracle, AWS over IPv6."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class UrlRefused(Exception):
    """The URL may not be opened. `allowed` is what may."""

    def __init__(self, problem: str, allowed: str) -> None:
        super().__init__(problem)
        self.allowed = allowed


class UrlRules:
    def __init__(self, prefixes: Sequence[str], *, private: bool, has_relay: bool) -> None:
        """`prefixes` are what URLs may begin with; empty: anything. `private`: they may lead to this machine and to
        private networks. `has_relay`: the name of a channel of the embedded relay is taken too."""
        self._prefixes = [(_origin(prefix), urlsplit(prefix).path.rstrip("/")) for prefix in prefixes]
        self._shown = ", ".join(prefixes)
        self._private = private
        self._has_relay = has_relay

    async def check(self, url: str) -> None:
        """Raises UrlRefused. Looks the name up in the loop's executor."""
        if "://" not in url and self._is_channel_name(url):
            return
        target = self._parse(url)
        for address in await _addresses(target):
            if problem := address_problem(address, private=self._private):
                allowed = "public, private and loopback addresses" if self._private else "public addresses"
                raise UrlRefused(f"{target.host} leads to {problem}", allowed)

    def _is_channel_name(self, url: str) -> bool:
        return self._has_relay and len(url) <= MAX_URL_LENGTH and _CHANNEL_NAME.fullmatch(url) is not None

    def _parse(self, url: str) -> Target:
        allowed = "http[s]://HOST[:PORT]/NAME" + (", or a name on the embedded relay" if self._has_relay else "")
        if len(url) > MAX_URL_LENGTH:
            raise UrlRefused(f"has {len(url)} characters", f"{MAX_URL_LENGTH}")
        if not url.isprintable() or not url.isascii() or any(c in " \\" for c in url):
            raise UrlRefused("is no URL: it holds spaces, backslashes or characters that must be escaped", allowed)
        try:
            parts = urlsplit(url)
            target = parse_url(url)
        except ValueError as error:
            raise UrlRefused("is no trickle channel", allowed) from error
        if parts.username is not None or parts.password is not None:
            raise UrlRefused("names a user, which the trickle client does not send", allowed)
        if (
            parts.port == 0
            or "%" in target.host
            or any(part in (".", "..") for part in unquote(target.path).split("/"))
        ):
            raise UrlRefused("is no trickle channel", allowed)
        if self._prefixes and not any(_begins(url, target.path, prefix) for prefix in self._prefixes):
            raise UrlRefused("is not among api.allowed_urls", self._shown)
        return target


def address_problem(address: Address, *, private: bool) -> str:
    """What is wrong with connecting to this address; empty when it may be."""
    address = _embedded(address)
    if address in _METADATA or address.is_link_local:
        return f"{address}, where clouds keep a machine's credentials, or link-local"
    if address.is_multicast or address.is_unspecified or (address.is_reserved and not address.is_loopback):
        return f"{address}, which is multicast, unspecified or reserved"
    if not private and (not address.is_global or getattr(address, "is_site_local", False)):
        return f"{address}, of this machine or a private network; api.allow_private is off"
    return ""


def _embedded(address: Address) -> Address:
    """The IPv4 address in an IPv6 address that leads to one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    is_compatible = int(address) >> 32 == 0 and int(address) > 1  # IPv4-compatible, RFC 4291 2.5.5.1
    if address in _NAT64 or is_compatible:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour or (address.teredo[1] if address.teredo else address)


async def _addresses(target: Target) -> list[Address]:
    """All that the host may lead to. Raises UrlRefused when it leads nowhere."""
    try:
        # What the system's resolver takes for an address: also 2130706433, 0x7f.1 and 0177.0.0.1.
        return [ipaddress.IPv4Address(socket.inet_aton(target.host))]
    except OSError:
        pass
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise UrlRefused(f"{target.host}: this name is not known here", "a host that can be reached") from error
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _begins(url: str, path: str, prefix: tuple[tuple[str, str, int | None], str]) -> bool:
    """Whether the URL is at the prefix or below it: a/b begins with a, and ab does not."""
    origin, beginning = prefix
    return _origin(url) == origin and (path == beginning or path.startswith(f"{beginning}/"))
