"""The floor: everything that the four processes do to a frame, in one loop of one process, with nothing in between.

Run as a command it prints CPU milliseconds per frame as JSON; `benchmarks.chain` compares the pipeline with it.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from pipeline.media.decoder import VideoDecoder
from pipeline.media.encoder import VideoEncoder
from pipeline.media.file_source import TsFileSource
from pipeline.media.segmenter import Segmenter
from pipeline.media.ts_demux import TsDemuxer
from pipeline.media.ts_mux import TsMuxer


class Nowhere:
    """A sink of segments that only counts."""

    def __init__(self) -> None:
        self.bytes = 0

    def begin_segment(self) -> None: ...

    def write(self, data: bytes) -> None:
        self.bytes += len(data)

    def end_segment(self) -> None: ...


def run(source: Path, size: int, preset: str, processor: bool) -> dict[str, float]:
    """Process the file once. CPU milliseconds per frame, of this process, without its start."""
    torch.set_num_threads(1)
    chunks = [chunk.data for chunk in TsFileSource(source)]
    demuxer, decoder = TsDemuxer(), VideoDecoder(size, size)
    encoder = VideoEncoder(size, size, 30, preset=preset, bitrate=1_500_000)
    segmenter = Segmenter(TsMuxer(), Nowhere())
    pixels = np.empty((size, size, 3), np.uint8)
    tensor, picture = torch.from_numpy(pixels), torch.empty((size, size, 3))
    frames = 0
    cpu, wall = time.process_time(), time.perf_counter()
    for data in chunks:
        for unit in demuxer.feed(data):
            if not unit.is_video:
                segmenter.audio(unit.data, unit.pts)
                continue
            for frame in decoder.decode(unit):
                decoder.scale_into(frame, pixels)
                if processor:
                    inverted = 1.0 - picture.copy_(tensor).mul_(1 / 255)
                    tensor.copy_(torch.mul(inverted, 255, out=picture).round_().clamp_(0, 255))
                for coded in encoder.encode(pixels, frame.pts):
                    segmenter.video(coded.data, coded.pts, coded.dts, coded.key)
                frames += 1
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"frames": frames, "cpu_ms": 1000 * cpu / frames, "fps": frames / wall}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("size", type=int)
    parser.add_argument("preset")
    parser.add_argument("--media-only", action="store_true")
    options = parser.parse_args()
    print(json.dumps(run(options.source, options.size, options.preset, not options.media_only)))
