"""Takes secrets out of what is shown: a URL's user information and its query may open the channel to whoever reads."""

import re

import msgspec

from pipeline.status import Plan, Status, StreamSpec

HIDDEN = "***"

URL_FIELDS = ("subscribe_url", "publish_url", "control_url", "events_url", "data_url")
"""Of a StreamSpec, and of the request for a stream."""

_URL = re.compile(r"(?P<scheme>https?://)(?P<user>[^\s/?#'\"]*@)?(?P<rest>[^\s?#'\"]*)(?P<query>[?#][^\s'\"]*)?", re.I)


def redacted(text: str) -> str:
    """`text` with user information and query of every http(s) URL in it hidden."""
    return _URL.sub(_hide, text)


def redacted_spec(spec: StreamSpec) -> StreamSpec:
    return msgspec.structs.replace(spec, **{field: redacted(getattr(spec, field)) for field in URL_FIELDS})


def redacted_status(status: Status) -> Status:
    streams = [
        msgspec.structs.replace(stream, spec=redacted_spec(stream.spec), reason=redacted(stream.reason))
        for stream in status.streams
    ]
    return msgspec.structs.replace(status, streams=streams, reasons=[redacted(reason) for reason in status.reasons])


def redacted_plan(plan: Plan) -> Plan:
    stages = [
        msgspec.structs.replace(stage, reads=redacted(stage.reads), writes=redacted(stage.writes))
        for stage in plan.stages
    ]
    return msgspec.structs.replace(plan, stages=stages)


def _hide(found: re.Match[str]) -> str:
    user = f"{HIDDEN}@" if found["user"] else ""
    query = f"?{HIDDEN}" if found["query"] else ""
    return f"{found['scheme']}{user}{found['rest']}{query}"
