"""What a long run has noted, and what becomes of it: the latency by minute, slopes."""

from collections.abc import Sequence
from itertools import groupby

import msgspec
import numpy as np

from pipeline.bench.report import Machine
from pipeline.bench.step import match
from pipeline.bench.words import Played, Watched
from pipeline.status import FrameCount

SIGNIFICANT, GROWTH = 3.0, 0.05
SETTLING_S, SETTLING_SHARE = 180.0, 0.25
"""What comes first in a process's life is not in a slope: buffers fill then, and code is compiled."""

JUDGED_S = 300.0
"""What is noted for less long tells how memory fills, and not whether it goes on growing."""

BLOCKS = 12
"""A line is put through the medians of so many equal parts. What a process uses from one second to the next hangs
together, so that an error from every second would be far too small."""


class Sample(msgspec.Struct, frozen=True):
    """`at` seconds from the start: resident megabytes, open descriptors and pid of the process at work, by stage, and
    of the launcher."""

    at: float
    rss_mb: dict[str, float]
    fds: dict[str, int]
    pids: dict[str, int | None]


class Kill(msgspec.Struct, frozen=True):
    """`at` seconds from the start; `back_ms` until a successor had the links, None: it did not come back."""

    at: float
    stage: str
    back_ms: float | None


class Slope(msgspec.Struct, frozen=True):
    """A straight line through what was noted of `what` in `seconds`: an hour's change, its standard error, the median;
    `grows`: an hour's change is beyond its uncertainty, more than 5 % of the median, and at least 1, and in the second
    half as well; never so in less than JUDGED_S."""

    what: str
    unit: str
    seconds: float
    per_hour: float
    error: float
    median: float
    grows: bool


class Minute(msgspec.Struct, frozen=True):
    """The latency of the pictures that were sent in this minute, and how many of them were never seen."""

    at: float
    p50_ms: float
    p95_ms: float
    sent: int
    lost: int


class Soak(msgspec.Struct, frozen=True):
    """All that was found."""

    machine: Machine
    topology: str
    fps: float
    capacity_fps: float
    seconds: float
    samples: list[Sample]
    minutes: list[Minute]
    kills: list[Kill]
    slopes: list[Slope]
    frames: FrameCount
    problems: list[str]


def load_of(soak: Soak) -> str:
    """What was played, in words."""
    return f"{soak.seconds / 60:.0f} minutes at {soak.fps:g} fps, of {soak.capacity_fps:g} that hold"


def slope_cells(one: Slope) -> tuple[str, str, str, str]:
    """Minutes, median, an hour's change, and its error."""
    return f"{one.seconds / 60:.1f}", f"{one.median:.4g} {one.unit}", f"{one.per_hour:+.3g}", f"{one.error:.2g}"


def per_minute(played: Played, watched: Watched) -> list[Minute]:
    """Whole ones; pictures are known by their time stamps."""
    pictures = match(played, watched)
    sent, arrived = np.array(pictures.sent), np.array(pictures.arrived)
    found = []
    for number in range(int((sent[-1] - sent[0]) // 60) if len(sent) else 0):
        chosen = (sent - sent[0]) // 60 == number
        ms = 1000 * (arrived - sent)[chosen]
        seen = ms[np.isfinite(ms)]
        p50, p95 = (float(np.percentile(seen, percent)) if len(seen) else 0.0 for percent in (50, 95))
        found.append(Minute(60.0 * number, p50, p95, int(chosen.sum()), int(chosen.sum()) - len(seen)))
    return found


def slopes_of(samples: list[Sample], minutes: list[Minute]) -> list[Slope]:
    """Of memory and descriptors, of each stage in the longest life of a process of it, and of the median latency; a
    growth of the latency is told and not judged: near its limit a machine's others decide."""
    lives = {stage: longest_life(samples, stage) for stage in (samples[0].pids if samples else ())}
    slopes = []
    for unit, kind in (("MB", "rss_mb"), ("descriptors", "fds")):
        for stage, life in lives.items():
            values = [getattr(sample, kind).get(stage, 0) for sample in life]
            slopes.append(slope(f"{kind.partition('_')[0]} of {stage}", unit, [sample.at for sample in life], values))
    later = minutes[1:]
    latency = slope("latency p50", "ms", [minute.at for minute in later], [minute.p50_ms for minute in later])
    return [*slopes, msgspec.structs.replace(latency, grows=False)]


def longest_life(samples: list[Sample], stage: str) -> list[Sample]:
    """Those of the process of the stage that lived longest, without its beginning."""
    lives = [list(life) for pid, life in groupby(samples, lambda sample: sample.pids.get(stage)) if pid is not None]
    longest = max(lives, key=lambda life: life[-1].at - life[0].at, default=[])
    if not longest:
        return []
    length = longest[-1].at - longest[0].at
    return [sample for sample in longest if sample.at >= longest[0].at + min(SETTLING_S, SETTLING_SHARE * length)]


def slope(what: str, unit: str, at: list[float], values: list[float]) -> Slope:
    """Least squares, through the medians of BLOCKS equal parts where there are so many."""
    middle = float(np.median(values)) if values else 0.0
    seconds = at[-1] - at[0] if at else 0.0
    if len(values) < 3:
        return Slope(what, unit, seconds, 0.0, float("inf"), middle, False)
    count = min(BLOCKS, len(values))
    x = np.array([np.mean(part) for part in np.array_split(np.array(at) / 3600, count)])
    y = np.array([np.median(part) for part in np.array_split(np.array(values, float), count)])
    per_hour, start = np.polyfit(x, y, 1)
    rest = y - (per_hour * x + start)
    error = float(np.sqrt(np.sum(rest**2) / (count - 2) / np.sum((x - x.mean()) ** 2)))
    half = count // 2
    lately = float(np.polyfit(x[half:], y[half:], 1)[0])
    least = max(1.0, GROWTH * middle)
    grows = bool(seconds >= JUDGED_S and per_hour > SIGNIFICANT * error and min(per_hour, lately) > least)
    return Slope(what, unit, seconds, float(per_hour), error, middle, grows)


def victim(number: int, share: float, stages: Sequence[str]) -> str:
    """Which of the stages the kill of this number, from 0, is for, after so large a `share` of the run: one after the
    other. Each is left alone in a part of the run of its own, so that one of its processes lives long enough to show
    whether it grows."""
    spared = stages[min(int(share * len(stages)), len(stages) - 1)]
    others = [stage for stage in stages if stage != spared]
    return others[number % len(others)]
