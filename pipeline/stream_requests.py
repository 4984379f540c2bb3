"""What a request for a stream may say, as far as it can be known before anything is started."""

from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec

from pipeline.status import StreamSpec
from pipeline.topology import Topology, is_on_relay
from pipeline.topology_graph import channel_problem, relay_refuses
from pipeline.topology_values import Dimension
from pipeline.trickle.target import parse_url

MAX_ID_LENGTH = 128

MIN_WEIGHT, MAX_WEIGHT = 0.01, 100.0

_SIZES = get_args(Dimension)[1]


def problem_of(spec: StreamSpec, topology: Topology, relay_url: str | None = None) -> str:
    """The first mistake in `spec`: one line that names the field and what is allowed; empty when there is none.
    `relay_url` is the embedded relay's."""
    return next(filter(None, _problems(spec, topology, relay_url)), "")


def written_twice(spec: StreamSpec, others: Iterable[StreamSpec], relay_url: str | None) -> str:
    """Why this stream would write into a channel of one of the `others`; empty when it would not."""
    taken = {_channel(url, relay_url): other.stream for other in others for _, url in _written(other)}
    for field, url in _written(spec):
        if writer := taken.get(_channel(url, relay_url)):
            return f"{field}: {writer} writes it; allowed: another"
    return ""


def _written(spec: StreamSpec) -> Iterator[tuple[str, str]]:
    for field in ("publish_url", "data_url", "events_url"):
        if url := getattr(spec, field):
            yield field, url


def _channel(url: str, relay_url: str | None) -> tuple[str, int, bool, str]:
    """What is the same for two spellings of one channel, as far as they tell: a server may have several names."""
    target = parse_url(f"{relay_url or 'http://127.0.0.1'}/{url.strip('/')}" if is_on_relay(url) else url)
    host = "127.0.0.1" if target.host == "localhost" else target.host
    return host, target.port, target.tls, target.path


def json_problem(params: dict[str, Any]) -> str:
    """Why these parameters cannot be told to everybody; empty when they can."""
    try:
        msgspec.json.encode(params)
    except (TypeError, ValueError) as error:
        return f"params: {error}; allowed: what JSON has"
    return ""


def size_of(spec: StreamSpec, topology: Topology) -> tuple[int, int]:
    """Width and height of the stream's frames."""
    return spec.width or topology.frame.width, spec.height or topology.frame.height


def _problems(spec: StreamSpec, topology: Topology, relay_url: str | None) -> Iterator[str]:
    if not 0 < len(spec.stream) <= MAX_ID_LENGTH or not spec.stream.isprintable() or not spec.stream.strip():
        yield f"stream: {spec.stream[:MAX_ID_LENGTH]!r} is no id; allowed: 1 to {MAX_ID_LENGTH} printable characters"
    for field in ("subscribe_url", "publish_url"):
        if not getattr(spec, field):
            yield f"{field}: missing; allowed: a name on the embedded relay, http://..., https://..."
    for field in ("subscribe_url", "publish_url", "control_url", "events_url", "data_url"):
        if channel := getattr(spec, field):
            yield _channel_problem(field, channel, topology)
    used = {_channel(spec.subscribe_url, relay_url): "subscribe_url"}
    for field, url in _written(spec):
        if other := used.get(_channel(url, relay_url)):
            yield f"{field}: {url!r} is {other} too; allowed: any other channel"
        used[_channel(url, relay_url)] = field
    if not MIN_WEIGHT <= spec.weight <= MAX_WEIGHT:
        yield f"weight: {spec.weight} is no share; allowed: {MIN_WEIGHT} to {MAX_WEIGHT}"
    yield json_problem(spec.params)
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
