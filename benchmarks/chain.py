"""What the four processes cost against one in-process loop that does the same to each frame, and how long a frame is
under way.

`make bench`, or: python -m benchmarks.chain [--seconds N] [--json FILE]. CPU per frame is the difference of a long and
a short run of the pipeline, so that starting it does not count. Latency is measured live, at 30 fps over trickle.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import msgspec
import torch
import yaml
from rich.console import Console
from rich.table import Table

from pipeline.media.pattern import write_pattern
from pipeline.messages import Status

ROOT = Path(__file__).resolve().parents[1]
FPS = 30
SIZE = 512
PRESET = "superfast"
SOURCES = ((1280, 720), (512, 512))
SPINE = ("ingress", "decode", "inference", "egress")
MAX_RATIO = 1.3
MAX_MEDIAN_MS = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="length of the source; the short run takes a quarter")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    with tempfile.TemporaryDirectory() as folder:
        rows = [_measure(Path(folder), width, height, options.seconds) for width, height in SOURCES]
    console.print(_cpu_table(rows), _latency_table(rows), sep="\n")
    console.print(f"{os.cpu_count()} cores, {platform.platform()}, av {av.__version__}, torch {torch.__version__}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


def _measure(folder: Path, width: int, height: int, seconds: int) -> dict[str, Any]:
    long, short = folder / f"{width}-long.ts", folder / f"{width}-short.ts"
    write_pattern(long, width, height, FPS, seconds)
    write_pattern(short, width, height, FPS, seconds // 4)
    print(f"{width}x{height}: floor, then the pipeline twice on a file, then live", file=sys.stderr)
    floor, media = _floor(long), _floor(long, "--media-only")
    stages = _difference(_run(_offline(long), folder), _run(_offline(short), folder))
    live = _run(_live(long), folder)
    return {
        "source": f"{width}x{height}",
        "floor_cpu_ms": floor["cpu_ms"],
        "media_floor_cpu_ms": media["cpu_ms"],
        "stages_cpu_ms": stages,
        "pipeline_cpu_ms": sum(stages.values()),
        "ratio": sum(stages.values()) / floor["cpu_ms"],
        "live_frames": msgspec.to_builtins(live.frames),
        "live_ms": {"end to end": live.end_to_end_ms}
        | {s.stage: s.latency_ms for s in live.stages if s.stage in SPINE},
    }


def _floor(source: Path, *options: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.floor", str(source), str(SIZE), PRESET, *options]
    return json.loads(subprocess.check_output(command, cwd=ROOT))


def _run(topology: dict[str, Any], folder: Path) -> Status:
    file, summary = folder / "topology.yaml", folder / "summary.json"
    file.write_text(yaml.safe_dump(topology))
    command = [sys.executable, "launcher.py", "run", str(file), "--summary", str(summary)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stdout + result.stderr)
    return msgspec.json.decode(summary.read_bytes(), type=Status)


def _offline(source: Path) -> dict[str, Any]:
    """Every frame of a file, as fast as it goes."""
    topology = _live(source)
    del topology["stages"]["publisher"], topology["relay"]
    topology["stages"]["ingress"]["source"] = {"file": str(source)}
    topology["stages"]["egress"]["sink"] = {"file": os.devnull}
    return topology


def _live(source: Path) -> dict[str, Any]:
    """The demo's chain with the cheapest processor that touches every pixel, and nobody watching."""
    demo = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    demo |= {"name": "bench", "relay": {"port": 0}, "api": None}
    del demo["stages"]["recorder"]
    demo["links"]["raw"]["policy"] = "block"
    demo["stages"]["publisher"]["file"] = str(source)
    demo["stages"]["inference"]["processor"] = {"callable": "pipeline.processors.torch_ops:invert", "threads": 1}
    demo["stages"]["egress"]["encoder"]["preset"] = PRESET
    return demo


def _difference(long: Status, short: Status) -> dict[str, float]:
    """CPU milliseconds per frame and stage."""
    frames = long.frames.delivered - short.frames.delivered
    before = {stage.stage: stage.cpu_s for stage in short.stages}
    return {s.stage: 1000 * (s.cpu_s - before[s.stage]) / frames for s in long.stages}


def _cpu_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"CPU ms per frame, to {SIZE}x{SIZE}, x264 {PRESET}, invert (python -m benchmarks.chain)")
    headings = ["source", *SPINE, "pipeline", "one process", f"ratio (goal {MAX_RATIO})", "one process, media only"]
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        stages = [f"{row['stages_cpu_ms'][stage]:.2f}" for stage in SPINE]
        sums = [row["pipeline_cpu_ms"], row["floor_cpu_ms"], row["ratio"], row["media_floor_cpu_ms"]]
        table.add_row(row["source"], *stages, *(f"{value:.2f}" for value in sums))
    return table


def _latency_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"live at {FPS} fps: ms p50 / p95 (goal: end to end p50 under {MAX_MEDIAN_MS:.0f})")
    for heading in ("source", "decode", "inference", "egress", "end to end", "frames in", "frames out"):
        table.add_column(heading, justify="right")
    for row in rows:
        spans = [row["live_ms"][name] for name in ("decode", "inference", "egress", "end to end")]
        frames = row["live_frames"]
        counts = [str(frames["decoded"]), str(frames["delivered"])]
        table.add_row(row["source"], *(f"{p50:.1f} / {p95:.1f}" for p50, p95 in spans), *counts)
    return table


if __name__ == "__main__":
    main()
