"""What may change in a topology while its pipeline runs: which stages are concerned, and what is fixed."""

from collections.abc import Callable

import msgspec

from pipeline.boot import FrameFormat
from pipeline.topology import Decode, Inference, Stage, Topology


class NeedsNewStart(Exception):
    """A change of the topology that cannot be made while the pipeline runs."""


def link_format(topology: Topology, link: str) -> FrameFormat:
    """The largest picture that a link's slots hold."""
    largest = topology.links[link].max_frame or topology.frame
    return FrameFormat(largest.width, largest.height)


def changed_stages(before: Topology, after: Topology) -> list[str]:
    """Those whose processes must be started again. Raises NeedsNewStart for a change that what outlives the stages does
    not allow."""
    fixed = [path for path, of in _FIXED.items() if of(after) != of(before)]
    if fixed:
        raise NeedsNewStart(f"{', '.join(fixed)}: a change needs a new start of the whole pipeline")
    changed = [name for name, spec in after.stages.items() if _unmanaged(spec) != _unmanaged(before.stages[name])]
    decode = after.stage_of(Decode)
    if after.frame != before.frame and decode is not None and decode not in changed:
        changed.append(decode)
    return changed


_FIXED: dict[str, Callable[[Topology], object]] = {
    "name": lambda topology: topology.name,
    "frame": lambda topology: [link_format(topology, name) for name in topology.links if topology.carries_frames(name)],
    "device": lambda topology: topology.device,
    "frame_memory": lambda topology: topology.frame_memory,
    "links": lambda topology: topology.links,
    "relay": lambda topology: topology.relay,
    "api": lambda topology: topology.api,
    "streams": lambda topology: topology.streams,
    "recording": lambda topology: topology.recording,
    "tracing": lambda topology: topology.tracing,
    "logs.format and logs.file": lambda topology: (topology.logs.format, topology.logs.file),
    "names, kinds, inputs and outputs of stages": lambda topology: {
        name: (type(spec), getattr(spec, "input", None), getattr(spec, "output", None))
        for name, spec in topology.stages.items()
    },
    "spares, while_away, replicas and devices": lambda topology: [
        (spec.spares, spec.while_away, spec.pool_size, spec.devices)
        for spec in topology.stages.values()
        if isinstance(spec, Inference)
    ],
}
"""What the memory, the sockets and the launcher itself were made for."""


def _unmanaged(spec: Stage) -> Stage:
    """The part of a stage that its processes know of; the rest is the launcher's and takes effect at once."""
    return msgspec.structs.replace(spec, restart=None, limits=None)
