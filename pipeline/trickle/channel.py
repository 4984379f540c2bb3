"""Channels and segments as a relay holds them in memory. It knows nothing of HTTP and has no clock of its own.

The rules of numbering and eviction are those of go-livepeer's trickle server, without the corners where that one hangs.
"""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

WINDOW = 5
"""Segments of a channel that exist at once, as in go-livepeer's trickle server."""


class Found(NamedTuple):
    """A segment to read, and the channel's next number when it was asked for."""

    segment: "Segment"
    latest: int


class Segment:
    """An append-only list of pieces. Readers walk it by index and share the pieces; none is ever copied for one."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.chunks: list[bytes] = []
        self.size = 0
        self.writers = 0
        self.closed = False
        self._waiting: set[asyncio.Future[None]] = set()

    def append(self, data: bytes) -> None:
        self.chunks.append(data)
        self.size += len(data)
        self._wake()

    def close(self) -> None:
        self.closed = True
        self._wake()

    async def wait(self) -> None:
        """Until the next piece or the end. Look at the state first: what was before is not told again."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    async def wait_closed(self) -> None:
        while not self.closed:
            await self.wait()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Channel:
    """A ring of segments and the number that will be written next."""

    def __init__(self, name: str, content_type: str, now: float) -> None:
        self.name = name
        self.content_type = content_type
        self.latest = 0
        self.written_at = now
        self.closed = False
        self._ring: list[Segment | None] = [None] * WINDOW

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self._segments())

    @property
    def writers(self) -> int:
        return sum(segment.writers for segment in self._segments())

    def find(self, seq: int) -> Segment | None:
        segment = self._ring[seq % WINDOW]
        return segment if segment is not None and segment.seq == seq else None

    def for_read(self, seq: int) -> Found | None:
        """The segment, made if it is the one at the leading edge; else None. -1 and -2 count from `latest`."""
        if seq == -1:
            seq = self.latest
        elif seq == -2:
            seq = max(self.latest - 1, 0)
        segment = self.find(seq)
        if segment is None and (seq == self.latest or (self.latest == 0 and seq == 1)):
            segment = self._put(seq)
        return Found(segment, self.latest) if segment is not None else None

    def for_write(self, seq: int) -> Segment:
        """The segment to append to, made if need be; it may turn out to be closed. -1 is `latest`."""
        if seq == -1:
            seq = self.latest
        return self.find(seq) or self._put(seq)

    def append(self, segment: Segment, data: bytes, now: float) -> None:
        """Add bytes; the first ones of a segment make its successor the channel's next."""
        if not segment.chunks:
            self.latest = segment.seq + 1
        self.written_at = now
        segment.append(data)

    def finish(self, segment: Segment, now: float) -> None:
        """End a segment whose POST is complete. Without a byte it counts all the same."""
        if not segment.chunks and not segment.closed:
            self.latest = segment.seq + 1
            self.written_at = now
        segment.close()

    def close_before(self, seq: int) -> None:
        """Close what a publisher that died left open, to free its readers."""
        for segment in self._segments():
            if segment.seq < seq:
                segment.close()

    def close(self) -> None:
        self.closed = True
        for segment in self._segments():
            segment.close()
        self._ring = [None] * WINDOW

    def _put(self, seq: int) -> Segment:
        # Also when a reader evicts: a segment out of the ring can be closed by nobody else, and its readers would hang.
        evicted = self._ring[seq % WINDOW]
        if evicted is not None:
            evicted.close()
        segment = self._ring[seq % WINDOW] = Segment(seq)
        return segment

    def _segments(self) -> Iterator[Segment]:
        return (segment for segment in self._ring if segment is not None)


class Channels:
    """All channels of a relay by name."""

    def __init__(self, max_channels: int) -> None:
        self._max = max_channels
        self._by_name: dict[str, Channel] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Channel | None:
        return self._by_name.get(name)

    def create(self, name: str, content_type: str, now: float) -> Channel | None:
        """A new channel, or the one of that name as it is; None if there are too many."""
        channel = self._by_name.get(name)
        if channel is None and len(self._by_name) < self._max:
            channel = self._by_name[name] = Channel(name, content_type, now)
        return channel

    def remove(self, name: str) -> bool:
        """Close a channel, which ends the stream for all who read it; False if there is none."""
        channel = self._by_name.pop(name, None)
        if channel is None:
            return False
        channel.close()
        return True

    def idle(self, before: float) -> list[str]:
        """Channels not written to since `before` that have no POST open; never those with a `_` in front."""
        return [
            channel.name
            for channel in self._by_name.values()
            if channel.written_at < before and not channel.writers and not channel.name.startswith("_")
        ]

    def clear(self) -> None:
        for name in list(self._by_name):
            self.remove(name)
