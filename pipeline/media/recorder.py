"""Access units of a live stream to an MP4 file, without encoding anything again."""

import io
import os
from collections.abc import Iterator
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Self

import av
from av.container import OutputContainer
from av.stream import Stream

from pipeline.media.access_unit import CLOCK_HZ, AccessUnit, Codec, Loss
from pipeline.media.adts import SAMPLES_PER_FRAME, adts_config, split_adts
from pipeline.media.errors import MediaError
from pipeline.media.opus_ts import opus_ticks, split_opus
from pipeline.media.ts_mux import TsMuxer

# An MP4 names its streams before their data: how much video may pass before a recording goes on without sound.
MAX_AUDIO_WAIT = 2 * CLOCK_HZ
# More units than this never wait, whatever their times say.
MAX_WAITING_UNITS = 1024

_TIME_BASE = Fraction(1, CLOCK_HZ)


class Mp4Recorder:
    """Writes `path` from the first key picture on, which gets time 0; the file appears under its name when closed.

    Sound keeps its distance from the picture. A context manager; leaving it by an exception keeps what was recorded.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.dropped = 0
        self._part = self.path.with_name(self.path.name + ".part")
        self._waiting: list[AccessUnit] = []
        self._origin: int | None = None
        self._output: OutputContainer | None = None
        self._streams: dict[Codec, Stream] = {}
        self._last_dts: dict[Codec, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, unit: AccessUnit) -> None:
        """Take the next unit of the stream; damaged ones, and those before the first key picture, count as dropped.

        Raises MediaError if the first key picture cannot be decoded, OSError if the file cannot be written.
        """
        if unit.loss is Loss.INSIDE or (self._origin is None and not (unit.is_video and unit.key)):
            self.dropped += 1
            return
        if self._origin is None:
            self._origin = unit.pts
        if self._output is not None:
            self._mux(unit)
            return
        self._waiting.append(unit)
        if self._is_complete(unit):
            self._start()

    def close(self) -> None:
        """Write the index and move the file to its name. Without any key picture there is no file."""
        if self._output is None and self._waiting:
            self._start()
        if self._output is None:
            return
        self._output.close()
        self._output = None
        os.replace(self._part, self.path)

    def _is_complete(self, unit: AccessUnit) -> bool:
        kinds = {waiting.is_video for waiting in self._waiting}
        if len(kinds) == 2 or len(self._waiting) >= MAX_WAITING_UNITS:
            return True
        return unit.pts - self._waiting[0].pts > MAX_AUDIO_WAIT

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, []
        video = waiting[0]
        audio = next((unit for unit in waiting if not unit.is_video), None)
        # PyAV sets the headers of a copied stream only from another stream: let libavformat find them in our TS.
        sample = io.BytesIO(_sample(video, audio))
        output = av.open(str(self._part), "w", format="mp4")
        try:
            with av.open(sample, format="mpegts") as source:
                self._streams[video.codec] = output.add_stream_from_template(source.streams.video[0])
                if audio is not None:
                    self._streams[audio.codec] = output.add_stream_from_template(source.streams.audio[0])
                output.start_encoding()
        except (av.FFmpegError, ValueError, IndexError) as error:
            output.close()
            self._part.unlink(missing_ok=True)
            raise MediaError(f"{self.path}: cannot record this stream: {error}") from error
        self._output = output
        for unit in waiting:
            self._mux(unit)

    def _mux(self, unit: AccessUnit) -> None:
        assert self._output is not None
        stream = self._streams.get(unit.codec)
        if stream is None:
            self.dropped += 1
            return
        for data, pts, dts in _packets(unit):
            self._mux_packet(stream, unit, data, pts, dts)

    def _mux_packet(self, stream: Stream, unit: AccessUnit, data: bytes, pts: int, dts: int) -> None:
        assert self._output is not None
        assert self._origin is not None
        # MP4 stores differences of decode times: they have to rise, and sound before the first picture has no place.
        dts -= self._origin
        before_start = not unit.is_video and dts < 0
        if before_start or dts <= self._last_dts.get(unit.codec, dts - 1):
            self.dropped += 1
            return
        self._last_dts[unit.codec] = dts
        packet = av.Packet(data)
        packet.stream = stream
        packet.pts, packet.dts, packet.time_base = pts - self._origin, dts, _TIME_BASE
        packet.is_keyframe = unit.key
        self._output.mux_one(packet)


def _sample(video: AccessUnit, audio: AccessUnit | None) -> bytes:
    muxer = TsMuxer(video.codec, audio.codec if audio else None)
    sample = muxer.psi() + muxer.video(video.data, video.pts, video.dts, key=True)
    if audio is not None:
        sample += muxer.audio(audio.data, audio.pts)
    return sample


def _packets(unit: AccessUnit) -> Iterator[tuple[bytes, int, int]]:
    """Data, pts and dts of each packet in a unit: a PES may hold several audio frames, MP4 wants them one by one."""
    if unit.is_video:
        yield unit.data, unit.pts, unit.dts
        return
    at = unit.pts
    if unit.codec is Codec.OPUS:
        for packet in split_opus(unit.data):
            yield packet, at, at
            at += opus_ticks(packet)
        return
    config = adts_config(unit.data)
    if config is None:
        return
    for number, frame in enumerate(split_adts(unit.data)):
        at = unit.pts + number * SAMPLES_PER_FRAME * CLOCK_HZ // config.sample_rate
        yield frame, at, at
