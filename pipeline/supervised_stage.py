"""A stage over all its lives: its processes, its budget of restarts, what it has used. What happens to it, the
supervisor decides."""

import collections
import time

from pipeline.memory.stage_stats import Span, StageStats, StageTotals, Word
from pipeline.recovery import Recovery
from pipeline.stage_process import StageProcess
from pipeline.status import Encoding, Parameter, StageStatus, Usage
from pipeline.topology import OF_ONE_STREAM, SERVICES, Egress, Inference, Topology
from pipeline.topology_sections import Limits, Restart

STARTING, READY, BACKOFF, FINISHED, FAILED = "STARTING", "READY", "BACKOFF", "FINISHED", "FAILED"
IDLE = "IDLE"
"""Of a stage that belongs to a stream, while there is none."""


NOTHING_YET = -2
"""Before the number of any stream, and before lane.NO_STREAM."""


class Life:
    """One process of a stage. `stands_in`: it passes frames through while no real one is there. `generation` says which
    version of the stage's part of the topology it was started with."""

    def __init__(self, process: StageProcess, stats: StageStats, generation: int = 0, *, stands_in: bool) -> None:
        self.process = process
        self.generation = generation
        self.stats = stats
        self.stands_in = stands_in
        self.started = time.monotonic()
        self.ready = False
        self.parameters: list[Parameter] | None = None  # those of its processor, as it last described them
        self.through: dict[int, int] = {}  # by lane: the number of the last stream that it has handed on all of
        self.has_spoken = False  # has said why it comes to its end
        self.asked_for = False  # its death was ordered by a person
        self.refusal: str | None = None
        self.guilt: str | None = None  # what it is being killed for

    @property
    def finished(self) -> bool:
        """Whether it has handed on everything. It stands in shared memory, because a message may come after the death
        that it explains."""
        return bool(self.stats[Word.FINISHED])

    def hang(self, limits: Limits, now_ns: int) -> str | None:
        """What the process is guilty of, if it shows no life."""
        if not self.ready:
            late = time.monotonic() - self.started > limits.ready
            return f"not ready within {limits.ready:g} s" if late else None
        silent_s = (now_ns - self.stats[Word.HEARTBEAT_NS]) / 1e9
        if self.finished:  # Its last heartbeat was with its last word; torch may take a second to leave.
            return f"finished, but not gone within {limits.drain:g} s" if silent_s > limits.drain else None
        if silent_s > limits.heartbeat:
            return f"no heartbeat for {limits.heartbeat:g} s"
        for word in (Word.BUSY_SINCE_NS, Word.UNDER_WAY_SINCE_NS):
            since = self.stats[word]
            if since and now_ns - since > limits.progress * 1e9:
                return f"busy without progress for {limits.progress:g} s"
        return None


class SupervisedStage:
    """Plain attributes that the supervisor moves.

    At most one of the `lives` is `active`: it, and nobody else, touches the links. The others of an inference stage
    have their model loaded and wait (`spares`), or pass frames through until one has (`stands_in`).
    """

    def __init__(self, name: str, file_name: str, topology: Topology, seats: list[StageStats]) -> None:
        """`file_name` is what the topology calls it: of one stage there, there is one for each stream."""
        spec = topology.stages.get(file_name)
        self.name = name
        self._file_name = file_name
        self.worker = name if spec is None else str(spec.__struct_config__.tag)
        self.is_service = name in SERVICES
        self.restart: Restart
        self.limits: Limits
        self.bitrate: int  # that the file wants of an encoder, in bit/s; 0: none
        self.adopt(topology)
        self.stats = StageTotals(seats)
        self.takes_turns = isinstance(spec, Inference)
        self.spares = spec.spares if isinstance(spec, Inference) else 0
        self.has_stand_in = isinstance(spec, Inference) and spec.has_stand_in
        self.lives: list[Life] = []
        self.active: Life | None = None
        self.incarnation = 0
        self.generation = 0  # rises when the stage is to be renewed: the new process is loaded beside the old one
        self.outcome: str | None = None  # FINISHED or FAILED
        self.reason = ""
        self.exhausted = False  # the budget of restarts is used up
        self.no_spares = self.no_stand_in = False  # given up while a process is at work
        self.revive_at = 0.0
        self.deaths: collections.deque[float] = collections.deque()
        self.restarts = 0
        self.has_loaded = False  # of inference: a processor was ready to work
        self.last_death = ""  # how the latest process died
        self.recovery = Recovery()
        self.cpu_before = 0.0
        self.cpu_percent = 0.0
        self.usage = Usage()  # of all its processes, the dead ones' CPU time included
        self.rate_in = self.rate_out = 0.0  # units a second of late
        self._units_before = (0, 0)
        self.refused = False
        self.settled = False
        self.of_one_stream = topology.streams.on_request and isinstance(spec, OF_ONE_STREAM)
        self.idle = self.of_one_stream  # no stream, so no process
        self.ending = False  # its stream is being stopped: no process is started any more
        self.farewell = ""  # why its process came to its end by itself

    def adopt(self, topology: Topology) -> None:
        """Go by the budget and the limits of this topology from now on."""
        spec = topology.stages.get(self._file_name)
        self.restart = (spec.restart if spec else None) or topology.restart
        self.limits = (spec.limits if spec else None) or topology.limits
        self.bitrate = spec.encoder.bits_per_second if isinstance(spec, Egress) and spec.encoder.crf is None else 0

    @property
    def state(self) -> str:
        if self.outcome:
            return self.outcome
        if self.idle:
            return IDLE
        if self.active is not None and self.active.ready and not self.active.stands_in:
            return READY
        return STARTING if self.mains else BACKOFF

    @property
    def mains(self) -> list[Life]:
        """The processes that do the stage's own work, or will."""
        return [life for life in self.lives if not life.stands_in]

    @property
    def is_new(self) -> bool:
        """Whether no real process of the stage is there, none was ever started again, and none had its model loaded:
        what goes wrong now was wrong from the start."""
        return not self.mains and not self.restarts and not self.has_loaded

    @property
    def over(self) -> bool:
        """Whether nothing more is to be expected of the stage."""
        return self.outcome is not None and self.active is None

    def wants(self) -> bool | None:
        """What should be started: True: a stand-in; False: a real process; None: nothing. The first real one comes
        first; spares only once it is at work, so that they do not slow it down."""
        if self.outcome or self.exhausted or self.idle or self.ending:
            return None
        new = sum(life.generation == self.generation for life in self.mains)
        if new < 1 + (self.spares if self.state == READY and not self.no_spares and not self.renewing else 0):
            return False
        if self.has_stand_in and not self.no_stand_in and len(self.lives) == len(self.mains):
            return True
        return None

    @property
    def renewing(self) -> bool:
        """Whether a process of an older generation is at work, while one of the new loads."""
        return self.active is not None and not self.active.stands_in and self.active.generation != self.generation

    def next_active(self) -> Life | None:
        """Who should be active: the newest real process if one is ready, else the stand-in."""
        ready = [life for life in self.lives if life.ready and not life.finished]
        return min(ready, key=lambda life: (life.stands_in, -life.generation), default=None)

    def free_seat(self) -> int:
        """The seat, a set of counters, that no process uses."""
        taken = [life.stats for life in self.lives]
        return next(seat for seat, stats in enumerate(self.stats.seats) if stats not in taken)

    def life(self, incarnation: int) -> Life | None:
        """The process with this number, if it lives."""
        return next((life for life in self.lives if life.process.boot.incarnation == incarnation), None)

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

    def forgive(self) -> None:
        """A fresh budget, at a person's request."""
        self.deaths.clear()
        self.outcome, self.reason, self.revive_at = None, "", 0.0
        self.exhausted = self.refused = self.settled = self.no_spares = self.no_stand_in = False

    def begin_stream(self) -> None:
        """Be there, with a fresh budget."""
        self.forgive()
        self.idle, self.ending, self.farewell = False, False, ""

    def end_stream(self) -> None:
        """Be not there any more. All processes must be gone."""
        self.forgive()
        self.recovery.forget()
        self.idle, self.ending = True, False
        self.usage = Usage(cpu_s=self.usage.cpu_s)

    def sample_usage(self, seconds: float) -> None:
        """Note what the processes have used and done; `seconds` since this was called last."""
        before = self.usage.cpu_s
        usages = [life.process.usage() for life in self.lives]
        if usages:
            self.usage = Usage(
                cpu_s=self.cpu_before + sum(usage.cpu_s for usage in usages),
                rss_bytes=sum(usage.rss_bytes for usage in usages) or self.usage.rss_bytes,  # A zombie has none.
                threads=sum(usage.threads for usage in usages),
                open_fds=sum(usage.open_fds for usage in usages),
            )
        self.cpu_percent = 100 * (self.usage.cpu_s - before) / seconds
        units = self.stats[Word.UNITS_IN], self.stats[Word.UNITS_OUT]
        self.rate_in, self.rate_out = (
            (now - then) / seconds for now, then in zip(units, self._units_before, strict=True)
        )
        self._units_before = units

    def bury(self, life: Life) -> None:
        """Take in what a dead process has used, while the kernel still knows, and strike it off."""
        self.cpu_before += life.process.usage().cpu_s
        self.lives.remove(life)
        if life is self.active:
            self.active = None

    def time_recovery(self, now_ns: int) -> None:
        """Note when the stage is at work again after a death, and when that is to be seen."""
        if self.state == READY:
            self.recovery.at_work(now_ns)
        if self.active is not None:
            self.recovery.handed_on(self.active.stats[Word.LIFE_OUT_NS])

    def status(self) -> StageStatus:
        shown = self.active or next(iter(self.mains), None)
        return StageStatus(
            stage=self.name,
            worker=self.worker,
            state=self.state,
            pid=shown.process.pid if shown else None,
            restarts=self.restarts,
            uptime_s=time.monotonic() - shown.started if shown else 0.0,
            units_in=self.stats[Word.UNITS_IN],
            units_out=self.stats[Word.UNITS_OUT],
            rate_in=self.rate_in,
            rate_out=self.rate_out,
            latency_ms=self.stats.p50_p95_ms(Span.STAGE),
            cpu_s=self.usage.cpu_s,
            cpu_percent=self.cpu_percent,
            rss_bytes=self.usage.rss_bytes,
            spares=sum(life.ready for life in self.mains if life is not self.active),
            passing_through=self.active is not None and self.active.stands_in,
            last_death=self.last_death,
            skipped=self.stats[Word.SKIPPED],
            capped=self.stats[Word.CAPPED],
            replayed=self.stats[Word.REPLAYED],
            repeated=self.stats[Word.REPEATED],
            audio_dropped=self.stats[Word.AUDIO_DROPPED],
            segments_lost=self.stats[Word.SEGMENTS_LOST],
            bytes_in=self.stats[Word.BYTES_IN],
            bytes_out=self.stats[Word.BYTES_OUT],
            threads=self.usage.threads,
            open_fds=self.usage.open_fds,
            busy_s=self.stats.busy_s(),
            latency=self.stats.durations(Span.STAGE),
            recovery=self.recovery.away,
            output_gap=self.recovery.gaps,
            encoding=self._encoding(),
        )

    def _encoding(self) -> Encoding | None:
        if self.worker != "egress":
            return None
        return Encoding(self.bitrate, self.stats[Word.BITRATE], self.stats[Word.VIDEO_BYTES])
