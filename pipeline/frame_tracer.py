"""Notes the hop times of one frame in N, in the process that sees the frame's end. Reading them is `traces`'.

A frame carries its times in its slot's record from link to link, so they survive whoever handled it; nothing is stored
for the others. Whoever ends a frame, by showing it or by dropping it, writes one record into its own ring.
"""

import threading
import time
from collections.abc import Callable

from pipeline.boot import TraceBoot
from pipeline.memory.slab import Slab
from pipeline.memory.slot_table import IN_USE, Outcome, ProducerTable, Slot
from pipeline.memory.trace_ring import TraceRecord, TraceRing


def is_traced(seq: int, every: int) -> bool:
    """One frame in `every`, none if that is 0: in each run of so many, one place further than in the run before. A
    fixed step would hit nothing but key pictures in a stream that has one as often, and they take longer."""
    return every > 0 and seq % every == seq // every % every


class FrameTracer:
    """One process's. With None it notes nothing."""

    def __init__(self, boot: TraceBoot | None) -> None:
        self._every = boot.every if boot is not None else 0
        self._slab = Slab(boot.fd) if boot is not None else None
        self._turn = threading.Lock()
        self._ring = TraceRing(self._slab, boot.ring) if boot is not None and self._slab is not None else None

    def begin(self, table: ProducerTable, slot: Slot, decoding_ns: int) -> None:
        """Decode fills the slot with a frame on which it began at `decoding_ns`."""
        if is_traced(slot.seq, self._every):
            table.carry(slot, decoding_ns)

    def pass_on(self, slot: Slot, table: ProducerTable, target: Slot) -> None:
        """The frame in `slot` goes on as the one in `target`, which is being filled."""
        if is_traced(target.seq, self._every):
            table.carry(target, slot.decoding_ns, slot.ready_ns, slot.held_ns)

    def no_slot(self, seq: int, epoch: int, pts: int, arrived_ns: int, decoding_ns: int) -> None:
        """A frame found no slot."""
        if is_traced(seq, self._every):
            times = (time.monotonic_ns(), arrived_ns, decoding_ns, 0, 0, 0, 0, 0)
            self._write(TraceRecord(seq, epoch, pts, Outcome.NO_SLOT, *times))

    def end(self, slot: Slot, outcome: Outcome, encoded_ns: int = 0) -> None:
        """The frame's way ends here and now. To be called before the slot is given back."""
        if (note := self.ending(slot, outcome, encoded_ns)) is not None:
            note()

    def ending(self, slot: Slot, outcome: Outcome, encoded_ns: int = 0) -> Callable[[], None] | None:
        """What is to be called, by any thread, when the frame's way is at its end; None for one that is not traced. To
        be asked for before the slot is given back.

        A picture that was ADDED is no frame, and one that a supervisor gives back for another try has not ended.
        """
        if not is_traced(slot.seq, self._every):
            return None
        if outcome in (Outcome.ADDED, Outcome.RETRY) or slot.verdict is Outcome.ADDED:
            return None
        held = slot.held_ns if slot.state == IN_USE else 0
        if slot.decoded_ns:  # It carries what happened before: this is the link to egress.
            way = slot.decoding_ns, slot.decoded_ns, slot.taken_ns, slot.ready_ns, held, encoded_ns
        else:
            way = slot.decoding_ns, slot.ready_ns, 0 if outcome is Outcome.LATE else held, 0, 0, 0
        seq, epoch, pts, arrived_ns = slot.seq, slot.epoch, slot.pts, slot.arrived_ns
        return lambda: self._write(TraceRecord(seq, epoch, pts, outcome, time.monotonic_ns(), arrived_ns, *way))

    def close(self) -> None:
        if self._ring is not None and self._slab is not None:
            self._ring.close()
            self._slab.close()

    def _write(self, record: TraceRecord) -> None:
        """A reader of the newest frame frees the others in a thread of its own."""
        if self._ring is not None:
            with self._turn:
                self._ring.write(record)
