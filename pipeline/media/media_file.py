"""Any file that FFmpeg reads as a sequence of access units: copied where MPEG-TS can carry them, transcoded otherwise.

It knows nothing of segments or of real time.
"""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Protocol, Self

import av
import numpy as np
from av import BitStreamFilterContext
from av.audio.codeccontext import AudioCodecContext
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.stream import Disposition
from av.video.stream import VideoStream

from pipeline.media.access_unit import CLOCK_HZ, AccessUnit, Codec, StreamInfo
from pipeline.media.adts import AacConfig, adts_config, parse_audio_specific_config, wrap_adts
from pipeline.media.encoder import VideoEncoder
from pipeline.media.errors import MediaFileError
from pipeline.media.opus_ts import has_control_header, wrap_opus
from pipeline.media.scaler import Fit, FrameScaler

# The first picture of a file gets this time, so that decode times of B-frames before it stay above 0.
FIRST_PTS = CLOCK_HZ

_ANNEXB_FILTERS = {Codec.H264: "h264_mp4toannexb", Codec.HEVC: "hevc_mp4toannexb"}
# avcC and hvcC begin with version 1, Annex B with a start code (ISO 14496-15 5.3.3.1.2).
_LENGTH_PREFIXED = 1
_AUDIO_RATE = 48_000
_AUDIO_BIT_RATE = 128_000
_AAC_FRAME = 1024
_MAX_OPUS_CHANNELS = 2
_DEFAULT_FPS = 30.0


class MediaFile:
    """An open media file; a context manager."""

    def __init__(self, path: str | PathLike[str], gop_seconds: float = 1.0, first_key: int = 0) -> None:
        """`gop_seconds` is the distance of key pictures where the video has to be transcoded.

        Pictures to be transcoded that come before key picture `first_key` get empty data: a reader that skips them
        need not wait for their encoding. Raises MediaFileError if `path` is missing, is a directory, is no media file
        or has no video.
        """
        self.path = Path(path)
        self._container = _open(self.path)
        videos = [stream for stream in self._container.streams.video if _is_moving(stream)]
        if not videos:
            self.close()
            raise MediaFileError(f"{self.path}: no video stream")
        self._origin = FIRST_PTS - _start(videos[0])
        self._sources: dict[int, _UnitSource] = {}
        video = self._sources[videos[0].index] = _video_source(videos[0], gop_seconds, first_key)
        self.info = StreamInfo(video.codec)
        sound = next((stream for stream in self._container.streams.audio if stream.codec_context is not None), None)
        if sound is not None:
            audio = self._sources[sound.index] = _audio_source(sound)
            self.info = StreamInfo(video.codec, audio.codec, audio.channels)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def units(self) -> Iterator[AccessUnit]:
        """Access units in the order of the file, the first picture at FIRST_PTS; can be taken once.

        Raises MediaFileError where the file cannot be read on.
        """
        try:
            for packet in self._container.demux([self._container.streams[index] for index in self._sources]):
                yield from self._sources[packet.stream_index].units(packet, self._origin)
        except av.FFmpegError as error:
            raise MediaFileError(f"{self.path}: {error.strerror}") from error


class _UnitSource(Protocol):
    @property
    def codec(self) -> Codec:
        """Codec of the units."""

    def units(self, packet: av.Packet, origin: int) -> Iterator[AccessUnit]:
        """Units of one container packet, or of the end of the stream if it is empty; `origin` is added to times."""


class _AudioSource(_UnitSource, Protocol):
    @property
    def channels(self) -> int: ...


class _CopiedVideo:
    """H.264 or HEVC packets in Annex B form."""

    def __init__(self, stream: VideoStream, codec: Codec) -> None:
        self.codec = codec
        self._filter: BitStreamFilterContext | None = None
        extradata = stream.codec_context.extradata or b""
        if extradata[:1] == bytes((_LENGTH_PREFIXED,)):
            self._filter = BitStreamFilterContext(_ANNEXB_FILTERS[codec], stream)
        self._step = round(CLOCK_HZ / _rate(stream))
        self._next_dts = 0

    def units(self, packet: av.Packet, origin: int) -> Iterator[AccessUnit]:
        if packet.size == 0:
            return
        dts = _ticks(packet.dts, packet)
        pts = _ticks(packet.pts, packet)
        # Raw H.264 files have no times at all: their pictures are counted.
        if dts is None:
            dts = self._next_dts if pts is None else pts
        if pts is None:
            pts = dts
        self._next_dts = dts + self._step
        key = packet.is_keyframe
        for part in [packet] if self._filter is None else self._filter.filter(packet):
            yield AccessUnit(self.codec, pts + origin, dts + origin, bytes(part), key)


class _TranscodedVideo:
    """Anything FFmpeg decodes, as H.264 of the same size (made even)."""

    codec = Codec.H264

    def __init__(self, stream: VideoStream, gop_seconds: float, first_key: int) -> None:
        self._stream = stream
        self._gop_ticks = round(gop_seconds * CLOCK_HZ)
        self._first_key = first_key
        self._keys = 0
        self._last_key_pts: int | None = None
        self._last_pts: int | None = None
        self._step = round(CLOCK_HZ / _rate(stream))
        self._encoder: VideoEncoder | None = None
        self._scaler: FrameScaler | None = None
        self._rgb = np.empty((0, 0, 3), np.uint8)

    def units(self, packet: av.Packet, origin: int) -> Iterator[AccessUnit]:
        try:
            frames = self._stream.codec_context.decode(packet if packet.size else None)
        except av.FFmpegError:
            return  # one damaged picture of a file; the next ones follow
        for frame in frames:
            pts = _ticks(frame.pts, frame)
            if pts is None:
                pts = 0 if self._last_pts is None else self._last_pts - origin + self._step
            yield from self._encode(frame, pts + origin)

    def _encode(self, frame: av.VideoFrame, pts: int) -> Iterator[AccessUnit]:
        if self._last_pts is not None and pts <= self._last_pts:
            return
        self._last_pts = pts
        key = self._last_key_pts is None or pts - self._last_key_pts >= self._gop_ticks
        if key:
            self._last_key_pts = pts
            self._keys += 1
        if self._keys <= self._first_key:
            yield AccessUnit(Codec.H264, pts, pts, b"", key)
            return
        if self._encoder is None or self._scaler is None:
            width, height = frame.width + frame.width % 2, frame.height + frame.height % 2
            # Key pictures are requested here, so that their times do not depend on where encoding begins.
            self._encoder = VideoEncoder(width, height, _rate(self._stream), gop_seconds=1e6)
            self._scaler = FrameScaler(width, height, Fit.STRETCH)
            self._rgb = np.empty((height, width, 3), np.uint8)
        if key:
            self._encoder.request_keyframe()
        self._scaler.scale_into(frame, self._rgb)
        for unit in self._encoder.encode(self._rgb, pts):
            yield AccessUnit(Codec.H264, unit.pts, unit.dts, unit.data, unit.key)


class _CopiedAac:
    codec = Codec.AAC

    def __init__(self, config: AacConfig | None) -> None:
        self._config = config
        self.channels = config.channels if config else 2

    def units(self, packet: av.Packet, origin: int) -> Iterator[AccessUnit]:
        pts = _ticks(packet.pts, packet)
        if packet.size == 0 or pts is None:
            return
        data = bytes(packet)
        if self._config is not None and adts_config(data) is None:
            data = wrap_adts(self._config, data)
        yield AccessUnit(Codec.AAC, pts + origin, pts + origin, data, True)


class _CopiedOpus:
    codec = Codec.OPUS

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def units(self, packet: av.Packet, origin: int) -> Iterator[AccessUnit]:
        pts = _ticks(packet.pts, packet)
        if packet.size == 0 or pts is None:
            return
        data = bytes(packet)
        yield AccessUnit(
            Codec.OPUS, pts + origin, pts + origin, data if has_control_header(data) else wrap_opus(data), True
        )


class _TranscodedAudio:
    """Anything FFmpeg decodes, as AAC at 48 kHz, mono or stereo."""

    codec = Codec.AAC

    def __init__(self, stream: AudioStream) -> None:
        self._stream = stream
        self.channels = min(2, max(1, stream.codec_context.channels))
        layout = "mono" if self.channels == 1 else "stereo"
        self._resampler = AudioResampler("fltp", layout, _AUDIO_RATE, _AAC_FRAME)
        encoder = av.CodecContext.create("aac", "w")
        assert isinstance(encoder, AudioCodecContext)
        encoder.sample_rate, encoder.format, encoder.layout = _AUDIO_RATE, "fltp", layout
        encoder.bit_rate = _AUDIO_BIT_RATE
        encoder.open()
        self._encoder = encoder
        self._config = AacConfig(2, 3, self.channels)  # AAC-LC at 48 kHz

    def units(self, packet: av.Packet, origin: int) -> Iterator[AccessUnit]:
        try:
            frames = self._stream.codec_context.decode(packet if packet.size else None)
        except av.FFmpegError:
            return  # one damaged packet of a file; the next ones follow
        resampled = [piece for frame in frames for piece in self._resampler.resample(frame)]
        packets = [coded for frame in resampled for coded in self._encoder.encode(frame)]
        if packet.size == 0:
            packets += [coded for frame in self._resampler.resample(None) for coded in self._encoder.encode(frame)]
            packets += self._encoder.encode(None)
        for coded in packets:
            pts = _ticks(coded.pts, coded)
            if pts is not None:
                data = wrap_adts(self._config, bytes(coded))
                yield AccessUnit(Codec.AAC, pts + origin, pts + origin, data, True)


def _open(path: Path) -> av.container.InputContainer:
    if not path.exists():
        raise MediaFileError(f"{path}: no such file")
    if path.is_dir():
        raise MediaFileError(f"{path}: is a directory")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise MediaFileError(f"{path}: not a media file ({error.strerror})") from error
    if container.format.name == "tty":
        container.close()
        raise MediaFileError(f"{path}: not a media file (FFmpeg would draw its text)")
    return container


def _is_moving(stream: VideoStream) -> bool:
    return not stream.disposition & Disposition.attached_pic and stream.codec_context is not None


def _video_source(stream: VideoStream, gop_seconds: float, first_key: int) -> _UnitSource:
    name = stream.codec_context.codec.canonical_name
    if name in (Codec.H264, Codec.HEVC):
        return _CopiedVideo(stream, Codec(name))
    return _TranscodedVideo(stream, gop_seconds, first_key)


def _audio_source(stream: AudioStream) -> _AudioSource:
    context = stream.codec_context
    name = context.codec.canonical_name
    if name == "opus" and context.channels <= _MAX_OPUS_CHANNELS:
        return _CopiedOpus(context.channels)
    if name == "aac":
        extradata = context.extradata
        config = parse_audio_specific_config(extradata) if extradata else None
        if config is not None or not extradata:
            return _CopiedAac(config)
    return _TranscodedAudio(stream)


def _rate(stream: VideoStream) -> float:
    return float(stream.average_rate or 0) or _DEFAULT_FPS


def _start(stream: VideoStream) -> int:
    base = stream.time_base
    return round(stream.start_time * base * CLOCK_HZ) if stream.start_time is not None and base else 0


def _ticks(time: int | None, timed: av.Packet | av.VideoFrame) -> int | None:
    """A time of a packet or frame in 90 kHz ticks, rounded to nearest."""
    base = timed.time_base
    if time is None or not base:
        return None
    return (2 * time * base.numerator * CLOCK_HZ + base.denominator) // (2 * base.denominator)
