"""Slabs of pixels in GPU memory: one process allocates a slab, others open it once and keep it open.

Two routes, told apart by CudaSlabHandle.route:

- "ipc": cuMemAlloc and a 64-byte cuIpcGetMemHandle. The mappings of others are undefined once the exporter is dead, so
  the exporter is a process that cannot die of anybody's code: workers/allocator.py.
- "vmm": cuMemCreate, exported as a POSIX file descriptor. By NVIDIA's documentation of cuMemRelease the memory lives
  until its last mapping and its last handle, that descriptor included, are gone: what a memfd is in host memory.

The handle of the first route is what torch shares tensors with, but this is not torch's way of using it. For each
tensor sent, torch keeps a count in a file, makes an interprocess event and, where none is cached, opens the handle
anew; its consumers fail when the producer dies; and a tensor of a block that is open already comes without a wait for
its event. Here nothing is opened or made per frame, the slot table owns the slots, and READY is written after the
producer's own wait.

It does not know which slot holds what. A kernel or copy under way when `close` is called is the caller's fault.
"""

import contextlib
import ctypes
import os
from typing import Any

from pipeline.memory.cuda_driver import CudaDriver
from pipeline.memory.cuda_handle import CudaSlabHandle, Route

IPC_HANDLE_BYTES = 64
IPC_GRANULARITY_BYTES = 2 << 20
"""cuMemAlloc may cut smaller allocations out of one block, and a handle opens the whole block (CUDA programming guide,
Interprocess Communication): so a slab gets whole blocks."""

_LEGACY_STREAM = 0


class CudaAllocation:
    """GPU memory that this process made, zeroed, and lends: others open `handle`. Made by `allocate`.

    `pointer` is its address in this process, which cannot open its own handle on the route "ipc".
    """

    def __init__(self, handle: CudaSlabHandle, pointer: int, undo: contextlib.ExitStack) -> None:
        self.handle = handle
        self.pointer = pointer
        self._undo = undo

    def close(self) -> None:
        """Free the memory and close `handle.fd`. On the route "ipc" everybody else must have closed it before; on the
        route "vmm" those who have it open, or hold a copy of the descriptor, keep it. A second call does nothing."""
        self._undo.close()


class CudaSlab:
    """This process's mapping of a slab that another process allocated: `nbytes` bytes at device address `pointer`."""

    def __init__(self, driver: CudaDriver, handle: CudaSlabHandle) -> None:
        """Raises CudaError when the handle cannot be opened: its exporter is dead, or this is its exporter ("ipc"), or
        the device cannot share. Raises ValueError for a slab of another device than the driver's."""
        if handle.device != driver.device:
            raise ValueError(f"the slab is on CUDA device {handle.device}, the driver was opened on {driver.device}")
        self.driver = driver
        self.nbytes = handle.nbytes
        self.device = handle.device
        with contextlib.ExitStack() as undo:
            self.pointer = (_open_ipc if handle.route == "ipc" else _open_vmm)(driver, handle, undo)
            self._undo = undo.pop_all()

    def slot_pointer(self, index: int, stride: int, nbytes: int) -> int:
        """Device address of the `nbytes` bytes of slot `index`. Raises IndexError when they are not in the slab."""
        if index < 0 or index * stride + nbytes > self.nbytes:
            raise IndexError(f"slot {index} of {nbytes} bytes, {stride} apart, is not in a slab of {self.nbytes} bytes")
        return self.pointer + index * stride

    def slot_array(self, index: int, stride: int, shape: tuple[int, int, int]) -> "SlotArray":
        """Slot `index` as an array; `torch.as_tensor` makes a uint8 tensor of `shape`, (height, width, 3), of it
        without a copy. Raises IndexError."""
        height, width, channels = shape
        return SlotArray(self.slot_pointer(index, stride, height * width * channels), shape)

    def close(self) -> None:
        """Unmap. No array, tensor or copy may use the slab any more. A second call does nothing."""
        self._undo.close()


class SlotArray:
    """Contiguous uint8 in GPU memory, as other libraries take it: the CUDA array interface, version 3. It names no
    stream: whoever took the frame from the slot table has complete pixels."""

    def __init__(self, pointer: int, shape: tuple[int, int, int]) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "|u1",
            "data": (pointer, False),
            "version": 3,
            "strides": None,
        }


def allocate(driver: CudaDriver, nbytes: int, route: Route) -> CudaAllocation:
    """`nbytes` bytes or a little more on the driver's device, all zero. Raises CudaError."""
    with contextlib.ExitStack() as undo:
        handle, pointer = (_allocate_ipc if route == "ipc" else _allocate_vmm)(driver, nbytes, undo)
        driver.call("cuMemsetD8", pointer, 0, handle.nbytes)
        driver.call("cuStreamSynchronize", _LEGACY_STREAM)  # A memset may return before it is done.
        return CudaAllocation(handle, pointer, undo.pop_all())


def _allocate_ipc(driver: CudaDriver, nbytes: int, undo: contextlib.ExitStack) -> tuple[CudaSlabHandle, int]:
    size = _round_up(nbytes, IPC_GRANULARITY_BYTES)
    pointer = int(driver.call("cuMemAlloc", size))
    undo.callback(driver.call, "cuMemFree", pointer)
    # The struct is opaque from cuda-bindings 13.4 on and had an attribute before; its address has been there always.
    exported = driver.call("cuIpcGetMemHandle", pointer)
    name = ctypes.string_at(int(exported.getPtr()), IPC_HANDLE_BYTES)
    return CudaSlabHandle("ipc", driver.device, size, ipc_handle=name), pointer


def _open_ipc(driver: CudaDriver, handle: CudaSlabHandle, undo: contextlib.ExitStack) -> int:
    assert handle.ipc_handle is not None
    assert len(handle.ipc_handle) == IPC_HANDLE_BYTES
    exported = driver.api.CUipcMemHandle()
    ctypes.memmove(int(exported.getPtr()), handle.ipc_handle, IPC_HANDLE_BYTES)
    flag = driver.api.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
    pointer = int(driver.call("cuIpcOpenMemHandle", exported, int(flag)))
    undo.callback(driver.call, "cuIpcCloseMemHandle", pointer)
    return pointer


def _allocate_vmm(driver: CudaDriver, nbytes: int, undo: contextlib.ExitStack) -> tuple[CudaSlabHandle, int]:
    api = driver.api
    properties = api.CUmemAllocationProp()
    properties.type = api.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = api.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    properties.location.id = driver.device
    properties.requestedHandleTypes = _posix(driver)
    recommended = api.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_RECOMMENDED
    size = _round_up(nbytes, int(driver.call("cuMemGetAllocationGranularity", properties, recommended)))
    memory = driver.call("cuMemCreate", size, properties, 0)
    try:
        fd = int(driver.call("cuMemExportToShareableHandle", memory, _posix(driver), 0))
        undo.callback(os.close, fd)
        os.set_inheritable(fd, False)
        pointer = _map(driver, memory, size, undo)
    finally:
        driver.call("cuMemRelease", memory)  # The mapping and the descriptor keep what is behind it.
    return CudaSlabHandle("vmm", driver.device, size, fd=fd), pointer


def _open_vmm(driver: CudaDriver, handle: CudaSlabHandle, undo: contextlib.ExitStack) -> int:
    memory = driver.call("cuMemImportFromShareableHandle", handle.fd, _posix(driver))
    try:
        return _map(driver, memory, handle.nbytes, undo)
    finally:
        driver.call("cuMemRelease", memory)


def _map(driver: CudaDriver, memory: Any, nbytes: int, undo: contextlib.ExitStack) -> int:
    """Give all of `memory` an address that the device may read and write."""
    pointer = int(driver.call("cuMemAddressReserve", nbytes, 0, 0, 0))
    undo.callback(driver.call, "cuMemAddressFree", pointer, nbytes)
    driver.call("cuMemMap", pointer, nbytes, 0, memory, 0)
    undo.callback(driver.call, "cuMemUnmap", pointer, nbytes)
    access = driver.api.CUmemAccessDesc()
    access.location.type = driver.api.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    access.location.id = driver.device
    access.flags = driver.api.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    driver.call("cuMemSetAccess", pointer, nbytes, [access], 1)
    return pointer


def _posix(driver: CudaDriver) -> Any:
    return driver.api.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR


def _round_up(nbytes: int, granularity: int) -> int:
    return -(-nbytes // granularity) * granularity
