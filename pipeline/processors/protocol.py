"""What every processor answers, whatever runs inside it. Inference knows processors only by this."""

from typing import Any, Protocol

import torch


class ProcessorError(Exception):
    """The processor cannot be had as configured, or did not give what it must. One line for the user."""


class Processor(Protocol):
    """Turns one picture into another of the same size.

    Pictures are float32 tensors of shape (1, height, width, 3), RGB, in [0, 1], on the device given to `load`: the
    IMAGE of ComfyUI.
    """

    def load(self, device: torch.device) -> None:
        """Get everything that is needed onto `device`. Raises ProcessorError with what to mend."""

    def warm_up(self, height: int, width: int) -> None:
        """Pay for what is paid once, so that the first live frame does not."""

    def process(self, image: torch.Tensor) -> torch.Tensor:
        """The new picture. `image` belongs to the caller and is overwritten by the next one: do not keep it.

        May raise anything: the frame is then counted as `processor_error` and reported, and the next one is tried.
        """

    def update(self, params: dict[str, Any]) -> None:
        """Replace parameters, from the next picture on. Raises ProcessorError for one that is not known."""

    def close(self) -> None:
        """Give back what `load` took."""
