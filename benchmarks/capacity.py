"""How many streams a box with other cores would hold, from what each stage costs on this one; and how far off that is.

python -m benchmarks.capacity [FILE.yaml] [--cores N ...] [--seconds S] [--fps FPS] [--set PATH=VALUE] [--json FILE]
python -m benchmarks.capacity --reports A.json [B.json ...] [--fps FPS]

What one stream holds, and how many streams at `--fps` do where they come on request, is measured with each number of
cores that `--cores` names (1 and all by default), as `launcher.py bench` does under taskset(1); or reports of that are
read. From each the cost of every stage is fitted:
cores = idle + frames a second x CPU time of a frame. A prediction is the rate at which the cores, as far as they could
be used when it was measured, are all in use, or at which one stage has no time left between two frames, or the relay or
the launcher no core. Every report predicts every other, and the error is told. It knows nothing of memory bandwidth, of
caches, or of a graphics card.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median, median_low

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.running_bench import failures_told, running_bench
from pipeline.bench.benched import benched
from pipeline.bench.progress import print_warnings
from pipeline.bench.report import Report, ReportFileError, Step, read_report
from pipeline.bench.step import ONE_THREAD
from pipeline.topology_file import load_topology, parse_override

SECONDS, LATENCY_MS, MAX_FPS, FPS = 4.0, 100.0, 480.0, 30.0
TOLD_CORES = (1, 2, 4, 8, 16, 32)
HARNESS = "source and viewer"
FITTED_SHARES = (0.25, 0.5)
"""Of the limit: rates that are looked at beside those of the search, which may all lie close to it."""

MOST_STREAMS = 16
"""May run at once where they come on request, if `--set` does not say otherwise."""

NEAR = 0.8
"""Of the highest rate that held: what a frame takes when there is little rest between two."""

SHARED = ("inference", "relay", "launcher")
"""One of each, however many streams there are: a pool of inference is not reckoned with."""

USABLE_CORES = 0.95
"""So large a part of the cores, or of the one of a single thread, is reckoned with where it was not the limit."""

USABLE_TIME = 0.75
"""So large a part of a stage's time, likewise. The rest goes by in waiting: frames come early and late, and of two that
wait the older is dropped. Both lie in the middle of what was found where they were the limit, see docs/benchmarks.md.
"""


class Cost(msgspec.Struct, frozen=True):
    """One stage: cores that it uses without a frame, CPU milliseconds of a frame, and how long it works on one, at the
    rates near the limit."""

    stage: str
    idle_cores: float
    cpu_ms: float
    busy_ms: float | None


class Model(msgspec.Struct, frozen=True):
    """What was fitted to one report. `usable`: so large a part of the cores the pipeline, its source and its viewer
    can use; `usable_time`: of its time the busiest stage can. At the highest rate that held the limit was that of which
    more was in use, against USABLE_CORES and USABLE_TIME. `measured_streams` held at once at `streams_fps`; None: as
    many as the topology allows, or nobody looked."""

    cores: int
    measured_fps: float
    measured_streams: int | None
    streams_fps: float
    costs: list[Cost]
    usable: float
    usable_time: float


class Prediction(msgspec.Struct, frozen=True):
    """For a box with so many cores; `limit` says what there is no more of."""

    cores: int
    value: float
    limit: str


class NotEnough(Exception):
    """A report that nothing can be fitted to. The text says why."""


def fit(report: Report) -> Model:
    """To the steps with one stream that held. Of several searches the limit is the one in the middle. Raises NotEnough
    without two rates among the steps."""
    limits = [limit.sustained for limit in report.limits if limit.sustained]
    held = [step for step in report.steps if step.sustained and step.streams == 1]
    measured = median_low(limits) if limits else max((step.fps for step in held), default=0.0)
    steps = [step for step in held if step.fps <= measured]
    if len({step.fps for step in steps}) < 2:
        raise NotEnough(f"{report.settings.topology}, {report.machine.cores} cores: fewer than two rates held")
    best = max(steps, key=lambda step: step.fps)
    costs = [_cost(stage, steps) for stage in (use.stage for use in best.stages)]
    costs.append(Cost(HARNESS, *_line([(step.fps, step.harness_cores) for step in steps]), None))
    busiest = max((use.busy for use in best.stages if use.busy is not None), default=0.0)
    used = (sum(use.cores for use in best.stages) + best.harness_cores) / report.machine.cores
    most = report.most_streams
    is_stage = busiest / USABLE_TIME > used / USABLE_CORES
    return Model(
        cores=report.machine.cores,
        measured_fps=measured,
        measured_streams=most if most is not None and most < report.streams_allowed else None,
        streams_fps=report.settings.reference_fps,
        costs=costs,
        usable=min(1.0, max(USABLE_CORES, used) if is_stage else used),
        usable_time=min(1.0, busiest if is_stage else max(USABLE_TIME, busiest)),
    )


def _cost(stage: str, steps: list[Step]) -> Cost:
    uses = [(step.fps, use) for step in steps for use in step.stages if use.stage == stage]
    most = max(fps for fps, _ in uses)
    busy = [use.busy_ms for fps, use in uses if use.busy_ms is not None and fps >= NEAR * most]
    return Cost(stage, *_line([(fps, use.cores) for fps, use in uses]), median(busy) if busy else None)


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Least squares: cores without a frame, none below 0, and CPU ms of a frame."""
    fps, cores = np.array(points).T
    slope, start = np.polyfit(fps, cores, 1)
    if start < 0 or slope < 0:
        start, slope = 0.0, float(np.sum(fps * cores) / np.sum(fps * fps))
    return float(start), 1000 * float(slope)


def predict_fps(model: Model, cores: int) -> Prediction:
    """What one stream would hold, with source and viewer on the same box as when it was measured."""
    idle = sum(cost.idle_cores for cost in model.costs)
    per_frame_s = sum(cost.cpu_ms for cost in model.costs) / 1000
    bounds = [(max(0.0, model.usable * cores - idle) / per_frame_s, "cores")]
    for cost in model.costs:
        if cost.busy_ms:
            bounds.append((1000 * model.usable_time / cost.busy_ms, cost.stage))
        bounds += _of_one_thread(cost)
    return Prediction(cores, *min(bounds))


def _of_one_thread(cost: Cost) -> Iterator[tuple[float, str]]:
    """Frames a second with which a process that cannot use more than a core has one in use."""
    if cost.stage in ONE_THREAD and cost.cpu_ms > 0:
        yield 1000 * (USABLE_CORES - cost.idle_cores) / cost.cpu_ms, cost.stage


def predict_streams(model: Model, cores: int, fps: float) -> Prediction:
    """How many streams at `fps` would hold, with their sources and viewers elsewhere: each has an ingress, a decode and
    an egress of its own, inference serves all of them, one frame after the other. Where one stream had no use of more
    than a part of its time several have: a frame of each waits beside those of the others."""
    ours = [cost for cost in model.costs if cost.stage != HARNESS]
    once = sum(cost.idle_cores for cost in ours if cost.stage in SHARED)
    each = sum(cost.cpu_ms * fps / 1000 + (0 if cost.stage in SHARED else cost.idle_cores) for cost in ours)
    by_cores = max(0.0, model.usable * cores - once) / each
    bounds = [(by_cores, "cores")]
    usable_time = max(USABLE_TIME, model.usable_time)
    for cost in ours:
        if cost.busy_ms is not None:
            at_once = 1000 * usable_time / (cost.busy_ms * fps)
            if cost.stage in SHARED or at_once < 1:
                bounds.append((at_once, cost.stage))
        bounds += ((rate / fps, stage) for rate, stage in _of_one_thread(cost))
    value, limit = min(bounds)
    return Prediction(cores, float(int(value + 1e-9)), limit)


def main() -> None:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 120)
    with failures_told(ReportFileError, NotEnough):
        reports = [read_report(path) for path in options.reports] or measure(options, console)
        models = [fit(report) for report in reports]
    console.print(*tables(models, options.fps), sep="\n")
    if options.reports:
        print_warnings(console, [text for report in reports for text in report.warnings])
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(models)))


def measure(options: argparse.Namespace, console: Console) -> list[Report]:
    """One report for each number of cores. Raises NodeFailed or HelperDied."""
    all_cores = sorted(os.sched_getaffinity(0))
    reports = []
    try:
        for count in options.cores or sorted({1, len(all_cores)}):
            os.sched_setaffinity(0, all_cores[:count])
            console.print(f"with {count} of {len(all_cores)} cores")
            reports.append(_measure(options, console))
    finally:
        os.sched_setaffinity(0, all_cores)
    return reports


def _measure(options: argparse.Namespace, console: Console) -> Report:
    overrides = dict(map(parse_override, options.set))
    topology = load_topology(options.file, overrides)
    if topology.streams.on_request:
        topology = load_topology(options.file, {"streams.max": MOST_STREAMS} | overrides)
    with running_bench(
        benched(topology),
        options.file,
        console,
        seconds=options.seconds,
        latency_ms=LATENCY_MS,
        max_fps=MAX_FPS,
        reference_fps=options.fps,
    ) as bench:
        bench.warm_up()
        bench.find_limit(0)
        for share in FITTED_SHARES:
            bench.look_at(max(1.0, share * bench.report().limits[0].sustained))
        bench.find_streams()
        return bench.report()


def tables(models: list[Model], fps: float) -> list[Table]:
    """The costs, what is predicted of other boxes, and how far off the predictions of what was measured are."""
    return [_cost_table(models[-1]), _box_table(models[-1], fps), *([_error_table(models)] if len(models) > 1 else [])]


def _cost_table(model: Model) -> Table:
    table = Table(title=f"fitted with {model.cores} cores", title_justify="left")
    table.add_column("stage")
    for heading in ("cores when idle", "CPU ms a frame", "ms at work on a frame"):
        table.add_column(heading, justify="right")
    for cost in model.costs:
        busy = "" if cost.busy_ms is None else f"{cost.busy_ms:.2f}"
        table.add_row(cost.stage, f"{cost.idle_cores:.3f}", f"{cost.cpu_ms:.2f}", busy)
    return table


def _box_table(model: Model, fps: float) -> Table:
    table = Table(title=f"predicted from {model.cores} cores", title_justify="left")
    for heading in ("cores", "one stream, fps", "limited by", f"streams at {fps:g} fps", "limited by"):
        table.add_column(heading, justify="right")
    for cores in TOLD_CORES:
        one, many = predict_fps(model, cores), predict_streams(model, cores, fps)
        table.add_row(str(cores), f"{one.value:.0f}", one.limit, f"{many.value:.0f}", many.limit)
    return table


def _error_table(models: list[Model]) -> Table:
    table = Table(title="predicted and measured", title_justify="left")
    for heading in ("fitted with", "cores", "predicted fps", "measured fps", "error", "predicted streams", "measured"):
        table.add_column(heading, justify="right")
    for model in models:
        for measured in models:
            predicted = predict_fps(model, measured.cores).value
            error = f"{predicted / measured.measured_fps - 1:+.0%}"
            cells = (f"{predicted:.0f}", f"{measured.measured_fps:.0f}", error, *_streams_cells(model, measured))
            table.add_row(f"{model.cores} cores", str(measured.cores), *cells)
    return table


def _streams_cells(model: Model, measured: Model) -> tuple[str, str]:
    if measured.measured_streams is None:
        return "", ""
    predicted = predict_streams(model, measured.cores, measured.streams_fps)
    return f"{predicted.value:.0f}", str(measured.measured_streams)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=Path("configs/api.yaml"), help="topology")
    parser.add_argument("--reports", nargs="+", type=Path, default=[], metavar="JSON", help="what `bench --json` wrote")
    parser.add_argument("--cores", nargs="+", type=int, metavar="N", help="measure with so many (default 1 and all)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of each step (default {SECONDS:g})")
    parser.add_argument("--fps", type=float, default=FPS, help=f"of a stream (default {FPS:g})")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="replace a value")
    parser.add_argument("--json", type=Path, help="write the fitted costs there too")
    options = parser.parse_args()
    most = len(os.sched_getaffinity(0))
    for count in options.cores or ():
        if not 1 <= count <= most:
            parser.error(f"--cores {count}: needed: 1 to {most}")
    if not 1 <= options.seconds <= 600:
        parser.error(f"--seconds {options.seconds:g}: needed: 1 to 600")
    if not 1 <= options.fps <= MAX_FPS:
        parser.error(f"--fps {options.fps:g}: needed: 1 to {MAX_FPS:g}")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}")
    return options


if __name__ == "__main__":
    main()
