"""The figures as tables for a terminal."""

import math
from collections.abc import Callable, Iterable

from rich.table import Table

from benchmarks.trickle_peers.figures import GAPLESS, Figure, Figures, Goal
from benchmarks.trickle_peers.job import Job

NOTHING = "-"
CAPTION = (
    "One publisher and one reader (fan-out: many), each client in processes of its own, on one relay. A switch runs "
    "from the publisher's turning to closing a segment until the reader has the first byte of the next; latency from "
    "before a chunk's write until the reader has its last byte. Medians over {rounds}; gaps, duplicates and missed "
    "chunks of the worst. -: not measured"
)

ROWS: list[tuple[str, str, Callable[[Figure, Job], str]]] = [
    ("saturating, {kib:.0f} KiB chunks: MB/s", "saturating", lambda f, _: f"{f.mb_per_s:,.0f}"),
    ("  CPU µs per MB: publisher", "saturating", lambda f, _: f"{f.publisher_us_per_mb:,.0f}"),
    ("  CPU µs per MB: reader", "saturating", lambda f, _: f"{f.readers_us_per_mb:,.0f}"),
    ("  CPU µs per MB: relay", "saturating", lambda f, _: f"{f.relay_us_per_mb:,.0f}"),
    (
        "{rate:.0f} chunks/s: latency, ms p50 / p99",
        "paced",
        lambda f, _: _pair(f.latency_p50_ms, f.latency_p99_ms),
    ),
    ("segment switch, ms p50 / max", "switches", lambda f, _: _pair(f.switch_p50_ms, f.switch_max_ms)),
    ("10 KB segments a second, none missed", GAPLESS, lambda f, _: f"{f.chunks_per_s:,.0f}"),
    ("10 KB segments back to back: received a second", "segments", lambda f, _: f"{f.chunks_per_s:,.0f}"),
    ("  gaps / duplicates of {count}", "segments", lambda f, _: f"{f.missing:.0f} / {f.duplicates:.0f}"),
    (
        "  TCP connections per 100 segments",
        "segments",
        lambda f, job: f"{100 * f.connections / job.segments:,.1f}",
    ),
    (
        "fan-out, {readers} readers of {mbit:.1f} Mbit/s: latency, ms p50 / p99",
        "fan-out",
        lambda f, _: _pair(f.latency_p50_ms, f.latency_p99_ms),
    ),
    ("  chunks missed of {fan_count}", "fan-out", lambda f, _: f"{f.missing:.0f}"),
    ("  CPU of the relay / of the readers", "fan-out", lambda f, _: f"{f.relay_cpu:.0%} / {f.readers_cpu:.0%}"),
]
"""What is shown, of which job, and how."""


def figure_table(figures: Figures, jobs: dict[str, Job], rounds: int) -> Table:
    table = Table(
        title="Trickle clients (python -m benchmarks.trickle)",
        caption=CAPTION.format(rounds=f"{rounds} rounds" if rounds > 1 else "one round"),
    )
    clients = list(dict.fromkeys(client for client, _ in figures))
    table.add_column("")
    for client in clients:
        table.add_column(client, justify="right")
    for label, name, show in ROWS:
        job = jobs["segments" if name == GAPLESS else name]
        cells = [show(figures[client, name], job) if (client, name) in figures else NOTHING for client in clients]
        table.add_row(_label(label, job), *cells)
    return table


def goal_table(goals: Iterable[Goal]) -> Table:
    table = Table(title="Goals")
    for heading in ("goal", "measured", "limit", "met"):
        table.add_column(heading, justify="right" if heading == "measured" else "left")
    for goal in goals:
        limit = f"at most {goal.at_most:g}" if goal.at_most < math.inf else f"at least {goal.at_least:g}"
        table.add_row(goal.what, f"{goal.value:,.2f}", limit, "yes" if goal.met else "NO")
    return table


def _label(text: str, job: Job) -> str:
    return text.format(
        kib=job.chunk_bytes / 1024,
        rate=job.chunks_per_second,
        count=job.segments,
        readers=job.readers,
        mbit=job.chunk_bytes * 8 * job.chunks_per_second / 1e6,
        fan_count=job.count * job.readers,
    )


def _pair(low: float, high: float) -> str:
    return f"{low:.2f} / {high:.2f}"
