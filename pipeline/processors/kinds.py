"""Makes the processor that a topology asks for."""

from pipeline.processors.protocol import Processor
from pipeline.processors.torch_callable import TorchCallable
from pipeline.topology import Processor as ProcessorSpec


def make_processor(spec: ProcessorSpec) -> Processor:
    """Not loaded yet."""
    assert spec.callable is not None
    return TorchCallable(spec.callable, spec.params)
