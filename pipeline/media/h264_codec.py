"""Opens FFmpeg's H.264 encoders so that a picture comes out of the call that took it, and says its colours.

Which of them to open, and when, is `hardware`'s and the encoder's to decide.
"""

from collections.abc import Mapping
from fractions import Fraction

import av
import msgspec
from av.codec.codec import UnknownCodecError
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.errors import EncoderError

X264, NVENC = "libx264", "h264_nvenc"

DEFAULT_CRF = 23
TIME_BASE = Fraction(1, CLOCK_HZ)
AVCOL_SPC_BT709 = 1

# Key pictures are forced by time; this bound of the codec itself, in pictures, must never come first.
_ENDLESS_GOP = 1_000_000
# x264 takes every bitrate up to the one that it was opened with, and counts pictures where we count time: this much
# above the wanted one lets it spend a second's bits on the pictures of a second down to fps / RATE_HEADROOM.
RATE_HEADROOM = 6
# What makes each encoder give back a picture at once, and turn a requested I picture into an IDR.
_LOW_DELAY = {
    X264: {"tune": "zerolatency", "forced-idr": "1", "sc_threshold": "0"},
    NVENC: {"tune": "ull", "zerolatency": "1", "delay": "0", "forced-idr": "1", "no-scenecut": "1"},
}
# x264's names of speed against quality, which the topology uses, for NVENC's p1 (fastest) to p7.
_NVENC_PRESETS = {
    "ultrafast": "p1",
    "superfast": "p2",
    "veryfast": "p3",
    "faster": "p4",
    "fast": "p5",
    "medium": "p6",
}


class H264Settings(msgspec.Struct, frozen=True):
    """What a codec is opened with, whatever the size. `bitrate` in bit/s, else constant quality `crf`."""

    fps: float
    preset: str
    bitrate: int | None
    crf: float | None
    threads: int
    options: Mapping[str, str]


def open_codec(codec: str, width: int, height: int, settings: H264Settings) -> VideoCodecContext:
    """An encoder for pictures of this size that is ready to encode. Raises EncoderError, which names what is refused:
    codec, preset, size or options; a codec whose hardware is not there is refused here too."""
    if codec not in _LOW_DELAY:
        raise EncoderError(f"codec {codec!r} is not one of {', '.join(_LOW_DELAY)}")
    if width < 2 or height < 2 or width % 2 or height % 2:
        raise EncoderError(f"cannot encode {width}x{height}: 4:2:0 video needs an even width and height")
    options = {**_LOW_DELAY[codec], **_preset(codec, settings.preset), **_quality(codec, settings), **settings.options}
    context = _create(codec, options)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = TIME_BASE
    context.framerate = Fraction(settings.fps).limit_denominator(1001)
    context.gop_size = _ENDLESS_GOP
    context.max_b_frames = 0
    context.thread_count = settings.threads
    context.colorspace = AVCOL_SPC_BT709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    if settings.bitrate is not None:
        context.bit_rate = max_bitrate(codec, settings.bitrate)
    context.options = options
    try:
        context.open()
    except (av.FFmpegError, OSError) as error:
        named = " ".join(f"{name}={value}" for name, value in options.items())
        raise EncoderError(f"encoder {codec!r} refused {width}x{height} {named}: {error.strerror or error}") from error
    if settings.bitrate is not None:
        context.bit_rate = settings.bitrate
    return context


def max_bitrate(codec: str, bitrate: int) -> int:
    """The highest `bit_rate`, in bit/s, that a codec opened for `bitrate` can be given while it runs."""
    return bitrate * RATE_HEADROOM if codec == X264 else bitrate


def _create(codec: str, options: Mapping[str, str]) -> VideoCodecContext:
    try:
        context = av.CodecContext.create(codec, "w")
    except UnknownCodecError as error:
        raise EncoderError(f"this FFmpeg has no encoder {codec!r}") from error
    assert isinstance(context, VideoCodecContext)
    known = {option.name for option in (*context.supported_options.generic, *context.supported_options.private)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise EncoderError(f"encoder {codec!r} has no option {', '.join(unknown)}")
    return context


def _preset(codec: str, preset: str) -> dict[str, str]:
    return {"preset": _NVENC_PRESETS.get(preset, preset) if codec == NVENC else preset}


def _quality(codec: str, settings: H264Settings) -> dict[str, str]:
    """A bitrate is held within a buffer of one second. Average and maximum are the same at the opening: rate control is
    then the constant one (CBR), whose rate both wrappers take from the open codec's `bit_rate` at each picture
    (libx264.c and nvenc.c: reconfig_encoder)."""
    if settings.bitrate is not None:
        held = {"maxrate": str(max_bitrate(codec, settings.bitrate)), "bufsize": str(settings.bitrate)}
        return held if codec == X264 else {"rc": "cbr", **held}
    crf = str(DEFAULT_CRF if settings.crf is None else settings.crf)
    return {"crf": crf} if codec == X264 else {"rc": "vbr", "cq": crf}
