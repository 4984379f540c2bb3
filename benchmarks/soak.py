"""A long run near the limit, with deaths: does anything grow, and does every frame stay accounted for?

`make soak`, or: python -m benchmarks.soak [FILE.yaml] [--minutes N] [--every S] [--share P] [--fps FPS]
[--report HTML] [--json FILE] [--set PATH=VALUE]

The topology (configs/demo.yaml by default) is played at 80 % of the rate that it holds, which is measured before, and
every 30 s one of its stages gets SIGKILL, one after the other; each of the four is left alone in a quarter of its own.
Each second memory and descriptors of every process are noted, and when each picture was sent and seen. In the end each
has a slope, over the longest life of a process, and the counts must be balanced with nothing under way. Exits with 1
when they are not, a stage did not come back, one died by itself, the source could not keep up, or memory or descriptors
have grown: a slope that is three times its own uncertainty, and more than 5 % and 1 an hour, lately as well. Ctrl-C
still reports.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.running_bench import failures_told, running_bench
from benchmarks.soak_figures import Kill, Sample, Soak, load_of, per_minute, slope_cells, slopes_of, victim
from benchmarks.soak_page import soak_page
from pipeline.bench.benched import benched
from pipeline.bench.interruption import sigterm_like_ctrl_c
from pipeline.bench.machine import describe_machine
from pipeline.bench.measure import DID_NOT_LAST, SPINE, Bench
from pipeline.bench.node import NodeFailed
from pipeline.bench.report import Machine
from pipeline.bench.usage import LAUNCHER
from pipeline.bench.words import Play, Played, Stop, Tell, Watched
from pipeline.status import FrameCount
from pipeline.topology_file import load_topology, parse_override

MINUTES, EVERY_S, SHARE = 60.0, 30.0, 0.8
SAMPLE_S, TELL_S = 1.0, 10.0
SEARCH_S, LATENCY_MS, MAX_FPS = 4.0, 100.0, 480.0
LEAST_SENT = 0.98
"""Of the pictures that are due: a source with no time left plays at less than the load that is asked for."""


def main() -> None:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 120)
    with failures_told():
        soak = measure(options, console)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(soak)))
    if options.report:
        options.report.write_text(soak_page(soak))
    console.print(*tables(soak), sep="\n")
    if soak.problems:
        sys.exit(1)


def measure(options: argparse.Namespace, console: Console) -> Soak:
    """What was found is kept when it is interrupted, or the pipeline does not last. Raises NodeFailed when it holds
    nothing, or does not come up."""
    topology = benched(load_topology(options.file, dict(map(parse_override, options.set))))
    machine = describe_machine()
    with (
        sigterm_like_ctrl_c(),
        running_bench(
            topology,
            options.file,
            console,
            seconds=SEARCH_S,
            latency_ms=LATENCY_MS,
            max_fps=MAX_FPS,
            reference_fps=30.0,
        ) as bench,
    ):
        bench.warm_up()
        if options.fps is None:
            bench.find_limit(0)
        capacity = options.fps or bench.report().limits[0].sustained
        if not capacity:
            raise NodeFailed(f"{options.file}: no rate was sustained, so there is none to play a share of")
        fps = max(1.0, round(options.share * capacity, 1))
        bench.progress.phase(f"{options.minutes:g} minutes at {fps:g} fps, a kill every {options.every:g} s")
        run = _Run(bench, fps, options.every, 60 * options.minutes)
        problem = ""
        try:
            run.play()
        except KeyboardInterrupt:
            problem = "interrupted"
        except DID_NOT_LAST as failure:
            problem = str(failure)
        return run.result(machine, str(options.file), capacity, problem)


class _Run:
    """The long part."""

    def __init__(self, bench: Bench, fps: float, every_s: float, seconds: float) -> None:
        self._bench, self._fps, self._every_s, self._planned_s = bench, fps, every_s, seconds
        self._samples: list[Sample] = []
        self._kills: list[Kill] = []
        self._pending: tuple[str, str, float] | None = None
        self._watched = Watched([], [], [], [], 0)
        self._played = Played([], [], [], [])
        self._frames = FrameCount(0, 0, {}, 0)
        self._began = 0.0

    def play(self) -> None:
        """Raises NodeFailed, HelperDied, LauncherSilent."""
        bench = self._bench
        bench.prepare(self._fps)
        self._began = time.monotonic()
        bench.source.send(Play(bench.urls(), float("inf")))
        try:
            self._go_through()
        finally:
            bench.source.send(Stop())
            (self._played,) = bench.source.answer()
            bench.node.hear(1.0)
            self._take(bench)
        bench.node.settle()
        self._frames = bench.node.status().frames

    def _go_through(self) -> None:
        bench = self._bench
        next_sample, next_tell, next_kill = SAMPLE_S, TELL_S, self._every_s
        while (now := time.monotonic() - self._began) < self._planned_s:
            bench.node.check()
            self._notice_return()
            if now >= next_sample:
                self._sample(now)
                next_sample += SAMPLE_S
            if now >= next_tell:
                self._take(bench)
                next_tell += TELL_S
            if now >= next_kill and self._pending is None and now < self._planned_s - self._every_s / 2:
                worker = victim(round(next_kill / self._every_s) - 1, now / self._planned_s, SPINE)
                next_kill += self._every_s if self._kill(worker) else 0.0
            bench.node.hear(0.1)

    def result(self, machine: Machine, topology: str, capacity: float, problem: str) -> Soak:
        """`problem`: why it ended before its time; empty if it did not."""
        minutes = per_minute(self._played, self._watched)
        slopes = slopes_of(self._samples, minutes)
        problems = [problem] if problem else []
        problems += [f"{one.what} grows by {one.per_hour:.3g} {one.unit} an hour" for one in slopes if one.grows]
        problems += [f"{kill.stage} did not come back at {kill.at:.0f} s" for kill in self._kills if not kill.back_ms]
        problems += self._other_deaths()
        sent, due = len(self._played.sent), self._fps * self._planned_s
        if not problem and sent < LEAST_SENT * due:
            problems.append(f"the source sent {sent} of {due:.0f} pictures: there was no CPU left for it")
        if not self._frames.balanced or (self._frames.in_flight and not problem):
            problems.append(f"the counts are not balanced: {self._frames}")
        return Soak(
            machine=machine,
            topology=topology,
            fps=self._fps,
            capacity_fps=capacity,
            seconds=self._samples[-1].at if self._samples else 0.0,
            samples=self._samples,
            minutes=minutes,
            kills=self._kills,
            slopes=slopes,
            frames=self._frames,
            problems=problems,
        )

    def _sample(self, now: float) -> None:
        status = self._bench.node.status()
        rss = {stage.stage: stage.rss_bytes / 1e6 for stage in status.stages}
        fds = {stage.stage: stage.open_fds for stage in status.stages}
        pids = {stage.stage: stage.pid for stage in status.stages}
        rss[LAUNCHER], fds[LAUNCHER] = status.launcher.rss_bytes / 1e6, status.launcher.open_fds
        self._samples.append(Sample(now, rss, fds, pids | {LAUNCHER: self._bench.node.pid}))
        self._frames = status.frames

    def _take(self, bench: Bench) -> None:
        """What the viewer has noted; numbers are not read, so that it goes on watching."""
        bench.viewer.send(Tell(numbers=False))
        (new,) = bench.viewer.answer().values()
        for column in ("at", "pts", "numbers"):
            getattr(self._watched, column).extend(getattr(new, column))

    def _kill(self, worker: str) -> bool:
        """Whether there was a process to kill."""
        killed = self._bench.node.kill(worker)
        if killed is None:
            return False
        self._kills.append(Kill(time.monotonic() - self._began, killed[0], None))
        self._pending = killed[0], worker, killed[1]
        return True

    def _notice_return(self) -> None:
        if self._pending is None:
            return
        stage, worker, at = self._pending
        back = self._bench.node.taken_over(stage, worker, at)
        if back is not None:
            self._kills[-1] = msgspec.structs.replace(self._kills[-1], back_ms=1000 * (back - at))
            self._pending = None

    def _other_deaths(self) -> list[str]:
        """Those that nobody ordered."""
        events = self._bench.node.events
        deaths = Counter(each.stage for each in events if each.name == "died" and each.at > self._began)
        deaths.subtract(kill.stage for kill in self._kills)
        return [f"{stage} died {count} times by itself" for stage, count in deaths.items() if count > 0]


def tables(soak: Soak) -> list[Table | str]:
    drawn = Table(title="slopes")
    for heading in ("what", "minutes", "median", "an hour", "+-", ""):
        drawn.add_column(heading, justify="left" if heading == "what" else "right")
    for one in soak.slopes:
        drawn.add_row(one.what, *slope_cells(one), "[bold red]grows[/]" if one.grows else "")
    times = sorted(kill.back_ms for kill in soak.kills if kill.back_ms is not None)
    back = f", back after {times[len(times) // 2]:.0f} ms (median), {times[-1]:.0f} at most" if times else ""
    sent, lost = sum(one.sent for one in soak.minutes), sum(one.lost for one in soak.minutes)
    return [
        drawn,
        f"{load_of(soak)}; {len(soak.kills)} kills{back}",
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
        ("--fps", options.fps or 0.0, lambda value: value > 0 or options.fps is None, "more than 0"),
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
