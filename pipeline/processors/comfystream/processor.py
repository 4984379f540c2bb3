"""A ComfyUI workflow run by ComfyStream as a processor: one frame in, one run of the graph, one picture out."""

import queue
from typing import Any

import torch

from pipeline.processors.comfystream.nodes import Junction
from pipeline.processors.comfystream.prompt import stream_prompt
from pipeline.processors.comfystream.runner import ComfyStreamRunner
from pipeline.processors.comfyui.answers import NodeError
from pipeline.processors.comfyui.picture import rgb_picture
from pipeline.processors.comfyui.workflow import LiveWorkflow, Prompt, change, convert, read_workflow
from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import FrameIdentity, Result
from pipeline.topology_sections import ComfyStream as ComfyStreamSpec

_LOOK_SECONDS = 0.05
"""How often a wait for the engine looks whether it still runs what it was given."""


class ComfyStreamProcessor:
    """See `protocol.Processor`. Parameters are those of `comfyui.workflow.change`; in force is one whole prompt."""

    def __init__(self, spec: ComfyStreamSpec, params: dict[str, Any]) -> None:
        self._spec = spec
        self._params = params
        self._junction = Junction()
        self._device = torch.device("cpu")
        self._runner: ComfyStreamRunner
        self._workflow: LiveWorkflow
        self._number = 0

    def load(self, device: torch.device) -> None:
        self._device = device
        source: Prompt = {} if "prompt" in self._params else read_workflow(self._spec.workflow)
        wanted = convert(change(source, self._params))
        stream_prompt(wanted, 1)
        self._runner = ComfyStreamRunner(self._junction, self._spec.workspace, device, self._spec.arguments)
        self._adopt(wanted)

    def warm_up(self, height: int, width: int) -> None:
        """Loads the models and runs every node once."""
        self._run(torch.zeros((1, height, width, 3), device=self._device))

    def process(self, image: torch.Tensor, frame: FrameIdentity) -> Result:
        # Nodes may keep what they are given: it must not be the buffer that the next frame is put into.
        return self._run(image.clone())

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        self._adopt(convert(change(self._workflow.source, params)))
        return {"prompt": self._workflow.source}

    def close(self) -> None:
        self._runner.close()

    def _adopt(self, wanted: LiveWorkflow) -> None:
        number = self._junction.workflow + 1
        prompt = stream_prompt(wanted, number)
        self._runner.validate(prompt)
        self._runner.run(prompt)
        self._junction.workflow = number
        self._junction.nudge()
        self._workflow = wanted

    def _run(self, image: torch.Tensor) -> Result:
        """One frame is under way at a time: more gain nothing, for the engine runs one workflow at a time."""
        if self._runner.paused:
            self._runner.resume()
        self._number += 1
        self._junction.offer(self._number, image)
        result = self._wait()
        self._runner.forget_history()
        return result

    def _wait(self) -> Result:
        """What the run gave of every output. A run that hangs is for the supervisor, which ends the process."""
        picture: torch.Tensor | None = None
        texts: list[str] = []
        while picture is None or len(texts) < len(self._workflow.text_outputs):
            event = self._next_event()
            if event is None or event.number not in (self._number, None):
                continue  # Of a run before.
            if event.error is not None:
                raise event.error
            if event.ended:
                break
            if event.image is not None:
                picture = rgb_picture(event.image, self._device)
            if event.text is not None:
                texts.append(event.text)
        if picture is None:
            raise ProcessorError("the workflow gave no picture")
        return Result(picture, tuple(texts))

    def _next_event(self) -> Any:
        try:
            return self._junction.events.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            if self._runner.fell_back:
                self._junction.forget()
                self._runner.restore()
                raise NodeError("the workflow failed, and ComfyStream replaced it by pass-through") from None
            if not self._runner.alive:
                raise ProcessorError("ComfyStream has stopped running the workflow") from None
            return None
