"""What can go wrong when a peer is spoken to over trickle. Each kind calls for another answer of the caller."""


class TrickleError(Exception):
    """Base of all failures that this package raises on purpose. The message names the URL and the status."""


class ChannelGone(TrickleError):
    """The server does not know the channel: it was never created, or it was closed and removed."""


class SegmentRefused(TrickleError):
    """The server answered a segment before its end, or with a status that means that it will not take or give it."""


class AccessDenied(SegmentRefused):
    """The server wants a bearer token, or another one (401), or does not let this one do it (403)."""


class SegmentTooLarge(TrickleError):
    """A segment that was to be read whole is longer than the reader allows."""


class TrickleTimeout(TrickleError):
    """A connection could not be opened, or a small request was not answered, within its limit."""


class TrickleConnectionError(TrickleError):
    """The connection could not be made, or it was lost before the exchange was complete."""
