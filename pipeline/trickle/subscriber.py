"""Reads a channel: one GET per segment, the next one opened ahead, lost connections resumed where they broke.

It neither parses the media nor waits for a source that has not come: `ChannelGone` leaves that to the caller.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from pipeline.trickle.errors import ChannelGone, SegmentRefused, TrickleConnectionError, TrickleError, TrickleTimeout
from pipeline.trickle.http1 import CONNECT_TIMEOUT_S, HttpConnection, Reply, parse_url
from pipeline.trickle.pool import ConnectionPool

MAX_RETRIES = 8
"""Failures in a row, without a byte or a quiet wait between them, before TrickleConnectionError. About 7 seconds."""

READ_BYTES = 256 * 1024

_FIRST_DELAY_S = 0.05
_MAX_DELAY_S = 2.0
# A connection that stood this long was no failure: servers with a write time-out close waiting GETs without a reply.
_QUIET_WAIT_S = 3.0
# How long a server may claim to be behind the wanted segment before we believe that the channel began anew.
_BEHIND_LIMIT_S = 2.0
_BEHIND_DELAY_S = 0.1
_STATUS_NO_SEGMENT = 470


class TrickleSubscriber:
    """A channel's reader. Segments come in order, each once; `SegmentReader.discontinuity` says where some miss."""

    def __init__(
        self,
        url: str,
        start_seq: int = -2,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        """`start_seq`: -2 is the segment being written or last written, -1 the one that comes after it.

        https is verified against the system's certificates unless a context says otherwise. Raises ValueError for a URL
        that names no channel.
        """
        self._target = parse_url(url)
        self._pool = ConnectionPool(self._target, ssl_context, connect_timeout_s)
        self._max_retries = max_retries
        self._next_seq = start_seq
        self._received = False
        self._broken_before = 0  # connections that the pool had lost when the newest segment began
        self._ended = False
        self._truncated = False
        self._ahead: asyncio.Task[SegmentReader | None] | None = None
        self._readers: set[SegmentReader] = set()

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

    async def next(self) -> "SegmentReader | None":
        """Wait for the next segment's first byte; None at the end of the stream.

        A segment without bytes carries nothing and is passed over. Raises ChannelGone if there is no such channel and
        nothing was ever read from it, or if it vanished with the connection: a server that died has lost its channels,
        and what comes under the name after that begins anew. Raises SegmentRefused for a status that trickle does not
        know here, TrickleTimeout or TrickleConnectionError when the server cannot be reached. It may be called again
        after any of them.
        """
        if self._ended:
            return None
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
        segment.discontinuity = segment.discontinuity or self._truncated
        self._truncated = False
        self._next_seq = segment.seq() + 1
        # Not earlier: until a segment has its first byte, a server knows nothing of the one after it.
        self._fetch_ahead()
        return segment

    async def close(self) -> None:
        """Drop every connection; segments still open give no more bytes."""
        self._ended = True
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        for reader in list(self._readers):
            reader.close()
        self._pool.close()

    def _fetch_ahead(self) -> "asyncio.Task[SegmentReader | None]":
        if self._ahead is None:
            self._ahead = asyncio.create_task(self._fetch(self._next_seq))
            self._ahead.add_done_callback(_retrieve)
        return self._ahead

    async def _fetch(self, seq: int) -> "SegmentReader | None":
        """The first segment from `seq` on that has a byte; None at the end of the stream."""
        retries = _Retries(self._max_retries)
        behind = _Patience(_BEHIND_LIMIT_S)
        skipped = False
        while True:
            try:
                connection, reply = await self._pool.get(self._target.join(seq))
            except (TrickleConnectionError, TrickleTimeout) as error:
                await retries.wait(error)
                continue
            if reply.status == _STATUS_NO_SEGMENT:
                await self._discard(connection)
                latest = reply.number("lp-trickle-latest")
                if latest is None:
                    await retries.wait(self._refusal(seq, reply))
                elif latest > seq or (latest + 1 < seq and (self._connection_broke or behind.exhausted())):
                    skipped = skipped or self._received
                    seq = latest
                else:
                    await asyncio.sleep(_BEHIND_DELAY_S)
                continue
            if reply.status == 404:
                connection.close()
                if self._received and not self._connection_broke:
                    return None
                if self._received:
                    self._next_seq, self._received, self._truncated = 0, False, True
                raise ChannelGone(f"GET {self._target.url(seq)}: no such channel, status 404")
            if reply.status != 200:
                connection.close()
                if reply.status < 500:
                    raise self._refusal(seq, reply)
                await retries.wait(self._refusal(seq, reply))
                continue
            try:
                first = await connection.read()
            except TrickleConnectionError as error:
                self._pool.broken += 1
                connection.close()
                await retries.wait(error)
                continue
            except asyncio.CancelledError:
                connection.close()
                raise
            actual = reply.number("lp-trickle-seq")
            seq = seq if actual is None else actual
            if first:
                self._received, self._broken_before = True, self._pool.broken
                return SegmentReader(self, seq, connection, reply, first, skipped)
            self._pool.release(connection)
            if "lp-trickle-closed" in reply.headers:
                return None
            seq, retries, behind = seq + 1, _Retries(self._max_retries), _Patience(_BEHIND_LIMIT_S)

    @property
    def _connection_broke(self) -> bool:
        """Whether a connection was lost since the newest segment began: then a server that knows nothing of the channel
        may have died meanwhile, and does not say that the stream has ended."""
        return self._pool.broken != self._broken_before

    async def _discard(self, connection: HttpConnection) -> None:
        """Read the rest of a small reply and give the connection back."""
        try:
            while await connection.read():
                pass
        except TrickleConnectionError:
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
        else:
            self._pool.release(connection)

    def _refusal(self, seq: int, reply: Reply) -> TrickleError:
        return SegmentRefused(f"GET {self._target.url(seq)}: status {reply.status}")


class SegmentReader:
    """One segment being read, live. Made by `TrickleSubscriber.next`; used by one task at a time.

    Read it to its end or close it: until then it holds a connection.
    """

    def __init__(
        self,
        subscriber: TrickleSubscriber,
        seq: int,
        connection: HttpConnection,
        reply: Reply,
        first: bytes,
        discontinuity: bool,
    ) -> None:
        self.discontinuity = discontinuity
        """Whether segments between the one before and this one were missed, or the one before was truncated."""
        self.truncated = False
        """Whether the segment ended early because the server no longer had the rest when the connection broke."""
        self.content_type = reply.headers.get("content-type", "")
        self._subscriber = subscriber
        self._seq = seq
        self._connection: HttpConnection | None = connection
        self._pending = first
        self._position = len(first)
        self._eos = False
        subscriber._readers.add(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    def seq(self) -> int:
        return self._seq

    def eos(self) -> bool:
        """Whether the channel is known to have ended with this segment."""
        return self._eos

    async def read(self, n: int = READ_BYTES) -> bytes:
        """Up to `n` bytes, as soon as there are any; b"" at the segment's end.

        A connection that breaks is made again and the read goes on at the same byte. Raises TrickleConnectionError or
        TrickleTimeout when that fails too often.
        """
        if not self._pending:
            self._pending = await self._receive()
        if len(self._pending) <= n:
            data, self._pending = self._pending, b""
        else:
            data, self._pending = self._pending[:n], self._pending[n:]
        return data

    def close(self) -> None:
        """Read no more of it. The connection is dropped, for the rest of the segment would still come over it."""
        if self._connection is not None:
            self._connection.close()
        self._finish()

    async def _receive(self) -> bytes:
        if self._connection is None:
            return b""
        try:
            data = await self._connection.read()
        except TrickleConnectionError as error:
            self._subscriber._pool.broken += 1
            self._connection.close()
            data = await self._resume(error)
        self._position += len(data)
        if not data and self._connection is not None:
            self._subscriber._pool.release(self._connection)
            self._finish()
        return data

    async def _resume(self, error: TrickleError) -> bytes:
        """Ask for the segment again and pass over what was had; the first new bytes, or b"" if there are none."""
        subscriber = self._subscriber
        retries = _Retries(subscriber._max_retries)
        while True:
            await retries.wait(error)
            try:
                connection, reply = await subscriber._pool.get(subscriber._target.join(self._seq))
            except (TrickleConnectionError, TrickleTimeout) as again:
                error = again
                continue
            self._connection = connection
            try:
                if reply.status < 500:
                    return await self._continue(connection, reply)
                error = subscriber._refusal(self._seq, reply)
            except TrickleConnectionError as again:
                error = again
            connection.close()

    async def _continue(self, connection: HttpConnection, reply: Reply) -> bytes:
        if reply.status != 200 or reply.number("lp-trickle-seq") not in (None, self._seq):
            return self._truncate(reply)
        skip = self._position
        while data := await connection.read():
            if len(data) > skip:
                return data[skip:]
            skip -= len(data)
        return self._truncate(reply) if skip else b""

    def _truncate(self, reply: Reply) -> bytes:
        self.truncated = True
        self._subscriber._truncated = True
        self._eos = reply.status == 404 or "lp-trickle-closed" in reply.headers
        self.close()
        return b""

    def _finish(self) -> None:
        self._connection = None
        self._subscriber._readers.discard(self)


class _Retries:
    """Waits between failures in a row, each longer than the last, and gives up after so many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._since = asyncio.get_running_loop().time()

    async def wait(self, error: TrickleError) -> None:
        """Wait before the next attempt, or raise `error` when there were enough."""
        loop = asyncio.get_running_loop()
        if not isinstance(error, TrickleTimeout) and loop.time() - self._since > _QUIET_WAIT_S:
            self._count = 0
        if self._count >= self._limit:
            raise error
        await asyncio.sleep(min(_FIRST_DELAY_S * 2**self._count, _MAX_DELAY_S))
        self._count += 1
        self._since = loop.time()


class _Patience:
    """A limit in seconds that begins with its first use."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: float | None = None

    def exhausted(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
        return now - self._since > self._limit_s


def _retrieve(task: "asyncio.Task[SegmentReader | None]") -> None:
    if not task.cancelled():
        task.exception()
