"""What the policies promise, between real processes of different speed: new frames, or all frames; and no polling."""

import time
from collections.abc import Callable

import pytest

from pipeline.link import FrameLink
from pipeline.memory.slot_table import FREE, IN_USE, READY, Outcome
from tests.chaos.end_process import EndProcess
from tests.chaos.link_ends import film, view, write

MakeLink = Callable[..., FrameLink]
Start = Callable[..., EndProcess]

FRAMES = 200
FRAME_SECONDS = 0.005
SILENCE_SECONDS = 1.0
FOR_EVER = 3600.0


def counts(link: FrameLink) -> dict[Outcome, int]:
    return {outcome: n for outcome, n in link.table.counts().items() if n}


def wait_for(link: FrameLink, state: int, slots: int) -> None:
    """Until so many slots are in `state`."""
    while sum(slot.state == state for slot in link.table.slots) < slots:
        time.sleep(0.01)


def assert_silent(process: EndProcess) -> None:
    """Not one thread of the process wakes up while nothing happens."""
    process.wait_until_asleep()
    before = process.activity()
    time.sleep(SILENCE_SECONDS)
    assert process.activity() == before


# latest


@pytest.fixture
def live(make_link: MakeLink, start: Start) -> tuple[FrameLink, list[tuple[int, ...]]]:
    """A live link to a viewer that takes ten times as long as a frame lasts, after its end, and what the viewer saw."""
    link = make_link("latest", slots=4)
    viewer = start(view, link.boot, 10 * FRAME_SECONDS)
    viewer.hear()
    start(film, link.boot, FRAMES, FRAME_SECONDS)
    return link, viewer.hear_all()


def test_latest_gives_a_slow_viewer_no_frame_older_than_the_newest_when_it_asks(
    live: tuple[FrameLink, list[tuple[int, ...]]],
) -> None:
    _, seen = live
    assert all(seq >= published - 1 for published, seq, _ in seen)
    assert all(good for _, _, good in seen)
    numbers = [seq for _, seq, _ in seen]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == FRAMES - 1, "the newest one waits for as long as it takes"


def test_latest_keeps_a_slot_for_the_producer_however_slow_the_viewer_is(
    live: tuple[FrameLink, list[tuple[int, ...]]],
) -> None:
    link, seen = live
    late = FRAMES - len(seen)
    assert late > len(seen)
    assert counts(link) == {Outcome.DELIVERED: len(seen), Outcome.LATE: late}
    assert [slot.state for slot in link.table.slots] == [FREE] * 4


# block


@pytest.mark.parametrize(
    ("write_seconds", "view_seconds"), [(0, 0.003), (0.003, 0), (0, 0)], ids=["slow viewer", "slow writer", "both fast"]
)
def test_block_brings_every_frame_in_order(
    make_link: MakeLink, start: Start, write_seconds: float, view_seconds: float
) -> None:
    link = make_link("block", slots=2)
    viewer = start(view, link.boot, view_seconds)
    viewer.hear()
    start(write, link.boot, FRAMES, write_seconds)
    assert [(seq, good) for _, seq, good in viewer.hear_all()] == [(seq, 1) for seq in range(FRAMES)]
    assert counts(link) == {Outcome.DELIVERED: FRAMES}


# No polling


@pytest.mark.parametrize("policy", ["block", "latest"])
def test_a_reader_sleeps_until_there_is_a_frame(make_link: MakeLink, start: Start, policy: str) -> None:
    link = make_link(policy)
    viewer = start(view, link.boot, 0)
    viewer.hear()

    assert_silent(viewer)

    start(write, link.boot, 1, 0)
    assert viewer.hear_all() == [(0, 0, 1)]


def test_a_busy_reader_of_a_latest_link_sleeps_until_there_is_a_frame(make_link: MakeLink, start: Start) -> None:
    link = make_link("latest")
    viewer = start(view, link.boot, FOR_EVER)
    viewer.hear()
    start(write, link.boot, 2, 0).hear_all()
    wait_for(link, IN_USE, 1)

    assert_silent(viewer)

    assert len(viewer.activity()) == 2, "the worker, and the thread that skims in its place"


def test_a_writer_sleeps_until_there_is_a_slot(make_link: MakeLink, start: Start) -> None:
    link = make_link("block", slots=2)
    writer = start(write, link.boot, 3, 0)

    wait_for(link, READY, 2)

    assert_silent(writer)

    assert link.table.begun() == 2
    viewer = start(view, link.boot, 0)
    assert viewer.hear() == (0,)
    assert [seq for _, seq, _ in viewer.hear_all()] == [0, 1, 2]
    assert writer.hear_all() == []
