"""What of a topology is measured: its chain with its processor, between a channel that the benchmark plays and one that
it watches, on an embedded relay with a port of its own. Sources, sinks and services that it has beside that are left
out; limits, links, encoder and processor stay as they are."""

import hashlib
import os
from typing import Any

import msgspec
import yaml

from pipeline.topology import SPINE, Egress, Ingress, Topology
from pipeline.topology_sections import Relay

INPUT, OUTPUT = "bench-input", "bench-output"

PATIENCE_S = 3600.0
"""The source is silent between two steps: no stream is at its end for that."""

UNLIMITED = {"max_restarts": 1_000_000, "window": 0.5}
"""A budget of restarts under which every kill is answered as a first one is."""


class Benched(msgspec.Struct, frozen=True):
    """The topology that is run, and what the benchmark has to know of it. `most_streams` run at once; `on_request`:
    each is asked for on the control socket."""

    name: str
    text: str
    width: int
    height: int
    on_request: bool
    most_streams: int
    stages: tuple[str, ...]
    processor: str
    digest: str
    """Of everything but the name."""
    ready_s: float
    """How long a stage may take to be ready."""


def benched(topology: Topology) -> Benched:
    """`topology` as the benchmark runs it."""
    name = f"bench-{os.getpid()}"
    on_request = topology.streams.on_request
    stages = {key: stage for key, stage in topology.stages.items() if isinstance(stage, SPINE)}
    raw: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(topology, stages=stages, name=name))
    limits = topology.relay.limits if topology.relay is not None else Relay().limits
    raw["relay"] = {"port": 0, "limits": msgspec.to_builtins(limits)}
    raw |= {"api": None, "restart": UNLIMITED, "logs": {"level": "INFO"}}
    raw["tracing"]["otel"] = None
    raw["streams"]["source_timeout"] = PATIENCE_S
    for key, stage in stages.items():
        raw["stages"][key]["restart"] = None
        if isinstance(stage, Ingress) and not on_request:
            raw["stages"][key]["source"] = {"trickle": INPUT}
        if isinstance(stage, Egress) and not on_request:
            raw["stages"][key]["sink"] = {"trickle": OUTPUT}
    inference = next(stage for stage in stages.values() if stage.__struct_config__.tag == "inference")
    own_limits = [stage.limits or topology.limits for stage in stages.values()]
    return Benched(
        name=name,
        text=yaml.safe_dump(raw, sort_keys=False),
        width=topology.frame.width,
        height=topology.frame.height,
        on_request=on_request,
        most_streams=topology.streams.max,
        stages=tuple(stages),
        processor=inference.processor.target,  # type: ignore[union-attr]
        digest=hashlib.sha256(msgspec.json.encode(raw | {"name": ""}, order="sorted")).hexdigest()[:12],
        ready_s=max(limit.ready for limit in own_limits),
    )
