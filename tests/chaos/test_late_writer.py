"""A process that was stopped and comes back: why nothing is reclaimed before the death, and that it suffices."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.link import BlockReader, FrameLink, LinkWriter
from pipeline.media.verify import verify_recording
from pipeline.memory.slot_table import FILLING, FREE, IN_USE, READY, Outcome, Slot
from tests.chaos import pixels
from tests.chaos.end_process import EndProcess
from tests.chaos.link_ends import HALF, take_and_stop, write_and_stop_halfway
from tests.integration.conftest import FPS, SECONDS
from tests.integration.running import RunningPipeline

Start = Callable[..., EndProcess]


@pytest.fixture
def link(make_link: Callable[..., FrameLink]) -> FrameLink:
    return make_link("block", slots=2)


@pytest.fixture
def writer(link: FrameLink) -> Iterator[LinkWriter]:
    """The successor of a writer that stopped, or the other end of a reader that did."""
    writer = LinkWriter(link.boot, owner=2)
    yield writer
    writer.close()


@pytest.fixture
def reader(link: FrameLink) -> Iterator[BlockReader]:
    """The successor of a reader that stopped."""
    reader = BlockReader(link.boot, owner=2)
    yield reader
    reader.close()


def send(writer: LinkWriter) -> Slot:
    seq = writer.table.next_seq()
    slot = writer.acquire(seq=seq, pts=0, epoch=0, arrived_ns=0, wait_seconds=0)
    assert slot is not None
    pixels.paint(pixels.view_of(slot.data), seq)
    writer.publish(slot)
    return slot


def start_writer_that_stops(start: Start, link: FrameLink) -> EndProcess:
    process = start(write_and_stop_halfway, link.boot)
    process.wait_until_stopped()
    assert [slot.state for slot in link.table.slots] == [FILLING, FREE]
    return process


def start_reader_that_stops(start: Start, link: FrameLink) -> EndProcess:
    process = start(take_and_stop, link.boot)
    process.wait_until_stopped()
    assert [slot.state for slot in link.table.slots] == [IN_USE, FREE]
    return process


def test_a_writer_killed_in_its_stop_leaves_the_pixels_of_its_successor_alone(
    link: FrameLink, start: Start, writer: LinkWriter
) -> None:
    stopped = start_writer_that_stops(start, link)

    stopped.kill()
    assert link.table.reclaim_producer(Outcome.CRASH) == 1
    slot = send(writer)

    with pytest.raises(ProcessLookupError):
        stopped.go_on()
    assert (slot.index, slot.seq) == (0, 1)
    assert pixels.is_painted(pixels.view_of(slot.data), 1)


def test_a_writer_that_is_only_stopped_when_its_slot_is_reclaimed_spoils_the_frame_of_its_successor(
    link: FrameLink, start: Start, writer: LinkWriter
) -> None:
    stopped = start_writer_that_stops(start, link)

    assert link.table.reclaim_producer(Outcome.CRASH) == 1
    slot = send(writer)
    assert pixels.is_painted(pixels.view_of(slot.data), 1)
    stopped.go_on()
    stopped.hear_all()

    assert (slot.state, slot.seq) == (READY, 1)
    expected = np.empty(pixels.NBYTES, np.uint8)
    pixels.paint(expected, 1, last=HALF)
    pixels.paint(expected, 0, first=HALF)
    assert np.array_equal(pixels.view_of(slot.data), expected), "torn: half of the one, half of the other"


def test_a_reader_killed_in_its_stop_leaves_the_slot_of_its_successor_alone(
    link: FrameLink, start: Start, writer: LinkWriter, reader: BlockReader
) -> None:
    send(writer)
    stopped = start_reader_that_stops(start, link)

    stopped.kill()
    assert link.table.reclaim_consumer() == (1, 0)
    held = reader.take(0)

    with pytest.raises(ProcessLookupError):
        stopped.go_on()
    assert held is not None
    assert (held.state, held.owner) == (IN_USE, 2)
    assert send(writer).index != held.index
    assert pixels.is_painted(pixels.view_of(held.data), 0)


def test_a_reader_that_is_only_stopped_when_its_slot_is_reclaimed_frees_that_of_its_successor(
    link: FrameLink, start: Start, writer: LinkWriter, reader: BlockReader
) -> None:
    send(writer)
    stopped = start_reader_that_stops(start, link)

    assert link.table.reclaim_consumer() == (1, 0)
    held = reader.take(0)
    stopped.go_on()
    stopped.hear_all()

    assert held is not None
    assert held.state == FREE, "although its successor is still at it"
    assert send(writer).index == held.index
    assert pixels.is_painted(pixels.view_of(held.data), 1), "another frame than the one that was taken"


def test_a_stage_that_was_stopped_is_dead_before_another_takes_its_place(
    launch: Callable[..., RunningPipeline], source: Path, tmp_path: Path
) -> None:
    # Of this stage alone: a publisher that got no CPU for so long would be started again, and play the file again.
    pipeline = launch(source, stages__decode__limits={"heartbeat": 1.5})
    pipeline.wait_for("first_segment")
    stopped = os.pidfd_open(pipeline.pid_of("decode"))

    signal.pidfd_send_signal(stopped, signal.SIGSTOP)

    pipeline.wait_for("hanging stage=decode .*no heartbeat")
    pipeline.pid_of("decode", 2)
    with pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(stopped, signal.SIGCONT)
    os.close(stopped)
    assert pipeline.end() == 0, pipeline.log
    status = pipeline.summary()
    assert status.frames.balanced, status.frames
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert (report.out_of_order, report.duplicates, report.unreadable) == (0, 0, 0), pipeline.log
    assert report.last_index == FPS * SECONDS - 1, "the viewer saw the stream to its end"
