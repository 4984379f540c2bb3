"""A ComfyUI workflow as a processor: one frame in, one execution of the graph, one picture out."""

from typing import Any

import torch

from pipeline.processors.comfyui.engine import ComfyEngine
from pipeline.processors.comfyui.nodes import Junction, make_nodes
from pipeline.processors.comfyui.picture import rgb_picture
from pipeline.processors.comfyui.workflow import LiveWorkflow, Prompt, change, convert, read_workflow
from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import FrameIdentity, Result
from pipeline.topology_sections import ComfyUI as ComfyUISpec


class ComfyUIProcessor:
    """See `protocol.Processor`. Parameters are those of `workflow.change`; in force is always one whole prompt."""

    def __init__(self, spec: ComfyUISpec, params: dict[str, Any]) -> None:
        self._spec = spec
        self._params = params
        self._junction = Junction()
        self._device = torch.device("cpu")
        self._engine: ComfyEngine
        self._workflow: LiveWorkflow
        self._last: torch.Tensor | None = None

    def load(self, device: torch.device) -> None:
        self._device = device
        source: Prompt = {} if "prompt" in self._params else read_workflow(self._spec.workflow)
        wanted = convert(change(source, self._params))
        self._engine = ComfyEngine(self._spec.workspace, device, self._spec.arguments, self._spec.models)
        self._engine.classes.update(make_nodes(self._junction))
        self._engine.validate(wanted.prompt)
        self._workflow = wanted

    def warm_up(self, height: int, width: int) -> None:
        """Loads the models and runs every node once."""
        self._run(torch.zeros((1, height, width, 3), device=self._device), 0)

    def process(self, image: torch.Tensor, frame: FrameIdentity) -> Result:
        """The picture that the workflow made; the one before when nothing in it depends on the frame."""
        # The engine keeps what nodes gave for the next run: it must not be the buffer that the next frame is put into.
        return self._run(image.clone(), frame.seq)

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = convert(change(self._workflow.source, params))
        self._engine.validate(wanted.prompt)
        self._workflow, self._last = wanted, None
        return {"prompt": wanted.source}

    def close(self) -> None:
        self._last = None
        self._engine.close()

    def _run(self, image: torch.Tensor, seq: int) -> Result:
        self._junction.offer(image)
        self._engine.execute(self._workflow.at(seq), self._workflow.outputs)
        made = self._junction.result
        if made is not None:
            self._last = rgb_picture(made, self._device)
        if self._last is None:
            raise ProcessorError("the workflow gave no picture")
        return Result(self._last, tuple(self._junction.texts))
