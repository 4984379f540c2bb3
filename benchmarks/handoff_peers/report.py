"""The figures as tables for a terminal."""

import math
from collections.abc import Iterable, Iterator

from rich.table import Table

from benchmarks.handoff_peers.catalogue import FRAMES, TRANSPORTS
from benchmarks.handoff_peers.end import FPS, Pace
from benchmarks.handoff_peers.figures import Figure, Figures, Goal, Key, Placement

PLACEMENTS: dict[Placement, str] = {
    "pinned": "both ends pinned, each to a core",
    "free": "both ends left to the kernel",
}
RATES = ("512", "4k")
NOTHING = "-"
CAPTION = (
    "512x512 float32 is carried as uint8 four times as wide. frames/s (those that arrive: the latest link skips some) "
    "and CPU (both processes, per frame sent) are of streaming. -: not measured"
)


def placement_table(figures: Figures, placement: Placement) -> Table:
    """One way, back to back and paced; then what streaming brings and costs."""
    table = Table(
        title=f"Frame hand-over, {PLACEMENTS[placement]}: one way, µs p50 / p99 (python -m benchmarks.handoff)",
        caption=CAPTION,
    )
    table.add_column("transport")
    table.add_column("producer")
    for heading in (
        *(frame.name.replace(" ", "\n") for frame in FRAMES.values()),
        f"{FPS} fps\n512x512",
        *(f"frames/s\n{name}" for name in RATES),
        *(f"CPU µs\n{name}" for name in RATES),
    ):
        table.add_column(heading, justify="right")
    for transport, entry in TRANSPORTS.items():
        for copies in (False, True) if entry.in_place else (True,):
            cells = list(_cells(figures, placement, transport, copies))
            if set(cells) != {NOTHING}:
                table.add_row(transport, "copies" if copies else "in place", *cells)
    return table


def goal_table(goals: Iterable[Goal]) -> Table:
    table = Table(title="Ratios of p50, back to back")
    for heading in ("ratio", "placement", "measured", "goal", "met"):
        table.add_column(heading, justify="right" if heading == "measured" else "left")
    for goal in goals:
        table.add_row(goal.what, goal.placement, f"{goal.value:,.2f}", *_verdict(goal))
    return table


def _cells(figures: Figures, placement: Placement, transport: str, copies: bool) -> Iterator[str]:
    def find(frame: str, pace: Pace) -> Figure | None:
        return figures.get(Key(placement, transport, copies, frame, pace))

    for frame in FRAMES:
        yield _latency(find(frame, "ping-pong"))
    yield _latency(find("512", "paced"))
    streams = [find(frame, "streaming") for frame in RATES]
    yield from (f"{stream.frames_per_second:,.0f}" if stream else NOTHING for stream in streams)
    yield from (_short(stream.cpu_us) if stream else NOTHING for stream in streams)


def _latency(figure: Figure | None) -> str:
    return f"{_short(figure.p50_us)} / {_short(figure.p99_us)}" if figure else NOTHING


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _verdict(goal: Goal) -> tuple[str, str]:
    if goal.at_most == math.inf and goal.at_least == 0:
        return NOTHING, NOTHING
    limit = f"at least {goal.at_least:g}" if goal.at_least else f"at most {goal.at_most:g}"
    return limit, "yes" if goal.met else "NO"
