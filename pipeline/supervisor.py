"""Starts the stages, hears of their deaths, takes back what they held, starts them again, and stops them in order.

It does no work of the stages' own, so it never dies of it. What outlives a stage is in `wiring`.
"""

import collections
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Protocol

import msgspec
import zmq

from pipeline.memory.stage_stats import Span, Word
from pipeline.messages import (
    Abandon,
    Drain,
    Event,
    Finished,
    PeerRestarted,
    Ready,
    Refused,
    Status,
    StatusRequest,
    ToLauncher,
    ToWorker,
)
from pipeline.stage_process import StageProcess
from pipeline.supervised_stage import BACKOFF, FAILED, FINISHED, READY, STARTING, SupervisedStage
from pipeline.topology import SPINE, Decode, Egress, Ingress, Publisher, Recorder, Stage, Topology
from pipeline.wiring import Wiring
from pipeline.worker import EXIT_REFUSED

TICK_SECONDS = 0.25
SAMPLE_SECONDS = 1.0


class Display(Protocol):
    """Where a person sees what goes on."""

    def event(self, level: str, stage: str, name: str, fields: dict[str, str | int | float]) -> None: ...

    def output(self, stage: str, line: str) -> None: ...

    def show(self, status: Status) -> None: ...


class Supervisor:
    """Runs one topology. `run` returns when every stage is over or a person has stopped it."""

    def __init__(self, topology: Topology, wiring: Wiring, display: Display) -> None:
        self._topology = topology
        self._wiring = wiring
        self._display = display
        self._stages = {
            name: SupervisedStage(name, topology.stages.get(name), topology, wiring.stats[name])
            for name in wiring.stage_names()
        }
        self._began = time.monotonic()
        self._signals: collections.deque[int] = collections.deque()
        self._draining_since: float | None = None
        self._forced = False
        self._sampled = self._began
        self._wake_read = -1
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control = self._zmq.socket(zmq.ROUTER)
        self._control.set(zmq.LINGER, 500)
        self._poller = zmq.Poller()
        self._decoder: msgspec.msgpack.Decoder[ToLauncher] = msgspec.msgpack.Decoder(ToLauncher)

    def run(self) -> None:
        self._control.bind(self._wiring.control_endpoint)
        self._poller.register(self._control, zmq.POLLIN)
        with self._noting_signals():
            try:
                while not self._done():
                    self._revive()
                    self._wait()
                    self._hear()
                    self._reap()
                    self._handle_signals()
                    self._watch()
                    self._settle()
                    self._sample()
            finally:
                self._stop_everything()

    @property
    def refused(self) -> bool:
        """Whether a stage could not work as configured."""
        return any(stage.refused for stage in self._stages.values())

    @property
    def failed(self) -> list[str]:
        """The reasons of the stages that are FAILED; empty when all went well."""
        return [f"{s.name}: {s.reason}" for s in self._stages.values() if s.state == FAILED]

    def status(self) -> Status:
        (egress,) = self._of_kind(Egress)
        frames = self._wiring.frame_count()
        span_ns = egress.stats[Word.LAST_OUT_NS] - egress.stats[Word.FIRST_OUT_NS]
        return Status(
            pipeline=self._topology.name,
            state=self._state(),
            reasons=self.failed,
            uptime_s=time.monotonic() - self._began,
            stages=[stage.status() for stage in self._stages.values()],
            links=self._wiring.link_status(),
            frames=frames,
            fps=(frames.delivered - 1) / span_ns * 1e9 if span_ns > 0 else 0.0,
            end_to_end_ms=egress.stats.p50_p95_ms(Span.END_TO_END),
        )

    # The loop, in its order.

    def _done(self) -> bool:
        """When all stages are over. Services end after them."""
        return self._forced or all(stage.over for stage in self._stages.values() if not stage.is_service)

    def _revive(self) -> None:
        now = time.monotonic()
        for stage in self._stages.values():
            if stage.state == BACKOFF and now >= stage.revive_at and self._may_start(stage):
                self._start(stage)

    def _wait(self) -> None:
        waiting = (s for s in self._stages.values() if s.state == BACKOFF and self._may_start(s))
        soonest = min((stage.revive_at for stage in waiting), default=float("inf"))
        seconds = min(TICK_SECONDS, max(0.0, soonest - time.monotonic()))
        self._poller.poll(max(1, int(seconds * 1000)))

    def _hear(self) -> None:
        """Take in every message that has come, and whatever the workers printed."""
        with contextlib.suppress(zmq.Again):
            while True:
                sender, message = self._control.recv_multipart(zmq.NOBLOCK)
                self._heard(sender, message)
        for stage in self._stages.values():
            if stage.process is not None:
                self._show_output(stage)

    def _reap(self) -> None:
        """A readable pidfd means a death."""
        dead = {fd for fd, _ in self._poller.poll(0)}
        for stage in self._stages.values():
            if stage.process is not None and stage.process.pidfd in dead:
                self._hear()  # Its last words came before its death.
                self._bury(stage)

    def _handle_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._signals:
            number = self._signals.popleft()
            if self._draining_since is None:
                self._event("info", "launcher", "draining", signal=signal.Signals(number).name)
                self._drain()
            else:
                self._event("warning", "launcher", "forced", signal=signal.Signals(number).name)
                self._forced = True

    def _watch(self) -> None:
        """Kill what shows no life. Its death is then reaped like any other: nothing is reclaimed before."""
        now_ns = time.monotonic_ns()
        for stage in self._stages.values():
            if stage.process is not None and (guilt := stage.hang(now_ns)):
                self._event("error", stage.name, "hanging", reason=guilt)
                stage.process.kill()
        if self._draining_since is not None and time.monotonic() - self._draining_since > self._topology.limits.drain:
            self._event("warning", "launcher", "drain_timeout", seconds=self._topology.limits.drain)
            self._forced = True

    def _settle(self) -> None:
        """Once the input is at its end, speak for those who failed for good: nothing more will come from them."""
        if self._draining_since is None and not self._is_finished(Ingress):
            return
        for stage in self._stages.values():
            if stage.state == FAILED and not stage.settled:
                stage.settled = True
                self._abandon_before(stage)
                self._wiring.end_output(stage.name)
                spec = self._topology.stages.get(stage.name)
                for kind, behind in ((Ingress, Decode), (Egress, Recorder)):
                    if isinstance(spec, kind):
                        self._tell_all(behind, Drain())

    def _abandon_before(self, failed: SupervisedStage) -> None:
        """Tell the stages in front of a failed one that nobody takes what they hand on."""
        for position, kind in enumerate(SPINE):
            if failed in self._of_kind(kind):
                for before in SPINE[:position]:
                    self._tell_all(before, Abandon())

    def _sample(self) -> None:
        now = time.monotonic()
        if now - self._sampled < SAMPLE_SECONDS:
            return
        for stage in self._stages.values():
            stage.sample_usage(now - self._sampled)
        self._sampled = now
        self._display.show(self.status())

    # What can happen to a stage.

    def _may_start(self, stage: SupervisedStage) -> bool:
        """A publisher waits until everybody is there to see what it plays; nothing else waits for anything."""
        if self._draining_since is not None:
            return False
        if not isinstance(self._topology.stages.get(stage.name), Publisher):
            return True
        waited_for = (s for s in self._stages.values() if s.worker != stage.worker)
        return all(other.state == READY or other.over for other in waited_for)

    def _start(self, stage: SupervisedStage) -> None:
        stage.incarnation += 1
        stage.state, stage.started, stage.finished = STARTING, time.monotonic(), False
        stage.stats.clear_life()
        boot = self._wiring.boot(stage.name, stage.incarnation)
        try:
            stage.process = StageProcess(boot, stage.worker, self._wiring.inherited_fds(boot))
        except OSError as error:
            python = boot.spec.python if boot.spec else None
            self._fail(stage, f"cannot start {python or 'python'}: {error.strerror}; see stages.{stage.name}.python")
            return
        self._poller.register(stage.process.pidfd, zmq.POLLIN)
        self._poller.register(stage.process.output_fd, zmq.POLLIN)
        self._event("info", stage.name, "started", pid=stage.process.pid, incarnation=stage.incarnation)

    def _heard(self, sender: bytes, data: bytes) -> None:
        try:
            message = self._decoder.decode(data)
        except msgspec.DecodeError as error:
            self._event("warning", "launcher", "bad_message", sender=sender.hex(), problem=str(error))
            return
        match message:
            case StatusRequest():
                self._send(sender, self.status())
            case Event():
                self._event(message.level, message.stage, message.name, **message.fields)
            case Ready() | Finished() | Refused():
                stage = self._stages.get(message.stage)
                if stage is not None and stage.incarnation == message.incarnation:
                    self._stage_said(stage, message)

    def _stage_said(self, stage: SupervisedStage, message: Ready | Finished | Refused) -> None:
        match message:
            case Ready():
                stage.state = READY
                took = time.monotonic() - stage.started
                self._event("info", stage.name, "ready", seconds=round(took, 3), detail=message.detail)
                if self._draining_since is not None:
                    self._tell(stage, Drain())
            case Finished():
                stage.finished = True
            case Refused():
                stage.refused = True
                stage.reason = message.reason

    def _bury(self, stage: SupervisedStage) -> None:
        """Reap a dead process, take back what it held, and decide what becomes of the stage."""
        code, last = self._reap_one(stage)
        if stage.finished:  # Everything was handed on; how it left after that loses nothing.
            stage.state = FINISHED
            self._event("info", stage.name, "finished", how=_how(code) if code else "")
            return
        reclaimed = self._wiring.reclaim(stage.name)
        self._event("error", stage.name, "died", how=_how(code), last_line=last, **reclaimed)
        if stage.refused or code == EXIT_REFUSED:
            self._fail(stage, stage.reason or last)
        elif self._draining_since is not None:
            self._fail(stage, f"died while draining: {_how(code)}")
        else:
            self._schedule_restart(stage, _how(code))

    def _reap_one(self, stage: SupervisedStage) -> tuple[int, str]:
        """Wait for a process that is dead or dying and let go of it. Returns its exit code and the last it printed."""
        process = stage.process
        assert process is not None
        stage.account()
        code = process.wait()
        self._show_output(stage)
        self._ignore(process.pidfd)
        self._ignore(process.output_fd)
        process.close()
        stage.process = None
        return code, process.last_lines[-1] if process.last_lines else ""

    def _schedule_restart(self, stage: SupervisedStage, how: str) -> None:
        now = time.monotonic()
        backoff = stage.next_backoff(now)
        if backoff is None:
            restart = stage.restart
            self._fail(stage, f"{how}; {restart.max_restarts} restarts in {restart.window:g} s used up")
            return
        stage.state, stage.revive_at = BACKOFF, now + backoff
        for other in self._stages.values():
            if other is not stage and other.process is not None:
                self._tell(other, PeerRestarted(stage.name, stage.worker))

    def _fail(self, stage: SupervisedStage, reason: str) -> None:
        stage.state, stage.reason = FAILED, reason
        self._event("error", stage.name, "failed", reason=reason)
        if stage.refused and self._draining_since is None:
            self._drain()  # It was configured wrongly; going on would only hide that.

    # Stopping.

    def _drain(self) -> None:
        """No new input; what is in the pipeline comes out; then each stage finishes after the one before it."""
        self._draining_since = time.monotonic()
        for stage in self._stages.values():
            if stage.state == BACKOFF:
                stage.state = FINISHED if not stage.incarnation else FAILED
                stage.reason = "was being restarted when the pipeline stopped"
        for kind in (Publisher, Ingress):
            self._tell_all(kind, Drain())

    def _stop_everything(self) -> None:
        """Services last: whoever reads the output still gets its end."""
        services = [stage for stage in self._stages.values() if stage.is_service and stage.process is not None]
        if not self._forced:
            for stage in services:
                self._tell(stage, Drain())
            self._draining_since = self._draining_since or time.monotonic()  # Nothing is started again from here on.
            deadline = time.monotonic() + self._topology.limits.drain
            while any(stage.process for stage in services) and time.monotonic() < deadline:
                self._poller.poll(int(TICK_SECONDS * 1000))
                self._hear()
                self._reap()
        for stage in self._stages.values():
            if stage.process is not None:
                stage.process.kill()
                self._reap_one(stage)
                self._wiring.reclaim(stage.name)
                stage.state, stage.reason = FAILED, "killed: it did not stop in time"
        self._wiring.abandon()
        self._zmq.destroy(linger=500)

    # Small things.

    def _state(self) -> str:
        states = {stage.state for stage in self._stages.values()}
        if FAILED in states:
            return "DEGRADED"
        if states == {FINISHED}:
            return "FINISHED"
        if self._draining_since is not None:
            return "DRAINING"
        if STARTING in states or BACKOFF in states:
            return "LOADING"
        return "OK"

    def _of_kind(self, kind: type[Stage]) -> list[SupervisedStage]:
        return [self._stages[name] for name, spec in self._topology.stages.items() if isinstance(spec, kind)]

    def _is_finished(self, kind: type[Stage]) -> bool:
        return all(stage.state == FINISHED for stage in self._of_kind(kind))

    def _show_output(self, stage: SupervisedStage) -> None:
        assert stage.process is not None
        for line in stage.process.lines():
            self._display.output(stage.name, line)
        if stage.process.output_ended:
            self._ignore(stage.process.output_fd)

    def _ignore(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._poller.unregister(fd)

    def _event(self, level: str, source: str, name: str, **fields: str | int | float) -> None:
        self._display.event(level, source, name, fields)

    def _tell_all(self, kind: type[Stage], order: ToWorker) -> None:
        for stage in self._of_kind(kind):
            self._tell(stage, order)

    def _tell(self, stage: SupervisedStage, order: ToWorker) -> None:
        self._send(f"{stage.name}#{stage.incarnation}".encode(), order)

    def _send(self, receiver: bytes, message: ToWorker | Status) -> None:
        with contextlib.suppress(zmq.ZMQError):  # The receiver may be gone; its death is noticed elsewhere.
            self._control.send_multipart((receiver, msgspec.msgpack.encode(message)), zmq.NOBLOCK)

    @contextlib.contextmanager
    def _noting_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM are noted and wake the loop; nothing happens inside a handler."""
        self._wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poller.register(self._wake_read, zmq.POLLIN)
        before_fd = signal.set_wakeup_fd(wake_write)
        before = {n: signal.signal(n, self._note_signal) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before_fd)
            os.close(self._wake_read)
            os.close(wake_write)

    def _note_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
