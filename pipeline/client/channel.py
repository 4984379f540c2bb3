"""A channel of a stream as the client has it: where it is, what opens it, and its segments over breaks and absences."""

import asyncio
import ssl
from collections.abc import AsyncGenerator

import msgspec

from pipeline.client.errors import ChannelUnavailable
from pipeline.trickle.errors import AccessDenied, TrickleError
from pipeline.trickle.segment_reader import SegmentReader
from pipeline.trickle.subscriber import TrickleSubscriber

RETRY_S = 0.1
"""Between two looks for a channel that is not there."""


class Channel(msgspec.Struct, frozen=True):
    """`ssl_context` None: the system's authorities are trusted."""

    url: str
    token: str | None = None
    ssl_context: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        """Without the token: it must not get into a log."""
        return f"Channel({self.url!r})"

    def unavailable(self, error: TrickleError) -> ChannelUnavailable:
        if isinstance(error, AccessDenied):
            hint = "give another media_token" if self.token else "give a media_token"
            return ChannelUnavailable(f"{error}; {hint}")
        return ChannelUnavailable(f"{error}; is a trickle server there, and is this its port?")


async def segments(channel: Channel, start_seq: int, patience_s: float) -> AsyncGenerator[SegmentReader]:
    """The channel's segments from `start_seq` on, until its stream ends; see TrickleSubscriber.

    A channel that is not there, or no longer, is waited for. Raises ChannelUnavailable when that takes longer than
    `patience_s`, or when it may not be read.
    """
    loop = asyncio.get_running_loop()
    async with TrickleSubscriber(
        channel.url, start_seq, token=channel.token, ssl_context=channel.ssl_context
    ) as subscriber:
        since = loop.time()
        while True:
            try:
                segment = await subscriber.next()
            except AccessDenied as denied:
                raise channel.unavailable(denied) from denied
            except TrickleError as error:
                if loop.time() - since >= patience_s:
                    raise channel.unavailable(error) from error
                await asyncio.sleep(RETRY_S)
                continue
            if segment is None:
                return
            yield segment
            since = loop.time()
