"""What a long run has noted, and what becomes of it: the latency by minute, slopes."""

import msgspec
import numpy as np

from pipeline.bench.report import Machine
from pipeline.bench.step import match
from pipeline.bench.words import Played, Watched
from pipeline.status import FrameCount

SIGNIFICANT, GROWTH = 3.0, 0.05
SETTLING_S, SETTLING_SHARE = 60.0, 0.25
"""What comes first is not in a slope: buffers fill then, and code is compiled."""


class Sample(msgspec.Struct, frozen=True):
    """`at` seconds from the start: resident megabytes and open descriptors, by stage, and by `launcher`."""

    at: float
    rss_mb: dict[str, float]
    fds: dict[str, int]


class Kill(msgspec.Struct, frozen=True):
    """`at` seconds from the start; `back_ms` until a successor had the links, None: it did not come back."""

    at: float
    stage: str
    back_ms: float | None


class Slope(msgspec.Struct, frozen=True):
    """A straight line through everything that was noted of `what`: an hour's change, its standard error, the median;
    `grows`: it is beyond its uncertainty and more than 5 % of the median over the run."""

    what: str
    unit: str
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


def per_minute(played: Played, watched: Watched) -> list[Minute]:
    """Pictures are known by their time stamps."""
    pictures = match(played, watched)
    sent, arrived = np.array(pictures.sent), np.array(pictures.arrived)
    found = []
    for number in range(int((sent[-1] - sent[0]) // 60) + 1):
        chosen = (sent - sent[0]) // 60 == number
        ms = 1000 * (arrived - sent)[chosen]
        seen = ms[np.isfinite(ms)]
        p50, p95 = (float(np.percentile(seen, percent)) if len(seen) else 0.0 for percent in (50, 95))
        found.append(Minute(60.0 * number, p50, p95, int(chosen.sum()), int(chosen.sum()) - len(seen)))
    return found


def slopes_of(samples: list[Sample], minutes: list[Minute]) -> list[Slope]:
    """Of memory, descriptors and the median latency; a growth of the latency is told and not judged: near its limit a
    machine's others decide."""
    settling_s = min(SETTLING_S, SETTLING_SHARE * samples[-1].at) if samples else 0.0
    samples = [sample for sample in samples if sample.at >= settling_s]
    at = [sample.at for sample in samples]
    slopes = []
    for unit, kind in (("MB", "rss_mb"), ("descriptors", "fds")):
        for stage in samples[0].rss_mb if samples else ():
            values = [getattr(sample, kind).get(stage, 0) for sample in samples]
            slopes.append(slope(f"{kind.partition('_')[0]} of {stage}", unit, at, values))
    latency = slope("latency p50", "ms", [minute.at for minute in minutes], [minute.p50_ms for minute in minutes])
    return [*slopes, msgspec.structs.replace(latency, grows=False)]


def slope(what: str, unit: str, at: list[float], values: list[float]) -> Slope:
    """Least squares. A process that starts anew begins lower and comes back: that is scatter, and no growth."""
    middle = float(np.median(values)) if values else 0.0
    if len(values) < 3:
        return Slope(what, unit, 0.0, float("inf"), middle, False)
    x, y = np.array(at) / 3600, np.array(values, float)
    per_hour, start = np.polyfit(x, y, 1)
    rest = y - (per_hour * x + start)
    error = float(np.sqrt(np.sum(rest**2) / (len(y) - 2) / np.sum((x - x.mean()) ** 2)))
    growth = per_hour * (x[-1] - x[0])
    grows = bool(per_hour > SIGNIFICANT * error and growth > GROWTH * middle and growth >= 1)
    return Slope(what, unit, float(per_hour), error, middle, grows)
