"""The way between host pixels and slots in GPU memory for the stages that have no torch: decode uploads, egress
downloads. Copy engines only: no kernel, nothing allocated per frame, and a wait for the one copy, never for the device.
"""

import contextlib
import ctypes
import math

import numpy as np

from pipeline.memory.cuda_slab import CudaSlab


class Uploader:
    """Copies frames into the slots of a slab. One thread, the one that made the slab's driver.

    Put the frame into `pixels`, uint8 of `shape` (height, width, 3), and call `upload`.
    """

    def __init__(self, slab: CudaSlab, shape: tuple[int, int, int], stride: int) -> None:
        """`stride` is the distance of two slots in bytes. Raises CudaError."""
        self._lane = _Lane(slab, shape, stride)
        self.pixels = self._lane.pixels

    def upload(self, index: int, nbytes: int | None = None) -> None:
        """Copy `pixels`, or the first `nbytes` of its bytes, into slot `index`: complete when this returns, so that
        READY may be written. Raises CudaError, and IndexError for a slot that is not in the slab."""
        lane = self._lane
        lane.copy("cuMemcpyHtoDAsync", lane.slot(index), lane.address, nbytes)

    def close(self) -> None:
        """Free everything; `pixels` must not be touched any more. A second call does nothing."""
        self._lane.close()


class Downloader:
    """Copies frames out of the slots of a slab. One thread, the one that made the slab's driver."""

    def __init__(self, slab: CudaSlab, shape: tuple[int, int, int], stride: int) -> None:
        """`stride` is the distance of two slots in bytes. Raises CudaError."""
        self._lane = _Lane(slab, shape, stride)
        self.pixels = self._lane.pixels

    def download(self, index: int, nbytes: int | None = None) -> np.ndarray:
        """`pixels`, uint8 of (height, width, 3), with what slot `index` holds, or with the first `nbytes` bytes of it;
        the next call overwrites it. The slot may be freed when this returns. Raises CudaError, and IndexError for a
        slot that is not in the slab."""
        lane = self._lane
        lane.copy("cuMemcpyDtoHAsync", lane.address, lane.slot(index), nbytes)
        return self.pixels

    def close(self) -> None:
        """Free everything; `pixels` must not be touched any more. A second call does nothing."""
        self._lane.close()


class _Lane:
    """One pinned buffer, one stream and one event: what a copy needs in either direction.

    The stream waits for no other (CU_STREAM_NON_BLOCKING); the event lets the thread sleep until the copy is done
    (CU_EVENT_BLOCKING_SYNC) where the default would spin on a core.
    """

    def __init__(self, slab: CudaSlab, shape: tuple[int, int, int], stride: int) -> None:
        self._slab = slab
        self._call = slab.driver.call
        self._stride = stride
        self._nbytes = math.prod(shape)
        with contextlib.ExitStack() as undo:
            self.address = int(self._call("cuMemHostAlloc", self._nbytes, 0))
            undo.callback(self._call, "cuMemFreeHost", self.address)
            streams, events = slab.driver.api.CUstream_flags, slab.driver.api.CUevent_flags
            self._stream = self._call("cuStreamCreate", int(streams.CU_STREAM_NON_BLOCKING))
            undo.callback(self._call, "cuStreamDestroy", self._stream)
            flags = int(events.CU_EVENT_BLOCKING_SYNC) | int(events.CU_EVENT_DISABLE_TIMING)
            self._event = self._call("cuEventCreate", flags)
            undo.callback(self._call, "cuEventDestroy", self._event)
            self._undo = undo.pop_all()
        buffer = (ctypes.c_uint8 * self._nbytes).from_address(self.address)
        self.pixels: np.ndarray = np.ctypeslib.as_array(buffer).reshape(shape)

    def slot(self, index: int) -> int:
        return self._slab.slot_pointer(index, self._stride, self._nbytes)

    def copy(self, function: str, target: int, source: int, nbytes: int | None) -> None:
        self._call(function, target, source, self._nbytes if nbytes is None else nbytes, self._stream)
        self._call("cuEventRecord", self._event, self._stream)
        self._call("cuEventSynchronize", self._event)

    def close(self) -> None:
        self._undo.close()
