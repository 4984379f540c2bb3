"""Whether a picture may be encoded now, and at what bitrate, so that nothing waits long behind the encoder.

What waits to be sent would be shown late: first the bitrate goes down, and where that is not enough, pictures are left
out before they cost anything.
"""

from collections.abc import Callable
from typing import Protocol

from pipeline.media.encoder import VideoEncoder
from pipeline.media.rate_control import MAX_DELAY_S, RateControl

REPORT_INTERVAL_S = 10.0
"""A change of the bitrate is told at most so often."""


class SendQueue(Protocol):
    """What has been encoded and was not sent yet."""

    error: Exception | None

    @property
    def queued_seconds(self) -> float: ...
    @property
    def congested(self) -> bool: ...


class Pace:
    """For one encoder whose pictures go into one queue."""

    def __init__(
        self, queue: SendQueue, encoder: VideoEncoder, floor: int, report: Callable[[int], None] | None = None
    ) -> None:
        """`floor` in bit/s, for an encoder with a bitrate; one of constant quality keeps it. `report` is told the
        bitrate that is in force, in bit/s, when it has changed."""
        self._queue = queue
        self._encoder = encoder
        self._control = RateControl(encoder.bitrate, floor) if encoder.bitrate is not None else None
        self._report = report
        self._reported = encoder.bitrate
        self._reported_s = -REPORT_INTERVAL_S

    def admits(self, now_s: float) -> bool:
        """To be asked before each picture; adapts the encoder's bitrate. `now_s`: any clock that does not go back."""
        if self._queue.error is not None:
            # Nobody is there to send to. The queue keeps what is newest, for when somebody is; that says nothing of a
            # path, and a new segment is what makes it forget the old ones.
            return not self._queue.congested
        delay_s = self._queue.queued_seconds
        if self._control is not None:
            if self._control.observe(delay_s, now_s):
                self._encoder.set_bitrate(self._control.bitrate)
            self._tell(self._control.bitrate, now_s)
        return delay_s <= MAX_DELAY_S and not self._queue.congested

    def _tell(self, bitrate: int, now_s: float) -> None:
        if self._report is None or bitrate == self._reported or now_s - self._reported_s < REPORT_INTERVAL_S:
            return
        self._reported, self._reported_s = bitrate, now_s
        self._report(bitrate)
