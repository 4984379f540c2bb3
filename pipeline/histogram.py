"""Durations counted by length. What is told is a Histogram; the launcher, which sees few of them, counts in Durations,
and the stages, which see one a frame, in shared memory."""

import bisect

import msgspec


class Histogram(msgspec.Struct, frozen=True):
    """`counts[i]` durations took at most `edges_s[i]` seconds and more than the edge before; the last of `counts` took
    longer than every edge. `sum_s` is all of them together."""

    edges_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def since(self, before: "Histogram") -> "Histogram":
        """What has been added to it, which was `before` then."""
        added = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Histogram(self.edges_s, added, self.sum_s - before.sum_s)


class Durations:
    """Counts by `edges_s`, which rise."""

    def __init__(self, edges_s: tuple[float, ...]) -> None:
        self._edges_s = edges_s
        self._counts = [0] * (len(edges_s) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect.bisect_left(self._edges_s, seconds)] += 1
        self._sum_s += seconds

    def histogram(self) -> Histogram:
        """As it is now."""
        return Histogram(self._edges_s, tuple(self._counts), self._sum_s)
