"""Keeps an output alive while inference is away: when the last picture is to be shown again, and at what time stamp.

It is arithmetic over two clocks, the stream's and the machine's; showing is egress's. Nothing is repeated when the
source itself falls silent: its time stamps stand still then, and what it sends later would come before what was
repeated.
"""

import statistics
from collections import deque

from pipeline.media.access_unit import CLOCK_HZ

FIRST_GUESS_S = 1 / 30
INTERVAL_MIN_S, INTERVAL_MAX_S = 1 / 120, 0.5
WATCHED_INTERVALS = 15

LAG_S = 0.25
"""Repeated pictures carry the time of so long ago, so that a new one that is late by less still comes after them."""


class KeepAlive:
    """Times: `pts` in 1/90000 s, `now_ns` CLOCK_MONOTONIC nanoseconds."""

    def __init__(self, limit_s: float, shown_to: int | None = None) -> None:
        """After `limit_s` seconds without a new picture nothing is repeated any more; 0: never. `shown_to` is the last
        time stamp that a predecessor of this process gave out."""
        self._limit_ns = int(limit_s * 1e9)
        self._intervals: deque[float] = deque(maxlen=WATCHED_INTERVALS)
        self._interval_s = FIRST_GUESS_S
        self._new_pts: int | None = None  # the last new picture, and when it was shown
        self._new_ns = 0
        self._last_pts = shown_to  # the last picture, new or repeated, and when it was shown
        self._last_ns = 0
        self._away = False
        self._away_ns = 0

    def inference_is_away(self, now_ns: int) -> None:
        """No new picture is to be expected soon, but for those that were ready before."""
        self._away = True
        self._away_ns = now_ns

    def accepts(self, pts: int, ready_ns: int) -> bool:
        """A picture has come that inference had ready at `ready_ns`: if that was after it went away, it is back, and
        nothing is repeated any more. Says whether the picture still comes after what was shown."""
        self._away = self._away and ready_ns < self._away_ns
        return self._last_pts is None or pts > self._last_pts

    def shown(self, pts: int, now_ns: int) -> None:
        """A new picture was shown."""
        if self._new_pts is not None:
            self._watch((pts - self._new_pts) / CLOCK_HZ)
        self._new_pts = self._last_pts = pts
        self._new_ns = self._last_ns = now_ns

    def seconds_left(self, now_ns: int) -> float | None:
        """Until the last picture is to be shown again, at least 0; None when it is not."""
        if not self._away or self._new_pts is None or now_ns - self._new_ns >= self._limit_ns:
            return None
        return max(0.0, self._interval_s - (now_ns - self._last_ns) / 1e9)

    def repeat(self, now_ns: int) -> int:
        """The time stamp for the last picture, which is shown again now."""
        assert self._new_pts is not None
        assert self._last_pts is not None
        elapsed_s = (now_ns - self._new_ns) / 1e9 - LAG_S
        self._last_pts = max(self._last_pts + 1, self._new_pts + round(elapsed_s * CLOCK_HZ))
        self._last_ns = now_ns
        return self._last_pts

    def _watch(self, interval_s: float) -> None:
        """The stream's own interval: the median of the last few, so that gaps do not count."""
        self._intervals.append(interval_s)
        middle = statistics.median(self._intervals)
        self._interval_s = min(max(middle, INTERVAL_MIN_S), INTERVAL_MAX_S)
