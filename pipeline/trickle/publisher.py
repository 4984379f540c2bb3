"""Writes a channel: which number a segment gets, the POST of the next one opened ahead, how to go on after losses.

What a segment does with its bytes is `segment_writer`'s matter; `sink` serves callers that live outside an event loop.
"""

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self

from pipeline.addresses import JudgeAddress
from pipeline.trickle.channel_client import BUSY_DELAYS_S, ChannelClient
from pipeline.trickle.errors import ChannelGone, TrickleConnectionError, TrickleError, TrickleTimeout
from pipeline.trickle.http1 import CONNECT_TIMEOUT_S, HttpConnection
from pipeline.trickle.pool import REPLY_TIMEOUT_S, ConnectionPool
from pipeline.trickle.response import Reply
from pipeline.trickle.segment_writer import SegmentWriter
from pipeline.trickle.statuses import BUSY_STATUSES
from pipeline.trickle.target import parse_url

MAX_RETRY_BYTES = 8 * 1024 * 1024
"""How much of each open segment is kept in memory, to be sent again when the server got none of it."""


class TricklePublisher:
    """A channel's writer.

    Segments are numbered from 0, or from where the server is after `resume`. The POST of segment N+1 is on the wire,
    head only, as soon as N begins, so that a change of segment costs no round trip and the server can refuse ahead.

    What is lost is said, and nothing is sent twice; `SegmentWriter` has the rule. A segment that failed leaves the
    others alone, and the next one takes a number that is free.
    """

    def __init__(
        self,
        url: str,
        content_type: str = "video/MP2T",
        *,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        judge: JudgeAddress | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        reply_timeout_s: float = REPLY_TIMEOUT_S,
        max_retry_bytes: int = MAX_RETRY_BYTES,
    ) -> None:
        """`url` is the channel's; https is verified against the system's certificates unless a context says otherwise.
        `token` is the bearer token itself; `judge` says what is wrong with an address, which is then not used.
        `reply_timeout_s`: how long the end of a segment may stay unanswered while the server takes no byte of it.

        Raises ValueError for a URL that names no channel.
        """
        self.max_retry_bytes = max_retry_bytes
        target = parse_url(url)
        self._pool = ConnectionPool(target, ssl_context, connect_timeout_s, token, judge)
        self._client = ChannelClient(target, content_type, self._pool, reply_timeout_s)
        self._lock = asyncio.Lock()
        self._next_seq = 0
        self._reset_at = -1
        self._open: set[SegmentWriter] = set()
        self._lost: set[int] = set()
        self._in_doubt = False
        """Whether the server may have lost the channel since it was last asked."""
        self._ahead: asyncio.Task[HttpConnection] | None = None
        self._finished = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            self.abort()

    def seq(self) -> int:
        """The number of the segment that `next` will give, unless something goes wrong before."""
        return self._next_seq

    async def create(self) -> None:
        """Create the channel; no harm if it exists.

        Raises ChannelGone where it does not exist and clients may not create it, AccessDenied, SegmentRefused for any
        other refusal, TrickleTimeout or TrickleConnectionError when the server cannot be asked.
        """
        await self._client.create()

    async def resume(self) -> int:
        """Go on where the server is, and free readers that hang on segments of a publisher that died.

        Creates the channel if need be. Returns the number of the next segment; raises as `create` does.
        """
        async with self._lock:
            self._drop_ahead()
            latest = await self._client.next_seq()
            if latest is None:
                await self._client.create()
                latest = 0
            if latest and not self._client.knows_next:
                await self._client.close_segment(latest - 1)
            self._next_seq = self._reset_at = latest
            self._lost.clear()
            self._in_doubt = False
            return latest

    async def next(self) -> SegmentWriter:
        """Begin the next segment. Earlier ones may still be open; each has a connection of its own.

        Raises AccessDenied, ChannelGone, SegmentRefused, TrickleTimeout or TrickleConnectionError; no number is used up
        by that, and it may be called again after any. A channel that is gone is created anew by the call after the one
        that says so, and at once if the connection was lost with it, for then the server has lost its memory.
        """
        async with self._lock:
            if self._lost or self._in_doubt:
                await self._recover()
            connection = await self._take_ahead() or await self._start(self._next_seq)
            segment = SegmentWriter(
                self._client, self._next_seq, connection, self.max_retry_bytes, self._began, self._ended
            )
            self._open.add(segment)
            self._next_seq += 1
            self._ahead = asyncio.create_task(self._start(self._next_seq))
            self._ahead.add_done_callback(_retrieve)
            return segment

    async def close(self, *, delete: bool = True) -> None:
        """Finish open segments, release the POST opened ahead, and remove the channel if `delete`.

        Readers get the rest of the segment that they are in, and the one after it; who is further behind than that asks
        for what has been removed, and takes it for the end of the stream.

        Raises the first failure of an open segment, else AccessDenied or SegmentRefused if the channel may not be
        removed, after everything has been released. A server that is gone by now is no failure: there is no channel
        left to remove. Again is no harm.
        """
        if self._finished:
            return
        self._finished = True
        try:
            results = await asyncio.gather(*[segment.close() for segment in self._open], return_exceptions=True)
            with contextlib.suppress(TrickleError):
                await self._end_ahead()
            if delete:
                results += await asyncio.gather(self._remove(), return_exceptions=True)
        finally:
            self.abort()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def abort(self) -> None:
        """Drop every connection. Open segments stay unfinished, so that none of them looks complete."""
        for segment in list(self._open):
            segment.abort()
        self._drop_ahead()
        self._pool.close()

    async def _remove(self) -> None:
        with contextlib.suppress(TrickleConnectionError, TrickleTimeout):
            await self._client.remove()

    async def _start(self, seq: int) -> HttpConnection:
        return await self._client.post(seq, reset=seq == self._reset_at)

    async def _take_ahead(self) -> HttpConnection | None:
        """The POST opened ahead if it still stands; otherwise None, and `_next_seq` is a number worth a new POST."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        try:
            connection = await ahead
        except TrickleError:
            await self._find_a_number()
            return None
        if not connection.lost:
            return connection
        reply = connection.early_reply
        connection.close()
        if reply is None:
            await self._find_a_number()
            return None
        if reply.status in BUSY_STATUSES:
            return await self._open_later(reply)
        if reply.status == 200 and "lp-trickle-closed" not in reply.headers:
            # The segment was closed under us (dropped, evicted, or written by someone else): it would take nothing.
            self._next_seq = max(await self._client.next_seq() or 0, self._next_seq + 1)
        elif reply.status != 408 and reply.status < 500:
            raise self._refused(reply)
        # After a server's own read time-out: nothing had been sent, the number is still good.
        return None

    async def _find_a_number(self) -> None:
        """The connection of the POST opened ahead was lost: with the server's memory, maybe."""
        self._in_doubt = True
        await self._recover()

    async def _open_later(self, reply: Reply) -> HttpConnection:
        """Open a POST ahead again that was too much for the server. Raises SegmentRefused if that does not pass."""
        for delay in BUSY_DELAYS_S[1:]:
            await asyncio.sleep(delay)
            connection = await self._start(self._next_seq)
            try:
                # A refusal takes a round trip, and nothing tells that there is none but another one that is complete.
                await self._client.next_seq()
            except BaseException:
                connection.close()
                raise
            if not connection.lost:
                return connection
            reply = connection.early_reply or reply
            connection.close()
            if reply.status not in BUSY_STATUSES:
                break
        raise self._refused(reply)

    def _refused(self, reply: Reply) -> TrickleError:
        error = self._client.refusal("POST", reply, seq=self._next_seq)
        self._in_doubt = isinstance(error, ChannelGone)
        return error

    async def _end_ahead(self) -> None:
        """End the POST opened ahead with no bytes and wait for its reply.

        Waiting matters: a POST that reached the server after the channel's DELETE would create the channel anew.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        connection = await ahead
        try:
            await self._client.while_taken(connection, connection.finish_post())
        except TimeoutError as error:
            raise TrickleTimeout("the POST opened ahead is not answered") from error
        finally:
            connection.close()

    def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        if not ahead.done():
            ahead.cancel()
        elif not ahead.cancelled() and ahead.exception() is None:
            ahead.result().close()

    async def _recover(self) -> None:
        """After a loss: close what the server has of lost segments, for readers wait on it, and find a free number.

        Raises ChannelGone, once, if the channel is gone although no connection was lost with it.
        """
        ended = {seq for seq in sorted(self._lost) if await self._client.close_segment(seq)}
        latest = await self._client.next_seq()
        if latest is None:
            if not self._in_doubt:
                self._in_doubt = True
                raise ChannelGone(f"POST {self._client.target.url(self._next_seq)}: the channel is gone")
            await self._client.create()
            latest = 0
        seq = max(latest, self._next_seq)
        if not latest and 0 not in ended and not any(segment.connected for segment in self._open):
            seq = 0  # The server has lost what it had, or has got nothing yet: its readers wait there.
        if seq != self._next_seq:
            self._drop_ahead()
        self._next_seq = seq
        self._lost.clear()
        self._in_doubt = False

    def _began(self, segment: SegmentWriter) -> None:
        for other in self._open:
            other.overtaken = other.overtaken or (other.begun and other.seq() > segment.seq())

    def _ended(self, segment: SegmentWriter) -> None:
        self._open.discard(segment)
        if not segment.confirmed:
            self._lost.add(segment.seq())
            self._in_doubt = self._in_doubt or isinstance(segment.error, TrickleConnectionError | ChannelGone)


def _retrieve(task: asyncio.Task[HttpConnection]) -> None:
    if not task.cancelled():
        task.exception()
