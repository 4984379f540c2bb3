"""Access units to decoded pictures, without a frame of delay and without showing damage.

After a gap nothing is shown until the next whole key picture: H.264 goes on decoding over missing references, and 1 %
of lost packets would smear half of the pictures while FFmpeg flags one of them.
"""

import gc
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from pipeline.media.access_unit import CLOCK_HZ, AccessUnit, Codec, Loss
from pipeline.media.hardware import open_decoder
from pipeline.media.orientation import orientation_of
from pipeline.media.scaler import SQUARE, UPRIGHT, Fit, FrameScaler

# The largest picture that is decoded: 8K with its macroblock padding. A forged header could ask for gigabytes.
MAX_PIXELS = 8192 * 4352

# A frame whose side data were looked at refers to itself by way of them, and is kept until the collector runs: that is
# done so many units behind a key picture. The codec makes a frame's object one unit ahead and a caller may hold it for
# another: a collection that finds it alive moves it where the next one does not look, and then every key picture would
# be kept, 0.4 MB each at 512x512, until something else makes the collector run.
_COLLECTED_AFTER = 2

_TIME_BASE = Fraction(1, CLOCK_HZ)
# Pixels that are more oblong than this are damage: the most oblong in use are 64:33 (2.35:1 on 720x576).
_MAX_SAMPLE_ASPECT = 8


class VideoDecoder:
    """Decodes H.264 and HEVC, one access unit a call, and scales pictures to `width` x `height` on request."""

    def __init__(self, width: int, height: int, fit: Fit | str = Fit.CROP, card: int | None = None) -> None:
        """`card` is the graphics card that is to decode, if it can. Raises ValueError for a size below 1 or an unknown
        fit."""
        self.card_refused = ""
        """Why the card that was wanted does not decode."""
        self._card = card
        self.decode_errors = 0
        self.skipped = 0
        self._scaler = FrameScaler(width, height, fit)
        self._context: VideoCodecContext | None = None
        self._codec: Codec | None = None
        self._waiting = True
        self._begun_at = 0
        self._since_key = 0
        self._orientation = UPRIGHT
        self._sample_aspect = SQUARE

    def decode(self, unit: AccessUnit) -> list[av.VideoFrame]:
        """Pictures that this unit completes, in presentation order, `pts` in 90 kHz ticks; never raises on damage.

        None, counted in `skipped`, while there is no whole key picture to begin from, or if the unit is damaged.
        """
        held: list[av.VideoFrame] = []
        # To FFmpeg an empty packet means the end of the stream.
        damaged = unit.loss is Loss.INSIDE or not unit.data
        if unit.codec is not self._codec:
            held = self.flush()
            self._open(unit.codec)
        elif damaged or unit.loss is Loss.BEFORE:
            held = self.flush()
        if damaged or (self._waiting and not unit.key):
            self.skipped += 1
            return held
        frames = self._decode(unit)
        return [*held, *frames] if held else frames

    def flush(self) -> list[av.VideoFrame]:
        """Pictures that the codec still holds (only streams with B-frames leave some). Decoding then begins anew."""
        if self._context is None or self._waiting:
            return []
        try:
            frames = self._intact(self._context.decode(None))
        except av.FFmpegError:
            self.decode_errors += 1
            frames = []
        self._begin_anew()
        return frames

    def resize(self, width: int, height: int, fit: Fit | str) -> None:
        """Scale pictures to another size from now on. Raises ValueError as the constructor does."""
        self._scaler = FrameScaler(width, height, fit)

    def scale_into(self, frame: av.VideoFrame, slot: NDArray[np.uint8]) -> None:
        """Write `frame` as RGB into `slot`, uint8 [height, width, 3], upright and in its true proportions; see
        `FrameScaler.scale_into`. Frames must come in the order in which `decode` gave them."""
        self._scaler.scale_into(frame, slot, self._orientation, self._sample_aspect)

    def _decode(self, unit: AccessUnit) -> list[av.VideoFrame]:
        context = self._context
        assert context is not None
        packet = av.Packet(unit.data)
        packet.pts, packet.dts, packet.time_base = unit.pts, unit.dts, _TIME_BASE
        if self._waiting:
            self._waiting = False
            self._begun_at = unit.pts
        self._since_key = 0 if unit.key else self._since_key + 1
        if self._since_key == _COLLECTED_AFTER:
            gc.collect(0)
        try:
            frames = context.decode(packet)
        except av.FFmpegError:
            self._give_up()
            return []
        intact = self._intact(frames)
        if frames:
            self._note_geometry(frames, context)
        return intact

    def _intact(self, frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
        """The frames up to the first one that FFmpeg knows to be damaged, without those that cannot be right."""
        for index, frame in enumerate(frames):
            if frame.pts is not None and frame.pts < self._begun_at:
                # Shown before the picture that decoding began with, it refers to some before that (open GOP).
                self.skipped += 1
                return [*frames[:index], *self._intact(frames[index + 1 :])]
            if frame.is_corrupt:
                self._give_up()
                return frames[:index]
        return frames

    def _give_up(self) -> None:
        """A unit turned out to be damaged: what the codec holds may show it, or refer to it."""
        self.decode_errors += 1
        self.skipped += 1
        self._begin_anew()

    def _begin_anew(self) -> None:
        assert self._context is not None
        self._context.flush_buffers()
        self._waiting = True

    def _note_geometry(self, frames: Iterable[av.VideoFrame], context: VideoCodecContext) -> None:
        for frame in frames:
            # Told with a key picture, it holds up to the next one (H.264 D.2.27).
            if frame.key_frame:
                self._orientation = orientation_of(frame)
        aspect = context.sample_aspect_ratio
        if not aspect:
            self._sample_aspect = SQUARE
        elif aspect != self._sample_aspect:
            sane = (
                aspect.numerator <= _MAX_SAMPLE_ASPECT * aspect.denominator <= _MAX_SAMPLE_ASPECT**2 * aspect.numerator
            )
            self._sample_aspect = Fraction(aspect.numerator, aspect.denominator) if sane else SQUARE

    def _open(self, codec: Codec) -> None:
        context, self.card_refused = open_decoder(codec.value, self._card)
        # Frame threads would add one frame of delay each. Slice threads add none, but with them FFmpeg does not tell
        # of damage that it finds in H.264: of 60 flipped bits 0 to 14 instead of 55 to 58. In HEVC it finds none.
        if codec is Codec.H264:
            context.thread_count = 1
        else:
            context.thread_type = ThreadType.SLICE
        # Damaged pictures are not shown: they need no costly guess at what is missing, only to be flagged.
        context.options = {"max_pixels": str(MAX_PIXELS), "ec": "favor_inter"}
        self._context = context
        self._codec = codec
        self._waiting = True
