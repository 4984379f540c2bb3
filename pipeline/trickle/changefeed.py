"""The channel in which a relay says which channels come and go. Readers are told; nobody but the relay writes it."""

import time

import msgspec

from pipeline.trickle.channel import Channel, Channels

NAME = "_changes"
CONTENT_TYPE = "application/json"


class ChangeFeed:
    """One JSON object a segment: `{"added":["x"]}` or `{"removed":["x"]}`. The first one announces the feed itself."""

    def __init__(self, channels: Channels) -> None:
        self._channel = Channel(NAME, CONTENT_TYPE, time.monotonic(), channels.memory, channels.window)
        channels.put(self._channel)
        channels.on_change = self._announce
        self._announce("added", NAME)

    def _announce(self, change: str, name: str) -> None:
        now = time.monotonic()
        segment = self._channel.for_write(-1)
        self._channel.append(segment, msgspec.json.encode({change: [name]}), now)
        self._channel.finish(segment, now)
