"""Between slots in GPU memory and ComfyUI's IMAGE: what FrameTensors does, with no copy over the bus, and a wait where
the host's memory needed none."""

from collections.abc import Sequence

import torch

from pipeline.boot import FrameFormat
from pipeline.memory.cuda_slab import CudaSlab
from pipeline.memory.slab import page_aligned
from pipeline.memory.slot_table import Slot
from pipeline.processors.frame_tensors import FrameTensors


def slot_tensors(slab: CudaSlab, slots: int, form: FrameFormat) -> list[torch.Tensor]:
    """The slots of a link as flat uint8 tensors that are the slab's memory. They are good until the slab is closed."""
    torch.cuda.init()  # Before that torch cannot tell whose memory a pointer is.
    stride, device = page_aligned(form.nbytes), torch.device("cuda", slab.device)
    return [torch.as_tensor(slab.slot_array(i, stride, form.shape), device=device).view(-1) for i in range(slots)]


class CudaFrames(FrameTensors):
    """The tensors of one link's slots, and float32 (1, height, width, 3) pictures on their device, used in turn."""

    def __init__(self, pixels: Sequence[torch.Tensor], form: FrameFormat, pictures: int = 1) -> None:
        """`pixels` are the slots, as `slot_tensors` makes them; any device will do."""
        super().__init__(pixels, form, pixels[0].device, pictures)
        self._stored = torch.cuda.Event(blocking=True) if pixels[0].is_cuda else None

    def store(self, image: torch.Tensor, slot: Slot) -> None:
        """As FrameTensors does: complete when this returns, and so is every earlier work on the current stream, so that
        READY may be written and the frame's own slot be freed."""
        super().store(image, slot)
        if self._stored is not None:
            self._stored.record(torch.cuda.current_stream(image.device))
            self._stored.synchronize()
