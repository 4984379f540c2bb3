"""What is told on a stream's events channel. The shapes are those that Livepeer's runner sends and its gateway reads:
one JSON object a segment, `{"event": {"type": ...}, "queue_event_type": ...}`, times in ms since the epoch."""

import time
from typing import Any

import msgspec

from pipeline.api.answers import is_of_another
from pipeline.api.redact import redacted, redacted_spec
from pipeline.messages import SupervisionEvent
from pipeline.status import StageStatus, Status, StreamStatus

TRACE, EVENTS = "stream_trace", "ai_stream_events"
"""The queues into which the gateway sorts what it reads: how far a stream has come, and everything else."""

MAX_PARAMS_BYTES = 64 << 10
"""Parameters that are longer are not told, only how long they are."""

Fields = dict[str, Any]


def encode(event: Fields, queue: str, stream: StreamStatus) -> bytes:
    """The segment. What whoever asked calls the stream goes with each."""
    named = {"stream_id": stream.spec.stream} | stream.spec.labels
    event = {"timestamp": int(time.time() * 1000)} | named | event
    return msgspec.json.encode({"event": event, "queue_event_type": queue})


def started(stream: StreamStatus) -> Fields:
    spec = redacted_spec(stream.spec)
    return {
        "type": "stream_started",
        "timestamp": int(1000 * stream.began),
        "subscribe_url": spec.subscribe_url,
        "publish_url": spec.publish_url,
        "width": spec.width,
        "height": spec.height,
    }


def resumed() -> Fields:
    """This service was started again; events may be missing before."""
    return {"type": "events_resumed"}


def first_in(stream: StreamStatus) -> Fields:
    return {"type": "runner_receive_first_ingest_segment", "timestamp": _at(stream, stream.first_in_ms)}


def first_out(stream: StreamStatus) -> Fields:
    return {"type": "runner_send_first_processed_segment", "timestamp": _at(stream, stream.first_out_ms)}


def stopped(stream: StreamStatus) -> Fields:
    return {
        "type": "stream_stopped",
        "timestamp": int(1000 * (stream.ended or time.time())),
        "state": stream.state,
        "reason": redacted(stream.reason),
        "frames": msgspec.to_builtins(stream.frames),
    }


def params_updated(params: Fields) -> Fields:
    length = len(msgspec.json.encode(params))
    return {"type": "params_updated", "params": params if length <= MAX_PARAMS_BYTES else {"bytes": length}}


def paused(event: SupervisionEvent) -> Fields:
    """The stream is paused, or goes on."""
    show = {"show": event.fields["show"]} if "show" in event.fields else {}
    return {"type": event.name, "timestamp": int(1000 * event.time)} | show


def error(message: str) -> Fields:
    return {"type": "error", "message": redacted(message), "time": time.time()}


def of_stage(event: SupervisionEvent) -> Fields:
    """A warning or an error of a stage's."""
    fields = {name: redacted(value) if isinstance(value, str) else value for name, value in event.fields.items()}
    kind = "stage_died" if event.name == "died" else "error" if event.level == "error" else "warning"
    said = " ".join(f"{name}={value}" for name, value in fields.items())
    return {
        "type": kind,
        "timestamp": int(1000 * event.time),
        "time": event.time,
        "stage": event.stage,
        "name": event.name,
        "message": f"{event.stage}: {event.name} {said}".strip(),
        "fields": fields,
    }


def restarted(event: SupervisionEvent, stage: StageStatus) -> Fields:
    return {
        "type": "restart",
        "timestamp": int(1000 * event.time),
        "stage": event.stage,
        "restart_count": stage.restarts,
        "restart_time": event.time,
        "last_death": stage.last_death,
    }


def status(now: Status, stream: StreamStatus) -> Fields:
    """The figures. As the runner's PipelineStatus, which the gateway keeps as the stream's status."""
    by_worker = {stage.worker: stage for stage in now.stages if not is_of_another(stream, stage)}
    decode, inference = by_worker.get("decode"), by_worker.get("inference")
    return {
        "type": "status",
        "pipeline": now.pipeline,
        "state": _state(stream, decode, inference),
        "start_time": int(1000 * stream.began),
        "input_status": {"fps": round(decode.rate_out, 2) if decode else 0.0},
        "inference_status": {
            "fps": round(stream.fps, 2),
            "restart_count": inference.restarts if inference else 0,
            "last_error": "; ".join(map(redacted, now.reasons)) or None,
        },
        "stream": {
            "state": stream.state,
            "first_in_ms": stream.first_in_ms,
            "first_out_ms": stream.first_out_ms,
            "end_to_end_ms": now.end_to_end_ms,
            "repeated": now.repeated,
            "frames": msgspec.to_builtins(stream.frames),
        },
    }


def _state(stream: StreamStatus, decode: StageStatus | None, inference: StageStatus | None) -> str:
    """In the runner's words."""
    if stream.state != "ONLINE":
        return {"STARTING": "LOADING", "FAILED": "ERROR"}.get(stream.state, "OFFLINE")
    if inference is None or inference.state != "READY" or inference.passing_through:
        return "DEGRADED_INFERENCE"
    return "ONLINE" if decode is not None and decode.rate_out > 0 else "DEGRADED_INPUT"


def _at(stream: StreamStatus, after_ms: float | None) -> int:
    return int(1000 * stream.began + (after_ms or 0.0))
