"""Our own frame link, as a worker uses it: acquire a slot, fill it, publish it; take it, look at it, release it."""

import time

from benchmarks.handoff_peers.transport import SLOTS, Consumer, Frame, Producer, Transport, write_frame
from pipeline.boot import FrameFormat, LinkBoot
from pipeline.link import FrameLink, LinkWriter, open_reader
from pipeline.memory.slot_table import Outcome, Slot
from pipeline.topology_values import Policy

OWNER = 1


class Link(Transport):
    def __init__(self, frames: list[Frame], policy: Policy) -> None:
        super().__init__()
        self.boots: dict[str, LinkBoot] = {}
        for frame in frames:
            link = FrameLink("handoff", SLOTS, policy, _format(frame))
            self.owned.callback(link.close)
            self.fds += link.fds
            self.boots[frame.name] = link.boot

    def producer(self, frame: Frame) -> Producer:
        return LinkProducer(self.boots[frame.name])

    def consumer(self, frame: Frame) -> Consumer:
        return LinkConsumer(self.boots[frame.name])


class LinkProducer(Producer):
    def __init__(self, boot: LinkBoot) -> None:
        self._writer = LinkWriter(boot, owner=OWNER)

    def send(self, seq: int, source: memoryview | None) -> None:
        slot = self._writer.acquire(seq=seq, pts=seq * 3000, epoch=0, arrived_ns=time.monotonic_ns())
        assert slot is not None  # Nobody wakes it.
        write_frame(slot.data, seq, source)
        self._writer.publish(slot)

    def close(self) -> None:
        self._writer.close()


class LinkConsumer(Consumer):
    def __init__(self, boot: LinkBoot) -> None:
        self._reader = open_reader(boot, owner=OWNER)
        self._slot: Slot | None = None

    def receive(self) -> tuple[int, memoryview]:
        self._slot = slot = self._reader.take()
        assert slot is not None  # Nobody wakes it, and the producer does not end.
        return slot.seq, slot.data

    def release(self) -> None:
        assert self._slot is not None
        self._reader.release(self._slot, Outcome.DELIVERED)

    def close(self) -> None:
        self._reader.close()


def _format(frame: Frame) -> FrameFormat:
    """Slots hold uint8: a frame of wider samples is carried as one of as many bytes, wider by that factor."""
    return FrameFormat(frame.width * frame.sample_bytes, frame.height)
