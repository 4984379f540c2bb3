"""What a viewer sees when a stage is killed: how long until a new picture, how many are lost, how long nothing comes.

`python -m benchmarks.recovery [--kills N] [--stages S ...] [--seed N] [--json FILE]`

A numbered live stream at 30 fps goes through the demo's chain (`invert` on one thread, `latest` before inference), and
an onlooker in this process watches the output as any viewer does. One run a row: SIGKILL to the stage's active process,
at random moments of half a second to two seconds after everybody is back. Pictures that were under way when the stage
died do not count as new: the time runs until the first that comes after a successor has taken over.
"""

import argparse
import json
import os
import platform
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.live_run import FPS, Heard, Kill, LiveRun, Usage, taking_over
from benchmarks.onlooker import UNREADABLE, Sighting
from pipeline.media.pattern import write_pattern
from pipeline.status import Status

SIZE = 512
BITRATE = 1_500_000
KILLS = 20
PAUSE_S = (0.5, 2.0)
STARTING_S = 10.0
VERSIONED = ("av", "numpy", "torch", "pyzmq", "msgspec", "aiohttp")


class Row(msgspec.Struct, frozen=True):
    """What is killed, and about how long that takes each time, so that the source is long enough."""

    stage: str
    spares: int
    seconds_a_kill: float


ROWS = {
    "ingress": Row("ingress", 0, 2.5),
    "decode": Row("decode", 0, 2.5),
    "inference": Row("inference", 0, 6.0),
    "spare": Row("inference", 1, 6.0),
    "egress": Row("egress", 0, 2.5),
    "relay": Row("relay", 0, 4.5),
}

GOALS = {
    "ingress": ("new_ms", 1000),
    "decode": ("new_ms", 1000),
    "egress": ("new_ms", 1000),
    "inference": ("dark_ms", 100),
    "spare": ("new_ms", 250),
}
"""What the 99th percentile of which figure has to stay below."""


class Recovery(msgspec.Struct, frozen=True):
    """Milliseconds from the kill until the launcher had reaped and reclaimed (`died`), until a successor had the links
    (`loaded`; a spare has them a little before), and until the first new picture. `lost` pictures were never seen;
    `dark_ms` is the longest time without any picture, `stale_ms` without a new one."""

    died_ms: float
    loaded_ms: float
    new_ms: float
    lost: int
    dark_ms: float
    stale_ms: float


class Totals(msgspec.Struct, frozen=True):
    """A whole run. `source` pictures were published up to the last that was seen; `undecoded` of them were not decoded.
    `unseen` were delivered by egress and did not arrive (less those that did although egress died of them: they count
    as `crash`). `doubled` were shown again without having been the last."""

    source: int
    seen: int
    undecoded: int
    unseen: int
    dropped: dict[str, int]
    repeats: int
    repeated: int
    doubled: int
    out_of_order: int
    unreadable: int
    balanced: bool
    in_flight: int


class Result(msgspec.Struct, frozen=True):
    """A row. `others_cores` is how many cores were busy for somebody else meanwhile, or taken by the host: the fewer
    they leave, the longer a start takes."""

    name: str
    seconds: float
    others_cores: float
    recoveries: list[Recovery]
    totals: Totals
    before: Usage
    after: Usage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS, help=f"of each stage (default {KILLS})")
    parser.add_argument("--stages", nargs="+", choices=ROWS, default=list(ROWS), metavar="STAGE", help=", ".join(ROWS))
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    results = measure(options.stages, options.kills, options.seed)
    console.print(*tables(results), sep="\n")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONED)
    console.print(f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}, {versions}")
    if options.json:
        options.json.write_text(json.dumps(msgspec.to_builtins(results), indent=2))


def measure(names: Sequence[str], kills: int, seed: int = 1, size: int = SIZE) -> list[Result]:
    """Kill each stage so many times, or as often as the source lasts. Raises live_run.Stuck."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.ts"
        seconds = STARTING_S + kills * max(ROWS[name].seconds_a_kill for name in names)
        print(f"a source of {seconds:.0f} s", file=sys.stderr)
        write_pattern(source, size, size, FPS, seconds, preset="ultrafast", bitrate=BITRATE)
        return [_measure(name, Path(folder), source, kills, seconds, random.Random(seed), size) for name in names]


def _measure(
    name: str, folder: Path, source: Path, kills: int, seconds: float, moments: random.Random, size: int
) -> Result:
    row = ROWS[name]
    began, elsewhere = time.monotonic(), _cpu_elsewhere()
    with LiveRun(folder, source, size=size, spares=row.spares) as run:
        done: list[Kill] = []
        run.listen(PAUSE_S[1])
        before = run.usage()
        while len(done) < kills and run.onlooker.newest / FPS < seconds - row.seconds_a_kill:  # of the source's time
            run.listen(moments.uniform(*PAUSE_S))
            done.append(run.kill_and_wait(row.stage))
            print(f"{name}: {len(done)} of {kills}", end="\r", file=sys.stderr)
        run.listen(PAUSE_S[1])
        after = run.usage()
        status = run.stop()
        seen = run.onlooker.seen
    recoveries = [_recovery(kill, run.events, seen) for kill in done]
    took = time.monotonic() - began
    others_cores = (_cpu_elsewhere() - elsewhere) / took
    return Result(name, took, others_cores, recoveries, count(seen, status), before, after)


def _cpu_elsewhere() -> float:
    """CPU seconds so far that went to nobody of ours: ours are this process and the launchers that have ended, which
    took their stages' time over from them."""
    machine = psutil.cpu_times()
    ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(machine) - machine.idle - machine.iowait - sum(usage.ru_utime + usage.ru_stime for usage in ours)


def _recovery(kill: Kill, events: list[Heard], seen: list[Sighting]) -> Recovery:
    def after(name: str) -> float:
        return next(e.at for e in events if e.at >= kill.at and e.stage == kill.stage and e.name == name)

    loaded = after(taking_over(kill.stage))
    new = list(first_sightings(seen))
    renewed = next(picture.at for picture in new if picture.at > loaded)
    return Recovery(
        died_ms=1000 * (after("died") - kill.at),
        loaded_ms=1000 * (loaded - kill.at),
        new_ms=1000 * (renewed - kill.at),
        lost=sum(b.index - a.index - 1 for a, b in _during(kill, new)),
        dark_ms=1000 * max(b.at - a.at for a, b in _during(kill, seen)),
        stale_ms=1000 * max(b.at - a.at for a, b in _during(kill, new)),
    )


def _during(kill: Kill, pictures: Iterable[Sighting]) -> Iterator[tuple[Sighting, Sighting]]:
    """Neighbours of which one came while the recovery lasted, from the last before the kill on."""
    return ((a, b) for a, b in pairwise(pictures) if b.at > kill.at and a.at <= kill.over)


def first_sightings(seen: Iterable[Sighting]) -> Iterator[Sighting]:
    """Those that bear a higher number than all before."""
    newest = UNREADABLE
    for picture in seen:
        if picture.index > newest:
            newest = picture.index
            yield picture


def count(seen: Sequence[Sighting], status: Status) -> Totals:
    """What became of the pictures of a whole run; its onlooker saw it to the end."""
    readable = [picture.index for picture in seen if picture.index != UNREADABLE]
    steps = [b - a for a, b in pairwise(readable)]
    distinct, source = len(set(readable)), max(readable) + 1
    repeats = sum(step == 0 for step in steps)
    return Totals(
        source=source,
        seen=distinct,
        undecoded=max(0, source - status.frames.decoded),
        unseen=status.frames.delivered - distinct,
        dropped=status.frames.dropped,
        repeats=repeats,
        repeated=status.repeated,
        doubled=len(readable) - distinct - repeats + max(0, repeats - status.repeated),
        out_of_order=sum(step < 0 for step in steps),
        unreadable=len(seen) - len(readable),
        balanced=status.frames.balanced,
        in_flight=status.frames.in_flight,
    )


def quantile(values: Sequence[float], fraction: float) -> float:
    """The value that so large a part of `values` does not exceed; NaN of none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(fraction * len(ranked)))] if ranked else float("nan")


def tables(results: list[Result]) -> list[Table]:
    """The figures for people."""
    return [draw(results) for draw in (_recovery_table, _step_table, _total_table, _usage_table)]


def _recovery_table(results: list[Result]) -> Table:
    table = Table(title="From SIGKILL to what a viewer sees, ms p50 / p99 / max (python -m benchmarks.recovery)")
    table.add_column("killed")
    for heading in ("kills", "first new picture", "lost p50 / max", "without any", "without a new one"):
        table.add_column(heading, justify="right")
    table.add_column("goal, p99")
    for result in results:
        recoveries = result.recoveries
        lost = [recovery.lost for recovery in recoveries]
        table.add_row(
            _title(result.name),
            str(len(recoveries)),
            _three(recovery.new_ms for recovery in recoveries),
            f"{quantile(lost, 0.5):.0f} / {max(lost)}",
            _three(recovery.dark_ms for recovery in recoveries),
            _three(recovery.stale_ms for recovery in recoveries),
            _goal(result),
        )
    return table


def _step_table(results: list[Result]) -> Table:
    table = Table(title="What the time goes into, ms p50")
    for heading in ("killed", "until reaped and reclaimed", "until a successor has the links", "until a new picture"):
        table.add_column(heading, justify="left" if heading == "killed" else "right")
    for result in results:
        steps = [
            [recovery.died_ms for recovery in result.recoveries],
            [max(0.0, recovery.loaded_ms - recovery.died_ms) for recovery in result.recoveries],
            [recovery.new_ms - recovery.loaded_ms for recovery in result.recoveries],
        ]
        table.add_row(_title(result.name), *(f"{quantile(step, 0.5):.0f}" for step in steps))
    return table


def _total_table(results: list[Result]) -> Table:
    table = Table(title="Every picture of each run; goal: 0 doubled, 0 out of order, 0 unreadable, balanced")
    headings = (
        "source",
        "seen",
        "not\ndecoded",
        "dropped",
        "delivered,\nnot seen",
        "repeats seen\n/ shown",
        "doubled",
        "out of\norder",
        "un-\nreadable",
        "balanced",
    )
    table.add_column("killed")
    for heading in headings:
        table.add_column(heading, justify="right")
    for result in results:
        totals = result.totals
        dropped = ", ".join(f"{reason} {n}" for reason, n in totals.dropped.items()) or "0"
        numbers = (totals.doubled, totals.out_of_order, totals.unreadable)
        table.add_row(
            _title(result.name),
            *(str(n) for n in (totals.source, totals.seen, totals.undecoded)),
            dropped,
            str(totals.unseen),
            f"{totals.repeats} / {totals.repeated}",
            *(str(n) for n in numbers),
            "yes" if totals.balanced and not totals.in_flight else "NO",
        )
    return table


def _usage_table(results: list[Result]) -> Table:
    table = Table(title="Cores busy for others; before the first kill -> after the last: descriptors, resident MB")
    table.add_column("killed")
    stages = list(results[0].before.stages_mb)
    for heading in ("others", "launcher's\ndescriptors", "launcher", *stages):
        table.add_column(heading, justify="right")
    for result in results:
        a, b = result.before, result.after
        table.add_row(
            _title(result.name),
            f"{result.others_cores:.2f}",
            f"{a.launcher_fds} -> {b.launcher_fds}",
            f"{a.launcher_mb:.0f} -> {b.launcher_mb:.0f}",
            *(f"{a.stages_mb[stage]:.0f} -> {b.stages_mb[stage]:.0f}" for stage in stages),
        )
    return table


def _title(name: str) -> str:
    return "inference, spares: 1" if name == "spare" else name


def _three(values: Iterable[float]) -> str:
    values = list(values)
    return " / ".join(f"{value:.0f}" for value in (quantile(values, 0.5), quantile(values, 0.99), max(values)))


def _goal(result: Result) -> str:
    if result.name not in GOALS:
        return "-"
    figure, limit = GOALS[result.name]
    what = {"new_ms": "first new", "dark_ms": "without any"}[figure]
    reached = quantile([getattr(recovery, figure) for recovery in result.recoveries], 0.99) < limit
    return f"{what} < {limit}: {'met' if reached else 'NOT MET'}"


if __name__ == "__main__":
    main()
