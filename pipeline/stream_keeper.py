"""Streams on request: who may start one, which lane it gets, which one is meant, and what is said of those that are
over, while inference stays with its model loaded. What happens to a stream on its lane is in `stream_lane`."""

from collections import deque
from typing import Literal

from pipeline.admission import Admission
from pipeline.keeper import Announce, Keeper
from pipeline.lane import Lane
from pipeline.messages import Answer, Drain, StreamStartRequest, StreamStopRequest
from pipeline.processor_changes import ProcessorChanges
from pipeline.status import StreamSpec, StreamStatus
from pipeline.stream_lane import StreamLane
from pipeline.stream_requests import problem_of, written_twice
from pipeline.supervised_stage import FAILED, READY, SupervisedStage
from pipeline.switchboard import Switchboard
from pipeline.topology import Inference, Recorder
from pipeline.usable_cores import usable_cores
from pipeline.wiring import Wiring

KEPT_ENDED = 8
"""Streams that are over, of which somebody may still ask."""

HURRIED_SECONDS = 0.02
"""Between two looks while the launcher takes the place of an egress that is gone."""

AT_ITS_END = "the pipeline is at its end"


class NoSuchStream(Exception):
    """One line for whoever asked, and a code for Answer."""

    code: Literal["unknown", "loading"] = "unknown"


class NotYet(NoSuchStream):
    """It is being started."""

    code = "loading"


class StreamKeeper:
    def __init__(
        self,
        wiring: Wiring,
        keeper: Keeper,
        switchboard: Switchboard,
        changes: ProcessorChanges,
        announce: Announce,
    ) -> None:
        self._wiring = wiring
        self._keeper = keeper
        self._switchboard = switchboard
        self._announce = announce
        self._inference = keeper.of_kind(Inference)  # its replicas
        self._lanes: list[StreamLane] = []
        if self.on_request:
            self._lanes = [
                StreamLane(
                    lane,
                    wiring,
                    keeper,
                    switchboard,
                    changes,
                    self._tell,
                    self._bury,
                    self._is_needed,
                )
                for lane in wiring.lanes
            ]
        self._ended: deque[StreamStatus] = deque(maxlen=KEPT_ENDED)
        self.count_ended = {"ENDED": 0, "FAILED": 0}
        """How many streams are over, by their last state."""
        self._admission = Admission(wiring.topology.streams.admit_below, usable_cores())
        self._closing = False

    @property
    def on_request(self) -> bool:
        return self._wiring.topology.streams.on_request

    @property
    def seconds_to_look(self) -> float:
        """Until `go_on` should be called again, whatever happens; infinite when there is nothing to see."""
        return HURRIED_SECONDS if any(lane.is_hurried for lane in self._lanes) else float("inf")

    def statuses(self) -> list[StreamStatus]:
        """The running streams, then those that are over, newest first."""
        running = (lane.status() for lane in self._lanes)
        return [*(status for status in running if status is not None), *self._ended]

    @property
    def running(self) -> dict[str, Lane]:
        """Where the streams are that have begun and are not being stopped, by their names."""
        if not self.on_request:
            return {lane.begin.stream: lane for lane in self._wiring.lanes}
        running = (lane for lane in self._lanes if lane.runs and lane.is_open)
        return {lane.lane.begin.stream: lane.lane for lane in running}

    def lanes_meant(self, stream: str) -> list[Lane]:
        """Where the stream of this id runs; empty: where any does, and the lane of a topology that has its own. Raises
        NoSuchStream when none is called so."""
        if not self.on_request:
            if stream:
                raise NoSuchStream(f"there is no stream {stream!r}: this pipeline runs the stream of its file")
            return self._wiring.lanes
        running = {lane.stream.spec.stream: lane for lane in self._lanes if lane.stream is not None and lane.runs}
        if stream and stream not in running:
            raise NoSuchStream(f"there is no stream {stream!r}; running: {', '.join(running) or 'none'}")
        meant = [lane for name, lane in running.items() if stream in ("", name)]
        if meant and not any(lane.is_open for lane in meant):
            raise NotYet(f"{', '.join(running)}: being started; ask again when it is there")
        return [lane.lane for lane in meant if lane.is_open]

    # What people ask.

    def start(self, sender: bytes, request: StreamStartRequest) -> None:
        """Answered at once."""
        self._switchboard.send(sender, self._start(request.spec))

    def stop(self, sender: bytes, request: StreamStopRequest) -> None:
        """Answered when all that the stream had is given back."""
        for lane in self._lanes:
            if lane.stream is not None and lane.stream.spec.stream == request.stream:
                lane.stop(sender)
                return
        over = next((each for each in self._ended if each.spec.stream == request.stream), None)
        if over is not None:
            answer = Answer(True, f"{request.stream} is over: {over.state}, {over.reason}")
        else:
            running = f"; running: {self._names}" if self._names else "; none runs"
            answer = Answer(False, f"there is no stream {request.stream!r}{running}", "unknown")
        self._switchboard.send(sender, answer)

    def _start(self, spec: StreamSpec) -> Answer:
        if not self.on_request:
            return Answer(
                False, "streams.on_request: this pipeline runs the stream of its file; allowed: true", "invalid"
            )
        if self._closing:
            return Answer(False, AT_ITS_END)
        if problem := problem_of(spec, self._wiring.topology, self._wiring.relay_url):
            return Answer(False, problem, "invalid")
        streams = [lane.stream for lane in self._lanes if lane.stream is not None]
        for stream in streams:
            if stream.spec.stream == spec.stream:
                if stream.stopping_since is not None:
                    return Answer(False, f"{spec.stream} is being stopped; ask again when it is over", "exists")
                same = stream.spec == spec
                text = "runs already" if same else "runs already, with another request; stop it first"
                return Answer(same, f"{spec.stream} {text}", "" if same else "exists")
        free = self._free_lanes()
        if not free:
            run, one = ("runs", "it") if len(self._lanes) == 1 else ("run", "one")
            return Answer(
                False, f"{self._names} {run}, and streams.max is {len(self._lanes)}; stop {one} first", "full"
            )
        if problem := written_twice(spec, (stream.spec for stream in streams), self._wiring.relay_url):
            return Answer(False, problem, "exists")
        problems = [self._admission.problem(self._serves(), lane.inference.name) for lane in free]
        lane = next((lane for lane, problem in zip(free, problems, strict=True) if not problem), None)
        if lane is None:
            return Answer(False, problems[0], "full")
        inference = lane.inference
        if inference.outcome == FAILED:
            self._keeper.restart(inference)  # With a fresh budget, as everything else has.
        if inference.state != READY and self._wiring.topology.streams.while_loading == "refuse":
            return Answer(False, f"{inference.name} is {inference.state}; ask again when it is READY", "loading")
        lane.start(spec)
        return Answer(True, f"{spec.stream} is being started")

    def _free_lanes(self) -> list[StreamLane]:
        """Rather of a replica of inference that has not failed, then of one that is there, then of the one that serves
        the fewest streams."""

        def burden(lane: StreamLane) -> tuple[bool, bool, int]:
            inference = lane.inference
            return inference.outcome == FAILED, inference.state != READY, self._streams_of(inference)

        return sorted((lane for lane in self._lanes if lane.stream is None), key=burden)

    def _serves(self) -> dict[str, int]:
        """How many streams each replica has."""
        return {stage.name: self._streams_of(stage) for stage in self._inference}

    def _streams_of(self, inference: SupervisedStage) -> int:
        return sum(lane.stream is not None for lane in self._lanes if lane.inference is inference)

    @property
    def _names(self) -> str:
        return ", ".join(lane.stream.spec.stream for lane in self._lanes if lane.stream is not None)

    # In the order of the loop.

    def sample(self, now: float) -> None:
        """Note what the streams that run cost."""
        streams = [lane.stream for lane in self._lanes if lane.stream is not None]
        changing = any(stream.is_beginning or stream.stopping_since is not None for stream in streams)
        fed = [] if changing else [lane for lane in self._lanes if lane.stream is not None and lane.stream.is_fed]
        names = tuple(lane.stream.spec.stream for lane in fed if lane.stream is not None)
        serves = {stage.name: sum(lane.inference is stage for lane in fed) for stage in self._inference}
        busy_s = {stage.name: stage.stats.busy_s() for stage in self._inference}
        cpu_s = sum(stage.usage.cpu_s for stage in self._keeper.stages.values())
        self._admission.note(now, names, serves, busy_s, cpu_s)

    def go_on(self) -> None:
        """See to what follows from the state that the streams' stages are in."""
        for lane in self._lanes:
            lane.go_on()
        if self._closing and self.on_request and all(lane.stream is None for lane in self._lanes):
            self._close()

    def close_down(self) -> None:
        """Take no more requests, stop the streams, and have inference finish after them."""
        self._closing = True
        for lane in self._lanes:
            lane.cut("ENDED", AT_ITS_END)

    def give_up(self) -> list[str]:
        """Every process is gone. Returns what is to be said of streams that could not be stopped in time."""
        problems = list(filter(None, (lane.give_up() for lane in self._lanes)))
        if problems:
            self._close()
        return problems

    def _close(self) -> None:
        """No stream runs, and none will: the others finish."""
        self._keeper.tell_all(Inference, Drain())
        self._keeper.tell_all(Recorder, Drain())  # What it watches may never come again.
        for lane in self._lanes:
            lane.close()

    def _is_needed(self, inference: SupervisedStage) -> bool:
        """Whether this replica serves a stream that is not being stopped."""
        return any(lane.runs for lane in self._lanes if lane.inference is inference)

    def _bury(self, status: StreamStatus) -> None:
        self._ended.appendleft(status)
        self.count_ended[status.state] += 1

    def _tell(
        self,
        level: Literal["info", "warning", "error"],
        spec: StreamSpec,
        name: str,
        /,
        **fields: str | int | float,
    ) -> None:
        labels = {f"label_{key}": value for key, value in spec.labels.items()}
        self._announce(level, "launcher", name, stream=spec.stream, **fields, **labels)
