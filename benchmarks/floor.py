"""The floor: all that the four processes do to a live stream, in one loop of one process, with nothing in between:
`python -m benchmarks.floor INPUT_URL OUTPUT_URL WIDTH HEIGHT FD`.

It says that it is ready, and works until its input ends. `benchmarks.end_to_end` compares the pipeline with it.
"""

import asyncio
import sys
from multiprocessing.connection import Connection

import numpy as np
import torch

from benchmarks.end_to_end_peers.cases import CRF, GOP_SECONDS, PRESET, THREADS
from pipeline.media.decoder import VideoDecoder
from pipeline.media.encoder import VideoEncoder
from pipeline.media.segmenter import Segmenter, SegmentSink
from pipeline.media.ts_demux import TsDemuxer
from pipeline.media.ts_mux import TsMuxer
from pipeline.trickle import TrickleSink, TrickleSubscriber

READY = "ready"
NOMINAL_FPS = 30
"""Guides the rate control only, as in egress."""


class Floor:
    """Bytes of MPEG-TS in, bytes of MPEG-TS out. The processor between is the identity, as inference runs it: to
    float32 in [0, 1] and back."""

    def __init__(self, width: int, height: int, sink: SegmentSink) -> None:
        torch.set_num_threads(THREADS)
        self._demuxer, self._decoder = TsDemuxer(), VideoDecoder(width, height)
        self._encoder = VideoEncoder(
            width, height, NOMINAL_FPS, preset=PRESET, crf=CRF, gop_seconds=GOP_SECONDS, threads=THREADS
        )
        self._muxer = TsMuxer()
        self._segmenter = Segmenter(self._muxer, sink)
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._tensor = torch.from_numpy(self._pixels)
        self._picture = torch.empty((height, width, 3))

    def feed(self, data: bytes) -> int:
        """Returns how many pictures were written."""
        pictures = 0
        for unit in self._demuxer.feed(data):
            if not unit.is_video:
                self._muxer.set_audio(unit.codec)
                self._segmenter.audio(unit.data, unit.pts)
                continue
            for frame in self._decoder.decode(unit):
                self._decoder.scale_into(frame, self._pixels)
                self._process()
                assert frame.pts is not None
                for coded in self._encoder.encode(self._pixels, frame.pts):
                    self._segmenter.video(coded.data, coded.pts, coded.dts, coded.key)
                pictures += 1
        return pictures

    def close(self) -> None:
        self._segmenter.close()

    def _process(self) -> None:
        picture = self._picture.copy_(self._tensor).mul_(1 / 255)
        self._tensor.copy_(picture.mul_(255).round_().clamp_(0, 255))


async def _run(source: str, floor: Floor) -> None:
    async with TrickleSubscriber(source, 0) as subscriber:
        while (segment := await subscriber.next()) is not None:
            async for data in segment:
                floor.feed(data)


def main(source: str, target: str, width: str, height: str, fd: str) -> None:
    runner = Connection(int(fd))
    with TrickleSink(target) as sink, torch.inference_mode():
        floor = Floor(int(width), int(height), sink)
        runner.send(READY)
        asyncio.run(_run(source, floor))
        floor.close()
    try:
        runner.recv()
    except EOFError:
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
