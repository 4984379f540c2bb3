"""The nodes that join a workflow to the stream. They are put into the engine's map of classes, and are never saved."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from pipeline.processors.comfyui.workflow import AUDIO_INPUT, AUDIO_OUTPUT, INPUT, OUTPUT, TEXT_OUTPUT

Audio = dict[str, Any]
"""ComfyUI's AUDIO: {"waveform": float32 (1, channels, n), "sample_rate": Hz}."""


class Junction:
    """Between the processor and the nodes: the frame or the piece of sound under way, and what became of it. One
    workflow runs at a time, in one thread."""

    def __init__(self) -> None:
        self.runs = 0
        self.image: torch.Tensor | None = None
        self.mask: torch.Tensor | None = None
        self.result: torch.Tensor | None = None
        self.texts: list[str] = []
        self.pieces = 0
        self.audio: Audio | None = None
        self.audio_result: Audio | None = None

    def offer_audio(self, audio: Audio) -> None:
        """Make a piece of sound the workflow's input."""
        self.pieces += 1
        self.audio, self.audio_result = audio, None
        self.texts.clear()

    def offer(self, image: torch.Tensor) -> None:
        """Make a picture the workflow's input."""
        self.runs += 1
        self.image, self.result = image, None
        self.texts.clear()
        self.mask = mask_for(image, self.mask)


def make_nodes(junction: Junction) -> dict[str, type]:
    """The classes by name, bound to `junction`."""

    class LivepipeInput:
        RETURN_TYPES = ("IMAGE", "MASK")
        FUNCTION = "give"
        CATEGORY = "livepipe"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {}}

        @classmethod
        def IS_CHANGED(cls, **_: Any) -> int:
            return junction.runs  # What depends on the picture runs for each one, the rest once.

        def give(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
            return junction.image, junction.mask

    class LivepipeAudioInput:
        RETURN_TYPES = ("AUDIO",)
        FUNCTION = "give"
        CATEGORY = "livepipe"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {}}

        @classmethod
        def IS_CHANGED(cls, **_: Any) -> int:
            return junction.pieces

        def give(self) -> tuple[Audio | None]:
            return (junction.audio,)

    def take(images: torch.Tensor) -> None:
        junction.result = images

    def take_audio(audio: Audio) -> None:
        junction.audio_result = audio

    return {
        INPUT: LivepipeInput,
        OUTPUT: picture_output(take),
        TEXT_OUTPUT: text_output(junction.texts.append),
        AUDIO_INPUT: LivepipeAudioInput,
        AUDIO_OUTPUT: audio_output(take_audio),
    }


def mask_for(image: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
    """The mask of a picture without one, float32 (1, height, width), all 0: `before` itself if it fits."""
    if before is None or before.shape[1:] != image.shape[1:3] or before.device != image.device:
        return torch.zeros(image.shape[:3], device=image.device)
    return before


def picture_output(give: Callable[[torch.Tensor], None]) -> type:
    """The class of a node that hands its pictures to `give`."""

    class LivepipeOutput(_Output):
        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"images": ("IMAGE",)}}

        def take(self, images: torch.Tensor) -> dict[str, Any]:
            give(images)
            return {}

    return LivepipeOutput


def text_output(give: Callable[[str], None]) -> type:
    """The class of a node that hands its text to `give`."""

    class LivepipeTextOutput(_Output):
        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"text": ("STRING", {"forceInput": True})}}

        def take(self, text: str) -> dict[str, Any]:
            give(str(text))
            return {}

    return LivepipeTextOutput


def audio_output(give: Callable[[Audio], None]) -> type:
    """The class of a node that hands its sound to `give`."""

    class LivepipeAudioOutput(_Output):
        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"audio": ("AUDIO",)}}

        def take(self, audio: Audio) -> dict[str, Any]:
            give(audio)
            return {}

    return LivepipeAudioOutput


class _Output:
    RETURN_TYPES: ClassVar[tuple[str, ...]] = ()
    FUNCTION = "take"
    CATEGORY = "livepipe"
    OUTPUT_NODE = True
