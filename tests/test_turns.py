"""Whose frame is next, over real links: by shares, with nobody in anybody's way."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pipeline.boot import FrameFormat
from pipeline.doorbell import make_bell, wake
from pipeline.link import FrameLink, LinkWriter, open_reader
from pipeline.memory.slot_table import Outcome
from pipeline.topology_values import Policy
from pipeline.turns import Turns

FORM = FrameFormat(2, 2)
MS = 1_000_000


class Clock:
    """Nanoseconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class Stream:
    """Decode's and egress's ends of one stream, and what the process has of it."""

    def __init__(self, policy: Policy, weight: float) -> None:
        self.weight = weight
        self.links = [FrameLink(name, 4, kind, FORM) for name, kind in (("raw", policy), ("styled", "block"))]
        raw, styled = (link.boot for link in self.links)
        self.decode = LinkWriter(raw, owner=1)
        self.reader = open_reader(raw, owner=1)
        self.writer = LinkWriter(styled, owner=1)
        self.egress = open_reader(styled, owner=1)

    @property
    def has_room(self) -> bool:
        return self.writer.free_slots > 0

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            seq = self.decode.table.next_seq()
            slot = self.decode.acquire(seq=seq, pts=seq, epoch=0, arrived_ns=0, wait_seconds=0)
            assert slot is not None
            self.decode.publish(slot)

    def fill_output(self) -> None:
        while self.has_room:
            slot = self.writer.acquire(seq=0, pts=0, epoch=0, arrived_ns=0)
            assert slot is not None
            self.writer.publish(slot)

    def close(self) -> None:
        for end in (self.reader, self.egress, self.decode, self.writer, *self.links):
            end.close()


class Process:
    """Takes turns, and says how long each frame takes."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.wake_fd = make_bell()
        self.woken = 0
        self.clock = clock
        self.turns: Turns[Stream] = Turns(self.wake_fd, self._clear, alone=False, now_ns=clock)

    def _clear(self) -> None:
        self.woken += 1

    def serve(self, ms: float = 10, seconds: float | None = 0) -> Stream | None:
        found = self.turns.take(seconds)
        if found is None:
            return None
        stream, slot = found
        self.clock.now += int(ms * MS)
        stream.reader.release(slot, Outcome.DELIVERED)
        return stream


@pytest.fixture
def process() -> Process:
    return Process(Clock())


@pytest.fixture
def streams() -> Iterator[list[Stream]]:
    made: list[Stream] = []
    yield made
    for stream in made:
        stream.close()


def join(process: Process, streams: list[Stream], *weights: float, policy: Policy = "block") -> list[Stream]:
    for weight in weights:
        streams.append(Stream(policy, weight))
        process.turns.join(streams[-1])
    return streams


def served(process: Process, streams: list[Stream], rounds: int, *ms: float) -> list[int]:
    """How often each stream had its turn, while all of them always have a frame."""
    counts = [0] * len(streams)
    for _ in range(rounds):
        for stream in streams:
            if stream.reader.listen():
                stream.send()
        chosen = process.turns.take(0)
        assert chosen is not None
        stream, slot = chosen
        number = streams.index(stream)
        process.clock.now += int((ms[number] if ms else 10) * MS)
        stream.reader.release(slot, Outcome.DELIVERED)
        counts[number] += 1
    return counts


def test_streams_that_cost_the_same_take_turns(process: Process, streams: list[Stream]) -> None:
    join(process, streams, 1, 1, 1)
    assert served(process, streams, 30) == [10, 10, 10]


def test_a_stream_has_its_share_of_the_time_and_not_of_the_frames(process: Process, streams: list[Stream]) -> None:
    join(process, streams, 1, 1)
    cheap, dear = served(process, streams, 40, 10, 30)
    assert abs(cheap - 3 * dear) <= 3


def test_a_share_is_after_the_weight(process: Process, streams: list[Stream]) -> None:
    join(process, streams, 3, 1)
    heavy, light = served(process, streams, 40)
    assert abs(heavy - 3 * light) <= 3


def test_time_that_was_not_wanted_is_not_saved_up(process: Process, streams: list[Stream]) -> None:
    first, _ = join(process, streams, 1, 1)
    for _ in range(20):
        first.send()
        assert process.serve() is first
    assert served(process, streams, 10) == [5, 5]


def test_one_that_comes_later_begins_where_the_others_are(process: Process, streams: list[Stream]) -> None:
    join(process, streams, 1)
    served(process, streams, 20)
    join(process, streams, 1)
    assert served(process, streams, 10) in ([5, 5], [4, 6])


def test_a_stream_whose_output_is_full_holds_up_no_other(process: Process, streams: list[Stream]) -> None:
    stuck, free = join(process, streams, 1, 1)
    stuck.fill_output()
    stuck.send(2)
    free.send(2)
    assert [process.serve(), process.serve(), process.serve()] == [free, free, None]

    slot = stuck.egress.take(0)
    assert slot is not None
    stuck.egress.release(slot, Outcome.DELIVERED)
    assert process.serve() is stuck


@pytest.mark.parametrize("policy", ["block", "latest"])
def test_a_wait_ends_with_a_frame_of_any(process: Process, streams: list[Stream], policy: Policy) -> None:
    _, second = join(process, streams, 1, 1, policy=policy)
    sender = threading.Timer(0.05, second.send)
    sender.start()
    assert process.serve(seconds=30) in (second, None), "a bell says no more than: look"
    sender.join()
    assert second.reader.listen() or process.serve() is second


def test_a_wait_ends_with_room_in_an_output(process: Process, streams: list[Stream]) -> None:
    (stuck,) = join(process, streams, 1)
    stuck.fill_output()
    stuck.send()
    slot = stuck.egress.take(0)
    assert slot is not None
    giver = threading.Timer(0.05, lambda: stuck.egress.release(slot, Outcome.DELIVERED))
    giver.start()
    assert process.serve(seconds=30) is stuck
    giver.join()


def test_a_wait_ends_when_the_process_is_woken(process: Process, streams: list[Stream]) -> None:
    join(process, streams, 1, 1)
    waker = threading.Timer(0.05, lambda: wake(process.wake_fd))
    waker.start()
    assert process.serve(seconds=30) is None
    waker.join()
    assert process.woken == 1


def test_of_one_that_has_left_nothing_is_taken(process: Process, streams: list[Stream]) -> None:
    first, second = join(process, streams, 1, 1)
    first.send()
    process.turns.leave(first)
    assert process.serve() is None
    second.send()
    assert process.serve() is second


def test_the_newest_frame_is_taken_of_a_link_that_drops(process: Process, streams: list[Stream]) -> None:
    first, _ = join(process, streams, 1, 1, policy="latest")
    first.send(3)
    found = process.turns.take(0)
    assert found is not None
    stream, slot = found
    assert (stream, slot.seq) == (first, 2)
    first.reader.release(slot, Outcome.DELIVERED)


def test_frames_of_others_are_taken_together_one_each(process: Process, streams: list[Stream]) -> None:
    first, second, third = join(process, streams, 1, 1, 1)
    first.send(2)
    second.send(2)
    found = process.turns.take(0)
    assert found is not None
    more = process.turns.take_more(2, seconds=0)
    assert {found[0], *(stream for stream, _ in more)} == {first, second}, "the third has none, and is not waited for"
    third.send()
    assert process.turns.take_more(0, seconds=0) == []


def die_on(stream: Stream) -> None:
    """Its frame, of which a process takes hold, comes back as one that a process died on."""
    stream.send()
    assert stream.reader.take_at_once() is not None
    assert stream.links[0].table.reclaim_consumer() == (1, 0)


def test_nothing_is_taken_beside_a_frame_that_a_process_died_on(process: Process, streams: list[Stream]) -> None:
    first, second, third = join(process, streams, 1, 1, 1)
    die_on(first)
    second.send()
    third.send()
    found = process.turns.take(0)
    assert found is not None
    assert found[0] is first
    assert process.turns.take_more(2, seconds=0) == []


def test_nothing_is_taken_behind_a_frame_that_a_process_died_on(process: Process, streams: list[Stream]) -> None:
    first, second, third = join(process, streams, 1, 1, 1)
    first.send()
    die_on(second)
    third.send()
    found = process.turns.take(0)
    assert found is not None
    assert found[0] is first
    assert [stream for stream, _ in process.turns.take_more(2, seconds=0)] == [second]


def test_who_is_served_together_shares_the_cost(process: Process, streams: list[Stream]) -> None:
    first, second, third = join(process, streams, 1, 1, 1)
    first.send()
    second.send()
    found = process.turns.take(0)
    assert found is not None
    assert len(process.turns.take_more(1, seconds=0)) == 1
    process.clock.now += 20 * MS
    third.send()
    assert process.serve(10) is third
    for stream in (first, second, third):
        stream.send()
    assert len({process.serve(10), process.serve(10), process.serve(10)}) == 3, "each has had 10 ms by then"


def test_others_are_waited_for_as_long_as_was_said(streams: list[Stream]) -> None:
    process = Process(time.monotonic_ns)
    first, second = join(process, streams, 1, 1)
    first.send()
    assert process.turns.take(0) is not None
    sender = threading.Timer(0.05, second.send)
    sender.start()
    ((stream, _),) = process.turns.take_more(1, seconds=30)
    sender.join()
    assert stream is second
