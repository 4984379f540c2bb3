"""The pool of inference: the stages that do its work side by side, called replicas, which of the lanes each of them
serves, and on which device. A lane is always the same replica's, so a stream stays where its state is."""

from typing import NamedTuple

from pipeline.topology import Inference, Topology
from pipeline.topology_values import Device


class Replica(NamedTuple):
    """`lanes` are the numbers of those that it serves."""

    stage: str
    device: Device
    lanes: tuple[int, ...]


def replicas_of(topology: Topology) -> list[Replica]:
    """All of them: the devices in turn, and the lanes in turn. One alone is called as the file calls the stage; more
    have their place behind it, counted from 1."""
    name = topology.stage_of(Inference)
    assert name is not None
    spec = topology.stages[name]
    assert isinstance(spec, Inference)
    count, devices = spec.pool_size, spec.devices or (topology.device,)
    return [
        Replica(
            f"{name}.{number + 1}" if count > 1 else name,
            devices[number % len(devices)],
            tuple(range(number, topology.streams.max, count)),
        )
        for number in range(count)
    ]
