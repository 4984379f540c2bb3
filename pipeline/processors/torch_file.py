"""Runs a saved program: TorchScript (`torch.jit.save`) or an exported program (`torch.export.save`).

The program takes one picture, float32 (1, height, width, 3), and gives one.
"""

import zipfile
from pathlib import Path
from typing import Any

import torch

from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import FrameIdentity


class TorchFile:
    """See `protocol.Processor`."""

    def __init__(self, path: str, compile_mode: str | None = None) -> None:
        self._path = Path(path)
        self._compile_mode = compile_mode
        self._device = torch.device("cpu")
        self._module: Any = None

    def load(self, device: torch.device) -> None:
        self._device = device
        if not self._path.is_file():
            raise ProcessorError(f"{self._path}: no such file")
        try:
            self._module = _read(self._path, device)
        except Exception as error:  # The readers raise what they like.
            first = str(error).strip().partition("\n")[0]
            raise ProcessorError(f"{self._path}: no TorchScript and no exported program: {first}") from error
        if self._compile_mode is not None:
            self._module = torch.compile(self._module, mode=self._compile_mode)

    def warm_up(self, height: int, width: int) -> None:
        """Raises ProcessorError: a saved program that cannot take a picture of this size never will."""
        try:
            self._module(torch.zeros((1, height, width, 3), device=self._device))
        except Exception as error:  # Whatever the program raises.
            first = str(error).strip().partition("\n")[0]
            raise ProcessorError(f"{self._path}: does not take a picture of {width}x{height}: {first}") from error

    def process(self, image: torch.Tensor, frame: FrameIdentity) -> torch.Tensor:
        return self._module(image)

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        if params:
            raise ProcessorError(f"{self._path}: a saved program takes no parameters")
        return {}

    def close(self) -> None:
        self._module = None


def _read(path: Path, device: torch.device) -> Any:
    if _is_exported(path):
        program = torch.export.load(path)
        return program.module().to(device)
    return torch.jit.load(str(path), map_location=device).eval()


def _is_exported(path: Path) -> bool:
    """Both are ZIP files; TorchScript keeps its code in one that holds constants.pkl and no exported program."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("archive_format" in name or name.endswith("models/model.json") for name in archive.namelist())
