"""Every message on every socket, and what a worker is told at its birth. The types are the schema."""

import math
from typing import Any, Literal

import msgspec

from pipeline.histogram import Histogram
from pipeline.media.excerpt import Excerpt
from pipeline.memory.cuda_handle import CudaSlabHandle
from pipeline.recording.format import Tappable
from pipeline.topology import AnyStage
from pipeline.topology_logs import Level
from pipeline.topology_sections import Api, Frame, Recording, Relay
from pipeline.topology_values import Policy

EventLevel = Literal["debug", "info", "warning", "error"]

RECORD_LEASE_SECONDS = 5.0


class FrameFormat(msgspec.Struct, frozen=True):
    """The largest picture that a slot of a frame link holds: uint8 RGB, shape (height, width, 3), contiguous. A smaller
    one lies at the slot's start; the slot's record says its size."""

    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, 3

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape)

    def holds(self, width: int, height: int) -> bool:
        """Whether a picture of this size fits."""
        return 0 < width * height <= self.width * self.height


class LinkBoot(msgspec.Struct, frozen=True):
    """A frame link as a worker inherits it: its memory, and the bells that say that a slot became READY or FREE."""

    name: str
    fd: int
    slots: int
    policy: Policy
    format: FrameFormat
    ready_fd: int
    free_fd: int
    cuda: CudaSlabHandle | None = None
    """Where the pixels lie if not in `fd`, which then holds the table alone."""

    @property
    def host_slot_bytes(self) -> int:
        """Bytes of a slot's pixels in `fd`."""
        return self.format.nbytes if self.cuda is None else 0

    @property
    def own_fds(self) -> list[int]:
        """The descriptors that were made with the link."""
        return [self.fd, self.ready_fd, self.free_fd]

    @property
    def fds(self) -> list[int]:
        """The descriptors that a worker must inherit to attach."""
        return [*self.own_fds, *(self.cuda.fds if self.cuda else ())]


class EncodedBoot(msgspec.Struct, frozen=True):
    """The link of encoded bytes between ingress and decode as a worker inherits it."""

    name: str
    fd: int
    endpoint: str
    buffer_bytes: int


class Pause(msgspec.Struct, frozen=True):
    """Frames are not processed for now. `show` is what viewers see: the frame before, or the input as it is."""

    show: Literal["last_frame", "input"] = "last_frame"


class TraceBoot(msgspec.Struct, frozen=True):
    """Where a process notes the hop times of one frame in `every`: ring number `ring` of the slab."""

    fd: int
    ring: int
    every: int


class TapBoot(msgspec.Struct, frozen=True):
    """Where a recorder listens, and the recording that is being made; empty: none. `waits`: rather than lose something
    for it, as a file can and a live stream cannot."""

    endpoint: str
    recording: str
    waits: bool


class LaneBoot(msgspec.Struct, frozen=True):
    """One stream's way through inference, lane `number`: the links before and behind it, the stream that runs, or ran
    last, and its number, `epoch`: empty and -1 before the first on request. `params` are the processor's for this
    stream alone, `pause`: it is left alone. Egress listens for sound and text at `audio_endpoint`; the process itself
    for decoded sound, if the processor takes it, at `samples_endpoint`."""

    number: int
    stream: str
    epoch: int
    input: LinkBoot
    output: LinkBoot
    audio_endpoint: str
    samples_endpoint: str | None = None
    params: dict[str, Any] | None = None
    pause: Pause | None = None
    weight: float = 1.0


class WorkerBoot(msgspec.Struct, frozen=True):
    """All that a worker is told. It comes in a memfd whose number is on the command line."""

    pipeline: str
    stage: str
    section: str
    """Where the topology says what it is to do, such as `stages.decode`, for what is said to its author."""
    incarnation: int
    launcher_pid: int
    control_endpoint: str
    stream: str
    epoch: int
    log_level: Level
    device: str
    frame: Frame
    stats_fd: int
    spec: AnyStage | None = None
    relay_url: str | None = None
    relay_token: str | None = None
    """What opens the embedded relay to a stage that uses it, as the topology has it: `${NAME}` is for the worker to
    look up, so that the secret is in its environment alone."""
    api_url: str | None = None
    listen_fd: int | None = None
    media_fds: tuple[int, ...] = ()
    """More listening sockets of the relay's."""
    tls_fd: int | None = None
    """And the one that speaks TLS."""
    relay: Relay | None = None
    """The relay's section, for the relay alone: it holds the tokens."""
    api: Api | None = None
    """The api's section, for the api alone, for the same reason."""
    otel: str | None = None
    """The collector that traced frames are sent to, for the process that sends them."""
    encoded: EncodedBoot | None = None
    input: LinkBoot | None = None
    output: LinkBoot | None = None
    audio_endpoint: str | None = None
    """Where egress listens for sound and text."""
    samples_endpoint: str | None = None
    """Where inference listens for decoded sound, if its processor takes it."""
    keep_alive: float = 0.0
    live: bool = False
    """Whether the output follows the clock: then late frames are dropped, which else are waited for."""
    excerpt: Excerpt | None = None
    """The part of a file that is shown; ingress begins to read where decoding it has to begin."""
    trace: TraceBoot | None = None
    tap: TapBoot | None = None
    recording: Recording | None = None
    """The section of the recording, for the process that writes it."""
    changes_from: str | None = None
    """A recording that is fed again: decode and inference take the parameters that were changed in it."""
    on_request: bool = False
    """Whether other streams come after this one: then inference waits for the next. `stream` is empty, and `epoch` -1,
    before the first."""
    allow_private: bool | None = None
    """Somebody who asked for the stream named the URLs: whether they may lead to this machine and to private networks.
    None: they are the topology's."""
    lanes: tuple[LaneBoot, ...] = ()
    """For inference alone: the streams that it serves, each in its place."""
    source_timeout: float | None = None
    """Seconds without a byte from the source after which the stream is at its end; None: it is waited for."""

    @property
    def inputs(self) -> list[LinkBoot]:
        """The frame links before the process."""
        return [link for link in (self.input, *(lane.input for lane in self.lanes)) if link is not None]

    @property
    def outputs(self) -> list[LinkBoot]:
        """And those behind it."""
        return [link for link in (self.output, *(lane.output for lane in self.lanes)) if link is not None]

    @property
    def identity(self) -> bytes:
        """The process's address on the control socket."""
        return f"{self.stage}#{self.incarnation}".encode()


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


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a processor, with the `value` that is in force, as a form shows it. `node` is the id of the node
    of a workflow whose input it is, `title` what people call that node; both are empty where there are no nodes. `min`,
    `max` and `step` are for numbers, `choices` for the kind `choice`. The kind `json` is whatever fits no other."""

    name: str
    kind: Literal["int", "float", "bool", "text", "choice", "json"]
    value: Any
    node: str = ""
    title: str = ""
    min: float | None = None
    max: float | None = None
    step: float | None = None
    choices: list[str] = []
    multiline: bool = False


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
    """The stage has handed on everything it had, and exits with 0. `reason`: why it came to its end by itself, if there
    is something to say of that."""

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
    """The answer to Update `number`: `params` are all that are in force now; or nothing was changed, and `problem` says
    why. `parameters` describe them anew, as in Ready."""

    stage: str
    incarnation: int
    number: int
    params: dict[str, Any] | None = None
    problem: str = ""
    parameters: list[Parameter] | None = None


class StatusRequest(msgspec.Struct, frozen=True, tag="status"):
    """Answered with Status."""


class RecordRequest(msgspec.Struct, frozen=True, tag="record"):
    """From whoever records: have the stages tell what they see, for `recording`, an id of its own making. Answered with
    RecordAnswer, and to be repeated: who is not heard of for RECORD_LEASE_SECONDS is taken to be gone."""

    recording: str


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
    all parameters; a new process loads them while the old one works on, and takes over when it is ready."""

    stage: str
    params: dict[str, Any]
    renew: bool = False
    stream: str = ""
    """With streams on request: for this one alone; empty: for all that run, or for those to come while none does."""


class LogLevelRequest(msgspec.Struct, frozen=True, tag="log_level_request"):
    """From now on log of a stage, or of the launcher, what is at least of this level. Answered with Answer."""

    stage: str
    level: Level


class StreamSpec(msgspec.Struct, frozen=True):
    """One live stream as somebody asked for it. The URLs are trickle channels; empty: none. `width` and `height` are
    those of its frames, by default those of the topology; `params` are the processor's for this stream, and `labels`
    what whoever asked calls it, handed back with its status and events. Of the processor's time, where several streams
    want it, each gets a share after its `weight`."""

    stream: str
    subscribe_url: str
    publish_url: str
    control_url: str = ""
    events_url: str = ""
    data_url: str = ""
    width: int | None = None
    height: int | None = None
    params: dict[str, Any] = {}
    labels: dict[str, str] = {}
    weight: float = 1.0


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
    """What a recorder has to know: `endpoint` is where the stages look for it, `topology` the resolved one without
    secrets and with the parameters in force, `timelines` decode's before each of its last segments, as segment, offset
    and last picture. Not `ok`: somebody else records, and `text` says so."""

    ok: bool
    text: str
    endpoint: str = ""
    pipeline: str = ""
    stream: str = ""
    epoch: int = 0
    topology: dict[str, Any] = {}
    timelines: list[tuple[int, int, int | None]] = []


class SupervisionEvent(msgspec.Struct, frozen=True, tag="supervision_event"):
    """Something happened to a stage, or was reported by one. `time` is seconds since the epoch (UTC)."""

    time: float
    level: EventLevel
    stage: str
    name: str
    fields: dict[str, str | int | float]


class Usage(msgspec.Struct, frozen=True):
    """What processes use: CPU seconds so far, resident bytes, threads and open file descriptors just now."""

    cpu_s: float = 0.0
    rss_bytes: int = 0
    threads: int = 0
    open_fds: int = 0


class Encoding(msgspec.Struct, frozen=True):
    """What an encoder does: the bit/s that the topology wants, those that it aims at just now (0 for constant quality,
    or before the first picture), and the bytes of video that it has made."""

    wanted: int
    target: int
    video_bytes: int


class StageStatus(msgspec.Struct, frozen=True):
    """One stage. `pid` and `uptime_s` are those of its active process; counters and usage those of all its processes.
    `rate_in` and `rate_out` are units a second of late.
    `latency_ms` are p50 and p95 from a frame's arrival at the stage to its being handed on. `spares` are loaded and
    wait to take over; `passing_through`: a stand-in hands the input on as it is. `last_death` is how the latest process
    died, such as SIGKILL; empty when none has. Decode counts what never became a frame: `skipped` access units are
    damaged or come before the first key picture, `capped` pictures are more a second than `frame.max_fps`, `replayed`
    ones were delivered by a process that has died. `busy_s` is the time spent on work. `latency` is what `latency_ms`
    are quantiles of; `recovery` and `output_gap` are those after deaths, see docs/metrics.md."""

    stage: str
    worker: str
    state: str
    pid: int | None
    restarts: int
    uptime_s: float
    units_in: int
    units_out: int
    rate_in: float
    rate_out: float
    latency_ms: tuple[float | None, float | None]
    cpu_s: float
    cpu_percent: float
    rss_bytes: int
    spares: int
    passing_through: bool
    last_death: str
    skipped: int = 0
    capped: int = 0
    replayed: int = 0
    repeated: int = 0
    audio_dropped: int = 0
    segments_lost: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    threads: int = 0
    open_fds: int = 0
    busy_s: float = 0.0
    latency: Histogram | None = None
    recovery: Histogram | None = None
    output_gap: Histogram | None = None
    encoding: Encoding | None = None


class SlotStatus(msgspec.Struct, frozen=True):
    """One slot at some moment. `seq` is -1 before the first frame; `attempts` are deaths of the consumer on the frame;
    `owner` is the stage and incarnation that holds the slot, such as `decode#2`, empty when nobody does; `age_ms` is
    the time since it came into its state, 0 while it is FREE."""

    state: str
    generation: int
    seq: int
    attempts: int
    owner: str
    age_ms: float


class LinkStatus(msgspec.Struct, frozen=True):
    """A frame link: begun + dropped before a slot = the sum of `outcomes` + in_flight. `published` is 1 + the highest
    sequence number that was handed over; `ended`: no further frame will come."""

    link: str
    producer: str
    consumer: str
    policy: Policy
    begun: int
    published: int
    ended: bool
    in_flight: int
    outcomes: dict[str, int]
    slots: list[SlotStatus]


class FrameCount(msgspec.Struct, frozen=True):
    """The equation of the whole pipeline: decoded = delivered + the sum of dropped + in_flight, at any quiet moment."""

    decoded: int
    delivered: int
    dropped: dict[str, int]
    in_flight: int

    @property
    def balanced(self) -> bool:
        return self.decoded == self.delivered + sum(self.dropped.values()) + self.in_flight

    def plus(self, other: "FrameCount") -> "FrameCount":
        reasons = [*self.dropped, *(reason for reason in other.dropped if reason not in self.dropped)]
        return FrameCount(
            decoded=self.decoded + other.decoded,
            delivered=self.delivered + other.delivered,
            dropped={reason: self.dropped.get(reason, 0) + other.dropped.get(reason, 0) for reason in reasons},
            in_flight=self.in_flight + other.in_flight,
        )


class StreamStatus(msgspec.Struct, frozen=True):
    """A stream on request. `state` is STARTING until its first frame was sent, then ONLINE; STOPPING; and when it is
    over ENDED, or FAILED with the `reason`. `began` and `ended` are seconds since the epoch (UTC), 0: not yet.
    `first_in_ms` and `first_out_ms` are the times from the start to the first decoded and the first sent frame.
    `frames` are this stream's own counts, `end_to_end` are its frames' times from end to end."""

    spec: StreamSpec
    state: Literal["STARTING", "ONLINE", "STOPPING", "ENDED", "FAILED"]
    reason: str
    began: float
    ended: float
    first_in_ms: float | None
    first_out_ms: float | None
    fps: float
    frames: FrameCount
    end_to_end: Histogram | None = None
    stages: tuple[str, ...] = ()
    """Those that it goes through, while it has them: its own, and that of inference which serves it."""
    paused: bool = False


class Progress(msgspec.Struct, frozen=True):
    """How far a file has been processed: `done_s` of its `length_s` seconds (None: it does not state them), in
    `elapsed_s` seconds on the clock."""

    done_s: float
    length_s: float | None
    elapsed_s: float

    @property
    def left_s(self) -> float | None:
        """Seconds of work left, at the rate so far; None while it is not known."""
        if self.length_s is None or not self.done_s or not self.elapsed_s:
            return None
        return max(0.0, self.length_s - self.done_s) * self.elapsed_s / self.done_s


class Status(msgspec.Struct, frozen=True, tag="status_reply"):
    """Everything that the launcher knows. `repeated` are pictures that egress showed again because no new one came,
    `added` those that the processor made besides the frames' own. `end_to_end_ms` are quantiles of `end_to_end`.
    `progress` is that of a file; None with a live source. `paused`: frames are not processed, on request. `launcher`
    is what the launcher itself uses."""

    pipeline: str
    state: str
    reasons: list[str]
    uptime_s: float
    stages: list[StageStatus]
    links: list[LinkStatus]
    frames: FrameCount
    repeated: int
    fps: float
    end_to_end_ms: tuple[float | None, float | None]
    progress: Progress | None = None
    added: int = 0
    streams: list[StreamStatus] = []
    """Those on request: the running ones, and the last that ended."""
    paused: bool = False
    streams_ended: dict[str, int] = {}
    """How many are over, by their last state."""
    end_to_end: Histogram | None = None
    launcher: Usage = Usage()

    @property
    def healthy(self) -> bool:
        """Whether frames can flow, or will soon."""
        return self.state in ("OK", "LOADING", "DRAINING")


class Hop(msgspec.Struct, frozen=True):
    """A part of a frame's way: it began `start_ms` after the frame's arrival in ingress and took `ms`."""

    name: str
    start_ms: float
    ms: float


class FrameTrace(msgspec.Struct, frozen=True):
    """The way of one frame, up to where it was shown or dropped: `outcome` says which. `pts` counts 1/90000 s,
    `arrived` is seconds since the epoch (UTC)."""

    stream: str
    epoch: int
    seq: int
    pts: int
    outcome: str
    arrived: float
    total_ms: float
    hops: list[Hop]


class HopTimes(msgspec.Struct, frozen=True):
    """How long one hop takes, over `count` frames that were traced all the way; None without any."""

    name: str
    count: int
    p50_ms: float | None
    p95_ms: float | None


class Traces(msgspec.Struct, frozen=True, tag="traces_reply"):
    """The newest traced frames, newest first. One in `every` is traced; 0: none."""

    every: int
    traces: list[FrameTrace]
    hops: list[HopTimes]


class StagePlan(msgspec.Struct, frozen=True):
    """One stage as the topology has it now: the links that it takes from and hands on to, the trickle channels that it
    reads and writes, and the file; empty: none. `runs` is what a stage of inference has for its processor, and
    `serves` are the decode stages whose frames it takes."""

    stage: str
    worker: str
    input: str
    output: str
    reads: str
    writes: str
    file: str = ""
    runs: str = ""
    serves: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, tag="plan_reply"):
    """What the pipeline consists of, as of now: with streams on request, `reads` and `writes` are those of the stream
    that runs. `frame` is the size of its frames, `largest` what the slots of every link hold. `kind` says what
    runs, a key of topology_sections.Processor, and `parameters` are its own."""

    pipeline: str
    on_request: bool
    has_relay: bool
    stages: list[StagePlan]
    frame: Frame
    largest: FrameFormat
    kind: str
    parameters: list[Parameter]


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
