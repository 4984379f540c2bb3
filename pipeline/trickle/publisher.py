"""Writes a channel: one chunked POST per segment, the next one opened ahead.

It neither cuts the media into segments nor lives outside an event loop; `sink` serves synchronous callers.
"""

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self

from pipeline.trickle.errors import (
    ChannelGone,
    SegmentRefused,
    TrickleConnectionError,
    TrickleError,
    TrickleTimeout,
)
from pipeline.trickle.http1 import CONNECT_TIMEOUT_S, Buffer, HttpConnection, Reply, parse_url
from pipeline.trickle.pool import REPLY_TIMEOUT_S, ConnectionPool

MAX_RETRY_BYTES = 8 * 1024 * 1024
"""How much of each open segment is kept in memory, to be sent again when the server got none of it."""

RETRY_DELAYS_S = (0.0, 0.2, 1.0)
"""The waits before each attempt to send a segment again."""

# No server holds this segment, so a GET of it is answered 470 at once, and a 470 names the next sequence number.
_NO_SUCH_SEQ = 2**31 - 1
_RESET = ("Lp-Trickle-Reset", "1")


class TricklePublisher:
    """A channel's writer.

    Segments are numbered from 0, or from where the server is after `resume`. The POST of segment N+1 is on the wire,
    head only, as soon as N begins, so that a change of segment costs no round trip and the server can refuse ahead.

    What is lost is said, and nothing is sent twice. A server that got part of a segment appends whatever is POSTed to
    the same number again, as go-livepeer's does, and it does not tell how much it has. So a segment whose connection
    broke is sent again only if the server's next number shows that not one byte of it had arrived, and if it is still
    in memory (`max_retry_bytes`); else the write raises, and the next segment takes a number that is free. One failed
    segment leaves the others alone.
    """

    def __init__(
        self,
        url: str,
        content_type: str = "video/MP2T",
        *,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        max_retry_bytes: int = MAX_RETRY_BYTES,
    ) -> None:
        """`url` is the channel's; https is verified against the system's certificates unless a context says otherwise.

        Raises ValueError for a URL that names no channel.
        """
        self.max_retry_bytes = max_retry_bytes
        self._target = parse_url(url)
        self._content_type = content_type
        self._pool = ConnectionPool(self._target, ssl_context, connect_timeout_s)
        self._lock = asyncio.Lock()
        self._next_seq = 0
        self._reset = False
        self._open: set[SegmentWriter] = set()
        self._lost: set[int] = set()
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

        Raises ChannelGone where it does not exist and clients may not create it, SegmentRefused for any other refusal,
        TrickleTimeout or TrickleConnectionError when the server cannot be asked.
        """
        headers = [("Expect-Content", self._content_type)]
        reply, text = await self._pool.call("POST", self._target.join(), headers)
        if reply.status != 200:
            raise self._refusal(f"POST {self._target.url()}", reply, text)

    async def resume(self) -> int:
        """Go on where the server is, and free readers that hang on segments of a publisher that died.

        Creates the channel if need be. Returns the number of the next segment; raises as `create` does.
        """
        async with self._lock:
            self._drop_ahead()
            self._lost.clear()
            latest = await self._ask_next()
            if latest is None:
                await self.create()
                # Not every server answers /next, and one without it does not know the reset header either.
                latest = await self._probe_next() or 0
                if latest:
                    await self._pool.call("DELETE", self._target.join(latest - 1))
            self._next_seq = latest
            self._reset = True
            return latest

    async def next(self) -> "SegmentWriter":
        """Begin the next segment. Earlier ones may still be open; each has a connection of its own.

        Raises ChannelGone, SegmentRefused, TrickleTimeout or TrickleConnectionError; it may be called again after any.
        """
        async with self._lock:
            if self._lost:
                await self._recover()
            connection = await self._take_ahead() or await self._start(self._next_seq)
            segment = SegmentWriter(self, self._next_seq, connection)
            self._open.add(segment)
            self._next_seq += 1
            self._ahead = asyncio.create_task(self._start(self._next_seq))
            self._ahead.add_done_callback(_retrieve)
            return segment

    async def close(self, *, delete: bool = True) -> None:
        """Finish open segments, release the POST opened ahead, and remove the channel if `delete`.

        Raises the first failure of an open segment, after everything has been released. A server that is gone by now is
        no failure: there is no channel left to remove. Again is no harm.
        """
        if self._finished:
            return
        self._finished = True
        try:
            results = await asyncio.gather(*[segment.close() for segment in self._open], return_exceptions=True)
            with contextlib.suppress(TrickleError):
                await self._end_ahead()
            if delete:
                with contextlib.suppress(TrickleConnectionError, TrickleTimeout):
                    await self._pool.call("DELETE", self._target.join())
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

    async def _start(self, seq: int) -> HttpConnection:
        headers = [("Content-Type", self._content_type)]
        if self._reset:
            headers.append(_RESET)
        connection = await self._pool.acquire()
        try:
            await connection.start_post(self._target.join(seq), headers)
        except BaseException:
            connection.close()
            raise
        self._reset = False
        return connection

    async def _take_ahead(self) -> HttpConnection | None:
        """The POST opened ahead if it still stands; otherwise None, and `_next_seq` is a number worth a new POST."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        try:
            connection = await ahead
        except TrickleError:
            return None
        if not connection.lost:
            return connection
        reply = connection.early_reply
        connection.close()
        if reply is None or reply.status >= 500:
            # A server's read time-out or a lost connection: nothing had been sent, the number is still good.
            return None
        if reply.status == 404 or "lp-trickle-closed" in reply.headers:
            raise self._refusal(f"POST {self._target.url(self._next_seq)}", reply)
        # The segment was closed under us (dropped, evicted, or written by someone else): it would take nothing.
        self._next_seq = max(await self._ask_next() or 0, self._next_seq + 1)
        return None

    async def _end_ahead(self) -> None:
        """End the POST opened ahead with no bytes and wait for its reply.

        Waiting matters: a POST that reached the server after the channel's DELETE would create the channel anew.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        connection = await ahead
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                await connection.finish_post()
        except TimeoutError as error:
            raise TrickleTimeout(f"POST {self._target.url()}: no reply within {REPLY_TIMEOUT_S:g} s") from error
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
        """After a lost segment: close what the server has of it, for readers wait on it, and find a free number."""
        for seq in sorted(self._lost):
            await self._pool.call("DELETE", self._target.join(seq))
        latest = await self._ask_next()
        if latest is None:
            latest = await self._probe_next()
        if latest is None:
            raise ChannelGone(f"POST {self._target.url(self._next_seq)}: the channel is gone")
        # The server is behind what it had already taken: it has lost the channel and began anew.
        restarted = latest < min(self._lost) and not self._open
        seq = latest if restarted else max(latest, self._next_seq)
        if seq != self._next_seq:
            self._drop_ahead()
        self._next_seq = seq
        self._lost.clear()

    async def _ask_next(self) -> int | None:
        """The server's next number; None if it has no such channel or does not answer the question."""
        reply, text = await self._pool.call("GET", self._target.join("next"))
        if reply.status != 200 or "lp-trickle-closed" in reply.headers:
            return None
        latest = reply.number("lp-trickle-latest")
        if latest is not None:
            return latest
        return int(text) if text.isascii() and text.isdigit() else None

    async def _probe_next(self) -> int | None:
        """The same from a server without /next; None if it has no such channel."""
        reply, _ = await self._pool.call("GET", self._target.join(_NO_SUCH_SEQ))
        return reply.number("lp-trickle-latest")

    async def _send_again(self, seq: int, kept: list[bytes]) -> HttpConnection:
        """A new POST of `seq` with everything it held so far."""
        connection = await self._start(seq)
        try:
            for data in kept:
                await connection.write_chunk(data)
        except BaseException:
            connection.close()
            raise
        return connection

    def _settle(self, segment: "SegmentWriter", *, lost: bool) -> None:
        self._open.discard(segment)
        if lost:
            self._lost.add(segment.seq())

    def _refusal(self, what: str, reply: Reply, text: str = "") -> TrickleError:
        gone = reply.status == 404 or "lp-trickle-closed" in reply.headers
        message = f"{what}: {'the channel is gone' if gone else 'refused'}, status {reply.status} {text}"
        return (ChannelGone if gone else SegmentRefused)(message.rstrip())


class SegmentWriter:
    """One segment being written. Made by `TricklePublisher.next`; used by one task at a time."""

    def __init__(self, publisher: TricklePublisher, seq: int, connection: HttpConnection) -> None:
        self._publisher = publisher
        self._seq = seq
        self._connection = connection
        self._kept: list[bytes] | None = []
        self.size = 0
        """Bytes handed to `write` so far."""
        self._closed = False
        self._error: TrickleError | None = None

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
        return self._seq

    async def write(self, data: Buffer) -> None:
        """Send bytes; returns when the buffers below have room again.

        Raises ChannelGone, SegmentRefused or TrickleConnectionError once the segment is lost, and the same again on
        every later call; ValueError after `close`.
        """
        if self._error is not None:
            raise self._error
        if self._closed:
            raise ValueError(f"segment {self._seq} is closed")
        self._keep(data)
        try:
            await self._connection.write_chunk(data)
        except TrickleConnectionError as error:
            await self._retry(error)

    async def close(self) -> None:
        """End the segment and wait until the server has confirmed it. Raises as `write` does; again is no harm."""
        if self._error is not None:
            raise self._error
        if self._closed:
            return
        self._closed = True
        try:
            reply = await self._connection.finish_post()
        except TrickleConnectionError as error:
            await self._retry(error)
            try:
                reply = await self._connection.finish_post()
            except TrickleConnectionError as again:
                raise self._fail(again) from again
        # A server that had closed the segment takes nothing and still answers 200: this header alone tells.
        if reply.status != 200 or (self.size and reply.closes):
            raise self._fail(self._refusal(reply))
        self._kept = None
        self._publisher._settle(self, lost=False)
        self._publisher._pool.release(self._connection)

    def abort(self) -> None:
        """Drop the connection: the segment stays unfinished on the server. Nothing to do once it is closed."""
        if self not in self._publisher._open:
            return
        self._closed = True
        self._kept = None
        self._connection.close()
        self._publisher._settle(self, lost=True)

    def _keep(self, data: Buffer) -> None:
        self.size += len(data)
        if self._kept is None:
            return
        if self.size > self._publisher.max_retry_bytes:
            self._kept = None
        else:
            self._kept.append(bytes(data))

    async def _retry(self, error: TrickleError) -> None:
        early = self._connection.early_reply
        self._connection.close()
        if early is not None:
            raise self._fail(self._refusal(early)) from error
        for delay in RETRY_DELAYS_S if self._may_be_sent_again() else ():
            await asyncio.sleep(delay)
            try:
                if await self._publisher._ask_next() != self._seq:
                    break  # the server took a part of it, or it has lost the channel
                self._connection = await self._publisher._send_again(self._seq, self._kept or [])
                return
            except TrickleError as again:
                error = again
        raise self._fail(error) from error

    def _may_be_sent_again(self) -> bool:
        """A server that says 0 either got nothing of segment 0, or died with it and began anew: then readers have had
        what earlier writes brought, and must not get it twice."""
        return self._kept is not None and (self._seq > 0 or len(self._kept) <= 1)

    def _refusal(self, reply: Reply) -> TrickleError:
        return self._publisher._refusal(f"POST {self._publisher._target.url(self._seq)}", reply)

    def _fail(self, error: TrickleError) -> TrickleError:
        self._error = error
        self._kept = None
        self._connection.close()
        self._publisher._settle(self, lost=True)
        return error


def _retrieve(task: asyncio.Task[HttpConnection]) -> None:
    if not task.cancelled():
        task.exception()
