"""Which part of a file is processed, on the timeline that its pictures keep from ingress to egress."""

import msgspec

from pipeline.media.access_unit import CLOCK_HZ

FIRST_PTS = 30 * CLOCK_HZ
"""The first picture of a file gets this time: decode times before it, and pictures that are decoded and not shown since
an edit list begins after them, stay above 0."""

MAX_INTERLEAVING = CLOCK_HZ
"""How far apart in a file pictures and sound of one moment are taken to be, at most."""


class Excerpt(msgspec.Struct, frozen=True):
    """Pictures and sound from `first` on and before `end`, in 90 kHz ticks; `end` None: to the last."""

    first: int = FIRST_PTS
    end: int | None = None

    @property
    def start_seconds(self) -> float:
        return (self.first - FIRST_PTS) / CLOCK_HZ

    def holds(self, pts: int) -> bool:
        return pts >= self.first and (self.end is None or pts < self.end)

    def is_past(self, dts: int) -> bool:
        """Whether nothing more is to be expected at this decode time: sound may come a little after its pictures."""
        return self.end is not None and dts >= self.end + MAX_INTERLEAVING

    def length(self, of_file: int | None) -> int | None:
        """Ticks to be processed of a file that is `of_file` ticks long; None: not known."""
        ends = [end for end in (self.end, None if of_file is None else FIRST_PTS + of_file) if end is not None]
        return max(0, min(ends) - self.first) if ends else None


WHOLE = Excerpt()


def excerpt(start: float, duration: float | None) -> Excerpt:
    """Seconds from the first picture on, for `duration` seconds."""
    first = FIRST_PTS + round(start * CLOCK_HZ)
    return Excerpt(first, None if duration is None else first + round(duration * CLOCK_HZ))
