"""What a request for a stream may say, as far as it can be known before anything is started."""

from collections.abc import Iterator
from typing import get_args

from pipeline.status import StreamSpec
from pipeline.topology import Topology, is_on_relay
from pipeline.topology_graph import channel_problem, relay_refuses
from pipeline.topology_values import Dimension

MAX_ID_LENGTH = 128

MIN_WEIGHT, MAX_WEIGHT = 0.01, 100.0

_SIZES = get_args(Dimension)[1]


def problem_of(spec: StreamSpec, topology: Topology) -> str:
    """The first mistake in `spec`: one line that names the field and what is allowed; empty when there is none."""
    return next(filter(None, _problems(spec, topology)), "")


def size_of(spec: StreamSpec, topology: Topology) -> tuple[int, int]:
    """Width and height of the stream's frames."""
    return spec.width or topology.frame.width, spec.height or topology.frame.height


def _problems(spec: StreamSpec, topology: Topology) -> Iterator[str]:
    if not 0 < len(spec.stream) <= MAX_ID_LENGTH or not spec.stream.isprintable() or not spec.stream.strip():
        yield f"stream: {spec.stream[:MAX_ID_LENGTH]!r} is no id; allowed: 1 to {MAX_ID_LENGTH} printable characters"
    for field in ("subscribe_url", "publish_url"):
        if not getattr(spec, field):
            yield f"{field}: missing; allowed: a name on the embedded relay, http://..., https://..."
    for field in ("subscribe_url", "publish_url", "control_url", "events_url", "data_url"):
        if channel := getattr(spec, field):
            yield _channel_problem(field, channel, topology)
    if spec.subscribe_url == spec.publish_url:
        yield f"publish_url: {spec.publish_url!r} is subscribe_url too; allowed: any other channel"
    if spec.data_url and spec.data_url == spec.publish_url:
        yield f"data_url: {spec.data_url!r} is publish_url too; allowed: any other channel"
    if not MIN_WEIGHT <= spec.weight <= MAX_WEIGHT:
        yield f"weight: {spec.weight} is no share; allowed: {MIN_WEIGHT} to {MAX_WEIGHT}"
    for field in ("width", "height"):
        yield _size_problem(field, getattr(spec, field))
    yield _room_problem(spec, topology)


def _channel_problem(field: str, channel: str, topology: Topology) -> str:
    if not channel.isprintable() or any(character.isspace() for character in channel):
        return f"{field}: {channel!r} is no trickle channel; allowed: a name or URL without spaces"
    problem = channel_problem(channel, topology.relay)
    if not problem and is_on_relay(channel) and topology.relay is not None:
        problem = "" if channel.strip("/") else f"{channel!r} names no channel; allowed: a name"
        problem = problem or relay_refuses(channel, topology.relay)
    return f"{field}: {problem}" if problem else ""


def _size_problem(field: str, size: int | None) -> str:
    if size is None or (_SIZES.ge <= size <= _SIZES.le and size % _SIZES.multiple_of == 0):
        return ""
    return f"{field}: {size} is no size of a frame; allowed: even numbers from {_SIZES.ge} to {_SIZES.le}"


def _room_problem(spec: StreamSpec, topology: Topology) -> str:
    width, height = size_of(spec, topology)
    for name, link in topology.links.items():
        largest = link.max_frame or topology.frame
        if topology.carries_frames(name) and width * height > largest.width * largest.height:
            return (
                f"width, height: {width}x{height} does not fit into the slots of link {name}; allowed: as many pixels "
                f"as {largest.width}x{largest.height}, or fewer; links.{name}.max_frame makes the slots larger"
            )
    return ""
