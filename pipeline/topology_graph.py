"""Checks what no single section of a topology can: that stages, links, channels and ports make one pipeline."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pipeline.media.file_kinds import growing_file
from pipeline.processors.comfystream.prompt import stream_prompt
from pipeline.processors.comfyui.workflow import change, convert, read_workflow
from pipeline.processors.comfyui.workspace import find_workspace
from pipeline.processors.errors import ProcessorError
from pipeline.recording.format import RecordingError, read_header
from pipeline.topology import (
    SERVICES,
    SPINE,
    ChannelUser,
    Decode,
    Egress,
    Inference,
    Ingress,
    Stage,
    Topology,
    channel_user,
    channels_of,
    is_on_relay,
)
from pipeline.topology_sections import Api, ApiTls, ClientTls, Relay, RelayTls, Tracing
from pipeline.topology_streams import check_streams
from pipeline.topology_values import TopologyError

MIN_LATEST_SLOTS = 3

RESERVED_NAMES = ("launcher", *SERVICES)

OTEL_PACKAGES = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")

MIN_TOKEN_LENGTH = 8
_TOKEN = re.compile(rf"\$\{{[A-Za-z_]\w*\}}|(?=.{{{MIN_TOKEN_LENGTH}}})[A-Za-z0-9._~+/-]+=*", re.A)
_ORIGIN = re.compile(r"\*|https?://[^/\s]+")
_URL_PREFIX = re.compile(r"https?://[^/?#@\s\\]+(/[^?#\s\\]*)?")


def check_graph(topology: Topology) -> None:
    """Check what no single section can: that the stages and links make one chain. Raises TopologyError."""
    _check_names(topology)
    _check_logs(topology)
    _check_memory(topology)
    _check_spine(topology)
    _check_ends(topology)
    check_streams(topology)
    _check_links(topology)
    _check_channels(topology)
    _check_file_ends(topology)
    _check_recording(topology)
    _check_access(topology)
    _check_sound(topology)
    _check_workflows(topology)
    _check_tracing(topology.tracing)
    if topology.api is not None:
        _check_api(topology.api)
    if topology.relay is not None:
        _check_ports(topology.relay, topology.api)
        _check_tokens(topology.relay)
        if topology.relay.tls is not None:
            _check_files("relay.tls", topology.relay.tls)
        _check_relay_channels(topology.relay, topology)


def _check_names(topology: Topology) -> None:
    for name in topology.stages:
        if name in RESERVED_NAMES:
            raise TopologyError(f"stages.{name}", f"this name is taken; allowed: any but {', '.join(RESERVED_NAMES)}")


def _check_logs(topology: Topology) -> None:
    named = {*RESERVED_NAMES, *topology.stages}
    for name in topology.logs.stages:
        if name not in named:
            raise TopologyError(f"logs.stages.{name}", f"no such stage; allowed: {', '.join(sorted(named))}")


def _check_memory(topology: Topology) -> None:
    if topology.frame_memory == "host":
        return
    for path, inference in _of_kind(topology, Inference):
        if "cpu" in (inference.devices or (topology.device,)):
            key = f"{path}.devices has" if inference.devices else "device is"
            raise TopologyError("frame_memory", f"{key} cpu; allowed with it: host")


def _check_spine(topology: Topology) -> None:
    for worker in SPINE:
        kind = worker.__name__.lower()
        found = [name for name, stage in topology.stages.items() if isinstance(stage, worker)]
        if not found:
            raise TopologyError("stages", f"no stage has worker: {kind}; needed: one each of {_kinds()}")
        if len(found) > 1:
            raise TopologyError(
                f"stages.{found[1]}.worker", f"{found[0]} is {kind} already; allowed: one each of {_kinds()}"
            )


def _check_ends(topology: Topology) -> None:
    """Either the file says what is read and written, or whoever asks for a stream does."""
    for worker, key, example in ((Ingress, "source", "{trickle: input}"), (Egress, "sink", "{trickle: output}")):
        name = topology.stage_of(worker)
        assert name is not None
        given = getattr(topology.stages[name], key) is not None
        if topology.streams.on_request and given:
            raise TopologyError(
                f"stages.{name}.{key}",
                f"streams.on_request is on, each stream brings its own; allowed: no {key}, or on_request: false",
            )
        if not topology.streams.on_request and not given:
            raise TopologyError(
                f"stages.{name}.{key}", f"missing; needed: such as {key}: {example}, or streams.on_request: true"
            )


def _kinds() -> str:
    return ", ".join(worker.__name__.lower() for worker in SPINE)


def _check_links(topology: Topology) -> None:
    ends: dict[tuple[str, str], str] = {}
    for name, stage in topology.stages.items():
        for end in ("input", "output"):
            link = getattr(stage, end, None)
            if link is None:
                continue
            if link not in topology.links:
                raise TopologyError(f"stages.{name}.{end}", f"no link {link!r}; allowed: {', '.join(topology.links)}")
            if (end, link) in ends:
                role = {"input": "consumers", "output": "producers"}[end]
                raise TopologyError(
                    f"stages.{name}.{end}",
                    f"link {link!r} would have two {role}, {ends[end, link]} and {name}; allowed: one",
                )
            ends[end, link] = name
    for link in topology.links:
        for end, role in (("output", "producer"), ("input", "consumer")):
            if (end, link) not in ends:
                raise TopologyError(
                    f"links.{link}", f"this link has no {role}; name it as the {end} of a stage or remove it"
                )
    _check_policies(topology)
    _check_sizes(topology)
    for consumer, producer in ((Decode, Ingress), (Inference, Decode), (Egress, Inference)):
        _check_joined(topology, consumer, producer)


def _check_policies(topology: Topology) -> None:
    """A file is processed whole; a reader that skips would drop most of it, since nothing paces the file. And a link
    that is to have the newest frame needs a slot in use, one with the newest, and one to fill."""
    source = topology.source
    for name, link in topology.links.items():
        if source is not None and source.is_hurried and link.policy == "latest":
            kind = "file" if source.file is not None else "recording"
            raise TopologyError(
                f"links.{name}.policy", f"the source is a {kind}, which is processed whole; allowed: block"
            )
        if link.policy == "latest" and link.slots < MIN_LATEST_SLOTS:
            raise TopologyError(
                f"links.{name}.slots",
                f"{link.slots} slots cannot hold a frame in use, the newest, and one to fill; "
                f"allowed with policy latest: {MIN_LATEST_SLOTS} or more",
            )
    for path, inference in _of_kind(topology, Inference):
        spare = MIN_LATEST_SLOTS - 1 if topology.links[inference.input].policy == "latest" else 1
        slots = topology.links[inference.input].slots
        if inference.processor.in_flight > slots - spare:
            raise TopologyError(
                f"{path}.processor.in_flight",
                f"{inference.processor.in_flight} frames do not fit in the {slots} slots of links.{inference.input} "
                f"with {spare} to spare; allowed: {slots - spare} at most, or more slots",
            )


def _check_sound(topology: Topology) -> None:
    for path, inference in _of_kind(topology, Inference):
        if inference.processor.audio and not all(decode.audio for _, decode in _of_kind(topology, Decode)):
            raise TopologyError(
                f"{path}.processor.audio", "decode hands no sound on; allowed: with audio: true of the decode stage"
            )
    for path, egress in _of_kind(topology, Egress):
        sink = egress.sink
        if sink is not None and sink.text is not None and sink.text == sink.trickle:
            raise TopologyError(f"{path}.sink.text", "this is the channel of the video; allowed: another one")


def _check_workflows(topology: Topology) -> None:
    """What can be known of a ComfyUI workflow without its engine."""
    for name, inference in _of_kind(topology, Inference):
        processor = inference.processor
        if processor.comfyui is None and processor.comfystream is None:
            continue
        path = f"{name}.processor.{processor.kind}"
        try:
            if processor.comfyui is not None:
                find_workspace(processor.comfyui.workspace)
        except ProcessorError as error:
            raise TopologyError(f"{path}.workspace", f"{error}; allowed: the folder that git cloned") from error
        try:
            workflow = convert(change(read_workflow(processor.target), processor.params), audio=processor.audio)
            if processor.comfystream is not None:
                stream_prompt(workflow, 0)
        except ProcessorError as error:
            raise TopologyError(f"{path}.workflow", str(error)) from error


def _check_tracing(tracing: Tracing) -> None:
    if tracing.otel is None:
        return
    if not _URL_PREFIX.fullmatch(tracing.otel):
        raise TopologyError(
            "tracing.otel", f"{tracing.otel!r} is no collector's URL; allowed: such as http://127.0.0.1:4318"
        )
    if not tracing.every:
        raise TopologyError("tracing.otel", "nothing is traced with every: 0; allowed: every: 1 or more, or no otel")
    from importlib import metadata  # Here: few topologies have it.

    try:
        for package in OTEL_PACKAGES:
            metadata.version(package)
    except metadata.PackageNotFoundError as missing:
        raise TopologyError(
            "tracing.otel", f"needs {missing.name}; run: pip install 'livepipe[otel]', or leave otel out"
        ) from missing


def _check_file_ends(topology: Topology) -> None:
    """What is read must not be written over, nor what it is written to first."""
    ends = {
        key: (name, Path(file))
        for name, stage in topology.stages.items()
        for key in ("source", "sink")
        if (file := getattr(getattr(stage, key, None), "file", None)) is not None
    }
    if len(ends) < 2:
        return
    (_, source), (egress, sink) = ends["source"], ends["sink"]
    if source.resolve() in (sink.resolve(), growing_file(sink).resolve()):
        raise TopologyError(f"stages.{egress}.sink.file", f"{sink} is what ingress reads; allowed: any other file")


def _check_recording(topology: Topology) -> None:
    """What is fed again has to be there."""
    if topology.fed_again is None:
        return
    ingress = topology.stage_of(Ingress)
    try:
        read_header(Path(topology.fed_again))
    except RecordingError as error:
        raise TopologyError(f"stages.{ingress}.source.recording", str(error)) from error


def _check_sizes(topology: Topology) -> None:
    frame = topology.frame
    for name, link in topology.links.items():
        largest = link.max_frame
        if largest is not None and largest.width * largest.height < frame.width * frame.height:
            raise TopologyError(
                f"links.{name}.max_frame",
                f"{largest.width}x{largest.height} is less than frame, {frame.width}x{frame.height}; allowed: as much",
            )


def _check_joined(topology: Topology, consumer: type[Stage], producer: type[Stage]) -> None:
    to, source = topology.stage_of(consumer), topology.stage_of(producer)
    assert to is not None
    assert source is not None
    wanted = topology.stages[source].output  # type: ignore[union-attr]
    if getattr(topology.stages[to], "input", None) != wanted:
        raise TopologyError(
            f"stages.{to}.input", f"{consumer.__name__.lower()} reads what {source} writes; allowed: {wanted}"
        )


def _check_channels(topology: Topology) -> None:
    for path, channel in _channels(topology):
        if problem := channel_problem(channel, topology.relay):
            raise TopologyError(path, problem)


def _check_access(topology: Topology) -> None:
    """Tokens and TLS files are for servers elsewhere; the embedded relay's own token is given without being asked."""
    for path, user in _channel_users(topology):
        urls = [channel for channel in channels_of(user).values() if not is_on_relay(channel)]
        if user.token is not None:
            _check_token(f"{path}.token", user.token)
            if not urls:
                raise TopologyError(
                    f"{path}.token",
                    "no channel here is on another server, and the embedded relay is given its own token; "
                    "allowed: with a URL",
                )
        if user.tls is not None:
            if not any(url.startswith("https://") for url in urls):
                raise TopologyError(f"{path}.tls", "no channel here is reached over TLS; allowed: with an https:// URL")
            _check_files(f"{path}.tls", user.tls)


def _check_files(path: str, tls: ClientTls | RelayTls | ApiTls) -> None:
    # Here: few topologies have it, and the launcher needs no TLS of its own.
    from pipeline.trickle.tls import TlsFileError, client_context, server_context

    try:
        if isinstance(tls, RelayTls | ApiTls):
            server_context(tls.certificate, tls.key, tls.client_ca)
        else:
            client_context(tls.ca, tls.certificate, tls.key)
    except TlsFileError as error:
        raise TopologyError(f"{path}.{error.role}", f"{error}; allowed: a PEM file") from error


def _check_token(path: str, token: str) -> None:
    if not _TOKEN.fullmatch(token):
        raise TopologyError(
            path, f"no bearer token; allowed: ${{NAME}}, or {MIN_TOKEN_LENGTH} or more letters, digits and -._~+/="
        )


def _check_ports(relay: Relay, api: Api | None) -> None:
    taken = {relay.port: "relay.port", api.port if api else 0: "api.port"}
    more = [(f"relay.media_ports.{number}", port) for number, port in enumerate(relay.media_ports)]
    for path, port in [*more, *([("relay.tls.port", relay.tls.port)] if relay.tls else [])]:
        if port and port in taken:
            raise TopologyError(path, f"{port} is {taken[port]} already; allowed: another port, or 0 for any")
        taken[port] = path


def _check_tokens(relay: Relay) -> None:
    for key in ("publish_tokens", "subscribe_tokens"):
        for number, token in enumerate(getattr(relay, key)):
            _check_token(f"relay.{key}.{number}", token)
    if relay.subscribe_tokens and not relay.publish_tokens:
        raise TopologyError("relay.subscribe_tokens", "anybody could still write; give publish_tokens too")
    _check_origins("relay", relay.cors_origins)


def _check_origins(section: str, origins: tuple[str, ...]) -> None:
    for number, origin in enumerate(origins):
        if not _ORIGIN.fullmatch(origin):
            raise TopologyError(
                f"{section}.cors_origins.{number}",
                f"{origin!r} is no origin; allowed: http[s]://host[:port] without a path, *",
            )


def _check_api(api: Api) -> None:
    for number, token in enumerate(api.tokens):
        _check_token(f"api.tokens.{number}", token)
    _check_origins("api", api.cors_origins)
    if api.tls is not None:
        _check_files("api.tls", api.tls)
    for number, prefix in enumerate(api.allowed_urls):
        if not _URL_PREFIX.fullmatch(prefix):
            raise TopologyError(
                f"api.allowed_urls.{number}",
                f"{prefix!r} is no beginning of a URL; allowed: http[s]://host[:port]/path",
            )


def _check_relay_channels(relay: Relay, topology: Topology) -> None:
    if len(relay.channels) > relay.limits.max_channels:
        raise TopologyError("relay.channels", f"more than relay.limits.max_channels, {relay.limits.max_channels}")
    for name, content_type in relay.channels.items():
        if not name.isprintable() or name in ("", ".", "..") or (relay.changefeed and name == "_changes"):
            raise TopologyError("relay.channels", f"no channel can be named {name!r}")
        if not content_type or not (content_type.isascii() and content_type.isprintable()):
            raise TopologyError(f"relay.channels.{name}", f"{content_type!r} is no content type, such as video/MP2T")
    for path, channel in _channels(topology):
        if is_on_relay(channel) and (problem := relay_refuses(channel, relay)):
            raise TopologyError(path, problem)


def channel_problem(channel: str, relay: Relay | None) -> str:
    """Why nothing can be read from or written to `channel`, and what is allowed; empty when it can."""
    if is_on_relay(channel):
        return "" if relay else f"{channel!r} is a channel of the embedded relay; add `relay:` or give a full URL"
    if not channel.startswith(("http://", "https://")):
        return f"{channel!r} is no trickle channel; allowed: a name, http://..., https://..."
    if not _names_a_channel(channel):
        return f"{channel!r} names no channel; allowed: a host and a path, http://HOST:PORT/NAME"
    return ""


def relay_refuses(channel: str, relay: Relay) -> str:
    """Why the embedded relay will not have a channel of this name, and what is allowed; empty when it will."""
    if relay.autocreate or channel in relay.channels:
        return ""
    return f"{channel!r} cannot be made with relay.autocreate off; add it to relay.channels"


def _names_a_channel(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname and parts.path.strip("/") and parts.port != 0)
    except ValueError:  # A port that is no number.
        return False


_S = TypeVar("_S", bound=Stage)


def _of_kind(topology: Topology, kind: type[_S]) -> Iterator[tuple[str, _S]]:
    """The stages whose worker is of this kind, each after its dotted path."""
    return ((f"stages.{name}", stage) for name, stage in topology.stages.items() if isinstance(stage, kind))


def _channel_users(topology: Topology) -> Iterator[tuple[str, ChannelUser]]:
    found = (channel_user(f"stages.{name}", stage) for name, stage in topology.stages.items())
    return filter(None, found)


def _channels(topology: Topology) -> Iterator[tuple[str, str]]:
    for path, user in _channel_users(topology):
        for key, channel in channels_of(user).items():
            yield f"{path}.{key}", channel
