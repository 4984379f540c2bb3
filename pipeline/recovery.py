"""How long a stage is away when its process at work dies: until another one is at work, and until that hands something
on. It is told what happens and times it; who starts what is the keeper's."""

from pipeline.histogram import Durations, Histogram

RECOVERY_EDGES_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Recovery:
    """Times are CLOCK_MONOTONIC nanoseconds, 0: none."""

    def __init__(self) -> None:
        self._away = Durations(RECOVERY_EDGES_S)
        self._gaps = Durations(RECOVERY_EDGES_S)
        self._lost_ns = 0
        self._last_out_ns = 0

    def lost(self, now_ns: int, last_out_ns: int) -> None:
        """The process at work is gone; it handed something on at `last_out_ns`. One that dies before it was of use only
        makes the absence longer."""
        self._lost_ns = self._lost_ns or now_ns
        self._last_out_ns = self._last_out_ns or last_out_ns

    def at_work(self, now_ns: int) -> None:
        """The stage does its own work again."""
        if self._lost_ns:
            self._away.add((now_ns - self._lost_ns) / 1e9)
            self._lost_ns = 0

    def handed_on(self, first_out_ns: int) -> None:
        """The process that has the links now, be it one that stands in, handed on its first unit then."""
        if self._last_out_ns and first_out_ns > self._last_out_ns:
            self._gaps.add((first_out_ns - self._last_out_ns) / 1e9)
            self._last_out_ns = 0

    def forget(self) -> None:
        """Nothing is expected of the stage any more. What was counted stays."""
        self._lost_ns = self._last_out_ns = 0

    @property
    def away(self) -> Histogram:
        """From a death until the stage was at work again."""
        return self._away.histogram()

    @property
    def gaps(self) -> Histogram:
        """From the last unit before a death to the first after it."""
        return self._gaps.histogram()
