"""Cross-origin requests: what a browser wants to be told before a page of another site may use the relay (CORS)."""

from collections.abc import Collection, Mapping
from typing import Protocol

from pipeline.trickle.reply import Fields

EXPOSED = "Lp-Trickle-Seq, Lp-Trickle-Latest, Lp-Trickle-Closed"
ALLOWED_HEADERS = "Authorization, Content-Type, Expect-Content, Lp-Trickle-Reset"
PREFLIGHT_SECONDS = 600


class Asking(Protocol):
    """What of a request matters here; header names in lower case."""

    @property
    def method(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


class Origins:
    """The sites whose pages may use the relay; `*` are all of them, and none is the default."""

    def __init__(self, allowed: Collection[str] = (), *, exposed: str = EXPOSED) -> None:
        """`exposed` are the headers of replies that pages may read."""
        self._allowed = frozenset(allowed)
        self._exposed = exposed

    def allow(self, origin: str) -> bool:
        """Whether pages of this site may."""
        return bool(self._allowed & {"*", origin})

    def fields(self, request: Asking) -> Fields:
        """What every reply to `request` says."""
        if "*" in self._allowed:
            return [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", self._exposed)]
        if not self._allowed:
            return ()
        origin = request.headers.get("origin", "")
        if origin not in self._allowed:
            return [("Vary", "Origin")]
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", self._exposed),
            ("Vary", "Origin"),
        ]

    def preflight(self, request: Asking, methods: str) -> Fields | None:
        """The reply to the question whether a page may use `methods`; None if `request` does not ask, or it may not."""
        origin = request.headers.get("origin")
        asks = request.method == "OPTIONS" and "access-control-request-method" in request.headers
        if not asks or origin is None or not self._allowed & {"*", origin}:
            return None
        return [
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
            ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
        ]
