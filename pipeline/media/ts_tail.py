"""The end of an MPEG-TS file that is to be gone on with: up to where it is whole, and which times it has reached."""

from pathlib import Path

import msgspec

from pipeline.media.access_unit import Codec
from pipeline.media.ts_demux import PACKET_BYTES, TsDemuxer
from pipeline.media.ts_mux import VIDEO_PID

# Looked at from the end; twice as much if no segment begins in it.
_WINDOW_BYTES = PACKET_BYTES << 13

_SEGMENT_START = b"\x47\x40\x00"
_VIDEO_START = bytes((0x47, 0x40 | VIDEO_PID >> 8, VIDEO_PID & 0xFF))


class TsTail(msgspec.Struct, frozen=True):
    """`size` bytes of the file are whole; times are the last of each kind in them, in 90 kHz ticks."""

    size: int = 0
    video_pts: int | None = None
    audio_pts: int | None = None
    audio: Codec | None = None
    audio_channels: int = 2

    def has_picture(self, pts: int) -> bool:
        """Whether the picture of this time is in the file."""
        return self.video_pts is not None and pts <= self.video_pts

    def has_sound(self, pts: int) -> bool:
        return self.audio_pts is not None and pts <= self.audio_pts


def read_tail(path: Path, whole_bytes: int | None = None) -> TsTail:
    """What a file of ours holds. `whole_bytes`: so many are known to be whole; None: the last picture may be cut off,
    and does not count. Raises OSError when the file cannot be read."""
    end = path.stat().st_size if whole_bytes is None else whole_bytes
    end -= end % PACKET_BYTES
    window = _WINDOW_BYTES
    with path.open("rb") as file:
        while True:
            begin = max(0, end - window)
            file.seek(begin)
            data = file.read(end - begin)
            size = len(data) if whole_bytes is not None else max(0, _last(_VIDEO_START, data, len(data)))
            tail = _read(data[:size])
            if tail.video_pts is not None:
                return msgspec.structs.replace(tail, size=begin + size)
            if begin == 0:
                return TsTail()
            window *= 2


def _read(data: bytes) -> TsTail:
    """From the last segment's start on that has a picture."""
    start = len(data)
    while (start := _last(_SEGMENT_START, data, start)) >= 0:
        demuxer = TsDemuxer()
        units = demuxer.feed(data[start:]) + demuxer.flush()
        pictures = [unit.pts for unit in units if unit.is_video]
        if pictures and demuxer.streams is not None:
            sounds = [unit.pts for unit in units if not unit.is_video]
            audio, channels = demuxer.streams.audio, demuxer.streams.audio_channels
            return TsTail(0, max(pictures), max(sounds, default=None), audio, channels)
    return TsTail()


def _last(head: bytes, data: bytes, before: int) -> int:
    """Where the last packet before `before` is that starts with `head`; -1 if there is none."""
    at = before
    while (at := data.rfind(head, 0, at)) >= 0:
        if at % PACKET_BYTES == 0:
            return at
    return -1
