"""What a viewer sees when something is changed while frames flow, and what too slow a processor does to the latency.

`python -m benchmarks.changes [--changes N] [--seconds S] [--json FILE]`

A numbered live stream at 30 fps goes through the demo's chain, `latest` before inference, and an onlooker in this
process watches the output as any viewer does. Three kinds of change, N of each: a parameter; the size of the frames; a
new process with other parameters, loaded beside the one at work (`update --renew`). Then a processor that takes one and
a half times as long as the stream leaves it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from itertools import pairwise
from os import getloadavg
from pathlib import Path

import msgspec
import torch

from benchmarks.live_run import FPS, LiveRun
from benchmarks.machine import describe
from benchmarks.onlooker import Sighting
from benchmarks.recovery import first_sightings, quantile
from pipeline.media.pattern import write_pattern

SIZE, SMALLER = 512, 384
FRAME_MS = 1000 / FPS
OVERLOAD_MS = 1.5 * FRAME_MS
CHANGES = 20
PAUSE_S = 1.0
SECONDS_A_CHANGE = {"parameter": 1.5, "size": 1.5, "renew": 15.0}

GOAL_FRAMES = 2
GOAL_GAP_MS = {"parameter": 2 * FRAME_MS, "size": 100.0, "renew": 100.0}
GOAL_BUSY = 0.97


class Change(msgspec.Struct, frozen=True):
    """`first_ms`, from the call until a viewer had the first picture that shows it; `in_force_ms`, until the answer;
    `frames` new pictures without it came after the answer; `gap_ms`, the longest time without a new one meanwhile."""

    first_ms: float
    in_force_ms: float
    frames: int
    gap_ms: float


class Overload(msgspec.Struct, frozen=True):
    """`busy`: the part of the time that went into the processor itself; `latency_ms` p50 and p95 from a frame being
    ready to its result being handed on."""

    busy: float
    latency_ms: tuple[float, float]


def switchable(image: torch.Tensor, invert: bool = False) -> torch.Tensor:
    """What the changes change."""
    return 1 - image if invert else image


def takes(image: torch.Tensor, milliseconds: float = OVERLOAD_MS) -> torch.Tensor:
    """Computes for so long."""
    until = time.monotonic() + milliseconds / 1000
    while time.monotonic() < until:
        pass
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=CHANGES, help=f"of each kind (default {CHANGES})")
    parser.add_argument("--seconds", type=float, default=20.0, help="of overload (default 20)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    print(describe(getloadavg()[0], {name: metadata.version(name) for name in ("torch", "av", "pyzmq")}))
    changes = measure_changes(options.changes)
    for kind, done in changes.items():
        _report(kind, done)
    overload = measure_overload(options.seconds)
    _report_overload(overload)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode({"changes": changes, "overload": overload})))


def measure_changes(count: int, size: int = SIZE, smaller: int = SMALLER) -> dict[str, list[Change]]:
    """So many of each kind, in one run each. Raises live_run.Stuck."""
    shows_inverted: Callable[[Sighting, bool], bool] = lambda picture, odd: picture.inverted is odd  # noqa: E731
    shows_smaller: Callable[[Sighting, bool], bool] = lambda picture, odd: (picture.width == smaller) is odd  # noqa: E731
    kinds: dict[str, tuple[Callable[[LiveRun, bool], None], Callable[[Sighting, bool], bool]]] = {
        "parameter": (lambda run, odd: run.update("inference", {"invert": odd}), shows_inverted),
        "size": (lambda run, odd: run.update("decode", {"width": smaller if odd else size}), shows_smaller),
        "renew": (lambda run, odd: run.update("inference", {"invert": odd}, renew=True), shows_inverted),
    }
    return {kind: _measure(count, SECONDS_A_CHANGE[kind], size, *how) for kind, how in kinds.items()}


def _measure(
    count: int,
    seconds: float,
    size: int,
    change: Callable[[LiveRun, bool], None],
    shows: Callable[[Sighting, bool], bool],
) -> list[Change]:
    processor = {"callable": f"{__spec__.name}:switchable"}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.ts"
        write_pattern(source, size, size, FPS, 15 + count * (seconds + PAUSE_S), preset="ultrafast")
        with LiveRun(Path(folder), source, size=size, processor=processor) as run:
            done = []
            for number in range(count):
                run.listen(PAUSE_S)
                done.append(_change(run, lambda odd: change(run, odd), shows, odd=number % 2 == 0))
            run.stop()
    return done


def _change(
    run: LiveRun, change: Callable[[bool], None], shows: Callable[[Sighting, bool], bool], *, odd: bool
) -> Change:
    seen, before = run.onlooker.seen, len(run.onlooker.seen)
    asked = time.monotonic()
    change(odd)
    in_force = time.monotonic()
    run.wait_until(lambda: any(shows(picture, odd) for picture in seen[before:]))
    run.listen(PAUSE_S / 2)
    pictures = list(first_sightings(seen[max(0, before - 1) :]))
    first = next(picture for picture in pictures if picture.at > asked and shows(picture, odd))
    late = [picture for picture in pictures if in_force < picture.at < first.at]
    gaps = [1000 * (b.at - a.at) for a, b in pairwise(pictures) if b.at > asked]
    return Change(1000 * (first.at - asked), 1000 * (in_force - asked), len(late), max(gaps))


def measure_overload(seconds: float, size: int = SIZE) -> Overload:
    """A processor that computes for OVERLOAD_MS a frame. Raises live_run.Stuck."""
    processor = {"callable": f"{__spec__.name}:takes"}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.ts"
        write_pattern(source, size, size, FPS, seconds + 10, preset="ultrafast")
        with LiveRun(Path(folder), source, size=size, processor=processor) as run:
            begun, frames = time.monotonic(), run.status().frames.delivered
            run.listen(seconds)
            delivered, took = run.status().frames.delivered - frames, time.monotonic() - begun
            (inference,) = (stage for stage in run.status().stages if stage.stage == "inference")
            run.stop()
    p50, p95 = inference.latency_ms
    return Overload(delivered * OVERLOAD_MS / 1000 / took, (p50 or 0.0, p95 or 0.0))


def _report(kind: str, done: Sequence[Change]) -> None:
    print(f"\n{kind}, {len(done)} changes at {FPS} fps")
    first, force = [change.first_ms for change in done], [change.in_force_ms for change in done]
    print(f"  call to first picture   p50 {quantile(first, 0.5):.0f} ms, max {max(first):.0f} ms")
    print(f"  call to answer          p50 {quantile(force, 0.5):.0f} ms, max {max(force):.0f} ms")
    frames, gap = max(change.frames for change in done), max(change.gap_ms for change in done)
    if kind != "renew":
        _line("pictures until it shows", f"{frames}", f"<= {GOAL_FRAMES}", frames <= GOAL_FRAMES)
    limit = GOAL_GAP_MS[kind]
    _line("longest gap", f"{gap:.0f} ms", f"< {limit:.0f} ms", gap < limit)


def _report_overload(found: Overload) -> None:
    limit = OVERLOAD_MS + FRAME_MS
    print(f"\noverload: {OVERLOAD_MS:.0f} ms a frame at {FPS} fps")
    _line("busy", f"{found.busy:.3f}", f">= {GOAL_BUSY}", found.busy >= GOAL_BUSY)
    p50, p95 = found.latency_ms
    _line("ready to handed on", f"p50 {p50:.0f} ms, p95 {p95:.0f} ms", f"p95 <= {limit:.0f} ms", p95 <= limit)


def _line(what: str, value: str, goal: str, met: bool) -> None:
    print(f"  {what:<23} {value}  (goal: {goal}: {'met' if met else 'MISSED'})")


if __name__ == "__main__":
    sys.exit(main())
