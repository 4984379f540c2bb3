"""Segments of a live stream to pictures and sound on one timeline, each delivered once even by a restarted process.

It joins demuxer, decoder and timeline, and keeps in the output link's table what a successor needs to go on.
"""

from collections.abc import Iterator
from typing import NamedTuple

import av

from pipeline.media.access_unit import AccessUnit, Codec, StreamInfo
from pipeline.media.decoder import VideoDecoder
from pipeline.media.timeline import Timeline
from pipeline.media.ts_demux import TsDemuxer
from pipeline.memory.slot_table import ProducerTable

# The notes in the table: one bank for each of the last two segments, so that a crash while one is written leaves the
# other; then the newest audio.
_BANK_WORDS = 3
_SEGMENT, _OFFSET, _LAST_VIDEO = range(_BANK_WORDS)
_AUDIO_END = 2 * _BANK_WORDS

_NO_VIDEO = -(1 << 62)

_PAT_PACKETS = (b"\x47\x40\x00", b"\x47\x60\x00")
"""How a segment starts whose sender made it to stand alone: a programme association table (ISO/IEC 13818-1, 2.4.4.3).
What the segment before it left open is complete then, whatever its continuity counters say."""


class Picture(NamedTuple):
    """A decoded frame and its time in 1/90000 s on the stream's timeline."""

    frame: av.VideoFrame
    pts: int


class Sound(NamedTuple):
    """One audio access unit as it came, and its time in 1/90000 s on the stream's timeline."""

    codec: Codec
    data: bytes
    pts: int


class LiveDecoder:
    """Feed it segments in order. After a restart, feed the segment again that the predecessor was in, from its start:
    what had been delivered by then is decoded but not given out."""

    def __init__(self, decoder: VideoDecoder, table: ProducerTable, first_segment: int) -> None:
        """`table` is that of the link the pictures go to; `first_segment` the number of the segment that comes first,
        negative when it is not known because nothing was fed before."""
        self.replayed = 0
        self._decoder = decoder
        self._table = table
        self._demuxer = TsDemuxer()
        self._timeline = self._restore(first_segment)
        self._segment = -1
        self._delivered_to = table.last_pts if table.published else None
        self._audio_to = table.noted(_AUDIO_END) - 1 if table.noted(_AUDIO_END) else None

    @property
    def streams(self) -> StreamInfo | None:
        """What the source has announced; None until it has."""
        return self._demuxer.streams

    @property
    def bytes_unrecognized(self) -> int:
        """Bytes so far in which no MPEG-TS programme could be found."""
        return self._demuxer.bytes_unrecognized

    @property
    def decode_errors(self) -> int:
        return self._decoder.decode_errors

    @property
    def skipped(self) -> int:
        """Access units not shown: damaged, or before the first keyframe."""
        return self._decoder.skipped

    def feed(self, segment: int, data: bytes, *, gap: bool) -> Iterator[Picture | Sound]:
        """What these bytes complete. `gap`: bytes are missing before them."""
        if segment != self._segment:
            self._note(segment)
            self._segment = segment
            if gap:
                self._demuxer.discontinuity()
            elif data.startswith(_PAT_PACKETS):
                yield from self._flush_demuxer()
        for unit in self._demuxer.feed(data):
            yield from self._give(unit)

    def flush(self) -> Iterator[Picture | Sound]:
        """What is left at the end of the stream."""
        yield from self._flush_demuxer()
        yield from self._pictures(self._decoder.flush())

    def _flush_demuxer(self) -> Iterator[Picture | Sound]:
        for unit in self._demuxer.flush():
            yield from self._give(unit)

    def _give(self, unit: AccessUnit) -> Iterator[Picture | Sound]:
        if unit.is_video:
            yield from self._pictures(self._decoder.decode(unit))
            return
        pts = self._timeline.audio(unit.pts)
        if self._audio_to is None or pts > self._audio_to:
            self._audio_to = pts
            self._table.note(_AUDIO_END, pts + 1)
            yield Sound(unit.codec, unit.data, pts)

    def _pictures(self, frames: list[av.VideoFrame]) -> Iterator[Picture]:
        for frame in frames:
            if frame.pts is None:
                continue
            pts = self._timeline.video(frame.pts)
            if self._delivered_to is not None and pts <= self._delivered_to:
                self.replayed += 1
                continue
            yield Picture(frame, pts)

    def _note(self, segment: int) -> None:
        """Keep the timeline as it is before `segment`."""
        bank = segment % 2 * _BANK_WORDS
        last = self._timeline.last_video
        self._table.note(bank + _SEGMENT, 0)
        self._table.note(bank + _OFFSET, self._timeline.offset)
        self._table.note(bank + _LAST_VIDEO, _NO_VIDEO if last is None else last)
        self._table.note(bank + _SEGMENT, segment + 1)

    def _restore(self, segment: int) -> Timeline:
        bank = segment % 2 * _BANK_WORDS
        if segment < 0 or self._table.noted(bank + _SEGMENT) != segment + 1:
            return Timeline()
        last = self._table.noted(bank + _LAST_VIDEO)
        return Timeline(self._table.noted(bank + _OFFSET), None if last == _NO_VIDEO else last)
