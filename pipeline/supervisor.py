"""Runs one topology from its start to its stop: the launcher's loop, signals, draining, what people ask and are told.

It does no work of the stages' own, so it never dies of it. Their processes are the keeper's; what outlives them is in
`wiring`.
"""

import signal
import time
from collections.abc import Callable
from typing import Protocol

import psutil
import zmq

from pipeline.keeper import Keeper
from pipeline.media.access_unit import CLOCK_HZ
from pipeline.memory.stage_stats import Span, StageTotals, Word
from pipeline.messages import (
    Abandon,
    Answer,
    Drain,
    Event,
    EventLevel,
    Finished,
    LogLevelRequest,
    PauseRequest,
    PlanRequest,
    Ready,
    RecordEndRequest,
    RecordRequest,
    Refused,
    RestartRequest,
    SetLogLevel,
    StatusRequest,
    StreamHandedOn,
    StreamStartRequest,
    StreamStopRequest,
    SupervisionEvent,
    ToLauncher,
    TraceRequest,
    Updated,
    UpdateRequest,
)
from pipeline.pausing import set_pause
from pipeline.plan import plan_of
from pipeline.processor_changes import ProcessorChanges
from pipeline.recording.lease import RecordingLease
from pipeline.service_manager import ServiceManager
from pipeline.signal_notes import SignalNotes
from pipeline.stage_output import Line
from pipeline.stage_process import become_reaper, usage_of
from pipeline.status import FrameCount, Progress, Status, StreamStatus, Usage
from pipeline.stream_keeper import NoSuchStream, StreamKeeper
from pipeline.supervised_stage import BACKOFF, FAILED, FINISHED, READY, STARTING, SupervisedStage
from pipeline.switchboard import BadMessage, Switchboard
from pipeline.topology import SPINE, Decode, Egress, Inference, Ingress, Publisher, Recorder, Stage, Topology
from pipeline.topology_changes import NeedsNewStart
from pipeline.topology_file import TopologyFileError
from pipeline.topology_logs import Logs
from pipeline.wiring import Wiring

TICK_SECONDS = 0.25
SAMPLE_SECONDS = 1.0


class Display(Protocol):
    """Where a person sees what goes on."""

    def event(self, level: str, stage: str, name: str, fields: dict[str, str | int | float]) -> None: ...

    def output(self, stage: str, line: Line) -> None: ...

    def adopt(self, logs: Logs) -> None: ...

    def show(self, status: Status) -> None: ...


class Supervisor:
    """`run` returns when every stage is over or a person has stopped it."""

    def __init__(self, wiring: Wiring, display: Display, read_again: Callable[[], Topology] | None = None) -> None:
        """`read_again` reads the topology file anew, for SIGHUP; it raises TopologyFileError."""
        self._read_again = read_again
        self._wiring = wiring
        self._display = display
        self._began = self._sampled = time.monotonic()
        self._draining_since: float | None = None
        self._forced = False
        self.interrupted = False
        """Whether a person stopped it before its end."""
        self._failures: list[str] = []
        self._usage = Usage()
        self._service_manager = ServiceManager()
        self._poller = zmq.Poller()
        self._signals = SignalNotes(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._switchboard = Switchboard(wiring.control_endpoint)
        self._poller.register(self._switchboard.socket, zmq.POLLIN)
        self._keeper = Keeper(wiring, self._switchboard, self._poller, self._announce, display.output)
        self._stages = self._keeper.stages
        self._changes = ProcessorChanges(wiring, self._keeper, self._switchboard, self._announce)
        self._streams = StreamKeeper(wiring, self._keeper, self._switchboard, self._changes, self._announce)
        self._recording = RecordingLease(wiring, self._keeper, self._announce)

    def run(self) -> None:
        become_reaper()
        with self._signals:
            self._poller.register(self._signals.fd, zmq.POLLIN)
            self._watch_frame_memory()
            if self._streams.on_request:
                self._announce("info", "launcher", "waits_for_streams", max=self._wiring.topology.streams.max)
            try:
                while not self._done():
                    self._keeper.revive()
                    self._wait()
                    self._hear()
                    self._keeper.reap(self._hear)
                    self._changes.see_to_the_dead()
                    self._streams.go_on()
                    self._keeper.skim()
                    self._handle_signals()
                    self._keeper.watch()
                    self._recording.expire()
                    self._settle()
                    self._sample()
            finally:
                self._stop_everything()

    @property
    def refused(self) -> bool:
        """Whether a stage could not work as configured. What a stream brings is no part of that."""
        return any(stage.refused for stage in self._stages.values() if not stage.of_one_stream)

    @property
    def failed(self) -> list[str]:
        """The reasons of the stages that are FAILED; empty when all went well. What happens to a stage of a stream on
        request is told with the stream."""
        own = (stage for stage in self._stages.values() if not stage.of_one_stream)
        return self._failures + [f"{stage.name}: {stage.reason}" for stage in own if stage.outcome == FAILED]

    def status(self) -> Status:
        egress = StageTotals([seat for stage in self._keeper.of_kind(Egress) for seat in stage.stats.seats])
        end_to_end = egress.durations(Span.END_TO_END)  # Of no more frames than are counted next.
        frames = self._wiring.frame_count()
        streams = self._streams.statuses()
        return Status(
            pipeline=self._wiring.topology.name,
            state=self._state(),
            reasons=self.failed,
            uptime_s=time.monotonic() - self._began,
            stages=[stage.status() for stage in self._stages.values()],
            links=self._wiring.link_status(),
            frames=frames,
            repeated=egress[Word.REPEATED],
            fps=self._fps(egress, frames, streams),
            end_to_end_ms=egress.p50_p95_ms(Span.END_TO_END),
            progress=self._progress(egress),
            added=self._wiring.pictures_added(),
            streams=streams,
            paused=any(lane.pause is not None for lane in self._wiring.lanes),
            streams_ended=self._streams.count_ended,
            end_to_end=end_to_end,
            launcher=self._usage,
        )

    def _fps(self, egress: StageTotals, frames: FrameCount, streams: list[StreamStatus]) -> float:
        if self._streams.on_request:
            return sum(stream.fps for stream in streams if not stream.ended)
        span_ns = egress[Word.LAST_OUT_NS] - egress[Word.FIRST_OUT_NS]
        return (frames.delivered - 1) / span_ns * 1e9 if span_ns > 0 else 0.0

    def _progress(self, egress: StageTotals) -> Progress | None:
        excerpt = self._wiring.topology.excerpt
        if excerpt is None:
            return None
        (ingress,) = self._keeper.of_kind(Ingress)
        length = ingress.stats[Word.MEDIA_TICKS]
        began = egress[Word.FIRST_OUT_NS]
        return Progress(
            done_s=max(0, egress[Word.MEDIA_TICKS] - excerpt.first) / CLOCK_HZ,
            length_s=length / CLOCK_HZ if length else None,
            elapsed_s=(egress[Word.LAST_OUT_NS] - began) / 1e9 if began else 0.0,
        )

    # The loop, in its order.

    def _done(self) -> bool:
        """When all stages are over. Services end after them."""
        return self._forced or all(stage.over for stage in self._stages.values() if not stage.is_service)

    def _wait(self) -> None:
        seconds = min(TICK_SECONDS, self._keeper.seconds_to_revival(), self._streams.seconds_to_look)
        self._poller.poll(max(1, int(seconds * 1000)))

    def _hear(self) -> None:
        """Take in every message that has come, and whatever the workers printed."""
        for sender, message in self._switchboard.messages():
            self._heard(sender, message)
        self._keeper.show_output()

    def _handle_signals(self) -> None:
        for number in self._signals.take():
            if number is signal.SIGHUP:
                self._reload()
            elif self._draining_since is None:
                self._announce("info", "launcher", "draining", signal=number.name)
                self.interrupted = True
                self._drain()
            else:
                self._announce("warning", "launcher", "forced", signal=number.name)
                self._forced = True

    def _watch_frame_memory(self) -> None:
        memory = self._wiring.frame_memory
        if memory.on_host_because:
            self._announce("warning", "launcher", "frame_memory", chosen="host", reason=memory.on_host_because)
        elif memory.pidfds:
            self._announce("info", "launcher", "frame_memory", chosen=self._wiring.topology.frame_memory)
        for pidfd in memory.pidfds:
            self._poller.register(pidfd, zmq.POLLIN)

    def _see_to_frame_memory(self) -> None:
        """The processes that own the GPU memory run nobody's code; should one die all the same, what was shared as
        descriptors lives on, and what was shared as IPC handles is lost."""
        for pidfd in self._wiring.frame_memory.bury():
            self._poller.unregister(pidfd)
            if self._wiring.topology.frame_memory == "cuda-vmm":
                self._announce("warning", "launcher", "allocator_died")
                continue
            self._announce("error", "launcher", "allocator_died", consequence="the frames on the GPU are lost")
            self._failures.append("launcher: the process that owned the frame memory died")
            self._forced = True

    def _settle(self) -> None:
        """See to what follows from the state that the stages are in."""
        self._see_to_frame_memory()
        limit = self._wiring.topology.limits.drain
        if self._draining_since is not None and time.monotonic() - self._draining_since > limit:
            self._announce("warning", "launcher", "drain_timeout", seconds=limit)
            self._forced = True
        if self.refused and self._draining_since is None:
            self._drain()  # It was configured wrongly; going on would only hide that.
        if not self._streams.on_request and (self._draining_since is not None or self._is_finished(Ingress)):
            self._speak_for_the_failed()

    def _speak_for_the_failed(self) -> None:
        """Once the input is at its end, nothing more will come from those who failed for good."""
        for stage in self._stages.values():
            if stage.outcome == FAILED and stage.over and not stage.settled:
                stage.settled = True
                self._abandon_before(stage)
                self._wiring.end_output(stage.name)
                spec = self._wiring.file_spec(stage.name)
                for kind, behind in ((Ingress, Decode), (Egress, Recorder)):
                    if isinstance(spec, kind):
                        self._keeper.tell_all(behind, Drain())

    def _abandon_before(self, failed: SupervisedStage) -> None:
        """Tell the stages in front of a failed one that nobody takes what they hand on."""
        for position, kind in enumerate(SPINE):
            if failed in self._keeper.of_kind(kind):
                for before in SPINE[:position]:
                    self._keeper.tell_all(before, Abandon())

    def _sample(self) -> None:
        now = time.monotonic()
        self._service_manager.feed_watchdog()
        if now - self._sampled < SAMPLE_SECONDS:
            return
        for stage in self._stages.values():
            stage.sample_usage(now - self._sampled)
        self._usage = usage_of(psutil.Process())
        self._streams.sample(now)
        self._sampled = now
        self._keeper.reap_orphans()
        status = self.status()
        self._display.show(status)
        frames = status.frames
        summary = f"{frames.delivered} of {frames.decoded} frames delivered, {status.fps:.1f} fps"
        self._service_manager.tell(status.state, summary)

    # What people and workers say.

    def _heard(self, sender: bytes, message: ToLauncher | BadMessage) -> None:
        match message:
            case BadMessage():
                self._announce("warning", "launcher", "bad_message", sender=message.sender, problem=message.problem)
            case StatusRequest():
                self._switchboard.send(sender, self.status())
            case TraceRequest():
                self._switchboard.send(sender, self._wiring.traces())
            case PlanRequest():
                described = (stage.active.parameters for stage in self._keeper.of_kind(Inference) if stage.active)
                self._switchboard.send(sender, plan_of(self._wiring, next(filter(None, described), None)))
            case RecordRequest():
                self._switchboard.send(sender, self._recording.ask(message, self._streams.running))
            case RecordEndRequest():
                self._switchboard.send(sender, self._recording.end(message))
            case RestartRequest():
                self._switchboard.send(sender, self._restart(message.stage))
            case UpdateRequest():
                self._update(sender, message)
            case LogLevelRequest():
                self._switchboard.send(sender, self._set_log_level(message))
            case Updated():
                self._changes.heard(message)
            case Event():
                self._announce(message.level, message.stage, message.name, **message.fields)
            case PauseRequest():
                self._switchboard.send(sender, self._pause(message))
            case StreamStartRequest():
                self._streams.start(sender, message)
            case StreamStopRequest():
                self._streams.stop(sender, message)
            case Ready() | Finished() | StreamHandedOn() | Refused():
                self._keeper.heard(message)

    def _pause(self, request: PauseRequest) -> Answer:
        try:
            lanes = self._streams.lanes_meant(request.stream)
        except NoSuchStream as problem:
            return Answer(False, str(problem), problem.code)
        return set_pause(self._keeper, self._announce, lanes, request.pause)

    def _update(self, sender: bytes, request: UpdateRequest) -> None:
        try:
            lanes = self._streams.lanes_meant(request.stream) if self._streams.on_request else []
        except NoSuchStream as problem:
            self._switchboard.send(sender, Answer(False, str(problem), problem.code))
        else:
            self._changes.ask(sender, request, lanes)

    def _reload(self) -> None:
        """Go by what the topology file says now: only the stages whose part has changed are started again. A file with
        a mistake, or with a change that needs all of them stopped, changes nothing."""
        if self._read_again is None or self._draining_since is not None:
            return
        self._service_manager.reloading()
        before = self._wiring.topology
        try:
            if self._changes.renews:
                raise NeedsNewStart("inference is being renewed; try again when it is through")
            changed = self._wiring.adopt(self._read_again())
        except (TopologyFileError, NeedsNewStart, OSError) as error:
            self._announce("error", "launcher", "reload_refused", reason=str(error))
        else:
            for stage in self._stages.values():
                stage.adopt(self._wiring.topology)
            self._adopt_log_levels()
            self._announce("info", "launcher", "reloaded", changed=",".join(changed) or "nothing")
            self._take_up([self._stages[name] for name in changed], before)
        self._service_manager.reloaded()

    def _take_up(self, changed: list[SupervisedStage], before: Topology) -> None:
        """Go over to what the file says now of these stages: without a gap where a new process can be loaded beside the
        one at work."""
        renewed = []
        for stage in changed:
            if stage.outcome == FINISHED or stage.idle or stage.ending:
                continue
            if stage.takes_turns and stage.active is not None and stage.state == READY and not stage.renewing:
                renewed.append(stage)
            else:
                self._keeper.restart(stage, spares_too=True)
        if renewed:
            self._changes.renew(renewed, before, lambda stage, problem: None)

    def _restart(self, name: str) -> Answer:
        stage = self._stages.get(name)
        if stage is None:
            return Answer(ok=False, text=f"no stage {name!r}; there are: {', '.join(self._stages)}")
        if self._draining_since is not None or stage.outcome == FINISHED:
            return Answer(ok=False, text=f"{name} is not started again: the pipeline is at its end")
        if stage.idle or stage.ending:
            why = "there is no stream" if stage.idle else "its stream is being stopped"
            return Answer(ok=False, text=f"{name} is not started: {why}")
        before = stage.state
        self._keeper.restart(stage)
        return Answer(ok=True, text=f"{name} was {before}; it is being started again")

    def _set_log_level(self, request: LogLevelRequest) -> Answer:
        """Until the topology file is read again."""
        named = ("launcher", *self._stages)
        in_file = {self._wiring.file_name(stage) for stage in self._stages}
        if request.stage not in named and request.stage not in in_file:
            return Answer(ok=False, text=f"no stage {request.stage!r}; there are: {', '.join(named)}")
        name = self._wiring.file_name(request.stage)  # Of several streams' stages, all that the file calls so.
        before = self._wiring.topology.logs.level_of(name)
        self._wiring.change_log_level(name, request.level)
        self._adopt_log_levels()
        return Answer(ok=True, text=f"{request.stage} logs from {request.level} on; before from {before} on")

    def _adopt_log_levels(self) -> None:
        """Have the log and the workers go by what the topology says now."""
        logs = self._wiring.topology.logs
        self._display.adopt(logs)
        for stage in self._stages.values():
            self._keeper.tell(stage, SetLogLevel(logs.level_of(stage.name)))

    def _announce(self, level: EventLevel, source: str, name: str, /, **fields: str | int | float) -> None:
        self._display.event(level, source, name, fields)
        self._switchboard.publish(SupervisionEvent(time.time(), level, source, name, fields))

    # Stopping.

    def _drain(self) -> None:
        """No new input; what is in the pipeline comes out; then each stage finishes after the one before it."""
        self._begin_to_stop()
        self._streams.close_down()
        for stage in self._stages.values():
            if stage.outcome is None and not stage.lives and not stage.of_one_stream:
                stage.outcome = FAILED if stage.incarnation else FINISHED
                stage.reason = "was being restarted when the pipeline stopped"
        reads_file = self._wiring.topology.excerpt is not None
        for kind in (Publisher, Ingress, Decode) if reads_file else (Publisher, Ingress):
            self._keeper.tell_all(kind, Drain())

    def _begin_to_stop(self) -> None:
        if self._draining_since is None:
            self._draining_since = time.monotonic()
            self._service_manager.stopping()
        self._keeper.stopping = True

    def _stop_everything(self) -> None:
        """Services last: whoever reads the output still gets its end."""
        services = [stage for stage in self._stages.values() if stage.is_service and stage.lives]
        self._begin_to_stop()
        if not self._forced:
            for stage in services:
                self._keeper.tell(stage, Drain())
            deadline = time.monotonic() + self._wiring.topology.limits.drain
            while any(stage.lives for stage in services) and time.monotonic() < deadline and not self._forced:
                self._poller.poll(int(TICK_SECONDS * 1000))
                self._hear()
                self._keeper.reap(self._hear)
                self._keeper.skim()
                self._handle_signals()
        self._keeper.kill_all()
        self._changes.give_up()
        self._wiring.abandon()
        self._failures += self._streams.give_up()
        self._switchboard.close()
        self._service_manager.close()

    def _state(self) -> str:
        states = {stage.state for stage in self._stages.values() if not stage.of_one_stream}
        if FAILED not in states and any(stage.state == READY for stage in self._keeper.of_kind(Inference)):
            states -= {stage.state for stage in self._keeper.of_kind(Inference)} - {READY}
        if FAILED in states:
            return "DEGRADED"
        if states == {FINISHED}:
            return "FINISHED"
        if self._draining_since is not None:
            return "DRAINING"
        if STARTING in states or BACKOFF in states:
            return "LOADING"
        return "OK"

    def _is_finished(self, kind: type[Stage]) -> bool:
        return all(stage.state == FINISHED for stage in self._keeper.of_kind(kind))
