"""The stages of the chain: what decode, inference and egress do with a frame, less the work.

Each is a function that a new process runs from its start to its end; it may be killed at any instruction of it.
"""

import mmap
import os
import struct
import time
from collections.abc import Callable

import msgspec

from pipeline.boot import LinkBoot
from pipeline.link import BlockReader, LatestReader, LinkWriter, open_reader
from pipeline.memory.slot_table import Outcome, Slot
from tests.chaos import pixels

TICKS_PER_FRAME = 3000
FRAME_SECONDS = 0.0003
"""How often the camera of a live chain has a frame."""
WORK_SECONDS = 0.001
"""How long the middle of a live chain works on one: longer than there is time for."""

RECORD = struct.Struct("<qii")
"""One line of the sink's log: number, whether the pixels were right, incarnation of the sink. Its size divides a page,
so that no death can leave half of one."""


class Common(msgspec.Struct, frozen=True):
    """What all stages know. The source goes on to `frames` frames, and beyond until the first byte of `stop` is set."""

    raw: LinkBoot
    styled: LinkBoot
    frames: int
    stop: mmap.mmap
    log: int

    def goes_on(self, numbered: int) -> bool:
        return numbered < self.frames or not self.stop[0]


Stage = Callable[[Common, int], None]


def source(common: Common, owner: int) -> None:
    """Numbers the frames; waits for the stage behind."""
    writer = LinkWriter(common.raw, owner=owner)
    views = [pixels.view_of(slot.data) for slot in writer.table.slots]
    while common.goes_on(seq := writer.table.next_seq()):
        slot = writer.acquire(seq=seq, pts=TICKS_PER_FRAME * seq, epoch=0, arrived_ns=0)
        if slot is not None:
            pixels.paint(views[slot.index], seq)
            writer.publish(slot)
    writer.end()


def live_source(common: Common, owner: int) -> None:
    """Numbers the frames; waits for nobody."""
    writer = LinkWriter(common.raw, owner=owner)
    views = [pixels.view_of(slot.data) for slot in writer.table.slots]
    while common.goes_on(seq := writer.table.next_seq()):
        slot = writer.acquire(seq=seq, pts=TICKS_PER_FRAME * seq, epoch=0, arrived_ns=0, wait_seconds=0)
        if slot is None:
            writer.drop(Outcome.NO_SLOT)
        else:
            pixels.paint(views[slot.index], seq)
            writer.publish(slot)
        time.sleep(FRAME_SECONDS)
    writer.end()


def middle(common: Common, owner: int) -> None:
    """Changes every pixel."""
    _middle(common, owner, lambda: None)


def slow_middle(common: Common, owner: int) -> None:
    """Changes every pixel, and takes its time."""
    _middle(common, owner, lambda: time.sleep(WORK_SECONDS))


def _middle(common: Common, owner: int, work: Callable[[], None]) -> None:
    reader, writer = open_reader(common.raw, owner=owner), LinkWriter(common.styled, owner=owner)
    views = [pixels.view_of(slot.data) for slot in reader.table.slots]
    targets = [pixels.view_of(slot.data) for slot in writer.table.slots]
    while (slot := next_frame(reader)) is not None:
        work()
        target = slot_for(writer, slot)
        pixels.style(views[slot.index], targets[target.index])
        writer.publish(target)
        reader.release(slot, Outcome.DELIVERED)
    writer.end()


def sink(common: Common, owner: int) -> None:
    """Checks every pixel, and writes down what it saw: what is written down cannot be undone."""
    reader = open_reader(common.styled, owner=owner)
    views = [pixels.view_of(slot.data) for slot in reader.table.slots]
    while (slot := next_frame(reader)) is not None:
        good = is_good(slot, views[slot.index])
        reader.commit(slot)
        os.write(common.log, RECORD.pack(slot.seq, good, owner))
        reader.release(slot, Outcome.DELIVERED)


def next_frame(reader: BlockReader | LatestReader) -> Slot | None:
    """The next frame; None when there will be none."""
    while not reader.drained:
        slot = reader.take()
        if slot is not None:
            return slot
    return None


def slot_for(writer: LinkWriter, slot: Slot) -> Slot:
    """A slot for what the frame in `slot` becomes."""
    while True:
        target = writer.acquire(seq=slot.seq, pts=slot.pts, epoch=slot.epoch, arrived_ns=slot.arrived_ns)
        if target is not None:
            return target


def is_good(slot: Slot, view: pixels.Pixels) -> bool:
    return slot.pts == TICKS_PER_FRAME * slot.seq and pixels.is_styled(view, slot.seq)
