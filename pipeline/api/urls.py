"""Where a URL that somebody names may lead. This machine opens it, from within its own network: without a check whoever
may ask for a stream could reach what only this machine can reach.

A name may lead elsewhere by the time that it is used: so whoever connects judges the addresses again, with `judge`.
Redirects are not followed by the trickle client.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from pipeline.addresses import judge_address
from pipeline.trickle.target import Target, parse_url

RESOLVE_SECONDS = 5.0
MAX_URL_LENGTH = 2048

_CHANNEL_NAME = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")


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
        self.judge = judge_address(private=private)
        """For clients of channels that somebody named."""
        self._has_relay = has_relay

    async def check(self, url: str) -> None:
        """Raises UrlRefused. Looks the name up in the loop's executor."""
        if "://" not in url and self._is_channel_name(url):
            return
        target = self._parse(url)
        for address in await _addresses(target):
            if problem := self.judge(address):
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


async def _addresses(target: Target) -> list[str]:
    """All that the host may lead to. Raises UrlRefused when it leads nowhere."""
    try:
        # What the system's resolver takes for an address: also 2130706433, 0x7f.1 and 0177.0.0.1.
        return [socket.inet_ntoa(socket.inet_aton(target.host))]
    except OSError:
        pass
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise UrlRefused(f"{target.host}: this name is not known here", "a host that can be reached") from error
    return [str(entry[4][0]) for entry in found]


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _begins(url: str, path: str, prefix: tuple[tuple[str, str, int | None], str]) -> bool:
    """Whether the URL is at the prefix or below it: a/b begins with a, and ab does not."""
    origin, beginning = prefix
    return _origin(url) == origin and (path == beginning or path.startswith(f"{beginning}/"))
