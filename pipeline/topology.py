"""What a topology file may say as a whole: the stages, the links, and what holds for all. One Struct a section, whose
types are the schema; the smaller sections are in `topology_sections`.

What no single section can say, that stages and links make one chain, is `topology_graph`'s; reading the file, with
errors that name the line, is `topology_file`'s.
"""

from typing import Annotated, Literal

import msgspec

from pipeline.media.excerpt import Excerpt
from pipeline.topology_logs import Logs
from pipeline.topology_sections import (
    MAX_STREAMS,
    Api,
    AudioEncoder,
    ClientTls,
    Encoder,
    Frame,
    Limits,
    Processor,
    Recording,
    Relay,
    Restart,
    Schedule,
    Sink,
    Size,
    Source,
    Streams,
    Tracing,
)
from pipeline.topology_values import Device, FrameMemory, Name, Policy, Section


class Stage(Section, tag_field="worker", kw_only=True, frozen=True):
    """What every stage may say. `python` is the interpreter to run it with, by default the launcher's; `restart` and
    `limits` replace those of the whole file."""

    python: str | None = None
    restart: Restart | None = None
    limits: Limits | None = None
    schedule: Schedule = Schedule()


class Ingress(Stage, tag="ingress", kw_only=True, frozen=True):
    """Subscribes to the source and hands encoded bytes to decode. With streams on request each brings its own."""

    source: Source | None = None
    output: Name


class Decode(Stage, tag="decode", kw_only=True, frozen=True):
    """Turns encoded bytes into RGB frames; sends audio past inference. `hardware`: auto decodes on the graphics card
    where NVDEC opens, else on the CPU; docs/media.md says when that pays."""

    input: Name
    output: Name
    audio: bool = True
    hardware: Literal["cpu", "auto"] = "cpu"


class Inference(Stage, tag="inference", kw_only=True, frozen=True):
    """Runs the processor on every frame. `spares` more processes have it loaded and take over at once when the one at
    work dies. `while_away` is what viewers see when none is there, while a model loads too: the last frame, the input
    passed through, or the input dimmed with the text `notice` over it. Several streams are shared among `replicas`,
    each with a process and spares of its own; by default there is one, or one for each of the `devices`, which are
    given to them in turn in the place of the file's `device`."""

    input: Name
    output: Name
    processor: Processor
    spares: Annotated[int, msgspec.Meta(ge=0, le=4)] = 0
    while_away: Literal["last_frame", "pass_through", "notice"] = "last_frame"
    notice: Annotated[str, msgspec.Meta(min_length=1, max_length=40)] = "one moment"
    replicas: Annotated[int, msgspec.Meta(ge=1, le=MAX_STREAMS)] | None = None
    devices: Annotated[tuple[Device, ...], msgspec.Meta(max_length=MAX_STREAMS)] = ()

    @property
    def pool_size(self) -> int:
        """How many replicas there are."""
        return self.replicas or len(self.devices) or 1

    @property
    def has_stand_in(self) -> bool:
        """Whether another process shows something in its place."""
        return self.while_away != "last_frame"


class Egress(Stage, tag="egress", kw_only=True, frozen=True):
    """Encodes frames and publishes them with the audio, which goes out as it came unless `audio` says what to encode it
    to. While inference is away, a live output repeats the last frame at the stream's rate for up to `keep_alive`
    seconds; 0: never. An output that waits for every frame (no `latest` link before it) repeats none. With streams on
    request each brings its own sink."""

    input: Name
    sink: Sink | None = None
    encoder: Encoder = Encoder()
    audio: AudioEncoder | None = None
    keep_alive: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 60.0


class Publisher(Stage, tag="publisher", kw_only=True, frozen=True):
    """Plays a file live into a trickle channel, as a camera would: a source to try a pipeline with. `token` and `tls`
    are those of Source."""

    file: str
    channel: str
    token: str | None = None
    tls: ClientTls | None = None


class Recorder(Stage, tag="recorder", kw_only=True, frozen=True):
    """Subscribes to `channel` as a viewer would and keeps what it saw in `file`, an mp4; in `still`, a PNG of one
    moment of the channel `compare` beside the same moment of `channel`. `token` and `tls` are those of Source, for both
    channels."""

    channel: str
    file: str
    still: str | None = None
    compare: str | None = None
    token: str | None = None
    tls: ClientTls | None = None


AnyStage = Ingress | Decode | Inference | Egress | Publisher | Recorder

ChannelUser = Source | Sink | Publisher | Recorder
"""The sections that name channels, with what opens those of other servers: `token` and `tls`."""

SPINE: tuple[type[Stage], ...] = (Ingress, Decode, Inference, Egress)
"""Through these every stream goes, in this order; a topology has one of each."""

SERVICES = ("relay", "api", "otel", "recording")
"""Processes that are no stages. They end after the stages, and are started again whenever they end before."""

OF_ONE_STREAM = (Ingress, Decode, Egress)
"""With streams on request, these live as long as a stream does; inference stays."""


class Link(Section, kw_only=True, frozen=True):
    """What joins two stages. Frames: `slots` and `policy` (latest: the consumer gets the newest frame; block: every
    frame, and the producer waits); `max_frame`: the largest picture that a slot holds, by default that of `frame`.
    Encoded bytes: `buffer_bytes`, the most that is kept for a restart of decode."""

    slots: Annotated[int, msgspec.Meta(ge=2, le=64)] = 6
    max_frame: Size | None = None
    policy: Policy = "block"
    buffer_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=1 << 30)] = 16 << 20


class Topology(Section, kw_only=True, frozen=True):
    """A whole file."""

    name: Name
    stages: dict[Name, AnyStage]
    links: dict[Name, Link] = msgspec.field(default_factory=dict)
    device: Device = "auto"
    frame_memory: FrameMemory = "host"
    frame: Frame = Frame()
    restart: Restart = Restart()
    limits: Limits = Limits()
    relay: Relay | None = None
    api: Api | None = None
    streams: Streams = Streams()
    tracing: Tracing = Tracing()
    logs: Logs = Logs()
    recording: Recording | None = None

    def producer_of(self, link: str) -> str | None:
        """The stage that writes to `link`."""
        return next((name for name, stage in self.stages.items() if getattr(stage, "output", None) == link), None)

    def consumer_of(self, link: str) -> str | None:
        """The stage that reads from `link`."""
        return next((name for name, stage in self.stages.items() if getattr(stage, "input", None) == link), None)

    def stage_of(self, worker: type[Stage]) -> str | None:
        """The stage whose worker is of this kind; the spine has one of each."""
        return next((name for name, stage in self.stages.items() if isinstance(stage, worker)), None)

    @property
    def source(self) -> Source | None:
        """What ingress reads; None with streams on request."""
        return next((stage.source for stage in self.stages.values() if isinstance(stage, Ingress)), None)

    @property
    def excerpt(self) -> Excerpt | None:
        """See Source.excerpt."""
        return self.source.excerpt if self.source is not None else None

    @property
    def fed_again(self) -> str | None:
        """The recording that ingress reads, if it reads one."""
        return self.source.recording if self.source is not None else None

    def carries_frames(self, link: str) -> bool:
        """Whether the link joins decode, inference and egress; the one into decode carries encoded bytes."""
        producer = self.producer_of(link)
        return producer is not None and not isinstance(self.stages[producer], Ingress)


def channel_user(path: str, stage: Stage | None) -> tuple[str, ChannelUser] | None:
    """The section of the stage at `path`, such as stages.egress, that names channels, if one does, after its own
    path."""
    match stage:
        case Ingress(source=Source() as section):
            return f"{path}.source", section
        case Egress(sink=Sink() as section):
            return f"{path}.sink", section
        case Publisher() | Recorder():
            return path, stage
    return None


def channels_of(user: ChannelUser) -> dict[str, str]:
    """The channels that a section names, by their keys."""
    values = {key: getattr(user, key, None) for key in ("trickle", "text", "channel", "compare")}
    return {key: channel for key, channel in values.items() if channel is not None}


def is_on_relay(channel: str) -> bool:
    """Whether `channel` is a name on the embedded relay; else it is a URL."""
    return "://" not in channel
