"""A recording that is still being made, as a browser's MediaRecorder writes it, as a sequence of access units. It can
be read once, and nothing in it is gone back to; a file that lies there whole is `media_file`'s."""

import os
from collections.abc import Iterator
from typing import Self

import av
from av.stream import Stream

from pipeline.media.access_unit import AccessUnit, StreamInfo
from pipeline.media.errors import MediaFileError
from pipeline.media.excerpt import FIRST_PTS
from pipeline.media.orientation import Orientation
from pipeline.media.unit_sources import audio_source, ticks, video_source

# What libavformat may look at before it says what is in it: a live source must not wait for more.
_PROBE = {"probesize": "131072", "analyzeduration": "500000"}


class PipeReader:
    """The reading end of a pipe, for libavformat: it can only be read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int) -> bytes:
        return os.read(self._fd, size)


class Recording:
    """A context manager. Key pictures are a second apart where the video has to be encoded anew: everything that is no
    H.264 or HEVC."""

    def __init__(self, reader: PipeReader, gop_seconds: float = 1.0) -> None:
        """Waits for its head. Raises MediaFileError if it is none, or has no video."""
        try:
            self._container = av.open(reader, "r", options=_PROBE)
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise MediaFileError(f"the recording cannot be read: {reason}") from error
        if not self._container.streams.video:
            self._container.close()
            raise MediaFileError("the recording has no video in it")
        self._video = self._container.streams.video[0]
        self._video.codec_context.thread_count = 1  # Threads of frames would each hold one back.
        video = video_source(self._video, Orientation(), gop_seconds, 0)
        self._sources = {self._video.index: video}
        self.info = StreamInfo(video.codec)
        self._streams: list[Stream] = [self._video]
        if self._container.streams.audio:
            sound = self._container.streams.audio[0]
            audio = audio_source(sound)
            self._sources[sound.index] = audio
            self._streams.append(sound)
            self.info = StreamInfo(video.codec, audio.codec, audio.channels)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def units(self) -> Iterator[AccessUnit]:
        """As they come, the first at FIRST_PTS; until the recording ends, or breaks off."""
        origin: int | None = None
        try:
            for packet in self._container.demux(self._streams):
                pts = ticks(packet.pts, packet)
                if origin is None and pts is not None:
                    origin = FIRST_PTS - pts
                yield from self._sources[packet.stream_index].units(packet, origin or 0)
        except av.FFmpegError:
            return
