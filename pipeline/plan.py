"""What a pipeline consists of, told to whoever asks on the control socket: its stages, what joins them, the channels at
its ends, the parameters of its processor. How all of that fares is `status.Status`; no token is in either."""

from pipeline.boot import FrameFormat
from pipeline.processors.parameters import inferred
from pipeline.status import Parameter, Plan, StagePlan
from pipeline.topology import Inference, Publisher, Recorder
from pipeline.wiring import Wiring


def plan_of(wiring: Wiring, described: list[Parameter] | None) -> Plan:
    """`described` are the parameters as the processor at work described them; None: it did not, or is not there, and
    they are those that it is told."""
    topology = wiring.topology
    name = topology.stage_of(Inference)
    assert name is not None
    inference = topology.stages[name]
    assert isinstance(inference, Inference)
    return Plan(
        pipeline=topology.name,
        on_request=topology.streams.on_request,
        has_relay=topology.relay is not None,
        stages=[_stage_plan(stage, wiring) for stage in wiring.stage_names()],
        frame=wiring.frame(wiring.lanes[0].decode),
        largest=_largest(wiring),
        kind=inference.processor.kind,
        parameters=inferred(wiring.params(name)) if described is None else described,
    )


def _stage_plan(name: str, wiring: Wiring) -> StagePlan:
    spec = wiring.spec(name)
    # Links of further streams are called as their stages are; a replica of inference has those of several.
    suffix = "" if isinstance(spec, Inference) else name.removeprefix(wiring.file_name(name))
    source, sink = getattr(spec, "source", None), getattr(spec, "sink", None)
    reads = spec.channel if isinstance(spec, Recorder) else source.trickle if source else None
    writes = spec.channel if isinstance(spec, Publisher) else sink.trickle if sink else None
    file = spec.file if isinstance(spec, Publisher | Recorder) else getattr(source or sink, "file", None)
    return StagePlan(
        stage=name,
        worker=name if spec is None else str(spec.__struct_config__.tag),
        input=f"{link}{suffix}" if (link := getattr(spec, "input", None)) else "",
        output=f"{link}{suffix}" if (link := getattr(spec, "output", None)) else "",
        reads=reads or "",
        writes=writes or "",
        file=file or "",
        runs=f"{spec.processor.kind} {spec.processor.target}" if isinstance(spec, Inference) else "",
        serves=tuple(lane.decode for lane in wiring.lanes_of(name)) if isinstance(spec, Inference) else (),
    )


def _largest(wiring: Wiring) -> FrameFormat:
    """Of the pictures that every link's slots hold."""
    return min((link.boot.format for link in wiring.links.values()), key=lambda format: format.nbytes)
