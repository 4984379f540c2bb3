"""A media file as a trickle publisher would send it: MPEG-TS in numbered segments, cut into chunks with a due time.

It yields as fast as it is asked; pacing to real time is the caller's.
"""

from collections import deque
from collections.abc import Iterator
from os import PathLike
from typing import NamedTuple

from pipeline.media.access_unit import CLOCK_HZ, AccessUnit, Codec, StreamInfo
from pipeline.media.excerpt import FIRST_PTS, WHOLE, Excerpt
from pipeline.media.media_file import MediaFile
from pipeline.media.segmenter import MAX_HELD_AUDIO, Segmenter
from pipeline.media.ts_mux import TsMuxer


class SegmentChunk(NamedTuple):
    """Bytes of one access unit, or of the audio that goes with it."""

    segment_index: int
    data: bytes
    pts_seconds: float  # when it is due: seconds of decode time from the first picture on, never falling
    last: bool  # whether it ends its segment


class TsFileSource:
    """Iterate over it to get the chunks of a file. Segment numbers depend only on the file and `min_segment_seconds`.

    A segment begins at the first key picture that is at least `min_segment_seconds` after the begin of the one before.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        min_segment_seconds: float = 1.0,
        start_segment: int = 0,
        excerpt: Excerpt = WHOLE,
    ) -> None:
        """Segments are counted from the key picture that `excerpt` needs to be decoded from. Raises MediaFileError for
        a file that cannot be used."""
        self.missing = 0
        """Once the chunks were taken: ticks by which the file falls short of the length that it states."""
        self._path = path
        self._min_seconds = min_segment_seconds
        self._start_segment = start_segment
        self._excerpt = excerpt
        with MediaFile(path, min_segment_seconds) as media:
            self.info: StreamInfo = media.info
            self.length = excerpt.length(media.length)
            """Ticks of the excerpt; None if the file does not state its length."""

    def __iter__(self) -> Iterator[SegmentChunk]:
        """Chunks from segment `start_segment` on. Raises MediaFileError where the file cannot be read on."""
        sink = _ChunkSink(self._start_segment)
        segmenter = Segmenter(TsMuxer(self.info.video or Codec.H264, self.info.audio, self.info.audio_channels), sink)
        with MediaFile(self._path, self._min_seconds, self._start_segment, self._excerpt.first) as media:
            for unit, begins in self._from_start_segment(media):
                if unit.is_video:
                    sink.due = max(sink.due, (unit.dts - FIRST_PTS) / CLOCK_HZ)
                    segmenter.video(unit.data, unit.pts, unit.dts, begins)
                else:
                    segmenter.audio(unit.data, unit.pts)
                yield from sink.take()
                if self._excerpt.is_past(unit.dts):
                    break
            else:
                self.missing = media.missing
        segmenter.close()
        yield from sink.take()

    def _from_start_segment(self, media: MediaFile) -> Iterator[tuple[AccessUnit, bool]]:
        """Units from the start segment on, each with whether a segment begins at it."""
        starts = _SegmentStarts(round(self._min_seconds * CLOCK_HZ))
        # Audio ahead of the video when the start segment begins belongs to it, as it does when all is written.
        ahead: deque[AccessUnit] = deque(maxlen=MAX_HELD_AUDIO)
        video_pts = 0
        for unit in media.units():
            begins = starts.begins(unit)
            if starts.segment >= self._start_segment:
                yield from ((audio, False) for audio in ahead)
                ahead.clear()
                yield unit, begins
            elif unit.is_video:
                video_pts = unit.pts
                while ahead and ahead[0].pts <= video_pts:
                    ahead.popleft()
            elif unit.pts > video_pts:
                ahead.append(unit)


class _SegmentStarts:
    """Counts the segments of a file, whether or not they are written."""

    def __init__(self, min_ticks: int) -> None:
        self.segment = -1
        self._min_ticks = min_ticks
        self._start = 0

    def begins(self, unit: AccessUnit) -> bool:
        """Whether a segment begins at `unit`."""
        if not (unit.is_video and unit.key):
            return False
        if self.segment >= 0 and unit.pts - self._start < self._min_ticks:
            return False
        self.segment += 1
        self._start = unit.pts
        return True


class _ChunkSink:
    """Collects what the segmenter writes; one chunk is held back, to know whether it is the last of its segment."""

    def __init__(self, first_segment: int) -> None:
        self.due = 0.0
        self._segment = first_segment - 1
        self._held: SegmentChunk | None = None
        self._ready: list[SegmentChunk] = []

    def begin_segment(self) -> None:
        self._segment += 1

    def write(self, data: bytes) -> None:
        self._release(last=False)
        self._held = SegmentChunk(self._segment, data, self.due, False)

    def end_segment(self) -> None:
        self._release(last=True)

    def take(self) -> list[SegmentChunk]:
        ready, self._ready = self._ready, []
        return ready

    def _release(self, last: bool) -> None:
        if self._held is not None:
            self._ready.append(self._held._replace(last=last))
            self._held = None
