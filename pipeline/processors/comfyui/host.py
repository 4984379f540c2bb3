"""Lets an engine be imported inside another program: ComfyUI takes itself for the main program."""

import contextlib
import importlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.processors.errors import ProcessorError


def device_arguments(device: torch.device, arguments: Sequence[str]) -> list[str]:
    """ComfyUI's arguments for a process that computes on `device`, the user's own behind them."""
    chosen = ["--cpu"] if device.type == "cpu" else []
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return [*chosen, *(argument for argument in arguments if argument not in chosen)]


@contextlib.contextmanager
def as_main_program(arguments: Sequence[str], root: Path | None = None) -> Iterator[None]:
    """ComfyUI reads the program's arguments as its own, finds its modules in the program's folder `root`, and sets up
    logging and output for everybody: let it, and put everything back. Raises ProcessorError for arguments that it does
    not take."""
    argv, logger, logger_class = sys.argv, logging.getLogger(), logging.getLoggerClass()
    handlers, level = list(logger.handlers), logger.level
    out, err = sys.stdout, sys.stderr
    sys.argv = [str(root / "main.py") if root else "main.py", *arguments]
    if root is not None:
        sys.path.insert(0, str(root))
    try:
        yield
    except SystemExit as error:
        raise ProcessorError(f"ComfyUI does not take the arguments {' '.join(arguments)}") from error
    finally:
        sys.argv = argv
        sys.stdout, sys.stderr = out, err
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logging.setLoggerClass(logger_class)


def import_torchvision() -> None:
    """Beside a torch that was built for CPUs only, PyPI's torchvision fails over operators of its own that it does not
    have there. ComfyUI uses none of them: with their names declared it can be imported."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return  # Newer engines do without in many nodes; what needs it says so.
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        declared = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(declared)
        importlib.import_module("torchvision")


_KEPT: list[Any] = []
"""Operators are declared for as long as their library is alive."""
