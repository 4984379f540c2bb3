"""Drawing into a slot and looking at it, wherever it lies."""

import numpy as np
import pytest

from pipeline.boot import FrameFormat
from pipeline.link import BlockReader, FrameLink, LinkWriter
from pipeline.memory.allocator import Allocator
from pipeline.memory.cuda_handle import slab_bytes
from pipeline.memory.slot_pixels import open_source, open_target
from pipeline.memory.slot_table import FREE, Outcome

FORM = FrameFormat(48, 32)
SLOTS = 3


@pytest.fixture
def host_link():
    link = FrameLink("raw", SLOTS, "block", FORM)
    yield link
    link.close()


@pytest.fixture
def gpu_link(driver, route):
    with Allocator(0, route, {"raw": slab_bytes(SLOTS, FORM.nbytes)}) as allocator:
        link = FrameLink("raw", SLOTS, "block", FORM, allocator.handles["raw"])
        yield link
        link.close()


def carry(link, pictures):
    """Each picture through the link, in order; more of them than there are slots."""
    writer, reader = LinkWriter(link.boot, owner=1), BlockReader(link.boot, owner=1)
    target, source = open_target(link.boot, writer.table), open_source(link.boot, reader.table)
    seen = []
    for seq, picture in enumerate(pictures):
        slot = writer.acquire(seq=seq, pts=seq, epoch=0, arrived_ns=0)
        array = target.array(slot)
        assert (array.shape, array.dtype) == (FORM.shape, np.uint8)
        array[:] = picture
        target.complete(slot)
        writer.publish(slot)
        if seq % 2:  # Two at a time, so that a later one could spoil an earlier one.
            for _ in range(2):
                taken = reader.take()
                seen.append(source.picture(taken).copy())
                reader.release(taken, Outcome.DELIVERED)
    for end in (target, source, writer, reader):
        end.close()
    return seen


@pytest.fixture
def pictures():
    return list(np.random.default_rng(3).integers(0, 256, (8, *FORM.shape), np.uint8))


def test_in_host_memory_the_array_is_the_slot(host_link, pictures):
    assert np.array_equal(carry(host_link, pictures), pictures)
    assert [slot.state for slot in host_link.table.slots] == [FREE] * SLOTS


def test_in_gpu_memory_what_is_complete_is_what_the_other_end_sees(gpu_link, pictures):
    assert np.array_equal(carry(gpu_link, pictures), pictures)
    assert all(len(slot.data) == 0 for slot in gpu_link.table.slots), "the shared host memory holds the table alone"


def test_a_worker_inherits_the_descriptors_of_gpu_memory(gpu_link, route):
    assert len(gpu_link.boot.fds) == (4 if route == "vmm" else 3)
    assert set(gpu_link.boot.own_fds) < set(gpu_link.boot.fds) or route == "ipc"
