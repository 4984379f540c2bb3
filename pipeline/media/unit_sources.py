"""Packets of a container's streams to access units: copied where MPEG-TS can carry them, transcoded otherwise."""

from collections.abc import Iterator
from typing import Protocol

import av
import numpy as np
from av import BitStreamFilterContext
from av.audio.codeccontext import AudioCodecContext
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.stream import VideoStream

from pipeline.media.access_unit import CLOCK_HZ, AccessUnit, Codec, has_parameter_sets
from pipeline.media.adts import AacConfig, adts_config, parse_audio_specific_config, wrap_adts
from pipeline.media.encoder import VideoEncoder
from pipeline.media.excerpt import FIRST_PTS
from pipeline.media.opus_ts import has_control_header, wrap_opus
from pipeline.media.orientation import Orientation, with_orientation
from pipeline.media.scaler import Fit, FrameScaler

DEFAULT_FPS = 30.0
MAX_FPS = 480.0
"""What states more states its clock: browsers write WebM with a thousand "pictures" a second."""

_ANNEXB_FILTERS = {Codec.H264: "h264_mp4toannexb", Codec.HEVC: "hevc_mp4toannexb"}
# avcC and hvcC begin with version 1, Annex B with a start code (ISO 14496-15 5.3.3.1.2).
_LENGTH_PREFIXED = 1
# Containers, as libavformat names them, that do not say when a picture is shown.
_WITHOUT_PTS = ("avi", "h264", "hevc")
# What is transcoded is processed and encoded once more: this pass must not be seen.
_TRANSCODE_CRF = 14
_AUDIO_RATE = 48_000
_AUDIO_BIT_RATE = 192_000
_AAC_FRAME = 1024
_MAX_OPUS_CHANNELS = 2


class UnitSource(Protocol):
    @property
    def codec(self) -> Codec:
        """Codec of the units."""

    def units(self, packet: av.Packet, origin: int) -> Iterator[AccessUnit]:
        """Units of one container packet, or of the end of the stream if it is empty; `origin` is added to times."""


class AudioSource(UnitSource, Protocol):
    @property
    def channels(self) -> int: ...


def video_source(
    stream: VideoStream, orientation: Orientation, gop_seconds: float, first_key: int, first_pts: int = FIRST_PTS
) -> UnitSource:
    """See MediaFile for `gop_seconds`, `first_key` and `first_pts`."""
    name = stream.codec_context.codec.canonical_name
    if name in (Codec.H264, Codec.HEVC) and not _lacks_order(stream):
        return _CopiedVideo(stream, Codec(name), orientation)
    return _TranscodedVideo(stream, orientation, gop_seconds, first_key, first_pts)


def audio_source(stream: AudioStream) -> AudioSource:
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


def _lacks_order(stream: VideoStream) -> bool:
    """Whether nothing but decoding tells when a picture is shown."""
    return stream.container.format.name in _WITHOUT_PTS and bool(stream.codec_context.has_b_frames)


def rate_of(stream: VideoStream) -> float:
    """Pictures a second, as far as the container knows; for a raw file, which knows no times, the codec."""
    rates = (stream.guessed_rate, stream.average_rate)
    rate = float(next(filter(None, rates if stream.start_time is None else reversed(rates)), DEFAULT_FPS))
    return rate if rate <= MAX_FPS else DEFAULT_FPS


def ticks(time: int | None, timed: av.Packet | av.VideoFrame | av.AudioFrame) -> int | None:
    """A time of a packet or frame in 90 kHz ticks, rounded to nearest."""
    base = timed.time_base
    if time is None or not base:
        return None
    return (2 * time * base.numerator * CLOCK_HZ + base.denominator) // (2 * base.denominator)


class _CopiedVideo:
    """H.264 or HEVC packets in Annex B form, with the container's parameter sets and orientation told in the stream."""

    def __init__(self, stream: VideoStream, codec: Codec, orientation: Orientation) -> None:
        self.codec = codec
        self._orientation = orientation
        extradata = stream.codec_context.extradata or b""
        self._annexb: BitStreamFilterContext | None = None
        self._parameters = b""
        if extradata[:1] == bytes((_LENGTH_PREFIXED,)):
            self._annexb = BitStreamFilterContext(_ANNEXB_FILTERS[codec], stream)
        else:
            self._parameters = extradata
        self._has_pts = stream.container.format.name not in _WITHOUT_PTS
        self._count = _DecodeTimes(stream)

    def units(self, packet: av.Packet, origin: int) -> Iterator[AccessUnit]:
        if packet.size == 0:
            return
        self._count.complete(packet)
        dts, key = ticks(packet.dts, packet), packet.is_keyframe
        if dts is None:
            return
        pts = ticks(packet.pts, packet) if self._has_pts else None
        pts = dts if pts is None else pts
        for part in [packet] if self._annexb is None else self._annexb.filter(packet):
            data = bytes(part)
            if key and self._parameters and not has_parameter_sets(self.codec, data):
                data = self._parameters + data
            unit = AccessUnit(self.codec, pts + origin, dts + origin, data, key)
            yield unit if self._orientation.is_upright else with_orientation(unit, self._orientation)


class _DecodeTimes:
    """Raw files have no times at all: their pictures are counted."""

    def __init__(self, stream: VideoStream) -> None:
        assert stream.time_base is not None
        self._step = max(1, round(1 / (rate_of(stream) * stream.time_base)))
        self._next: int | None = None

    def complete(self, packet: av.Packet) -> None:
        """Give the packet a decode time if it has none."""
        if packet.dts is None:
            packet.dts = packet.pts if self._next is None else self._next
        if packet.dts is None:
            packet.dts = 0
        self._next = packet.dts + (packet.duration or self._step)


class _TranscodedVideo:
    """Anything FFmpeg decodes, upright, as H.264 of the same size (made even)."""

    codec = Codec.H264

    def __init__(
        self, stream: VideoStream, orientation: Orientation, gop_seconds: float, first_key: int, first_pts: int
    ) -> None:
        self._stream = stream
        self._upright = None if orientation.is_upright else _Upright(orientation)
        self._gop_ticks = round(gop_seconds * CLOCK_HZ)
        self._first_key = first_key
        self._first_pts = first_pts
        self._keys = 0
        self._last_key_pts: int | None = None
        self._last_pts: int | None = None
        self._step = round(CLOCK_HZ / rate_of(stream))
        self._count = _DecodeTimes(stream) if _lacks_order(stream) else None
        self._delay: int | None = None
        self._encoder: VideoEncoder | None = None
        self._scaler: FrameScaler | None = None
        self._rgb = np.empty((0, 0, 3), np.uint8)

    def units(self, packet: av.Packet, origin: int) -> Iterator[AccessUnit]:
        if self._count is not None and packet.size:
            self._count.complete(packet)
        try:
            frames = self._stream.codec_context.decode(packet if packet.size else None)
        except av.FFmpegError:
            return  # one damaged picture of a file; the next ones follow
        for frame in frames:
            pts = self._counted(frame) if self._count is not None else ticks(frame.pts, frame)
            if pts is not None:
                pts += origin
            else:
                pts = FIRST_PTS if self._last_pts is None else self._last_pts + self._step
            yield from self._encode(frame, pts)

    def _counted(self, frame: av.VideoFrame) -> int | None:
        """The decode time at which the frame came out, less what the first one was late by."""
        dts = ticks(frame.dts, frame)
        if dts is None:
            return None
        if self._delay is None:
            self._delay = dts
        return dts - self._delay

    def _encode(self, frame: av.VideoFrame, pts: int) -> Iterator[AccessUnit]:
        if self._last_pts is not None and pts <= self._last_pts:
            return
        self._last_pts = pts
        if pts < self._first_pts:
            return
        key = self._last_key_pts is None or pts - self._last_key_pts >= self._gop_ticks
        if key:
            self._last_key_pts = pts
            self._keys += 1
        if self._keys <= self._first_key:
            yield AccessUnit(Codec.H264, pts, pts, b"", key)
            return
        if self._upright is not None:
            frame = self._upright.turn(frame)
        if self._encoder is None or self._scaler is None:
            width, height = frame.width + frame.width % 2, frame.height + frame.height % 2
            # Key pictures are requested here, so that their times do not depend on where encoding begins.
            self._encoder = VideoEncoder(width, height, rate_of(self._stream), crf=_TRANSCODE_CRF, gop_seconds=1e6)
            self._scaler = FrameScaler(width, height, Fit.STRETCH)
            self._rgb = np.empty((height, width, 3), np.uint8)
        if key:
            self._encoder.request_keyframe()
        self._scaler.scale_into(frame, self._rgb)
        for unit in self._encoder.encode(self._rgb, pts):
            yield AccessUnit(Codec.H264, unit.pts, unit.dts, unit.data, unit.key)


class _Upright:
    """Turns decoded pictures. Its graph is built again when their size or format changes."""

    def __init__(self, orientation: Orientation) -> None:
        self._filters = orientation.filters
        self._key: tuple[int, int, str] | None = None
        self._ends: tuple[Graph, FilterContext, FilterContext] | None = None

    def turn(self, frame: av.VideoFrame) -> av.VideoFrame:
        key = (frame.width, frame.height, frame.format.name)
        if self._ends is None or key != self._key:
            self._ends, self._key = self._build(frame), key
        _, source, sink = self._ends
        source.push(frame)
        turned = sink.pull()
        assert isinstance(turned, av.VideoFrame)
        return turned

    def _build(self, frame: av.VideoFrame) -> tuple[Graph, FilterContext, FilterContext]:
        graph = Graph()
        graph.threads = 1
        source, sink = (
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
            graph.add("buffersink"),
        )
        graph.link_nodes(source, *(graph.add(name, arguments) for name, arguments in self._filters), sink)
        graph.configure()
        return graph, source, sink


class _CopiedAac:
    codec = Codec.AAC

    def __init__(self, config: AacConfig | None) -> None:
        self._config = config
        self.channels = config.channels if config else 2

    def units(self, packet: av.Packet, origin: int) -> Iterator[AccessUnit]:
        pts = ticks(packet.pts, packet)
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
        pts = ticks(packet.pts, packet)
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
            pts = ticks(coded.pts, coded)
            if pts is not None:
                data = wrap_adts(self._config, bytes(coded))
                yield AccessUnit(Codec.AAC, pts + origin, pts + origin, data, True)
