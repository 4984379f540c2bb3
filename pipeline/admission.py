"""Whether one more stream would still get its frames through, by what those that run cost: measured, not guessed.

It is arithmetic over counters that somebody else reads.
"""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

WINDOW_SECONDS = 10.0
LEAST_SECONDS = 3.0
"""Of the same streams; before that nobody knows what they cost, and starting them costs more."""


class _Sample(NamedTuple):
    at: float
    busy_s: Mapping[str, float]
    cpu_s: float


class _Cost(NamedTuple):
    serves: Mapping[str, int]
    busy: Mapping[str, float]
    """Share of each replica's time."""
    cores: float


class Admission:
    def __init__(self, limit: float, cores: float) -> None:
        """`limit` is the share of inference's time, and of the machine's `cores`, that streams may take; 0: any."""
        self._limit = limit
        self._cores = cores
        self._streams: tuple[str, ...] = ()
        self._samples: deque[_Sample] = deque()
        self._cost: _Cost | None = None

    def note(
        self,
        now: float,
        streams: tuple[str, ...],
        serves: Mapping[str, int],
        busy_s: Mapping[str, float],
        cpu_s: float,
    ) -> None:
        """What was used up to `now`, in seconds: of the time of each replica of inference, and of CPU time by
        everything. `streams` are those that have frames, none while one begins or ends; `serves` is how many of them
        each replica does."""
        if streams != self._streams:
            self._streams = streams
            self._samples.clear()
        self._samples.append(_Sample(now, busy_s, cpu_s))
        while now - self._samples[0].at > WINDOW_SECONDS:
            self._samples.popleft()
        first = self._samples[0]
        seconds = now - first.at
        if streams and seconds >= LEAST_SECONDS:
            busy = {name: (busy_s[name] - first.busy_s[name]) / seconds for name in serves}
            self._cost = _Cost(serves, busy, (cpu_s - first.cpu_s) / seconds)

    def problem(self, serves: Mapping[str, int], inference: str) -> str:
        """Why one more, which the replica `inference` would do, would be too much for that or for the machine: one line
        with what was measured; empty when it would not, or nobody knows. `serves` is how many each replica does, those
        included that are still starting: they will cost as much as those that were measured. That holds until it is
        measured anew. One that would be alone is never too much."""
        cost, after = self._cost, sum(serves.values()) + 1
        if not self._limit or cost is None or after == 1:
            return ""
        count, on_it = sum(cost.serves.values()), cost.serves[inference]
        share = cost.busy[inference] / on_it if on_it else sum(cost.busy.values()) / count
        if share * (serves[inference] + 1) > self._limit:
            others = "" if on_it else " of other replicas"
            return (
                f"a stream takes {share:.0%} of {inference}'s time, measured with {_streams(on_it or count)}{others}: "
                f"one more would have it busy {share * (serves[inference] + 1):.0%}, and streams.admit_below is "
                f"{self._limit:g}"
            )
        if cost.cores * after / count > self._limit * self._cores:
            return (
                f"{_streams(count)} take {cost.cores:.1f} of {self._cores:g} CPU cores: one more would need "
                f"{cost.cores / count:.1f}, and streams.admit_below is {self._limit:g}"
            )
        return ""


def _streams(count: int) -> str:
    return "1 stream" if count == 1 else f"{count} streams"
