"""Part "handover": from a producer's first work on a frame to its consumer's having read it on the GPU, through a link
between two processes whose slots are in GPU memory.

Two orders are compared, for both routes. "host_wait": the producer waits for its event and then publishes, so that
READY survives its death. "interprocess_event": it publishes at once and the consumer's stream waits for the event.
The producer's work is a memset of the slot, the consumer's a copy of it into memory of its own, the value of which is
checked; frames are paced, so that nothing is queued.
"""

import ctypes
import sys
import time
from typing import Any

import msgspec
import numpy as np

from benchmarks.gpu.part import DEVICE, Child, Figures, attempt, listen, quantiles, report, say
from pipeline.boot import FrameFormat, LinkBoot
from pipeline.link import BlockReader, FrameLink, LinkWriter
from pipeline.memory.allocator import Allocator
from pipeline.memory.cuda_driver import CudaDriver
from pipeline.memory.cuda_handle import CudaSlabHandle, Route, slab_bytes
from pipeline.memory.cuda_slab import IPC_HANDLE_BYTES, CudaSlab
from pipeline.memory.slab import page_aligned
from pipeline.memory.slot_table import Outcome, Slot

SIZES = {"512x512": FrameFormat(512, 512), "1080p": FrameFormat(1920, 1080), "4K": FrameFormat(3840, 2160)}
ROUTES: tuple[Route, ...] = ("vmm", "ipc")
ORDERS = ("host_wait", "interprocess_event")
FRAMES = 300
SLOTS = 4
PACE_SECONDS = 0.002
WARM_UP = 10
"""One in so many frames: the first are not counted."""


class Job(msgspec.Struct, frozen=True):
    link: LinkBoot
    slab: CudaSlabHandle
    order: str
    frames: int


def measure(sizes: dict[str, FrameFormat] = SIZES, frames: int = FRAMES) -> Figures:
    for size, form in sizes.items():
        for route in ROUTES:
            for order in ORDERS:
                print(f"handover: {size} {route} {order}", file=sys.stderr)
                yield f"{size} {route} {order}", attempt(_measure, form, route, order, frames)


def _measure(form: FrameFormat, route: Route, order: str, frames: int) -> dict[str, object]:
    link = FrameLink("handover", SLOTS, "block", form)
    try:
        with Allocator(DEVICE, route, {"slots": slab_bytes(SLOTS, form.nbytes)}) as owner:
            slab = owner.handles["slots"]
            job, fds = Job(link.boot, slab, order, frames), [*link.fds, *slab.fds]
            with (
                Child("benchmarks.gpu.handover", "producer", job, fds) as producer,
                Child("benchmarks.gpu.handover", "consumer", job, fds) as consumer,
            ):
                consumer.tell(producer.hear())
                consumer.hear()
                producer.tell("go")
                return dict(consumer.hear())
    finally:
        link.close()


class _End:
    """What both processes have: the slab, a stream, and an event to wait for on the host."""

    def __init__(self, job: Job) -> None:
        self.form = job.link.format
        self.driver = CudaDriver(DEVICE)
        self.call = self.driver.call
        self.slab = CudaSlab(self.driver, job.slab)
        self.flags = self.driver.api.CUevent_flags
        self.stream = self.call("cuStreamCreate", int(self.driver.api.CUstream_flags.CU_STREAM_NON_BLOCKING))
        untimed = int(self.flags.CU_EVENT_DISABLE_TIMING)
        self.interprocess = untimed | int(self.flags.CU_EVENT_INTERPROCESS)
        self.event = self.call("cuEventCreate", untimed | int(self.flags.CU_EVENT_BLOCKING_SYNC))

    def pixels(self, slot: Slot) -> int:
        return self.slab.slot_pointer(slot.index, page_aligned(self.form.nbytes), self.form.nbytes)

    def wait(self) -> None:
        self.call("cuEventRecord", self.event, self.stream)
        self.call("cuEventSynchronize", self.event)


def _value(seq: int) -> int:
    return seq % 251 + 1


def _produce(job: Job) -> None:
    end = _End(job)
    writer = LinkWriter(job.link, owner=1)
    events = []
    if job.order == "interprocess_event":
        events = [end.call("cuEventCreate", end.interprocess) for _ in range(job.link.slots)]
    say([_bytes_of(end.call("cuIpcGetEventHandle", event)).hex() for event in events])
    listen()
    for seq in range(job.frames):
        slot = writer.acquire(seq=seq, pts=0, epoch=0, arrived_ns=time.monotonic_ns())
        assert slot is not None
        end.call("cuMemsetD8Async", end.pixels(slot), _value(seq), end.form.nbytes, end.stream)
        if events:
            end.call("cuEventRecord", events[slot.index], end.stream)
        else:
            end.wait()
        writer.publish(slot)
        time.sleep(PACE_SECONDS)
    writer.end()
    listen()  # The events live until the consumer is done: this process is killed, not ended.


def _consume(job: Job) -> None:
    end = _End(job)
    events = [_open_event(end, bytes.fromhex(name)) for name in listen()]
    reader = BlockReader(job.link, owner=1)
    copy = end.call("cuMemAlloc", end.form.nbytes)
    total, hop, wrong = [], [], 0
    say("ready")
    while not reader.drained:
        slot = reader.take()
        if slot is None:
            continue
        taken = time.monotonic_ns()
        if events:
            end.call("cuStreamWaitEvent", end.stream, events[slot.index], 0)
        end.call("cuMemcpyDtoDAsync", copy, end.pixels(slot), end.form.nbytes, end.stream)
        end.wait()
        total.append(time.monotonic_ns() - slot.arrived_ns)
        hop.append(taken - slot.ready_ns)
        wrong += _ends_of(end, copy) != {_value(slot.seq)}
        reader.release(slot, Outcome.DELIVERED)
    counted = slice(len(total) // WARM_UP, None)
    say(
        {"frames": len(total), "wrong": wrong, "total_us": quantiles(total[counted]), "hop_us": quantiles(hop[counted])}
    )


def _ends_of(end: _End, copy: Any) -> set[int]:
    """The values of the first and the last byte of the consumer's copy."""
    found = np.empty(2, np.uint8)
    first = int(copy)
    for place, pointer in enumerate((first, first + end.form.nbytes - 1)):
        end.call("cuMemcpyDtoH", found.ctypes.data + place, pointer, 1)
    return set(found.tolist())


def _bytes_of(handle: Any) -> bytes:
    return ctypes.string_at(int(handle.getPtr()), IPC_HANDLE_BYTES)


def _open_event(end: _End, name: bytes) -> Any:
    handle = end.driver.api.CUipcEventHandle()
    ctypes.memmove(int(handle.getPtr()), name, IPC_HANDLE_BYTES)
    return end.call("cuIpcOpenEventHandle", handle)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        report(measure())
    else:
        _job = msgspec.json.decode(sys.argv[2], type=Job)
        {"producer": _produce, "consumer": _consume}[sys.argv[1]](_job)
