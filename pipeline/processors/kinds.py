"""Makes the processor that a topology asks for."""

from pipeline.processors.protocol import Processor
from pipeline.topology_sections import Processor as ProcessorSpec


def make_processor(spec: ProcessorSpec) -> Processor:
    """Not loaded yet. Only what the chosen kind needs is imported."""
    if spec.comfyui is not None:
        from pipeline.processors.comfyui.processor import ComfyUIProcessor

        return ComfyUIProcessor(spec.comfyui, spec.params, audio=spec.audio)
    if spec.comfystream is not None:
        from pipeline.processors.comfystream.processor import ComfyStreamProcessor

        return ComfyStreamProcessor(spec.comfystream, spec.params)
    if spec.trickle_app is not None:
        from pipeline.processors.trickle_app import TrickleAppProcessor

        return TrickleAppProcessor(spec.trickle_app, spec.params)
    if spec.file is not None:
        from pipeline.processors.torch_file import TorchFile

        return TorchFile(spec.file, spec.compile)
    from pipeline.processors.torch_callable import TorchCallable

    assert spec.callable is not None
    batched = spec.batch is not None
    return TorchCallable(spec.callable, spec.params, spec.compile, spec.in_flight, batched=batched)
