"""Keeps the stages' processes: starts them, gives the links to the one whose turn it is, sees them die, takes back what
they held, starts them again.

When to stop, and what people are told, is the supervisor's.
"""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable
from typing import Protocol

import psutil
import zmq

from pipeline.link import FrameLink
from pipeline.memory.stage_stats import Word
from pipeline.messages import (
    UNASKED,
    Activate,
    Drain,
    EventLevel,
    Finished,
    PeerRestarted,
    Ready,
    Record,
    Refused,
    SetLogLevel,
    StreamHandedOn,
    ToWorker,
    Update,
)
from pipeline.stage_output import Line
from pipeline.stage_process import StageProcess
from pipeline.supervised_stage import FAILED, FINISHED, READY, Life, SupervisedStage
from pipeline.switchboard import Switchboard
from pipeline.topology import Inference, Publisher, Stage
from pipeline.wiring import Wiring
from pipeline.worker import EXIT_REFUSED
from pipeline.worker_boots import inherited_fds, worker_boot

STAND_IN = "passthrough"
"""The worker that passes frames through while inference is away."""

LAST_WORDS_SECONDS = 0.25
"""How long the last words of a process that left well may still be on their way. What it says can be done without."""

TOLD_LINES, TOLD_CHARACTERS = 8, 2000
"""Of what a process printed last, told with its death."""

_NOT_A_PROGRAM = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC)


class Announce(Protocol):
    """Tells people of an event: how bad, whose, which, and its fields."""

    def __call__(self, level: EventLevel, source: str, name: str, /, **fields: str | int | float) -> None: ...


class Keeper:
    def __init__(
        self,
        wiring: Wiring,
        switchboard: Switchboard,
        poller: zmq.Poller,
        announce: Announce,
        show_line: Callable[[str, Line], None],
    ) -> None:
        """`show_line` gets each line that a worker prints, after its stage's name. What has to wake the launcher's loop
        is registered with `poller`."""
        self.stages = {
            name: SupervisedStage(name, wiring.file_name(name), wiring.topology, wiring.stats[name])
            for name in wiring.stage_names()
        }
        self.stopping = False
        """Nothing is started any more; set by the supervisor."""
        self._wiring = wiring
        self._switchboard = switchboard
        self._poller = poller
        self._announce = announce
        self._show_line = show_line
        self._renewals: dict[tuple[str, int], Callable[[str], None]] = {}
        self._skimmed: set[int] = set()  # bells that the launcher hears in the place of a reader that is away

    # In the order of the loop.

    def revive(self) -> None:
        """Start what should be there and is not."""
        now = time.monotonic()
        for stage in self.stages.values():
            if now >= stage.revive_at and self._may_start(stage) and (stands_in := stage.wants()) is not None:
                self._start(stage, stands_in=stands_in)

    def seconds_to_revival(self) -> float:
        """Until `revive` has something to do; infinite when it has not."""
        waiting = (
            stage.revive_at for stage in self.stages.values() if stage.wants() is not None and self._may_start(stage)
        )
        return max(0.0, min(waiting, default=float("inf")) - time.monotonic())

    def show_output(self) -> None:
        """Hand on what the workers printed."""
        for stage in self.stages.values():
            for life in stage.lives:
                self._show_output(stage, life)

    def heard(self, message: Ready | Finished | StreamHandedOn | Refused) -> None:
        """A process has something to say of itself."""
        stage = self.stages.get(message.stage)
        life = stage.life(message.incarnation) if stage else None
        if stage is None or life is None:
            return
        match message:
            case Ready():
                life.ready = True
                stage.has_loaded |= stage.takes_turns and not life.stands_in
                life.parameters = message.parameters
                took = round(time.monotonic() - life.started, 3)
                self._announce("info", stage.name, "ready", seconds=took, detail=message.detail, role=_role(life))
                if (level := self._wiring.topology.logs.level_of(stage.name)) != life.process.boot.log_level:
                    self._switchboard.send(life.process.boot.identity, SetLogLevel(level))  # Changed while it loaded.
                tap = life.process.boot.tap
                if tap is not None and tap.recording != (recording := self._wiring.recording_by(stage.name)):
                    self._switchboard.send(life.process.boot.identity, Record(recording))
                if stage.takes_turns:
                    self._bring_up_to_date(stage, life)
                    self._take_turns(stage)
                if self.stopping or stage.ending:
                    self.tell(stage, Drain())
            case Finished():
                life.has_spoken = True
                stage.farewell = message.reason
            case StreamHandedOn():
                life.through[message.lane] = message.epoch
            case Refused():
                life.refusal = message.reason

    def reap(self, hear: Callable[[], None]) -> None:
        """Bury the dead: a readable pidfd means a death. `hear` takes in the last words, which came before it."""
        dead = {fd for fd, _ in self._poller.poll(0)}
        for stage in self.stages.values():
            for life in list(stage.lives):
                if life.process.pidfd in dead:
                    hear()
                    if life.process.left_well():
                        self._await_last_words(life, hear)
                    if life in stage.lives:
                        self._bury(stage, life)

    def skim(self) -> None:
        """Take the place of a reader of the newest frame that is away."""
        for stage in self.stages.values():
            for link in self._wiring.newest_only_links(stage.name):
                self._skim(link, is_away=stage.active is None)

    def _skim(self, link: FrameLink, *, is_away: bool) -> None:
        bell = link.boot.ready_fd
        if is_away and bell not in self._skimmed:
            self._poller.register(bell, zmq.POLLIN)
            self._skimmed.add(bell)
        elif not is_away and bell in self._skimmed:
            self._ignore(bell)
            self._skimmed.discard(bell)
        if is_away:
            link.skim()

    def watch(self) -> None:
        """Time those that come back, and kill what shows no life. Its death is then reaped like any other: nothing is
        reclaimed before."""
        now_ns = time.monotonic_ns()
        for stage in self.stages.values():
            stage.time_recovery(now_ns)
            for life in stage.lives:
                if life.guilt is None and (guilt := life.hang(stage.limits, now_ns)):
                    life.guilt = guilt
                    self._announce("error", stage.name, "hanging", pid=life.process.pid, reason=guilt)
                    life.process.kill()

    def reap_orphans(self) -> None:
        """Take away dead processes that are nobody's: what a stage's processes left behind comes to the launcher, which
        is the reaper of all below it, and process 1 in a container."""
        ours = {life.process.pid for stage in self.stages.values() for life in stage.lives}
        ours |= self._wiring.frame_memory.pids
        with contextlib.suppress(ChildProcessError):
            while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if dead.si_pid in ours:
                    return  # Its turn comes first.
                os.waitpid(dead.si_pid, 0)

    # At somebody's request.

    def restart(self, stage: SupervisedStage, *, spares_too: bool = False) -> None:
        """A fresh budget, and a new process in the place of the one at work, or of all that there are."""
        self._announce("info", stage.name, "restart_requested", state=stage.state)
        stage.forgive()
        for life in stage.lives:
            if not life.stands_in and (life is stage.active or not life.ready or spares_too):
                self.replace(life)

    def renew(self, stage: SupervisedStage, tell: Callable[[str], None]) -> None:
        """Have a process with what the topology says now loaded beside the one at work, take over when it is ready, and
        leave things as they are when it cannot be. `tell` is called then, with the problem, empty when there is none.
        The stage must have a process at work, and gets a fresh budget."""
        stage.forgive()
        stage.generation += 1
        self._renewals[stage.name, stage.generation] = tell
        self._announce("info", stage.name, "renewing", state=stage.state)

    def replace(self, life: Life) -> None:
        """End a process that is not to blame for anything, and start another in its place."""
        life.asked_for = True
        life.process.kill()

    def end(self, stage: SupervisedStage, reason: str) -> None:
        """Kill what there is of a stage that is to be over, and is not."""
        if not stage.over:
            stage.outcome, stage.reason = FAILED, reason
        for life in list(stage.lives):
            self._end(stage, life)

    def tell(self, stage: SupervisedStage, order: ToWorker) -> None:
        for life in stage.lives:
            self._switchboard.send(life.process.boot.identity, order)

    def tell_all(self, kind: type[Stage], order: ToWorker) -> None:
        for stage in self.of_kind(kind):
            self.tell(stage, order)

    def kill_all(self) -> None:
        """End whatever still lives, strays that left their stage's group too, and take back what it held."""
        for stage in self.stages.values():
            self._renewed(stage, stage.generation, "the pipeline is at its end")
            for life in list(stage.lives):
                if life is stage.active:
                    stage.outcome, stage.reason = FAILED, "killed: it did not stop in time"
                self._end(stage, life)
        for stray in psutil.Process().children(recursive=True):
            if stray.pid not in self._wiring.frame_memory.pids:
                with contextlib.suppress(psutil.Error):
                    stray.kill()
        self.reap_orphans()

    def of_kind(self, kind: type[Stage]) -> list[SupervisedStage]:
        return [stage for name, stage in self.stages.items() if isinstance(self._wiring.file_spec(name), kind)]

    # What happens to a stage.

    def _may_start(self, stage: SupervisedStage) -> bool:
        """A publisher waits until everybody is there to see what it plays; nothing else waits for anything."""
        if self.stopping:
            return False
        if not isinstance(self._wiring.file_spec(stage.name), Publisher):
            return True
        waited_for = (s for s in self.stages.values() if s.worker != stage.worker and not s.idle)
        return all(other.state == READY or other.over for other in waited_for)

    def _start(self, stage: SupervisedStage, *, stands_in: bool) -> None:
        stage.incarnation += 1
        seat = stage.free_seat()
        stats = stage.stats.seats[seat]
        stats.clear_life()
        boot = worker_boot(self._wiring, stage.name, stage.incarnation, seat)
        worker = STAND_IN if stands_in else stage.worker
        try:
            process = StageProcess(boot, worker, inherited_fds(boot))
        except OSError as error:
            self._could_not_start(stage, boot.spec.python if boot.spec else None, error)
            return
        life = Life(process, stats, stage.generation, stands_in=stands_in)
        stage.lives.append(life)
        if not stage.takes_turns:
            stage.active = life
        self._poller.register(process.pidfd, zmq.POLLIN)
        self._poller.register(process.output.fd, zmq.POLLIN)
        self._announce("info", stage.name, "started", pid=process.pid, incarnation=stage.incarnation, role=_role(life))

    def _could_not_start(self, stage: SupervisedStage, python: str | None, error: OSError) -> None:
        """An interpreter that is not there is a mistake in the topology; whatever else the system lacks may pass."""
        if python is not None and error.errno in _NOT_A_PROGRAM:
            reason = f"cannot start {python}: {error.strerror}; see {self._wiring.section(stage.name)}.python"
            stage.refused = stage.is_new
            self._give_up(stage, reason)
        else:
            self._announce("error", stage.name, "not_started", reason=str(error.strerror))
            self._schedule_restart(stage, f"cannot be started: {error.strerror}")

    def _bring_up_to_date(self, stage: SupervisedStage, life: Life) -> None:
        """While it loaded, the parameters may have changed, and another stream may have begun, or been paused."""
        for lane, told in zip(self._wiring.lanes_of(stage.name), life.process.boot.lanes, strict=True):
            if (told.epoch, told.params) != (lane.epoch, lane.params):
                self._switchboard.send(life.process.boot.identity, lane.begin)
            if told.pause != lane.pause:
                self._switchboard.send(life.process.boot.identity, lane.set_pause)
        spec = self._wiring.spec(stage.name)
        if not life.stands_in and life.process.boot.spec != spec and isinstance(spec, Inference):
            self._switchboard.send(life.process.boot.identity, Update(UNASKED, spec.processor.params))

    def _take_turns(self, stage: SupervisedStage) -> None:
        """See that the best process that is ready has the links."""
        best = stage.next_active()
        if best is None or stage.outcome == FINISHED:
            return
        if stage.active is not None:
            better = stage.active.stands_in or best.generation > stage.active.generation
            if not better or best.stands_in or self.stopping:
                return
            self._announce("info", stage.name, "stands_down", pid=stage.active.process.pid)
            self._end(stage, stage.active)
        stage.active = best
        self._switchboard.send(best.process.boot.identity, Activate())
        self._announce("info", stage.name, "active", pid=best.process.pid, role=_role(best))
        if not best.stands_in:
            self._retire_older(stage, best)

    def _retire_older(self, stage: SupervisedStage, best: Life) -> None:
        """What waited to take over is not wanted any more once something newer is at work."""
        for life in [life for life in stage.mains if life.generation < best.generation]:
            self._end(stage, life)
        self._renewed(stage, best.generation, "")

    def _renewed(self, stage: SupervisedStage, generation: int, problem: str) -> None:
        """Tell whoever asked for this generation what became of it."""
        tell = self._renewals.pop((stage.name, generation), None)
        if tell is not None:
            tell(problem)

    def _give_up_renewal(self, stage: SupervisedStage, problem: str) -> None:
        """The new process cannot do it; the old one goes on."""
        self._announce("error", stage.name, "renewal_failed", reason=problem)
        self._renewed(stage, stage.generation, problem)
        stage.generation -= 1
        if stage.exhausted and not stage.mains:  # The old one died meanwhile.
            self._fail(stage, problem)

    def _bury(self, stage: SupervisedStage, life: Life) -> None:
        """Reap a dead process, take back what it held, and decide what becomes of the stage."""
        was_active, stopping = life is stage.active, self.stopping or stage.ending
        code, lines = self._let_go(stage, life)
        last = lines[-1] if lines else ""
        has_ended = life.finished and (self.stopping or not stage.is_service)  # Services end with the pipeline.
        if has_ended and was_active:  # Everything was handed on; how it left after that loses nothing.
            self._finish(stage, code)
            return
        reclaimed: dict[str, int] = {}
        if was_active:
            stage.recovery.lost(time.monotonic_ns(), stage.stats[Word.LAST_OUT_NS])
            reclaimed = self._wiring.reclaim(stage.name, to_blame=not life.asked_for)
            if stage.takes_turns:
                self._take_turns(stage)
            self._tell_neighbours(stage)
        how = _how(code) + (f" ({life.guilt})" if life.guilt else "")
        stage.last_death = how
        self._announce("error", stage.name, "died", how=how, role=_role(life), last_lines=_joined(lines), **reclaimed)
        if not was_active and (stage.name, life.generation) in self._renewals:
            self._give_up_renewal(stage, life.refusal or last or how)
        elif life.asked_for and not stopping:
            stage.restarts += 1
        elif life.refusal is not None or code == EXIT_REFUSED:
            stage.refused = stage.is_new and not life.stands_in
            self._give_up(stage, life.refusal or last, life)
        elif stopping:
            self._give_up(stage, f"died while draining: {how}", life)
        else:
            self._schedule_restart(stage, how, life)

    def _await_last_words(self, life: Life, hear: Callable[[], None]) -> None:
        """Others talk at the same time, above all at the end of a stream."""
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        while not life.has_spoken and (seconds := deadline - time.monotonic()) > 0:
            self._switchboard.socket.poll(max(1, int(seconds * 1000)))
            hear()

    def _finish(self, stage: SupervisedStage, code: int) -> None:
        """The stage has handed on everything it had; those that waited to take over are not needed any more."""
        stage.outcome = stage.outcome or FINISHED
        for other in list(stage.lives):
            self._end(stage, other)
        self._renewed(stage, stage.generation, "the pipeline is at its end")
        self._announce("info", stage.name, "finished", how=_how(code) if code else "")

    def _let_go(self, stage: SupervisedStage, life: Life) -> tuple[int, list[str]]:
        """Wait for a process that is dead or dying and let go of it. Returns its exit code and the last it printed."""
        process = life.process
        stage.bury(life)
        code = process.wait()
        self._show_output(stage, life)
        self._ignore(process.pidfd)
        self._ignore(process.output.fd)
        process.close()
        return code, list(process.output.last_lines)

    def _end(self, stage: SupervisedStage, life: Life) -> None:
        """Kill a process that is not to blame for anything, and take back what it held."""
        was_active = life is stage.active
        life.process.kill()
        self._let_go(stage, life)
        if was_active:
            self._wiring.reclaim(stage.name, to_blame=False)

    def _schedule_restart(self, stage: SupervisedStage, how: str, life: Life | None = None) -> None:
        now = time.monotonic()
        backoff = None if stage.exhausted else stage.next_backoff(now)
        if backoff is None:
            restart = stage.restart
            self._give_up(stage, f"{how}; {restart.max_restarts} restarts in {restart.window:g} s used up", life)
            return
        stage.restarts += 1
        stage.revive_at = now + backoff

    def _give_up(self, stage: SupervisedStage, reason: str, life: Life | None = None) -> None:
        """Start no process in the place of `life` any more. The stage has failed once none that could do its work is
        left; while one is, it goes on without spares."""
        if life is not None and life.stands_in:
            stage.no_stand_in = True
            self._announce("error", stage.name, "stand_in_given_up", reason=reason)
        elif stage.active is not None and not stage.active.stands_in:
            stage.no_spares = True
            self._announce("error", stage.name, "spares_given_up", reason=reason)
        else:
            stage.exhausted = True
            if not stage.mains:
                self._fail(stage, reason)

    def _fail(self, stage: SupervisedStage, reason: str) -> None:
        stage.outcome, stage.reason = FAILED, reason
        self._announce("error", stage.name, "failed", reason=reason)

    def _tell_neighbours(self, stage: SupervisedStage) -> None:
        """What the dead process held was reclaimed: the others look at the tables, those of other streams aside."""
        lanes = self._wiring.lanes_of(stage.name)
        for other in self.stages.values():
            of_other = self._wiring.lanes_of(other.name)
            of_others = lanes and of_other and not any(lane in lanes for lane in of_other)
            if other is not stage and not of_others:
                self.tell(other, PeerRestarted(stage.name, stage.worker))

    def _show_output(self, stage: SupervisedStage, life: Life) -> None:
        output, now = life.process.output, time.monotonic()
        for line in output.lines(now):
            self._show_line(stage.name, line)
        if unshown := output.take_unshown(now):
            self._announce("warning", stage.name, "output_not_shown", lines=unshown)
        if output.ended:
            self._ignore(output.fd)

    def _ignore(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._poller.unregister(fd)


def _role(life: Life) -> str:
    """For the log; empty for the usual case."""
    return "stand-in" if life.stands_in else ""


def _joined(lines: list[str]) -> str:
    """The last of them, for the log: what a process said of its own death is at their end."""
    return "\n".join(lines[-TOLD_LINES:])[-TOLD_CHARACTERS:]


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
