"""What is answered, as Structs: supersets of what pytrickle's server says, so that its clients find their fields."""

from typing import Any, Literal

import msgspec

from pipeline.api.redact import redacted, redacted_spec
from pipeline.status import FrameCount, StageStatus, Status, StreamSpec, StreamStatus

UNDER_WAY = ("STARTING", "ONLINE", "STOPPING")

SPINE = ("ingress", "decode", "inference", "egress")
"""The workers that streams go through."""

GATEWAY_ID = "gateway_request_id"


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """The request was done. `request_id` is the gateway's; `ignored` names the fields that nothing was done with."""

    status: Literal["success"]
    message: str
    request_id: str
    stream_id: str
    ignored: list[str] = []


class StreamView(msgspec.Struct, frozen=True):
    """One stream, without what its URLs' queries hold. Times are seconds since the epoch (UTC), 0: not yet;
    `first_in_ms` and `first_out_ms` count from the start."""

    stream_id: str
    gateway_request_id: str
    manifest_id: str
    state: str
    reason: str
    subscribe_url: str
    publish_url: str
    control_url: str
    events_url: str
    data_url: str
    width: int | None
    height: int | None
    began: float
    ended: float
    first_in_ms: float | None
    first_out_ms: float | None
    fps: float
    frames: FrameCount


class Streams(msgspec.Struct, frozen=True):
    """The streams on request: those under way, then the last that ended."""

    streams: list[StreamView]


class CurrentParams(msgspec.Struct, frozen=True):
    subscribe_url: str
    publish_url: str
    gateway_request_id: str


class StreamState(msgspec.Struct, frozen=True):
    """pytrickle's /stream/status and ComfyStream's StreamStatusResponse in one. `current_stream` is the one that was
    asked for, or the one under way."""

    status: str
    state: str
    pipeline_state: str
    error_message: str | None
    pipeline_ready: bool
    startup_complete: bool
    active_streams: int
    client_active: bool
    client_running: bool
    processing_active: bool
    paused: bool
    stream_count: int
    message: str
    fps: dict[str, float]
    current_params: CurrentParams | None
    current_stream: StreamView | None
    all_streams: dict[str, StreamView]
    additional_info: dict[str, Any]


class Version(msgspec.Struct, frozen=True):
    """As Livepeer's workers are asked for it: what runs here, and the version of this program."""

    pipeline: str
    model_id: str
    version: str


class AppVersion(msgspec.Struct, frozen=True):
    version: str


def view(stream: StreamStatus) -> StreamView:
    spec = redacted_spec(stream.spec)
    return StreamView(
        stream_id=spec.stream,
        gateway_request_id=spec.labels.get(GATEWAY_ID, ""),
        manifest_id=spec.labels.get("manifest_id", ""),
        state=stream.state,
        reason=redacted(stream.reason),
        subscribe_url=spec.subscribe_url,
        publish_url=spec.publish_url,
        control_url=spec.control_url,
        events_url=spec.events_url,
        data_url=spec.data_url,
        width=spec.width,
        height=spec.height,
        began=stream.began,
        ended=stream.ended,
        first_in_ms=stream.first_in_ms,
        first_out_ms=stream.first_out_ms,
        fps=round(stream.fps, 2),
        frames=stream.frames,
    )


def under_way(status: Status) -> list[StreamStatus]:
    return [stream for stream in status.streams if stream.state in UNDER_WAY]


def is_of_another(stream: StreamStatus, stage: StageStatus) -> bool:
    """Whether the stream does not go through this stage, as others do; services belong to all."""
    return stage.worker in SPINE and bool(stream.stages) and stage.stage not in stream.stages


def is_called(spec: StreamSpec, name: str) -> bool:
    """Whether `name` is the stream's id, or what whoever asked for it calls it."""
    return name in (spec.stream, *spec.labels.values())
