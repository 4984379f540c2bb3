"""What is asked of every contestant: a source, and the size that it is to come out in."""

from pathlib import Path
from typing import Literal

import msgspec

from pipeline.media.pattern import write_pattern

PRESET = "superfast"
CRF = 23
GOP_SECONDS = 2.0
"""pytrickle's encoder settings, which are fixed (`encoder.py`: x264 superfast, zerolatency, no bit rate and so x264's
CRF 23, a key picture and a segment every 2 s). The others are set to the same."""

THREADS = 1
"""Of the encoder and of torch. pytrickle's encoder alone takes as many as there are cores, and cannot be told."""


class Case(msgspec.Struct, frozen=True):
    """Sizes in pixels; `bitrate` is the source's, bit/s."""

    name: str
    width: int
    height: int
    fps: int
    out_width: int
    out_height: int
    bitrate: int

    @property
    def pixels(self) -> int:
        """Of a picture that comes out."""
        return self.out_width * self.out_height

    def write_source(self, folder: Path, seconds: float, with_sound: bool) -> Path:
        """The numbered pattern, encoded before anything is measured."""
        path = folder / f"{self.width}x{self.height}-{self.fps}.ts"
        if not path.exists():
            audio: Literal["aac"] | None = "aac" if with_sound else None
            write_pattern(path, self.width, self.height, self.fps, seconds, audio=audio, bitrate=self.bitrate)
        return path


SUSTAINED = "720p60"
"""The case whose goal is that it can be kept up at all."""

CASES = {
    case.name: case
    for case in (
        Case("512@60", 512, 512, 60, 512, 512, 2_000_000),
        Case("720p60-512", 1280, 720, 60, 512, 512, 4_000_000),
        Case(SUSTAINED, 1280, 720, 60, 1280, 720, 4_000_000),
        Case("1080p30", 1920, 1080, 30, 1920, 1080, 6_000_000),
    )
}
