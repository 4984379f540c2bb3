"""What may be asked, as Structs, and how a body becomes one. Fields that are not known here are named in the answer
and else ignored: gateways send more than any one of their workers understands."""

import asyncio
import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from aiohttp import web

from pipeline.api.problems import ApiError
from pipeline.stream_requests import MAX_WEIGHT, MIN_WEIGHT

BODY_SECONDS = 30.0
"""How long a body may take to come."""

_AT = re.compile(r"^(?P<problem>.*?)(?: - at `\$?\.?(?P<path>[^`]*)`)?$", re.S)
_WANTED = re.compile(r"^Expected `(?P<wanted>[^`]+)`")

Label = Annotated[str, msgspec.Meta(max_length=256)]
Size = int | float | str | None
"""Pixels. Also as a string or a whole float: pytrickle's server takes those."""

Workflow = dict[str, Any] | list[Any] | str | None
"""A ComfyUI workflow in the API format, or a list with one, or either as JSON in a string."""


class StreamStart(msgspec.Struct, frozen=True):
    """A stream: channels as URLs, or as names on the embedded relay. What a gateway calls it comes back in answers and
    events; the first of `stream_id`, `gateway_request_id` and `manifest_id` is its id, by default a new one. `prompts`,
    `prompt`, `width` and `height` may stand in `params` instead; the other `params` are the processor's. Where several
    streams want more of the processor than there is, each gets a share after its `weight`."""

    subscribe_url: str | None = None
    publish_url: str | None = None
    control_url: str | None = None
    events_url: str | None = None
    data_url: str | None = None
    gateway_request_id: Label | None = None
    request_id: Label | None = None
    manifest_id: Label | None = None
    stream_id: Label | None = None
    model_id: str | None = None
    params: dict[str, Any] | None = None
    prompts: Workflow = None
    prompt: Workflow = None
    width: Size = None
    height: Size = None
    weight: Annotated[float, msgspec.Meta(ge=MIN_WEIGHT, le=MAX_WEIGHT)] = 1.0


class StreamStop(msgspec.Struct, frozen=True):
    """Which stream, by its id or what a gateway calls it; by default the only one that runs."""

    stream_id: Label | None = None
    gateway_request_id: Label | None = None
    manifest_id: Label | None = None


class StreamPause(msgspec.Struct, frozen=True):
    """Which stream, as in StreamStop, and what its viewers see meanwhile: the frame before, or the input as it is."""

    show: Literal["last_frame", "input"] = "last_frame"
    stream_id: Label | None = None
    gateway_request_id: Label | None = None
    manifest_id: Label | None = None


class SetPrompt(msgspec.Struct, frozen=True):
    """Another workflow for the processor, and another size for the frames of the stream that runs."""

    prompts: Workflow = None
    prompt: Workflow = None
    width: Size = None
    height: Size = None


class Warmup(msgspec.Struct, frozen=True):
    """A workflow to be loaded and in force before a stream comes; none: is the processor ready?"""

    prompts: Workflow = None
    prompt: Workflow = None


Request = TypeVar("Request", bound=msgspec.Struct)


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body, which has to be a JSON object; no body at all is an empty one. Raises ApiError."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
    except TimeoutError as error:
        raise ApiError(408, f"the body did not come within {BODY_SECONDS:g} s") from error
    if not body.strip():
        return {}
    if request.content_type != "application/json":
        raise ApiError(415, f"the body is {request.content_type[:80]}", allowed="application/json")
    return decode_object(body)


def decode_object(body: bytes) -> dict[str, Any]:
    """Raises ApiError."""
    try:
        data = msgspec.json.decode(body)
        # What the launcher is sent has no integers beyond 64 bits.
        msgspec.msgpack.encode(data)
    except RecursionError as error:
        raise ApiError(400, "the JSON is nested too deeply", allowed="fewer brackets within brackets") from error
    except OverflowError as error:
        raise ApiError(400, "the JSON holds an integer of more than 64 bits", allowed="a float") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"no JSON: {error}", allowed="a JSON object in UTF-8") from error
    if not isinstance(data, dict):
        raise ApiError(400, f"the body is {_kind(data)}", allowed="a JSON object")
    return data


def convert(data: dict[str, Any], kind: type[Request]) -> Request:
    """Raises ApiError."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        assert found is not None
        wanted = _WANTED.match(found["problem"])
        raise ApiError(
            400, found["problem"], path=found["path"] or "", allowed=wanted["wanted"] if wanted else "see /openapi.json"
        ) from error


def unknown_fields(data: dict[str, Any], kind: type[msgspec.Struct]) -> list[str]:
    """Those that `kind` does not have."""
    return sorted(name[:80] for name in set(data) - set(kind.__struct_fields__))


def _kind(data: Any) -> str:
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(data), "a number")
