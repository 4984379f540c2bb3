"""From figures to goals, and both to Markdown."""

import math
from collections.abc import Iterator

import msgspec

from benchmarks.end_to_end_peers.cases import CASES, SUSTAINED
from benchmarks.end_to_end_peers.contestants import CONTROL, FLOOR, OURS
from benchmarks.end_to_end_peers.heat import Figure
from benchmarks.trickle_peers.catalogue import PYTRICKLE

Figures = dict[tuple[str, str], Figure]
"""By case and contestant."""

HEADINGS = (
    "source -> output",
    "",
    "fps",
    "CPU ms a picture",
    "latency ms p50 / p95",
    "drift ms",
    "first picture ms",
    "lost + waiting of sent",
    "RSS MB start -> end",
    "MB a minute",
    "kbit/s",
    "relay, source, viewer: CPU ms",
)
NOTE = (
    "CPU is of all processes of the contestant, per picture that arrived; relay, source and viewer are not in it. "
    "Drift: by how much the median latency is higher in the last quarter of the run than in the first. control: the "
    "same channel watched with nobody in between. Lost: not seen, though a later one was; waiting: behind the last one "
    "that was seen, 3 s after the last was sent. Medians over the rounds, the worst of what was not seen."
)


class Goal(msgspec.Struct, frozen=True):
    case: str
    what: str
    value: float
    at_most: float = math.inf
    at_least: float = -math.inf

    @property
    def met(self) -> bool:
        return self.at_least <= self.value <= self.at_most


def goals(figures: Figures) -> Iterator[Goal]:
    """Those whose figures were all measured."""
    for case in CASES.values():
        ours, theirs = figures.get((case.name, OURS)), figures.get((case.name, PYTRICKLE))
        control, floor = figures.get((case.name, CONTROL)), figures.get((case.name, FLOOR))
        if ours and theirs:
            yield Goal(case.name, "CPU a picture, livepipe / pytrickle", ours.cpu_ms / theirs.cpu_ms, at_most=1 / 3)
        if ours and theirs and control:
            added = [one.latency_p50_ms - control.latency_p50_ms for one in (ours, theirs)]
            yield Goal(case.name, "added latency p50, livepipe / pytrickle", added[0] / added[1], at_most=0.2)
        if ours and floor:
            yield Goal(case.name, "CPU a picture, livepipe / one process", ours.cpu_ms / floor.cpu_ms, at_most=1.25)
        if ours and case.name == SUSTAINED:
            yield Goal(case.name, "pictures a second", ours.fps, at_least=0.99 * case.fps)
            yield Goal(case.name, "drift of the latency, ms", ours.drift_ms, at_most=1000 / case.fps)
            yield Goal(case.name, "memory, end / start", ours.rss_end_mb / ours.rss_start_mb, at_most=1.02)


def markdown(figures: Figures, failures: dict[tuple[str, str], str]) -> str:
    """The table of the figures, with a row for every contestant that has none and why, and below it the goals."""
    rows = [_row(HEADINGS), _row(["---", "---", *["---:"] * (len(HEADINGS) - 2)])]
    for case in CASES.values():
        title = f"{case.width}x{case.height}@{case.fps} -> {case.out_width}x{case.out_height}"
        for (at, name), figure in figures.items():
            if at == case.name:
                rows.append(_row([title, name, *_cells(figure)]))
        for (at, name), problem in failures.items():
            if at == case.name:
                rows.append(_row([title, name, f"failed: {problem.splitlines()[0]}", *[""] * (len(HEADINGS) - 3)]))
    shares = [f"- {case}: {_shares(one)}" for (case, name), one in figures.items() if name == OURS]
    lines = [*rows, "", NOTE, "", *_goal_rows(list(goals(figures)))]
    if shares:
        lines += ["", "livepipe's CPU ms a picture, by process:", "", *shares]
    doubts = [f"- {case}, {name}: {'; '.join(one.doubts)}" for (case, name), one in figures.items() if one.doubts]
    if doubts:
        lines += ["", "**Not to be trusted**, the machine was not quiet:", "", *doubts]
    return "\n".join(lines)


def _cells(figure: Figure) -> Iterator[str]:
    yield f"{figure.fps:.1f}"
    yield f"{figure.cpu_ms:.2f}"
    yield f"{figure.latency_p50_ms:.1f} / {figure.latency_p95_ms:.1f}"
    yield f"{figure.drift_ms:+.1f}"
    yield f"{figure.first_ms:.0f}"
    yield f"{figure.lost} + {figure.waiting} of {figure.sent}"
    yield f"{figure.rss_start_mb:.0f} -> {figure.rss_end_mb:.0f}"
    yield f"{figure.rss_slope:+.1f}"
    yield f"{figure.kbit_per_s:.0f}"
    yield ", ".join(f"{figure.harness_cpu_ms[name]:.2f}" for name in ("relay", "source", "viewer"))


def _shares(figure: Figure) -> str:
    shares = ", ".join(f"{name} {value:.2f}" for name, value in figure.cpu_by_process.items())
    dropped = ", ".join(f"{reason} {count}" for reason, count in figure.dropped.items())
    return f"{shares}; dropped in the whole run: {dropped or 'none'}"


def _goal_rows(met: list[Goal]) -> Iterator[str]:
    yield _row(["case", "goal", "measured", "limit", "met"])
    yield _row(["---", "---", "---:", "---", "---"])
    for goal in met:
        limit = f"at most {goal.at_most:.2f}" if goal.at_most < math.inf else f"at least {goal.at_least:.1f}"
        yield _row([goal.case, goal.what, f"{goal.value:.2f}", limit, "yes" if goal.met else "NO"])


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
