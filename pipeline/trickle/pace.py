"""Whether bytes move as fast as they at least should. It has no clock of its own."""


class Pace:
    """At least `rate` bytes a second over each `window_s` seconds, while they could move. A rate of 0 asks nothing."""

    def __init__(self, rate: int, window_s: float) -> None:
        self._least = rate * window_s
        self._window_s = window_s
        self._since: float | None = None
        self._total = 0

    def rest(self) -> None:
        """Nothing had to move just now."""
        self._since = None

    def is_too_slow(self, now: float, total: int) -> bool:
        """To be asked now and then while something has to move; `total` is what has moved in all."""
        if self._since is None or total - self._total >= self._least:
            self._since, self._total = now, total
            return False
        return now - self._since >= self._window_s
