"""One stream on request over its life: what was asked for, how far it is, and its own part of the pipeline's counts.
What happens to it, `stream_keeper` decides."""

import time
from typing import Any, Literal

from pipeline.lane import Lane
from pipeline.memory.stage_stats import Span, StageTotals, Word
from pipeline.status import FrameCount, StreamSpec, StreamStatus

BEGINNING_S = 5.0
"""More than its processes take to be there."""

State = Literal["STARTING", "ONLINE", "STOPPING", "ENDED", "FAILED"]


class RunningStream:
    """Plain attributes that the keeper of streams moves."""

    def __init__(self, spec: StreamSpec, before: FrameCount, decode: StageTotals, egress: StageTotals) -> None:
        """`before` is its lane's count at its start, when nothing was in flight."""
        self.spec = spec
        self.state: State = "STARTING"
        self.reason = ""
        self.began = time.time()
        self.began_ns = time.monotonic_ns()
        self.asked_for_params = False  # the processor was asked to take them
        self.asked_again = False  # since it died before it answered
        self.opened_ns = 0  # when the links became its own, and its stages came; CLOCK_MONOTONIC, 0: not yet
        self.stopping_since: float | None = None
        self.is_cut = False  # it does not end by itself: what is missing is not waited for
        self.forced = False  # what did not stop in time was killed
        self.outcome: Literal["ENDED", "FAILED"] = "ENDED"
        self.told: set[tuple[bytes, type]] = set()  # which process was given which order at its end
        self.waiting: list[bytes] = []  # who wants to know when it is over
        self.params: dict[str, Any] | None = None  # its own, as the processor has taken them
        self.params_agreed = not spec.params
        self._before = before
        self._latency_before = egress.durations(Span.END_TO_END)
        self._decode = decode
        self._egress = egress

    @property
    def opened(self) -> bool:
        """Whether the links are its own, and its stages are there."""
        return self.opened_ns > 0

    @property
    def first_out_ns(self) -> int:
        """When its first frame was sent; 0: not yet. CLOCK_MONOTONIC."""
        return self._egress[Word.FIRST_OUT_NS] if self.opened else 0

    @property
    def is_fed(self) -> bool:
        """Whether frames come, and so cost something, whatever becomes of them."""
        return self.opened and bool(self._decode[Word.FIRST_OUT_NS])

    @property
    def is_beginning(self) -> bool:
        """Whether it waits for inference, or costs what its start costs; then it waits for its source, which costs next
        to nothing."""
        is_young = not self.opened or time.monotonic_ns() - self.opened_ns < BEGINNING_S * 1e9
        return is_young and not self.is_fed

    def frames(self, now: FrameCount) -> FrameCount:
        """Its own part of its lane's count."""
        before = self._before
        return FrameCount(
            decoded=now.decoded - before.decoded,
            delivered=now.delivered - before.delivered,
            dropped={
                reason: own for reason, count in now.dropped.items() if (own := count - before.dropped.get(reason, 0))
            },
            in_flight=now.in_flight - before.in_flight,
        )

    def status(self, now: FrameCount, lane: Lane, ended: float = 0.0) -> StreamStatus:
        """`now` is its lane's count; `ended` when it was over, 0: it is not."""
        frames = self.frames(now)
        first, last = self.first_out_ns, self._egress[Word.LAST_OUT_NS] if self.opened else 0
        return StreamStatus(
            spec=self.spec,
            state=self.state,
            reason=self.reason,
            began=self.began,
            ended=ended,
            first_in_ms=self._ms_until(self._decode[Word.FIRST_OUT_NS] if self.opened else 0),
            first_out_ms=self._ms_until(first),
            fps=(frames.delivered - 1) / (last - first) * 1e9 if last > first else 0.0,
            frames=frames,
            end_to_end=self._egress.durations(Span.END_TO_END).since(self._latency_before),
            stages=() if ended else (*lane.stages, lane.inference),
            paused=lane.pause is not None,
        )

    def _ms_until(self, moment_ns: int) -> float | None:
        return round((moment_ns - self.began_ns) / 1e6, 1) if moment_ns else None
