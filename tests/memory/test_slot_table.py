import os
import weakref

import pytest

from pipeline.memory.slab import PAGE_BYTES, Slab, create_slab
from pipeline.memory.slot_table import (
    FILLING,
    FREE,
    IN_USE,
    MAX_ATTEMPTS,
    NO_SEQ,
    NOTE_WORDS,
    READY,
    ConsumerTable,
    Outcome,
    ProducerTable,
    SlotTable,
    SupervisorTable,
    link_bytes,
)
from tests.memory.watched_words import Life, survives, watch

SLOTS, SLOT_BYTES = 4, 64
BEGIN_STORES, PUBLISH_STORES, TAKE_STORES, FINISH_STORES = 12, 4, 3, 6


class Link:
    """One link as its three parties have it mapped."""

    def __init__(self, slots=SLOTS):
        self.fd = create_slab("test", link_bytes(slots, SLOT_BYTES))
        weakref.finalize(self, os.close, self.fd)
        self.slots = slots
        self.producer = self.attach(ProducerTable)
        self.consumer = self.attach(ConsumerTable)
        self.supervisor = self.attach(SupervisorTable)

    def attach(self, kind):
        """A process that starts, at first or in another's place."""
        return kind(Slab(self.fd), self.slots, SLOT_BYTES)

    def begin(self, seq=None, slot=None):
        seq = self.producer.next_seq() if seq is None else seq
        slot = slot or self.producer.free_slot()
        self.producer.begin(slot, seq, 3000 * seq, 0, 1, owner=1)
        return slot

    def publish(self, seq=None, slot=None):
        slot = self.begin(seq, slot)
        self.producer.publish(slot, 2)
        return slot

    def deliver(self):
        """The consumer takes the oldest frame and is done with it."""
        slot = self.consumer.ready()[0]
        self.consumer.take(slot, owner=1)
        self.consumer.finish(slot, Outcome.DELIVERED)

    def take(self):
        slot = self.consumer.ready()[0]
        self.consumer.take(slot, owner=1)
        return slot

    def producer_dies(self, stores, move):
        watch(self.producer, Life(stores))
        died = not survives(move)
        self.producer = self.attach(ProducerTable)
        return died

    def consumer_dies(self, stores, move):
        watch(self.consumer, Life(stores))
        died = not survives(move)
        self.consumer = self.attach(ConsumerTable)
        return died

    def states(self):
        return [slot.state for slot in self.supervisor.slots]

    def assert_balanced(self):
        table = self.supervisor
        assert table.begun() + table.dropped_before_slot() == sum(table.counts().values()) + table.in_flight()


@pytest.fixture
def link():
    return Link()


@pytest.fixture
def used_link():
    """A link on which every slot has held a frame before: the records are full of old news."""
    link = Link()
    slots = [link.publish() for _ in range(SLOTS)]
    assert len({slot.index for slot in slots}) == SLOTS
    for _ in range(SLOTS):
        link.deliver()
    return link


# Layout


def test_every_slot_starts_on_a_page_behind_the_table():
    slab = Slab(create_slab("test", link_bytes(3, 100)))
    table = SlotTable(slab, 3, 100)
    for i, slot in enumerate(table.slots):
        slot.data[:] = bytes([i + 1]) * 100
    assert link_bytes(3, 100) == 4 * PAGE_BYTES
    assert [bytes(slab.buffer[PAGE_BYTES * (i + 1) :][:101]) for i in range(3)] == [
        bytes([i + 1]) * 100 + b"\0" for i in range(3)
    ]


def test_pixels_never_reach_the_table():
    link = Link(slots=64)
    for slot in link.producer.slots:
        slot.data[:] = b"\xff" * SLOT_BYTES
    assert link.states() == [FREE] * 64
    assert link.supervisor.begun() == 0
    assert set(link.supervisor.counts().values()) == {0}


def test_a_slab_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="too small for 4 slots of 5000 bytes"):
        SlotTable(Slab(create_slab("test", link_bytes(3, 5000))), 4, 5000)


def test_every_outcome_has_a_count_of_its_own_for_each_party(link):
    for n, outcome in enumerate(Outcome):
        for _ in range(n):
            link.producer.drop(outcome)
        link.publish()
        link.take()
        link.consumer.finish(link.consumer.slots[0], outcome)
        link.begin()
        link.supervisor.reclaim_producer(outcome)
    assert link.supervisor.counts() == {outcome: n + 2 for n, outcome in enumerate(Outcome)}
    link.assert_balanced()


def test_only_frames_that_nobody_will_see_are_drops():
    assert [outcome for outcome in Outcome if not outcome.is_drop] == [Outcome.DELIVERED, Outcome.RETRY]


# Moves


def test_a_frame_goes_around_once(link):
    slot = link.producer.free_slot()
    link.producer.begin(slot, 7, 21_000, 2, 111, owner=5)
    assert link.states() == [FILLING, FREE, FREE, FREE]
    link.producer.publish(slot, 222)
    (seen,) = link.consumer.ready()
    assert (seen.index, seen.generation, seen.state) == (0, 1, READY)
    assert (seen.seq, seen.pts, seen.epoch, seen.attempts) == (7, 21_000, 2, 0)
    assert (seen.arrived_ns, seen.ready_ns, seen.owner) == (111, 222, 5)
    link.consumer.take(seen, owner=9)
    assert (seen.state, seen.owner, seen.generation) == (IN_USE, 9, 1)
    assert link.consumer.ready() == []
    link.consumer.finish(seen, Outcome.DELIVERED)
    assert link.states() == [FREE] * SLOTS
    assert link.supervisor.count(Outcome.DELIVERED) == 1
    link.assert_balanced()


def test_each_life_of_a_slot_has_a_generation_of_its_own(link):
    for generation in range(1, 4):
        assert link.publish().generation == generation
        link.deliver()


def test_there_is_no_slot_when_all_are_held(link):
    for _ in range(SLOTS):
        link.publish()
    assert link.producer.free_slot() is None
    link.deliver()
    assert link.producer.free_slot().index == 0


def test_ready_frames_come_oldest_first_wherever_they_lie(link):
    for seq, index in enumerate((2, 0, 3, 1)):
        link.publish(seq, link.producer.slots[index])
    assert [slot.seq for slot in link.consumer.ready()] == [0, 1, 2, 3]


def test_a_frame_being_filled_is_not_ready(link):
    link.begin()
    assert link.consumer.ready() == []


def test_a_drop_before_a_slot_uses_up_a_number(link):
    link.publish()
    link.producer.drop(Outcome.NO_SLOT)
    assert link.producer.next_seq() == 2
    assert link.supervisor.dropped_before_slot() == 1
    link.assert_balanced()


def test_published_and_last_pts_are_those_of_the_newest_frame(link):
    assert link.supervisor.published == 0
    link.publish()
    link.publish()
    assert (link.supervisor.published, link.supervisor.last_pts) == (2, 3000)


def test_the_end_is_seen_by_all(link):
    assert not link.consumer.ended
    link.producer.end()
    assert link.consumer.ended
    assert link.supervisor.ended


def test_the_supervisor_speaks_for_a_dead_producer(link):
    link.supervisor.end()
    assert link.consumer.ended


def test_notes_are_found_again_by_a_successor(link):
    for index in range(NOTE_WORDS):
        link.producer.note(index, -index - 1)
    successor = link.attach(ProducerTable)
    assert [successor.noted(index) for index in range(NOTE_WORDS)] == [-index - 1 for index in range(NOTE_WORDS)]
    assert set(link.supervisor.counts().values()) == {0}
    assert link.supervisor.published == 0


# A scan is no snapshot


def overtaken_scans(publish_meanwhile):
    """What `ready` gives when the producer publishes at each possible moment of it."""
    load = 0
    while True:
        link = Link(slots=5)
        link.publish(0, link.producer.slots[2])
        words = watch(link.consumer)
        words.overtake_at, words.overtake = load, lambda link=link: publish_meanwhile(link)
        yield [slot.seq for slot in link.consumer.ready()]
        if words.loads <= load:
            return
        load += 1


def test_a_scan_that_is_overtaken_sees_no_frame_without_the_ones_before_it():
    def publish_behind_and_before_the_scan(link):
        link.publish(1, link.producer.slots[0])
        link.publish(2, link.producer.slots[4])

    for seen in overtaken_scans(publish_behind_and_before_the_scan):
        assert seen == list(range(len(seen)))
        assert seen


def test_a_scan_that_begins_with_nothing_ready_finds_the_oldest_first():
    load, finished = 0, False
    while not finished:
        link = Link()
        words = watch(link.consumer)
        words.overtake_at = load
        words.overtake = lambda link=link: (link.publish(0, link.producer.slots[0]), link.publish(1))
        seen = [slot.seq for slot in link.consumer.ready()]
        assert seen == list(range(len(seen)))
        finished, load = words.loads <= load, load + 1


# The producer dies


def test_the_crash_points_below_are_all_there_are(link):
    life = Life()
    watch(link.producer, life)
    watch(link.consumer, life)
    slot = link.producer.free_slot()
    stores = []
    for move in (
        lambda: link.producer.begin(slot, 0, 0, 0, 0, owner=1),
        lambda: link.producer.publish(slot, 0),
        lambda: link.producer.drop(Outcome.NO_SLOT),
        lambda: link.consumer.take(link.consumer.slots[0], owner=1),
        lambda: link.consumer.commit(link.consumer.slots[0]),
        lambda: link.consumer.finish(link.consumer.slots[0], Outcome.DELIVERED),
    ):
        before = life.stored
        move()
        stores.append(life.stored - before)
    assert stores == [BEGIN_STORES, PUBLISH_STORES, 1, TAKE_STORES, 1, FINISH_STORES]


@pytest.mark.parametrize("outcome", [Outcome.CRASH, Outcome.RETRY])
@pytest.mark.parametrize("stores", range(BEGIN_STORES + 1))
def test_a_frame_begun_is_counted_from_the_first_store_on(used_link, stores, outcome):
    link = used_link
    begun = int(stores > 0)
    link.producer_dies(stores, link.begin)
    assert link.producer.next_seq() == SLOTS + begun
    assert link.supervisor.reclaim_producer(outcome) == begun
    assert link.supervisor.count(outcome) == begun
    assert link.states() == [FREE] * SLOTS
    assert (link.supervisor.published, link.supervisor.last_pts) == (SLOTS, 3000 * (SLOTS - 1))
    assert link.supervisor.reclaim_producer(outcome) == 0
    link.assert_balanced()


@pytest.mark.parametrize("consumed", [False, True])
@pytest.mark.parametrize("stores", range(PUBLISH_STORES + 1))
def test_a_frame_is_published_whole_or_not_at_all(used_link, stores, consumed):
    link = used_link
    slot = link.begin()
    whole = stores >= 2
    link.producer_dies(stores, lambda: link.producer.publish(slot, 2))
    assert [ready.seq for ready in link.consumer.ready()] == [SLOTS] * whole
    if whole and consumed:
        link.deliver()
    assert link.supervisor.reclaim_producer(Outcome.CRASH) == (not whole)
    assert link.supervisor.published == SLOTS + whole
    assert link.supervisor.last_pts == 3000 * (SLOTS - 1 + whole)
    assert link.producer.next_seq() == SLOTS + 1
    assert link.supervisor.reclaim_producer(Outcome.CRASH) == 0
    link.assert_balanced()


def test_a_reclaimed_frame_never_counts_as_published(link):
    """The record of a frame that was begun still holds its number when the slot is freed."""
    link.begin()
    link.supervisor.reclaim_producer(Outcome.CRASH)
    assert link.supervisor.slots[0].seq == NO_SEQ
    link.supervisor.reclaim_producer(Outcome.CRASH)
    assert link.supervisor.published == 0


@pytest.mark.parametrize("stores", [0, 1])
def test_a_drop_is_counted_by_its_one_store(link, stores):
    link.producer_dies(stores, lambda: link.producer.drop(Outcome.NO_SLOT))
    assert link.producer.next_seq() == link.supervisor.count(Outcome.NO_SLOT) == stores
    link.assert_balanced()


def test_reclaiming_a_producer_leaves_ready_frames_and_the_consumer_alone(link):
    link.publish()
    link.publish()
    held = link.take()
    link.begin()
    assert link.supervisor.reclaim_producer(Outcome.CRASH) == 1
    assert [slot.state for slot in link.supervisor.slots[:3]] == [IN_USE, READY, FREE]
    link.consumer.finish(held, Outcome.DELIVERED)
    link.deliver()
    link.assert_balanced()


# The consumer dies


@pytest.mark.parametrize("stores", range(TAKE_STORES + 1))
def test_a_frame_that_was_being_taken_is_tried_again(used_link, stores):
    link = used_link
    link.publish()
    link.consumer_dies(stores, link.take)
    taken = int(stores == TAKE_STORES)
    assert link.supervisor.reclaim_consumer() == (taken, 0)
    assert link.supervisor.reclaim_consumer() == (0, 0)
    assert [(slot.seq, slot.attempts) for slot in link.consumer.ready()] == [(SLOTS, taken)]
    link.deliver()
    assert link.supervisor.count(Outcome.DELIVERED) == SLOTS + 1
    link.assert_balanced()


@pytest.mark.parametrize("stores", range(FINISH_STORES + 1))
@pytest.mark.parametrize("outcome", [Outcome.DELIVERED, Outcome.LATE, Outcome.PROCESSOR_ERROR])
def test_a_frame_is_finished_exactly_once(used_link, stores, outcome):
    link = used_link
    before = link.supervisor.count(outcome)
    link.publish()
    slot = link.take()
    link.consumer_dies(stores, lambda: link.consumer.finish(slot, outcome))
    noted = stores >= 4
    assert link.supervisor.reclaim_consumer() == (not noted, 0)
    assert link.supervisor.reclaim_consumer() == (0, 0)
    assert link.supervisor.count(outcome) == before + noted
    link.assert_balanced()
    if not noted:
        link.consumer.finish(link.take(), outcome)
    assert link.states() == [FREE] * SLOTS
    assert link.supervisor.count(outcome) == before + 1
    link.assert_balanced()


@pytest.mark.parametrize("stores", range(FINISH_STORES + 1))
def test_a_finished_frame_survives_the_death_on_the_next_one(link, stores):
    """The journal still names the frame before: it must not be counted again in place of this one."""
    link.publish()
    link.deliver()
    link.publish()
    link.consumer_dies(stores, link.take)
    link.supervisor.reclaim_consumer()
    assert link.supervisor.count(Outcome.DELIVERED) == 1
    link.deliver()
    assert link.supervisor.count(Outcome.DELIVERED) == 2
    link.assert_balanced()


def test_a_journal_of_an_earlier_life_of_the_slot_is_not_completed(link):
    link.publish()
    link.deliver()
    again = link.publish()
    assert again.index == 0
    link.take()
    assert link.supervisor.reclaim_consumer() == (1, 0)
    assert link.supervisor.count(Outcome.DELIVERED) == 1


@pytest.mark.parametrize(("stores", "reclaimed"), [(0, (1, 0)), (1, (0, 1))])
def test_a_committed_frame_is_rather_lost_than_shown_twice(link, stores, reclaimed):
    link.publish()
    slot = link.take()
    link.consumer_dies(stores, lambda: link.consumer.commit(slot))
    assert link.supervisor.reclaim_consumer() == reclaimed
    assert link.supervisor.count(Outcome.CRASH) == reclaimed[1]
    assert link.supervisor.reclaim_consumer() == (0, 0)
    link.assert_balanced()


def test_a_slot_is_not_committed_by_the_frame_before(link):
    link.publish()
    slot = link.take()
    link.consumer.commit(slot)
    link.consumer.finish(slot, Outcome.DELIVERED)
    link.publish()
    link.take()
    assert link.supervisor.reclaim_consumer() == (1, 0)


def test_a_frame_that_kills_every_consumer_is_poison(link):
    link.publish()
    for death in range(1, MAX_ATTEMPTS + 1):
        link.take()
        poison = int(death == MAX_ATTEMPTS)
        assert link.supervisor.reclaim_consumer() == (1 - poison, poison)
        assert link.supervisor.count(Outcome.POISON) == poison
        link.assert_balanced()
    assert link.states() == [FREE] * SLOTS


def test_a_slot_is_not_blamed_for_the_attempts_on_the_frame_before(link):
    for _ in range(3):
        link.publish()
        link.take()
        assert link.supervisor.reclaim_consumer() == (1, 0)
        link.deliver()
    assert link.supervisor.count(Outcome.POISON) == 0


def test_a_frame_that_was_passed_on_is_delivered_and_not_tried_again(link):
    link.publish()
    link.publish()
    link.take()
    link.take()
    assert link.supervisor.reclaim_consumer(passed_on=1) == (1, 0)
    assert link.supervisor.count(Outcome.DELIVERED) == 1
    assert [slot.seq for slot in link.consumer.ready()] == [1]
    link.assert_balanced()


def test_reclaiming_a_consumer_leaves_the_producer_alone(link):
    link.publish()
    link.take()
    link.publish()
    filling = link.begin()
    link.supervisor.reclaim_consumer()
    assert link.states() == [READY, READY, FILLING, FREE]
    link.producer.publish(filling, 2)
    assert [slot.seq for slot in link.consumer.ready()] == [0, 1, 2]


# A stage between two links dies


def pass_on(incoming, outgoing):
    """What inference does with one frame."""
    source = incoming.take()
    target = outgoing.begin(source.seq)
    outgoing.producer.publish(target, 2)
    incoming.consumer.finish(source, Outcome.DELIVERED)


PASS_ON_STORES = TAKE_STORES + BEGIN_STORES + PUBLISH_STORES + FINISH_STORES


@pytest.mark.parametrize("outgoing_slots", [2, SLOTS])
@pytest.mark.parametrize("stores", range(PASS_ON_STORES + 1))
def test_a_frame_crosses_a_stage_that_dies_exactly_once(stores, outgoing_slots):
    incoming, outgoing = Link(), Link(slots=outgoing_slots)
    for _ in range(3):
        incoming.publish()
    pass_on(incoming, outgoing)
    outgoing.deliver()
    life = Life(stores)
    watch(incoming.consumer, life)
    watch(outgoing.producer, life)
    assert survives(lambda: pass_on(incoming, outgoing)) == (stores == PASS_ON_STORES)

    outgoing.supervisor.reclaim_producer(Outcome.RETRY)
    incoming.supervisor.reclaim_consumer(outgoing.supervisor.published)
    incoming.consumer, outgoing.producer = incoming.attach(ConsumerTable), outgoing.attach(ProducerTable)
    while incoming.consumer.ready():
        pass_on(incoming, outgoing)

    assert [slot.seq for slot in outgoing.consumer.ready()] == [1, 2]
    assert incoming.supervisor.count(Outcome.DELIVERED) == 3
    assert incoming.states() == [FREE] * SLOTS
    incoming.assert_balanced()
    outgoing.assert_balanced()


# The very end


def test_abandoning_frees_whatever_is_left_and_counts_it_once(link):
    for _ in range(3):
        link.publish()
    link.take()
    link.begin()
    assert link.supervisor.abandon() == 4
    assert link.supervisor.count(Outcome.SHUTDOWN) == 4
    assert link.supervisor.abandon() == 0
    assert link.states() == [FREE] * SLOTS
    link.assert_balanced()


@pytest.mark.parametrize("stores", range(FINISH_STORES + 1))
def test_abandoning_completes_what_was_being_finished(link, stores):
    link.publish()
    slot = link.take()
    link.consumer_dies(stores, lambda: link.consumer.finish(slot, Outcome.DELIVERED))
    noted = stores >= 4
    assert link.supervisor.abandon() == (not noted)
    assert link.supervisor.count(Outcome.DELIVERED) == noted
    link.assert_balanced()


def test_a_link_that_is_opened_anew_knows_nothing_of_the_stream_before(link):
    for _ in range(3):
        link.publish()
        link.deliver()
    link.producer.note(3, 77)
    link.producer.end()
    counts = link.supervisor.counts()
    link.supervisor.reopen()
    again = link.attach(ProducerTable)
    assert (again.ended, again.last_pts) == (False, None)
    assert [again.noted(index) for index in range(NOTE_WORDS)] == [0] * NOTE_WORDS
    assert (again.next_seq(), again.published) == (3, 3), "numbers go on"
    assert link.supervisor.counts() == counts
    link.publish()
    assert again.last_pts == 3000 * 3


def test_a_successor_in_the_stream_after_finds_its_own_last_time(link):
    link.publish()
    link.deliver()
    link.supervisor.reopen()
    link.begin()
    link.supervisor.reclaim_producer(Outcome.CRASH)
    assert link.supervisor.last_pts is None
    slot = link.publish()
    assert slot.seq == 2
    assert link.attach(ProducerTable).last_pts == 3000 * 2


def test_what_nobody_will_take_is_thrown_away_and_counted(link):
    held = link.begin()
    for _ in range(2):
        link.publish()
    assert link.supervisor.discard() == 2
    assert link.supervisor.discard() == 0
    assert (link.supervisor.count(Outcome.SHUTDOWN), held.state) == (2, FILLING)
    assert link.supervisor.in_flight() == 1


def test_the_oldest_is_found_at_once_when_its_number_is_expected(link):
    for _ in range(3):
        link.publish()
    assert link.consumer.oldest(expected=0).seq == 0
    link.deliver()
    words = watch(link.consumer)
    assert link.consumer.oldest(expected=1).seq == 1
    found_at_once, words.loads = words.loads, 0
    assert link.consumer.oldest().seq == 1
    assert found_at_once < words.loads


@pytest.mark.parametrize("expected", [NO_SEQ, 0, 2, 99])
def test_what_is_expected_and_not_there_changes_nothing(link, expected):
    link.publish()
    link.producer.drop(Outcome.NO_SLOT)
    link.publish()
    link.deliver()
    assert link.consumer.oldest(expected).seq == 2


def test_a_frame_is_not_to_blame_for_a_death_on_purpose(link):
    link.publish()
    for _ in range(5):
        link.consumer.take(link.consumer.ready()[0], owner=1)
        assert link.supervisor.reclaim_consumer(to_blame=False) == (1, 0)
    link.consumer.take(link.consumer.ready()[0], owner=1)
    assert link.supervisor.reclaim_consumer() == (1, 0)
