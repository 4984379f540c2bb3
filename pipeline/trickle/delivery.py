"""A segment on its way out: one GET, which waits for the first byte and then follows the segment to its end."""

import asyncio

from pipeline import log
from pipeline.trickle.channel import Channel, Found, payload
from pipeline.trickle.connection import Connection
from pipeline.trickle.intake import CLOSED
from pipeline.trickle.limits import RelayLimits, over

DEFAULT_CONTENT_TYPE = "application/octet-stream"
"""Of a channel that was given none: an empty header, as Go servers send it, breaks some clients."""

_JOIN_BYTES = 64 * 1024
"""Pieces that a reader is behind by are sent together up to this: fewer, larger writes."""

_TURN_BYTES = 1024 * 1024
"""After so much for one reader the others have their turn."""

_LAST_CHUNK = b"0\r\n\r\n"


class Delivery:
    """One reader. It holds up nobody: what it cannot take yet stays in the segment, once for all readers."""

    def __init__(
        self, connection: Connection, channel: Channel, found: Found, limits: RelayLimits, *, chunked: bool, head: bool
    ) -> None:
        """`chunked`: the client understands chunks, else the end of the connection ends the body. `head`: it wants no
        body."""
        self._connection = connection
        self._channel = channel
        self._segment, self._latest = found
        self._limits = limits
        self._chunked = chunked
        self._is_head = head
        self._position = 0
        self._head = b""
        self._started = False
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._turn: asyncio.Handle | None = None

    def start(self) -> None:
        self._segment.readers.add(self)
        self._connection.begin(self)
        self.segment_changed()

    # What the segment and the connection say.

    def segment_changed(self) -> None:
        if self._started:
            self._advance()
        elif self._segment.size:
            self._start()
        elif self._segment.closed:
            self._reply_empty()

    def cut(self) -> None:
        log.warning("relay.reader_cut", address=self._connection.address, limit="relay.limits.max_total_bytes")
        self._leave()
        self._connection.abort()

    def has_room(self) -> None:
        if self._started:
            self._advance()

    def body(self, pieces: list[memoryview], ended: bool) -> None:
        """The body of a GET has no meaning."""

    def broken(self) -> None:
        """The same."""

    def check(self, now: float) -> None:
        limit = self._limits.reader_wait_s
        if limit and not self._started and now - self._since > limit:
            self._leave()
            self._connection.refuse(over("reader_wait_s", f"a reader may wait {limit:g} s for a segment to begin", 503))

    def lost(self) -> None:
        self._leave()

    def _start(self) -> None:
        self._started = True
        fields = [("Lp-Trickle-Seq", str(self._segment.seq))]
        if self._latest != self._segment.seq:
            fields.append(("Lp-Trickle-Latest", str(self._latest)))
        fields.append(("Content-Type", self._channel.content_type or DEFAULT_CONTENT_TYPE))
        if self._chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        self._head = self._connection.head(200, fields)
        if self._is_head:
            self._connection.send(self._head)
            self._finish()
        else:
            self._advance()

    def _reply_empty(self) -> None:
        self._leave()
        fields = [("Lp-Trickle-Seq", str(self._segment.seq)), ("Lp-Trickle-Latest", str(self._channel.latest))]
        self._connection.reply(200, fields=[*fields, CLOSED] if self._channel.closed else fields)

    def _advance(self) -> None:
        """Send what there is and the client takes. Pieces that wait go together, a new one at once."""
        sent = 0
        while self._connection.has_room and self._turn is None and not self._over:
            data, size = self._next_pieces()
            at_end = self._segment.closed and self._position == len(self._segment.pieces)
            if at_end and self._chunked:
                data.append(_LAST_CHUNK)
            if data:
                self._connection.send(data[0] if len(data) == 1 else b"".join(data))
            if at_end:
                self._finish()
                return
            if not size:
                return
            sent += size
            if sent >= _TURN_BYTES:
                self._turn = self._loop.call_soon(self._go_on)

    def _next_pieces(self) -> tuple[list[bytes], int]:
        """What to send in one go, and how many bytes of the segment that is."""
        pieces, first = self._segment.pieces, self._position
        size = 0
        while self._position < len(pieces) and (self._position == first or size < _JOIN_BYTES):
            size += len(pieces[self._position])
            self._position += 1
        taken = pieces[first : self._position]
        head, self._head = self._head, b""
        return [*([head] if head else []), *(taken if self._chunked else map(payload, taken))], size

    def _go_on(self) -> None:
        self._turn = None
        self._advance()

    def _finish(self) -> None:
        self._leave()
        self._connection.finish()

    def _leave(self) -> None:
        self._over = True
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._segment.remove_reader(self)
