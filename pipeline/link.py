"""A frame link as a worker sees it: take a slot, fill it, publish it; or take the next frame, use it, release it.

Joins the slot table (the truth), the doorbell (the hint) and the link's policy. It never copies pixels.
"""

import threading
import time

import msgspec
import zmq

from pipeline.doorbell import RESCAN_SECONDS, BellListener, BellRinger
from pipeline.media.access_unit import CLOCK_HZ
from pipeline.memory.slab import Slab
from pipeline.memory.slot_table import ConsumerTable, Outcome, ProducerTable, Slot
from pipeline.messages import Descriptor, LinkBoot

Context = zmq.Context[zmq.Socket[bytes]]


class LinkWriter:
    """The producer's end. One thread."""

    def __init__(self, boot: LinkBoot, context: Context, *, stream: str, owner: int, wake_fd: int) -> None:
        self.boot = boot
        self._slab = Slab(boot.fd)
        self.table = ProducerTable(self._slab, boot.slots, boot.format.nbytes)
        self._stream = stream
        self._owner = owner
        self._credits = BellListener(context, boot.free_endpoint, wake_fd)
        self._bell = BellRinger(context, boot.ready_endpoint)
        self._shape = boot.format.shape
        self._encoder = msgspec.msgpack.Encoder()
        self._buffer = bytearray(256)

    def acquire(self, *, seq: int, pts: int, epoch: int, arrived_ns: int, wait_seconds: float = 0.0) -> Slot | None:
        """A FREE slot, now FILLING with frame (epoch, seq); None when there is none within `wait_seconds` or when the
        worker was woken. Call `acquire` again to go on waiting, or `drop` to give the frame up."""
        deadline = time.monotonic() + wait_seconds
        while (slot := self.table.free_slot()) is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._credits.wait(remaining):
                return None
            for _ in self._credits.drain():
                pass
        self.table.begin(slot, seq, pts, epoch, arrived_ns, self._owner)
        return slot

    def publish(self, slot: Slot) -> None:
        """Hand the frame over. Its pixels must be complete."""
        now = time.monotonic_ns()
        self.table.publish(slot, now)
        descriptor = Descriptor(
            self.boot.name,
            slot.index,
            slot.generation,
            self._stream,
            slot.epoch,
            slot.seq,
            slot.pts,
            (1, CLOCK_HZ),
            self._shape,
            "uint8",
            "rgb",
            slot.arrived_ns,
            now,
        )
        self._encoder.encode_into(descriptor, self._buffer)
        self._bell.ring(self._buffer)

    def drop(self, outcome: Outcome) -> None:
        """Count a frame that gets no slot."""
        self.table.drop(outcome)

    def end(self) -> None:
        """Say that no further frame will come."""
        self.table.end()
        self._bell.ring()

    def close(self) -> None:
        self._bell.close()
        self._credits.close()


class _Reader:
    """What both kinds of reader share: attaching, committing, closing, and telling a stale bell from a good one."""

    def __init__(self, boot: LinkBoot, context: Context, *, owner: int, wake_fd: int) -> None:
        self.boot = boot
        self._slab = Slab(boot.fd)
        self.table = ConsumerTable(self._slab, boot.slots, boot.format.nbytes)
        self.stale_bells = 0
        self._owner = owner
        self._bell = BellListener(context, boot.ready_endpoint, wake_fd)
        self._credit = BellRinger(context, boot.free_endpoint)
        self._decoder = msgspec.msgpack.Decoder(Descriptor)

    def commit(self, slot: Slot) -> None:
        """See ConsumerTable.commit."""
        self.table.commit(slot)

    def close(self) -> None:
        self._bell.close()
        self._credit.close()

    def _hear(self) -> None:
        """Take in the bells that have come. A descriptor of an earlier life of its slot is counted and not used: what
        is READY, and since when, is read from the table."""
        for message in self._bell.drain():
            if message:
                descriptor = self._decoder.decode(message)
                if descriptor.generation != self.table.slots[descriptor.slot].generation:
                    self.stale_bells += 1

    def _finish(self, slot: Slot, outcome: Outcome) -> None:
        self.table.finish(slot, outcome)
        self._credit.ring()


class BlockReader(_Reader):
    """Every frame, oldest first; the producer waits when the slots are full. One thread."""

    def take(self, wait_seconds: float) -> Slot | None:
        """The oldest READY frame, now IN_USE; None when there is none within `wait_seconds`."""
        ready = self.table.ready()
        if not ready and wait_seconds > 0:
            self._bell.wait(wait_seconds)
            self._hear()
            ready = self.table.ready()
        if not ready:
            return None
        self.table.take(ready[0], self._owner)
        return ready[0]

    @property
    def drained(self) -> bool:
        """Whether the producer has ended and every frame was taken."""
        return self.table.ended and not self.table.ready()

    def release(self, slot: Slot, outcome: Outcome) -> None:
        """Give the slot back; the frame is counted as `outcome`."""
        self._finish(slot, outcome)


class LatestReader(_Reader):
    """Only the newest frame; older ones are freed as LATE by a thread of its own, also while the worker is busy with a
    frame, so that the producer finds free slots and what is taken next is new."""

    def __init__(self, boot: LinkBoot, context: Context, *, owner: int, wake_fd: int) -> None:
        super().__init__(boot, context, owner=owner, wake_fd=wake_fd)
        self._moves = threading.Condition()
        self._closing = False
        self._skimmer = threading.Thread(target=self._skim_forever, name=f"{boot.name}-skimmer", daemon=True)
        self._skimmer.start()

    def take(self, wait_seconds: float) -> Slot | None:
        """The newest READY frame, now IN_USE; None when there is none within `wait_seconds`."""
        with self._moves:
            slot = self._skim()
            if slot is None and wait_seconds > 0:
                self._moves.wait(min(wait_seconds, RESCAN_SECONDS))
                slot = self._skim()
            if slot is not None:
                self.table.take(slot, self._owner)
            return slot

    @property
    def drained(self) -> bool:
        """Whether the producer has ended and every frame was taken or freed."""
        with self._moves:
            return self.table.ended and not self.table.ready()

    def release(self, slot: Slot, outcome: Outcome) -> None:
        """Give the slot back; the frame is counted as `outcome`."""
        with self._moves:
            self._finish(slot, outcome)

    def close(self) -> None:
        self._closing = True
        self._skimmer.join()
        super().close()

    def _skim(self) -> Slot | None:
        """Free all READY frames but the newest and return that one."""
        ready = self.table.ready()
        for slot in ready[:-1]:
            self.table.take(slot, self._owner)
            self._finish(slot, Outcome.LATE)
        return ready[-1] if ready else None

    def _skim_forever(self) -> None:
        while not self._closing:
            self._bell.wait(RESCAN_SECONDS)
            with self._moves:
                self._hear()
                if self._skim() is not None:
                    self._moves.notify()


def open_reader(boot: LinkBoot, context: Context, *, owner: int, wake_fd: int) -> BlockReader | LatestReader:
    """The consumer's end, of the kind that the link's policy names."""
    kind = LatestReader if boot.policy == "latest" else BlockReader
    return kind(boot, context, owner=owner, wake_fd=wake_fd)
