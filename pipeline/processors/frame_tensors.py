"""Between slots and tensors: uint8 RGB in shared memory on one side, ComfyUI's IMAGE on the device on the other.

All buffers are made once for a size of picture; nothing is allocated per frame but what the processor itself makes.
"""

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.boot import FrameFormat
from pipeline.memory.slot_table import Slot
from pipeline.processors.errors import ProcessorError


def host_tensors(slots: Sequence[Slot]) -> list[torch.Tensor]:
    """The slots of a link in host memory as flat uint8 tensors that are that memory."""
    return [torch.frombuffer(slot.data, dtype=torch.uint8) for slot in slots]


class FrameTensors:
    """The tensors of one link's slots, and float32 (1, height, width, 3) pictures on the device, used in turn."""

    def __init__(
        self, pixels: Sequence[torch.Tensor], form: FrameFormat, device: torch.device, pictures: int = 1
    ) -> None:
        """`pixels` are the slots, flat uint8, as `host_tensors` makes them; `form` is the largest picture. So many
        `pictures` are good at a time."""
        self._form = form
        self._flat = list(pixels)
        self._slots = [flat[: form.nbytes].view(form.shape) for flat in self._flat]
        self._pictures = [torch.empty((1, *form.shape), dtype=torch.float32, device=device) for _ in range(pictures)]
        self._turn = 0

    def load(self, slot: Slot) -> torch.Tensor:
        """The slot's picture as float32 (1, height, width, 3) in [0, 1] on the device. Overwritten by the next call, or
        by that after as many as there are pictures."""
        self._turn = (self._turn + 1) % len(self._pictures)
        return self.reload(slot, self._buffers(slot)[1])

    def reload(self, slot: Slot, picture: torch.Tensor) -> torch.Tensor:
        """The same into `picture`, which `load` gave for this slot: whoever had it may have drawn in it."""
        picture[0].copy_(self._pixels(slot))
        return picture.mul_(1 / 255)

    def check(self, image: torch.Tensor) -> None:
        """Raises ProcessorError unless `image` is a picture that fits a slot."""
        if not isinstance(image, torch.Tensor):
            raise ProcessorError(f"gave a {type(image).__name__}; needed: a tensor")
        if image.ndim != 4 or image.shape[0] != 1 or image.shape[3] != 3 or not image.is_floating_point():
            raise ProcessorError(
                f"gave {image.dtype} {tuple(image.shape)}; needed: float (1, height, width, 3) in [0, 1]"
            )
        height, width = image.shape[1:3]
        if width % 2 or height % 2 or not self._form.holds(width, height):
            raise ProcessorError(
                f"gave a picture of {width}x{height}; needed: even sides, and at most {self._form.width}x"
                f"{self._form.height} pixels in all, the link's `max_frame`"
            )
        device = self._pictures[0].device
        if image.device != device or image.layout != torch.strided:
            raise ProcessorError(f"gave a {image.layout} tensor on {image.device}; needed: torch.strided on {device}")

    def store(self, image: torch.Tensor, slot: Slot) -> None:
        """Round `image`, a checked picture of the size that the slot was acquired with, into the slot: complete when
        this returns."""
        pixels, picture = self._buffers(slot)
        torch.mul(image, 255, out=picture)
        picture.round_().clamp_(0, 255)
        if picture.is_cpu:
            # torch converts float32 to uint8 one value at a time: 1.8 ms at 720p where numpy takes 0.4.
            with np.errstate(invalid="ignore"):
                np.copyto(pixels.numpy(), picture[0].numpy(), casting="unsafe")
        else:
            pixels.copy_(picture[0])

    def _buffers(self, slot: Slot) -> tuple[torch.Tensor, torch.Tensor]:
        """The slot, and the picture on the device whose turn it is, in the slot's size."""
        pixels, picture = self._pixels(slot), self._pictures[self._turn]
        if picture.shape[1:] != pixels.shape:
            shape = (1, *pixels.shape)
            picture = self._pictures[self._turn] = torch.empty(shape, dtype=torch.float32, device=picture.device)
        return pixels, picture

    def _pixels(self, slot: Slot) -> torch.Tensor:
        pixels, shape = self._slots[slot.index], (slot.height, slot.width, 3)
        if pixels.shape != shape:
            flat = self._flat[slot.index]
            pixels = self._slots[slot.index] = flat[: slot.height * slot.width * 3].view(shape)
        return pixels
