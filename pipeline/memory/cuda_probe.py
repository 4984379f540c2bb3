"""Whether GPU memory can be shared between processes here: tried, not looked up. Two processes open what the allocator
made; one writes, the other reads. The process that asks needs no CUDA, so the launcher may.

`python -m pipeline.memory.cuda_probe write|read HANDLE` are those two processes, not a command for people.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from pipeline.memory.allocator import Allocator
from pipeline.memory.cuda_driver import CudaDriver, CudaError, CudaUnavailable
from pipeline.memory.cuda_handle import CudaSlabHandle, Route
from pipeline.memory.cuda_slab import CudaSlab

PROBE_BYTES = 2 << 20
CHILD_SECONDS = 60.0

_ROOT = Path(__file__).resolve().parents[2]
_LEGACY_STREAM = 0


def probe(device: int, route: Route) -> None:
    """Raises CudaUnavailable, saying what failed, unless what one process writes is what another reads."""
    with Allocator(device, route, {"probe": PROBE_BYTES}) as allocator:
        handle = allocator.handles["probe"]
        _run("write", handle)
        _run("read", handle)


def probe_survival(device: int) -> None:
    """Raises CudaUnavailable unless memory of the route "vmm" outlives its exporter: written, unmapped by the writer,
    the exporter killed, and read through a copy of the descriptor, which by then is all that holds it."""
    with Allocator(device, "vmm", {"probe": PROBE_BYTES}) as allocator:
        handle = allocator.handles["probe"]
        _run("write", handle)
        os.kill(allocator.pid, signal.SIGKILL)
        allocator.wait()
        _run("read", handle)


def _run(role: str, handle: CudaSlabHandle) -> None:
    name = msgspec.json.encode(handle).decode()
    command = [sys.executable, "-m", "pipeline.memory.cuda_probe", role, name]
    try:
        done = subprocess.run(
            command, pass_fds=handle.fds, cwd=_ROOT, capture_output=True, text=True, timeout=CHILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CudaUnavailable(f'route "{handle.route}": the process that should {role} hung') from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise CudaUnavailable(f'route "{handle.route}": the process that should {role} failed: {reason}')


def _main(role: str, name: str) -> None:
    import numpy as np  # Not above: the launcher imports this module, and nothing heavy.

    handle = msgspec.json.decode(name, type=CudaSlabHandle)
    pattern = np.resize(np.arange(251, dtype=np.uint8), handle.nbytes)
    with CudaDriver(handle.device) as driver:
        slab = CudaSlab(driver, handle)
        found = np.empty_like(pattern)
        driver.call("cuMemcpyDtoH", found.ctypes.data, slab.pointer, found.nbytes)
        wrong = np.count_nonzero(found if role == "write" else found != pattern)
        if role == "write":
            driver.call("cuMemcpyHtoD", slab.pointer, pattern.ctypes.data, pattern.nbytes)
            driver.call("cuStreamSynchronize", _LEGACY_STREAM)
        slab.close()
    if wrong:
        sys.exit(f"{wrong} of {handle.nbytes} bytes are not what they must be")


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except (CudaUnavailable, CudaError) as problem:
        sys.exit(str(problem))
