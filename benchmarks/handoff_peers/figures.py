"""From time stamps to figures, and from figures to the ratios that we hold ourselves to."""

import math
from collections.abc import Iterator
from statistics import median
from typing import Literal

import msgspec
import numpy as np

from benchmarks.handoff_peers.catalogue import FLOOR, FRAMES, ICEORYX, OURS, TORCH
from benchmarks.handoff_peers.end import Job, Pace
from benchmarks.handoff_peers.pair import Pass

WARM_UP = 0.1
"""Of a job's frames, from the start, that do not count."""

Placement = Literal["pinned", "free"]


class Key(msgspec.Struct, frozen=True):
    placement: Placement
    transport: str
    copies: bool
    frame: str
    pace: Pace


class Figure(msgspec.Struct, frozen=True):
    """Of one job, or the medians of several. Latency when streaming is that of a full transport. CPU is both
    processes', per frame sent."""

    p50_us: float
    p99_us: float
    frames_per_second: float
    cpu_us: float
    frames: float


class Goal(msgspec.Struct, frozen=True):
    """A ratio, and how small or how large it should be; neither when it is given for comparison."""

    what: str
    placement: Placement
    value: float
    at_most: float = math.inf
    at_least: float = 0.0

    @property
    def met(self) -> bool:
        return self.at_least <= self.value <= self.at_most


Figures = dict[Key, Figure]


def figure(job: Job, stamps: Pass) -> Figure:
    sent, received = np.array(stamps.sent.at_ns), np.array(stamps.received.at_ns)
    counted = received > 0
    counted[: math.ceil(WARM_UP * job.count)] = False
    latency = (received - sent)[counted] / 1000
    arrivals = received[counted]
    seconds = (arrivals[-1] - arrivals[0]) / 1e9
    return Figure(
        p50_us=float(np.percentile(latency, 50)),
        p99_us=float(np.percentile(latency, 99)),
        frames_per_second=float((len(arrivals) - 1) / seconds) if seconds else math.nan,
        cpu_us=(stamps.sent.cpu_ns + stamps.received.cpu_ns) / 1000 / job.count,
        frames=len(arrivals),
    )


def medians(rounds: list[Figure]) -> Figure:
    return Figure(*(median(values) for values in zip(*map(msgspec.structs.astuple, rounds), strict=True)))


def goals(figures: Figures) -> Iterator[Goal]:
    """Those whose figures were all measured. Ours is the `block` link."""
    for placement in ("pinned", "free"):
        for goal in _goals(figures, placement):
            if not math.isnan(goal.value):
                yield goal


def _goals(figures: Figures, placement: Placement) -> Iterator[Goal]:
    def p50(transport: str, frame: str, *, copies: bool = False) -> float:
        key = Key(placement, transport, copies, frame, "ping-pong")
        return figures[key].p50_us if key in figures else math.nan

    small, large = "512", "4k"
    yield Goal("4K / 512x512 uint8, in place", placement, p50(OURS, large) / p50(OURS, small), at_most=1.2)
    floor = p50(OURS, small) / p50(FLOOR, small)
    yield Goal("ours / eventfd ring, 512x512", placement, floor, at_most=1.5 if placement == "pinned" else math.inf)
    for frame in (small, large):
        ratio = p50(OURS, frame) / p50(ICEORYX, frame)
        yield Goal(f"ours / iceoryx2, {FRAMES[frame].name}", placement, ratio, at_most=1.1)
    for frame, at_least in ((small, 20), (large, 200)):
        torch, name = p50(TORCH, frame, copies=True), FRAMES[frame].name
        yield Goal(f"torch queue / ours in place, {name}", placement, torch / p50(OURS, frame), at_least=at_least)
        yield Goal(f"torch queue / ours copying, {name}", placement, torch / p50(OURS, frame, copies=True))
