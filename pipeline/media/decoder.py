"""Access units to decoded pictures, without a frame of delay and without showing damage.

After a gap nothing is shown until the next whole key picture: H.264 goes on decoding over missing references, and 1 %
of lost packets would smear half of the pictures while FFmpeg flags one of them.
"""

from fractions import Fraction

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from pipeline.media.access_unit import CLOCK_HZ, AccessUnit, Codec, Loss
from pipeline.media.scaler import Fit, FrameScaler

# The largest picture that is decoded: 8K with its macroblock padding. A forged header could ask for gigabytes.
MAX_PIXELS = 8192 * 4352

_TIME_BASE = Fraction(1, CLOCK_HZ)


class VideoDecoder:
    """Decodes H.264 and HEVC, one access unit a call, and scales pictures to `width` x `height` on request."""

    def __init__(self, width: int, height: int, fit: Fit | str = Fit.CROP) -> None:
        """Raises ValueError for a size below 1 or an unknown fit."""
        self.decode_errors = 0
        self.skipped = 0
        self._scaler = FrameScaler(width, height, fit)
        self._context: VideoCodecContext | None = None
        self._codec: Codec | None = None
        self._waiting = True

    def decode(self, unit: AccessUnit) -> list[av.VideoFrame]:
        """Pictures that this unit completes, in presentation order, `pts` in 90 kHz ticks; never raises on damage.

        None, counted in `skipped`, while there is no whole key picture to begin from, or if the unit is damaged.
        """
        if unit.codec is not self._codec:
            self._open(unit.codec)
        # To FFmpeg an empty packet means the end of the stream.
        damaged = unit.loss is Loss.INSIDE or not unit.data
        if damaged or (unit.loss is Loss.BEFORE and not unit.key):
            self._waiting = True
        if damaged or (self._waiting and not unit.key):
            self.skipped += 1
            return []
        packet = av.Packet(unit.data)
        packet.pts, packet.dts, packet.time_base = unit.pts, unit.dts, _TIME_BASE
        assert self._context is not None
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError:
            self.decode_errors += 1
            self.skipped += 1
            self._waiting = True
            return []
        self._waiting = False
        return frames

    def flush(self) -> list[av.VideoFrame]:
        """Pictures that the codec still holds (only streams with B-frames leave some). Decoding then begins anew."""
        if self._context is None:
            return []
        try:
            frames = self._context.decode(None)
        except av.FFmpegError:
            self.decode_errors += 1
            frames = []
        self._context.flush_buffers()
        self._waiting = True
        return frames

    def scale_into(self, frame: av.VideoFrame, slot: NDArray[np.uint8]) -> None:
        """Write `frame` as RGB into `slot`, uint8 [height, width, 3]; see `FrameScaler.scale_into`."""
        self._scaler.scale_into(frame, slot)

    def _open(self, codec: Codec) -> None:
        context = av.CodecContext.create(codec.value, "r")
        assert isinstance(context, VideoCodecContext)
        # Frame threads would add one frame of delay each; slice threads add none.
        context.thread_type = ThreadType.SLICE
        context.options = {"max_pixels": str(MAX_PIXELS)}
        self._context = context
        self._codec = codec
        self._waiting = True
