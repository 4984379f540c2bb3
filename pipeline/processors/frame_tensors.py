"""Between slots and tensors: uint8 RGB in shared memory on one side, ComfyUI's IMAGE on the device on the other.

All buffers are made once; nothing is allocated per frame but what the processor itself makes.
"""

from collections.abc import Sequence

import torch

from pipeline.memory.slot_table import Slot
from pipeline.messages import FrameFormat
from pipeline.processors.protocol import ProcessorError


def host_tensors(slots: Sequence[Slot], form: FrameFormat) -> list[torch.Tensor]:
    """The slots of a link in host memory as uint8 tensors of shape (height, width, 3) that are that memory."""
    return [torch.frombuffer(slot.data, dtype=torch.uint8).view(form.shape) for slot in slots]


class FrameTensors:
    """The tensors of one link's slots, and one float32 (1, height, width, 3) picture on the device."""

    def __init__(self, pixels: Sequence[torch.Tensor], device: torch.device) -> None:
        """`pixels` are the slots, uint8 (height, width, 3), as `host_tensors` makes them."""
        self._pixels = list(pixels)
        self._picture = torch.empty((1, *pixels[0].shape), dtype=torch.float32, device=device)

    def load(self, slot: Slot) -> torch.Tensor:
        """The slot's pixels as float32 (1, height, width, 3) in [0, 1] on the device. Overwritten by the next call."""
        self._picture[0].copy_(self._pixels[slot.index])
        return self._picture.mul_(1 / 255)

    def check(self, image: torch.Tensor) -> None:
        """Raises ProcessorError unless `image` is a picture that fits a slot."""
        if not isinstance(image, torch.Tensor):
            raise ProcessorError(f"gave a {type(image).__name__}; needed: a tensor")
        if image.shape != self._picture.shape or not image.is_floating_point():
            raise ProcessorError(
                f"gave {image.dtype} {tuple(image.shape)}; needed: float {tuple(self._picture.shape)} in [0, 1]"
            )
        if image.device != self._picture.device or image.layout != torch.strided:
            raise ProcessorError(
                f"gave a {image.layout} tensor on {image.device}; needed: torch.strided on {self._picture.device}"
            )

    def store(self, image: torch.Tensor, slot: Slot) -> None:
        """Round `image`, a checked picture, into the slot: complete when this returns."""
        torch.mul(image, 255, out=self._picture)
        self._picture.round_().clamp_(0, 255)
        self._pixels[slot.index].copy_(self._picture[0])
