"""RGB pictures to H.264 with no frame of delay, key pictures where they are asked for and nowhere else."""

import statistics
from collections import deque
from collections.abc import Mapping

import av
import msgspec
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.errors import EncoderError
from pipeline.media.h264_codec import (
    AVCOL_SPC_BT709,
    DEFAULT_CRF,
    TIME_BASE,
    X264,
    H264Settings,
    max_bitrate,
    open_codec,
)
from pipeline.media.hardware import ENCODERS, open_encoder

__all__ = ["DEFAULT_CRF", "EncodedUnit", "VideoEncoder"]

# The picture rate is the median over so many steps, so that gaps and jitter do not count.
_WATCHED_STEPS = 15
# A rate that differs by less is the same: x264 would start its rate control anew for nothing.
_SAME_RATE = 0.1


class EncodedUnit(msgspec.Struct, frozen=True, gc=False):
    """One coded picture in Annex B form; times in 90 kHz ticks. SPS and PPS precede each key picture."""

    data: bytes
    pts: int
    dts: int
    key: bool


class VideoEncoder:
    """Encodes pictures of any size, one after the other; a change of size costs a key picture and a new codec.

    `fps_hint` guides the rate control until the pictures' own rate is known: they may come at any rate.
    """

    def __init__(
        self,
        width: int,
        height: int,
        fps_hint: float,
        codec: str = X264,
        preset: str = "superfast",
        bitrate: int | None = None,
        crf: float | None = None,
        gop_seconds: float = 1.0,
        threads: int = 1,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Opens the codec for the size that is expected first. `bitrate` in bit/s, held in a buffer of one second; else
        constant quality `crf` (DEFAULT_CRF if not given). `codec` is one of ENCODERS.

        Raises EncoderError if codec, preset, size or options are refused.
        """
        if codec not in ENCODERS:
            raise EncoderError(f"codec {codec!r} is not one of {', '.join(ENCODERS)}")
        if fps_hint <= 0 or gop_seconds <= 0:
            raise EncoderError(f"fps_hint {fps_hint} and gop_seconds {gop_seconds} must be above 0")
        if bitrate is not None and crf is not None:
            raise EncoderError("give either bitrate or crf, not both")
        self.bitrate = bitrate
        """In bit/s, as of now; None with constant quality."""
        self.refused = ""
        """Why the codec that was preferred is not the one at work; empty when it is."""
        self._settings = H264Settings(fps_hint, preset, bitrate, crf, threads, dict(options or {}))
        self._codecs = ENCODERS[codec]
        self._gop_ticks = round(gop_seconds * CLOCK_HZ)
        self._last_key_pts: int | None = None
        self._last_pts: int | None = None
        self._key_requested = False
        self._steps: deque[int] = deque(maxlen=_WATCHED_STEPS)
        self._fps = fps_hint
        self._picture: av.VideoFrame | None = None
        self._reformatter = VideoReformatter()
        self._context: VideoCodecContext
        self._open(width, height)

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture to repeat."""
        return self._picture is not None

    def request_keyframe(self) -> None:
        """Make the next picture a key picture."""
        self._key_requested = True

    def set_bitrate(self, bits_per_second: int) -> None:
        """Encode with another bitrate from the next picture on, without a key picture. What the codec's buffer of one
        second holds is spent first. Raises ValueError with constant quality, which has none."""
        if self.bitrate is None:
            raise ValueError("an encoder of constant quality has no bitrate")
        self.bitrate = bits_per_second
        self._apply_bitrate()

    def encode(self, rgb: NDArray[np.uint8], pts: int) -> list[EncodedUnit]:
        """Encode `rgb`, uint8 [height, width, 3] contiguous, at `pts` (90 kHz, rising). The array is free on return.

        Raises ValueError for an array of another kind or a `pts` that does not rise, EncoderError for a size that no
        codec takes.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"picture is {rgb.shape}, wanted (height, width, 3)")
        self._check(pts)
        height, width = rgb.shape[:2]
        rest = self._change_size(width, height) if (width, height) != (self.width, self.height) else []
        view = av.VideoFrame.from_numpy_buffer(rgb, "rgb24")
        frame = self._reformatter.reformat(
            view,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.time_base = TIME_BASE
        frame.colorspace = AVCOL_SPC_BT709
        frame.color_range = ColorRange.MPEG
        self._picture = frame
        return rest + self._encode(frame, pts)

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

    def _open(self, width: int, height: int) -> None:
        opened = open_encoder(self._codecs, lambda codec: open_codec(codec, width, height, self._settings))
        self.codec, self._context, refused = opened
        if refused:
            self.refused = refused
            self._codecs = (self.codec,)  # Not to be tried again at each change of size.
        if self.bitrate is not None:
            assert self._settings.bitrate is not None
            self._max_bit_rate = max_bitrate(self.codec, self._settings.bitrate)
            self._apply_bitrate()
        self.width, self.height = width, height

    def _change_size(self, width: int, height: int) -> list[EncodedUnit]:
        """Go over to a codec of another size, whose first picture is a key picture. Returns what the old one held."""
        old = self._context
        self._open(width, height)
        self._key_requested = True
        return _units(old.encode(None))

    def _check(self, pts: int) -> None:
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"pts {pts} does not come after {self._last_pts}")

    def _encode(self, frame: av.VideoFrame, pts: int) -> list[EncodedUnit]:
        if self.bitrate is not None and self._last_pts is not None:
            self._watch_rate(pts - self._last_pts)
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

    def _watch_rate(self, step: int) -> None:
        """Follow the pictures' own rate. Encoders without delay count pictures, not time (x264 with a variable rate
        holds one back): told 30 fps, they spend twice the bitrate on a stream of 60."""
        self._steps.append(step)
        if len(self._steps) < _WATCHED_STEPS:
            return
        fps = CLOCK_HZ / statistics.median(self._steps)
        if abs(fps - self._fps) > _SAME_RATE * self._fps:
            self._fps = fps
            self._apply_bitrate()

    def _apply_bitrate(self) -> None:
        assert self.bitrate is not None
        wanted = round(self.bitrate * self._settings.fps / self._fps)
        self._context.bit_rate = min(wanted, self._max_bit_rate)


def _units(packets: list[av.Packet]) -> list[EncodedUnit]:
    units = []
    for packet in packets:
        assert packet.pts is not None
        assert packet.dts is not None
        units.append(EncodedUnit(bytes(packet), packet.pts, packet.dts, packet.is_keyframe))
    return units
