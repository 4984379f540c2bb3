"""The launcher's part of a recording: has the stages tell one recorder what they see, for as long as it is heard of.

It writes nothing; `recorder` does, in a process of its own.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline.api.redact import redacted
from pipeline.keeper import Announce, Keeper
from pipeline.lane import Lane
from pipeline.messages import RECORD_LEASE_SECONDS, Answer, Record, RecordAnswer, RecordEndRequest, RecordRequest
from pipeline.recording.target import Target
from pipeline.topology import SPINE, Inference, Topology
from pipeline.topology_file import without_secrets
from pipeline.wiring import Wiring


class RecordingLease:
    def __init__(self, wiring: Wiring, keeper: Keeper, announce: Announce) -> None:
        self._wiring = wiring
        self._keeper = keeper
        self._announce = announce
        # The first recorder may be a process that is still to be started.
        self._until = time.monotonic() + wiring.topology.limits.ready

    def ask(self, request: RecordRequest, running: Mapping[str, Lane]) -> RecordAnswer:
        """Begin, or go on. `running` is where the streams are that run now, by their names."""
        before, name = self._wiring.target, self._wiring.topology.name
        if before.recording not in ("", request.recording):
            return RecordAnswer(False, f"{name} is being recorded already; one recording at a time")
        is_new = not before.recording
        if is_new and not request.stream and len(running) > 1:
            return RecordAnswer(False, f"{', '.join(running)} run: name the stream that is to be recorded")
        if is_new and request.stream not in ("", *running) and not self._wiring.topology.streams.on_request:
            return RecordAnswer(False, f"there is no stream {request.stream!r}; running: {', '.join(running)}")
        self._until = time.monotonic() + RECORD_LEASE_SECONDS
        self._aim(_target(request, before, running))
        if is_new:
            self._announce("info", "launcher", "recording_begins", stream=self._wiring.target.stream)
        return self._answer(running)

    def end(self, request: RecordEndRequest) -> Answer:
        if request.recording != self._wiring.target.recording:
            return Answer(False, "no such recording is being made", "unknown")
        self._aim(Target())
        self._announce("info", "launcher", "recording_ends")
        return Answer(True, "the recording is over")

    def expire(self) -> None:
        """Whoever recorded and is not heard of any more is gone: the stages need not go on telling."""
        if self._wiring.target.recording and time.monotonic() > self._until:
            self._aim(Target())
            self._announce("warning", "launcher", "recorder_is_gone")

    def _aim(self, target: Target) -> None:
        if target == self._wiring.target:
            return
        self._wiring.target = target
        for kind in reversed(SPINE):  # Whoever sees a picture last tells of the first that ingress tells of.
            for stage in self._keeper.of_kind(kind):
                self._keeper.tell(stage, Record(self._wiring.recording_by(stage.name)))

    def _answer(self, running: Mapping[str, Lane]) -> RecordAnswer:
        wiring, target = self._wiring, self._wiring.target
        answer = RecordAnswer(True, "", wiring.tape_endpoint, wiring.topology.name)
        lane = running.get(target.stream)
        if target.epoch is not None:
            lane = next((lane for lane in wiring.lanes if lane.epoch == target.epoch), None)
        if lane is None:
            return answer
        return msgspec.structs.replace(
            answer,
            stream=lane.begin.stream,
            epoch=lane.epoch,
            topology=_redact(without_secrets(_topology_of(lane, wiring.topology))),
            timelines=[(note.segment, note.offset, note.last_video) for note in lane.timeline_notes()],
            stages=[name for name in wiring.stage_names() if lane in (wiring.lanes_of(name) or [lane])],
        )


def _target(request: RecordRequest, before: Target, running: Mapping[str, Lane]) -> Target:
    """The one that is named; or that of before, though it may be over before anything of it was recorded; or the only
    one that runs; or whichever comes next."""
    if request.stream or request.epoch is not None:
        return Target(request.recording, request.stream, request.epoch)
    if before.stream in running:
        return Target(request.recording, before.stream)
    return Target(request.recording, next(iter(running)) if len(running) == 1 else "")


def _topology_of(lane: Lane, topology: Topology) -> Topology:
    """With what is the lane's stream's own in it."""
    name = topology.stage_of(Inference)
    assert name is not None
    spec = topology.stages[name]
    assert isinstance(spec, Inference)
    own, params = lane.params or {}, spec.processor.params
    if own and spec.processor.kind in ("comfyui", "comfystream"):
        params = {}  # What it has of its own is a whole workflow, and the file's may be changes to another.
    processor = msgspec.structs.replace(spec.processor, params=params | own)
    stages = topology.stages | {name: msgspec.structs.replace(spec, processor=processor)}
    return msgspec.structs.replace(topology, stages=stages, frame=lane.frame(topology), recording=None)


def _redact(value: Any) -> Any:
    """Without what URLs may hold besides an address."""
    if isinstance(value, dict):
        return {key: _redact(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redact(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value
