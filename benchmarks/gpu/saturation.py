"""Part "saturation": how much of its time the device spends in the processor when frames never run out.

Three processes as in the pipeline: a producer uploads, inference loads a frame, runs a synthetic kernel of 10 ms and
stores the frame, a consumer downloads. Only the synthetic kernel counts as busy, timed by events on the device; the gap
from the end of one to the start of the next holds everything else that happens to a frame in inference.
"""

import sys
from typing import TYPE_CHECKING

import msgspec

from benchmarks.gpu.handover import ROUTES
from benchmarks.gpu.part import DEVICE, Child, Figures, attempt, quantiles, report, say
from pipeline.boot import FrameFormat, LinkBoot
from pipeline.link import BlockReader, FrameLink, LinkWriter
from pipeline.memory.allocator import Allocator
from pipeline.memory.cuda_driver import CudaDriver
from pipeline.memory.cuda_handle import CudaSlabHandle, Route, slab_bytes
from pipeline.memory.cuda_slab import CudaSlab
from pipeline.memory.slab import page_aligned
from pipeline.memory.slot_table import Outcome
from pipeline.memory.staging import Downloader, Uploader

if TYPE_CHECKING:
    import torch

SIZES = {"512x512": FrameFormat(512, 512), "1080p": FrameFormat(1920, 1080)}
FRAMES = 300
SLOTS = 4
KERNEL_MS = 10.0
GOAL = 0.98
WARM_UP = 20
"""Frames that are not counted."""
MODULE = "benchmarks.gpu.saturation"


class Job(msgspec.Struct, frozen=True):
    """`raw` goes from the producer to inference, `styled` from there to the consumer."""

    raw: LinkBoot
    raw_slab: CudaSlabHandle
    styled: LinkBoot
    styled_slab: CudaSlabHandle
    frames: int


def measure(sizes: dict[str, FrameFormat] = SIZES, frames: int = FRAMES) -> Figures:
    for size, form in sizes.items():
        for route in ROUTES:
            print(f"saturation: {size} {route}", file=sys.stderr)
            yield f"{size} {route}", attempt(_measure, form, route, frames)


def _measure(form: FrameFormat, route: Route, frames: int) -> dict[str, object]:
    links = [FrameLink(name, SLOTS, "block", form) for name in ("raw", "styled")]
    try:
        wanted = {link.boot.name: slab_bytes(SLOTS, form.nbytes) for link in links}
        with Allocator(DEVICE, route, wanted) as owner:
            raw, styled = owner.handles.values()
            job = Job(links[0].boot, raw, links[1].boot, styled, frames)
            fds = [*links[0].fds, *links[1].fds, *raw.fds, *styled.fds]
            with (
                Child(MODULE, "consumer", job, fds) as consumer,
                Child(MODULE, "inference", job, fds) as inference,
                Child(MODULE, "producer", job, fds),
            ):
                return dict(inference.hear()) | dict(consumer.hear())
    finally:
        for link in links:
            link.close()


def _value(seq: int) -> int:
    return seq % 251 + 1


def _produce(job: Job) -> None:
    slab, form = CudaSlab(CudaDriver(DEVICE), job.raw_slab), job.raw.format
    uploader = Uploader(slab, form.shape, page_aligned(form.nbytes))
    writer = LinkWriter(job.raw, owner=1)
    for seq in range(job.frames):
        slot = writer.acquire(seq=seq, pts=0, epoch=0, arrived_ns=0)
        assert slot is not None
        uploader.pixels[:] = _value(seq)
        uploader.upload(slot.index)
        writer.publish(slot)
    writer.end()


def _consume(job: Job) -> None:
    slab, form = CudaSlab(CudaDriver(DEVICE), job.styled_slab), job.styled.format
    downloader = Downloader(slab, form.shape, page_aligned(form.nbytes))
    reader = BlockReader(job.styled, owner=1)
    received = wrong = 0
    while not reader.drained:
        slot = reader.take()
        if slot is None:
            continue
        pixels = downloader.download(slot.index)
        wrong += {int(pixels[0, 0, 0]), int(pixels[-1, -1, -1])} != {_value(slot.seq)}
        received += 1
        reader.release(slot, Outcome.DELIVERED)
    say({"received": received, "wrong": wrong})


def _infer(job: Job) -> None:
    import torch

    from pipeline.processors.cuda_frames import CudaFrames, slot_tensors

    driver = CudaDriver(DEVICE)
    incoming, outgoing = (
        CudaFrames(slot_tensors(CudaSlab(driver, handle), boot.slots, boot.format), boot.format)
        for boot, handle in ((job.raw, job.raw_slab), (job.styled, job.styled_slab))
    )
    reader, writer = BlockReader(job.raw, owner=1), LinkWriter(job.styled, owner=1)
    cycles = _cycles_of(KERNEL_MS)
    started, ended = ([torch.cuda.Event(enable_timing=True) for _ in range(job.frames)] for _ in range(2))
    with torch.inference_mode():
        for seq in range(job.frames):
            slot = reader.take()
            while slot is None:
                slot = reader.take()
            image = incoming.load(slot)
            started[seq].record()
            torch.cuda._sleep(cycles)
            ended[seq].record()
            target = writer.acquire(seq=slot.seq, pts=0, epoch=0, arrived_ns=0)
            assert target is not None
            outgoing.store(image, target)
            writer.publish(target)
            reader.release(slot, Outcome.DELIVERED)
    writer.end()
    torch.cuda.synchronize()
    say(_figures(started[WARM_UP:], ended[WARM_UP:]))


def _cycles_of(milliseconds: float) -> int:
    """How long torch's spinning kernel must spin, once the clock has risen to where it stays."""
    import torch

    cycles = 100_000_000
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    for _ in range(5):
        before.record()
        torch.cuda._sleep(cycles)
        after.record()
        after.synchronize()
    return int(cycles * milliseconds / before.elapsed_time(after))


def _figures(started: "list[torch.cuda.Event]", ended: "list[torch.cuda.Event]") -> dict[str, object]:
    kernels = [start.elapsed_time(end) for start, end in zip(started, ended, strict=True)]
    gaps = [end.elapsed_time(start) for end, start in zip(ended[:-1], started[1:], strict=True)]
    span = started[0].elapsed_time(ended[-1])
    return {
        "frames": len(kernels),
        "kernel_ms": round(sorted(kernels)[len(kernels) // 2], 3),
        "busy_fraction": round(sum(kernels) / span, 4),
        "goal": GOAL,
        "gap_us": quantiles([round(1e6 * gap) for gap in gaps]),
    }


if __name__ == "__main__":
    if len(sys.argv) == 1:
        report(measure())
    else:
        _job = msgspec.json.decode(sys.argv[2], type=Job)
        {"producer": _produce, "inference": _infer, "consumer": _consume}[sys.argv[1]](_job)
