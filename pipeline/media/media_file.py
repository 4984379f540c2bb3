"""Any file that FFmpeg reads as a sequence of access units, on a timeline that begins at FIRST_PTS.

It knows nothing of segments or of real time; what becomes of a packet is `unit_sources`'.
"""

from collections.abc import Iterator
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Self, TypeVar

import av
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from pipeline.media.access_unit import CLOCK_HZ, AccessUnit, StreamInfo
from pipeline.media.errors import MediaFileError
from pipeline.media.excerpt import FIRST_PTS
from pipeline.media.orientation import Orientation, orientation_of
from pipeline.media.unit_sources import UnitSource, audio_source, ticks, video_source

__all__ = ["FIRST_PTS", "MediaFile"]

# A seek may land behind the wanted picture where a container has no index: seconds by which it is tried earlier.
_SEEK_MARGINS = (0, 5, 30)
# A file whose end is missing: by how much it falls short of the length that it states.
_SHORT_BY = CLOCK_HZ
_PACKETS_TO_FIRST_PICTURE = 200
# Where a container can say how its pictures lie.
_WITH_MATRIX = ("mov", "matroska")


class MediaFile:
    """An open media file; a context manager. Of several videos, or sounds, the one marked as default is taken."""

    def __init__(
        self, path: str | PathLike[str], gop_seconds: float = 1.0, first_key: int = 0, first_pts: int = FIRST_PTS
    ) -> None:
        """Units begin with the last key picture up to `first_pts`. `gop_seconds` is the distance of key pictures where
        the video has to be transcoded.

        Pictures to be transcoded that come before key picture `first_key` get empty data: a reader that skips them
        need not wait for their encoding. Raises MediaFileError if `path` is missing, is a directory, may not be read,
        is no media file, is encrypted or has no video.
        """
        self.path = Path(path)
        self._first_pts = first_pts
        self._reached = FIRST_PTS
        self._open()
        head = self._seek_to_first_pts() if first_pts > FIRST_PTS else []
        if head is None:
            self.close()
            self._open()
        self._head = head or []
        video = video_source(self._video, self._orientation(), gop_seconds, first_key, first_pts)
        self._sources: dict[int, UnitSource] = {self._video.index: video}
        self.info = StreamInfo(video.codec)
        if self._sound is not None:
            audio = audio_source(self._sound)
            self._sources[self._sound.index] = audio
            self.info = StreamInfo(video.codec, audio.codec, audio.channels)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    @property
    def length(self) -> int | None:
        """Ticks from the first picture to the end, as the file states it; None if it does not."""
        base = self._video.time_base
        if self._video.duration and base:
            return round(self._video.duration * base * CLOCK_HZ)
        if self._container.duration:
            end = (self._container.start_time or 0) + self._container.duration
            return max(0, round(end * CLOCK_HZ / av.time_base) - _start(self._video))
        return None

    @property
    def missing(self) -> int:
        """Ticks by which what was read falls short of `length`, where that is more than a trifle; else 0."""
        short = 0 if self.length is None else FIRST_PTS + self.length - self._reached
        return short if short > _SHORT_BY else 0

    def units(self) -> Iterator[AccessUnit]:
        """Access units in the order of the file, the first picture of the file at FIRST_PTS; can be taken once.

        Raises MediaFileError where nothing at all can be read; a file that breaks off later gives what is there.
        """
        begun = False
        try:
            for packet in chain(self._head, self._packets()):
                if packet.has_sidedata("encryption_info"):
                    raise MediaFileError(f"{self.path}: is encrypted; needed is a file without DRM")
                for unit in self._sources[packet.stream_index].units(packet, self._origin):
                    begun = True
                    self._reached = max(self._reached, unit.pts)
                    yield unit
        except av.FFmpegError as error:
            if not begun:
                raise MediaFileError(f"{self.path}: {error.strerror}") from error

    def _open(self) -> None:
        self._container = _open(self.path)
        videos = [stream for stream in self._container.streams.video if _is_moving(stream)]
        if not videos:
            self.close()
            raise MediaFileError(f"{self.path}: no video stream in it; needed is a file with moving pictures")
        sounds = [stream for stream in self._container.streams.audio if stream.codec_context is not None]
        self._video = _default(videos)
        self._sound = _default(sounds) if sounds else None
        self._origin = FIRST_PTS - _start(self._video)

    def _seek_to_first_pts(self) -> list[av.Packet] | None:
        """See `_seek`; None if the container cannot be read from anywhere but its start."""
        for margin in _SEEK_MARGINS:
            head = self._seek((self._first_pts - self._origin) / CLOCK_HZ - margin)
            if head is not None:
                return head
        return None

    def _seek(self, seconds: float) -> list[av.Packet] | None:
        """The packets up to the first key picture from there on, if that is not too late; None if it is."""
        base = self._video.time_base
        assert base is not None
        head: list[av.Packet] = []
        try:
            self._container.seek(int(seconds / base), stream=self._video)
            for packet in self._packets():
                head.append(packet)
                pts = ticks(packet.pts, packet)
                if packet.stream_index == self._video.index and packet.is_keyframe and pts is not None:
                    return head if pts + self._origin <= self._first_pts else None
        except av.FFmpegError:
            return None
        return None

    def _packets(self) -> Iterator[av.Packet]:
        return self._container.demux([self._video] if self._sound is None else [self._video, self._sound])

    def _orientation(self) -> Orientation:
        """From the first picture: only there does PyAV show a container's display matrix."""
        if not any(name in self._container.format.name for name in _WITH_MATRIX):
            return Orientation()
        with _open(self.path) as container:
            try:
                for count, packet in enumerate(container.demux(container.streams[self._video.index])):
                    for frame in packet.decode():
                        assert isinstance(frame, av.VideoFrame)
                        return orientation_of(frame)
                    if count > _PACKETS_TO_FIRST_PICTURE:
                        break
            except av.FFmpegError:
                pass  # What is wrong with the pictures is said where they are needed.
        return Orientation()


def _open(path: Path) -> av.container.InputContainer:
    if not path.exists():
        raise MediaFileError(f"{path}: no such file")
    if path.is_dir():
        raise MediaFileError(f"{path}: is a directory")
    try:
        container = av.open(str(path))
    except PermissionError as error:
        raise MediaFileError(f"{path}: may not be read ({error.strerror})") from error
    except (av.FFmpegError, OSError) as error:
        hint = ", or its index is cut off" if path.stat().st_size else "; it is empty"
        raise MediaFileError(f"{path}: not a media file ({error.strerror}){hint}") from error
    if container.format.name == "tty":
        container.close()
        raise MediaFileError(f"{path}: not a media file (FFmpeg would draw its text)")
    return container


def _is_moving(stream: VideoStream) -> bool:
    return not stream.disposition & Disposition.attached_pic and stream.codec_context is not None


_Stream = TypeVar("_Stream", bound=Stream)


def _default(streams: list[_Stream]) -> _Stream:
    return next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])


def _start(stream: VideoStream) -> int:
    base = stream.time_base
    return round(stream.start_time * base * CLOCK_HZ) if stream.start_time is not None and base else 0
