"""Streams on request: starts one when somebody asks, and stops it, while inference stays with its model loaded.

A stream has an ingress, a decode and an egress of its own; the links stay and are opened anew for each. Their processes
are the keeper's. Between two streams inference waits to be told of the next and leaves the links alone: whatever is
done to them here, is done then, or while no process of inference is at work.
"""

import time
from collections import deque
from typing import Any, Literal

from pipeline.keeper import Announce, Keeper
from pipeline.messages import (
    Abandon,
    Answer,
    Drain,
    EventLevel,
    FrameCount,
    StreamStartRequest,
    StreamStatus,
    StreamStopRequest,
)
from pipeline.pausing import Pausing
from pipeline.processor_changes import ProcessorChanges
from pipeline.running_stream import RunningStream
from pipeline.stream_requests import problem_of
from pipeline.supervised_stage import FAILED, FINISHED, READY, Life, SupervisedStage
from pipeline.switchboard import Switchboard
from pipeline.topology import Decode, Egress, Inference, Ingress, Recorder
from pipeline.wiring import Wiring

KEPT_ENDED = 8
"""Streams that are over, of which somebody may still ask."""

HURRIED_SECONDS = 0.02
"""Between two looks while the launcher takes the place of an egress that is gone."""

SILENT_KINDS = ("trickle_app", "file")
"""Processors that cannot be asked for their parameters: one hands the question to the user's code, one has none."""

AT_ITS_END = "the pipeline is at its end"
NOT_IN_TIME = "killed: it did not stop in time"


class StreamKeeper:
    def __init__(
        self,
        wiring: Wiring,
        keeper: Keeper,
        switchboard: Switchboard,
        changes: ProcessorChanges,
        pausing: Pausing,
        announce: Announce,
    ) -> None:
        self._wiring = wiring
        self._keeper = keeper
        self._switchboard = switchboard
        self._changes = changes
        self._pausing = pausing
        self._announce = announce
        (self._ingress,) = keeper.of_kind(Ingress)
        (self._decode,) = keeper.of_kind(Decode)
        (self._inference,) = keeper.of_kind(Inference)
        (self._egress,) = keeper.of_kind(Egress)
        self._stages = (self._ingress, self._decode, self._egress)
        self._stream: RunningStream | None = None
        self._ended: deque[StreamStatus] = deque(maxlen=KEPT_ENDED)
        self.count_ended = {"ENDED": 0, "FAILED": 0}
        """How many streams are over, by their last state."""
        self._params: dict[str, Any] | None = None  # all that are in force between streams; None: not known yet
        self._told: dict[str, Any] = {}  # what new processes were told when that was learned
        self._inquiring = False
        self._closing = False

    @property
    def on_request(self) -> bool:
        return self._wiring.topology.streams.on_request

    @property
    def seconds_to_look(self) -> float:
        """Until `go_on` should be called again, whatever happens; infinite when there is nothing to see."""
        hurried = self._stream is not None and self._stream.stopping_since is not None and self._egress.over
        return HURRIED_SECONDS if hurried else float("inf")

    @property
    def running(self) -> str | None:
        """The id of the stream that runs, or is being started; empty where the topology says which it is."""
        if not self.on_request:
            return ""
        stream = self._stream
        return stream.spec.stream if stream is not None and stream.stopping_since is None else None

    def statuses(self, now: FrameCount) -> list[StreamStatus]:
        """The running stream, then those that are over, newest first. `now` is the pipeline's count."""
        running = [self._stream.status(now)] if self._stream is not None else []
        return [*running, *self._ended]

    # What people ask.

    def start(self, sender: bytes, request: StreamStartRequest) -> None:
        """Answered at once."""
        self._switchboard.send(sender, self._start(request))

    def stop(self, sender: bytes, request: StreamStopRequest) -> None:
        """Answered when all that the stream had is given back."""
        stream = self._stream
        if stream is not None and stream.spec.stream == request.stream:
            stream.waiting.append(sender)
            self._cut(stream, "ENDED", "stopped on request")
            return
        over = next((each for each in self._ended if each.spec.stream == request.stream), None)
        if over is not None:
            answer = Answer(True, f"{request.stream} is over: {over.state}, {over.reason}")
        else:
            running = f"; running: {stream.spec.stream}" if stream is not None else "; none runs"
            answer = Answer(False, f"there is no stream {request.stream!r}{running}", "unknown")
        self._switchboard.send(sender, answer)

    def _start(self, request: StreamStartRequest) -> Answer:
        spec, stream = request.spec, self._stream
        if not self.on_request:
            return Answer(
                False, "streams.on_request: this pipeline runs the stream of its file; allowed: true", "invalid"
            )
        if self._closing:
            return Answer(False, AT_ITS_END)
        if problem := problem_of(spec, self._wiring.topology):
            return Answer(False, problem, "invalid")
        if stream is not None and stream.spec.stream == spec.stream:
            if stream.stopping_since is not None:
                return Answer(False, f"{spec.stream} is being stopped; ask again when it is over", "exists")
            same = stream.spec == spec
            text = "runs already" if same else "runs already, with another request; stop it first"
            return Answer(same, f"{spec.stream} {text}", "" if same else "exists")
        if stream is not None:
            return Answer(False, f"{stream.spec.stream} runs, and streams.max is 1; stop it first", "full")
        if self._inference.outcome == FAILED:
            self._keeper.restart(self._inference)  # With a fresh budget, as everything else has.
        if self._inference.state != READY and self._wiring.topology.streams.while_loading == "refuse":
            return Answer(
                False, f"{self._inference.name} is {self._inference.state}; ask again when it is READY", "loading"
            )
        frames = self._wiring.frame_count()
        self._stream = RunningStream(spec, frames, self._decode.stats, self._egress.stats)
        self._tell("info", self._stream, "stream_started", source=spec.subscribe_url, sink=spec.publish_url)
        return Answer(True, f"{spec.stream} is being started")

    # In the order of the loop.

    def go_on(self) -> None:
        """See to what follows from the state that the stream's stages are in."""
        if not self.on_request:
            return
        self._inquire()
        stream = self._stream
        if stream is not None and not stream.opened and stream.stopping_since is None:
            self._prepare(stream)
        elif stream is not None and not stream.opened:
            self._give_back(stream)
        elif stream is not None:
            self._watch(stream)
            if stream.stopping_since is not None:
                self._see_to_its_end(stream, stream.stopping_since)
        if self._closing and self._stream is None:
            self._close()

    def adopted(self) -> None:
        """The topology file was read again: what was changed before is not in force any more."""
        self._params = None

    def close_down(self) -> None:
        """Take no more requests, stop the stream, and have inference finish after it."""
        self._closing = True
        if self._stream is not None:
            self._cut(self._stream, "ENDED", AT_ITS_END)

    def give_up(self) -> list[str]:
        """Every process is gone. Returns what is to be said of a stream that could not be stopped in time."""
        if self._stream is None:
            return []
        self._stream.outcome, self._stream.reason = "FAILED", NOT_IN_TIME
        name = self._stream.spec.stream
        self._give_back(self._stream)
        self._close()
        return [f"stream {name}: {NOT_IN_TIME}"]

    # What happens to a stream.

    def _prepare(self, stream: RunningStream) -> None:
        """Open it once inference is through with the one before and has taken its parameters. A stream without any does
        not wait for a processor that is still loading."""
        life = self._at_work()
        if self._inference.over:
            self._cut(stream, "FAILED", f"{self._inference.name}: {self._inference.reason}")
        elif not self._inference_waits() or (life is not None and self._params is None):
            return
        elif stream.params_agreed:
            self._open(stream)
        elif life is not None and not stream.asked_for_params:
            stream.asked_for_params = True
            self._changes.change(
                self._inference, life, stream.spec.params, lambda *answer: self._heard(stream, *answer)
            )

    def _heard(self, stream: RunningStream, problem: str, _params: dict[str, Any]) -> None:
        """What the processor says to the stream's parameters."""
        if stream is not self._stream:
            self._restore_params()  # It was stopped before.
        elif problem:
            self._cut(stream, "FAILED", f"params: {problem}")
        else:
            stream.params_agreed = True

    def _open(self, stream: RunningStream) -> None:
        self._wiring.open_stream(stream.spec)
        self._keeper.tell(self._inference, self._wiring.stream_begin)
        for stage in self._stages:
            stage.begin_stream()
        stream.opened = True

    def _watch(self, stream: RunningStream) -> None:
        if stream.state == "STARTING" and stream.first_out_ns:
            stream.state = "ONLINE"
            status = stream.status(self._wiring.frame_count())
            self._tell("info", stream, "stream_online", first_out_ms=status.first_out_ms or 0.0)
        if self._inference.over and not stream.is_cut:
            self._cut(stream, "FAILED", f"{self._inference.name}: {self._inference.reason}")
        for stage in self._stages:
            if stage.outcome == FAILED and stage.over and not stream.is_cut:
                self._cut(stream, "FAILED", f"{stage.name}: {stage.reason}")
        if stream.stopping_since is None and any(stage.outcome == FINISHED for stage in self._stages):
            stream.state, stream.stopping_since = "STOPPING", time.monotonic()
        if stream.stopping_since is not None:
            stream.reason = stream.reason or self._ingress.farewell

    def _cut(self, stream: RunningStream, outcome: Literal["ENDED", "FAILED"], reason: str) -> None:
        """Begin to stop it: no new input, what is under way comes out, and no stage is started again."""
        if stream.is_cut:
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

    def _see_to_its_end(self, stream: RunningStream, since: float) -> None:
        limit = self._wiring.topology.limits.drain
        if not stream.forced and time.monotonic() - since > limit:
            stream.forced = stream.is_cut = True
            self._tell("warning", stream, "stream_drain_timeout", seconds=limit)
            for stage in self._stages:
                self._keeper.end(stage, NOT_IN_TIME)
        self._speak_for_the_gone(stream)
        if not all(stage.over for stage in self._stages):
            return
        if self._inference_waits():
            self._give_back(stream)
        elif time.monotonic() - since > 2 * limit and (life := self._inference.active) and not life.asked_for:
            self._tell("warning", stream, "stream_drain_timeout", seconds=2 * limit, waiting_for=self._inference.name)
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
            self._wiring.discard_output(self._inference.name)
        if self._decode.over and self._inference.active is None and (stream.is_cut or self._inference.over):
            self._wiring.end_output(self._inference.name)

    def _tell_once(self, stream: RunningStream, stage: SupervisedStage, order: Drain | Abandon) -> None:
        """Each order wakes a worker, and decode ends when it has been quiet for a while."""
        for life in stage.lives:
            told = (life.process.boot.identity, type(order))
            if life.ready and told not in stream.told:
                stream.told.add(told)
                self._switchboard.send(life.process.boot.identity, order)

    def _give_back(self, stream: RunningStream) -> None:
        """Every process of its own is gone, and inference waits."""
        self._wiring.abandon()
        for stage in self._stages:
            stage.end_stream()
        now = self._wiring.frame_count()
        stream.state, stream.reason = stream.outcome, stream.reason or "a stage was told to finish"
        status = stream.status(now, ended=time.time())
        self._stream = None
        self._ended.appendleft(status)
        self.count_ended[stream.outcome] += 1
        self._restore_params()
        self._pausing.end()
        self._tell(
            "error" if stream.outcome == "FAILED" else "info",
            stream,
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

    def _close(self) -> None:
        """No stream runs, and none will: the others finish."""
        self._keeper.tell(self._inference, Drain())
        self._keeper.tell_all(Recorder, Drain())  # What it watches may never come again.
        for stage in self._stages:
            stage.outcome, stage.idle = FINISHED, False

    # Inference, which stays.

    def _at_work(self) -> Life | None:
        """The process that runs the processor, if one does."""
        life = self._inference.active
        return None if life is None or life.stands_in or self._inference.renewing else life

    def _inference_waits(self) -> bool:
        """Whether no process of inference touches the links, and none will before it is told of the next stream."""
        life = self._inference.active
        return life is None or life.through >= self._wiring.epoch

    def _inquire(self) -> None:
        """Learn what parameters are in force while no stream has changed them: all of them, so that going back to them
        undoes whatever a stream's own may add."""
        told, stream = self._wiring.params(self._inference.name), self._stream
        if told != self._told and (stream is None or not (stream.opened or stream.asked_for_params)):
            self._params = None  # Somebody has changed them, for all streams to come.
        life = self._at_work()
        if self._params is not None or self._inquiring or life is None:
            return
        self._told = told
        if self._is_silent:
            self._params = told
            return

        def tell(problem: str, params: dict[str, Any]) -> None:
            self._inquiring = False
            if life is self._at_work():
                self._params = told if problem else params

        self._inquiring = True
        self._changes.inquire(self._inference, life, tell)

    @property
    def _is_silent(self) -> bool:
        spec = self._wiring.topology.stages[self._inference.name]
        return isinstance(spec, Inference) and spec.processor.kind in SILENT_KINDS

    def _restore_params(self) -> None:
        """What was changed while a stream ran ends with it."""
        if self._params is not None and self._wiring.params(self._inference.name) != self._told:
            self._changes.go_back(self._inference, self._params)
            self._told = self._params

    def _tell(
        self,
        level: EventLevel,
        stream: RunningStream,
        name: str,
        /,
        **fields: str | int | float,
    ) -> None:
        labels = {f"label_{key}": value for key, value in stream.spec.labels.items()}
        self._announce(level, "launcher", name, stream=stream.spec.stream, **fields, **labels)


def _is_gone(stage: SupervisedStage) -> bool:
    """Whether the stage is over without having handed on everything."""
    return stage.over and stage.outcome == FAILED
