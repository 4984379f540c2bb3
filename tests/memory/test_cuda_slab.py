"""Slabs in GPU memory. Against the emulated driver these tests prove the order of the calls and their arguments; that
the same works on a GPU is for the runs marked `gpu` to show."""

import os

import msgspec
import pytest

from pipeline.memory.allocator import Allocator
from pipeline.memory.cuda_driver import CudaDriver, CudaError, CudaUnavailable
from pipeline.memory.cuda_handle import CudaSlabHandle, slab_bytes
from pipeline.memory.cuda_probe import probe, probe_survival
from pipeline.memory.cuda_slab import CudaSlab, SlotArray, allocate
from pipeline.memory.slab import PAGE_BYTES
from tests.memory import emulated_driver

GRANULARITY = 2 << 20
SHAPE = (16, 24, 3)
SLOTS = 3


@pytest.fixture
def allocation(driver, route):
    allocation = allocate(driver, slab_bytes(SLOTS, 16 * 24 * 3), route)
    yield allocation
    allocation.close()


@pytest.fixture
def slab(open_slab):
    return open_slab(slab_bytes(SLOTS, 16 * 24 * 3))


def open_fds():
    return len(os.listdir("/proc/self/fd"))


# Allocating


def test_slots_lie_whole_pages_apart():
    assert slab_bytes(3, 1) == 3 * PAGE_BYTES
    assert slab_bytes(3, PAGE_BYTES + 1) == 6 * PAGE_BYTES


def test_a_slab_is_rounded_up_to_what_the_driver_shares(allocation, route):
    assert allocation.handle.nbytes == GRANULARITY
    assert allocation.handle.route == route
    assert allocation.handle.device == 0


def test_a_new_slab_is_all_zeros(allocation, read):
    assert read(allocation.pointer, GRANULARITY) == bytes(GRANULARITY)


def test_each_route_has_its_own_kind_of_name(allocation, route):
    handle = allocation.handle
    if route == "ipc":
        assert (len(handle.ipc_handle), handle.fd, handle.fds) == (64, None, [])
    else:
        assert (handle.ipc_handle, handle.fds) == (None, [handle.fd])
        assert not os.get_inheritable(handle.fd)


def test_a_handle_travels_as_a_message(allocation):
    data = msgspec.msgpack.encode(allocation.handle)
    assert msgspec.msgpack.decode(data, type=CudaSlabHandle) == allocation.handle


def test_closing_an_allocation_twice_frees_it_once(driver, route):
    allocate(driver, 1, route).close()  # What a driver opens at the first allocation it may keep.
    before = open_fds()
    allocation = allocate(driver, 1, route)
    allocation.close()
    allocation.close()
    assert open_fds() == before


# Sharing


def test_what_one_process_writes_another_reads(driver, route):
    probe(0, route)


def test_memory_of_the_vmm_route_outlives_its_exporter(driver):
    probe_survival(0)


def test_a_probe_that_fails_says_what_failed(emulated, monkeypatch):
    monkeypatch.setenv("EMULATED_CUDA_DEVICES", "0")
    with pytest.raises(CudaUnavailable, match="no NVIDIA driver that works"):
        probe(0, "vmm")


def test_the_handle_of_a_dead_exporter_cannot_be_opened(emulated):
    with CudaDriver(0) as driver:
        nobody = CudaSlabHandle("ipc", 0, GRANULARITY, ipc_handle=b"/proc/0/fd/3".ljust(64, b"\0"))
        with pytest.raises(CudaError, match="cuIpcOpenMemHandle: CUDA_ERROR_INVALID_HANDLE"):
            CudaSlab(driver, nobody)


def test_an_exporter_cannot_open_its_own_handle_on_the_ipc_route(emulated):
    with CudaDriver(0) as driver:
        allocation = allocate(driver, 1, "ipc")
        with pytest.raises(CudaError, match="cuIpcOpenMemHandle: CUDA_ERROR_INVALID_CONTEXT"):
            CudaSlab(driver, allocation.handle)
        allocation.close()


def test_two_mappings_on_the_vmm_route_are_one_memory(driver, read, write):
    allocation = allocate(driver, 1, "vmm")
    slab = CudaSlab(driver, allocation.handle)
    write(slab.pointer + 5, b"livepipe")
    assert slab.pointer != allocation.pointer
    assert read(allocation.pointer + 5, 8) == b"livepipe"
    slab.close()
    allocation.close()


def test_a_mapping_on_the_vmm_route_outlives_the_allocation(driver, read, write):
    allocation = allocate(driver, 1, "vmm")
    slab = CudaSlab(driver, allocation.handle)
    write(allocation.pointer, b"livepipe")
    allocation.close()
    assert read(slab.pointer, 8) == b"livepipe"
    slab.close()


def test_a_slab_of_another_device_is_refused(driver):
    with pytest.raises(ValueError, match="on CUDA device 3, the driver was opened on 0"):
        CudaSlab(driver, CudaSlabHandle("vmm", 3, GRANULARITY, fd=0))


# Closing, and failing half-way


def test_a_slab_is_opened_once_and_closed_once(emulated, route):
    with CudaDriver(0) as driver, Allocator(0, route, {"slab": 1}) as allocator:
        slab = CudaSlab(driver, allocator.handles["slab"])
        slab.close()
        slab.close()
    opened, closed = {
        "ipc": ("cuIpcOpenMemHandle", "cuIpcCloseMemHandle"),
        "vmm": ("cuMemMap", "cuMemUnmap"),
    }[route]
    assert emulated.calls.count(opened) == emulated.calls.count(closed) == 1


@pytest.mark.parametrize(
    ("route", "call"),
    [
        ("ipc", "cuMemAlloc"),
        ("ipc", "cuIpcGetMemHandle"),
        ("ipc", "cuMemsetD8"),
        ("ipc", "cuStreamSynchronize"),
        ("vmm", "cuMemGetAllocationGranularity"),
        ("vmm", "cuMemCreate"),
        ("vmm", "cuMemExportToShareableHandle"),
        ("vmm", "cuMemAddressReserve"),
        ("vmm", "cuMemMap"),
        ("vmm", "cuMemSetAccess"),
        ("vmm", "cuMemsetD8"),
        ("vmm", "cuStreamSynchronize"),
    ],
)
def test_an_allocation_that_fails_half_way_leaves_nothing_behind(emulated, route, call):
    before = open_fds()
    with CudaDriver(0) as driver:
        emulated.failing[call] = emulated_driver.CUresult.CUDA_ERROR_UNKNOWN
        with pytest.raises(CudaError, match=f"{call}: CUDA_ERROR_UNKNOWN"):
            allocate(driver, 1, route)
    assert emulated_driver.left() == {}
    assert open_fds() == before


@pytest.mark.parametrize(
    "call", ["cuMemImportFromShareableHandle", "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess"]
)
def test_an_opening_that_fails_half_way_leaves_nothing_behind(emulated, call):
    with CudaDriver(0) as driver:
        allocation = allocate(driver, 1, "vmm")
        before = emulated_driver.left()
        emulated.failing[call] = emulated_driver.CUresult.CUDA_ERROR_UNKNOWN
        with pytest.raises(CudaError, match=call):
            CudaSlab(driver, allocation.handle)
        assert emulated_driver.left() == before
        allocation.close()


# Slots


def test_every_slot_is_an_array_of_its_own(slab):
    arrays = [slab.slot_array(i, PAGE_BYTES, SHAPE).__cuda_array_interface__ for i in range(SLOTS)]
    assert [array["data"] for array in arrays] == [(slab.pointer + i * PAGE_BYTES, False) for i in range(SLOTS)]
    assert arrays[0] | {"data": None} == {
        "shape": SHAPE,
        "typestr": "|u1",
        "data": None,
        "version": 3,
        "strides": None,
    }


def test_other_libraries_find_the_array_by_its_attribute():
    assert hasattr(SlotArray(1 << 44, SHAPE), "__cuda_array_interface__")


def test_a_slot_that_is_not_in_the_slab_is_refused(slab):
    for index in (-1, GRANULARITY // PAGE_BYTES, 10**6):
        with pytest.raises(IndexError, match=f"slot {index} "):
            slab.slot_array(index, PAGE_BYTES, SHAPE)


def test_a_slot_that_runs_over_the_end_of_the_slab_is_refused(slab):
    last = GRANULARITY // PAGE_BYTES - 1
    assert slab.slot_pointer(last, PAGE_BYTES, PAGE_BYTES) == slab.pointer + GRANULARITY - PAGE_BYTES
    with pytest.raises(IndexError):
        slab.slot_pointer(last, PAGE_BYTES, PAGE_BYTES + 1)
