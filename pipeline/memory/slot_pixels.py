"""The pixels of a link's slots as numpy arrays, wherever they lie: for the stages that have no torch.

In host memory an array is the slot itself. A slot in GPU memory is reached through one pinned buffer and the copy
engines.
"""

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.boot import LinkBoot
from pipeline.memory.cuda_driver import CudaDriver
from pipeline.memory.cuda_slab import CudaSlab
from pipeline.memory.slab import page_aligned
from pipeline.memory.slot_table import Slot, SlotTable
from pipeline.memory.staging import Downloader, Uploader

Pixels = NDArray[np.uint8]
"""A picture: uint8 RGB, shape (height, width, 3), contiguous."""


class Target(Protocol):
    """Where a producer draws: `array`, of the size that the slot was acquired with, then `complete`, and the frame may
    be published."""

    def array(self, slot: Slot) -> Pixels: ...
    def complete(self, slot: Slot) -> None: ...
    def close(self) -> None: ...


class Source(Protocol):
    """What a consumer looks at: the picture in a slot, good until the next call or until the slot is given back."""

    def picture(self, slot: Slot) -> Pixels: ...
    def close(self) -> None: ...


def open_target(boot: LinkBoot, table: SlotTable) -> Target:
    """Raises CudaUnavailable and CudaError for slots in GPU memory that cannot be reached."""
    return _HostPixels(boot, table) if boot.cuda is None else _Upload(boot)


def open_source(boot: LinkBoot, table: SlotTable) -> Source:
    """Raises CudaUnavailable and CudaError for slots in GPU memory that cannot be reached."""
    return _HostPixels(boot, table) if boot.cuda is None else _Download(boot)


class _HostPixels:
    def __init__(self, boot: LinkBoot, table: SlotTable) -> None:
        largest = boot.format.shape
        self._whole = [np.frombuffer(slot.data, np.uint8) for slot in table.slots]
        self._views = [whole.reshape(largest) for whole in self._whole]

    def array(self, slot: Slot) -> Pixels:
        view, shape = self._views[slot.index], (slot.height, slot.width, 3)
        if view.shape != shape:
            view = self._views[slot.index] = _cut(self._whole[slot.index], shape)
        return view

    picture = array

    def complete(self, slot: Slot) -> None:
        """What was drawn is there already."""

    def close(self) -> None:
        self._views.clear()
        self._whole.clear()


class _Upload:
    def __init__(self, boot: LinkBoot) -> None:
        self._slab = _open(boot)
        self._uploader = Uploader(self._slab, boot.format.shape, page_aligned(boot.format.nbytes))

    def array(self, slot: Slot) -> Pixels:
        return _cut(self._uploader.pixels.reshape(-1), (slot.height, slot.width, 3))

    def complete(self, slot: Slot) -> None:
        self._uploader.upload(slot.index, slot.height * slot.width * 3)

    def close(self) -> None:
        self._uploader.close()
        _close(self._slab)


class _Download:
    def __init__(self, boot: LinkBoot) -> None:
        self._slab = _open(boot)
        self._downloader = Downloader(self._slab, boot.format.shape, page_aligned(boot.format.nbytes))

    def picture(self, slot: Slot) -> Pixels:
        shape = (slot.height, slot.width, 3)
        return _cut(self._downloader.download(slot.index, slot.height * slot.width * 3).reshape(-1), shape)

    def close(self) -> None:
        self._downloader.close()
        _close(self._slab)


def _cut(whole: Pixels, shape: tuple[int, int, int]) -> Pixels:
    """The picture of `shape` at the start of a slot, of which `whole` is all bytes."""
    return whole[: math.prod(shape)].reshape(shape)


def _open(boot: LinkBoot) -> CudaSlab:
    assert boot.cuda is not None
    return CudaSlab(CudaDriver(boot.cuda.device), boot.cuda)


def _close(slab: CudaSlab) -> None:
    slab.close()
    slab.driver.close()
