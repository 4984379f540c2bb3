"""Cuts a stream into segments that each can be played alone: tables first, then a key picture.

Audio is written in step with the video, and goes on alone when the video stalls.
"""

from collections import deque
from typing import Protocol

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.ts_mux import TsMuxer

# Audio ahead of the video waits at most this long, in 90 kHz ticks of its own clock.
MAX_AUDIO_HOLD = CLOCK_HZ
# 2.5 ms is the shortest Opus packet: 400 of them fill MAX_AUDIO_HOLD. Beyond the bound the oldest is given up.
MAX_HELD_AUDIO = 400


class SegmentSink(Protocol):
    """Where segments go: a trickle publication, a file, a list."""

    def begin_segment(self) -> None: ...
    def write(self, data: bytes) -> None: ...
    def end_segment(self) -> None: ...


class Segmenter:
    """Takes units in the order in which they come; every call writes what can be written, at once."""

    def __init__(self, muxer: TsMuxer, sink: SegmentSink, *, gives_up_audio: bool = True) -> None:
        """`gives_up_audio`: what waits too long for the first picture is dropped, as a live stream wants it; else it
        waits, and whoever calls bounds how much."""
        self._gives_up_audio = gives_up_audio
        self.segments = 0
        self.video_dropped = 0
        self.audio_dropped = 0
        self._muxer = muxer
        self._sink = sink
        self._open = False
        self._video_pts = 0
        self._held: deque[tuple[int, bytes]] = deque()

    def video(self, data: bytes, pts: int, dts: int, key: bool) -> None:
        """Write one picture (Annex B, times in 90 kHz); a key picture begins a segment.

        Pictures before the first key picture are dropped and counted.
        """
        if key:
            self._begin()
            self._sink.write(self._muxer.psi() + self._muxer.video(data, pts, dts, key))
        elif self._open:
            self._sink.write(self._muxer.video(data, pts, dts, key))
        else:
            self.video_dropped += 1
            return
        self._video_pts = pts
        self._write_audio(pts)

    def audio(self, payload: bytes, pts: int) -> None:
        """Take one audio payload (90 kHz): it waits for video of its time, but not longer than MAX_AUDIO_HOLD."""
        self._held.append((pts, payload))
        if self._gives_up_audio and len(self._held) > MAX_HELD_AUDIO:
            self._give_up_oldest()
        if self._open:
            self._write_audio(max(self._video_pts, pts - MAX_AUDIO_HOLD))
            return
        while self._gives_up_audio and pts - self._held[0][0] > MAX_AUDIO_HOLD:
            self._give_up_oldest()

    def close(self) -> None:
        """Write the audio that waits and end the segment. It may be followed by a key picture."""
        if not self._open:
            self.audio_dropped += len(self._held)
            self._held.clear()
            return
        if self._held:
            self._write_audio(max(pts for pts, _ in self._held))
        self._open = False
        self._sink.end_segment()

    def _begin(self) -> None:
        if self._open:
            self._sink.end_segment()
        self._open = True
        self.segments += 1
        self._sink.begin_segment()

    def _write_audio(self, until: int) -> None:
        held = self._held
        if not held or held[0][0] > until:
            return
        parts = []
        while held and held[0][0] <= until:
            pts, payload = held.popleft()
            parts.append(self._muxer.audio(payload, pts))
        self._sink.write(b"".join(parts))

    def _give_up_oldest(self) -> None:
        self._held.popleft()
        self.audio_dropped += 1
