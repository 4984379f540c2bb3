"""Cross-origin requests: what a browser wants to be told before a page of another site may use the relay (CORS)."""

from collections.abc import Collection

from pipeline.trickle.reply import Fields
from pipeline.trickle.request import Request

EXPOSED = "Lp-Trickle-Seq, Lp-Trickle-Latest, Lp-Trickle-Closed"
ALLOWED_HEADERS = "Authorization, Content-Type, Expect-Content, Lp-Trickle-Reset"
PREFLIGHT_SECONDS = 600


class Origins:
    """The sites whose pages may use the relay; `*` are all of them, and none is the default."""

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self._allowed = frozenset(allowed)

    def fields(self, request: Request) -> Fields:
        """What every reply to `request` says."""
        if "*" in self._allowed:
            return [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", EXPOSED)]
        if not self._allowed:
            return ()
        origin = request.headers.get("origin", "")
        if origin not in self._allowed:
            return [("Vary", "Origin")]
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", EXPOSED),
            ("Vary", "Origin"),
        ]

    def preflight(self, request: Request, methods: str) -> Fields | None:
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
