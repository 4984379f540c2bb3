"""What a workflow gives, as a picture of the stream's."""

import torch

from pipeline.processors.errors import ProcessorError


def rgb_picture(made: torch.Tensor, device: torch.device) -> torch.Tensor:
    """An IMAGE of ComfyUI, float (pictures, height, width, 1 to 4 channels), as one RGB picture on the device."""
    if not isinstance(made, torch.Tensor) or made.ndim != 4 or not 1 <= made.shape[3] <= 4:
        shape = tuple(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__
        raise ProcessorError(f"the workflow gave {shape}; needed: pictures (1, height, width, 3)")
    picture = made[:1]
    picture = picture[..., :3] if picture.shape[3] >= 3 else picture[..., :1].expand(-1, -1, -1, 3)
    height, width = picture.shape[1] // 2 * 2, picture.shape[2] // 2 * 2
    return picture[:, :height, :width].to(device)
