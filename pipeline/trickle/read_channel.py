"""What the segments of one channel's reader share: the connections, what was had last, and which stream it was of."""

import asyncio
from collections import deque

from pipeline.trickle.errors import AccessDenied, SegmentRefused, TrickleConnectionError, TrickleError
from pipeline.trickle.http1 import HttpConnection
from pipeline.trickle.pool import REPLY_TIMEOUT_S, ConnectionPool
from pipeline.trickle.response import Reply
from pipeline.trickle.seen import Seen
from pipeline.trickle.statuses import BUSY_STATUSES, DENIED_STATUSES
from pipeline.trickle.target import Target

# The newest may have no byte yet, and may be the one in doubt.
_KEPT = 3


class Answer:
    """What came of a GET: `connection` is there if and only if the segment has a byte, and belongs to who asked."""

    def __init__(self, reply: Reply, connection: HttpConnection | None, text: str) -> None:
        self.reply = reply
        self.connection = connection
        self.text = text

    @property
    def is_end(self) -> bool:
        """Whether the server says that the stream has ended."""
        return "lp-trickle-closed" in self.reply.headers

    @property
    def may_pass(self) -> bool:
        """Whether the server may answer otherwise soon."""
        return self.reply.status >= 500 or self.reply.status in BUSY_STATUSES


class ReadChannel:
    """One for each subscriber."""

    def __init__(self, target: Target, pool: ConnectionPool, max_retries: int) -> None:
        self.pool = pool
        self.max_retries = max_retries
        self.stream = 0
        """How often the channel was found to have begun anew."""
        self.cut = False
        """Whether bytes are missing between what was read last and the next segment."""
        self.had: deque[Seen] = deque(maxlen=_KEPT)
        """The newest segments, in order."""
        self.ended_after: int | None = None
        """The last segment of a stream that has ended."""
        self._target = target
        self._broken_before = 0

    async def ask(self, seq: int) -> Answer:
        """GET a segment and wait, without a limit, for its first byte.

        Raises TrickleConnectionError or TrickleTimeout when the server cannot be asked.
        """
        connection, reply = await self.pool.get(self._target.join(seq))
        try:
            if reply.status == 200 and await connection.has_body():
                return Answer(reply, connection, "")
        except BaseException:
            connection.close()
            raise
        return Answer(reply, None, await self.pool.finish(connection))

    @property
    def connection_broke(self) -> bool:
        """Whether a connection was lost since the stream was last known to be the same: then a server that knows
        nothing of it may have died meanwhile, and does not say that it has ended."""
        return self.pool.broken != self._broken_before

    def trust(self, broken: int | None = None) -> None:
        """The stream is the one that was read before, as of when so many connections were `broken` (default: now)."""
        self._broken_before = self.pool.broken if broken is None else broken

    def begin_anew(self) -> None:
        """The server has another stream under the channel's name."""
        self.stream += 1
        self.cut = True
        self.had.clear()
        self.trust()

    async def is_same_stream(self, *, but: int | None = None) -> bool | None:
        """Whether the server still has the newest segment that was had, other than number `but`. None if that cannot be
        told: none was had, or it is too old to be kept.

        Raises TrickleConnectionError or TrickleTimeout.
        """
        seen = next((seen for seen in reversed(self.had) if seen.size and seen.seq != but), None)
        if seen is None:
            return None
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                answer = await self.ask(seen.seq)
        except TimeoutError:
            return False  # It waits for this segment to begin.
        if answer.connection is None:
            latest = answer.reply.number("lp-trickle-latest")
            return None if latest is not None and latest > seen.seq else False
        try:
            return await seen.passes(answer.connection)
        finally:
            answer.connection.close()

    def refusal(self, seq: int, answer: Answer) -> TrickleError:
        kind = AccessDenied if answer.reply.status in DENIED_STATUSES else SegmentRefused
        return kind(f"GET {self.url(seq)}: status {answer.reply.status} {answer.text}".rstrip())

    def lost(self, seq: int, reason: str) -> TrickleConnectionError:
        return TrickleConnectionError(f"GET {self.url(seq)}: {reason}")

    def url(self, seq: int) -> str:
        return self._target.url(seq)
