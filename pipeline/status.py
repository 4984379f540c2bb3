"""What the launcher tells of the pipeline when it is asked: how it fares, what way single frames took, what it consists
of. The types are the schema; the questions are in `messages`."""

from typing import Any, Literal

import msgspec

from pipeline.boot import FrameFormat
from pipeline.histogram import Histogram
from pipeline.topology_sections import Frame
from pipeline.topology_values import Policy


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
        return self.state in ("OK", "LOADING", "DRAINING") or self.serves

    @property
    def serves(self) -> bool:
        """Whether streams can be sent here although it is DEGRADED: nothing has failed but replicas of inference, and
        another one is there."""
        failed = {stage.worker for stage in self.stages if stage.state == "FAILED"}
        at_work = any(stage.worker == "inference" and stage.state == "READY" for stage in self.stages)
        return self.state == "DEGRADED" and failed == {"inference"} and at_work


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
