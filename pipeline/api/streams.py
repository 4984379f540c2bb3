"""Streams on request: from what somebody asks for to what the launcher is told, and back."""

import re
import uuid
from typing import Any

from pipeline.api.answers import (
    GATEWAY_ID,
    CurrentParams,
    Done,
    Streams,
    StreamState,
    StreamView,
    is_called,
    under_way,
    view,
)
from pipeline.api.changes import has_stream
from pipeline.api.health import health_of
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.params import sort_params
from pipeline.api.problems import ApiError, not_now
from pipeline.api.redact import URL_FIELDS
from pipeline.api.requests import StreamPause, StreamStart, StreamStop, unknown_fields
from pipeline.api.urls import UrlRefused, UrlRules
from pipeline.boot import Pause
from pipeline.messages import Answer
from pipeline.status import Status, StreamSpec, StreamStatus

NO_STREAM = "No active stream"
"""pytrickle's words: its clients look for them."""

MAX_ID_LENGTH = 128

_OF_A_FIELD = re.compile(r"(?P<field>[a-z_]+): (?P<what>.*?)(?:; allowed: (?P<allowed>.*))?")
"""How the launcher says which field of a request is wrong."""


async def start_stream(line: LauncherLine, rules: UrlRules, given: dict[str, Any], asked: StreamStart) -> Done:
    """Raises ApiError when it is not started, and LauncherSilent."""
    params = sort_params(_all_params(asked), "params" if asked.params else "")
    await _check_urls(rules, asked)
    labels = {
        GATEWAY_ID: asked.gateway_request_id or asked.request_id or "",
        "manifest_id": asked.manifest_id or "",
        "stream_id": asked.stream_id or "",
    }
    urls: dict[str, str] = {field: getattr(asked, field) or "" for field in URL_FIELDS}
    spec = StreamSpec(
        stream=_stream_id(asked),
        width=params.size[0] if params.size else None,
        height=params.size[1] if params.size else None,
        params=params.processor,
        labels={name: label for name, label in labels.items() if label},
        weight=asked.weight,
        **urls,
    )
    answer = await line.start_stream(spec)
    if not answer.ok:
        raise _refusal(answer)
    ignored = params.ignored + unknown_fields(given, StreamStart) + (["model_id"] if asked.model_id else [])
    return Done("success", "Stream started successfully", labels[GATEWAY_ID], spec.stream, ignored)


async def stop_stream(line: LauncherLine, name: str) -> Done:
    """Stop the stream that is called so; empty: the one that runs. Raises ApiError and LauncherSilent."""
    spec = find(await line.status(), name, "stop").spec
    answer = await line.stop_stream(spec.stream)
    if not answer.ok:
        raise _refusal(answer)
    return Done("success", "Stream stopped successfully", spec.labels.get(GATEWAY_ID, ""), spec.stream)


async def pause_stream(line: LauncherLine, name: str, pause: Pause | None) -> Done:
    """Pause the stream that is called so, or have it go on with None; empty: the one that runs. Raises ApiError and
    LauncherSilent."""
    status = await line.status()
    if not name and has_stream(status) and not under_way(status):
        spec = StreamSpec("", "", "")  # That of the topology.
    else:
        spec = find(status, name, "pause" if pause else "resume").spec
    answer = await line.pause(spec.stream, pause)
    if not answer.ok:
        raise _refusal(answer)
    message = "Stream paused successfully" if pause else "Stream resumed successfully"
    return Done("success", message, spec.labels.get(GATEWAY_ID, ""), spec.stream)


def name_of(asked: StreamStop | StreamPause) -> str:
    """What the stream is called that is meant; empty: not said."""
    return asked.stream_id or asked.gateway_request_id or asked.manifest_id or ""


def find(status: Status, name: str, purpose: str) -> StreamStatus:
    """The stream that is called so, one under way if several are; with no name the only one under way. `purpose` is a
    verb for messages. Raises ApiError."""
    running = under_way(status)
    if name:
        known = [*running, *(stream for stream in status.streams if stream not in running)]
        called = [stream for stream in known if stream.spec.stream == name] or [
            stream for stream in known if is_called(stream.spec, name)
        ]
        if len([stream for stream in called if stream in running]) > 1:
            raise ApiError(
                400, f"several streams are called {name[:MAX_ID_LENGTH]!r}", allowed=_names(running), code="unknown"
            )
        if not called:
            raise ApiError(404, f"there is no stream {name[:MAX_ID_LENGTH]!r}", allowed=_names(running), code="unknown")
        return called[0]
    if not running:
        raise ApiError(400, f"{NO_STREAM} to {purpose}", code="unknown")
    if len(running) > 1:
        raise ApiError(400, "several streams run", path="stream_id", allowed=_names(running), code="unknown")
    return running[0]


def all_streams(status: Status) -> Streams:
    return Streams([view(stream) for stream in status.streams])


def state_of(status: Status, name: str = "") -> StreamState:
    """Raises ApiError when nothing is called so."""
    running = under_way(status)
    stream = find(status, name, "show") if name else next(iter(running), None)
    shown = view(stream) if stream is not None else None
    paused = stream.paused if stream is not None else status.paused
    health = health_of(status)
    active = len(running) or int(has_stream(status))
    ready = health.status in ("IDLE", "OK")
    return StreamState(
        status=health.status,
        state=health.status,
        pipeline_state=status.state,
        error_message="; ".join(health.reasons) if health.http_status != 200 else None,
        pipeline_ready=ready,
        startup_complete=health.status != "LOADING",
        active_streams=active,
        client_active=bool(active),
        client_running=bool(active) and ready,
        processing_active=bool(active) and ready and not paused,
        paused=paused,
        stream_count=active,
        message=f"{active} running" if active else NO_STREAM,
        fps=_fps(status),
        current_params=_current(shown),
        current_stream=shown,
        all_streams={stream.spec.stream: view(stream) for stream in reversed(status.streams)},
        additional_info={},
    )


def _all_params(asked: StreamStart) -> dict[str, Any]:
    """What stands at the top is the same as in `params`, and wins: Livepeer's gateway puts a caller's keys there."""
    top = {name: getattr(asked, name) for name in ("prompts", "prompt", "width", "height")}
    return dict(asked.params or {}) | {name: value for name, value in top.items() if value is not None}


async def _check_urls(rules: UrlRules, asked: StreamStart) -> None:
    for field in URL_FIELDS:
        url = getattr(asked, field)
        if url:
            try:
                await rules.check(url)
            except UrlRefused as refused:
                raise ApiError(400, str(refused), path=field, allowed=refused.allowed) from refused
        elif field in URL_FIELDS[:2]:
            raise ApiError(400, "is missing", path=field, allowed="the URL of a trickle channel")


def _stream_id(asked: StreamStart) -> str:
    given = asked.stream_id or asked.gateway_request_id or asked.request_id or asked.manifest_id
    if given is None or given == "":
        return uuid.uuid4().hex
    if len(given) > MAX_ID_LENGTH or not given.isprintable() or not given.strip():
        raise ApiError(
            400,
            f"{given[:MAX_ID_LENGTH]!r} is no id",
            path="stream_id",
            allowed=f"1 to {MAX_ID_LENGTH} printable characters",
        )
    return given


def _refusal(answer: Answer) -> ApiError:
    if answer.code in ("exists", "invalid", "unknown"):
        status = {"exists": 409, "invalid": 400, "unknown": 404}[answer.code]
        said = _OF_A_FIELD.fullmatch(answer.text)
        if answer.code == "invalid" and said is not None:
            return ApiError(status, said["what"], path=said["field"], allowed=said["allowed"] or "", code=answer.code)
        return ApiError(status, answer.text, code=answer.code)
    return not_now(answer.text, answer.code)


def _names(streams: list[StreamStatus]) -> str:
    return ", ".join(stream.spec.stream for stream in streams) or "none runs"


def _fps(status: Status) -> dict[str, float]:
    """Pictures a second of late, under pytrickle's names; its sound frames are not counted here."""
    return {
        f"{end}_video_fps": round(sum(stage.rate_out for stage in status.stages if stage.worker == worker), 2)
        for end, worker in (("ingress", "decode"), ("egress", "egress"))
    }


def _current(shown: StreamView | None) -> CurrentParams | None:
    if shown is None:
        return None
    return CurrentParams(shown.subscribe_url, shown.publish_url, shown.gateway_request_id)
