"""The CUDA driver, emulated and real, and slabs in its memory.

What takes `driver` runs twice: against the emulation everywhere, and, marked `gpu`, against a real device where there
is one. The first run proves the order of the calls and their arguments, only the second that they work on a GPU.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.memory.allocator import Allocator
from pipeline.memory.cuda_driver import CudaDriver, CudaUnavailable
from pipeline.memory.cuda_slab import CudaSlab
from tests.memory import emulated_driver

DRIVERS = ["emulated", pytest.param("real", marks=pytest.mark.gpu)]


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[emulated_driver.State]:
    """The emulation in this process and its children. Fails a test that leaves anything behind."""
    emulated_driver.emulate(monkeypatch, tmp_path / "emulated")
    yield emulated_driver.state
    assert emulated_driver.left() == {}


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Iterator[CudaDriver]:
    if request.param == "emulated":
        request.getfixturevalue("emulated")
    try:
        opened = CudaDriver(0)
    except CudaUnavailable as problem:
        pytest.skip(f"no CUDA device: {problem}")
    yield opened
    opened.close()


@pytest.fixture(params=["ipc", "vmm"])
def route(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def open_slab(driver: CudaDriver, route: str) -> Iterator[Callable[[int], CudaSlab]]:
    """open_slab(nbytes) -> this process's mapping of a zeroed slab that an allocator process owns."""
    opened: list[tuple[Allocator, CudaSlab]] = []

    def make(nbytes: int) -> CudaSlab:
        allocator = Allocator(0, route, {"slab": nbytes})
        slab = CudaSlab(driver, allocator.handles["slab"])
        opened.append((allocator, slab))
        return slab

    yield make
    for allocator, slab in opened:
        slab.close()
        allocator.close()


@pytest.fixture
def read(driver: CudaDriver) -> Callable[[int, int], bytes]:
    """read(pointer, nbytes) -> what lies there on the device, all copies under way on other streams left alone."""

    def copy(pointer: int, nbytes: int) -> bytes:
        found = np.empty(nbytes, np.uint8)
        driver.call("cuMemcpyDtoH", found.ctypes.data, pointer, nbytes)
        return found.tobytes()

    return copy


@pytest.fixture
def write(driver: CudaDriver) -> Callable[[int, bytes], None]:
    """write(pointer, data): complete when it returns."""

    def copy(pointer: int, data: bytes) -> None:
        source = np.frombuffer(data, np.uint8)
        driver.call("cuMemcpyHtoD", pointer, source.ctypes.data, len(data))
        driver.call("cuStreamSynchronize", 0)

    return copy
