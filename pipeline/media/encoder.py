"""RGB pictures to H.264 with no frame of delay, key pictures where they are asked for and nowhere else."""

from collections.abc import Mapping
from fractions import Fraction

import av
import msgspec
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from numpy.typing import NDArray

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.errors import EncoderError

DEFAULT_CRF = 23
# Key pictures are forced by time; this bound of the codec itself, in pictures, must never come first.
_ENDLESS_GOP = 1_000_000

_TIME_BASE = Fraction(1, CLOCK_HZ)
# What makes each encoder give back a picture at once, and turn a requested I picture into an IDR.
_LOW_DELAY = {
    "libx264": {"tune": "zerolatency", "forced-idr": "1", "sc_threshold": "0"},
    "h264_nvenc": {"tune": "ull", "zerolatency": "1", "delay": "0", "forced-idr": "1", "no-scenecut": "1"},
}
_AVCOL_SPC_BT709 = 1


class EncodedUnit(msgspec.Struct, frozen=True, gc=False):
    """One coded picture in Annex B form; times in 90 kHz ticks. SPS and PPS precede each key picture."""

    data: bytes
    pts: int
    dts: int
    key: bool


class VideoEncoder:
    """Encodes pictures of one size. `fps_hint` only guides the rate control: pictures may come at any rate."""

    def __init__(
        self,
        width: int,
        height: int,
        fps_hint: float,
        codec: str = "libx264",
        preset: str = "superfast",
        bitrate: int | None = None,
        crf: float | None = None,
        gop_seconds: float = 1.0,
        threads: int = 1,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """`bitrate` in bit/s, held within a one-second buffer; else constant quality `crf` (DEFAULT_CRF if not given).

        Raises EncoderError if codec, preset, size or options are refused.
        """
        if codec not in _LOW_DELAY:
            raise EncoderError(f"codec {codec!r} is not one of {', '.join(_LOW_DELAY)}")
        if width < 2 or height < 2 or width % 2 or height % 2:
            raise EncoderError(f"cannot encode {width}x{height}: 4:2:0 video needs an even width and height")
        if fps_hint <= 0 or gop_seconds <= 0:
            raise EncoderError(f"fps_hint {fps_hint} and gop_seconds {gop_seconds} must be above 0")
        if bitrate is not None and crf is not None:
            raise EncoderError("give either bitrate or crf, not both")
        self.width = width
        self.height = height
        self.codec = codec
        self._gop_ticks = round(gop_seconds * CLOCK_HZ)
        self._last_key_pts: int | None = None
        self._last_pts: int | None = None
        self._key_requested = False
        self._picture: av.VideoFrame | None = None
        self._reformatter = VideoReformatter()
        settings = {**_LOW_DELAY[codec], "preset": preset, **_quality(codec, bitrate, crf), **(options or {})}
        self._context = _open(codec, width, height, fps_hint, bitrate, threads, settings)

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture to repeat."""
        return self._picture is not None

    def request_keyframe(self) -> None:
        """Make the next picture a key picture."""
        self._key_requested = True

    def encode(self, rgb: NDArray[np.uint8], pts: int) -> list[EncodedUnit]:
        """Encode `rgb`, uint8 [height, width, 3] contiguous, at `pts` (90 kHz, rising). The array is free on return.

        Raises ValueError for an array of another shape or a `pts` that does not rise.
        """
        if rgb.shape != (self.height, self.width, 3):
            raise ValueError(f"picture is {rgb.shape}, wanted {(self.height, self.width, 3)}")
        self._check(pts)
        view = av.VideoFrame.from_numpy_buffer(rgb, "rgb24")
        frame = self._reformatter.reformat(
            view,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.time_base = _TIME_BASE
        frame.colorspace = _AVCOL_SPC_BT709
        frame.color_range = ColorRange.MPEG
        self._picture = frame
        return self._encode(frame, pts)

    def repeat(self, pts: int) -> list[EncodedUnit]:
        """Encode the last picture once more, at `pts`.

        Raises ValueError for a `pts` that does not rise, or when there was no picture yet.
        """
        if self._picture is None:
            raise ValueError("no picture to repeat")
        self._check(pts)
        return self._encode(self._picture, pts)

    def flush(self) -> list[EncodedUnit]:
        """What the encoder still holds: nothing by design. The encoder is spent afterwards."""
        return _units(self._context.encode(None))

    def _check(self, pts: int) -> None:
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"pts {pts} does not come after {self._last_pts}")

    def _encode(self, frame: av.VideoFrame, pts: int) -> list[EncodedUnit]:
        frame.pts = pts
        frame.pict_type = PictureType.I if self._key_is_due(pts) else PictureType.NONE
        self._last_pts = pts
        return _units(self._context.encode(frame))

    def _key_is_due(self, pts: int) -> bool:
        due = self._key_requested or self._last_key_pts is None or pts - self._last_key_pts >= self._gop_ticks
        if due:
            self._key_requested = False
            self._last_key_pts = pts
        return due


def _quality(codec: str, bitrate: int | None, crf: float | None) -> dict[str, str]:
    if bitrate is not None:
        return {"maxrate": str(bitrate), "bufsize": str(bitrate)}
    return {"crf" if codec == "libx264" else "cq": str(DEFAULT_CRF if crf is None else crf)}


def _open(
    codec: str, width: int, height: int, fps: float, bitrate: int | None, threads: int, options: dict[str, str]
) -> VideoCodecContext:
    try:
        context = av.CodecContext.create(codec, "w")
    except UnknownCodecError as error:
        raise EncoderError(f"this FFmpeg has no encoder {codec!r}") from error
    assert isinstance(context, VideoCodecContext)
    known = {option.name for option in (*context.supported_options.generic, *context.supported_options.private)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise EncoderError(f"encoder {codec!r} has no option {', '.join(unknown)}")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = _TIME_BASE
    context.framerate = Fraction(fps).limit_denominator(1001)
    context.gop_size = _ENDLESS_GOP
    context.max_b_frames = 0
    context.thread_count = threads
    context.colorspace = _AVCOL_SPC_BT709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    if bitrate is not None:
        context.bit_rate = bitrate
    context.options = options
    try:
        context.open()
    except (av.FFmpegError, OSError) as error:
        settings = " ".join(f"{name}={value}" for name, value in options.items())
        raise EncoderError(f"encoder {codec!r} refused {width}x{height} {settings}: {error}") from error
    return context


def _units(packets: list[av.Packet]) -> list[EncodedUnit]:
    units = []
    for packet in packets:
        assert packet.pts is not None
        assert packet.dts is not None
        units.append(EncodedUnit(bytes(packet), packet.pts, packet.dts, packet.is_keyframe))
    return units
