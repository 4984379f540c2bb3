"""How much one client may ask: a token bucket for each address, in a table that does not grow."""

from collections import OrderedDict

MAX_CLIENTS = 4096
"""Whose buckets are kept. Beyond that the one that has asked for nothing longest is forgotten, and so is its debt."""

BURST_SECONDS = 2.0
"""What a client that has rested may ask at once, in seconds of its rate; one request at least."""


class RequestRate:
    def __init__(self, per_second: float) -> None:
        """0: no limit."""
        self._per_second = per_second
        self._burst = max(1.0, per_second * BURST_SECONDS)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, as of when

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str, now: float) -> float:
        """Count a request. Returns 0 if it may be done, else the seconds until the next one may. `now` in seconds."""
        if not self._per_second:
            return 0.0
        left, then = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._per_second)
        may = left >= 1
        self._buckets[client] = (left - 1 if may else left, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if may else (1 - left) / self._per_second
