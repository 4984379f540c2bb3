"""Plays a media file into a trickle channel in real time, as a camera's encoder would."""

import asyncio
import time

from pipeline import log
from pipeline.channel_address import ChannelAddress
from pipeline.media.file_source import TsFileSource
from pipeline.memory.stage_stats import StageStats, Word
from pipeline.trickle.errors import AccessDenied, TrickleError
from pipeline.trickle.publisher import TricklePublisher
from pipeline.trickle.segment_writer import SegmentWriter


async def publish_live(path: str, channel: ChannelAddress, stats: StageStats, stopping: asyncio.Event) -> None:
    """Publish `path` from its start, every access unit when it is due, and end the channel after the last.

    When the connection is lost, so is the rest of the segment; the next one tries again, in a new channel if the server
    has lost its own. Raises MediaFileError for a file that cannot be used, TrickleError when the channel cannot be
    written at the very start, WorkerRefused if the server does not let us.
    """
    try:
        await _publish(TsFileSource(path), channel, stats, stopping)
    except AccessDenied as denied:
        raise channel.refusal(denied) from denied


async def _publish(source: TsFileSource, channel: ChannelAddress, stats: StageStats, stopping: asyncio.Event) -> None:
    async with TricklePublisher(channel.url, token=channel.token, ssl_context=channel.ssl_context) as publisher:
        await publisher.create()
        await publisher.resume()
        writer: SegmentWriter | None = None
        lost = -1
        began = time.monotonic()
        for chunk in source:
            if await _stopped_before(began + chunk.pts_seconds, stopping):
                break
            if chunk.segment_index == lost:
                continue
            try:
                if writer is None:
                    writer = await publisher.next()
                    stats.add(Word.UNITS_IN)
                await writer.write(chunk.data)
                stats.add(Word.BYTES_OUT, len(chunk.data))
                if chunk.last:
                    await writer.close()
                    stats.out()
                    writer = None
            except AccessDenied:
                raise
            except TrickleError as error:
                writer, lost = None, chunk.segment_index
                stats.add(Word.SEGMENTS_LOST)
                log.warning("publisher.segment_lost", url=channel.url, segment=lost, error=error)


async def _stopped_before(due: float, stopping: asyncio.Event) -> bool:
    """Wait until `due` on the monotonic clock; True when told to stop before."""
    try:
        async with asyncio.timeout(max(0.0, due - time.monotonic())):
            await stopping.wait()
    except TimeoutError:
        return False
    return True
