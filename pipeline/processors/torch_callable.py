"""Runs a function, a class or a module of the user's own, named in the topology as `module:name`."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch

from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import FrameIdentity, Result


class TorchCallable:
    """A Processor around `module:name`.

    A function is called as `function(image, **params)`. A class is made as `cls(**params)` and its instance called as
    `instance(image)`; an `nn.Module` is put on the device and into evaluation mode.
    """

    def __init__(self, target: str, params: dict[str, Any]) -> None:
        self._target = target
        self._params = dict(params)
        self._function: Callable[..., torch.Tensor | Result | None] | None = None
        self._is_class = False
        self._device = torch.device("cpu")

    def load(self, device: torch.device) -> None:
        """Import the target. Raises ProcessorError when there is none, or when it does not take these parameters."""
        self._device = device
        found = _resolve(self._target)
        self._is_class = inspect.isclass(found)
        self._check(found, self._params)
        self._function = self._make(found, self._params)

    def warm_up(self, height: int, width: int) -> None:
        self._call(torch.zeros((1, height, width, 3), device=self._device))

    def process(self, image: torch.Tensor, frame: FrameIdentity) -> torch.Tensor | Result | None:
        return self._call(image)

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        found = _resolve(self._target)
        merged = {**self._params, **params}
        self._check(found, merged)
        # Made before anything changes: a class that refuses its new parameters leaves the old instance at work.
        if self._is_class:
            self._function = self._make(found, merged)
        self._params = merged
        return dict(merged)

    def close(self) -> None:
        self._function = None

    def _call(self, image: torch.Tensor) -> torch.Tensor | Result | None:
        assert self._function is not None, "load comes first"
        if self._is_class:
            return self._function(image)
        return self._function(image, **self._params)

    def _make(self, found: Any, params: dict[str, Any]) -> Callable[..., torch.Tensor | Result | None]:
        if not self._is_class:
            return found  # type: ignore[no-any-return]
        try:
            instance = found(**params)
        except Exception as error:  # Whatever the user's own code raises.
            raise ProcessorError(f"{self._target}: cannot be made: {type(error).__name__}: {error}") from error
        if isinstance(instance, torch.nn.Module):
            instance.to(self._device).eval()
        return instance  # type: ignore[no-any-return]

    def _check(self, found: Any, params: dict[str, Any]) -> None:
        """Whether the target takes `params`, and at least an image."""
        try:
            signature = inspect.signature(found)
        except (TypeError, ValueError):
            return  # Written in C; only calling it will tell.
        image = () if self._is_class else (None,)
        try:
            signature.bind(*image, **params)
        except TypeError as error:
            names = ", ".join(list(signature.parameters)[len(image) :]) or "none"
            raise ProcessorError(f"{self._target}: {error}; parameters that it takes: {names}") from error


def _resolve(target: str) -> Any:
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # Importing runs the user's own code.
        raise ProcessorError(f"{target}: cannot import {module_name}: {type(error).__name__}: {error}") from error
    found: Any = module
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        names = ", ".join(name for name in vars(module) if not name.startswith("_"))
        raise ProcessorError(f"{target}: {module_name} has no {attribute}; it has {names}") from error
    if not callable(found):
        raise ProcessorError(f"{target}: this is a {type(found).__name__}, not something that can be called")
    return found
