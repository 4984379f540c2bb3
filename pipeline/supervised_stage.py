"""A stage over all its lives: its state, its budget of restarts, what it has used. What happens to it, the supervisor
decides."""

import collections
import time

from pipeline.memory.stage_stats import Span, StageStats, Word
from pipeline.messages import StageStatus
from pipeline.stage_process import StageProcess
from pipeline.topology import Limits, Restart, Stage, Topology
from pipeline.wiring import SERVICES

STARTING, READY, BACKOFF, FINISHED, FAILED = "STARTING", "READY", "BACKOFF", "FINISHED", "FAILED"


class SupervisedStage:
    """Plain attributes that the supervisor moves."""

    def __init__(self, name: str, spec: Stage | None, topology: Topology, stats: StageStats) -> None:
        self.name = name
        self.worker = name if spec is None else str(spec.__struct_config__.tag)
        self.is_service = name in SERVICES
        self.restart: Restart = (spec.restart if spec else None) or topology.restart
        self.limits: Limits = (spec.limits if spec else None) or topology.limits
        self.stats = stats
        self.state = BACKOFF
        self.process: StageProcess | None = None
        self.incarnation = 0
        self.reason = ""
        self.started = 0.0
        self.revive_at = 0.0
        self.deaths: collections.deque[float] = collections.deque()
        self.cpu_before = 0.0
        self.cpu_percent = 0.0
        self.cpu_s = 0.0
        self.rss_bytes = 0
        self.finished = False
        self.refused = False
        self.settled = False

    @property
    def over(self) -> bool:
        """Whether nothing more is to be expected of the stage."""
        return self.state in (FINISHED, FAILED)

    def hang(self, now_ns: int) -> str | None:
        """What the stage is guilty of, if it shows no life."""
        if self.state == STARTING and time.monotonic() - self.started > self.limits.ready:
            return f"not ready within {self.limits.ready:g} s"
        if self.state != READY:
            return None
        silent_s = (now_ns - self.stats[Word.HEARTBEAT_NS]) / 1e9
        if self.finished:  # Its last heartbeat was with its last word; torch may take a second to leave.
            return f"finished, but not gone within {self.limits.drain:g} s" if silent_s > self.limits.drain else None
        if silent_s > self.limits.heartbeat:
            return f"no heartbeat for {self.limits.heartbeat:g} s"
        busy_since = self.stats[Word.BUSY_SINCE_NS]
        if busy_since and now_ns - busy_since > self.limits.progress * 1e9:
            return f"busy without progress for {self.limits.progress:g} s"
        return None

    def next_backoff(self, now: float) -> float | None:
        """Seconds until the next start, or None when the budget is used up. Notes the death."""
        self.deaths.append(now)
        while self.deaths and now - self.deaths[0] > self.restart.window:
            self.deaths.popleft()
        if len(self.deaths) > self.restart.max_restarts:
            return None
        if len(self.deaths) == 1:
            return 0.0
        return min(self.restart.backoff * float(2 ** (len(self.deaths) - 2)), self.restart.backoff_max)

    def sample_usage(self, seconds: float) -> None:
        """Note what the process has used; `seconds` since this was called last."""
        before = self.cpu_s
        if self.process is not None:
            cpu, rss = self.process.usage()
            self.cpu_s = self.cpu_before + cpu
            self.rss_bytes = rss or self.rss_bytes  # A zombie has none.
        self.cpu_percent = 100 * (self.cpu_s - before) / seconds

    def account(self) -> None:
        """Take in what a dead process has used, while the kernel still knows."""
        assert self.process is not None
        self.cpu_s = self.cpu_before = self.cpu_before + self.process.usage()[0]

    def status(self) -> StageStatus:
        return StageStatus(
            stage=self.name,
            worker=self.worker,
            state=self.state,
            pid=self.process.pid if self.process else None,
            restarts=max(0, self.incarnation - 1),
            uptime_s=time.monotonic() - self.started if self.process else 0.0,
            units_in=self.stats[Word.UNITS_IN],
            units_out=self.stats[Word.UNITS_OUT],
            latency_ms=self.stats.p50_p95_ms(Span.STAGE),
            cpu_s=self.cpu_s,
            cpu_percent=self.cpu_percent,
            rss_bytes=self.rss_bytes,
        )
