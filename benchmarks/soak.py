"""A long run near the limit, with deaths: does anything grow, and does every frame stay accounted for?

`make soak`, or: python -m benchmarks.soak [FILE.yaml] [--minutes N] [--every S] [--share P] [--fps FPS]
[--report HTML] [--json FILE] [--set PATH=VALUE]

The topology (configs/demo.yaml by default) is played at 80 % of the rate that it holds, which is measured before, and
every 30 s one of its stages gets SIGKILL, one after the other. Each second memory and descriptors of every process are
noted, and when each picture was sent and seen. In the end each has a slope, and the counts must be balanced with
nothing under way. Exits with 1 when they are not, a stage did not come back, or memory or descriptors have grown: a
slope that is three times its own uncertainty, and amounts to more than 5 % over the run.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.running_bench import failures_told, running_bench
from benchmarks.soak_figures import Kill, Sample, Soak, per_minute, slopes_of
from benchmarks.soak_page import soak_page
from pipeline.bench.benched import benched
from pipeline.bench.machine import describe_machine
from pipeline.bench.measure import SPINE, Bench
from pipeline.bench.report import Machine
from pipeline.bench.words import Play, Played, Stop, Tell, Watched
from pipeline.topology_file import load_topology, parse_override

MINUTES, EVERY_S, SHARE = 60.0, 30.0, 0.8
SAMPLE_S, TELL_S = 1.0, 10.0
SEARCH_S, LATENCY_MS, MAX_FPS = 4.0, 100.0, 480.0


def main() -> None:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 120)
    with failures_told():
        soak = measure(options, console)
    console.print(*tables(soak), sep="\n")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(soak)))
    if options.report:
        options.report.write_text(soak_page(soak))
    if soak.problems:
        sys.exit(1)


def measure(options: argparse.Namespace, console: Console) -> Soak:
    """Raises NodeFailed when the pipeline does not last."""
    topology = benched(load_topology(options.file, dict(map(parse_override, options.set))))
    machine = describe_machine()
    with running_bench(
        topology,
        options.file,
        console,
        seconds=SEARCH_S,
        latency_ms=LATENCY_MS,
        max_fps=MAX_FPS,
        reference_fps=30.0,
    ) as bench:
        bench.warm_up()
        if options.fps is None:
            bench.find_limit(0)
        capacity = options.fps or bench.report().limits[0].sustained
        fps = max(1.0, round(options.share * capacity, 1))
        bench.progress.phase(f"{options.minutes:g} minutes at {fps:g} fps, a kill every {options.every:g} s")
        run = _Run(bench, fps, options.every)
        run.play(60 * options.minutes)
        return run.result(machine, str(options.file), capacity)


class _Run:
    """The long part."""

    def __init__(self, bench: Bench, fps: float, every_s: float) -> None:
        self._bench, self._fps, self._every_s = bench, fps, every_s
        self._samples: list[Sample] = []
        self._kills: list[Kill] = []
        self._pending: tuple[str, str, float] | None = None
        self._watched = Watched([], [], [], [], 0)
        self._played = Played([], [], [], [])
        self._began = self._seconds = 0.0

    def play(self, seconds: float) -> None:
        """Raises NodeFailed."""
        bench = self._bench
        bench.prepare(self._fps)
        self._began = time.monotonic()
        bench.source.send(Play(bench.urls(), float("inf")))
        next_sample, next_tell, next_kill = SAMPLE_S, TELL_S, self._every_s
        while (now := time.monotonic() - self._began) < seconds:
            bench.node.check()
            self._notice_return()
            if now >= next_sample:
                self._sample(now)
                next_sample += SAMPLE_S
            if now >= next_tell:
                self._take(bench)
                next_tell += TELL_S
            if now >= next_kill and self._pending is None and now < seconds - self._every_s / 2:
                self._kill(SPINE[len(self._kills) % len(SPINE)])
                next_kill += self._every_s
            bench.node.hear(0.1)
        self._seconds = seconds
        bench.source.send(Stop())
        (self._played,) = bench.source.answer()
        bench.node.hear(1.0)
        self._take(bench)
        bench.node.settle()

    def result(self, machine: Machine, topology: str, capacity: float) -> Soak:
        minutes = per_minute(self._played, self._watched)
        slopes = slopes_of(self._samples, minutes)
        frames = self._bench.node.status().frames
        grown = [slope for slope in slopes if slope.grows]
        gone = [kill for kill in self._kills if kill.back_ms is None]
        problems = [f"{slope.what} grows by {slope.per_hour:.3g} {slope.unit} an hour" for slope in grown]
        problems += [f"{kill.stage} did not come back at {kill.at:.0f} s" for kill in gone]
        if not frames.balanced or frames.in_flight:
            problems.append(f"the counts are not balanced: {frames}")
        return Soak(
            machine=machine,
            topology=topology,
            fps=self._fps,
            capacity_fps=capacity,
            seconds=self._seconds,
            samples=self._samples,
            minutes=minutes,
            kills=self._kills,
            slopes=slopes,
            frames=frames,
            problems=problems,
        )

    def _sample(self, now: float) -> None:
        status = self._bench.node.status()
        rss = {stage.stage: stage.rss_bytes / 1e6 for stage in status.stages}
        fds = {stage.stage: stage.open_fds for stage in status.stages}
        rss["launcher"], fds["launcher"] = status.launcher.rss_bytes / 1e6, status.launcher.open_fds
        self._samples.append(Sample(now, rss, fds))

    def _take(self, bench: Bench) -> None:
        """What the viewer has noted; numbers are not read, so that it goes on watching."""
        bench.viewer.send(Tell(numbers=False))
        (new,) = bench.viewer.answer().values()
        for column in ("at", "pts", "numbers"):
            getattr(self._watched, column).extend(getattr(new, column))

    def _kill(self, worker: str) -> None:
        killed = self._bench.node.kill(worker)
        self._kills.append(Kill(time.monotonic() - self._began, worker, None))
        self._pending = None if killed is None else (killed[0], worker, killed[1])

    def _notice_return(self) -> None:
        if self._pending is None:
            return
        stage, worker, at = self._pending
        back = self._bench.node.taken_over(stage, worker, at)
        if back is not None:
            self._kills[-1] = msgspec.structs.replace(self._kills[-1], back_ms=1000 * (back - at))
            self._pending = None


def tables(soak: Soak) -> list[Table | str]:
    drawn = Table(title="slopes")
    for heading in ("what", "median", "an hour", "+-", ""):
        drawn.add_column(heading, justify="left" if heading == "what" else "right")
    for one in soak.slopes:
        cells = (f"{one.median:.4g} {one.unit}", f"{one.per_hour:+.3g}", f"{one.error:.2g}")
        drawn.add_row(one.what, *cells, "[bold red]grows[/]" if one.grows else "")
    times = sorted(kill.back_ms for kill in soak.kills if kill.back_ms is not None)
    back = f", back after {times[len(times) // 2]:.0f} ms (median), {times[-1]:.0f} at most" if times else ""
    sent, lost = sum(one.sent for one in soak.minutes), sum(one.lost for one in soak.minutes)
    said = f"{soak.seconds / 60:g} minutes at {soak.fps:g} fps, of {soak.capacity_fps:g} that hold"
    return [
        drawn,
        f"{said}; {len(soak.kills)} kills{back}",
        f"{lost} of {sent} pictures were not seen; {soak.frames}; balanced: {soak.frames.balanced}",
        *(f"[bold red]{problem}[/]" for problem in soak.problems),
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=Path("configs/demo.yaml"), help="topology")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"default {MINUTES:g}")
    parser.add_argument("--every", type=float, default=EVERY_S, help=f"seconds from kill to kill (default {EVERY_S:g})")
    parser.add_argument("--share", type=float, default=SHARE, help=f"of what holds (default {SHARE:g})")
    parser.add_argument("--fps", type=float, help="what holds, if it is known: it is not measured then")
    parser.add_argument("--report", type=Path, help="write a page with plots there")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="replace a value")
    options = parser.parse_args()
    checks: list[tuple[str, float, Callable[[float], bool], str]] = [
        ("--minutes", options.minutes, lambda value: 0 < value <= 100_000, "more than 0"),
        ("--every", options.every, lambda value: value >= 2, "2 or more"),
        ("--share", options.share, lambda value: 0 < value <= 1, "more than 0, at most 1"),
    ]
    for option, value, is_right, needed in checks:
        if not is_right(value):
            parser.error(f"{option} {value:g}: needed: {needed}")
    for option, path in (("--report", options.report), ("--json", options.json)):
        if path and not path.parent.is_dir():
            parser.error(f"{option} {path}: there is no folder {path.parent}")
    return options


if __name__ == "__main__":
    main()
