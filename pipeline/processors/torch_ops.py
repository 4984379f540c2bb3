"""A few processors worth looking at, plain torch, quick on a CPU. All take and give float32 (1, height, width, 3) RGB
in [0, 1] and run on the device of their input."""

from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta

_REC_601 = (0.299, 0.587, 0.114)
"""Luma weights of R, G, B (ITU-R BT.601-7, 2.5.1)."""


def invert(image: torch.Tensor) -> torch.Tensor:
    """The negative."""
    return 1.0 - image


def edges(
    image: torch.Tensor,
    strength: Annotated[float, Meta(ge=0, le=100)] = 2.0,
    mix: Annotated[float, Meta(ge=0, le=1)] = 0.5,
) -> torch.Tensor:
    """Glowing outlines: the Sobel gradient of the luma, times `strength`, as light over the picture dimmed to
    1 - `mix`."""
    luma = _luma(image)
    rows = luma[:, :-2] + 2 * luma[:, 1:-1] + luma[:, 2:]
    across = F.pad(rows[:, :, 2:] - rows[:, :, :-2], (1, 1, 1, 1))
    columns = luma[:, :, :-2] + 2 * luma[:, :, 1:-1] + luma[:, :, 2:]
    down = F.pad(columns[:, 2:] - columns[:, :-2], (1, 1, 1, 1))
    light = across.abs_().add_(down.abs_()).mul_(strength / 4).clamp_(0, 1).unsqueeze(-1)
    return torch.lerp(image * (1 - mix), torch.ones_like(image), light)


def blur(image: torch.Tensor, radius: Annotated[int, Meta(ge=0, le=256)] = 4) -> torch.Tensor:
    """A box blur of (2 * `radius` + 1) pixels a side."""
    planes = image.permute(0, 3, 1, 2)
    side = 2 * radius + 1
    planes = F.avg_pool2d(planes, (1, side), 1, (0, radius), count_include_pad=False)
    planes = F.avg_pool2d(planes, (side, 1), 1, (radius, 0), count_include_pad=False)
    return planes.permute(0, 2, 3, 1)


def posterize(image: torch.Tensor, levels: Annotated[int, Meta(ge=2, le=256)] = 4) -> torch.Tensor:
    """`levels` values a channel."""
    steps = levels - 1
    return (image * steps).round_().div_(steps)


def identity(image: torch.Tensor) -> torch.Tensor:
    """The picture itself: what the pipeline costs without a processor."""
    return image


def _luma(image: torch.Tensor) -> torch.Tensor:
    red, green, blue = _REC_601
    return image[..., 0] * red + image[..., 1] * green + image[..., 2] * blue
