"""Finds the highest load that is sustained: in geometric steps until one is not, then by bisection. It knows nothing of
what a load is; whoever calls it tries them."""

import math
from collections.abc import Callable

from pipeline.bench.report import Limit

LOWEST_FPS = 1.0
MAX_FACTOR = 2.0


def find_limit(
    sustains: Callable[[float], bool],
    start: float,
    highest: float,
    *,
    factor: float = 2.0,
    precision: float = 0.06,
    lowest: float = LOWEST_FPS,
) -> Limit:
    """Between `lowest` and `highest`, from `start` on in steps that grow from `factor` on, until what was sustained and
    what was not are no further apart than `precision`. A limit of 0: nothing was sustained, down to `lowest`."""
    held, failed = _bracket(sustains, _rounded(min(start, highest)), lowest, highest, factor)
    while failed is not None and held and failed / held > 1 + precision:
        middle = _rounded(math.sqrt(held * failed))
        if not held < middle < failed:
            break
        if sustains(middle):
            held = middle
        else:
            failed = middle
    return Limit(held, failed)


def _bracket(
    sustains: Callable[[float], bool], rate: float, lowest: float, highest: float, factor: float
) -> tuple[float, float | None]:
    """What is sustained, 0: nothing; and above it what is not, None: everything is."""
    if sustains(rate):
        held = rate
        while held < highest:
            rate = min(_next_above(held, factor), highest)
            if not sustains(rate):
                return held, rate
            held, factor = rate, _larger(factor)
        return held, None
    failed = rate
    while failed > lowest:
        rate = max(_next_below(failed, factor), lowest)
        if sustains(rate):
            return rate, failed
        failed, factor = rate, _larger(factor)
    return 0.0, failed


def find_count(sustains: Callable[[int], bool], most: int) -> int:
    """The largest number from 0 to `most` that is sustained, if every smaller one is: by doubling, then bisection."""
    held, failed, trial = 0, most + 1, 1
    while failed - held > 1:
        if sustains(trial):
            held = trial
        else:
            failed = trial
        trial = min(2 * held, most) if failed > most else (held + failed) // 2
    return held


def _rounded(rate: float) -> float:
    """To what is worth telling apart: whole pictures a second, below 10 tenths."""
    return float(round(rate)) if rate >= 10 else round(rate, 1)


def _larger(factor: float) -> float:
    """A small step was for a limit that was thought to be near."""
    return min(factor * factor, MAX_FACTOR) if factor < MAX_FACTOR else factor


def _next_above(rate: float, factor: float) -> float:
    return max(_rounded(rate * factor), rate + 0.1)


def _next_below(rate: float, factor: float) -> float:
    return min(_rounded(rate / factor), rate - 0.1)
