"""The bitrate that a publisher can carry at the moment, from how long its bytes wait to be sent. Arithmetic only.

Down by a factor, up by a factor, as the congestion control of real-time media does it: draft-ietf-rmcat-gcc-02,
section 6, gives both. It neither reads a clock nor knows an encoder.
"""

# A queue as long as this is more than one large key picture on its way: the path does not carry the bitrate.
HIGH_DELAY_S = 0.4
# Below this the path carries it. Between the two nothing is changed.
LOW_DELAY_S = 0.1
# What waits longer would be shown later than a viewer's player buffers: rather fewer pictures than late ones.
MAX_DELAY_S = 1.0

# draft-ietf-rmcat-gcc-02, 6: beta, "typically chosen to be in the interval [0.8, 0.95], 0.85 is the recommended value".
DECREASE_FACTOR = 0.85
# The same, 6: eta = 1.08 ** min(time since the last update in seconds, 1.0).
INCREASE_PER_SECOND = 1.08
# A decrease shows in the queue only once the encoder's buffer of one second is spent; a queue that grows meanwhile
# says nothing new.
SETTLE_S = 1.0
# After a decrease the queue must have been short for so long before the bitrate is tried higher again.
HOLD_S = 2.0
# Increases are made in such steps: each makes an encoder plan anew.
INCREASE_INTERVAL_S = 0.5


class RateControl:
    """Between `floor` and `ceiling`, in bit/s. Tell it the queue's delay now and then, at least once a second."""

    def __init__(self, ceiling: int, floor: int) -> None:
        """Starts at the ceiling. Raises ValueError for a floor below 1 or above the ceiling."""
        if not 1 <= floor <= ceiling:
            raise ValueError(f"floor {floor} must lie between 1 and the ceiling, {ceiling}")
        self.bitrate = ceiling
        self._ceiling = ceiling
        self._floor = floor
        self._settled_s = 0.0  # no decrease before
        self._rise_s = 0.0  # no increase before

    @property
    def is_reduced(self) -> bool:
        return self.bitrate < self._ceiling

    def observe(self, delay_s: float, now_s: float) -> bool:
        """`delay_s`: for how long the oldest byte that was not sent yet has waited; `now_s`: any clock that does not go
        back. Whether `bitrate` has changed."""
        if delay_s > LOW_DELAY_S:
            self._rise_s = max(self._rise_s, now_s + HOLD_S)
        if delay_s >= HIGH_DELAY_S:
            return self._decrease(now_s)
        return delay_s <= LOW_DELAY_S and self._increase(now_s)

    def _decrease(self, now_s: float) -> bool:
        if now_s < self._settled_s or self.bitrate == self._floor:
            return False
        self.bitrate = max(self._floor, round(self.bitrate * DECREASE_FACTOR))
        self._settled_s = now_s + SETTLE_S
        return True

    def _increase(self, now_s: float) -> bool:
        if now_s < self._rise_s or self.bitrate == self._ceiling:
            return False
        self.bitrate = min(self._ceiling, round(self.bitrate * INCREASE_PER_SECOND**INCREASE_INTERVAL_S))
        self._rise_s = now_s + INCREASE_INTERVAL_S
        return True
