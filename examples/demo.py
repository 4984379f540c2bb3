"""The demo: a live stream with a number burnt into every picture goes through a topology, and what comes out is
checked: no picture out of order, none twice, sound in time with the picture. `make demo` and `make demo-comfyui` run
it."""

import argparse
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.media.pattern import write_pattern
from pipeline.media.verify import RecordingReport, verify_recording

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out"
SOURCE, RECORDING = OUT / "source.ts", OUT / "demo.mp4"

FPS = 30
SECONDS = 12
MAX_AV_OFFSET_MS = 40.0
"""What a viewer does not notice (ITU-R BT.1359-1 puts the threshold at 45 ms for early sound)."""

MIN_DELIVERED = 0.5
"""Less of the source than this in the result means that something is wrong, however slow the machine."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="length of the source")
    parser.add_argument("--topology", default="configs/demo.yaml", help="what it goes through")
    options = parser.parse_args()
    seconds = options.seconds
    OUT.mkdir(exist_ok=True)
    print(f"making {SOURCE.relative_to(ROOT)}: {seconds} s of 1280x720 H.264 and AAC at {FPS} fps", flush=True)
    write_pattern(SOURCE, 1280, 720, FPS, seconds)
    RECORDING.unlink(missing_ok=True)
    command = [sys.executable, "launcher.py", "run", options.topology, "--input", str(SOURCE)]
    code = subprocess.call(command, cwd=ROOT)
    if code:
        print(f"the pipeline ended with exit code {code}", file=sys.stderr)
        return 1
    if not RECORDING.exists():
        print(f"{RECORDING.relative_to(ROOT)} was not written: nothing came out", file=sys.stderr)
        return 1
    report = verify_recording(RECORDING, FPS)
    Console().print(_table(report))
    problems = list(_problems(report, seconds * FPS))
    for problem in problems:
        print(f"CHECK FAILED: {problem}", file=sys.stderr)
    if not problems:
        print("check passed: see out/demo.mp4 and out/demo.png")
    return 1 if problems else 0


def _table(report: RecordingReport) -> Table:
    table = Table(title="what the viewer saw (read back from the numbers in the pictures)")
    for heading in ("pictures", "out of order", "twice", "unreadable", "not shown", "sound off by, at most"):
        table.add_column(heading, justify="right")
    offset = report.max_audio_offset_ms
    table.add_row(
        str(report.frames),
        str(report.out_of_order),
        str(report.duplicates),
        str(report.unreadable),
        str(report.missing),
        "-" if offset is None else f"{offset:.1f} ms",
    )
    return table


def _problems(report: RecordingReport, published: int) -> list[str]:
    problems = []
    if report.frames < published * MIN_DELIVERED:
        problems.append(f"only {report.frames} of {published} pictures came out")
    if report.out_of_order:
        problems.append(f"{report.out_of_order} pictures out of order")
    if report.duplicates:
        problems.append(f"{report.duplicates} pictures shown twice")
    if report.unreadable:
        problems.append(f"{report.unreadable} pictures whose number cannot be read")
    if report.max_audio_offset_ms is None:
        problems.append("no sound to compare with the picture")
    elif report.max_audio_offset_ms > MAX_AV_OFFSET_MS:
        problems.append(
            f"sound is {report.max_audio_offset_ms:.1f} ms off the picture, allowed are {MAX_AV_OFFSET_MS:.0f}"
        )
    return problems


if __name__ == "__main__":
    sys.exit(main())
