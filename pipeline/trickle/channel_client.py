"""What the writer of a channel asks of its server, and what each reply means.

Which segment comes next is not its matter. The POST of a segment is begun here and belongs to whoever began it.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pipeline.trickle.errors import AccessDenied, ChannelGone, SegmentRefused, TrickleError
from pipeline.trickle.http1 import Headers, HttpConnection
from pipeline.trickle.pool import ConnectionPool
from pipeline.trickle.response import Reply
from pipeline.trickle.statuses import BUSY_STATUSES, DENIED_STATUSES, STATUS_NO_SEGMENT
from pipeline.trickle.target import Target

BUSY_DELAYS_S = (0.0, 0.2, 1.0, 3.0)
"""The waits before each attempt at a request while the server is too busy for it."""

# A server without /next takes the word for a number (400), or knows no such path for a GET (405).
_NO_NEXT_STATUSES = (400, 405)
# No server holds this segment, so a GET of it is answered 470 at once, and a 470 names the next sequence number.
_NO_SUCH_SEQ = 2**31 - 1
_RESET = ("Lp-Trickle-Reset", "1")

T = TypeVar("T")


class ChannelClient:
    """The requests of one channel's writer.

    All raise AccessDenied for 401 and 403, SegmentRefused for any other status that trickle does not know there, also
    for 429 and 503 when they do not pass, and TrickleTimeout or TrickleConnectionError when the server cannot be asked.
    """

    def __init__(self, target: Target, content_type: str, pool: ConnectionPool, reply_timeout_s: float) -> None:
        self.target = target
        self.pool = pool
        self.reply_timeout_s = reply_timeout_s
        self.knows_next = True
        """Whether the server answers /next, as far as it was asked. One that does not knows no reset header either."""
        self._content_type = content_type

    async def create(self) -> None:
        """Create the channel; no harm if it exists. Raises ChannelGone where clients may not create it."""
        reply, text = await self._ask("POST", headers=[("Expect-Content", self._content_type)])
        if reply.status != 200:
            raise self.refusal("POST", reply, text)

    async def next_seq(self) -> int | None:
        """The server's next number; None if it has no such channel."""
        reply, text = await self._ask("GET", "next")
        self.knows_next = reply.status not in _NO_NEXT_STATUSES
        if not self.knows_next:
            reply, text = await self._ask("GET", _NO_SUCH_SEQ)
        if reply.status == 404 or "lp-trickle-closed" in reply.headers:
            return None
        latest = reply.number("lp-trickle-latest")
        if latest is None and text.isascii() and text.isdigit():
            latest = int(text)
        if latest is None or reply.status not in (200, STATUS_NO_SEGMENT):
            raise self.refusal("GET", reply, text)
        return latest

    async def close_segment(self, seq: int) -> bool:
        """End a segment for those who read it; False if the server has none of that number."""
        reply, _ = await self._ask("DELETE", seq)
        return reply.status == 200

    async def remove(self) -> None:
        """End the stream. No harm if the channel is gone, which servers answer with 400 or 404."""
        reply, text = await self._ask("DELETE")
        if reply.status not in (200, 400, 404):
            raise self.refusal("DELETE", reply, text)

    async def post(self, seq: int, *, reset: bool = False) -> HttpConnection:
        """Put the head of a segment's POST on the wire. `reset` ends all lower segments."""
        headers: Headers = [("Content-Type", self._content_type), *([_RESET] if reset else [])]
        connection = await self.pool.acquire()
        try:
            await connection.start_post(self.target.join(seq), headers)
        except BaseException:
            connection.close()
            raise
        return connection

    async def while_taken(self, connection: HttpConnection, work: Coroutine[Any, Any, T]) -> T:
        """Wait for what is being sent over `connection`, or for the reply to it, as long as the server takes bytes.

        Raises TimeoutError after `reply_timeout_s` seconds in which it has taken none and `work` is not done: a link
        may be as slow as it likes, a server may not be silent.
        """
        task = asyncio.ensure_future(work)
        try:
            untaken = connection.untaken
            while not (await asyncio.wait({task}, timeout=self.reply_timeout_s))[0]:
                before, untaken = untaken, connection.untaken
                if untaken >= before:
                    raise TimeoutError
            return task.result()
        finally:
            task.cancel()

    def refusal(self, method: str, reply: Reply, text: str = "", seq: int | None = None) -> TrickleError:
        """What a reply means that is not the wanted one. `text` is the server's own explanation."""
        kind: type[TrickleError] = SegmentRefused
        meaning = "refused"
        if reply.status in DENIED_STATUSES:
            kind, meaning = AccessDenied, "access denied"
        elif reply.status == 404 or "lp-trickle-closed" in reply.headers:
            kind, meaning = ChannelGone, "the channel is gone"
        where = self.target.url(*([] if seq is None else [seq]))
        return kind(f"{method} {where}: {meaning}, status {reply.status} {text}".rstrip())

    async def _ask(self, method: str, *parts: str | int, headers: Headers = ()) -> tuple[Reply, str]:
        for delay in BUSY_DELAYS_S:
            await asyncio.sleep(delay)
            reply, text = await self.pool.call(method, self.target.join(*parts), headers)
            if reply.status not in BUSY_STATUSES:
                break
        if reply.status in (*BUSY_STATUSES, *DENIED_STATUSES):
            raise self.refusal(method, reply, text)
        return reply, text
