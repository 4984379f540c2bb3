"""Checks what several streams at once need of a topology, and what a pool of inference needs of them."""

from pipeline.topology import Inference, Topology
from pipeline.topology_values import TopologyError

OF_ONE_STREAM_KINDS = ("trickle_app", "comfystream")
"""Processors that keep what is of a stream in themselves, and are not told whose frame comes."""


def check_streams(topology: Topology) -> None:
    """Raises TopologyError."""
    most = topology.streams.max
    if most > 1 and not topology.streams.on_request:
        raise TopologyError("streams.max", "more than one stream needs streams.on_request: true; allowed without: 1")
    if most > 1 and topology.recording is not None:
        raise TopologyError(
            "recording",
            "is of one stream; allowed: with streams.max: 1; launcher.py record --stream takes one of several",
        )
    for name, stage in topology.stages.items():
        if isinstance(stage, Inference):
            _check_pool(f"stages.{name}", stage, most)
            if most > stage.pool_size:
                _check_sharing(f"stages.{name}.processor", stage, most)
            elif stage.processor.batch is not None and topology.fed_again is None:
                raise TopologyError(
                    f"stages.{name}.processor.batch",
                    "needs a process that serves several streams; allowed: with streams.max above the number of "
                    f"replicas, {stage.pool_size}",
                )


def _check_pool(path: str, inference: Inference, most: int) -> None:
    if inference.pool_size > most:
        key = "replicas" if inference.replicas is not None else "devices"
        raise TopologyError(
            f"{path}.{key}",
            f"{inference.pool_size} replicas would share {most}; allowed: {most} at most, or a larger streams.max",
        )
    if len(inference.devices) > inference.pool_size:
        raise TopologyError(
            f"{path}.devices",
            f"{len(inference.devices)} devices for {inference.pool_size} replicas; allowed: as many at most",
        )


def _check_sharing(path: str, inference: Inference, most: int) -> None:
    """What a process that serves several streams cannot run."""
    alone = f"streams.max: 1, or a replica for each of the {most} streams"
    if inference.processor.kind in OF_ONE_STREAM_KINDS:
        raise TopologyError(
            f"{path}.{inference.processor.kind}",
            f"such a processor is of one stream; allowed: {alone}, or a callable, comfyui or file",
        )
    if inference.processor.audio:
        raise TopologyError(f"{path}.audio", f"sound is of one stream; allowed: {alone}, or false")
