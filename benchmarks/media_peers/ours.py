"""Our parts, one after another in one thread, as the stages use them. Publishing is `publishing`'s."""

import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from benchmarks.end_to_end_peers.cases import CRF, GOP_SECONDS, PRESET, THREADS
from benchmarks.media_peers.work import (
    CONVERT,
    DECODE,
    DEMUX,
    ENCODE,
    FPS,
    MUX,
    PROCESS,
    SCALE,
    WARM_UP,
    Stopwatch,
    Work,
)
from pipeline.media.decoder import VideoDecoder
from pipeline.media.encoder import VideoEncoder
from pipeline.media.file_source import TsFileSource
from pipeline.media.segmenter import Segmenter
from pipeline.media.ts_demux import TsDemuxer
from pipeline.media.ts_mux import TsMuxer


class Kept:
    """A sink of segments that keeps what was written for each picture."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def begin_segment(self) -> None: ...

    def write(self, data: bytes) -> None:
        self.chunks.append(data)

    def end_segment(self) -> None: ...


def measure(work: Work, source: Path, chunks: list[bytes]) -> dict[str, float]:
    """CPU ms per picture by stage; what was muxed is added to `chunks`. Raises ValueError when not every picture of the
    source came out."""
    torch.set_num_threads(THREADS)
    fed = [chunk.data for chunk in TsFileSource(source)]
    demuxer, decoder = TsDemuxer(), VideoDecoder(work.out_width, work.out_height)
    encoder = VideoEncoder(
        work.out_width, work.out_height, FPS, preset=PRESET, crf=CRF, gop_seconds=GOP_SECONDS, threads=THREADS
    )
    conversion = _Timed(encoder._reformatter)
    vars(encoder)["_reformatter"] = conversion
    sink = Kept()
    muxer = TsMuxer()
    segmenter = Segmenter(muxer, sink)
    slot = np.empty((work.out_height, work.out_width, 3), np.uint8)
    tensor, picture = torch.from_numpy(slot), torch.empty(slot.shape)
    pictures = 0
    watch = Stopwatch()
    for data in fed:
        units = demuxer.feed(data)
        watch.lap(DEMUX)
        for unit in units:
            if not unit.is_video:
                muxer.set_audio(unit.codec)
                segmenter.audio(unit.data, unit.pts)
                watch.lap(MUX)
                continue
            frames = decoder.decode(unit)
            watch.lap(DECODE)
            for frame in frames:
                assert frame.pts is not None
                decoder.scale_into(frame, slot)
                watch.lap(SCALE)
                identity(tensor, picture)
                watch.lap(PROCESS)
                coded = encoder.encode(slot, frame.pts)
                watch.lap(ENCODE)
                watch.move(conversion.taken(), ENCODE, CONVERT)
                for one in coded:
                    segmenter.video(one.data, one.pts, one.dts, one.key)
                watch.lap(MUX)
                pictures += 1
                if pictures == WARM_UP:
                    watch.restart()
    wanted = _pictures_in(source)
    if pictures != wanted:
        raise ValueError(f"{pictures} of {wanted} pictures came out")
    chunks += sink.chunks
    return watch.per_picture_ms(pictures - WARM_UP)


def identity(slot: torch.Tensor, picture: torch.Tensor) -> None:
    """What inference does around a processor that does nothing: to float32 in [0, 1] and back."""
    picture.copy_(slot).mul_(1 / 255)
    slot.copy_(picture.mul_(255).round_().clamp_(0, 255))


def _pictures_in(source: Path) -> int:
    with av.open(str(source)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


class _Timed:
    """The encoder's converter, and the CPU time that it takes: `encode` does two things."""

    def __init__(self, converter: Any) -> None:
        self._converter = converter
        self._ns = 0

    def reformat(self, *arguments: Any, **keywords: Any) -> av.VideoFrame:
        began = time.process_time_ns()
        frame: av.VideoFrame = self._converter.reformat(*arguments, **keywords)
        self._ns += time.process_time_ns() - began
        return frame

    def taken(self) -> int:
        """Nanoseconds since this was last asked. Raises ValueError when the encoder has not used the converter."""
        ns, self._ns = self._ns, 0
        if not ns:
            raise ValueError(
                "VideoEncoder no longer converts with its `_reformatter`: mend benchmarks/media_peers/ours.py"
            )
        return ns
