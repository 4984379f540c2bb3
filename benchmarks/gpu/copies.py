"""Part "copies": frames per upload and download through the staging buffers, against what the bus does at best in the
same run: large copies from and to pinned memory."""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.handover import ROUTES, SIZES
from benchmarks.gpu.part import DEVICE, Figures, attempt, report
from pipeline.boot import FrameFormat
from pipeline.memory.allocator import Allocator
from pipeline.memory.cuda_driver import CudaDriver
from pipeline.memory.cuda_handle import Route, slab_bytes
from pipeline.memory.cuda_slab import CudaSlab
from pipeline.memory.slab import page_aligned
from pipeline.memory.staging import Downloader, Uploader

COPIES = 200
SLOTS = 4
LARGE = FrameFormat(8192, 10923)
"""256 MB."""
LARGE_COPIES = 8


def measure(sizes: dict[str, FrameFormat] = SIZES, large: FrameFormat = LARGE, copies: int = COPIES) -> Figures:
    with CudaDriver(DEVICE) as driver:
        limit = {name: min(taken) for name, taken in _seconds(driver, "vmm", large, 1, LARGE_COPIES).items()}
        best = {name: large.nbytes / taken / 1e9 for name, taken in limit.items()}
        yield "bus_limit_gb_per_s", {name: round(rate, 2) for name, rate in best.items()}
        for size, form in sizes.items():
            for route in ROUTES:
                print(f"copies: {size} {route}", file=sys.stderr)
                yield f"{size} {route}", attempt(_compare, driver, route, form, copies, best)


def _compare(
    driver: CudaDriver, route: Route, form: FrameFormat, copies: int, best: dict[str, float]
) -> dict[str, dict[str, float]]:
    figures = {}
    for name, taken in _seconds(driver, route, form, SLOTS, copies).items():
        median = statistics.median(taken)
        rate = form.nbytes / median / 1e9
        figures[name] = {"us": round(1e6 * median, 1), "gb_per_s": round(rate, 2), "ratio": round(rate / best[name], 3)}
    return figures


def _seconds(driver: CudaDriver, route: Route, form: FrameFormat, slots: int, copies: int) -> dict[str, list[float]]:
    """How long each copy took, the wait for it included."""
    stride = page_aligned(form.nbytes)
    with Allocator(DEVICE, route, {"slots": slab_bytes(slots, form.nbytes)}) as owner:
        slab = CudaSlab(driver, owner.handles["slots"])
        uploader, downloader = Uploader(slab, form.shape, stride), Downloader(slab, form.shape, stride)
        uploader.pixels[:] = 7
        taken = {
            "upload": [_time(uploader.upload, i % slots) for i in range(copies)],
            "download": [_time(downloader.download, i % slots) for i in range(copies)],
        }
        assert downloader.pixels.min() == 7
        for closing in (uploader, downloader, slab):
            closing.close()
    return taken


def _time(function: Callable[[int], Any], index: int) -> float:
    before = time.perf_counter()
    function(index)
    return time.perf_counter() - before


if __name__ == "__main__":
    report(measure())
