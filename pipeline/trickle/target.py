"""A channel's URL, taken apart: where to connect, and what to ask for there."""

from urllib.parse import quote, urlsplit

import msgspec

# What may stand in a path or a query as it is (RFC 3986, 3.3 and 3.4); % because the URL is escaped already.
_PATH_SAFE = "/%:@!$&'()*+,;=~"
_QUERY_SAFE = _PATH_SAFE + "?"


class Target(msgspec.Struct, frozen=True):
    """`path` and `query` are escaped; `path` has no slash at its end."""

    host: str
    port: int
    tls: bool
    path: str
    query: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def join(self, *parts: str | int) -> str:
        """The request target of the channel, or of what lies below it."""
        path = "/".join([self.path, *map(str, parts)])
        return f"{path}?{self.query}" if self.query else path

    def url(self, *parts: str | int) -> str:
        """The whole URL, for messages."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.join(*parts)}"


def parse_url(url: str) -> Target:
    """Take a channel's URL apart. Raises ValueError if it is no http or https URL with a channel name."""
    parts = urlsplit(url)
    path = quote(parts.path.rstrip("/"), _PATH_SAFE)
    if parts.scheme not in ("http", "https") or not parts.hostname or not path:
        raise ValueError(f"not a trickle channel URL (http[s]://host[:port]/name): {url}")
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    return Target(parts.hostname, port, tls, path, quote(parts.query, _QUERY_SAFE))
