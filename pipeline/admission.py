"""Whether one more stream would still get its frames through, by what those that run cost: measured, not guessed.

It is arithmetic over counters that somebody else reads.
"""

from collections import deque
from typing import NamedTuple

WINDOW_SECONDS = 10.0
LEAST_SECONDS = 3.0
"""Of the same streams running; before that nobody knows what they cost, and starting them costs more."""


class _Sample(NamedTuple):
    at: float
    busy_s: float
    cpu_s: float


class Admission:
    def __init__(self, limit: float, cores: int) -> None:
        """`limit` is the share of inference's time, and of the machine's `cores`, that streams may take; 0: any."""
        self._limit = limit
        self._cores = cores
        self._streams: tuple[str, ...] = ()
        self._samples: deque[_Sample] = deque()

    def note(self, now: float, streams: tuple[str, ...], busy_s: float, cpu_s: float) -> None:
        """What was used up to `now`, in seconds: of the time of all replicas of inference, and of CPU time by
        everything. `streams` are those that are online, when all that run are; else none."""
        if streams != self._streams:
            self._streams = streams
            self._samples.clear()
        self._samples.append(_Sample(now, busy_s, cpu_s))
        while now - self._samples[0].at > WINDOW_SECONDS:
            self._samples.popleft()

    def problem(self, online: tuple[str, ...], starting: int, inference: str, serves: int) -> str:
        """Why one more than the `online` ones, and those that are `starting`, would be too much for the machine, or for
        the stage `inference`, which `serves` so many of them: one line with what was measured; empty when it would not,
        or nobody knows."""
        count = len(online)
        if not self._limit or not count or online != self._streams:
            return ""
        if self._samples[-1].at - self._samples[0].at < LEAST_SECONDS:
            return ""
        after = count + starting + 1
        first, last = self._samples[0], self._samples[-1]
        seconds = last.at - first.at
        busy = (last.busy_s - first.busy_s) / seconds
        cores = (last.cpu_s - first.cpu_s) / seconds
        streams = "1 stream" if count == 1 else f"{count} streams"
        if busy * (serves + 1) / count > self._limit:
            return (
                f"a stream takes {busy / count:.0%} of inference's time, measured with {streams}: one more would have "
                f"{inference} busy {busy * (serves + 1) / count:.0%}, and streams.admit_below is {self._limit:g}"
            )
        if cores * after / count > self._limit * self._cores:
            return (
                f"{streams} take {cores:.1f} of {self._cores} CPU cores: one more would need {cores / count:.1f}, and "
                f"streams.admit_below is {self._limit:g}"
            )
        return ""
