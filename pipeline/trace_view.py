"""Draws traced frames: the newest ones hop by hop, and how long each hop takes over all. `traces` reads them."""

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.status import FrameTrace, Traces
from pipeline.traces import HOPS

SHOWN_FRAMES = 3
BAR_WIDTH = 56

_WAITS, _WORKS = "dim", "cyan"

OFF = "tracing is off: set tracing.every in the topology, such as tracing: {every: 30}"


def trace_view(traces: Traces) -> Group:
    """The newest frames as waterfalls on one scale, and the table of the hops."""
    shown = traces.traces[:SHOWN_FRAMES]
    if not shown:
        return Group(Text(f"no frame has been traced yet: one in {traces.every} is"))
    longest = max(trace.total_ms for trace in shown)
    return Group(*(waterfall(trace, longest) for trace in shown), hop_table(traces))


def waterfall(trace: FrameTrace, longest_ms: float | None = None) -> Group:
    """One frame: a row a hop, with a bar where it lies between the frame's arrival and `longest_ms` after it."""
    scale = BAR_WIDTH / max(longest_ms or trace.total_ms, 1e-3)
    table = Table(box=None, show_header=False)
    table.add_column(width=14)
    table.add_column(width=BAR_WIDTH)
    table.add_column(justify="right", width=11)
    for hop in trace.hops:
        begin = min(BAR_WIDTH - 1, int(hop.start_ms * scale))
        length = max(1, min(BAR_WIDTH, round((hop.start_ms + hop.ms) * scale)) - begin)
        style = _WAITS if hop.name.startswith("wait") else _WORKS
        table.add_row(hop.name, Text(" " * begin + "█" * length, style), f"{hop.ms:.2f} ms")
    return Group(_title(trace), table)


def hop_table(traces: Traces) -> Table:
    """Median and 95th percentile of each hop."""
    count = max(hop.count for hop in traces.hops)
    table = Table(title=f"{count} frames, one in {traces.every}", title_justify="left")
    for heading in ("hop", "p50 ms", "p95 ms"):
        table.add_column(heading, justify="left" if heading == "hop" else "right")
    for hop in traces.hops:
        table.add_row(hop.name, _number(hop.p50_ms), _number(hop.p95_ms), end_section=hop is traces.hops[-2])
    return table


def identity(trace: FrameTrace) -> tuple[int, int, str]:
    """What tells one traced frame from another."""
    return trace.epoch, trace.seq, trace.outcome


class NewTraces:
    """Of what is told again and again, what was not there before, oldest first."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int, str]] = set()

    def of(self, traces: Traces) -> Iterator[FrameTrace]:
        before, self._seen = self._seen, {identity(trace) for trace in traces.traces}
        return (trace for trace in reversed(traces.traces) if identity(trace) not in before)


def _title(trace: FrameTrace) -> Text:
    stream = f"{trace.stream} " if trace.stream else ""
    style = "green" if trace.outcome == "delivered" else "yellow"
    if trace.outcome == "delivered":
        ended = ""
    elif trace.hops[-1].name == HOPS[-1]:
        ended = ", something else was shown in its place"
    else:
        ended = f" in {trace.hops[-1].name}"
    return Text.assemble(
        f"{stream}epoch {trace.epoch} frame {trace.seq} at {trace.pts / CLOCK_HZ:.3f} s: ",
        (trace.outcome, style),
        f"{ended}, {trace.total_ms:.2f} ms",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
