"""A segment on its way in: one POST, from its head to its reply, which may come long before the body's end."""

import asyncio
import time
from collections.abc import Callable, Iterator

from pipeline import log
from pipeline.trickle.channel import Channel, Memory, Segment
from pipeline.trickle.connection import Connection
from pipeline.trickle.limits import RelayLimits, over
from pipeline.trickle.pace import Pace
from pipeline.trickle.reply import CONTINUE, Refusal
from pipeline.trickle.request import Request

CLOSED = ("Lp-Trickle-Closed", "terminated")

PIECE_BYTES = 64 * 1024
"""The most that a piece of a segment has. A reader that is stuck holds a copy of what it was just being sent."""


class Intake:
    """Bytes go into the segment as they come, so that a client that dies leaves all that it had got out."""

    def __init__(
        self,
        connection: Connection,
        channel: Channel,
        segment: Segment,
        limits: RelayLimits,
        memory: Memory,
        *,
        abandoned: Callable[[Channel, Segment], None],
    ) -> None:
        """`abandoned` is told of a segment that was begun and left without its end."""
        self._connection = connection
        self._channel = channel
        self._segment = segment
        self._limits = limits
        self._memory = memory
        self._abandoned = abandoned
        self._size = 0
        self._over = False
        self._pace = Pace(limits.min_write_rate, limits.rate_window_s)
        self._interim: asyncio.TimerHandle | None = None

    def start(self, request: Request) -> None:
        """Take the body of `request`, or say at once that the segment takes nothing more."""
        self._segment.writers.add(self)
        self._connection.begin(self)
        if self._segment.closed:
            self._release()
        elif not request.has_body:
            self._finish()
        elif request.is_http11:
            self._schedule_interim()

    # What the connection says.

    def body(self, pieces: list[memoryview], ended: bool) -> None:
        if self._over:
            return
        if pieces:
            more = sum(map(len, pieces))
            refusal = self._beyond_limits(more)
            if refusal is not None:
                self._refuse(refusal)
                return
            self._stop_interim()
            self._size += more
            now = time.monotonic()
            for portion in _portions(pieces):
                self._channel.extend(self._segment, portion, now)
        if ended:
            self._finish()

    def broken(self) -> None:
        self._abandon(Refusal(500, "Server error\n", last=True))

    def has_room(self) -> None:
        """Nothing waits to be written."""

    def check(self, now: float) -> None:
        if self._size and self._pace.is_too_slow(now, self._size):
            rate, window = self._limits.min_write_rate, self._limits.rate_window_s
            what = f"a segment has to come at {rate} bytes a second, over {window:g} s"
            self._abandon(over("min_write_rate", what, 408))

    def lost(self) -> None:
        self._abandon(None)

    # What the segment says.

    def segment_changed(self) -> None:
        """It was closed under us: deleted, evicted, reset, or ended by another POST."""
        self._release()

    def cut(self) -> None:
        """A writer has left a segment before that can happen."""

    def _release(self) -> None:
        """Say that no more bytes are taken. A client tells it by the connection's being closed."""
        self._leave()
        self._connection.reply(200, fields=self._fields(), last=True)

    def _finish(self) -> None:
        self._leave()
        self._channel.finish(self._segment, time.monotonic())
        # As go-livepeer's: so a client knows a POST that it had opened ahead and gave up from a segment.
        self._connection.reply(200, fields=self._fields(), last=not self._size)

    def _refuse(self, refusal: Refusal) -> None:
        self._leave()
        log.warning("relay.segment_refused", channel=self._channel.name, seq=self._segment.seq, reason=refusal.text)
        self._segment.close()
        self._connection.refuse(refusal)

    def _abandon(self, refusal: Refusal | None) -> None:
        """The body ends before its end. The segment stays open for a while, for another POST to go on with it; one that
        has no byte holds nothing up: its readers wait at the leading edge."""
        if self._over:
            return
        self._leave()
        if self._segment.size:
            seq, size = self._segment.seq, self._segment.size
            log.warning("relay.post_broken", channel=self._channel.name, seq=seq, bytes=size)
            self._abandoned(self._channel, self._segment)
        if refusal is not None:
            self._connection.refuse(refusal)

    def _leave(self) -> None:
        self._over = True
        self._stop_interim()
        self._segment.writers.discard(self)

    def _fields(self) -> list[tuple[str, str]]:
        return [("Lp-Trickle-Seq", str(self._segment.seq)), *([CLOSED] if self._channel.closed else [])]

    def _beyond_limits(self, more: int) -> Refusal | None:
        limits = self._limits
        if self._segment.size + more > limits.max_segment_bytes:
            return over("max_segment_bytes", f"a segment may have {limits.max_segment_bytes} bytes", 413)
        if self._channel.held + more > limits.max_channel_bytes:
            what = f"a channel's segments may have {limits.max_channel_bytes} bytes together"
            return over("max_channel_bytes", what, 413)
        if not self._memory.make_room(more):
            return over("max_total_bytes", f"all segments may have {limits.max_total_bytes} bytes together", 503)
        return None

    def _schedule_interim(self) -> None:
        interval = self._limits.interim_interval_s
        self._interim = asyncio.get_running_loop().call_later(interval, self._send_interim)

    def _send_interim(self) -> None:
        """Show the client, and what is between us, that the exchange is alive although no byte has come."""
        self._connection.send(CONTINUE)
        self._schedule_interim()

    def _stop_interim(self) -> None:
        if self._interim is not None:
            self._interim.cancel()
            self._interim = None


def _portions(pieces: list[memoryview]) -> Iterator[list[memoryview]]:
    """The same bytes, up to PIECE_BYTES at a time."""
    portion: list[memoryview] = []
    room = PIECE_BYTES
    for piece in pieces:
        at = 0
        while len(piece) - at >= room:
            yield [*portion, piece[at : at + room]]
            at += room
            portion, room = [], PIECE_BYTES
        if at < len(piece):
            portion.append(piece[at:])
            room -= len(piece) - at
    if portion:
        yield portion
