"""A channel of MPEG-TS segments to decoded pictures: what a viewer sees, as arrays.

Pictures are of the size that they were coded in. What is damaged is not shown; a reader that is too slow misses
segments and goes on with the next one that is there.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.client.channel import Channel, segments
from pipeline.media.access_unit import CLOCK_HZ, AccessUnit
from pipeline.media.decoder import VideoDecoder
from pipeline.media.scaler import Fit, FrameScaler
from pipeline.media.ts_demux import TsDemuxer
from pipeline.trickle.errors import TrickleError

_PAT_PACKETS = (b"\x47\x40\x00", b"\x47\x60\x00")
"""How a segment starts that was made to stand alone (ISO/IEC 13818-1, 2.4.4.3): the one before it is complete then."""


class ReceivedFrame(NamedTuple):
    """`image` is float32 (1, height, width, 3), RGB in [0, 1], in memory of its own; `pts` counts 1/90000 s."""

    image: Any  # NDArray[np.float32], or a torch.Tensor where tensors were asked for.
    pts: int

    @property
    def seconds(self) -> float:
        return self.pts / CLOCK_HZ


async def received_frames(channel: Channel, start_seq: int, patience_s: float) -> AsyncGenerator[ReceivedFrame]:
    """Every picture of the stream from segment `start_seq` on, in the order of its time, until the stream ends.

    Decoding runs in a thread, and no further ahead than what is asked for. Raises ChannelUnavailable.
    """
    decoder = _PictureDecoder()
    async with aclosing(segments(channel, start_seq, patience_s)) as found:
        async for segment in found:
            begins, gap = True, segment.discontinuity
            try:
                async for data in segment:
                    for frame in await asyncio.to_thread(decoder.feed, data, begins, gap):
                        yield frame
                    begins = gap = False
            except TrickleError as error:
                raise channel.unavailable(error) from error
    for frame in await asyncio.to_thread(decoder.flush):
        yield frame


class _PictureDecoder:
    """For one thread at a time."""

    def __init__(self) -> None:
        self._demuxer = TsDemuxer()
        self._decoder = VideoDecoder(2, 2)
        self._scaler = FrameScaler(2, 2, Fit.STRETCH)
        self._rgb = np.empty((2, 2, 3), np.uint8)

    def feed(self, data: bytes, begins: bool, gap: bool) -> list[ReceivedFrame]:
        """What these bytes complete. `begins`: they are the first of a segment; `gap`: bytes before them are lost."""
        units: list[AccessUnit] = []
        if gap:
            self._demuxer.discontinuity()
        elif begins and data.startswith(_PAT_PACKETS):
            units = self._demuxer.flush()
        return self._pictures([*units, *self._demuxer.feed(data)])

    def flush(self) -> list[ReceivedFrame]:
        return self._pictures(self._demuxer.flush()) + [self._picture(frame) for frame in self._decoder.flush()]

    def _pictures(self, units: Iterable[AccessUnit]) -> list[ReceivedFrame]:
        return [self._picture(frame) for unit in units if unit.is_video for frame in self._decoder.decode(unit)]

    def _picture(self, frame: av.VideoFrame) -> ReceivedFrame:
        if (frame.width, frame.height) != (self._scaler.width, self._scaler.height):
            self._scaler = FrameScaler(frame.width, frame.height, Fit.STRETCH)
            self._rgb = np.empty((frame.height, frame.width, 3), np.uint8)
        self._scaler.scale_into(frame, self._rgb)
        image: NDArray[np.float32] = np.multiply(self._rgb[None], np.float32(1 / 255), dtype=np.float32)
        assert frame.pts is not None
        return ReceivedFrame(image, frame.pts)
