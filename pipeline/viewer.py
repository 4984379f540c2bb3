"""Watches a channel as a viewer would and keeps what it saw: an mp4, and a still beside the source's same moment."""

import asyncio
import collections
from collections.abc import Callable
from pathlib import Path

from pipeline.media.recorder import Mp4Recorder
from pipeline.media.still import decode_first_frame, find_frame, write_side_by_side
from pipeline.media.ts_demux import TsDemuxer
from pipeline.memory.stage_stats import StageStats, Word
from pipeline.trickle.errors import ChannelGone, TrickleError
from pipeline.trickle.subscriber import TrickleSubscriber

KEPT_SEGMENTS = 8
"""Of each channel, to find one moment in both; the source is a second or two ahead of the result."""

RETRY_SECONDS = 0.1

GONE_SECONDS = 10.0
"""A channel that was watched, and is absent for so long, has ended while its server was away."""

SAME_MOMENT_TICKS = 45
"""Half a millisecond: timestamps may be rounded on the way."""


class Viewer:
    """Records `url` until its end, or until `stopping` is set."""

    def __init__(self, url: str, path: Path, stats: StageStats, tell: Callable[..., None]) -> None:
        self._url = url
        self._stats = stats
        self._tell = tell
        self._recorder = Mp4Recorder(path)
        self._seen: collections.deque[bytes] = collections.deque(maxlen=KEPT_SEGMENTS)
        self._compared: collections.deque[bytes] = collections.deque(maxlen=KEPT_SEGMENTS)

    async def watch(self, compare_url: str | None, stopping: asyncio.Event) -> None:
        """Raises OSError when the recording cannot be written."""
        work = asyncio.create_task(self._record())
        stop = asyncio.create_task(stopping.wait())
        beside = asyncio.create_task(self._keep(compare_url)) if compare_url else None
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
        async with TrickleSubscriber(self._url, 0) as subscriber:
            while True:
                try:
                    segment = await subscriber.next()
                except ChannelGone:
                    absences += 1
                    if self._stats[Word.UNITS_IN] and absences * RETRY_SECONDS > GONE_SECONDS:
                        break
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

    async def _keep(self, url: str) -> None:
        async with TrickleSubscriber(url) as subscriber:
            while True:
                try:
                    segment = await subscriber.next()
                except TrickleError:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if segment is None:
                    return
                self._compared.append(b"".join([data async for data in segment]))
