"""One step: a load is played and watched, and what source, viewer and pipeline say of it becomes figures."""

import os
import time
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import psutil

from pipeline.bench.machine import machine_cpu_s
from pipeline.bench.report import LATENCY_EDGES_MS, StageUse, Step
from pipeline.bench.usage import LAUNCHER, Used, cpu_s_of, used_by_worker
from pipeline.bench.words import UNREADABLE, Played, Watched
from pipeline.status import Status

MIN_ARRIVED = 0.99
MAX_LATE = 0.005
"""Parts of what was sent: sustained is what loses no more."""

NEARLY_ARRIVED, NEARLY_LATENCY = 0.9, 2.0
"""What arrived of what was sent, and times the latency that is allowed: a step that is no worse than this may have
failed by accident."""

ALLOWED_LATE = 1
"""Beside MAX_LATE, of each stream: in a short step one frame is no sign of anything."""

MAX_SOURCE_LATE_MS = 20.0
"""Beyond this the source itself had no time: the machine is full."""

PTS_TOLERANCE = 1
"""Ticks of 1/90000 s that a time stamp may be rounded by on its way."""

FULL, FULL_STAGE = 0.9, 0.8
"""Of the cores, or of a card, and of the time of a stage, whose frames do not come evenly: with more of it in use there
is nothing left to speak of."""

WORKERS = ("ingress", "decode", "inference", "egress", "relay", LAUNCHER)
NOTHING = Used(0.0, 0.0)
COUNTS_BUSY = ("decode", "inference", "egress")
ONE_THREAD = ("relay", LAUNCHER)
"""Workers of which there is one, and which cannot use more than a core."""


class Look(msgspec.Struct, frozen=True):
    """What had been used up to `at` (CLOCK_MONOTONIC seconds): by each kind of worker, and in CPU seconds by the
    benchmark's own processes and by everybody on the machine."""

    at: float
    status: Status
    used: dict[str, Used]
    harness_s: float
    machine_s: float


def look(status: Status, launcher: int, harness: Iterable[int]) -> Look:
    """`launcher` is its pid, `harness` are those of source and viewer; this process counts too."""
    harness_s = sum(cpu_s_of(psutil.Process(pid)) for pid in (*harness, os.getpid()))
    return Look(time.monotonic(), status, used_by_worker(launcher), harness_s, machine_cpu_s())


class Asked(msgspec.Struct, frozen=True):
    """The load of a step, and when it was measured, CLOCK_MONOTONIC seconds: from the end of the warm-up on."""

    purpose: str
    streams: int
    fps: float
    latency_ms: float
    begin: float
    end: float


class Matched(msgspec.Struct, frozen=True):
    """Pictures that were sent, in order: when each was sent, when a viewer first had it (infinity: never), whether the
    number that it bore was the one sent (None: it was not readable)."""

    sent: list[float]
    arrived: list[float]
    right: list[bool | None]


def match(played: Played, watched: Watched) -> Matched:
    """A picture is known by its time stamp. What bears another number than was sent with it is an old one that was
    shown again; where no number at all can be read, the time stamp has to do."""
    readable = any(number != UNREADABLE for number in watched.numbers)
    at_pts: dict[int, tuple[float, int]] = {}
    for at, pts, number in zip(watched.at, watched.pts, watched.numbers, strict=True):
        at_pts.setdefault(pts, (at, number))
    arrived: list[float] = []
    right: list[bool | None] = []
    for pts, number in zip(played.pts, played.numbers, strict=True):
        near = (at_pts[tick] for tick in (pts, pts - PTS_TOLERANCE, pts + PTS_TOLERANCE) if tick in at_pts)
        at, shown = next(near, (np.inf, UNREADABLE))
        is_right = None if not readable or shown == UNREADABLE else shown == number
        arrived.append(np.inf if is_right is False else at)
        right.append(is_right)
    return Matched(list(played.sent), arrived, right)


def figures(
    asked: Asked,
    pairs: Sequence[tuple[Played, Watched]],
    before: Look,
    after: Look,
    cards: dict[str, float],
    problems: Sequence[str] = (),
) -> Step:
    """`pairs` has one for each stream. `problems` are what else speaks against the step."""
    streams = [_measured(match(played, watched), asked.begin, asked.end) for played, watched in pairs]
    sent = sum(len(stream.sent) for stream in streams)
    of_each = [_latency_ms(stream) for stream in streams]
    ms = np.concatenate(of_each) if streams else np.empty(0)
    late_ms = [late for played, _ in pairs for late in _of_window(played.late_ms, played.sent, asked)]
    dropped = _difference(before.status.frames.dropped, after.status.frames.dropped)
    rights = [one for stream in streams for one in stream.right if one is not None]
    wrong = rights.count(False)
    seconds = after.at - before.at
    stages = stage_uses(before, after, len(ms))
    harness = (after.harness_s - before.harness_s) / seconds
    cores = (after.machine_s - before.machine_s) / seconds
    step = Step(
        purpose=asked.purpose,
        streams=asked.streams,
        fps=asked.fps,
        seconds=asked.end - asked.begin,
        sent=sent,
        arrived=len(ms),
        late=dropped.pop("late", 0),
        dropped=dropped,
        p50_ms=_percentile(ms, 50),
        p95_ms=_percentile(ms, 95),
        p99_ms=_percentile(ms, 99),
        max_ms=_percentile(ms, 100),
        drift_ms=max(map(_drift_ms, of_each), default=0.0),
        latencies=_counted(ms),
        numbered=round(1 - wrong / len(rights), 4) if rights else None,
        source_late_ms=_percentile(np.array(late_ms), 95),
        kbit_per_s=sum(watched.video_bytes for _, watched in pairs) * 8 / 1000 / _played_s(pairs),
        stages=stages,
        harness_cores=harness,
        cores_busy=cores,
        cores_others=max(0.0, cores - harness - sum(use.cores for use in stages)),
        gpus=cards,
        failings=[],
        worst_p95_ms=max((_percentile(one, 95) for one in of_each), default=0.0),
        worst_arrived=min(map(_arrived_part, of_each, streams), default=0.0),
    )
    said = [watched.problem for _, watched in pairs if watched.problem]
    capped = _capped(after.status) - _capped(before.status)
    said += [f"{capped} pictures were left out, as frame.max_fps says"] if capped else []
    return msgspec.structs.replace(step, failings=[*problems, *said, *failings(step, asked.latency_ms)])


def failings(step: Step, latency_ms: float) -> list[str]:
    """Why the load was not sustained; empty if it was. Of several streams each has to hold."""
    found = []
    if not step.sent:
        return ["the source sent nothing"]
    arrived = step.arrived / step.sent if step.worst_arrived is None else step.worst_arrived
    p95_ms = step.p95_ms if step.worst_p95_ms is None else step.worst_p95_ms
    of_one = " of one stream" if step.streams > 1 else ""
    allowed = ALLOWED_LATE * step.streams + MAX_LATE * step.sent
    if arrived < MIN_ARRIVED:
        found.append(f"{arrived:.1%}{of_one} arrived" if of_one else f"{step.arrived} of {step.sent} pictures arrived")
    if step.late > allowed:
        found.append(f"{step.late} frames were dropped as late")
    if (count := sum(step.dropped.values())) > allowed:
        found.append(f"{count} frames were dropped: {', '.join(step.dropped)}")
    if step.arrived and p95_ms > latency_ms:
        found.append(f"latency p95{of_one} {p95_ms:.0f} ms, above {latency_ms:.0f}")
    if step.drift_ms > latency_ms / 2:
        found.append(f"latency grew by {step.drift_ms:.0f} ms")
    if step.source_late_ms > MAX_SOURCE_LATE_MS:
        found.append(f"the source was {step.source_late_ms:.0f} ms late: there was no CPU left for it")
    return found


def nearly_held(step: Step, latency_ms: float) -> bool:
    """Whether what speaks against it can have been an accident: somebody else's second on the machine."""
    return step.arrived >= NEARLY_ARRIVED * step.sent and step.p95_ms <= NEARLY_LATENCY * latency_ms


def stage_uses(before: Look, after: Look, pictures: int) -> list[StageUse]:
    """By kind of stage; those of several streams together."""
    seconds = after.at - before.at
    uses = []
    for worker in (worker for worker in WORKERS if worker in after.used):
        was, used = before.used.get(worker, NOTHING), after.used[worker]
        cpu_s = max(0.0, used.cpu_s - was.cpu_s)
        busy_s, frames = _busy(worker, before.status, after.status)
        uses.append(
            StageUse(
                stage=worker,
                busy=max(busy_s) / seconds if busy_s else None,
                busy_ms=1000 * sum(busy_s) / frames if busy_s and frames else None,
                cores=cpu_s / seconds,
                cpu_ms=1000 * cpu_s / max(1, pictures),
                rss_mb=used.rss_mb,
            )
        )
    return uses


def _busy(worker: str, before: Status, after: Status) -> tuple[list[float], int]:
    """Seconds at work of each stage of this kind, and the frames that they handed on together; nothing where nobody
    counts that."""
    if worker not in COUNTS_BUSY:
        return [], 0
    earlier = {stage.stage: stage for stage in before.stages}
    pairs = [(earlier.get(stage.stage), stage) for stage in after.stages if stage.worker == worker]
    busy_s = [stage.busy_s - (was.busy_s if was else 0.0) for was, stage in pairs]
    return busy_s, sum(stage.units_out - (was.units_out if was else 0) for was, stage in pairs)


def bottleneck(step: Step, cores: int) -> str:
    """What limits it, in words: the machine's cores if there are none left, a graphics card, or a process or a stage
    that has no time left; of several, that which rests least."""
    busiest = max((use for use in step.stages if use.busy is not None), key=lambda use: use.busy or 0.0, default=None)
    hungriest = max(step.stages, key=lambda use: use.cores, default=None)
    if hungriest is None or busiest is None:
        return "unknown"
    busy = f"{busiest.stage}, busy {busiest.busy or 0:.0%} of the time"
    if step.cores_busy > FULL * cores:
        if step.cores_others > hungriest.cores:
            return f"other programs, which kept {step.cores_others:.2f} of the machine's {cores} cores busy"
        most = f"most of them for {hungriest.stage} ({hungriest.cores:.2f})"
        return f"the machine's {cores} cores, {most}; busiest stage {busy}"
    if (card := max(step.gpus, key=step.gpus.__getitem__, default=None)) and step.gpus[card] > FULL:
        return f"GPU {card}, busy {step.gpus[card]:.0%} of the time; busiest stage {busy}"
    if (busiest.busy or 0.0) >= FULL_STAGE:
        return busy
    one = max((use for use in step.stages if use.stage in ONE_THREAD), key=lambda use: use.cores, default=None)
    if one is not None and one.cores > FULL:
        return f"{one.stage}, whose one thread kept {one.cores:.2f} of a core busy"
    why = f" ({step.failings[0]})" if step.failings else ""
    return f"none of its stages, of which the busiest was {busy}{why}"


def _measured(pictures: Matched, begin: float, end: float) -> Matched:
    keep = [index for index, sent in enumerate(pictures.sent) if begin <= sent < end]
    return Matched(
        sent=[pictures.sent[index] for index in keep],
        arrived=[pictures.arrived[index] for index in keep],
        right=[pictures.right[index] for index in keep],
    )


def _arrived_part(ms: np.ndarray, pictures: Matched) -> float:
    return len(ms) / len(pictures.sent) if pictures.sent else 0.0


def _latency_ms(pictures: Matched) -> np.ndarray:
    ms = 1000 * (np.array(pictures.arrived) - np.array(pictures.sent))
    return np.asarray(ms[np.isfinite(ms)])


def _of_window(values: list[float], sent: list[float], asked: Asked) -> list[float]:
    return [value for value, at in zip(values, sent, strict=True) if asked.begin <= at < asked.end]


def _drift_ms(ms: np.ndarray) -> float:
    quarter = len(ms) // 4
    return float(np.median(ms[-quarter:]) - np.median(ms[:quarter])) if quarter else 0.0


def _counted(ms: np.ndarray) -> list[int]:
    places = np.searchsorted(LATENCY_EDGES_MS, ms)
    return [int(count) for count in np.bincount(places, minlength=len(LATENCY_EDGES_MS) + 1)]


def _percentile(values: np.ndarray, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else 0.0


def _played_s(pairs: Sequence[tuple[Played, Watched]]) -> float:
    return max((played.sent[-1] - played.sent[0] for played, _ in pairs if played.sent), default=0.0) or 1.0


def _capped(status: Status) -> int:
    return sum(stage.capped for stage in status.stages)


def _difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    gained = {reason: count - before.get(reason, 0) for reason, count in after.items()}
    return {reason: count for reason, count in gained.items() if count}
