"""The launcher's part of a recording: has the stages tell one recorder what they see, for as long as it is heard of.

It writes nothing; `recorder` does, in a process of its own.
"""

import time
from typing import Any

from pipeline.api.redact import redacted
from pipeline.keeper import Announce, Keeper
from pipeline.messages import RECORD_LEASE_SECONDS, Answer, Record, RecordAnswer, RecordEndRequest, RecordRequest
from pipeline.topology import SPINE
from pipeline.topology_file import without_secrets
from pipeline.wiring import Wiring


class RecordingLease:
    def __init__(self, wiring: Wiring, keeper: Keeper, announce: Announce) -> None:
        self._wiring = wiring
        self._keeper = keeper
        self._announce = announce
        # The first recorder may be a process that is still to be started.
        self._until = time.monotonic() + wiring.topology.limits.ready

    def ask(self, request: RecordRequest) -> RecordAnswer:
        """Begin, or go on."""
        wiring = self._wiring
        if wiring.recording not in ("", request.recording):
            return RecordAnswer(False, f"{wiring.topology.name} is being recorded already; one recording at a time")
        if len(wiring.lanes) > 1:
            return RecordAnswer(False, f"a recording is of one stream; streams.max is {len(wiring.lanes)}, allowed: 1")
        self._until = time.monotonic() + RECORD_LEASE_SECONDS
        if not wiring.recording:
            self._set(request.recording)
            self._announce("info", "launcher", "recording_begins")
        return RecordAnswer(
            ok=True,
            text="",
            endpoint=wiring.tape_endpoint,
            pipeline=wiring.topology.name,
            stream=wiring.stream_name,
            epoch=wiring.lanes[0].epoch,
            topology=_redact(without_secrets(wiring.recorded_topology())),
            timelines=[(note.segment, note.offset, note.last_video) for note in wiring.timeline_notes()],
        )

    def end(self, request: RecordEndRequest) -> Answer:
        if request.recording != self._wiring.recording:
            return Answer(False, "no such recording is being made", "unknown")
        self._set("")
        self._announce("info", "launcher", "recording_ends")
        return Answer(True, "the recording is over")

    def expire(self) -> None:
        """Whoever recorded and is not heard of any more is gone: the stages need not go on telling."""
        if self._wiring.recording and time.monotonic() > self._until:
            self._set("")
            self._announce("warning", "launcher", "recorder_is_gone")

    def _set(self, recording: str) -> None:
        self._wiring.recording = recording
        for kind in SPINE:
            self._keeper.tell_all(kind, Record(recording))


def _redact(value: Any) -> Any:
    """Without what URLs may hold besides an address."""
    if isinstance(value, dict):
        return {key: _redact(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redact(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value
