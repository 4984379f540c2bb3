"""The page of a long run: memory, descriptors and latency over its time."""

from collections.abc import Iterator
from html import escape

from benchmarks.soak_figures import Minute, Soak, load_of, slope_cells
from pipeline.bench.html_report import table, whole_page
from pipeline.bench.plots import Line, Point, line_plot

STYLES = ("s0", "s1", "s2", "s3", "s4", "s5")
MAX_POINTS = 300


def soak_page(soak: Soak) -> str:
    """HTML."""
    return whole_page(f"soak {soak.topology}", _parts(soak))


def _parts(soak: Soak) -> Iterator[str]:
    yield f"<h1>{escape(soak.topology)}</h1>"
    said = f"{load_of(soak)}; {len(soak.kills)} kills; counts balanced: {soak.frames.balanced}."
    yield f'<p class="lead">{escape(said)}</p>'
    yield from (f'<p class="warning">{escape(problem)}</p>' for problem in soak.problems)
    yield "<h2>Memory</h2>"
    yield line_plot(_lines(soak, "rss_mb"), "seconds", "MB")
    yield "<h2>Descriptors</h2>"
    yield line_plot(_lines(soak, "fds"), "seconds", "open")
    yield "<h2>Latency, each minute</h2>"
    lines = [
        Line("p50", "s0", [_point(one, one.p50_ms) for one in soak.minutes]),
        Line("p95", "s1", [_point(one, one.p95_ms) for one in soak.minutes]),
    ]
    yield line_plot(lines, "seconds", "ms")
    yield "<h2>Slopes</h2>"
    rows = []
    for one in soak.slopes:
        rows.append([one.what, *slope_cells(one), "grows" if one.grows else ""])
    yield table(["what", "minutes", "median", "an hour", "standard error", ""], rows)
    yield "<h2>Kills</h2>"
    kills = [
        [f"{kill.at:.0f} s", kill.stage, "never" if kill.back_ms is None else f"{kill.back_ms:.0f} ms"]
        for kill in soak.kills
    ]
    yield table(["at", "stage", "back after"], kills)


def _point(minute: Minute, value: float) -> Point:
    return Point(minute.at, value, f"{minute.lost} of {minute.sent} were not seen")


def _lines(soak: Soak, kind: str) -> list[Line]:
    samples = soak.samples[:: max(1, len(soak.samples) // MAX_POINTS)]
    stages = list(soak.samples[0].rss_mb) if soak.samples else []
    lines = []
    for index, stage in enumerate(stages):
        points = [Point(sample.at, getattr(sample, kind).get(stage, 0)) for sample in samples]
        lines.append(Line(stage, STYLES[index % len(STYLES)], points))
    return lines
