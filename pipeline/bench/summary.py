"""What a benchmark found, for a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.bench.compare import Comparison, Difference
from pipeline.bench.report import Report, Samples, StageUse, Step
from pipeline.bench.step import bottleneck

TITLES = {
    "max_fps": "highest rate of one stream, fps",
    "max_streams": "streams at once",
    "latency_p50_ms": "latency p50, ms",
    "latency_p95_ms": "latency p95, ms",
    "latency_p99_ms": "latency p99, ms",
}
STYLES = {"better": "green", "worse": "bold red", "same": "dim", "unknown": "dim"}


def title_of(name: str) -> str:
    """A figure's name, for people."""
    kind, _, stage = name.partition(".")
    by_stage = {"cpu_ms": f"CPU of {stage}, ms a picture", "recovery_ms": f"kill of {stage} to a new picture, ms"}
    return by_stage.get(kind) or TITLES.get(name, name)


def in_words(samples: Samples) -> str:
    """`30.1` or, of several, `30.1 (29.8 to 30.4)`."""
    if len(samples.values) == 1 or not samples.spread:
        return f"{samples.median:.4g}"
    return f"{samples.median:.4g} ({min(samples.values):.4g} to {max(samples.values):.4g})"


def summary(report: Report) -> Iterator[RenderableType]:
    """Tables and lines, in their order."""
    yield Text(f"{report.settings.topology}: {headline(report)}", style="bold")
    if report.figures():
        yield figure_table(report)
    for title, step in step_titles(report):
        yield stage_table(title, step)
    if report.recoveries:
        yield recovery_table(report)
    for warning in report.warnings:
        yield Text(f"warning: {warning}", style="yellow")


def headline(report: Report) -> str:
    """One sentence: what it holds, and what limits it."""
    if not report.limits:
        best = report.best()
        return "nothing was measured" if best is None else f"no limit was found; {best.fps:g} fps held"
    rate = report.figures()["max_fps"].median
    if not rate:
        return "no rate was sustained"
    beyond = report.beyond()
    limit = f"; it is limited by {bottleneck(beyond, report.machine.cores)}" if beyond is not None else ""
    least = "" if beyond is not None else " or more"
    size = f"{report.settings.width}x{report.settings.height}"
    return f"one stream of {size} holds {rate:.4g} fps{least}{limit}"


def step_titles(report: Report) -> Iterator[tuple[str, Step]]:
    """The steps whose stages are shown."""
    reference = report.reference
    best, beyond = report.best(), report.beyond()
    if reference:
        middle = sorted(reference, key=lambda step: step.p50_ms)[len(reference) // 2]
        yield f"stages at {middle.fps:g} fps", middle
    if best is not None:
        yield f"stages at the highest rate that was sustained, {best.fps:g} fps", best
    if beyond is not None:
        yield f"stages at the lowest rate that was not, {beyond.fps:g} fps", beyond


def figure_table(report: Report) -> Table:
    table = Table()
    table.add_column("figure")
    table.add_column("median (lowest to highest)", justify="right")
    for name, samples in report.figures().items():
        table.add_row(title_of(name), in_words(samples))
    return table


def stage_table(title: str, step: Step) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("stage")
    for heading in ("busy", "busy ms a frame", "cores", "CPU ms a picture", "RSS MB"):
        table.add_column(heading, justify="right")
    for use in step.stages:
        table.add_row(use.stage, *stage_cells(use))
    table.add_row("source and viewer", "", "", f"{step.harness_cores:.2f}", "", "")
    table.add_row("others", "", "", f"{step.cores_others:.2f}", "", "")
    for card, share in step.gpus.items():
        table.add_row(f"GPU {card}", f"{share:.0%}", "", "", "", "")
    return table


def stage_cells(use: StageUse) -> tuple[str, ...]:
    """What is said of a stage behind its name."""
    busy = "" if use.busy is None else f"{use.busy:.0%}"
    busy_ms = "" if use.busy_ms is None else f"{use.busy_ms:.2f}"
    return busy, busy_ms, f"{use.cores:.2f}", f"{use.cpu_ms:.2f}", f"{use.rss_mb:.0f}"


def recovery_table(report: Report) -> Table:
    table = Table(title=f"kill -9 of each stage at {report.recoveries[0].fps:g} fps, ms", title_justify="left")
    table.add_column("killed")
    for heading in ("to a new picture", "longest without a new one", "longest without any", "pictures lost"):
        table.add_column(heading, justify="right")
    for found in report.recoveries:
        if found.problem:
            table.add_row(found.stage, found.problem, "", "", str(found.lost))
        else:
            times = (f"{value:.0f}" for value in (found.new_ms, found.gap_ms, found.dark_ms))
            table.add_row(found.stage, *times, str(found.lost))
    return table


def comparison_table(comparison: Comparison) -> Table:
    table = Table(title="against the earlier report", title_justify="left")
    table.add_column("figure")
    for heading in ("old", "new", "change", "noise", "verdict"):
        table.add_column(heading, justify="right")
    for one in comparison.differences:
        table.add_row(*difference_cells(one), f"[{STYLES[one.verdict]}]{one.verdict}[/]")
    return table


def difference_cells(one: Difference) -> tuple[str, str, str, str, str]:
    return title_of(one.name), in_words(one.old), in_words(one.new), f"{one.change:+.1%}", f"{one.noise:.1%}"
