"""A stand-in for the part of `cuda.bindings.driver` that this project calls, its device memory being host memory.

It proves the order of the calls and their arguments: that pointers are mapped and in bounds, that nothing is freed
twice or used afterwards, that everything is given back, that no copy is taken for done before it was waited for. It
does not prove that a GPU or a real driver does the same: for that the tests marked `gpu` run against the real one.

What is unlike a plain mock: memory is shared between processes as the driver shares it. A CUmemGenericAllocationHandle
is a memfd, so its POSIX descriptor really outlives the exporter; a CUipcMemHandle holds /proc/PID/fd/N, so it cannot be
opened once the exporter is dead. Device addresses are no host addresses. Copies and memsets are carried out when
somebody waits for them and not before. A call that a real driver would answer with a crash raises EmulationError.

A process gets it in place of cuda-bindings by `emulate`, its children by the PYTHONPATH that is set there.
"""

import collections
import ctypes
import functools
import mmap
import os
import sys
import threading
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
GRANULARITY = 2 << 20
FIRST_ADDRESS = 1 << 44
MEMFD_NAME = "emulated-cuda"


class EmulationError(AssertionError):
    """What was asked would be undefined behaviour on a GPU."""


def emulate(monkeypatch: pytest.MonkeyPatch, folder: Path, *, devices: int = 1, free_bytes: int = 1 << 30) -> None:
    """Put the emulation in the place of cuda-bindings, here and in the processes started from here."""
    package = folder / "cuda" / "bindings"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "driver.py").write_text(
        "import sys\nfrom tests.memory import emulated_driver\nsys.modules[__name__] = emulated_driver\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    monkeypatch.setenv("EMULATED_CUDA_DEVICES", str(devices))
    monkeypatch.setenv("EMULATED_CUDA_BYTES", str(free_bytes))
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", sys.modules[__name__])
    reset()


# Enums, with the values of cuda.h


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_INITIALIZED = 3
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_UNKNOWN = 999


class CUmemAllocationType(IntEnum):
    CU_MEM_ALLOCATION_TYPE_INVALID = 0
    CU_MEM_ALLOCATION_TYPE_PINNED = 1


class CUmemLocationType(IntEnum):
    CU_MEM_LOCATION_TYPE_INVALID = 0
    CU_MEM_LOCATION_TYPE_DEVICE = 1


class CUmemAllocationHandleType(IntEnum):
    CU_MEM_HANDLE_TYPE_NONE = 0
    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR = 1


class CUmemAllocationGranularity_flags(IntEnum):
    CU_MEM_ALLOC_GRANULARITY_MINIMUM = 0
    CU_MEM_ALLOC_GRANULARITY_RECOMMENDED = 1


class CUmemAccess_flags(IntEnum):
    CU_MEM_ACCESS_FLAGS_PROT_NONE = 0
    CU_MEM_ACCESS_FLAGS_PROT_READWRITE = 3


class CUipcMem_flags(IntEnum):
    CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS = 1


class CUstream_flags(IntEnum):
    CU_STREAM_DEFAULT = 0
    CU_STREAM_NON_BLOCKING = 1


class CUevent_flags(IntEnum):
    CU_EVENT_DEFAULT = 0
    CU_EVENT_BLOCKING_SYNC = 1
    CU_EVENT_DISABLE_TIMING = 2
    CU_EVENT_INTERPROCESS = 4


# Structs and handles


class _Handle:
    """A number in a wrapper that answers to int() and, like the real ones, to no arithmetic."""

    def __init__(self, value: int = 0) -> None:
        self._value = value

    def __int__(self) -> int:
        return self._value


class CUdevice(_Handle): ...


class CUcontext(_Handle): ...


class CUdeviceptr(_Handle): ...


class CUstream(_Handle): ...


class CUevent(_Handle): ...


class CUmemGenericAllocationHandle(_Handle): ...


class _Location:
    def __init__(self) -> None:
        self.type = CUmemLocationType.CU_MEM_LOCATION_TYPE_INVALID
        self.id = 0


class CUmemAllocationProp:
    def __init__(self) -> None:
        self.type = CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_INVALID
        self.location = _Location()
        self.requestedHandleTypes = CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_NONE


class CUmemAccessDesc:
    def __init__(self) -> None:
        self.location = _Location()
        self.flags = CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_NONE


class _IpcHandle:
    """64 opaque bytes, reached by their address alone, as from cuda-bindings 13.4 on."""

    def __init__(self) -> None:
        self._bytes = ctypes.create_string_buffer(64)

    def getPtr(self) -> int:
        return ctypes.addressof(self._bytes)


class CUipcMemHandle(_IpcHandle): ...


class CUipcEventHandle(_IpcHandle): ...


# What the device holds


class _Memory:
    """Physical memory: a memfd of this process's own."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.nbytes = os.fstat(fd).st_size
        self.view = memoryview(mmap.mmap(fd, self.nbytes, mmap.MAP_SHARED))

    @classmethod
    def new(cls, nbytes: int) -> "_Memory":
        fd = os.memfd_create(MEMFD_NAME, os.MFD_CLOEXEC)
        os.ftruncate(fd, nbytes)
        memory = cls(fd)
        memory.view[:] = b"\xee" * nbytes  # A driver promises no zeros.
        return memory

    def close(self) -> None:
        self.view.release()
        os.close(self.fd)


class _Range:
    """A stretch of device addresses, with or without memory behind it."""

    def __init__(self, address: int, nbytes: int, memory: _Memory | None = None, kind: str = "reserved") -> None:
        self.address = address
        self.nbytes = nbytes
        self.memory = memory
        self.kind = kind
        self.accessible = kind != "reserved"


class _Stream:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.pending: collections.deque[Callable[[], None]] = collections.deque()

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        while self.pending and not until():
            self.pending.popleft()()


class _Event:
    def __init__(self, flags: int, foreign: bool = False) -> None:
        self.flags = flags
        self.foreign = foreign
        self.stream: _Stream | None = None
        self.recorded = self.reached = 0


class State:
    """All that the emulation knows in this process. `calls` lists what was called, in order; `failing` maps a call's
    name to the status that it shall return."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.calls: list[str] = []
        self.failing: dict[str, CUresult] = {}
        self.retained = 0
        self.ranges: dict[int, _Range] = {}
        self.generic: dict[int, _Memory] = {}
        self.host: dict[int, mmap.mmap] = {}
        self.streams: dict[int, _Stream] = {0: _Stream(0)}
        self.events: dict[int, _Event] = {}
        self.current = threading.local()
        self.next_address = FIRST_ADDRESS
        self.next_number = 1

    def number(self) -> int:
        self.next_number += 1
        return self.next_number

    def place(self, nbytes: int) -> int:
        """An address of its own with a gap behind it, so that an overrun hits nothing."""
        address = self.next_address
        self.next_address += -(-nbytes // GRANULARITY) * GRANULARITY + GRANULARITY
        return address


state = State()


def reset() -> None:
    """Forget everything: a process that starts."""
    global state
    state = State()


def left() -> dict[str, int]:
    """What was not given back, by kind."""
    kinds = collections.Counter(range_.kind for range_ in state.ranges.values())
    things = {"contexts": state.retained, "memory handles": len(state.generic), "host buffers": len(state.host)}
    things |= {"streams": len(state.streams) - 1, "events": len(state.events), **kinds}
    return {kind: count for kind, count in things.items() if count}


# How a call is made


class _Failed(Exception):
    def __init__(self, status: CUresult) -> None:
        super().__init__(status.name)
        self.status = status


def _call(function: Callable[..., Any], needs_context: bool = True) -> Callable[..., tuple[Any, ...]]:
    """A driver call: a status and what `function` returns, and the checks that all calls share."""

    @functools.wraps(function)
    def call(*arguments: Any) -> tuple[Any, ...]:
        name = function.__name__
        state.calls.append(name)
        if name in state.failing:
            return state.failing[name], None
        if name != "cuInit" and state.pid != os.getpid():  # Not initialised, or forked since.
            return CUresult.CUDA_ERROR_NOT_INITIALIZED, None
        if needs_context and not getattr(state.current, "context", 0):
            return CUresult.CUDA_ERROR_INVALID_CONTEXT, None
        try:
            result = function(*arguments)
        except _Failed as failure:
            return failure.status, None
        return (CUresult.CUDA_SUCCESS, *(result if isinstance(result, tuple) else () if result is None else (result,)))

    return call


_contextless = functools.partial(_call, needs_context=False)


def _reject(condition: bool, status: CUresult = CUresult.CUDA_ERROR_INVALID_VALUE) -> None:
    if condition:
        raise _Failed(status)


def _at(address: Any, kind: str) -> _Range:
    """The range of this kind that begins at `address`."""
    found = state.ranges.get(int(address))
    if found is None or found.kind != kind:
        raise EmulationError(f"{int(address):#x} is not the start of anything {kind}: freed before, or never made")
    return found


def _device(address: Any, nbytes: int) -> memoryview:
    """The device memory at `address`."""
    first = int(address)
    for range_ in state.ranges.values():
        if range_.address <= first < range_.address + range_.nbytes:
            if range_.memory is None or not range_.accessible:
                raise EmulationError(f"{first:#x} is reserved but not mapped, or mapped without access")
            if first + nbytes > range_.address + range_.nbytes:
                raise EmulationError(f"{nbytes} bytes at {first:#x} run out of their allocation")
            return range_.memory.view[first - range_.address : first - range_.address + nbytes]
    raise EmulationError(f"{first:#x} is not in device memory: freed before, never mapped, or a host address")


def _host(address: Any, nbytes: int, pinned: bool) -> Any:
    """The host memory at `address`."""
    first = int(address)
    if first >= FIRST_ADDRESS and first < state.next_address:
        raise EmulationError(f"{first:#x} is a device address; a host address was wanted")
    inside = [base for base, buffer in state.host.items() if base <= first and first + nbytes <= base + len(buffer)]
    if pinned and not inside:
        raise EmulationError(f"{nbytes} bytes at {first:#x} are not in a pinned buffer: the copy would not be async")
    return (ctypes.c_uint8 * nbytes).from_address(first)


def _stream(handle: Any) -> _Stream:
    stream = state.streams.get(int(handle))
    if stream is None:
        raise EmulationError(f"stream {int(handle)} does not exist: destroyed before, or never made")
    return stream


def _event(handle: Any) -> _Event:
    event = state.events.get(int(handle))
    if event is None:
        raise EmulationError(f"event {int(handle)} does not exist: destroyed before, or never made")
    return event


def _copy(target: Callable[[], Any], source: Callable[[], Any]) -> Callable[[], None]:
    """A copy to be made later. Both ends are looked at now, and again when it is made."""
    target(), source()

    def copy() -> None:
        memoryview(target()).cast("B")[:] = memoryview(source()).cast("B")

    return copy


# Initialisation, devices, the primary context


@_contextless
def cuInit(flags: int) -> None:
    _reject(flags != 0)
    _reject(_devices() == 0, CUresult.CUDA_ERROR_NO_DEVICE)
    state.pid = os.getpid()


@_contextless
def cuDriverGetVersion() -> int:
    return 13000


@_contextless
def cuDeviceGetCount() -> int:
    return _devices()


@_contextless
def cuDeviceGet(ordinal: int) -> CUdevice:
    _reject(not 0 <= ordinal < _devices(), CUresult.CUDA_ERROR_INVALID_DEVICE)
    return CUdevice(ordinal)


@_contextless
def cuDeviceGetName(length: int, device: CUdevice) -> bytes:
    return b"emulated"[:length]


@_contextless
def cuDevicePrimaryCtxRetain(device: CUdevice) -> CUcontext:
    state.retained += 1
    return CUcontext(1000 + int(device))


@_contextless
def cuDevicePrimaryCtxRelease(device: CUdevice) -> None:
    if not state.retained:
        raise EmulationError("the primary context is released more often than it was retained")
    state.retained -= 1
    if not state.retained and state.ranges:
        raise EmulationError(f"the primary context went before what was made in it: {left()}")


@_contextless
def cuCtxGetCurrent() -> CUcontext:
    return CUcontext(getattr(state.current, "context", 0))


@_contextless
def cuCtxSetCurrent(context: CUcontext) -> None:
    state.current.context = int(context)


@_call
def cuCtxSynchronize() -> None:
    for stream in state.streams.values():
        stream.run()


@_call
def cuMemGetInfo() -> tuple[int, int]:
    total = _total_bytes()
    return total - sum(range_.nbytes for range_ in state.ranges.values() if range_.memory is not None), total


def _devices() -> int:
    return int(os.environ.get("EMULATED_CUDA_DEVICES", "1"))


def _total_bytes() -> int:
    return int(os.environ.get("EMULATED_CUDA_BYTES", str(1 << 30)))


# cuMemAlloc and its IPC handles


@_call
def cuMemAlloc(nbytes: int) -> CUdeviceptr:
    _reject(nbytes == 0)
    _reject(nbytes > _total_bytes(), CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    address = state.place(nbytes)
    state.ranges[address] = _Range(address, nbytes, _Memory.new(nbytes), "allocated")
    return CUdeviceptr(address)


@_call
def cuMemFree(pointer: Any) -> None:
    range_ = _at(pointer, "allocated")
    del state.ranges[range_.address]
    assert range_.memory is not None
    range_.memory.close()


@_call
def cuIpcGetMemHandle(pointer: Any) -> CUipcMemHandle:
    memory = _at(pointer, "allocated").memory
    assert memory is not None
    handle = CUipcMemHandle()
    handle._bytes.raw = f"/proc/{os.getpid()}/fd/{memory.fd}".encode().ljust(64, b"\0")
    return handle


@_call
def cuIpcOpenMemHandle(handle: CUipcMemHandle, flags: int) -> CUdeviceptr:
    _reject(flags != CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
    path = handle._bytes.raw.rstrip(b"\0").decode()
    _reject(path.startswith(f"/proc/{os.getpid()}/"), CUresult.CUDA_ERROR_INVALID_CONTEXT)
    try:
        _reject(MEMFD_NAME not in os.readlink(path), CUresult.CUDA_ERROR_INVALID_HANDLE)
        memory = _Memory(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise _Failed(CUresult.CUDA_ERROR_INVALID_HANDLE) from error
    address = state.place(memory.nbytes)
    state.ranges[address] = _Range(address, memory.nbytes, memory, "opened")
    return CUdeviceptr(address)


@_call
def cuIpcCloseMemHandle(pointer: Any) -> None:
    range_ = _at(pointer, "opened")
    del state.ranges[range_.address]
    assert range_.memory is not None
    range_.memory.close()


# Virtual memory management


@_call
def cuMemGetAllocationGranularity(properties: CUmemAllocationProp, option: CUmemAllocationGranularity_flags) -> int:
    _check(properties)
    assert isinstance(option, CUmemAllocationGranularity_flags)
    return GRANULARITY


@_call
def cuMemCreate(nbytes: int, properties: CUmemAllocationProp, flags: int) -> CUmemGenericAllocationHandle:
    _check(properties)
    _reject(nbytes == 0 or nbytes % GRANULARITY != 0 or flags != 0)
    _reject(nbytes > _total_bytes(), CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    return _new_generic(_Memory.new(nbytes))


@_call
def cuMemExportToShareableHandle(handle: Any, kind: CUmemAllocationHandleType, flags: int) -> int:
    _reject(kind is not CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR or flags != 0)
    fd = os.dup(_generic(handle).fd)
    os.set_inheritable(fd, True)  # The driver promises nothing better.
    return fd


@_call
def cuMemImportFromShareableHandle(fd: int, kind: CUmemAllocationHandleType) -> CUmemGenericAllocationHandle:
    _reject(kind is not CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
    try:
        _reject(MEMFD_NAME not in os.readlink(f"/proc/self/fd/{fd}"))
    except OSError as error:
        raise _Failed(CUresult.CUDA_ERROR_INVALID_VALUE) from error
    return _new_generic(_Memory(os.dup(fd)))


@_call
def cuMemRelease(handle: Any) -> None:
    memory = _generic(handle)
    del state.generic[int(handle)]
    if not any(range_.memory is memory for range_ in state.ranges.values()):
        memory.close()


@_call
def cuMemAddressReserve(nbytes: int, alignment: int, address: int, flags: int) -> CUdeviceptr:
    _reject(nbytes == 0 or nbytes % GRANULARITY != 0 or alignment != 0 or address != 0 or flags != 0)
    place = state.place(nbytes)
    state.ranges[place] = _Range(place, nbytes)
    return CUdeviceptr(place)


@_call
def cuMemAddressFree(pointer: Any, nbytes: int) -> None:
    range_ = _at(pointer, "reserved")
    _reject(nbytes != range_.nbytes)
    del state.ranges[range_.address]


@_call
def cuMemMap(pointer: Any, nbytes: int, offset: int, handle: Any, flags: int) -> None:
    range_, memory = _at(pointer, "reserved"), _generic(handle)
    _reject(nbytes != range_.nbytes or offset != 0 or flags != 0 or nbytes > memory.nbytes)
    range_.kind, range_.memory = "mapped", memory


@_call
def cuMemUnmap(pointer: Any, nbytes: int) -> None:
    range_ = _at(pointer, "mapped")
    _reject(nbytes != range_.nbytes)
    memory, range_.memory = range_.memory, None
    range_.kind, range_.accessible = "reserved", False
    others = [*state.generic.values(), *(other.memory for other in state.ranges.values())]
    if memory is not None and not any(other is memory for other in others):
        memory.close()


@_call
def cuMemSetAccess(pointer: Any, nbytes: int, descriptions: list[CUmemAccessDesc], count: int) -> None:
    range_ = _at(pointer, "mapped")
    _reject(nbytes != range_.nbytes or count != len(descriptions) != 1)
    (access,) = descriptions
    _reject(access.location.type is not CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE)
    range_.accessible = access.flags is CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE


def _check(properties: CUmemAllocationProp) -> None:
    _reject(properties.type is not CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED)
    _reject(properties.location.type is not CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE)
    _reject(not 0 <= properties.location.id < _devices(), CUresult.CUDA_ERROR_INVALID_DEVICE)
    posix = CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
    _reject(properties.requestedHandleTypes is not posix)


def _new_generic(memory: _Memory) -> CUmemGenericAllocationHandle:
    number = state.number()
    state.generic[number] = memory
    return CUmemGenericAllocationHandle(number)


def _generic(handle: Any) -> _Memory:
    memory = state.generic.get(int(handle))
    if memory is None:
        raise EmulationError(f"memory handle {int(handle)} does not exist: released before, or never made")
    return memory


# Host memory, streams, events


@_call
def cuMemHostAlloc(nbytes: int, flags: int) -> int:
    buffer = mmap.mmap(-1, nbytes)
    address = ctypes.addressof(ctypes.c_uint8.from_buffer(buffer))
    state.host[address] = buffer
    return address


@_call
def cuMemFreeHost(address: int) -> None:
    if state.host.pop(int(address), None) is None:
        raise EmulationError(f"{int(address):#x} is no pinned buffer: freed before, or never made")


@_call
def cuStreamCreate(flags: int) -> CUstream:
    number = state.number()
    state.streams[number] = _Stream(flags)
    return CUstream(number)


@_call
def cuStreamDestroy(handle: Any) -> None:
    if _stream(handle).pending:
        raise EmulationError("a stream is destroyed while work is under way on it")
    del state.streams[int(handle)]


@_call
def cuStreamSynchronize(handle: Any) -> None:
    _stream(handle).run()


@_call
def cuEventCreate(flags: int) -> CUevent:
    timed_interprocess = (
        flags & CUevent_flags.CU_EVENT_INTERPROCESS and not flags & CUevent_flags.CU_EVENT_DISABLE_TIMING
    )
    _reject(bool(timed_interprocess))
    return _new_event(_Event(flags))


@_call
def cuEventDestroy(handle: Any) -> None:
    _event(handle)
    del state.events[int(handle)]


@_call
def cuEventRecord(handle: Any, stream_handle: Any) -> None:
    """An interprocess event is reached at once: there is no waiting for another process's emulation."""
    event, stream = _event(handle), _stream(stream_handle)
    event.stream = stream
    event.recorded += 1
    mark = event.recorded

    def reach() -> None:
        event.reached = mark

    stream.pending.append(reach)
    if event.flags & CUevent_flags.CU_EVENT_INTERPROCESS:
        stream.run()


@_call
def cuEventSynchronize(handle: Any) -> None:
    _reach(_event(handle))


@_call
def cuStreamWaitEvent(stream_handle: Any, handle: Any, flags: int) -> None:
    event = _event(handle)
    _stream(stream_handle).pending.append(lambda: _reach(event))


@_call
def cuIpcGetEventHandle(handle: Any) -> CUipcEventHandle:
    _reject(not _event(handle).flags & CUevent_flags.CU_EVENT_INTERPROCESS, CUresult.CUDA_ERROR_INVALID_HANDLE)
    return CUipcEventHandle()


@_call
def cuIpcOpenEventHandle(handle: CUipcEventHandle) -> CUevent:
    assert isinstance(handle, CUipcEventHandle)
    return _new_event(_Event(0, foreign=True))


def _new_event(event: _Event) -> CUevent:
    number = state.number()
    state.events[number] = event
    return CUevent(number)


def _reach(event: _Event) -> None:
    if event.stream is not None and not event.foreign:
        event.stream.run(until=lambda: event.reached >= event.recorded)


# Copies


@_call
def cuMemcpyHtoDAsync(target: Any, source: Any, nbytes: int, stream: Any) -> None:
    copy = _copy(lambda: _device(target, nbytes), lambda: _host(source, nbytes, pinned=True))
    _stream(stream).pending.append(copy)


@_call
def cuMemcpyDtoHAsync(target: Any, source: Any, nbytes: int, stream: Any) -> None:
    copy = _copy(lambda: _host(target, nbytes, pinned=True), lambda: _device(source, nbytes))
    _stream(stream).pending.append(copy)


@_call
def cuMemcpyDtoDAsync(target: Any, source: Any, nbytes: int, stream: Any) -> None:
    copy = _copy(lambda: _device(target, nbytes), lambda: _device(source, nbytes))
    _stream(stream).pending.append(copy)


@_call
def cuMemcpyHtoD(target: Any, source: Any, nbytes: int) -> None:
    """On the default stream, behind what is under way there; never before what runs on others."""
    state.streams[0].run()
    _copy(lambda: _device(target, nbytes), lambda: _host(source, nbytes, pinned=False))()


@_call
def cuMemcpyDtoH(target: Any, source: Any, nbytes: int) -> None:
    state.streams[0].run()
    _copy(lambda: _host(target, nbytes, pinned=False), lambda: _device(source, nbytes))()


@_call
def cuMemsetD8Async(target: Any, value: int, nbytes: int, stream: Any) -> None:
    _device(target, nbytes)

    def fill() -> None:
        _device(target, nbytes)[:] = bytes([value]) * nbytes

    _stream(stream).pending.append(fill)


@_call
def cuMemsetD8(target: Any, value: int, nbytes: int) -> None:
    cuMemsetD8Async.__wrapped__(target, value, nbytes, 0)
