"""Ours, as our own egress uses it (`TrickleSink`): while one segment is written the one before is being confirmed."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Self

from pipeline.trickle import SegmentWriter, TricklePublisher, TrickleSubscriber

VERSIONED = ("livepipe", "h11")


class Publisher:
    def __init__(self, url: str) -> None:
        self._publisher = TricklePublisher(url)
        self._segment: SegmentWriter
        self._confirming: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Readers may be behind: the channel stays."""
        if self._confirming is not None:
            await self._confirming
        await self._publisher.close(delete=False)

    async def begin(self) -> None:
        self._segment = await self._publisher.next()

    async def write(self, data: bytes) -> None:
        await self._segment.write(data)

    async def end(self) -> None:
        if self._confirming is not None:
            await self._confirming
        self._confirming = asyncio.create_task(self._segment.close())


async def segments(url: str) -> AsyncIterator[AsyncIterable[bytes]]:
    """Every segment from number 0 to the end of the stream, each as its bytes come."""
    async with TrickleSubscriber(url, 0) as subscriber:
        while (segment := await subscriber.next()) is not None:
            yield segment
