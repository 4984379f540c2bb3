"""A stream on request on its lane: opened once inference waits for it, watched, stopped, and everything given back.

The lane's ingress, decode and egress live as long as the stream does; their processes are the keeper's. Between two
streams inference leaves the lane's links alone: whatever is done to them here, is done then, or while no process of
inference is at work. Who may start one, and what is said of those that are over, is `stream_keeper`'s.
"""

import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

from pipeline.keeper import Keeper
from pipeline.lane import Lane
from pipeline.messages import Abandon, Answer, Drain, SetPause
from pipeline.processor_changes import DIED, ProcessorChanges
from pipeline.running_stream import RunningStream
from pipeline.status import StreamSpec, StreamStatus
from pipeline.supervised_stage import FAILED, FINISHED, NOTHING_YET, Life, SupervisedStage
from pipeline.switchboard import Switchboard
from pipeline.wiring import Wiring

NOT_IN_TIME = "killed: it did not stop in time"


class Tell(Protocol):
    """Tells people of an event in a stream's life."""

    def __call__(
        self, level: Literal["info", "warning", "error"], spec: StreamSpec, name: str, /, **fields: str | int | float
    ) -> None: ...


class StreamLane:
    def __init__(
        self,
        lane: Lane,
        wiring: Wiring,
        keeper: Keeper,
        switchboard: Switchboard,
        changes: ProcessorChanges,
        tell: Tell,
        bury: Callable[[StreamStatus], None],
        is_needed: Callable[[SupervisedStage], bool],
    ) -> None:
        """`bury` is given the last that is said of each stream. While its inference `is_needed` by another one, it is
        not ended for this one's sake."""
        self.lane = lane
        self.stream: RunningStream | None = None
        self.inference = keeper.stages[lane.inference]
        """The stage that serves it."""
        self._wiring = wiring
        self._keeper = keeper
        self._switchboard = switchboard
        self._changes = changes
        self._tell = tell
        self._bury = bury
        self._is_needed = is_needed
        self._ingress, self._decode, self._egress = self._stages = tuple(keeper.stages[name] for name in lane.stages)

    @property
    def runs(self) -> bool:
        """Whether there is a stream that is not being stopped."""
        return self.stream is not None and self.stream.stopping_since is None

    @property
    def is_open(self) -> bool:
        """Whether the stream has the lane's links and stages."""
        return self.stream is not None and self.stream.opened

    @property
    def is_hurried(self) -> bool:
        """Whether the launcher takes the place of an egress that is gone."""
        return self.stream is not None and self.stream.stopping_since is not None and self._egress.over

    def status(self) -> StreamStatus | None:
        """Of the stream; None without one."""
        if self.stream is None:
            return None
        return self.stream.status(self.lane.frame_count(), self.lane)

    def start(self, spec: StreamSpec) -> None:
        """Begin a stream. There must be none."""
        self.stream = RunningStream(spec, self.lane.frame_count(), self._decode.stats, self._egress.stats)
        self._tell("info", spec, "stream_started", source=spec.subscribe_url, sink=spec.publish_url)

    def stop(self, sender: bytes) -> None:
        """Stop the stream; whoever asks is answered when it is over."""
        assert self.stream is not None
        self.stream.waiting.append(sender)
        self.cut("ENDED", "stopped on request")

    def go_on(self) -> None:
        """See to what follows from the state that the stream's stages are in."""
        stream = self.stream
        if stream is None:
            return
        if not stream.opened and stream.stopping_since is None:
            self._prepare(stream)
        elif not stream.opened:
            self._give_back(stream)
        else:
            self._watch(stream)
            if stream.stopping_since is not None:
                self._see_to_its_end(stream, stream.stopping_since)

    def cut(self, outcome: Literal["ENDED", "FAILED"], reason: str) -> None:
        """Begin to stop the stream: no new input, what is under way comes out, and no stage is started again."""
        stream = self.stream
        if stream is None or stream.is_cut:
            return
        if stream.stopping_since is None or outcome == "FAILED":
            stream.outcome, stream.reason = outcome, reason
        stream.is_cut, stream.state = True, "STOPPING"
        stream.stopping_since = stream.stopping_since or time.monotonic()
        if not stream.opened:
            return
        for stage in self._stages:
            stage.ending = True
            if stage.outcome is None and not stage.lives:
                stage.outcome, stage.reason = FAILED, "was being restarted when the stream stopped"
        self._keeper.tell(self._ingress, Drain())

    def give_up(self) -> str:
        """Every process is gone. Returns what is to be said of a stream that could not be stopped in time, if any."""
        if self.stream is None:
            return ""
        self.stream.outcome, self.stream.reason = "FAILED", NOT_IN_TIME
        name = self.stream.spec.stream
        self._give_back(self.stream)
        return f"stream {name}: {NOT_IN_TIME}"

    def close(self) -> None:
        """No stream will come any more."""
        for stage in self._stages:
            stage.outcome, stage.idle = FINISHED, False

    def _prepare(self, stream: RunningStream) -> None:
        """Open it once inference is through with the one before and has said that it takes its parameters. A stream
        without any does not wait for a processor that is still loading."""
        life = self._at_work()
        if self.inference.over:
            self.cut("FAILED", f"{self.inference.name}: {self.inference.reason}")
        elif not self._inference_waits():
            return
        elif stream.params_agreed:
            self._open(stream)
        elif life is not None and not stream.asked_for_params:
            stream.asked_for_params = True
            self._changes.try_for(
                self.lane, stream.spec.stream, life, stream.spec.params, lambda *answer: self._heard(stream, *answer)
            )

    def _heard(self, stream: RunningStream, problem: str, params: dict[str, Any]) -> None:
        """What the processor says to the stream's parameters."""
        if stream is not self.stream:
            return  # It was stopped before.
        if problem == DIED and not stream.asked_again:
            stream.asked_again, stream.asked_for_params = True, False  # It may have died of another stream's frame.
        elif problem:
            self.cut("FAILED", f"params: {problem}")
        else:
            stream.params, stream.params_agreed = params, True

    def _open(self, stream: RunningStream) -> None:
        self.lane.params = stream.params
        self._wiring.open_stream(self.lane, stream.spec)
        self._keeper.tell(self.inference, self.lane.begin)
        for stage in self._stages:
            stage.begin_stream()
        stream.opened_ns = time.monotonic_ns()

    def _watch(self, stream: RunningStream) -> None:
        if stream.state == "STARTING" and stream.first_out_ns:
            stream.state = "ONLINE"
            status = stream.status(self.lane.frame_count(), self.lane)
            self._tell("info", stream.spec, "stream_online", first_out_ms=status.first_out_ms or 0.0)
        if self.inference.over and not stream.is_cut:
            self.cut("FAILED", f"{self.inference.name}: {self.inference.reason}")
        for stage in self._stages:
            if stage.outcome == FAILED and stage.over and not stream.is_cut:
                self.cut("FAILED", f"{stage.name}: {stage.reason}")
        if stream.stopping_since is None and any(stage.outcome == FINISHED for stage in self._stages):
            stream.state, stream.stopping_since = "STOPPING", time.monotonic()
        if stream.stopping_since is not None:
            stream.reason = stream.reason or self._ingress.farewell

    def _see_to_its_end(self, stream: RunningStream, since: float) -> None:
        limit = self._wiring.topology.limits.drain
        if not stream.forced and time.monotonic() - since > limit:
            stream.forced = stream.is_cut = True
            self._tell("warning", stream.spec, "stream_drain_timeout", seconds=limit)
            for stage in self._stages:
                self._keeper.end(stage, NOT_IN_TIME)
        self._speak_for_the_gone(stream)
        if not all(stage.over for stage in self._stages):
            return
        if self._inference_waits():
            self._give_back(stream)
        elif (
            time.monotonic() - since > 2 * limit
            and not self._is_needed(self.inference)
            and (life := self.inference.active)
            and not life.asked_for
        ):
            self._tell(
                "warning", stream.spec, "stream_drain_timeout", seconds=2 * limit, waiting_for=self.inference.name
            )
            self._keeper.replace(life)

    def _speak_for_the_gone(self, stream: RunningStream) -> None:
        """From those who failed nothing more will come, and nobody takes what they were handed."""
        if _is_gone(self._ingress):
            self._tell_once(stream, self._decode, Drain())
        if _is_gone(self._decode):
            self._wiring.end_output(self._decode.name)
        if self._decode.over:  # Also one that was told to finish before ingress had come to its own end.
            self._tell_once(stream, self._ingress, Abandon())
        if _is_gone(self._egress):
            self._tell_once(stream, self._ingress, Abandon())
            self._tell_once(stream, self._decode, Abandon())
        if self._egress.over:
            self.lane.styled.discard()
        if self._decode.over and self.inference.active is None and (stream.is_cut or self.inference.over):
            self._wiring.end_output(self.inference.name, self.lane)

    def _tell_once(self, stream: RunningStream, stage: SupervisedStage, order: Drain | Abandon) -> None:
        """Each order wakes a worker, and decode ends when it has been quiet for a while."""
        for life in stage.lives:
            told = (life.process.boot.identity, type(order))
            if life.ready and told not in stream.told:
                stream.told.add(told)
                self._switchboard.send(life.process.boot.identity, order)

    def _give_back(self, stream: RunningStream) -> None:
        """Every process of its own is gone, and inference waits."""
        self.lane.abandon()
        for stage in self._stages:
            stage.end_stream()
        stream.state, stream.reason = stream.outcome, stream.reason or "a stage was told to finish"
        status = stream.status(self.lane.frame_count(), self.lane, ended=time.time())
        self.stream = None
        self.lane.params = None
        if self.lane.pause is not None:  # The next one is not paused.
            self.lane.pause = None
            self._keeper.tell(self.inference, SetPause(self.lane.number, None))
        self._bury(status)
        self._tell(
            "error" if stream.outcome == "FAILED" else "info",
            stream.spec,
            "stream_stopped",
            state=stream.state,
            reason=stream.reason,
            seconds=round(status.ended - status.began, 3),
            decoded=status.frames.decoded,
            delivered=status.frames.delivered,
            dropped=sum(status.frames.dropped.values()),
        )
        for sender in stream.waiting:
            self._switchboard.send(
                sender, Answer(True, f"{stream.spec.stream} is over: {stream.state}, {stream.reason}")
            )

    def _at_work(self) -> Life | None:
        """The process that runs the processor, if one does."""
        life = self.inference.active
        return None if life is None or life.stands_in or self.inference.renewing else life

    def _inference_waits(self) -> bool:
        """Whether no process of inference touches the links, and none will before it is told of the next stream."""
        life = self.inference.active
        return life is None or life.through.get(self.lane.number, NOTHING_YET) >= self.lane.epoch


def _is_gone(stage: SupervisedStage) -> bool:
    """Whether the stage is over without having handed on everything."""
    return stage.over and stage.outcome == FAILED
