"""Live publication into a channel: a media file as a camera would play it, or pictures that a program makes.

Both go through one `TrickleSink`: a server that is away for a while costs segments, which are counted, and no stream.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.client.channel import Channel
from pipeline.media.access_unit import CLOCK_HZ, Codec
from pipeline.media.encoder import VideoEncoder
from pipeline.media.excerpt import FIRST_PTS
from pipeline.media.file_source import TsFileSource
from pipeline.media.pace import Pace
from pipeline.media.recording import PipeReader, Recording
from pipeline.media.segmenter import Segmenter
from pipeline.media.ts_mux import TsMuxer
from pipeline.trickle.errors import AccessDenied, TrickleError
from pipeline.trickle.publisher import TricklePublisher
from pipeline.trickle.sink import TrickleSink

# How far a bitrate may go down where the network does not carry it.
_FLOOR_PART = 4
_NEEDED = "needed: uint8 (height, width, 3), or floats in [0, 1] of that shape"


class Published(msgspec.Struct, frozen=True):
    """What became of a publication. `segments` and `bytes` the server has confirmed. `dropped` pictures were not
    encoded, because the network did not carry them in time."""

    segments: int
    segments_lost: int
    bytes: int
    dropped: int = 0


async def publish_file(path: str, channel: Channel) -> Published:
    """Play a file from its start, each part when it is due, and end the channel after the last. Cancelled, it ends the
    channel at once.

    Raises MediaFileError for a file that cannot be used, ChannelUnavailable for a channel that cannot be written.
    """
    source = await asyncio.to_thread(TsFileSource, path)
    async with _opened(channel) as sink:
        stopping = threading.Event()
        playing = asyncio.create_task(asyncio.to_thread(_play, source, sink, stopping))
        try:
            await asyncio.shield(playing)
        finally:
            stopping.set()
            await asyncio.wait([playing])
    return Published(sink.segments_sent, sink.segments_lost, sink.bytes_sent)


async def publish_recording(reader: PipeReader, channel: Channel) -> Published:
    """Publish what is being recorded, as it comes, and end the channel at its end. To stop, end what `reader` reads:
    cancelled, it waits for that.

    Raises MediaFileError for what is no recording, ChannelUnavailable for a channel that cannot be written.
    """
    async with _opened(channel) as sink:
        await _finish(lambda reader: _relay(reader, sink), reader)
    return Published(sink.segments_sent, sink.segments_lost, sink.bytes_sent)


async def publish_frames(frames: AsyncIterable[Any], channel: Channel, fps: float, bitrate: int) -> Published:
    """Encode pictures as they come and end the channel after the last. Each is shown at the time at which it came, and
    none before its turn at `fps` pictures a second: a source that is faster is made to wait.

    Raises EncoderError for a size that cannot be encoded (both sides must be even), ValueError for what is no picture,
    ChannelUnavailable for a channel that cannot be written.
    """
    async with _opened(channel) as sink:
        writer = _FrameWriter(sink, fps, bitrate)
        due = time.monotonic()
        async for picture in frames:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - 1 / fps) + 1 / fps
            await _finish(writer.write, picture)
        writer.close()
    return Published(sink.segments_sent, sink.segments_lost, sink.bytes_sent, writer.dropped)


def rgb_of(picture: Any) -> NDArray[np.uint8]:
    """A picture as contiguous uint8 (height, width, 3): given as that, or as floats in [0, 1] of that shape, with or
    without a batch of one in front; an array or a torch tensor on any device. Raises ValueError for anything else."""
    if hasattr(picture, "detach"):
        picture = picture.detach().cpu().numpy()
    if not isinstance(picture, np.ndarray):
        raise ValueError(f"a {type(picture).__name__} is no picture; {_NEEDED}")
    array: NDArray[Any] = picture[0] if picture.ndim == 4 and picture.shape[0] == 1 else picture
    if array.ndim != 3 or array.shape[-1] != 3 or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
        raise ValueError(f"{picture.dtype} {picture.shape} is no picture; {_NEEDED}")
    if array.dtype != np.uint8:
        array = np.rint(np.clip(np.nan_to_num(array), 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(array)


@asynccontextmanager
async def _opened(channel: Channel) -> AsyncIterator[TrickleSink]:
    """A sink for a channel that is known to take what is written. Raises ChannelUnavailable, also when it stops to."""
    publisher = TricklePublisher(channel.url, token=channel.token, ssl_context=channel.ssl_context)
    try:
        await publisher.create()
    except TrickleError as error:
        raise channel.unavailable(error) from error
    finally:
        publisher.abort()
    sink = TrickleSink(channel.url, token=channel.token, ssl_context=channel.ssl_context)
    try:
        yield sink
    except AccessDenied as denied:
        raise channel.unavailable(denied) from denied
    finally:
        await asyncio.to_thread(sink.close)


async def _finish(function: Callable[[Any], None], argument: Any) -> None:
    """Run it in a thread, and go on only when it has ended, also when cancelled: the sink is for one thread."""
    running = asyncio.create_task(asyncio.to_thread(function, argument))
    try:
        await asyncio.shield(running)
    finally:
        await asyncio.wait([running])


def _relay(reader: PipeReader, sink: TrickleSink) -> None:
    with Recording(reader) as recording:
        info = recording.info
        segmenter = Segmenter(TsMuxer(info.video or Codec.H264, info.audio, info.audio_channels), sink)
        for unit in recording.units():
            if unit.is_video:
                segmenter.video(unit.data, unit.pts, unit.dts, unit.key)
            else:
                segmenter.audio(unit.data, unit.pts)
        segmenter.close()


def _play(source: TsFileSource, sink: TrickleSink, stopping: threading.Event) -> None:
    began = time.monotonic()
    segment = None
    for chunk in source:
        if stopping.wait(max(0.0, began + chunk.pts_seconds - time.monotonic())):
            return
        if chunk.segment_index != segment:
            sink.begin_segment()
            segment = chunk.segment_index
        sink.write(chunk.data)
        if chunk.last:
            sink.end_segment()


class _FrameWriter:
    """Pictures of a program to segments in a sink; for one thread at a time."""

    def __init__(self, sink: TrickleSink, fps: float, bitrate: int) -> None:
        self.dropped = 0
        """Pictures that would have waited too long to be sent."""
        self._sink = sink
        self._fps = fps
        self._bitrate = bitrate
        self._segmenter = Segmenter(TsMuxer(), sink)
        self._encoder: VideoEncoder | None = None
        self._pace: Pace | None = None
        self._began = time.monotonic()
        self._last_pts = -1

    def write(self, picture: Any) -> None:
        rgb = rgb_of(picture)
        now = time.monotonic()
        if self._encoder is None or self._pace is None:
            height, width = rgb.shape[:2]
            self._encoder = VideoEncoder(width, height, self._fps, bitrate=self._bitrate)
            self._pace = Pace(self._sink, self._encoder, self._bitrate // _FLOOR_PART)
            self._began = now
        if self._sink.access_denied is not None:
            raise self._sink.access_denied
        if not self._pace.admits(now):
            self.dropped += 1
            return
        if self._sink.lost_segment:
            self._encoder.request_keyframe()
        pts = max(FIRST_PTS + round((now - self._began) * CLOCK_HZ), self._last_pts + 1)
        self._last_pts = pts
        for unit in self._encoder.encode(rgb, pts):
            self._segmenter.video(unit.data, unit.pts, unit.dts, unit.key)

    def close(self) -> None:
        self._segmenter.close()
