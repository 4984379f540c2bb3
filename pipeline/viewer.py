"""Watches a channel as a viewer would and keeps what it saw: an mp4, and a still beside the source's same moment."""

import asyncio
import collections
from collections.abc import Callable
from pathlib import Path

from pipeline.channel_address import ChannelAddress
from pipeline.media.recorder import Mp4Recorder
from pipeline.media.still import decode_first_frame, find_frame, write_side_by_side
from pipeline.media.ts_demux import TsDemuxer
from pipeline.memory.stage_stats import StageStats, Word
from pipeline.trickle.errors import AccessDenied, ChannelGone, TrickleError
from pipeline.trickle.subscriber import TrickleSubscriber

KEPT_SEGMENTS = 8
"""Of each channel, to find one moment in both; the source is a second or two ahead of the result."""

RETRY_SECONDS = 0.1

GONE_SECONDS = 10.0
"""A channel that was watched, and is absent for so long, has ended while its server was away."""

SAME_MOMENT_TICKS = 45
"""Half a millisecond: timestamps may be rounded on the way."""


class Viewer:
    """Records `channel` until its end, or until `stopping` is set."""

    def __init__(self, channel: ChannelAddress, path: Path, stats: StageStats, tell: Callable[..., None]) -> None:
        self._channel = channel
        self._stats = stats
        self._tell = tell
        self._recorder = Mp4Recorder(path)
        self._seen: collections.deque[bytes] = collections.deque(maxlen=KEPT_SEGMENTS)
        self._compared: collections.deque[bytes] = collections.deque(maxlen=KEPT_SEGMENTS)

    async def watch(self, compare: ChannelAddress | None, stopping: asyncio.Event) -> None:
        """Raises OSError when the recording cannot be written, WorkerRefused if the server does not let us read."""
        work = asyncio.create_task(self._record())
        stop = asyncio.create_task(stopping.wait())
        beside = asyncio.create_task(self._keep(compare)) if compare else None
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        for task in (work, stop, beside):
            if task is not None and not task.done():
                task.cancel()
        results = await asyncio.gather(work, return_exceptions=True)
        self._recorder.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    def write_still(self, path: Path) -> bool:
        """Write source and result side by side, of the newest moment that is known of both; False when there is none.

        Raises OSError when the picture cannot be written.
        """
        for segment in reversed(self._seen):
            first = decode_first_frame(segment)
            if first is None:
                continue
            pts, result = first
            source = find_frame(self._compared, pts, SAME_MOMENT_TICKS)
            if source is not None:
                write_side_by_side(path, source, result)
                return True
        return False

    async def _record(self) -> None:
        demuxer = TsDemuxer()
        absences = 0
        async with TrickleSubscriber(
            self._channel.url, 0, token=self._channel.token, ssl_context=self._channel.ssl_context
        ) as subscriber:
            while True:
                try:
                    segment = await subscriber.next()
                except AccessDenied as denied:
                    raise self._channel.refusal(denied) from denied
                except ChannelGone:
                    absences += 1
                    if self._stats[Word.UNITS_IN] and absences * RETRY_SECONDS > GONE_SECONDS:
                        break
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                except TrickleError:  # The server cannot be reached; the subscriber knows where it was.
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if segment is None:
                    break
                absences = 0
                whole = bytearray()
                if segment.discontinuity:
                    self._tell("segments_missed", seq=segment.seq())
                    demuxer.discontinuity()
                async for data in segment:
                    whole += data
                    for unit in demuxer.feed(data):
                        self._recorder.write(unit)
                        self._stats.add(Word.UNITS_IN, unit.is_video)
                self._seen.append(bytes(whole))
        for unit in demuxer.flush():
            self._recorder.write(unit)
            self._stats.add(Word.UNITS_IN, unit.is_video)

    async def _keep(self, channel: ChannelAddress) -> None:
        async with TrickleSubscriber(channel.url, token=channel.token, ssl_context=channel.ssl_context) as subscriber:
            while True:
                try:
                    segment = await subscriber.next()
                except AccessDenied as denied:
                    self._tell("compare_denied", problem=str(channel.refusal(denied)))
                    return
                except TrickleError:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if segment is None:
                    return
                self._compared.append(b"".join([data async for data in segment]))
