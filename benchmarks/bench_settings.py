"""What `launcher.py bench` is told by benchmarks that use its parts for one search of the limit, without kills."""

import sys
from pathlib import Path

from pipeline.bench.benched import Benched
from pipeline.bench.report import Settings


def one_search(
    topology: Benched, file: Path, *, seconds: float, latency_ms: float, max_fps: float, reference_fps: float
) -> Settings:
    """`seconds` are those of a step; the rest is as in Settings."""
    return Settings(
        topology=str(file),
        processor=topology.processor,
        command=" ".join(sys.argv),
        width=topology.width,
        height=topology.height,
        seconds=seconds,
        latency_ms=latency_ms,
        max_fps=max_fps,
        reference_fps=reference_fps,
        repeats=1,
        kills=0,
    )
