"""Reads a channel: one GET per segment, the next one opened ahead, what was lost found again or marked as lost.

It neither parses the media nor waits for a source that has not come: `ChannelGone` leaves that to the caller.
"""

import asyncio
import ssl
import weakref
from types import TracebackType
from typing import Self

from pipeline.addresses import JudgeAddress
from pipeline.trickle.errors import ChannelGone, TrickleConnectionError, TrickleTimeout
from pipeline.trickle.http1 import CONNECT_TIMEOUT_S
from pipeline.trickle.pool import ConnectionPool
from pipeline.trickle.read_channel import Answer, ReadChannel
from pipeline.trickle.retries import MAX_RETRIES, Patience, Retries
from pipeline.trickle.segment_reader import SegmentReader
from pipeline.trickle.statuses import STATUS_NO_SEGMENT
from pipeline.trickle.target import parse_url

# How long a server may claim to be behind the wanted segment before we believe that the channel began anew.
_BEHIND_LIMIT_S = 2.0
_BEHIND_DELAY_S = 0.1
# A reader whose segment is so little older than the newest goes on with the oldest that is left. Servers keep five.
_SLIGHTLY_BEHIND = 8


class TrickleSubscriber:
    """A channel's reader. Segments come in order, each once; `SegmentReader.discontinuity` says where some miss."""

    def __init__(
        self,
        url: str,
        start_seq: int = -2,
        *,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        judge: JudgeAddress | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        """`start_seq`: -2 is the segment being written or last written, -1 the one that comes after it. `token` is a
        bearer token, if the server asks for one; `judge` says what is wrong with an address, which is then not used.

        https is verified against the system's certificates unless a context says otherwise. Raises ValueError for a URL
        that names no channel, and for a token that is none.
        """
        target = parse_url(url)
        pool = ConnectionPool(target, ssl_context, connect_timeout_s, token, judge)
        self._channel = ReadChannel(target, pool, max_retries)
        self._next_seq = start_seq
        self._received = False
        self._ended = False
        self._ahead: asyncio.Task[SegmentReader | None] | None = None
        self._ahead_stream = 0
        self._readers: weakref.WeakSet[SegmentReader] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def subscribe(self) -> None:
        """Begin to fetch now instead of at the first `next`."""
        self._fetch_ahead()

    async def unsubscribe(self) -> None:
        """The same as `close`."""
        await self.close()

    def seq(self) -> int:
        """The number of the segment that comes next; negative before the first one."""
        return self._next_seq

    async def next(self) -> SegmentReader | None:
        """Wait for the next segment's first byte; None at the end of the stream, and ever after.

        A segment without bytes carries nothing and is passed over. Raises AccessDenied for 401 and 403, SegmentRefused
        for another status that trickle does not know here, TrickleTimeout or TrickleConnectionError when the server
        cannot be reached. Raises ChannelGone if there is no such channel and nothing was ever read from it, or if it
        vanished with the connection: a server that died has lost its channels, and cannot say that a stream has ended.

        It may be called again after any of them. If the server was restarted meanwhile, the new stream is read from its
        beginning, or from where the server still has it, and its first segment is a discontinuity.
        """
        if self._ended:
            return None
        if self._ahead is not None and self._ahead_stream != self._channel.stream:
            # Whoever read the segment before has found that another stream has begun under it.
            await self._drop_ahead()
            self._next_seq = 0
        ahead = self._fetch_ahead()
        try:
            # Shielded, so that a caller that stops waiting does not lose what is under way.
            segment = await asyncio.shield(ahead)
        finally:
            if ahead.done():
                self._ahead = None
        if segment is None:
            self._ended = True
            return None
        segment.discontinuity = segment.discontinuity or self._channel.cut
        self._channel.cut = False
        self._next_seq = segment.seq() + 1
        # Not earlier: until a segment has its first byte, a server knows nothing of the one after it.
        self._fetch_ahead()
        return segment

    async def close(self) -> None:
        """Drop every connection; segments still open give no more bytes."""
        self._ended = True
        await self._drop_ahead()
        for reader in list(self._readers):
            await reader.close()
        self._channel.pool.close()

    def _fetch_ahead(self) -> "asyncio.Task[SegmentReader | None]":
        if self._ahead is None:
            self._ahead_stream = self._channel.stream
            self._ahead = asyncio.create_task(self._fetch(self._next_seq))
            self._ahead.add_done_callback(_retrieve)
        return self._ahead

    async def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        ahead.cancel()
        [segment] = await asyncio.gather(ahead, return_exceptions=True)
        if isinstance(segment, SegmentReader):
            await segment.close()

    async def _fetch(self, seq: int) -> SegmentReader | None:
        """The first segment from `seq` on that has a byte; None at the end of the stream."""
        channel = self._channel
        retries = Retries(channel.max_retries)
        behind = Patience(_BEHIND_LIMIT_S)
        skipped = False
        while True:
            try:
                answer = await channel.ask(seq)
                if answer.connection is not None and not await self._is_continued(answer):
                    seq, skipped = 0, True
                    continue
            except (TrickleConnectionError, TrickleTimeout) as error:
                await retries.wait(error)
                continue
            actual = answer.reply.number("lp-trickle-seq")
            if answer.connection is not None:
                self._received = True
                segment = SegmentReader(channel, seq if actual is None else actual, answer, skipped)
                self._readers.add(segment)
                return segment
            latest = answer.reply.number("lp-trickle-latest")
            if answer.is_end or (answer.reply.status == 404 and self._received and not channel.connection_broke):
                channel.ended_after = self._next_seq - 1
                return None
            if answer.reply.status == 404:
                self._forget()
                raise ChannelGone(f"GET {channel.url(seq)}: no such channel, status 404")
            if answer.reply.status == 200 and actual is not None:
                # It was closed without a byte.
                seq, retries, behind = actual + 1, Retries(channel.max_retries), Patience(_BEHIND_LIMIT_S)
            elif answer.reply.status == STATUS_NO_SEGMENT and latest is not None:
                following = self._after_missing(seq, latest, behind)
                if following == seq:
                    await asyncio.sleep(_BEHIND_DELAY_S)
                skipped = skipped or (following != seq and self._received)
                seq = following
            elif answer.may_pass or answer.reply.status in (200, STATUS_NO_SEGMENT):
                await retries.wait(channel.refusal(seq, answer))
            else:
                raise channel.refusal(seq, answer)

    def _after_missing(self, seq: int, latest: int, behind: Patience) -> int:
        """What to ask for when the server has no segment `seq` and says that `latest` comes next; `seq` again after a
        while, if it will come."""
        if latest > seq:
            # It is gone. The next one may still be there; who is far behind joins the newest, as if he came anew.
            return seq + 1 if latest - seq <= _SLIGHTLY_BEHIND else latest - 1
        if self._received and self._channel.connection_broke and latest < seq:
            # The server had a byte of the segment before; it has lost that, with all the others.
            self._begin_anew()
            return 0
        if latest + 1 < seq and behind.exhausted():
            self._begin_anew()
            return max(latest - 1, 0)
        return seq

    async def _is_continued(self, answer: Answer) -> bool:
        """Whether a segment that was asked for after a connection broke is of the stream that was read before.

        Else its connection is closed, and the stream is to be read from its beginning. Raises TrickleConnectionError or
        TrickleTimeout.
        """
        channel = self._channel
        if not channel.connection_broke:
            return True
        broken = channel.pool.broken
        assert answer.connection is not None
        try:
            same = await channel.is_same_stream()
        except BaseException:
            answer.connection.close()
            raise
        if same is False:
            answer.connection.close()
            self._begin_anew()
            return False
        if same is None and self._received:
            channel.cut = True
        channel.trust(broken)
        return True

    def _begin_anew(self) -> None:
        self._channel.begin_anew()
        self._ahead_stream = self._channel.stream

    def _forget(self) -> None:
        """The channel is gone; if it comes again, it is another."""
        if self._received:
            self._next_seq, self._received = 0, False
            self._begin_anew()


def _retrieve(task: "asyncio.Task[SegmentReader | None]") -> None:
    if not task.cancelled():
        task.exception()
