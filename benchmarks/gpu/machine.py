"""What the figures were measured on, or why there is nothing to measure."""

import os
import platform
import sys
from importlib import metadata

from benchmarks.gpu.part import DEVICE, Figures, report
from pipeline.memory.cuda_driver import CudaDriver, CudaUnavailable

PACKAGES = ("torch", "cuda-bindings", "numpy", "msgspec", "pyzmq", "pytest")


def measure() -> Figures:
    yield "python", platform.python_version()
    yield "platform", platform.platform()
    yield "cpus", len(os.sched_getaffinity(0))
    for package in PACKAGES:
        yield package, _version(package)
    try:
        driver = CudaDriver(DEVICE)
    except CudaUnavailable as problem:
        yield "unavailable", str(problem)
        return
    with driver:
        name = driver.call("cuDeviceGetName", 256, driver.call("cuDeviceGet", DEVICE))
        yield "device", name.partition(b"\0")[0].decode()
        yield "driver_cuda", driver.call("cuDriverGetVersion")
        yield "memory_bytes", driver.call("cuMemGetInfo")[1]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _hold() -> None:
    """Keep the device open until stdin is closed."""
    with CudaDriver(DEVICE):
        print("held", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1:] == ["hold"]:
        _hold()
    else:
        report(measure())
