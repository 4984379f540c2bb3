"""What one relay will hold, as the topology names it. Nothing here is measured or enforced."""

import msgspec


class RelayLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes are in bytes, times in seconds."""

    max_channels: int = 1024
    max_requests: int = 4096
    """Requests being answered at once; most of them wait."""
    max_segment_bytes: int = 256 * 1024 * 1024
    max_channel_bytes: int = 512 * 1024 * 1024
    """All segments in a channel's window together."""
    idle_timeout_s: float = 300.0
    """A channel that nobody writes to or is connected to write to is removed after this."""
    sweep_interval_s: float = 60.0
    broken_post_grace_s: float = 5.0
    """How long a segment whose POST broke stays open for another POST to go on with it."""
    interim_interval_s: float = 10.0
    """How often a POST without a byte is told `100 Continue`."""
