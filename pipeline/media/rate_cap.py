"""Which pictures of a stream are kept when it has more of them a second than are wanted. Arithmetic on timestamps."""

from pipeline.media.access_unit import CLOCK_HZ

# A picture is taken for the one that is due if it comes early by up to this part of the interval. With a half, a third
# or a quarter, the pictures of a source of two, three or four times the rate would sit on that border.
_EARLY = 0.24


class RateCap:
    """Keeps at most `max_fps` pictures a second, as evenly spaced as the source allows: those next to the beats of a
    clock, which does not move with the pictures that are kept. A source of no more than that rate loses nothing, and
    one picture at most if its times jitter."""

    def __init__(self, max_fps: float, last_kept: int | None = None) -> None:
        """`last_kept`: time of the picture that a predecessor kept last, in 90 kHz ticks."""
        self.dropped = 0
        self._interval = CLOCK_HZ / max_fps
        self._due = None if last_kept is None else last_kept + self._interval

    def keeps(self, pts: int) -> bool:
        """Whether the picture at `pts`, in 90 kHz ticks, rising from call to call, is kept; counted in `dropped` if
        not."""
        if self._due is not None and pts < self._due - _EARLY * self._interval:
            self.dropped += 1
            return False
        # The clock may lag by one beat: what jitter holds back, jitter brings the sooner.
        beat = pts if self._due is None else max(self._due, pts - self._interval)
        self._due = beat + self._interval
        return True
