"""pytrickle, as its StreamProcessor uses it (`media.py`: `run_publish`, `_subscribe`). Runs in its own interpreter.

Its writer never waits: `write` only puts the chunk on a queue without a bound, so without the yields here nothing would
be sent at all. Its StreamProcessor yields too, for it reads what it writes from a pipe.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator
from typing import Self

from pytrickle.publisher import SegmentWriter, TricklePublisher
from pytrickle.subscriber import Segment, TrickleSubscriber

VERSIONED = ("pytrickle", "aiohttp")

POLL_S = 0.02
SETTLE_S = 0.5
"""From the last chunk's leaving its queue to `close`, which cancels what is still under way and says nothing."""

logging.getLogger("pytrickle").addHandler(logging.NullHandler())
# Each POST that its `close` cancels leaves a traceback of aiohttp's here.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)


class Publisher:
    def __init__(self, url: str) -> None:
        self._publisher = TricklePublisher(url, "video/mp2t")
        self._segments: list[SegmentWriter] = []

    async def __aenter__(self) -> Self:
        await self._publisher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Its `close` does not wait for what was written, so this does; the channel stays."""
        while any(segment.queue and segment.queue.qsize() for segment in self._segments):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        await asyncio.sleep(SETTLE_S)
        await self._publisher.close()

    async def begin(self) -> None:
        self._segments.append(await self._publisher.next())

    async def write(self, data: bytes) -> None:
        await self._segments[-1].write(data)
        await asyncio.sleep(0)

    async def end(self) -> None:
        await self._segments[-1].close()


async def segments(url: str) -> AsyncIterator[AsyncIterable[bytes]]:
    """Every segment from number 0 to the end of the stream, each as its bytes come."""
    async with TrickleSubscriber(url, 0) as subscriber:
        while segment := await subscriber.next():
            yield _chunks(segment)


async def _chunks(segment: Segment) -> AsyncIterator[bytes]:
    while chunk := await segment.read():
        yield chunk
    await segment.close()
