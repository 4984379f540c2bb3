"""One segment being read: its bytes as they come, over as many connections as that takes."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from pipeline.trickle.errors import SegmentTooLarge, TrickleConnectionError, TrickleError, TrickleTimeout
from pipeline.trickle.http1 import READ_BYTES, HttpConnection
from pipeline.trickle.read_channel import Answer, ReadChannel
from pipeline.trickle.retries import Retries
from pipeline.trickle.seen import Seen

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""The longest segment that `read_all` takes, if not told otherwise."""


class SegmentReader:
    """Made by `TrickleSubscriber.next`; used by one task at a time.

    Read it to its end or close it: until then it holds a connection. What is not read waits at the server.
    """

    def __init__(self, channel: ReadChannel, seq: int, answer: Answer, discontinuity: bool) -> None:
        self.discontinuity = discontinuity
        """Whether segments between the one before and this one were missed, the one before was truncated, or the
        channel has begun anew."""
        self.truncated = False
        """Whether the segment ended early because the server no longer had the rest when the connection broke."""
        self.content_type = answer.reply.headers.get("content-type", "")
        self.stream = channel.stream
        """How often the channel had begun anew by then."""
        self._channel = channel
        self._connection: HttpConnection | None = answer.connection
        self._complete = False
        self._retries: Retries | None = None
        self._seen = Seen(seq)
        channel.had.append(self._seen)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    def seq(self) -> int:
        return self._seen.seq

    def eos(self) -> bool:
        """Whether the channel is known, by now, to have ended with this segment."""
        return self._channel.ended_after == self._seen.seq

    async def read(self, n: int = READ_BYTES) -> bytes:
        """Up to `n` bytes, as soon as there are any; b"" at the segment's end, and once it is closed.

        A connection that breaks is made again, and the read goes on at the same byte if the server has the same segment
        up to there; if not, the segment ends and is `truncated`. Raises TrickleConnectionError or TrickleTimeout when
        that fails too often; the next call tries again.
        """
        while self._connection is not None:
            try:
                data = await self._connection.read(n)
            except TrickleConnectionError as error:
                if self._connection is not None:  # else closed while we waited
                    await self._resume(error)
                continue
            self._seen.add(data)
            self._retries = None
            if not data and self._connection is not None:
                self._complete = True
                self._channel.pool.release(self._connection)
                self._connection = None
            return data
        return b""

    async def read_all(self, max_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
        """The rest of the segment, whatever the pieces in which it came: for one that is a message.

        Raises SegmentTooLarge if that is more than `max_bytes`, and TrickleConnectionError if its end was lost, besides
        what `read` raises; the segment is closed then.
        """
        pieces, size = [], 0
        while data := await self.read():
            size += len(data)
            if size > max_bytes:
                await self.close()
                raise SegmentTooLarge(f"GET {self._channel.url(self.seq())}: more than {max_bytes} bytes")
            pieces.append(data)
        if not self._complete:
            raise self._channel.lost(self.seq(), f"ended after {self._seen.size} bytes, and there were more")
        return b"".join(pieces)

    async def close(self) -> None:
        """Read no more of it. The connection is dropped, for the rest of the segment would still come over it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _resume(self, error: TrickleError) -> None:
        """Ask for the segment again and pass over what was had."""
        retries = self._retries = self._retries or Retries(self._channel.max_retries)
        while self._connection is not None:
            try:
                await retries.wait(error)
            except TrickleError:
                self._retries = None  # Whoever calls again has patience again.
                raise
            try:
                answer = await self._channel.ask(self.seq())
            except (TrickleConnectionError, TrickleTimeout) as again:
                error = again
                continue
            if answer.connection is None and answer.may_pass:
                error = self._channel.refusal(self.seq(), answer)
                continue
            try:
                same = await self._is_the_same(answer)
            except (TrickleConnectionError, TrickleTimeout) as again:
                error = again
                if answer.connection is not None:
                    answer.connection.close()
                continue
            except BaseException:
                if answer.connection is not None:
                    answer.connection.close()
                raise
            if same and self._connection is not None:
                self._connection = answer.connection
                return
            if answer.connection is not None:
                answer.connection.close()
            if self._connection is not None:
                self._cut()

    async def _is_the_same(self, answer: Answer) -> bool:
        """Whether the answer, read as far as was had, is this segment. Takes note if another stream has begun."""
        channel = self._channel
        if answer.connection is None:
            latest = answer.reply.number("lp-trickle-latest")
            if latest is not None and latest <= self.seq() and self.stream == channel.stream:
                channel.begin_anew()  # The server had a byte of this segment, and does not know of it any more.
            return False
        if answer.reply.number("lp-trickle-seq") not in (None, self.seq()):
            return False
        if self._seen.size:
            if await self._seen.passes(answer.connection):
                return True
            # Another segment under this number; if the one before is the same, it was just written again.
            if await channel.is_same_stream(but=self.seq()) or self.stream != channel.stream:
                return False
        elif await channel.is_same_stream(but=self.seq()) is not False:
            return True
        if self.stream == channel.stream:
            channel.begin_anew()
        return False

    def _cut(self) -> None:
        self.truncated = self._channel.cut = True
        self._connection = None
        if self._seen in self._channel.had:
            self._channel.had.remove(self._seen)  # Nobody can compare with it any more.
