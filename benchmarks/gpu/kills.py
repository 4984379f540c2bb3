"""Part "kills": the device's free memory before and after stages that have a slab mapped, and copy into it, are killed
with SIGKILL."""

import contextlib
import itertools
import sys
import time

import msgspec

from benchmarks.gpu.handover import ROUTES
from benchmarks.gpu.part import DEVICE, Child, Figures, attempt, report, say
from pipeline.boot import FrameFormat
from pipeline.memory.allocator import Allocator
from pipeline.memory.cuda_driver import CudaDriver
from pipeline.memory.cuda_handle import CudaSlabHandle, Route, slab_bytes
from pipeline.memory.cuda_slab import CudaSlab
from pipeline.memory.slab import page_aligned
from pipeline.memory.staging import Uploader

FORM = FrameFormat(1920, 1080)
SLOTS = 8
KILLS = 50
"""On each route: 100 in all."""
AT_ONCE = 10
SETTLE_SECONDS = 10.0


class Job(msgspec.Struct, frozen=True):
    slab: CudaSlabHandle


def measure(kills: int = KILLS, at_once: int = AT_ONCE) -> Figures:
    with CudaDriver(DEVICE) as driver:
        for route in ROUTES:
            yield route, attempt(_measure, driver, route, kills, at_once)


def _measure(driver: CudaDriver, route: Route, kills: int, at_once: int) -> dict[str, object]:
    with Allocator(DEVICE, route, {"slots": slab_bytes(SLOTS, FORM.nbytes)}) as owner:
        _kill(owner.handles["slots"], 1)  # What the driver makes at the first such death is no leak.
        before = _free(driver)
        for done in range(0, kills, at_once):
            print(f"kills: {route} {done} of {kills}", file=sys.stderr)
            _kill(owner.handles["slots"], min(at_once, kills - done))
        deadline = time.monotonic() + SETTLE_SECONDS
        while _free(driver) < before and time.monotonic() < deadline:
            time.sleep(0.1)
        after = _free(driver)
    return {"kills": kills, "free_before": before, "free_after": after, "lost_bytes": before - after, "goal": 0}


def _free(driver: CudaDriver) -> int:
    free, _ = driver.call("cuMemGetInfo")
    return int(free)


def _kill(slab: CudaSlabHandle, count: int) -> None:
    with contextlib.ExitStack() as stack:
        command = "benchmarks.gpu.kills", "stage", Job(slab), slab.fds
        for stage in [stack.enter_context(Child(*command)) for _ in range(count)]:
            stage.hear()


def _stage(job: Job) -> None:
    """Copies frames into the slab until it is killed."""
    slab = CudaSlab(CudaDriver(DEVICE), job.slab)
    uploader = Uploader(slab, FORM.shape, page_aligned(FORM.nbytes))
    uploader.upload(0)
    say("mapped")
    for index in itertools.cycle(range(SLOTS)):
        uploader.upload(index)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        report(measure())
    else:
        _stage(msgspec.json.decode(sys.argv[2], type=Job))
