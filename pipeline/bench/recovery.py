"""What a viewer saw of a stage's death: how long until a new picture, how long none, how many were lost."""

from itertools import pairwise

import msgspec
import numpy as np

from pipeline.bench.report import Recovery
from pipeline.bench.step import match
from pipeline.bench.words import Played, Watched


class Kill(msgspec.Struct, frozen=True):
    """A stage's process got SIGKILL `at`, its successor had the links at `taken_over` (None: never): CLOCK_MONOTONIC
    seconds."""

    stage: str
    fps: float
    at: float
    taken_over: float | None
    problem: str = ""


def recovery(kill: Kill, played: Played, watched: Watched) -> Recovery:
    """Pictures that were under way when the stage died do not count as new: the time runs until the first that comes
    after the successor has taken over."""
    pictures = match(played, watched)
    arrivals = sorted(at for at in pictures.arrived if np.isfinite(at))
    lost = len(pictures.arrived) - len(arrivals)
    new = None if kill.taken_over is None else next((at for at in arrivals if at > kill.taken_over), None)
    if new is None:
        problem = kill.problem or "no new picture came"
        return Recovery(kill.stage, kill.fps, 0.0, 0.0, 0.0, lost, problem)
    return Recovery(
        stage=kill.stage,
        fps=kill.fps,
        new_ms=1000 * (new - kill.at),
        gap_ms=_longest_gap_ms(arrivals, kill.at, new),
        dark_ms=_longest_gap_ms(sorted(watched.at), kill.at, new),
        lost=lost,
    )


def _longest_gap_ms(arrivals: list[float], begin: float, end: float) -> float:
    """Between neighbours of which the second came after `begin` and the first no later than `end`."""
    return 1000 * max((b - a for a, b in pairwise(arrivals) if b > begin and a < end), default=0.0)
