"""The emulation must catch what it is there to catch."""

import os

import numpy as np
import pytest

from pipeline.memory.cuda_driver import CudaDriver, CudaError
from tests.memory import emulated_driver
from tests.memory.emulated_driver import EmulationError

NBYTES = 4096


@pytest.fixture
def driver(emulated):
    with CudaDriver(0) as driver:
        yield driver


@pytest.fixture
def memory(driver):
    pointer = int(driver.call("cuMemAlloc", NBYTES))
    yield pointer
    driver.call("cuMemFree", pointer)


@pytest.fixture
def pinned(driver):
    address = driver.call("cuMemHostAlloc", NBYTES, 0)
    yield address
    driver.call("cuMemFreeHost", address)


@pytest.fixture
def stream(driver):
    stream = driver.call("cuStreamCreate", 1)
    yield stream
    driver.call("cuStreamSynchronize", stream)
    driver.call("cuStreamDestroy", stream)


@pytest.fixture
def event(driver):
    event = driver.call("cuEventCreate", 3)
    yield event
    driver.call("cuEventDestroy", event)


def on_device(driver, pointer):
    found = np.empty(1, np.uint8)
    driver.call("cuMemcpyDtoH", found.ctypes.data, pointer, 1)
    return int(found[0])


def test_a_copy_is_not_there_before_it_was_waited_for(driver, memory, pinned, stream, event):
    driver.call("cuMemsetD8", memory, 7, NBYTES)
    driver.call("cuMemcpyHtoDAsync", memory, pinned, NBYTES, stream)
    driver.call("cuEventRecord", event, stream)
    assert on_device(driver, memory) == 7
    driver.call("cuEventSynchronize", event)
    assert on_device(driver, memory) == 0


def test_waiting_for_an_event_waits_for_nothing_behind_it(driver, memory, pinned, stream, event):
    driver.call("cuMemsetD8Async", memory, 7, NBYTES, stream)
    driver.call("cuEventRecord", event, stream)
    driver.call("cuMemsetD8Async", memory, 8, NBYTES, stream)
    driver.call("cuEventSynchronize", event)
    assert on_device(driver, memory) == 7


def test_a_stream_that_waits_for_an_event_runs_what_is_before_it_on_the_other(driver, memory, stream, event):
    other = driver.call("cuStreamCreate", 1)
    driver.call("cuMemsetD8Async", memory, 9, NBYTES, other)
    driver.call("cuEventRecord", event, other)
    driver.call("cuStreamWaitEvent", stream, event, 0)
    driver.call("cuStreamSynchronize", stream)
    assert on_device(driver, memory) == 9
    driver.call("cuStreamDestroy", other)


def test_new_memory_is_not_zero(driver, memory):
    assert on_device(driver, memory) != 0


@pytest.mark.parametrize("offset", [1, NBYTES, -1])
def test_a_copy_out_of_bounds_is_caught(driver, memory, offset):
    source = np.zeros(NBYTES, np.uint8)
    with pytest.raises(EmulationError):
        driver.call("cuMemcpyHtoD", memory + offset, source.ctypes.data, NBYTES)


def test_freed_memory_cannot_be_freed_or_used_again(driver):
    pointer = driver.call("cuMemAlloc", NBYTES)
    driver.call("cuMemFree", pointer)
    with pytest.raises(EmulationError, match="freed before"):
        driver.call("cuMemFree", pointer)
    with pytest.raises(EmulationError, match="freed before"):
        on_device(driver, int(pointer))


def test_memory_that_is_freed_under_a_copy_is_caught(driver, pinned, stream):
    pointer = driver.call("cuMemAlloc", NBYTES)
    driver.call("cuMemcpyHtoDAsync", pointer, pinned, NBYTES, stream)
    driver.call("cuMemFree", pointer)
    with pytest.raises(EmulationError, match="freed before"):
        driver.call("cuStreamSynchronize", stream)


def test_an_async_copy_from_memory_that_is_not_pinned_is_caught(driver, memory, stream):
    source = np.zeros(NBYTES, np.uint8)
    with pytest.raises(EmulationError, match="pinned"):
        driver.call("cuMemcpyHtoDAsync", memory, source.ctypes.data, NBYTES, stream)


def test_device_and_host_addresses_are_told_apart(driver, memory, pinned):
    with pytest.raises(EmulationError, match="is a device address"):
        driver.call("cuMemcpyHtoD", memory, memory, NBYTES)
    with pytest.raises(EmulationError, match="is not in device memory"):
        driver.call("cuMemcpyHtoD", pinned, pinned, NBYTES)


def test_memory_mapped_without_access_cannot_be_touched(driver):
    size = emulated_driver.GRANULARITY
    pointer = driver.call("cuMemAddressReserve", size, 0, 0, 0)
    with pytest.raises(EmulationError, match="without access"):
        on_device(driver, int(pointer))
    driver.call("cuMemAddressFree", pointer, size)


def test_a_forked_child_has_no_driver(driver):
    pid = os.fork()
    if pid == 0:
        try:
            driver.call("cuMemGetInfo")
        except CudaError as error:
            os._exit(int(error.name != "CUDA_ERROR_NOT_INITIALIZED"))
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_what_is_left_is_counted_by_kind(driver, memory, pinned, stream, event):
    assert emulated_driver.left() == {
        "contexts": 1,
        "allocated": 1,
        "host buffers": 1,
        "streams": 1,
        "events": 1,
    }
