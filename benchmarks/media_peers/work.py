"""What is done to a source, in which stages, and how its CPU time is told apart."""

import time
from collections import defaultdict
from pathlib import Path

import msgspec

from pipeline.media.pattern import write_pattern

FPS = 30

WARM_UP = 10
"""Pictures at the start that do not count: codecs and graphs are set up with them."""

DEMUX, DECODE, SCALE, PROCESS, CONVERT, ENCODE, MUX, PUBLISH = STAGES = (
    "demux",
    "decode",
    "scale into slot",
    "processor (identity)",
    "RGB to YUV",
    "encode",
    "mux",
    "trickle publish",
)


class Work(msgspec.Struct, frozen=True):
    """From a source of one size to an output of one size, in pixels; what sticks out is cropped. `bitrate` in bit/s."""

    name: str
    width: int
    height: int
    out_width: int
    out_height: int
    bitrate: int

    def write_source(self, folder: Path, pictures: int) -> Path:
        path = folder / f"{self.width}x{self.height}.ts"
        if not path.exists():
            write_pattern(path, self.width, self.height, FPS, pictures / FPS, bitrate=self.bitrate)
        return path

    @property
    def crop(self) -> tuple[int, int]:
        """Width and height of the part of the source that is shown."""
        if self.width * self.out_height > self.out_width * self.height:
            return round(self.height * self.out_width / self.out_height), self.height
        return self.width, round(self.width * self.out_height / self.out_width)


WORKS = {
    work.name: work
    for work in (
        Work("512 -> 512", 512, 512, 512, 512, 1_500_000),
        Work("720p -> 512", 1280, 720, 512, 512, 3_000_000),
        Work("720p -> 720p", 1280, 720, 1280, 720, 3_000_000),
        Work("1080p -> 512", 1920, 1080, 512, 512, 6_000_000),
        Work("1080p -> 1080p", 1920, 1080, 1920, 1080, 6_000_000),
    )
}


class Stopwatch:
    """CPU time of this process, all threads of it, by stage."""

    def __init__(self) -> None:
        self._ns = defaultdict[str, int](int)
        self._at = time.process_time_ns()

    def lap(self, stage: str) -> None:
        """What was used since the last lap went into `stage`."""
        now = time.process_time_ns()
        self._ns[stage] += now - self._at
        self._at = now

    def move(self, ns: int, source: str, target: str) -> None:
        """So much of what `source` has had was `target`'s."""
        self._ns[source] -= ns
        self._ns[target] += ns

    def restart(self) -> None:
        self._ns.clear()
        self._at = time.process_time_ns()

    def per_picture_ms(self, pictures: int) -> dict[str, float]:
        return {stage: ns / 1e6 / pictures for stage, ns in self._ns.items()}
