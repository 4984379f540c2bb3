"""The CUDA driver API, checked: one device, its primary context, an exception for every call that fails.

It hides nothing: functions, enums and structs keep the driver's names. The package cuda-bindings is imported when a
CudaDriver is made and not before, so that everything imports without it; torch is not needed.
"""

import contextlib
import importlib
import os
from typing import Any, Self


class CudaUnavailable(Exception):
    """GPU memory cannot be had here. One line for the user: what is missing and how to mend it."""


class CudaError(Exception):
    """A call of the driver failed. `name` is the driver's own, such as CUDA_ERROR_OUT_OF_MEMORY."""

    def __init__(self, name: str, call: str) -> None:
        super().__init__(f"{call}: {name}")
        self.name = name
        self.call = call


class CudaDriver:
    """The driver on one device, in the device's primary context: the one that torch uses, so that both see the same
    memory and streams. The context is current from the constructor to `close`, on the thread that made the object.

    `api` is the module cuda.bindings.driver, for its enums and structs.
    """

    def __init__(self, device: int) -> None:
        """Raises CudaUnavailable: no cuda-bindings, no driver, or no such device."""
        self.device = device
        self.api = _import_bindings()
        with contextlib.ExitStack() as undo:
            self._enter_primary_context(undo)
            self._undo = undo.pop_all()

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the driver. Returns what it gives besides the status: one value, or a tuple of another
        number of them. Raises CudaError."""
        status, *values = getattr(self.api, name)(*arguments)
        if int(status):
            raise CudaError(getattr(status, "name", f"error {int(status)}"), name)
        return values[0] if len(values) == 1 else tuple(values)

    def close(self) -> None:
        """Release the context. Everything made in it must be closed before."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enter_primary_context(self, undo: contextlib.ExitStack) -> None:
        try:
            self.call("cuInit", 0)
            count = self.call("cuDeviceGetCount")
        except (CudaError, RuntimeError) as error:  # cuda-bindings raise RuntimeError when there is no libcuda.so.1.
            raise CudaUnavailable(
                f"no NVIDIA driver that works ({error}): install one, and see that nvidia-smi runs"
            ) from error
        if not 0 <= self.device < count:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            limit = "" if visible is None else f" with CUDA_VISIBLE_DEVICES={visible}"
            raise CudaUnavailable(
                f"CUDA device {self.device} is not there: the driver sees {count}{limit}, numbered from 0"
            )
        try:
            device = self.call("cuDeviceGet", self.device)
            context = self.call("cuDevicePrimaryCtxRetain", device)
            undo.callback(self.call, "cuDevicePrimaryCtxRelease", device)
            before = self.call("cuCtxGetCurrent")
            self.call("cuCtxSetCurrent", context)
            undo.callback(self.call, "cuCtxSetCurrent", before)
        except CudaError as error:
            raise CudaUnavailable(f"CUDA device {self.device} cannot be used ({error}): see nvidia-smi") from error


def _import_bindings() -> Any:
    try:
        return importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        raise CudaUnavailable(f"no cuda-bindings ({error}): pip install 'livepipe[cuda]'") from error
    except RuntimeError as error:
        raise CudaUnavailable(
            f"no NVIDIA driver that works ({error}): install one, and see that nvidia-smi runs"
        ) from error
