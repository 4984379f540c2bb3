"""What docs/benchmarks.md shows of the comparison: tables and plots, and where they come from."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.end_to_end import Failures
from benchmarks.end_to_end_peers.cases import CASES, Case
from benchmarks.end_to_end_peers.contestants import CONTROL, FLOOR, OURS, QUEUES
from benchmarks.end_to_end_peers.heat import Figure, range_of
from benchmarks.end_to_end_peers.report import Figures
from benchmarks.trickle_peers.catalogue import PYTRICKLE
from pipeline.bench.plots import Bar, bar_plot, picture

DOCUMENT = "docs/benchmarks.md"
IMAGES = "images"
BEGIN, END = "<!-- peers: what `make bench-peers` writes -->", "<!-- peers: end -->"
FFMPEG = "ffmpeg"

STYLES = {OURS: "s0", PYTRICKLE: "s1", QUEUES: "s2", FLOOR: "s3", CONTROL: "s4", FFMPEG: "s5"}
TITLES = {
    "cpu": "CPU time of a picture",
    "latency": "Latency: p50 as a bar, p95 as a dot; a logarithmic scale",
    "fps": "Pictures a second",
    "memory": "Memory at the end of the run: the sum of the processes",
}
AXES = {"cpu": "CPU ms a picture", "latency": "ms", "fps": "fps", "memory": "MB"}
HEADINGS = (
    "",
    "fps out",
    "CPU ms a picture",
    "latency ms p50 / p95",
    "drift ms",
    "lost + waiting of sent",
    "memory MB",
    "kbit/s",
)

NONE_SEEN = "none seen in time"
"""Of the pictures that were sent after the warm-up."""

Limits = dict[str, list[float]]
"""CPU ms a picture of FFmpeg's command line, in each round, by case."""


class Origin(msgspec.Struct, frozen=True):
    """Where the figures come from. `peers` and `ffmpeg` are versions; empty: not there."""

    machine: str
    peers: str
    ffmpeg: str
    command: str
    rounds: int
    seconds: float


def page(figures: Figures, failures: Failures, limits: Limits, origin: Origin) -> str:
    """Markdown: a table for each case, the plots, the machine, the versions, the command."""
    parts = [f"`{origin.command}`: {_rounds(origin.rounds)} of {origin.seconds:g} s. {origin.machine}."]
    parts.append(_left_out(origin))
    for name in dict.fromkeys(case for case, _ in (*figures, *failures)):
        parts += [f"### {_title(CASES[name])}", _table(name, figures, failures, limits)]
    parts += [f"![{TITLES[kind]}]({IMAGES}/peers-{kind}.svg)" for kind in TITLES]
    parts += list(_doubts(figures))
    return "\n\n".join(parts)


def _rounds(count: int) -> str:
    return f"{count} round{'s' * (count != 1)}"


def plots(figures: Figures, limits: Limits) -> dict[str, str]:
    """The drawings by file name."""
    return {
        f"peers-{kind}.svg": picture(
            bar_plot(list(_bars(kind, figures, limits)), AXES[kind], log=kind == "latency", labels=190), TITLES[kind]
        )
        for kind in TITLES
    }


def put_into(document: Path, text: str, drawings: dict[str, str]) -> None:
    """Replace what was between BEGIN and END; write the drawings beside it. Raises ValueError without these marks."""
    old = document.read_text()
    if BEGIN not in old or END not in old:
        raise ValueError(f"{document}: needed are the lines {BEGIN} and {END}")
    between = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.S)
    document.write_text(between.sub(lambda _: f"{BEGIN}\n\n{text}\n\n{END}", old))
    folder = document.parent / IMAGES
    folder.mkdir(exist_ok=True)
    for name, drawing in drawings.items():
        (folder / name).write_text(drawing)


def _title(case: Case) -> str:
    return f"{case.width}x{case.height} at {case.fps} fps -> {case.out_width}x{case.out_height}"


def _left_out(origin: Origin) -> str:
    words = [f"{PYTRICKLE}'s interpreter: {origin.peers}." if origin.peers else f"Left out: {PYTRICKLE}, {QUEUES}."]
    words.append(f"FFmpeg: {origin.ffmpeg}." if origin.ffmpeg else "FFmpeg's command line: none on PATH, left out.")
    return " ".join(words)


def _table(case: str, figures: Figures, failures: Failures, limits: Limits) -> str:
    rows = [_row(HEADINGS), _row(("---", *["---:"] * (len(HEADINGS) - 1)))]
    rows += [_row((name, *_cells(figure))) for (at, name), figure in figures.items() if at == case]
    if case in limits:
        cpu = f"{median(limits[case]):.1f}{_from_to(range_of(limits[case]))}"
        rows.append(_row((f"{FFMPEG}, no network", "", cpu, *[""] * (len(HEADINGS) - 3))))
    for (at, name), why in failures.items():
        if at == case:
            rows.append(_row((name, f"failed: {why.splitlines()[0]}", *[""] * (len(HEADINGS) - 2))))
    return "\n".join(rows)


def _cells(figure: Figure) -> Iterator[str]:
    yield f"{figure.fps:.1f}"
    yield f"{figure.cpu_ms:.1f}{_from_to(figure.cpu_range)}"
    was_seen = math.isfinite(figure.latency_p50_ms)
    latency = f"{figure.latency_p50_ms:,.1f}{_from_to(figure.latency_range)} / {figure.latency_p95_ms:,.1f}"
    yield latency if was_seen else NONE_SEEN
    yield f"{figure.drift_ms:+,.1f}" if was_seen else ""
    yield f"{figure.lost} + {figure.waiting} of {figure.sent}"
    yield f"{figure.rss_start_mb:,.0f} -> {figure.rss_end_mb:,.0f}"
    yield f"{figure.kbit_per_s:,.0f}"


def _from_to(limits: tuple[float, float] | None) -> str:
    """The lowest and the highest of several rounds."""
    return "" if limits is None else f" ({limits[0]:,.1f} to {limits[1]:,.1f})"


def _doubts(figures: Figures) -> Iterator[str]:
    doubts = [f"- {case}, {name}: {'; '.join(one.doubts)}" for (case, name), one in figures.items() if one.doubts]
    if doubts:
        yield "**Not to be trusted**, the machine was not quiet:"
        yield "\n".join(doubts)


def _bars(kind: str, figures: Figures, limits: Limits) -> Iterator[Bar]:
    for case in dict.fromkeys(case for case, _ in figures):
        for (at, name), figure in figures.items():
            if at == case and not (name == CONTROL and kind in ("cpu", "memory")):
                yield _bar(kind, f"{case} {name}", STYLES[name], figure)
        if kind == "cpu" and case in limits:
            cpu_ms = median(limits[case])
            yield _plain(f"{case} {FFMPEG}", STYLES[FFMPEG], cpu_ms, f"{cpu_ms:.1f} ms")


def _bar(kind: str, label: str, style: str, figure: Figure) -> Bar:
    match kind:
        case "cpu":
            return _plain(label, style, figure.cpu_ms, f"{figure.cpu_ms:.1f} ms")
        case "latency":
            p50, p95 = figure.latency_p50_ms, figure.latency_p95_ms
            if not math.isfinite(p50):
                return Bar(label, [], NONE_SEEN)
            return Bar(label, [(p50, style, "p50")], f"{p50:,.0f} / {p95:,.0f} ms", [p95])
        case "fps":
            return _plain(label, style, figure.fps, f"{figure.fps:.1f}")
        case _:
            return _plain(label, style, figure.rss_end_mb, f"{figure.rss_end_mb:,.0f} MB")


def _plain(label: str, style: str, value: float, said: str) -> Bar:
    return Bar(label, [(value, style, said)], said)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
