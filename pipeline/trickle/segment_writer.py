"""One segment being written: a chunked POST, and what becomes of its bytes when the connection breaks.

Which number it has, and which one comes next, is the publisher's matter.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pipeline.trickle.channel_client import ChannelClient
from pipeline.trickle.errors import AccessDenied, TrickleConnectionError, TrickleError, TrickleTimeout
from pipeline.trickle.http1 import Buffer, HttpConnection
from pipeline.trickle.response import Reply
from pipeline.trickle.statuses import BUSY_STATUSES

RETRY_DELAYS_S = (0.0, 0.2, 1.0)
"""The waits before each attempt to send a segment again."""

SETTLE_S = 0.2
"""How long after a connection broke its last bytes may still come to the server, by way of a proxy."""

PIECE_COST_BYTES = 64
"""What a piece that is kept takes in memory besides its bytes, so that many tiny ones cannot hide."""


class SegmentWriter:
    """Made by `TricklePublisher.next`; used by one task at a time.

    Nothing is sent twice. A server that has a part of a segment appends whatever is POSTed to the same number again, as
    go-livepeer's does, and tells nobody how much it has. So a segment whose connection broke is sent again, whole, only
    if it is known that no server has had one byte of it:

    - either none was put on the wire yet;
    - or the server's next number, which the first byte of a segment moves on, is still the segment's own, now and
      `SETTLE_S` later. That proves nothing for segment 0, for a server that has lost its memory says 0 as well, nor
      once a lower segment was begun after this one, which moves the number back.

    Else, and when it is no longer kept, the write raises, and again on every later call.
    """

    def __init__(
        self,
        client: ChannelClient,
        seq: int,
        connection: HttpConnection,
        max_retry_bytes: int,
        on_begin: "Callable[[SegmentWriter], None]",
        on_end: "Callable[[SegmentWriter], None]",
    ) -> None:
        """`on_begin` is told before the first byte is sent, or the end without one; `on_end` when it is over."""
        self.size = 0
        """Bytes handed to `write` so far."""
        self.begun = False
        """Whether a server may have had a byte of it."""
        self.overtaken = False
        """Whether a lower segment was begun after this one."""
        self.confirmed = False
        """Whether the server has said that it has the whole segment."""
        self.error: TrickleError | None = None
        """Why it is lost."""
        self._client = client
        self._seq = seq
        self._connection = connection
        self._max_retry_bytes = max_retry_bytes
        self._on_begin = on_begin
        self._on_end = on_end
        self._kept: list[bytes] | None = []
        self._kept_cost = 0
        self._closed = False
        self._over = False

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

    @property
    def connected(self) -> bool:
        """Whether its connection still stands, as far as is known."""
        return not self._connection.lost

    async def write(self, data: Buffer) -> None:
        """Send bytes; returns when the buffers below have room again.

        Raises AccessDenied, ChannelGone, SegmentRefused, TrickleTimeout or TrickleConnectionError once the segment is
        lost, and the same again on every later call; ValueError after `close`.
        """
        if self.error is not None:
            raise self.error
        if self._closed:
            raise ValueError(f"segment {self._seq} is closed")
        if not data:
            return
        self._keep(data)
        # Over a connection that was lost before, nothing is sent.
        if not self.begun and self.connected:
            self._begin()
        try:
            await self._connection.write_chunk(data)
        except TrickleConnectionError as error:
            await self._send_again(error)

    async def close(self) -> None:
        """End the segment and wait until the server has confirmed it. Again is no harm.

        Raises as `write` does. TrickleTimeout: the server has taken nothing more of it, and has not replied, for as
        long as a reply may take. Whether it has the whole segment is then unknown, as when the connection breaks here.
        """
        if self.error is not None:
            raise self.error
        if self._closed:
            return
        self._closed = True
        try:
            reply = await self._finish()
        except asyncio.CancelledError:
            self._fail(TrickleConnectionError(f"{self._what}: given up before it was confirmed"))
            raise
        # A server that had closed the segment takes nothing and still answers 200: this header alone tells.
        if reply.status != 200 or (self.size and reply.closes):
            raise self._fail(self._refusal(reply))
        self.confirmed = True
        self._end()
        self._client.pool.release(self._connection)

    def abort(self) -> None:
        """Drop the connection: the segment stays unfinished on the server. Nothing to do once it is over."""
        if self._over:
            return
        self._closed = True
        self._connection.close()
        self._end()

    @property
    def _what(self) -> str:
        return f"POST {self._client.target.url(self._seq)}"

    def _keep(self, data: Buffer) -> None:
        self.size += len(data)
        if self._kept is None:
            return
        self._kept_cost += len(data) + PIECE_COST_BYTES
        if self._kept_cost > self._max_retry_bytes:
            self._kept = None
        else:
            self._kept.append(bytes(data))

    def _begin(self) -> None:
        self.begun = True
        self._on_begin(self)

    async def _finish(self) -> Reply:
        """End the body, over a second connection if need be. Raises when the segment is lost by that."""
        if not self.size:
            self._on_begin(self)
        try:
            try:
                return await self._client.while_taken(self._connection, self._connection.finish_post())
            except TrickleConnectionError as error:
                await self._send_again(error)
                return await self._client.while_taken(self._connection, self._connection.finish_post())
        except TimeoutError as error:
            limit = self._client.reply_timeout_s
            raise self._fail(TrickleTimeout(f"{self._what}: not confirmed within {limit:g} s of its end")) from error
        except TrickleConnectionError as error:
            if self.error is not None:
                raise
            raise self._fail(self._cause(error)) from error

    async def _send_again(self, error: TrickleError) -> None:
        """Bring everything so far to the server over another connection, or raise what became of the segment."""
        early = self._connection.early_reply
        self._connection.close()
        error = self._cause(error)
        if early is None or _may_pass(early):
            for delay in RETRY_DELAYS_S:
                await asyncio.sleep(delay)
                try:
                    if not await self._nothing_arrived():
                        break
                    await self._post_again()
                    return
                except AccessDenied as denied:
                    raise self._fail(denied) from denied
                except TrickleError as again:
                    error = self._cause(again)
                except TimeoutError:
                    error = TrickleTimeout(f"{self._what}: the server takes nothing of it")
        raise self._fail(error)

    async def _nothing_arrived(self) -> bool:
        """Whether it is known that no server has had a byte of the segment, and this one can take it whole."""
        if self._kept is None or self.overtaken or (self.begun and self._seq == 0):
            return False
        latest = await self._client.next_seq() or 0
        if not self.begun:
            # A server that says 0 has lost its memory: numbers begin anew, and this one's readers would wait at 0.
            return latest <= self._seq and bool(latest or not self._seq)
        await asyncio.sleep(SETTLE_S)
        return latest == self._seq == await self._client.next_seq()

    async def _post_again(self) -> None:
        self._connection = connection = await self._client.post(self._seq)
        if self._kept and not self.begun:
            self._begin()
        try:
            for data in self._kept or []:
                await self._client.while_taken(connection, connection.write_chunk(data))
        except BaseException:
            connection.close()
            raise

    def _cause(self, error: TrickleError) -> TrickleError:
        """What the server said, if that is why the connection was lost."""
        early = self._connection.early_reply
        return error if early is None else self._refusal(early)

    def _refusal(self, reply: Reply) -> TrickleError:
        return self._client.refusal("POST", reply, seq=self._seq)

    def _fail(self, error: TrickleError) -> TrickleError:
        self.error = error
        self._connection.close()
        self._end()
        return error

    def _end(self) -> None:
        self._kept = None
        if not self._over:
            self._over = True
            self._on_end(self)


def _may_pass(reply: Reply) -> bool:
    """Whether a reply tells of the server, or of a time that is over, and not of the segment."""
    return reply.status in (*BUSY_STATUSES, 408) or reply.status >= 500
