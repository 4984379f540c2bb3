"""What each worker is told at its start: its part of the topology, and of what outlives it; and the descriptors that it
inherits for that."""

import os

import msgspec

from pipeline.boot import TapBoot, WorkerBoot
from pipeline.lane import NO_STREAM
from pipeline.topology import (
    SPINE,
    AnyStage,
    Decode,
    Egress,
    Inference,
    Ingress,
    Topology,
    channel_user,
    channels_of,
    is_on_relay,
)
from pipeline.topology_values import Device
from pipeline.wiring import RECORDING, Wiring


def worker_boot(wiring: Wiring, stage: str, incarnation: int, seat: int = 0) -> WorkerBoot:
    """What a worker of `stage` is told; `seat` is the set of counters that it uses."""
    spec, lane = wiring.spec(stage), wiring.lane_of.get(stage)
    on_request = wiring.topology.streams.on_request
    joined = isinstance(spec, Ingress | Decode)
    audio = isinstance(spec, Egress) or (isinstance(spec, Decode) and spec.audio)
    replica = wiring.replicas.get(stage)
    return WorkerBoot(
        pipeline=wiring.topology.name,
        stage=stage,
        section=stage if spec is None else wiring.section(stage),
        incarnation=incarnation,
        launcher_pid=os.getpid(),
        control_endpoint=wiring.control_endpoint,
        stream=lane.begin.stream if lane is not None else "",
        epoch=lane.epoch if lane is not None else NO_STREAM,
        log_level=wiring.topology.logs.level_of(stage),
        device=_device(wiring, stage),
        frame=wiring.frame(stage),
        stats_fd=wiring.stats_fds[stage][seat],
        spec=spec,
        relay_url=wiring.relay_url,
        relay_token=_relay_token(wiring, stage),
        api_url=wiring.api_url,
        listen_fd=wiring.listeners.services[stage].fileno() if stage in wiring.listeners.services else None,
        media_fds=tuple(listener.fileno() for listener in wiring.listeners.media) if stage == "relay" else (),
        tls_fd=wiring.listeners.relay_tls.fileno()
        if wiring.listeners.relay_tls is not None and stage == "relay"
        else None,
        relay=wiring.topology.relay if stage == "relay" else None,
        api=wiring.topology.api if stage == "api" else None,
        otel=wiring.topology.tracing.otel if stage == "otel" else None,
        encoded=lane.encoded if joined and lane is not None else None,
        input=lane.styled.boot if isinstance(spec, Egress) and lane is not None else None,
        output=lane.raw.boot if isinstance(spec, Decode) and lane is not None else None,
        audio_endpoint=lane.audio_endpoint if audio and lane is not None else None,
        samples_endpoint=lane.samples_endpoint if audio and lane is not None and wiring.audio_is_processed else None,
        keep_alive=spec.keep_alive if isinstance(spec, Egress) and wiring.is_live else 0.0,
        live=wiring.is_live,
        excerpt=wiring.topology.excerpt if isinstance(spec, Decode) else None,
        trace=wiring.trace_rings.boot(stage, seat),
        tap=_tap_boot(wiring, stage, spec),
        recording=wiring.topology.recording if stage == RECORDING else None,
        changes_from=wiring.topology.fed_again if isinstance(spec, Decode | Inference) else None,
        on_request=on_request,
        allow_private=_allow_private(wiring.topology, spec),
        lanes=tuple(each.boot(sound=wiring.audio_is_processed) for each in wiring.lanes_of(stage))
        if replica is not None
        else (),
        source_timeout=wiring.topology.streams.source_timeout if on_request else None,
        of_several=wiring.topology.streams.max > len(wiring.replicas),
    )


def inherited_fds(boot: WorkerBoot) -> list[int]:
    """The descriptors that the worker must inherit."""
    fds = [boot.stats_fd]
    if boot.trace is not None:
        fds.append(boot.trace.fd)
    if boot.listen_fd is not None:
        fds += [boot.listen_fd, *boot.media_fds]
    if boot.tls_fd is not None:
        fds.append(boot.tls_fd)
    if boot.encoded is not None:
        fds.append(boot.encoded.fd)
    for link in (*boot.inputs, *boot.outputs):
        fds += link.fds
    return fds


def encode_boot(boot: WorkerBoot) -> int:
    """A memfd that holds `boot`, positioned at its start; the caller closes it once the worker has inherited it."""
    fd = os.memfd_create("boot", os.MFD_CLOEXEC)
    os.write(fd, msgspec.msgpack.encode(boot))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _device(wiring: Wiring, stage: str) -> Device:
    """That of the replica of inference which it is, or which serves its lane."""
    lane = wiring.lane_of.get(stage)
    replica = wiring.replicas.get(stage if lane is None else lane.inference)
    return wiring.topology.device if replica is None else replica.device


def _allow_private(topology: Topology, spec: AnyStage | None) -> bool | None:
    asked_for = topology.streams.on_request and isinstance(spec, Ingress | Egress)
    return topology.api.permits_private if asked_for and topology.api is not None else None


def _relay_token(wiring: Wiring, stage: str) -> str | None:
    """What opens the relay to `stage`; None if it has no business there, or needs none. The api shows its channels on a
    page, publishes what a browser sends, and keeps the control and events channels of streams on request."""
    relay, found = wiring.topology.relay, channel_user(wiring.section(stage), wiring.spec(stage))
    uses_it = found is not None and any(map(is_on_relay, channels_of(found[1]).values()))
    return relay.own_token if relay is not None and (uses_it or stage == "api") else None


def _tap_boot(wiring: Wiring, stage: str, spec: AnyStage | None) -> TapBoot | None:
    """For those who tell a recorder what they see, and for the recorder that the topology names."""
    if isinstance(spec, SPINE) or stage == RECORDING:
        source = wiring.topology.source
        return TapBoot(wiring.tape_endpoint, wiring.recording_by(stage), waits=source is not None and source.is_hurried)
    return None
