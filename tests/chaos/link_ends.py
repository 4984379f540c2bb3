"""What the processes at the ends of a single link do in the tests: each function is one process from start to end."""

import select
import signal
import time

from pipeline.boot import LinkBoot
from pipeline.link import LinkWriter, open_reader
from pipeline.memory.slot_table import Outcome
from tests.chaos import pixels

HALF = pixels.NBYTES // 2


def write_and_stop_halfway(boot: LinkBoot) -> None:
    """One frame; stops itself (SIGSTOP) when half of it is written."""
    writer = LinkWriter(boot, owner=1)
    seq = writer.table.next_seq()
    slot = writer.acquire(seq=seq, pts=0, epoch=0, arrived_ns=0)
    assert slot is not None
    view = pixels.view_of(slot.data)
    pixels.paint(view, seq, last=HALF)
    signal.raise_signal(signal.SIGSTOP)
    pixels.paint(view, seq, first=HALF)
    writer.publish(slot)


def take_and_stop(boot: LinkBoot) -> None:
    """One frame; stops itself (SIGSTOP) while it has it."""
    reader = open_reader(boot, owner=1)
    slot = reader.take()
    assert slot is not None
    signal.raise_signal(signal.SIGSTOP)
    reader.release(slot, Outcome.DELIVERED)


def film(boot: LinkBoot, frames: float, seconds: float) -> None:
    """A frame every `seconds`, whether there is a slot or not. A tick at which the frame before was not even heard of
    is left out: then the machine stalls and not the link."""
    writer = LinkWriter(boot, owner=1)
    bell = select.poll()
    bell.register(boot.ready_fd, select.POLLIN)
    while (seq := writer.table.next_seq()) < frames:
        time.sleep(seconds)
        if bell.poll(0):
            continue
        slot = writer.acquire(seq=seq, pts=0, epoch=0, arrived_ns=0, wait_seconds=0)
        if slot is None:
            writer.drop(Outcome.NO_SLOT)
        else:
            pixels.paint(pixels.view_of(slot.data), seq)
            writer.publish(slot)
    writer.end()


def write(boot: LinkBoot, frames: float, seconds: float) -> None:
    """Frames that take `seconds` each. Waits for slots."""
    writer = LinkWriter(boot, owner=1)
    while (seq := writer.table.next_seq()) < frames:
        time.sleep(seconds)
        slot = writer.acquire(seq=seq, pts=0, epoch=0, arrived_ns=0)
        assert slot is not None, "nobody wakes it"
        pixels.paint(pixels.view_of(slot.data), seq)
        writer.publish(slot)
    writer.end()


def view(boot: LinkBoot, seconds: float) -> None:
    """Looks at each frame for `seconds`. Prints a 0 when it begins, then for each frame how many had been published
    before it was asked for, its number, and whether its pixels are right."""
    reader = open_reader(boot, owner=1)
    print(0, flush=True)
    while not reader.drained:
        published = reader.table.published
        slot = reader.take()
        if slot is not None:
            time.sleep(seconds)
            print(published, slot.seq, int(pixels.is_painted(pixels.view_of(slot.data), slot.seq)), flush=True)
            reader.release(slot, Outcome.DELIVERED)
