"""Channels and segments as a relay holds them in memory. No sockets, no clock of its own.

The rules of numbering and eviction are those of go-livepeer's trickle server, without the corners where that one hangs.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

WINDOW = 5
"""Segments of a channel that exist at once, as in go-livepeer's trickle server."""

PIECE_COST_BYTES = 64
"""What a piece takes in memory besides its bytes, so that many tiny ones cannot hide."""


class Follower(Protocol):
    """Somebody who reads or writes a segment."""

    def segment_changed(self) -> None:
        """It has grown, or it was closed."""

    def cut(self) -> None:
        """Nobody but its readers has the segment any more, and its memory is needed: let go of it."""


class Memory:
    """How much all segments hold together, those included that only their readers still hold."""

    def __init__(self, most: int) -> None:
        self.held = 0
        self._most = most
        self._gone: dict[Segment, None] = {}

    def make_room(self, more: int) -> bool:
        """Whether `more` bytes may be added. Before that is refused, readers of segments that are gone are cut off, the
        oldest first: a slow reader must not keep a publisher out."""
        while self._gone and self.held + more > self._most:
            segment = next(iter(self._gone))
            del self._gone[segment]
            for reader in list(segment.readers):
                reader.cut()
        return self.held + more <= self._most

    def keep(self, segment: "Segment") -> None:
        """Count on a segment that has left its channel."""
        self._gone[segment] = None

    def release(self, segment: "Segment") -> None:
        """Nobody has the segment any more."""
        self._gone.pop(segment, None)
        self.held -= segment.held
        segment.held = 0


class Found(NamedTuple):
    """A segment to read, and the channel's next number when it was asked for."""

    segment: "Segment"
    latest: int


class Segment:
    """An append-only list of pieces. Readers walk it by index and share the pieces.

    A piece is kept as it is sent, as an HTTP/1.1 chunk: bytes are copied once when they come, and not for each reader.
    """

    def __init__(self, seq: int, memory: Memory) -> None:
        self.seq = seq
        self.pieces: list[bytes] = []
        self.size = 0
        self.held = 0
        self.closed = False
        self.readers: set[Follower] = set()
        self.writers: set[Follower] = set()
        self._memory = memory
        self._in_channel = True

    @property
    def chunks(self) -> list[bytes]:
        """The bytes of each piece."""
        return [payload(piece) for piece in self.pieces]

    @property
    def in_use(self) -> bool:
        """Whether somebody writes it, or reads what there is of it."""
        return bool(self.writers or (self.size and self.readers))

    def append(self, data: Sequence[bytes | memoryview]) -> int:
        """Add bytes as one piece; returns what that takes in memory."""
        size = sum(map(len, data))
        piece = b"".join((b"%x\r\n" % size, *data, b"\r\n"))
        cost = size + PIECE_COST_BYTES
        self.pieces.append(piece)
        self.size += size
        self.held += cost
        self._memory.held += cost
        for reader in list(self.readers):
            reader.segment_changed()
        return cost

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for follower in [*self.writers, *self.readers]:
            follower.segment_changed()

    def leave_channel(self) -> None:
        """To be called once nobody can find it any more."""
        self._in_channel = False
        if self.readers:
            self._memory.keep(self)
        else:
            self._memory.release(self)

    def remove_reader(self, reader: Follower) -> None:
        self.readers.discard(reader)
        if not self.readers and not self._in_channel:
            self._memory.release(self)


class Channel:
    """A ring of segments and the number that will be written next."""

    def __init__(self, name: str, content_type: str, now: float, memory: Memory, window: int = WINDOW) -> None:
        self.name = name
        self.content_type = content_type
        self.latest = 0
        self.written_at = now
        self.closed = False
        self.held = 0
        """What its segments take in memory."""
        self._memory = memory
        self._ring: list[Segment | None] = [None] * window

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self._segments())

    @property
    def writers(self) -> int:
        return sum(len(segment.writers) for segment in self._segments())

    @property
    def in_use(self) -> bool:
        """Whether a segment is being written or read. Who waits for one to begin keeps nothing alive."""
        return any(segment.in_use for segment in self._segments())

    def find(self, seq: int) -> Segment | None:
        segment = self._ring[seq % len(self._ring)]
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
        self.extend(segment, [data], now)

    def extend(self, segment: Segment, data: Sequence[bytes | memoryview], now: float) -> None:
        """The same with bytes that lie in several places."""
        if not segment.size:
            self.latest = segment.seq + 1
        self.written_at = now
        self.held += segment.append(data)

    def finish(self, segment: Segment, now: float) -> None:
        """End a segment whose POST is complete. Without a byte it counts all the same."""
        if not segment.size and not segment.closed:
            self.latest = segment.seq + 1
            self.written_at = now
        segment.close()

    def close_before(self, seq: int) -> None:
        """Close what a publisher that died left open, to free its readers."""
        for segment in list(self._segments()):
            if segment.seq < seq:
                segment.close()

    def close(self) -> None:
        self.closed = True
        segments, self._ring = list(self._segments()), [None] * len(self._ring)
        for segment in segments:
            segment.close()
            segment.leave_channel()
        self.held = 0

    def _put(self, seq: int) -> Segment:
        slot = seq % len(self._ring)
        segment = Segment(seq, self._memory)
        evicted, self._ring[slot] = self._ring[slot], segment
        if evicted is not None:
            # Also when a reader evicts: one out of the ring can be closed by nobody else, and its readers would hang.
            self.held -= evicted.held
            evicted.close()
            evicted.leave_channel()
        return segment

    def _segments(self) -> Iterator[Segment]:
        return (segment for segment in self._ring if segment is not None)


class Channels:
    """All channels of a relay by name."""

    def __init__(self, most: int, memory: Memory, window: int = WINDOW) -> None:
        self.memory = memory
        self.window = window
        self.on_change: Callable[[str, str], None] = lambda change, name: None
        """Told `added` or `removed`, and a channel's name."""
        self._most = most
        self._by_name: dict[str, Channel] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Channel | None:
        return self._by_name.get(name)

    def create(self, name: str, content_type: str, now: float) -> Channel | None:
        """A new channel, or the one of that name as it is; None if there are too many."""
        channel = self._by_name.get(name)
        if channel is None and len(self._by_name) < self._most:
            channel = Channel(name, content_type, now, self.memory, self.window)
            self.put(channel)
        return channel

    def put(self, channel: Channel) -> None:
        self._by_name[channel.name] = channel
        self.on_change("added", channel.name)

    def remove(self, name: str) -> bool:
        """Close a channel, which ends the stream for all who read it; False if there is none."""
        channel = self._by_name.pop(name, None)
        if channel is None:
            return False
        channel.close()
        self.on_change("removed", name)
        return True

    def idle(self, before: float) -> list[str]:
        """Channels not written to since `before` and not in use; never those with a `_` in front."""
        return [
            channel.name
            for channel in self._by_name.values()
            if channel.written_at < before and not channel.in_use and not channel.name.startswith("_")
        ]

    def clear(self) -> None:
        """Close them all. Nobody is told of it."""
        channels, self._by_name = self._by_name, {}
        for channel in channels.values():
            channel.close()


def payload(piece: bytes) -> bytes:
    """A piece without the framing of its chunk."""
    return piece[piece.index(b"\n") + 1 : -2]
