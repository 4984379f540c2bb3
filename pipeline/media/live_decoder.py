"""Segments of a live stream to pictures and sound on one timeline, each delivered once even by a restarted process.

It joins demuxer, decoder and timeline, and keeps in the output link's table what a successor needs to go on.
"""

from collections.abc import Iterator
from typing import NamedTuple

import av

from pipeline.media.access_unit import AccessUnit, Codec, StreamInfo
from pipeline.media.decoder import VideoDecoder
from pipeline.media.excerpt import Excerpt
from pipeline.media.rate_cap import RateCap
from pipeline.media.timeline import Timeline
from pipeline.media.timeline_notes import WORDS, TimelineNote, oldest_bank, read_notes, write_note
from pipeline.media.ts_demux import TsDemuxer
from pipeline.memory.slot_table import ProducerTable

# Behind those of the timeline, the notes in the table are the end of the newest audio and of the newest unit that could
# not be decoded.
_AUDIO_END = WORDS
_ERRORS_END = _AUDIO_END + 1

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

    def __init__(
        self,
        decoder: VideoDecoder,
        table: ProducerTable,
        first_segment: int,
        excerpt: Excerpt | None = None,
        max_fps: float | None = None,
    ) -> None:
        """`table` is that of the link the pictures go to; `first_segment` the number of the segment that comes first,
        negative when it is not known because nothing was fed before. What `excerpt` does not hold is not given out,
        nor are more than `max_fps` pictures a second."""
        self._excerpt = excerpt
        self.replayed = 0
        self.decode_errors = 0
        self._decoder = decoder
        self._table = table
        self._timeline = self._restore(first_segment)
        last = self._timeline.last_video
        self._demuxer = TsDemuxer(near=None if last is None else last - self._timeline.offset)
        self._segment = self._resume_segment = -1
        self._noted = (0, 0, self._timeline.last_video)
        self._key_pts: int | None = None
        self._settled = False
        self._delivered_to = table.last_pts
        self._audio_to = table.noted(_AUDIO_END) - 1 if table.noted(_AUDIO_END) else None
        self._errors_to = table.noted(_ERRORS_END) - 1 if table.noted(_ERRORS_END) else None
        self._cap = RateCap(max_fps, self._delivered_to) if max_fps else None

    @property
    def streams(self) -> StreamInfo | None:
        """What the source has announced; None until it has."""
        return self._demuxer.streams

    @property
    def bytes_unrecognized(self) -> int:
        """Bytes so far in which no MPEG-TS programme could be found."""
        return self._demuxer.bytes_unrecognized

    @property
    def capped(self) -> int:
        """Pictures not given out because there are more than `max_fps` of them a second."""
        return self._cap.dropped if self._cap else 0

    @property
    def skipped(self) -> int:
        """Access units not shown: damaged, or before the first keyframe."""
        return self._decoder.skipped

    @property
    def resume_segment(self) -> int:
        """Where a successor would have to begin: the segment being fed, once a picture of it has come out; until then
        the one before, of which the codec may still hold pictures (B-frames). Negative before the first."""
        return self._segment if self._settled else self._resume_segment

    def feed(self, segment: int, data: bytes, *, gap: bool) -> Iterator[Picture | Sound]:
        """What these bytes complete. `gap`: bytes are missing before them."""
        if not data and not gap:
            return
        if segment != self._segment:
            if not gap and data.startswith(_PAT_PACKETS):
                yield from self._flush_demuxer()
            self._begin(segment)
            if gap:
                self._demuxer.discontinuity()
        for unit in self._demuxer.feed(data):
            yield from self._give(unit)

    def flush(self) -> Iterator[Picture | Sound]:
        """What is left at the end of the stream."""
        yield from self._flush_demuxer()
        errors = self._decoder.decode_errors
        frames = self._decoder.flush()
        self.decode_errors += self._decoder.decode_errors - errors
        yield from self._pictures(frames)

    def _flush_demuxer(self) -> Iterator[Picture | Sound]:
        for unit in self._demuxer.flush():
            yield from self._give(unit)

    def _give(self, unit: AccessUnit) -> Iterator[Picture | Sound]:
        if unit.is_video:
            if unit.key and self._key_pts is None:
                self._key_pts = unit.pts
            errors = self._decoder.decode_errors
            frames = self._decoder.decode(unit)
            if self._decoder.decode_errors != errors:
                self._count_error(unit.pts + self._timeline.offset)
            yield from self._pictures(frames)
            return
        pts = self._timeline.audio(unit.pts)
        self._note_change()
        if self._audio_to is None or pts > self._audio_to:
            self._audio_to = pts
            self._table.note(_AUDIO_END, pts + 1)
            if self._is_wanted(pts):
                yield Sound(unit.codec, unit.data, pts)

    def _pictures(self, frames: list[av.VideoFrame]) -> Iterator[Picture]:
        for frame in frames:
            if frame.pts is None:
                continue
            pts = self._timeline.video(frame.pts)
            self._note_change()
            self._settled = self._settled or frame.pts == self._key_pts
            if self._delivered_to is not None and pts <= self._delivered_to:
                self.replayed += 1
                continue
            if self._is_wanted(pts) and (self._cap is None or self._cap.keeps(pts)):
                yield Picture(frame, pts)

    def _count_error(self, pts: int) -> None:
        """A unit that could not be decoded, unless a predecessor has counted it."""
        if self._errors_to is not None and pts <= self._errors_to:
            return
        self._table.note(_ERRORS_END, pts + 1)
        self.decode_errors += 1

    def _is_wanted(self, pts: int) -> bool:
        return self._excerpt is None or self._excerpt.holds(pts)

    def _begin(self, segment: int) -> None:
        """Go over to a new segment, with a note of the timeline as it is before it."""
        self._resume_segment = self._segment if self._segment >= 0 else segment
        self._segment = segment
        self._key_pts, self._settled = None, False
        self._noted = (oldest_bank(self._table), self._timeline.changes, self._timeline.last_video)
        self._note()

    def _note_change(self) -> None:
        """A source that starts over does so with a segment: then its times before the first picture is settled are on
        the new origin, and a successor must put them there at once."""
        bank, changes, last = self._noted
        if not self._settled and self._timeline.changes != changes:
            self._noted = (bank, self._timeline.changes, last)
            self._note()

    def _note(self) -> None:
        bank, _, last = self._noted
        write_note(self._table, bank, TimelineNote(self._segment, self._timeline.offset, last))

    def _restore(self, segment: int) -> Timeline:
        noted = (note for note in read_notes(self._table) if note.segment == segment)
        found = next(noted, TimelineNote(segment, 0, None))
        return Timeline(found.offset, found.last_video)
