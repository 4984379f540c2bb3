"""Real streams for the media tests, each encoded once for the whole run."""

import io
import itertools
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import av
import numpy as np
import pytest

from pipeline.media.access_unit import AccessUnit
from pipeline.media.pattern import write_pattern
from pipeline.media.ts_demux import TsDemuxer
from tests.media.decode_stage import Stage

FPS = 30


@cache
def _pattern(**options: Any) -> bytes:
    target = io.BytesIO()
    write_pattern(target, **{"width": 320, "height": 180, "fps": FPS, "seconds": 4, **options})
    return target.getvalue()


@pytest.fixture(scope="session")
def pattern() -> Callable[..., bytes]:
    """pattern(**options of write_pattern) -> MPEG-TS made by libavformat, 320x180, 4 s, a key picture a second."""
    return _pattern


class Units:
    """Access units of a whole stream."""

    def __init__(self, ts: bytes, chunk: int = 1 << 20) -> None:
        self.demuxer = TsDemuxer()
        self.all: list[AccessUnit] = []
        for start in range(0, len(ts), chunk):
            self.all += self.demuxer.feed(ts[start : start + chunk])
        self.all += self.demuxer.flush()

    @property
    def video(self) -> list[AccessUnit]:
        return [unit for unit in self.all if unit.is_video]

    @property
    def audio(self) -> list[AccessUnit]:
        return [unit for unit in self.all if not unit.is_video]


@pytest.fixture(scope="session")
def demux() -> Callable[..., Units]:
    return Units


class RecordingSink:
    """A segment sink that keeps everything."""

    def __init__(self) -> None:
        self.segments: list[bytes] = []
        self.open = False

    def begin_segment(self) -> None:
        assert not self.open
        self.open = True
        self.segments.append(b"")

    def write(self, data: bytes) -> None:
        assert self.open
        self.segments[-1] += data

    def end_segment(self) -> None:
        assert self.open
        self.open = False


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


def _decoded_by_libavformat(ts: bytes) -> list[tuple[int, bytes]]:
    with av.open(io.BytesIO(ts), format="mpegts") as container:
        return [(frame.pts, frame.to_ndarray().tobytes()) for frame in container.decode(video=0)]


@pytest.fixture(scope="session")
def decoded_by_libavformat() -> Callable[[bytes], list[tuple[int, bytes]]]:
    """(pts, pixels) of each picture, demuxed and decoded by FFmpeg alone."""
    return _decoded_by_libavformat


@pytest.fixture
def slot() -> np.ndarray:
    return np.zeros((128, 128, 3), np.uint8)


@pytest.fixture
def new_stage():
    """new_stage(max_fps=None, reads=False) -> Stage, closed at the end."""
    stages = []

    def make(**options):
        stages.append(Stage(**options))
        return stages[-1]

    yield make
    for stage in stages:
        os.close(stage.fd)


@pytest.fixture(scope="session")
def segments():
    """segments(**options of write_pattern) -> the pattern cut at its key pictures, as a trickle publisher does."""

    def cut(**options):
        ts = _pattern(**options)
        packets = [ts[i : i + 188] for i in range(0, len(ts), 188)]
        starts = [i for i, packet in enumerate(packets) if packet[1] & 0x1F == 0 and packet[2] == 0]  # PAT
        keys = [start for start in starts if _begins_with_key(packets[start : start + 4])]
        bounds = [0, *keys[1:], len(packets)]
        return [b"".join(packets[a:b]) for a, b in itertools.pairwise(bounds)]

    return cut


def _begins_with_key(packets):
    """Whether a packet with a random access indicator is among them (ISO 13818-1, 2.4.3.5)."""
    return any(packet[3] & 0x20 and packet[4] and packet[5] & 0x40 and packet[1] & 0x40 for packet in packets)
