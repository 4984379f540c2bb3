"""A frame link as its three parties see it: the launcher makes it, a worker writes frames, another reads them.

Joins the slot table (the truth), the doorbells (the hints) and the link's policy. It never copies pixels.
"""

import os
import select
import threading
import time

from pipeline.boot import FrameFormat, LinkBoot
from pipeline.doorbell import BellListener, make_bell, ring, wake
from pipeline.frame_tracer import FrameTracer
from pipeline.memory.cuda_handle import CudaSlabHandle
from pipeline.memory.slab import Slab, create_slab
from pipeline.memory.slot_table import (
    FILLING,
    FREE,
    IN_USE,
    NO_SEQ,
    STATE_NAMES,
    ConsumerTable,
    Outcome,
    ProducerTable,
    Slot,
    SupervisorTable,
    link_bytes,
)
from pipeline.status import LinkStatus, SlotStatus
from pipeline.topology_values import Policy


class FrameLink:
    """The launcher's hold of a link: its memory and its bells, which outlive whoever uses them."""

    def __init__(
        self, name: str, slots: int, policy: Policy, form: FrameFormat, cuda: CudaSlabHandle | None = None
    ) -> None:
        """`cuda` is the slab of the pixels if they lie on a GPU; it stays its owner's. Raises OSError when memory or
        descriptors run out."""
        fd = create_slab(name, link_bytes(slots, form.nbytes if cuda is None else 0))
        self.boot = LinkBoot(name, fd, slots, policy, form, ready_fd=make_bell(), free_fd=make_bell(), cuda=cuda)
        self._slab = Slab(fd)
        self.table = SupervisorTable(self._slab, slots, self.boot.host_slot_bytes)
        self._bell = BellListener(self.boot.ready_fd)

    @property
    def fds(self) -> list[int]:
        """What a worker must inherit to attach."""
        return self.boot.fds

    def wake(self) -> None:
        """Make both ends look at the table: in the place of a party that died before it could ring."""
        wake(self.boot.ready_fd)
        wake(self.boot.free_fd)

    def skim(self) -> None:
        """Do what a reader of the newest frame does, while there is none: what it finds when it comes is new, and the
        producer finds room meanwhile."""
        self._bell.wait(0)
        if self.table.skim():
            ring(self.boot.free_fd)

    def discard(self) -> None:
        """Do what a reader that throws away does, while there is none and will be none."""
        if self.table.discard():
            ring(self.boot.free_fd)

    def status(self, producer: str, consumer: str) -> LinkStatus:
        """What the table says just now, for people. `producer` and `consumer` are the names of the stages."""
        table = self.table
        return LinkStatus(
            link=self.boot.name,
            producer=producer,
            consumer=consumer,
            policy=self.boot.policy,
            begun=table.begun(),
            published=table.published,
            ended=table.ended,
            in_flight=table.in_flight(),
            outcomes={outcome.name.lower(): n for outcome, n in table.counts().items() if n},
            slots=[_slot_status(slot, {FILLING: producer, IN_USE: consumer}) for slot in table.slots],
        )

    def close(self) -> None:
        """Give back memory and bells. Both ends must be gone, or will not be joined by others."""
        self.table.close()
        self._slab.close()
        for fd in self.boot.own_fds:
            os.close(fd)


class LinkWriter:
    """The producer's end. One thread."""

    def __init__(self, boot: LinkBoot, *, owner: int) -> None:
        self.boot = boot
        self._slab = Slab(boot.fd)
        self.table = ProducerTable(self._slab, boot.slots, boot.host_slot_bytes)
        self._owner = owner
        self._credits = BellListener(boot.free_fd)
        self._bell = boot.ready_fd

    def acquire(
        self,
        *,
        seq: int,
        pts: int,
        epoch: int,
        arrived_ns: int,
        width: int | None = None,
        height: int | None = None,
        verdict: Outcome = Outcome.DELIVERED,
        part: int = 0,
        wait_seconds: float | None = None,
    ) -> Slot | None:
        """A FREE slot, now FILLING with frame (epoch, seq). Waits for one, `wait_seconds` at most.

        `width` and `height` are the picture's, by default those of the largest that the link holds; 0: the frame has no
        picture of its own. `verdict` is as what it is to be counted once it was shown; `part` tells several pictures of
        one frame apart, see ProducerTable.begin. None when there is none in that
        time, or when the worker was woken: call `acquire` again to go on waiting, or `drop` to give the frame up.
        """
        slot = self.table.free_slot() or self._wait_for_slot(wait_seconds)
        if slot is not None:
            if width is None or height is None:
                width, height = self.boot.format.width, self.boot.format.height
            self.table.begin(slot, seq, pts, epoch, arrived_ns, self._owner, width, height, verdict, part)
        return slot

    @property
    def free_slots(self) -> int:
        """So many times `acquire` would not have to wait."""
        return self.table.free_slots()

    @property
    def credit(self) -> int:
        """Readable when a slot was given back since `clear_credit`."""
        return self.boot.free_fd

    def clear_credit(self) -> None:
        """After a wait at `credit`."""
        self._credits.wait(0)

    def publish(self, slot: Slot) -> None:
        """Hand the frame over. Its pixels must be complete."""
        self.table.publish(slot, time.monotonic_ns())
        ring(self._bell)

    def drop(self, outcome: Outcome) -> None:
        """Count a frame that gets no slot."""
        self.table.drop(outcome)

    def end(self) -> None:
        """Say that no further frame will come."""
        self.table.end()
        wake(self._bell)

    def close(self) -> None:
        """Let go of the memory. Views of the pixels that are still held keep it mapped."""
        self.table.close()
        self._slab.close()

    def _wait_for_slot(self, wait_seconds: float | None) -> Slot | None:
        deadline = _deadline(wait_seconds)
        woken = False
        while (slot := self.table.free_slot()) is None:
            remaining = _remaining(deadline)
            if woken or remaining == 0:
                return None
            woken = self._credits.wait(remaining)
        return slot


class BlockReader:
    """Every frame, oldest first; the producer waits when the slots are full. One thread."""

    def __init__(self, boot: LinkBoot, *, owner: int) -> None:
        self.boot = boot
        self._slab = Slab(boot.fd)
        self.table = ConsumerTable(self._slab, boot.slots, boot.host_slot_bytes)
        self._owner = owner
        self._bell = BellListener(boot.ready_fd)
        self._credit = boot.free_fd
        self._next = NO_SEQ  # what follows the picture taken last: orders rise, so nothing can come before it

    def take(self, wait_seconds: float | None = None) -> Slot | None:
        """The oldest READY frame, now IN_USE. Waits for one, `wait_seconds` at most.

        None when there is none in that time, or when the worker was woken or the producer has ended.
        """
        deadline = _deadline(wait_seconds)
        woken = False
        while (slot := self.table.oldest(self._next)) is None:
            remaining = _remaining(deadline)
            if woken or remaining == 0:
                return None
            woken = self._bell.wait(remaining)
        self.table.take(slot, self._owner)
        self._next = self.table.order_after(slot)
        return slot

    def take_at_once(self) -> Slot | None:
        """The oldest READY frame, now IN_USE; None when there is none."""
        slot = self.table.oldest(self._next)
        if slot is not None:
            self.table.take(slot, self._owner)
            self._next = self.table.order_after(slot)
        return slot

    def listen(self) -> bool:
        """Before somebody waits at `bell` for this link and others: whether there is nothing to take meanwhile."""
        return self.table.oldest(self._next) is None

    def heard(self) -> None:
        """After that wait, whichever link ended it."""
        self._bell.wait(0)

    @property
    def bell(self) -> int:
        """Readable when the table is worth a look."""
        return self.boot.ready_fd

    @property
    def drained(self) -> bool:
        """Whether the producer has ended and every frame was taken."""
        return self.table.ended and self.table.oldest() is None

    def commit(self, slot: Slot) -> None:
        """See ConsumerTable.commit."""
        self.table.commit(slot)

    def release(self, slot: Slot, outcome: Outcome) -> None:
        """Give the slot back; the frame is counted as `outcome`."""
        self.table.finish(slot, outcome)
        ring(self._credit)

    def close(self) -> None:
        """Let go of the memory. Views of the pixels that are still held keep it mapped."""
        self.table.close()
        self._slab.close()


class LatestReader:
    """Only the newest frame; older ones are freed as LATE, also while the worker is busy with a frame, so that the
    producer finds free slots and what is taken next is new.

    While the worker waits in `take` it listens to the bell itself, so that a frame costs one wake-up. While it is busy
    a thread, the skimmer, listens in its place: `_ear` is armed for the bell then and at no other time.
    """

    def __init__(self, boot: LinkBoot, *, owner: int, tracer: FrameTracer | None = None) -> None:
        """`tracer` notes what became of frames that are freed as LATE."""
        self.boot = boot
        self._slab = Slab(boot.fd)
        self.table = ConsumerTable(self._slab, boot.slots, boot.host_slot_bytes)
        self._owner = owner
        self._tracer = tracer
        self._bell = BellListener(boot.ready_fd)
        self._credit = boot.free_fd
        self._moves = threading.Lock()
        self._waiting = False  # the worker is in `take`, and listens
        self._woken = False  # a wake-up that the skimmer heard and the worker must still be told of
        self._closed = os.eventfd(0, os.EFD_CLOEXEC)
        self._ear = select.epoll()
        self._ear.register(self._closed, select.EPOLLIN)
        self._ear.register(boot.ready_fd, 0)
        self._arm()
        self._skimmer = threading.Thread(target=self._skim_forever, name=f"{boot.name}-skimmer", daemon=True)
        self._skimmer.start()

    def take(self, wait_seconds: float | None = None) -> Slot | None:
        """The newest READY frame, now IN_USE. Waits for one, `wait_seconds` at most.

        None when there is none in that time, or when the worker was woken or the producer has ended.
        """
        with self._moves:
            slot = self._take_newest()
            if slot is not None or self._woken:
                self._woken = False
                return slot
            self._waiting = True
            self._ear.modify(self.boot.ready_fd, 0)
        deadline = _deadline(wait_seconds)
        while True:
            woken = self._bell.wait(_remaining(deadline))
            with self._moves:
                slot = self._take_newest()
                if slot is not None or woken or _remaining(deadline) == 0:
                    self._waiting = False
                    self._arm()
                    return slot

    def take_at_once(self) -> Slot | None:
        """The newest READY frame, now IN_USE; None when there is none."""
        with self._moves:
            return self._take_newest()

    def listen(self) -> bool:
        """Before somebody waits at `bell` for this link and others: whether there is nothing to take meanwhile. Then
        the skimmer stands back until `heard`."""
        with self._moves:
            if self._woken or self.table.oldest() is not None:
                self._woken = False
                return False
            self._waiting = True
            self._ear.modify(self.boot.ready_fd, 0)
            return True

    def heard(self) -> None:
        """After that wait, whichever link ended it."""
        with self._moves:
            self._bell.wait(0)
            self._waiting = False
            self._arm()

    @property
    def bell(self) -> int:
        """Readable when the table is worth a look."""
        return self.boot.ready_fd

    @property
    def drained(self) -> bool:
        """Whether the producer has ended and every frame was taken or freed."""
        with self._moves:
            return self.table.ended and self.table.oldest() is None

    def commit(self, slot: Slot) -> None:
        """See ConsumerTable.commit."""
        self.table.commit(slot)

    def release(self, slot: Slot, outcome: Outcome) -> None:
        """Give the slot back; the frame is counted as `outcome`."""
        with self._moves:
            self._finish(slot, outcome)

    def close(self) -> None:
        """Let go of the memory. Views of the pixels that are still held keep it mapped."""
        os.eventfd_write(self._closed, 1)
        self._skimmer.join()
        self._ear.close()
        os.close(self._closed)
        self.table.close()
        self._slab.close()

    def _take_newest(self) -> Slot | None:
        slot = self._skim()
        if slot is not None:
            self.table.take(slot, self._owner)
        return slot

    def _skim(self) -> Slot | None:
        """Free all READY frames but the newest and return that one."""
        ready = self.table.ready()
        for slot in ready[:-1]:
            self.table.take(slot, self._owner)
            if self._tracer is not None:
                self._tracer.end(slot, Outcome.LATE)
            self._finish(slot, Outcome.LATE)
        return ready[-1] if ready else None

    def _finish(self, slot: Slot, outcome: Outcome) -> None:
        self.table.finish(slot, outcome)
        ring(self._credit)

    def _arm(self) -> None:
        """Let the skimmer hear the next bell. Once only: a bell that is not read yet would wake it again and again."""
        self._ear.modify(self.boot.ready_fd, select.EPOLLIN | select.EPOLLONESHOT)

    def _skim_forever(self) -> None:
        while all(fd != self._closed for fd, _ in self._ear.poll()):
            with self._moves:
                if self._waiting:
                    continue
                self._woken |= self._bell.wait(0)
                self._skim()
                self._arm()


def open_reader(boot: LinkBoot, *, owner: int, tracer: FrameTracer | None = None) -> BlockReader | LatestReader:
    """The consumer's end, of the kind that the link's policy names."""
    if boot.policy == "latest":
        return LatestReader(boot, owner=owner, tracer=tracer)
    return BlockReader(boot, owner=owner)


def _slot_status(slot: Slot, holders: dict[int, str]) -> SlotStatus:
    state = slot.state
    return SlotStatus(
        state=STATE_NAMES[state],
        generation=slot.generation,
        seq=slot.seq if slot.generation else NO_SEQ,
        attempts=slot.attempts,
        owner=f"{holders[state]}#{slot.owner}" if state in holders else "",
        age_ms=0.0 if state == FREE else max(0, time.monotonic_ns() - slot.since_ns) / 1e6,
    )


def _deadline(wait_seconds: float | None) -> float | None:
    return None if wait_seconds is None else time.monotonic() + wait_seconds


def _remaining(deadline: float | None) -> float | None:
    """Seconds; None for ever; exactly 0 when it has passed."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
