"""A stage's counters in shared memory: its sign of life, what it is doing, and how long frames took.

The worker stores, the launcher reads whenever it likes, and a crash takes nothing with it. One slab a stage.
"""

import itertools
import math
import time
from collections.abc import Sequence
from enum import IntEnum

from pipeline.histogram import Histogram
from pipeline.memory.slab import Slab, page_aligned

HISTOGRAM_BUCKETS = 256
BUCKETS_PER_OCTAVE = 10
"""A bucket is 7 % wide; 256 of them reach from 1 us to 50 s."""

TOLD_EDGES = tuple(range(10 * BUCKETS_PER_OCTAVE, 24 * BUCKETS_PER_OCTAVE + 1, BUCKETS_PER_OCTAVE // 2))
"""The buckets whose lower edges a histogram is told by: every half octave from 1 ms to 17 s, so that what is told falls
exactly on what was counted."""

TOLD_EDGES_S = tuple(round(1e-6 * 2 ** (index / BUCKETS_PER_OCTAVE), 9) for index in TOLD_EDGES)


class Word(IntEnum):
    """The words in front of the histograms. Times are CLOCK_MONOTONIC nanoseconds."""

    HEARTBEAT_NS = 0
    BUSY_SINCE_NS = 1  # 0 while the stage waits
    PROGRESS = 2
    UNITS_IN = 3
    UNITS_OUT = 4
    BYTES_IN = 5
    BYTES_OUT = 6
    REPLAYED = 7  # frames decoded again after a restart and suppressed, having been delivered before
    SKIPPED = 8  # access units not shown: damaged, or before the first keyframe
    AUDIO_DROPPED = 9
    SEGMENTS_LOST = 10
    FIRST_OUT_NS = 11
    LAST_OUT_NS = 12
    REPEATED = 13  # pictures shown again because no new one came
    MEDIA_TICKS = 14  # of a file, in 1/90000 s: for ingress its length, 0 if not known; for egress the picture reached
    FILE_BYTES = 15  # of the file that egress writes, so many are whole
    CAPPED = 16  # pictures left out because the source has more of them a second than `frame.max_fps`
    BUSY_NS = 17  # spent on pieces of work that are done
    LIFE_OUT_NS = 18  # when the process at work handed on its first unit; 0: not yet
    VIDEO_BYTES = 19  # that the encoder made, without sound and container
    BITRATE = 20  # bit/s that the encoder aims at just now; 0: it aims at a quality
    UNDER_WAY_SINCE_NS = 21  # the oldest frame that a processor has begun and not ended; 0: there is none
    FINISHED = 22  # 1: the process has handed on everything, and nothing is lost however it leaves


class Span(IntEnum):
    """What a histogram measures."""

    STAGE = 0  # from the frame's arrival at the stage to its being handed on
    END_TO_END = 1  # from the arrival of the access unit in ingress to the encoded bytes leaving egress


_WORDS = 32
_SUMS = _WORDS  # nanoseconds, one word a histogram
_HISTOGRAMS = _SUMS + 8
_TOTAL_WORDS = _HISTOGRAMS + len(Span) * HISTOGRAM_BUCKETS
STATS_BYTES = page_aligned(8 * _TOTAL_WORDS)


class StageStats:
    def __init__(self, fd: int) -> None:
        self._slab = Slab(fd)
        self._words = self._slab.words(0, _TOTAL_WORDS)
        self._before = [int(word) for word in self._words[:_WORDS]]

    def __getitem__(self, word: Word) -> int:
        return int(self._words[word])

    def __setitem__(self, word: Word, value: int) -> None:
        self._words[word] = value

    def add(self, word: Word, amount: int = 1) -> None:
        self._words[word] += amount

    def total(self, word: Word, of_this_life: int) -> None:
        """Store a counter of which this process keeps its own part: what its predecessors had counted, plus that."""
        self._words[word] = self._before[word] + of_this_life

    def beat(self) -> None:
        self._words[Word.HEARTBEAT_NS] = time.monotonic_ns()

    def busy(self) -> None:
        """The stage starts on a piece of work: from now on standing still means hanging."""
        self._words[Word.BUSY_SINCE_NS] = time.monotonic_ns()

    def idle(self) -> None:
        """The stage finished a piece of work and waits for the next."""
        since = self._words[Word.BUSY_SINCE_NS]
        self._words[Word.PROGRESS] += 1
        self._words[Word.BUSY_SINCE_NS] = 0
        if since:
            self._words[Word.BUSY_NS] += time.monotonic_ns() - since

    @property
    def busy_ns(self) -> int:
        """Spent on work so far; on what is under way up to the last sign of life, since a dead process works no more.
        The done part is read first: what ends in between is missing once, and never counted twice."""
        done = self._words[Word.BUSY_NS]
        since = self._words[Word.BUSY_SINCE_NS]
        return done + (max(0, self._words[Word.HEARTBEAT_NS] - since) if since else 0)

    def out(self, at_ns: int = 0) -> None:
        """One unit was handed on, at this time or, with 0, just now."""
        now = at_ns or time.monotonic_ns()
        if not self._words[Word.FIRST_OUT_NS]:
            self._words[Word.FIRST_OUT_NS] = now
        if not self._words[Word.LIFE_OUT_NS]:
            self._words[Word.LIFE_OUT_NS] = now
        self._words[Word.UNITS_OUT] += 1
        self._words[Word.LAST_OUT_NS] = now

    def clear_life(self) -> None:
        """Forget the sign of life of a dead predecessor. Counters and histograms go on."""
        self._words[Word.BUSY_NS] = self.busy_ns
        self._words[Word.BUSY_SINCE_NS] = 0
        self._words[Word.LIFE_OUT_NS] = 0
        self._words[Word.UNDER_WAY_SINCE_NS] = 0
        self._words[Word.FINISHED] = 0
        self.beat()

    def begin_stream(self) -> None:
        """Forget where the stream before was. Counters and histograms go on. No process may use it just now."""
        for word in (Word.FIRST_OUT_NS, Word.LAST_OUT_NS, Word.MEDIA_TICKS, Word.FILE_BYTES):
            self._words[word] = 0

    def record(self, span: Span, nanoseconds: int) -> None:
        """Count one duration."""
        index = int(math.log2(max(nanoseconds, 1000) / 1000) * BUCKETS_PER_OCTAVE)
        self._words[_SUMS + span] += max(nanoseconds, 0)
        self._words[_HISTOGRAMS + span * HISTOGRAM_BUCKETS + min(index, HISTOGRAM_BUCKETS - 1)] += 1

    def histogram(self, span: Span) -> list[int]:
        """How many durations fell into each bucket."""
        start = _HISTOGRAMS + span * HISTOGRAM_BUCKETS
        return [int(n) for n in self._words[start : start + HISTOGRAM_BUCKETS]]

    def sum_ns(self, span: Span) -> int:
        """All durations of a histogram together."""
        return int(self._words[_SUMS + span])

    def close(self) -> None:
        self._words.release()
        self._slab.close()


class StageTotals:
    """A stage's counters over all its seats: several processes of one stage may live at a time, each with its own."""

    def __init__(self, seats: Sequence[StageStats]) -> None:
        self.seats = seats
        self._busy_ns = 0

    def __getitem__(self, word: Word) -> int:
        """The sum over the seats; the earliest and the latest of the times that are noted."""
        values = [seat[word] for seat in self.seats]
        if word is Word.FIRST_OUT_NS:
            return min((value for value in values if value), default=0)
        return max(values) if word is Word.LAST_OUT_NS else sum(values)

    def busy_s(self) -> float:
        """Seconds spent on work so far, over all seats; never less than it was before."""
        self._busy_ns = max(self._busy_ns, sum(seat.busy_ns for seat in self.seats))
        return self._busy_ns / 1e9

    def durations(self, span: Span) -> Histogram:
        """A histogram over all seats, told by TOLD_EDGES_S."""
        counts = self._counts(span)
        edges = (0, *TOLD_EDGES, HISTOGRAM_BUCKETS)
        told = (sum(counts[start:end]) for start, end in itertools.pairwise(edges))
        return Histogram(TOLD_EDGES_S, tuple(told), sum(seat.sum_ns(span) for seat in self.seats) / 1e9)

    def quantiles_ms(self, span: Span, *fractions: float) -> list[float]:
        """The named quantiles in milliseconds, to the width of a bucket; NaN when nothing was recorded."""
        counts = self._counts(span)
        return [_quantile_ms(counts, fraction) for fraction in fractions]

    def _counts(self, span: Span) -> list[int]:
        return [sum(bucket) for bucket in zip(*(seat.histogram(span) for seat in self.seats), strict=True)]

    def p50_p95_ms(self, span: Span) -> tuple[float | None, float | None]:
        """Median and 95th percentile in milliseconds; None when nothing was recorded."""
        p50, p95 = self.quantiles_ms(span, 0.5, 0.95)
        return (None, None) if math.isnan(p50) else (round(p50, 2), round(p95, 2))


def _quantile_ms(counts: list[int], fraction: float) -> float:
    total = sum(counts)
    if total == 0:
        return math.nan
    rank, seen = fraction * total, 0
    for index, count in enumerate(counts):
        seen += count
        if seen >= rank and count:
            return float(2 ** ((index + 0.5) / BUCKETS_PER_OCTAVE)) / 1000
    return math.nan
