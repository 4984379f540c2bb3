"""From what a topology calls a channel to its URL."""


def channel_url(channel: str, relay_url: str | None) -> str:
    """`channel` itself when it is a URL; otherwise that name on the embedded relay."""
    return channel if "://" in channel else f"{relay_url}/{channel}"
