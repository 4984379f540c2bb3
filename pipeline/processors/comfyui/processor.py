"""A ComfyUI workflow as a processor: one frame, or piece of sound, in, one execution of the graph for what depends on
it, one picture or piece of sound out."""

from typing import Any

import torch

from pipeline.media.pcm import Pcm
from pipeline.processors.comfyui.engine import ComfyEngine
from pipeline.processors.comfyui.node_inputs import node_inputs
from pipeline.processors.comfyui.nodes import Junction, make_nodes
from pipeline.processors.comfyui.picture import rgb_picture
from pipeline.processors.comfyui.sound import SoundBuffer, audio_of, pcm_of
from pipeline.processors.comfyui.workflow import LiveWorkflow, Prompt, change, convert, read_workflow
from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import FrameIdentity, Heard, Result
from pipeline.status import Parameter
from pipeline.topology_sections import ComfyUI as ComfyUISpec


class ComfyUIProcessor:
    """See `protocol.Processor`. Parameters are those of `workflow.change`; in force is always one whole prompt."""

    def __init__(self, spec: ComfyUISpec, params: dict[str, Any], *, audio: bool = False) -> None:
        """`audio`: the stream's sound comes too."""
        self._spec = spec
        self._audio = audio
        self._params = params
        self._junction = Junction()
        self._device = torch.device("cpu")
        self._engine: ComfyEngine
        self._workflow: LiveWorkflow
        self._last: torch.Tensor | None = None
        self._sound: SoundBuffer | None = None
        self._seq = 0

    def load(self, device: torch.device) -> None:
        self._device = device
        source: Prompt = {} if "prompt" in self._params else read_workflow(self._spec.workflow)
        wanted = convert(change(source, self._params), audio=self._audio)
        self._engine = ComfyEngine(self._spec.workspace, device, self._spec.arguments, self._spec.models)
        self._engine.classes.update(make_nodes(self._junction))
        self._engine.validate(wanted.prompt)
        self._adopt(wanted)

    def warm_up(self, height: int, width: int) -> None:
        """Loads the models and runs every node once."""
        self._run(torch.zeros((1, height, width, 3), device=self._device), 0)

    def process(self, image: torch.Tensor, frame: FrameIdentity) -> Result:
        """The picture that the workflow made; the one before when nothing in it depends on the frame."""
        # The engine keeps what nodes gave for the next run: it must not be the buffer that the next frame is put into.
        return self._run(image.clone(), frame.seq)

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = convert(change(self._workflow.source, params), audio=self._audio)
        self._engine.validate(wanted.prompt)
        self._adopt(wanted)
        return {"prompt": wanted.source}

    def parameters(self) -> list[Parameter]:
        """See `protocol.Described`: the inputs of the nodes."""
        workflow = self._workflow
        joints = (workflow.input, workflow.output, workflow.audio_input, workflow.audio_output)
        return node_inputs(workflow.source, self._engine.classes, {key for key in joints if key is not None})

    def hear(self, pcm: Pcm) -> Heard:
        """See `protocol.Listener`. Sound that the workflow does not take goes on as it came."""
        if self._sound is None:
            return Heard((pcm,))
        made = [self._run_on(piece) for piece in self._sound.add(pcm)]
        return self._joined(made) if self._workflow.audio_output else Heard((pcm,), self._joined(made).texts)

    def end_of_sound(self) -> Heard:
        made = [self._run_on(piece) for piece in self._sound.rest()] if self._sound is not None else []
        return self._joined(made)

    def close(self) -> None:
        self._last = None
        self._engine.close()

    def _adopt(self, wanted: LiveWorkflow) -> None:
        self._workflow, self._last = wanted, None
        if wanted.audio_input is None:
            self._sound = None
        elif self._sound is None:
            self._sound = SoundBuffer(wanted.buffer_ms)
        else:
            self._sound.set_length(wanted.buffer_ms)

    def _run(self, image: torch.Tensor, seq: int) -> Result:
        self._junction.offer(image)
        self._seq = seq
        if self._workflow.outputs:
            self._engine.execute(self._workflow.at(seq), self._workflow.outputs)
        if self._workflow.output is None:
            return Result(image, tuple(self._junction.texts))
        made = self._junction.result
        if made is not None:
            self._last = rgb_picture(made, self._device)
        if self._last is None:
            raise ProcessorError("the workflow gave no picture")
        return Result(self._last, tuple(self._junction.texts))

    def _run_on(self, piece: Pcm) -> Heard:
        self._junction.offer_audio(audio_of(piece, self._device))
        self._engine.execute(self._workflow.at(self._seq), self._workflow.audio_outputs)
        made = self._junction.audio_result
        return Heard((pcm_of(made, piece.pts),) if made is not None else (), tuple(self._junction.texts))

    def _joined(self, made: list[Heard]) -> Heard:
        return Heard(tuple(pcm for each in made for pcm in each.sound), tuple(t for each in made for t in each.texts))
