"""The sections of a topology file that are no stages: frames, restarts, the relay, where a stage reads and writes, what
it runs. The file as a whole is in `topology`."""

from typing import Annotated, Any, Literal

import msgspec

from pipeline.media.excerpt import Excerpt, excerpt
from pipeline.media.file_kinds import container_of
from pipeline.topology_byoc import Byoc
from pipeline.topology_values import (
    MIN_BITRATE,
    BitRate,
    Bytes,
    Callable,
    Count,
    Dimension,
    Port,
    Positive,
    Rate,
    Seconds,
    SecondsOrNever,
    Section,
    is_loopback,
)


class Frame(Section, kw_only=True, frozen=True):
    """Size of every frame between decode and egress, in pixels, and how a source of another shape is made to fit. Of a
    source with more than `max_fps` pictures a second, so many are processed, evenly spaced; by default all."""

    width: Dimension = 512
    height: Dimension = 512
    fit: Literal["crop", "pad", "stretch"] = "crop"
    max_fps: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None


class Size(Section, kw_only=True, frozen=True):
    """In pixels."""

    width: Dimension
    height: Dimension


class Restart(Section, kw_only=True, frozen=True):
    """How often a stage that dies is started again: at most `max_restarts` times in `window` seconds, the n-th time in
    a row after `backoff * 2**(n-2)` seconds (the first at once), at most `backoff_max`."""

    max_restarts: Annotated[int, msgspec.Meta(ge=0)] = 5
    window: Seconds = 60.0
    backoff: Seconds = 0.1
    backoff_max: Seconds = 5.0


class Limits(Section, kw_only=True, frozen=True):
    """Seconds after which a stage counts as failed to start (`ready`), as hanging (`heartbeat`: no sign of life;
    `progress`: busy with one piece of work), or as failed to stop (`drain`)."""

    ready: Seconds = 120.0
    heartbeat: Seconds = 5.0
    progress: Seconds = 30.0
    drain: Seconds = 15.0


class RelayLimits(Section, kw_only=True, frozen=True):
    """What one relay will hold, and how long it waits: bytes, bytes a second, seconds (`_s`). docs/trickle.md says what
    each one does. 0 is no limit where it is allowed: by default a live source may rest as long as it likes
    (`min_write_rate`), and a reader may wait for ever (`reader_wait_s`)."""

    max_channels: Count = 1024
    segments_per_channel: Annotated[int, msgspec.Meta(ge=3, le=1024)] = 5
    max_segment_bytes: Bytes = 256 << 20
    max_channel_bytes: Bytes = 512 << 20
    max_total_bytes: Bytes = 1 << 30
    max_connections: Count = 4096
    max_connections_per_address: Count = 2048
    max_head_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 20)] = 16 << 10
    head_timeout_s: Seconds = 10.0
    idle_connection_s: Seconds = 600.0
    min_write_rate: Rate = 0
    min_read_rate: Rate = 1024
    rate_window_s: Seconds = 30.0
    reader_wait_s: SecondsOrNever = 0.0
    idle_timeout_s: Seconds = 300.0
    sweep_interval_s: Seconds = 60.0
    broken_post_grace_s: SecondsOrNever = 5.0
    interim_interval_s: Seconds = 10.0


class RelayTls(Section, kw_only=True, frozen=True):
    """One more port of the relay's, for clients elsewhere: the same channels over TLS. `certificate` and `key` are PEM
    files; with `client_ca` a client has to show a certificate that it signed."""

    certificate: str
    key: str
    client_ca: str | None = None
    host: str = "127.0.0.1"
    port: Port = 5443


class Relay(Section, kw_only=True, frozen=True):
    """The embedded trickle server. Port 0 takes any free one. Channels are at http://host:port/NAME, and at the same
    path on each of `media_ports`.

    `channels` maps names to content types: these are there from the start. With `autocreate` clients make others by
    writing them. `changefeed`: the channel `_changes` says which come and go. `cors_origins`: the sites whose pages may
    use the relay, such as https://player.example, or * for all. With `publish_tokens` whoever writes or removes has to
    show one as a bearer token, with `subscribe_tokens` whoever reads one of either; ${NAME} stands for an environment
    variable. `tls` is another port, encrypted."""

    host: str = "127.0.0.1"
    port: Port = 5678
    media_ports: tuple[Port, ...] = ()
    autocreate: bool = True
    channels: dict[str, str] = msgspec.field(default_factory=dict)
    changefeed: bool = False
    cors_origins: tuple[str, ...] = ()
    publish_tokens: tuple[str, ...] = ()
    subscribe_tokens: tuple[str, ...] = ()
    tls: RelayTls | None = None
    limits: RelayLimits = RelayLimits()

    @property
    def own_token(self) -> str | None:
        """What this pipeline's own stages show to the relay, as the file has it: it lets them write and read."""
        return self.publish_tokens[0] if self.publish_tokens else None


class ApiTls(Section, kw_only=True, frozen=True):
    """The HTTP service speaks TLS and nothing else. `certificate`, `key` and `client_ca` are those of RelayTls."""

    certificate: str
    key: str
    client_ca: str | None = None


class Api(Section, kw_only=True, frozen=True):
    """The HTTP service: docs/api.md. With `tokens` every request but /health and /ready has to show one as a bearer
    token; ${NAME} stands for an environment variable. `cors_origins` are those of Relay.

    Whoever asks for a stream names URLs that this machine then opens: `allowed_urls` are what they may begin with, by
    default any; `allow_private` lets them lead to this machine and to private networks, by default if and only if the
    service itself is for this machine alone, that is, `host` is a loopback address.

    `max_request_bytes` is the longest body, and the longest message on a control channel; `requests_per_second` what
    one client may ask, twice as much at once, 0: no limit; `max_upload_bytes` is the longest file that a browser may
    hand over to be published. Every `stats_seconds` the events channel of a stream gets its figures; Livepeer's gateway
    gives a stream up after 30 s without any. With `byoc` the node is registered with an orchestrator once its model is
    loaded."""

    host: str = "127.0.0.1"
    port: Port = 9876
    tokens: tuple[str, ...] = ()
    tls: ApiTls | None = None
    cors_origins: tuple[str, ...] = ()
    allowed_urls: tuple[str, ...] = ()
    allow_private: bool | None = None
    max_request_bytes: Bytes = 8 << 20
    requests_per_second: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 100.0
    max_upload_bytes: Bytes = 1 << 30
    stats_seconds: Seconds = 10.0
    byoc: Byoc | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        return is_loopback(self.host)

    @property
    def permits_private(self) -> bool:
        """See `allow_private`."""
        return self.is_local if self.allow_private is None else self.allow_private


MAX_STREAMS = 16


class Streams(Section, kw_only=True, frozen=True):
    """How many streams may run at once, each with an ingress, a decode, an egress and links of its own; inference
    serves all of them, or each of its replicas some. With `on_request` none runs until somebody asks for it on the
    control socket, and who asks says what it reads and writes: ingress has no `source`, egress no `sink`; more than
    one stream needs that. `while_loading`: what becomes of a request while no processor is at work, it waits or is
    refused. A stream whose source is gone, or never came, for `source_timeout` seconds ends by itself. One more is
    refused if, by what those that run were measured to cost, all of them would take more than `admit_below` of
    inference's time or of the machine's CPU cores; 0: never."""

    max: Annotated[int, msgspec.Meta(ge=1, le=MAX_STREAMS)] = 1
    on_request: bool = False
    while_loading: Literal["wait", "refuse"] = "wait"
    source_timeout: Seconds = 30.0
    admit_below: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.95


class Tracing(Section, kw_only=True, frozen=True):
    """One frame in `every` notes when it passes each hop, for `launcher.py trace` and /traces; 0: none does. `otel` is
    the base URL of an OpenTelemetry collector that takes OTLP over HTTP, such as http://127.0.0.1:4318."""

    every: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 30
    otel: Annotated[str, msgspec.Meta(min_length=1)] | None = None


class Recording(Section, kw_only=True, frozen=True):
    """What the stream was fed and what came of it is kept in `file`, from its start on, for `launcher.py replay`. It
    ends with the stream, or after `seconds`, or once it has `max_bytes`."""

    file: Annotated[str, msgspec.Meta(min_length=1)]
    max_bytes: Bytes = 1 << 30
    seconds: Seconds | None = None


class ClientTls(Section, kw_only=True, frozen=True):
    """PEM files for an https URL. `ca`: whom to trust in the place of the system's authorities; `certificate` and its
    `key`: what to show to a server that asks its clients for one."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        if self.ca is None and self.certificate is None:
            raise ValueError("ca is needed, or certificate and key, or all three")


class Source(Section, kw_only=True, frozen=True):
    """Where a stage reads: a trickle channel (a name on the embedded relay, or a URL), a file, or a recording of what a
    pipeline was fed. A server elsewhere gets `token` as a bearer token, ${NAME} for an environment variable; `tls` says
    whom to trust there. Of a file, `duration` seconds from `start` on are read; by default all of it. A recording is
    fed as fast as it is taken, or in its own time (`real_time`), and changes parameters where they were changed."""

    trickle: str | None = None
    file: str | None = None
    recording: str | None = None
    real_time: bool = False
    start: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    duration: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    token: str | None = None
    tls: ClientTls | None = None

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.trickle, self.file, self.recording)) != 1:
            raise ValueError("exactly one of trickle, file, recording is needed")
        if self.recording is None and self.real_time:
            raise ValueError("real_time is for a recording")
        if self.file is None and (self.start or self.duration is not None):
            raise ValueError("start and duration are for a file")

    @property
    def is_hurried(self) -> bool:
        """Whether nothing paces it but those who take it."""
        return self.trickle is None and not self.real_time

    @property
    def excerpt(self) -> Excerpt | None:
        """The part of the file that is processed; None for a live source, of which everything is."""
        return None if self.file is None else excerpt(self.start, self.duration)


class Sink(Section, kw_only=True, frozen=True):
    """Where egress writes: a trickle channel (a name on the embedded relay, or a URL), a file (.mp4, .mkv, .mov,
    .ts), or both. `text` is a channel for what the processor writes, as JSON lines. `resume` goes on behind what an
    interrupted run wrote to the file. `token` and `tls` are those of Source."""

    trickle: str | None = None
    file: str | None = None
    text: str | None = None
    resume: bool = False
    token: str | None = None
    tls: ClientTls | None = None

    def __post_init__(self) -> None:
        if self.trickle is None and self.file is None:
            raise ValueError("at least one of trickle, file is needed")
        if self.file is not None:
            container_of(self.file)


class Encoder(Section, kw_only=True, frozen=True):
    """The output video. `bitrate` is bits per second, a number or such as 1500k, 2.5M; while a publisher cannot keep up
    with it, less is used, down to `bitrate_floor`, by default a quarter. `crf` replaces both by a constant quality:
    then nothing adapts, and a publisher that cannot keep up gets fewer pictures. A segment begins with a keyframe every
    `gop_seconds`. `codec`: auto is h264_nvenc where that opens, else libx264, and so is h264_nvenc, with a warning."""

    codec: Literal["libx264", "h264_nvenc", "auto"] = "libx264"
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"] = "superfast"
    bitrate: BitRate | Annotated[int, msgspec.Meta(ge=MIN_BITRATE)] = "1500k"
    bitrate_floor: BitRate | Annotated[int, msgspec.Meta(ge=MIN_BITRATE)] | None = None
    crf: Annotated[int, msgspec.Meta(ge=0, le=51)] | None = None
    gop_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=30)] = 1.0
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1

    def __post_init__(self) -> None:
        for rate in (self.bitrate, self.bitrate_floor):
            if rate is not None and _bits_per_second(rate) < MIN_BITRATE:
                raise ValueError(f"a bitrate of {rate} is too low; allowed: bits per second from 10k on")
        if self.bitrate_floor is None:
            return
        if self.crf is not None:
            raise ValueError("bitrate_floor goes with bitrate, not with crf")
        if self.floor_bits_per_second > self.bits_per_second:
            raise ValueError(f"bitrate_floor {self.bitrate_floor} is above bitrate {self.bitrate}")

    @property
    def bits_per_second(self) -> int:
        return _bits_per_second(self.bitrate)

    @property
    def floor_bits_per_second(self) -> int:
        if self.bitrate_floor is None:
            return max(MIN_BITRATE, self.bits_per_second // 4)
        return _bits_per_second(self.bitrate_floor)


class AudioEncoder(Section, kw_only=True, frozen=True):
    """Sound that is encoded anew, for players that cannot play the source's codec. `bitrate` is that of all channels,
    from 16k to 256k."""

    codec: Literal["aac", "opus"]
    bitrate: BitRate | Annotated[int, msgspec.Meta(ge=16_000, le=256_000)] = "128k"

    def __post_init__(self) -> None:
        if not 16_000 <= self.bits_per_second <= 256_000:
            raise ValueError(f"bitrate {self.bitrate} must be from 16k to 256k")

    @property
    def bits_per_second(self) -> int:
        return _bits_per_second(self.bitrate)


def _bits_per_second(rate: str | int) -> int:
    if isinstance(rate, int):
        return rate
    factor = {"k": 1_000, "M": 1_000_000}.get(rate[-1], 1)
    return int(float(rate.rstrip("kM")) * factor)


class ComfyUI(Section, kw_only=True, frozen=True):
    """A ComfyUI workflow: `workspace` is the folder of a ComfyUI checkout, `workflow` a JSON file in the API format.
    `models` is one more folder to look for models in, with checkpoints/, loras/ and so on; `arguments` are ComfyUI's
    own, such as --lowvram. Its requirements belong to the interpreter that the stage's `python` names."""

    workspace: str
    workflow: str
    models: str | None = None
    arguments: tuple[str, ...] = ()


class ComfyStream(Section, kw_only=True, frozen=True):
    """A ComfyUI workflow that ComfyStream's client runs: `workspace` is a folder with models/ and custom_nodes/,
    `workflow` a JSON file in the API format; `arguments` are ComfyUI's own. The interpreter that the stage's `python`
    names has ComfyStream installed."""

    workspace: str
    workflow: str
    arguments: tuple[str, ...] = ()


class Batch(Section, kw_only=True, frozen=True):
    """Frames of several streams go to the processor together: up to `max` of them, as many as are there `wait_ms` after
    the first. They are those of streams whose frames have the same size and the same parameters."""

    max: Annotated[int, msgspec.Meta(ge=2, le=MAX_STREAMS)]
    wait_ms: Annotated[float, msgspec.Meta(ge=0, le=100)] = 5.0


PROCESSOR_KINDS = ("callable", "comfyui", "comfystream", "trickle_app", "file")


class Processor(Section, kw_only=True, frozen=True):
    """What inference runs: `callable` names a function or class as module:name, with `params` as its keyword
    arguments; `comfyui` is a workflow, with `params` as changes of it: {nodes: {"3": {inputs: {seed: 7}}}};
    `comfystream` is one that ComfyStream runs; `trickle_app` names a processor written for trickle-app (pytrickle),
    module:name, with `params` for its load_model and update_params; `file` is a program saved by torch.jit.save or
    torch.export.save. `compile` has torch compile a callable or a file, in the mode that it names; the first frame
    waits for no compilation.

    `threads` is how many CPU threads torch may use, by default half of the cores, shared among replicas: with all of
    them, one busy neighbour stalls every parallel loop (a 7 ms frame took 270 ms). `audio`: the processor takes the
    sound too, which else goes out as it came. Of a coroutine up to `in_flight` frames are under way at a time; they
    are shown in their order. With `batch` a callable gets frames of several streams at a time, as one tensor (n,
    height, width, 3). `on_error` is what viewers see in the place of a frame on which it failed: the frame before, or
    the input passed through. After `give_up_after` failures in a row its process is started again; 0: never."""

    callable: Callable | None = None
    comfyui: ComfyUI | None = None
    comfystream: ComfyStream | None = None
    trickle_app: Callable | None = None
    file: str | None = None
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    threads: Positive | None = None
    audio: bool = False
    in_flight: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    batch: Batch | None = None
    on_error: Literal["last_frame", "pass_through"] = "last_frame"
    give_up_after: Annotated[int, msgspec.Meta(ge=0)] = 100

    def __post_init__(self) -> None:
        if sum(getattr(self, kind) is not None for kind in PROCESSOR_KINDS) != 1:
            raise ValueError(f"exactly one of {', '.join(PROCESSOR_KINDS)} is needed")
        if self.compile is not None and self.kind not in ("callable", "file"):
            raise ValueError("compile goes with callable and file only")
        if self.audio and self.kind in ("file", "comfystream"):
            hint = "; the kind comfyui takes workflows with sound" if self.kind == "comfystream" else ""
            raise ValueError(f"audio does not go with {self.kind}{hint}")
        if self.in_flight > 1 and self.kind not in ("callable", "trickle_app"):
            raise ValueError("in_flight goes with callable and trickle_app only")
        if self.batch is not None and (self.kind != "callable" or self.in_flight > 1 or self.audio):
            raise ValueError("batch goes with callable only, and neither with in_flight nor with audio")
        if self.file is not None and self.params:
            raise ValueError("a saved program takes no params")

    @property
    def kind(self) -> str:
        """The key that says what runs."""
        return next(kind for kind in PROCESSOR_KINDS if getattr(self, kind) is not None)

    @property
    def target(self) -> str:
        """What runs, for people."""
        workflow = self.comfyui or self.comfystream
        return workflow.workflow if workflow else str(getattr(self, self.kind))


class Schedule(Section, kw_only=True, frozen=True):
    """How the system treats a stage's processes: the CPUs that they may use, their nice value (below 0 needs
    CAP_SYS_NICE), and their oom_score_adj, proc(5): 1000 is killed first, -1000 never (below the launcher's own needs
    CAP_SYS_RESOURCE)."""

    cpus: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(min_length=1)] | None = None
    nice: Annotated[int, msgspec.Meta(ge=-20, le=19)] | None = None
    oom_score: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] | None = None
