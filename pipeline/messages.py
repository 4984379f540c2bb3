"""Every message on every socket. What the launcher says of the pipeline's state is in `status`, and what a worker is
told at its birth in `boot`. The types are the schema."""

from typing import Any, Literal

import msgspec

from pipeline.boot import Pause
from pipeline.recording.format import Tappable
from pipeline.status import Parameter, Plan, Status, StreamSpec, Traces
from pipeline.topology_logs import Level

EventLevel = Literal["debug", "info", "warning", "error"]

RECORD_LEASE_SECONDS = 5.0


# ingress -> decode, and back


class EncodedBytes(msgspec.Struct, array_like=True, frozen=True, tag="bytes"):
    """Bytes of a segment from `offset` on. `last`: they complete it. `gap`: segments before it are missing."""

    segment: int
    offset: int
    arrived_ns: int
    last: bool
    gap: bool
    data: bytes


class EncodedEnd(msgspec.Struct, array_like=True, frozen=True, tag="end"):
    """No more segments will come."""


class EncodedAttached(msgspec.Struct, array_like=True, frozen=True, tag="attached"):
    """To decode: its EncodedAttach has come."""


class EncodedAttach(msgspec.Struct, array_like=True, frozen=True, tag="attach"):
    """From decode: send everything from the start of `segment` on; segment -1: from the oldest that is kept."""

    segment: int


class EncodedConsumed(msgspec.Struct, array_like=True, frozen=True, tag="consumed"):
    """From decode: this far have I come. What was before `segment` can be forgotten."""

    segment: int


EncodedDown = EncodedBytes | EncodedEnd | EncodedAttached
EncodedUp = EncodedAttach | EncodedConsumed


# decode -> egress; decode -> inference -> egress where the processor takes the sound


class AudioFormat(msgspec.Struct, array_like=True, frozen=True, tag="format"):
    """The stream has audio of this kind."""

    codec: Literal["aac", "opus"]
    channels: int


class AudioPacket(msgspec.Struct, array_like=True, frozen=True, tag="packet"):
    """One audio access unit as it came: ADTS frames for AAC, control header and packet for Opus. `pts` in 1/90000 s."""

    pts: int
    data: bytes


class AudioSamples(msgspec.Struct, array_like=True, frozen=True, tag="samples"):
    """Decoded sound, see media.pcm.Pcm: float32 in the machine's byte order, one channel after the other."""

    pts: int
    channels: int
    data: bytes


class TextLine(msgspec.Struct, array_like=True, frozen=True, tag="text"):
    """What a processor wrote of the frame, or of the sound, at `pts`."""

    pts: int
    text: str


class AudioEnd(msgspec.Struct, array_like=True, frozen=True, tag="end"):
    """No more of it will come."""

    of: Literal["audio", "text"]


AudioMessage = AudioFormat | AudioPacket | AudioSamples | TextLine | AudioEnd


# ingress, decode, inference, egress -> whoever records


class Tapped(msgspec.Struct, array_like=True, frozen=True):
    """A record for `recording`. Those of one process are numbered from 0 on; `epoch` is its stream's number."""

    recording: str
    stage: str
    number: int
    epoch: int
    record: Tappable


# worker -> launcher


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The stage can take work; `detail` says on what. `parameters` are those of its processor, None if that does not
    describe them."""

    stage: str
    incarnation: int
    detail: str = ""
    parameters: list[Parameter] | None = None


class Event(msgspec.Struct, frozen=True, tag="event"):
    """Something that people want to know happened in a stage."""

    stage: str
    level: EventLevel
    name: str
    fields: dict[str, str | int | float] = {}


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The last word of a process that has handed on everything it had, as its counters say too. `reason`: why it came
    to its end by itself, if there is something to say of that."""

    stage: str
    incarnation: int
    reason: str = ""


class StreamHandedOn(msgspec.Struct, frozen=True, tag="stream_handed_on"):
    """The process has handed on everything of stream number `epoch`, touches the links of its lane no more, and waits
    for StreamBegin."""

    stage: str
    incarnation: int
    lane: int
    epoch: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The stage cannot work as configured, and a restart would not help. `reason` is one line for the user."""

    stage: str
    incarnation: int
    reason: str


# anybody on this machine -> launcher


class Updated(msgspec.Struct, frozen=True, tag="updated"):
    """The answer to Update `number`: `params` are all that are in force now, or, of one stream, all that it has of its
    own, as the processor calls it; or nothing was changed, and `problem` says why. `parameters` describe them anew, as
    in Ready."""

    stage: str
    incarnation: int
    number: int
    params: dict[str, Any] | None = None
    problem: str = ""
    parameters: list[Parameter] | None = None


class StatusRequest(msgspec.Struct, frozen=True, tag="status"):
    """Answered with Status."""


class RecordRequest(msgspec.Struct, frozen=True, tag="record"):
    """From whoever records: have the stages tell what they see, for `recording`, an id of its own making. `stream` is
    the name of the one that is meant, though it may be still to come; empty: the one that runs, or the next; and
    `epoch` its number, once it has begun. Answered with RecordAnswer, and to be repeated: who is not heard of for
    RECORD_LEASE_SECONDS is taken to be gone."""

    recording: str
    stream: str = ""
    epoch: int | None = None


class RecordEndRequest(msgspec.Struct, frozen=True, tag="record_end"):
    """The recording is over. Answered with Answer."""

    recording: str


class TraceRequest(msgspec.Struct, frozen=True, tag="trace"):
    """Answered with Traces."""


class PlanRequest(msgspec.Struct, frozen=True, tag="plan"):
    """Answered with Plan."""


class RestartRequest(msgspec.Struct, frozen=True, tag="restart"):
    """Start a stage again, with a fresh budget of restarts; kill it before if it runs. Answered with Answer."""

    stage: str


class UpdateRequest(msgspec.Struct, frozen=True, tag="update_request"):
    """Change parameters of the processor that `stage` runs, from its next frame on, or width, height and fit of the
    pictures that a decode stage makes. Answered with Answer, once they are in force or were refused. `renew`: these are
    all parameters; a new process loads them while the old one works on, and takes over when it is ready. All replicas
    of inference run the same: whichever is named, all of them are meant, and the answer is that of the first."""

    stage: str
    params: dict[str, Any]
    renew: bool = False
    stream: str = ""
    """With streams on request: for this one alone; empty: for all that run, or for those to come while none does."""


class LogLevelRequest(msgspec.Struct, frozen=True, tag="log_level_request"):
    """From now on log of a stage, or of the launcher, what is at least of this level. Answered with Answer."""

    stage: str
    level: Level


class StreamStartRequest(msgspec.Struct, frozen=True, tag="stream_start"):
    """Start a stream, in a topology whose `streams.on_request` is on. Answered with Answer, at once; `code` is exists,
    full, loading or invalid when it is refused. Asking again for the very same stream is no mistake."""

    spec: StreamSpec


class StreamStopRequest(msgspec.Struct, frozen=True, tag="stream_stop"):
    """Stop a stream. Answered with Answer once everything that it had is given back; `code` is unknown when there is
    none of this name."""

    stream: str


class PauseRequest(msgspec.Struct, frozen=True, tag="pause_request"):
    """Leave the processor alone until `pause` is None; frames, sound and counts go on. `stream` is the id of the stream
    on request that is meant; empty: the one that runs. Answered with Answer, at once; `code` is unknown when there is
    no such stream."""

    stream: str
    pause: Pause | None


class Subscribe(msgspec.Struct, frozen=True, tag="subscribe"):
    """From now on, send every SupervisionEvent."""


# launcher -> worker


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Take no new input; hand on what there is; then finish."""


class Abandon(msgspec.Struct, frozen=True, tag="abandon"):
    """A stage behind this one is gone for good while the pipeline stops: nobody takes what you hand on; finish now."""


class Activate(msgspec.Struct, frozen=True, tag="activate"):
    """To a process that has loaded and waits: the links are yours now."""


class StreamBegin(msgspec.Struct, frozen=True, tag="stream_begin"):
    """Another stream begins on the links of a lane: its id, and its number, that of its frames' epoch. `params` are the
    processor's for this stream alone; None: it has none of its own. `weight` is its share of the processor's time."""

    lane: int
    stream: str
    epoch: int
    params: dict[str, Any] | None = None
    weight: float = 1.0


class SetPause(msgspec.Struct, frozen=True, tag="set_pause"):
    """To inference: the lane's frames are not processed from the next one on; None: they are again."""

    lane: int
    pause: Pause | None


class Record(msgspec.Struct, frozen=True, tag="record_order"):
    """From now on tell the recorder what you see, for this recording; empty: nobody records."""

    recording: str


UNASKED = 0
"""The number of an Update that nobody waits for: a process catches up with the others."""


class Update(msgspec.Struct, frozen=True, tag="update"):
    """Change parameters of the processor, or all of decode's `frame`, and answer with Updated. `lane`: for the stream
    number `epoch` that is on it, and no longer; with no `epoch`, for one to come: they are tried, and told again when
    it begins. None: for all streams that have none of their own, and for those to come."""

    number: int
    params: dict[str, Any]
    lane: int | None = None
    epoch: int | None = None


class SetLogLevel(msgspec.Struct, frozen=True, tag="set_log_level"):
    """Log what is at least of this level."""

    level: Level


class PeerRestarted(msgspec.Struct, frozen=True, tag="peer_restarted"):
    """A neighbour, a stage with this worker, died and its slots were reclaimed: look at the tables."""

    stage: str
    worker: str


# launcher -> anybody


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """What became of a request: one line. `code`: why it was refused, for programs."""

    ok: bool
    text: str
    code: Literal["", "exists", "full", "loading", "invalid", "unknown"] = ""


class RecordAnswer(msgspec.Struct, frozen=True, tag="record_answer"):
    """What a recorder has to know: `endpoint` is where the stages look for it, and, once there is a stream, `topology`
    the resolved one without secrets and with the parameters in force, `timelines` decode's before each of its last
    segments, as segment, offset and last picture, and `stages` those that have to do with it. Not `ok`: it may not
    record, and `text` says why."""

    ok: bool
    text: str
    endpoint: str = ""
    pipeline: str = ""
    stream: str = ""
    epoch: int | None = None
    topology: dict[str, Any] = {}
    timelines: list[tuple[int, int, int | None]] = []
    stages: list[str] = []


class SupervisionEvent(msgspec.Struct, frozen=True, tag="supervision_event"):
    """Something happened to a stage, or was reported by one. `time` is seconds since the epoch (UTC)."""

    time: float
    level: EventLevel
    stage: str
    name: str
    fields: dict[str, str | int | float]


ToLauncher = (
    Ready
    | Event
    | Finished
    | StreamHandedOn
    | Refused
    | Updated
    | StatusRequest
    | TraceRequest
    | PlanRequest
    | RecordRequest
    | RecordEndRequest
    | RestartRequest
    | UpdateRequest
    | LogLevelRequest
    | StreamStartRequest
    | StreamStopRequest
    | PauseRequest
    | Subscribe
)
ToWorker = Drain | Abandon | Activate | StreamBegin | SetPause | Record | Update | SetLogLevel | PeerRestarted
FromLauncher = ToWorker | Answer | SupervisionEvent | Status | Traces | Plan | RecordAnswer
