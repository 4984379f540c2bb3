"""One run: one contestant, one case. The source plays, the viewer watches, and what they and the processes between them
did becomes figures; or the run is said to be worth nothing, and why."""

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import psutil

from benchmarks.end_to_end_peers.cases import Case
from benchmarks.end_to_end_peers.contestants import CONTESTANTS, Contestant, Failed
from benchmarks.end_to_end_peers.said import Played, Watched
from benchmarks.end_to_end_peers.source import READY
from benchmarks.end_to_end_peers.usage import Meter, Sample
from benchmarks.end_to_end_peers.viewer import WATCHING
from benchmarks.onlooker import UNREADABLE
from benchmarks.trickle_peers.processes import RelayProcess
from pipeline.bench.helper_process import HelperProcess

SAMPLE_S = 0.5
SETTLE_S = 3.0
"""From the last picture's being sent until the run is over."""

PATIENCE_S = 60.0
"""How much longer than they have to source and viewer may take: the one to play, the other to decode at this rate or
more."""

VIEWER_FPS = 50

MAX_SOURCE_LATE_MS = 20.0
MAX_OTHERS_CORES = 0.15
MAX_UNREADABLE = 0.01
"""Beyond these the figures say more about the machine, or about the harness, than about the contestant."""


RANGES = {"cpu_range": "cpu_ms", "latency_range": "latency_p50_ms"}


class Figure(msgspec.Struct, frozen=True):
    """Of one run, from the end of the warm-up to the end of the source.

    `fps` are pictures that a viewer had not seen before, a second; CPU is milliseconds per such picture: of the
    contestant's processes, and of the harness's, which do not count. Latency runs from the picture's being written at
    the source until its last byte is at the viewer; `drift_ms` is by how much its median is higher in the last quarter
    than in the first. `first_ms` is from the first picture's being written to the first at the viewer. Of the `sent`
    pictures `lost` were not seen though a later one was, and `waiting` were behind the last that was, at the end of the
    run. `rss_slope` is in MB a minute. `cpu_range` and `latency_range`, of its p50, are the lowest and the highest of
    several rounds."""

    fps: float
    cpu_ms: float
    cpu_by_process: dict[str, float]
    harness_cpu_ms: dict[str, float]
    latency_p50_ms: float
    latency_p95_ms: float
    drift_ms: float
    first_ms: float
    rss_start_mb: float
    rss_end_mb: float
    rss_slope: float
    sent: int
    lost: int
    waiting: int
    dropped: dict[str, int]
    kbit_per_s: float
    source_late_p95_ms: float
    others_cores: float
    doubts: list[str]
    """Why this run should not be believed."""
    cpu_range: tuple[float, float] | None = None
    latency_range: tuple[float, float] | None = None


class Nonsense(Exception):
    """A run that measured nothing. The text says why."""


def run(
    name: str, case: Case, relay: RelayProcess, folder: Path, source: Path, seconds: float, warm_up: float
) -> Figure:
    """`source` is `seconds` long. Raises Failed when the contestant does not last, Nonsense when what a viewer saw
    cannot be right."""
    in_url, out_url = relay.new_channel(), relay.new_channel()
    with ExitStack() as stack:
        stack.callback(_remove, relay, in_url, out_url)
        player = stack.enter_context(_helper("source", str(source), in_url))
        assert player.answer() == READY
        contestant = stack.enter_context(CONTESTANTS[name](case, in_url, out_url, folder))
        viewer = stack.enter_context(_helper("viewer", contestant.output))
        assert viewer.answer() == WATCHING
        meter = Meter(contestant.pid, {"relay": relay.pid, "source": player.pid, "viewer": viewer.pid})
        player.send("play")
        try:
            _sample_until_played(meter, player, contestant, seconds)
        except psutil.NoSuchProcess as gone:
            raise Failed(f"process {gone.pid} of {name} ended") from gone
        played = player.answer()
        time.sleep(SETTLE_S)
        contestant.check()
        viewer.send("stop")
        _remove(relay, in_url)
        dropped = contestant.stop()
        viewer.answers_within(PATIENCE_S + len(played.sent) / VIEWER_FPS)
        watched = viewer.answer()
    return figure(case, played, watched, meter.samples, warm_up, dropped)


def _helper(module: str, *arguments: str) -> HelperProcess:
    return HelperProcess(sys.executable, f"benchmarks.end_to_end_peers.{module}", *arguments)


def _remove(relay: RelayProcess, *urls: str) -> None:
    for url in urls:
        with suppress(RuntimeError):  # Its writer may have removed it already.
            relay.remove_channel(url)


def _sample_until_played(meter: Meter, player: HelperProcess, contestant: Contestant, seconds: float) -> None:
    deadline = time.monotonic() + seconds + PATIENCE_S
    while time.monotonic() < deadline:
        contestant.check()
        meter.take()
        if player.answers_within(SAMPLE_S):
            return
    raise Nonsense(f"a source of {seconds:.0f} s was not played within {seconds + PATIENCE_S:.0f} s")


def figure(
    case: Case, played: Played, watched: Watched, samples: Sequence[Sample], warm_up: float, dropped: dict[str, int]
) -> Figure:
    """Raises Nonsense."""
    _check(case, played, watched)
    sent = np.array(played.sent)
    begin, end = sent[0] + warm_up, sent[-1]
    arrived = np.full(len(sent), np.inf)
    for picture in watched.seen:
        if picture.index != UNREADABLE:
            arrived[picture.index] = min(arrived[picture.index], picture.at)
    counted = [sample for sample in samples if begin <= sample.at <= end]
    if len(counted) < 2:
        raise Nonsense("the source is too short: it ended with the warm-up")
    first, last = counted[0], counted[-1]
    seconds = last.at - first.at
    pictures = int(np.sum((arrived >= first.at) & (arrived < last.at)))
    if not pictures:
        raise Nonsense("no picture arrived after the warm-up")
    latency = 1000 * (arrived - sent)[(sent >= begin) & np.isfinite(arrived)]
    quarter = max(1, len(latency) // 4)
    unseen = (sent >= begin) & ~np.isfinite(arrived)
    is_behind = np.arange(len(sent)) > np.flatnonzero(np.isfinite(arrived)).max()
    rss = [sum(sample.rss_mb.values()) for sample in counted]
    late = float(np.percentile(played.late_ms, 95))
    used = _difference(first.cpu_s, last.cpu_s)
    harness = _difference(first.harness_s, last.harness_s)
    others = (last.machine_s - first.machine_s - sum(used.values()) - sum(harness.values())) / seconds
    return Figure(
        fps=pictures / seconds,
        cpu_ms=1000 * sum(used.values()) / pictures,
        cpu_by_process={name: 1000 * value / pictures for name, value in used.items()},
        harness_cpu_ms={name: 1000 * value / pictures for name, value in harness.items()},
        latency_p50_ms=_percentile(latency, 50),
        latency_p95_ms=_percentile(latency, 95),
        drift_ms=_percentile(latency[-quarter:], 50) - _percentile(latency[:quarter], 50),
        first_ms=1000 * float(min(arrived) - sent[0]),
        rss_start_mb=rss[0],
        rss_end_mb=rss[-1],
        rss_slope=float(np.polyfit([sample.at / 60 for sample in counted], rss, 1)[0]),
        sent=int(np.sum(sent >= begin)),
        lost=int(np.sum(unseen & ~is_behind)),
        waiting=int(np.sum(unseen & is_behind)),
        dropped=dropped,
        kbit_per_s=watched.video_bytes * 8 / 1000 / (len(sent) / case.fps),
        source_late_p95_ms=late,
        others_cores=max(0.0, others),
        doubts=_doubts(late, others),
    )


def _check(case: Case, played: Played, watched: Watched) -> None:
    if not watched.seen:
        raise Nonsense(watched.problem or "nobody saw a picture")
    if watched.sizes not in ([(case.out_width, case.out_height)], [(case.width, case.height)]):
        raise Nonsense(f"pictures of {watched.sizes}, wanted {case.out_width}x{case.out_height}")
    unreadable = sum(picture.index == UNREADABLE for picture in watched.seen)
    if unreadable > MAX_UNREADABLE * len(watched.seen):
        raise Nonsense(f"{unreadable} of {len(watched.seen)} pictures bear no number that can be read")
    highest = max(picture.index for picture in watched.seen)
    if highest >= len(played.sent):
        raise Nonsense(f"picture {highest} was seen, and {len(played.sent)} were sent")
    for picture in watched.seen:
        if picture.index != UNREADABLE and picture.at < played.sent[picture.index]:
            raise Nonsense(f"picture {picture.index} was seen before it was sent")


def _doubts(late_ms: float, others: float) -> list[str]:
    doubts = []
    if late_ms > MAX_SOURCE_LATE_MS:
        doubts.append(f"the source was {late_ms:.0f} ms late (p95)")
    if others > MAX_OTHERS_CORES:
        doubts.append(f"{others:.2f} cores were busy for somebody else")
    return doubts


def over_rounds(rounds: Sequence[Figure]) -> Figure:
    """Medians; of what was not seen and of what raises doubts the worst. What has names is taken from the round whose
    CPU is the median."""
    middle = sorted(rounds, key=lambda one: one.cpu_ms)[len(rounds) // 2]
    values = {}
    for name in Figure.__struct_fields__:
        column = [getattr(one, name) for one in rounds]
        if name in RANGES:
            values[name] = range_of(getattr(one, RANGES[name]) for one in rounds)
        elif name in ("lost", "waiting", "source_late_p95_ms", "others_cores"):
            values[name] = max(column)
        elif name == "doubts":
            values[name] = sorted({doubt for doubts in column for doubt in doubts})
        elif isinstance(column[0], dict):
            values[name] = getattr(middle, name)
        else:
            values[name] = median(column)
    return Figure(**values)


def range_of(values: Iterable[float]) -> tuple[float, float] | None:
    """The lowest and the highest of those that there are; None of fewer than two."""
    there = [value for value in values if np.isfinite(value)]
    return (min(there), max(there)) if len(there) > 1 else None


def _difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: value - before[name] for name, value in after.items()}


def _percentile(values: np.ndarray, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else float("nan")
