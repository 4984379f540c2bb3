"""A frame that becomes several pictures: in order, the frame counted once, the added ones apart, whatever dies."""

import pytest

from pipeline.memory.slot_table import (
    FILLING,
    FREE,
    MAX_PARTS,
    PART_BITS,
    READY,
    ConsumerTable,
    Outcome,
    ProducerTable,
)
from tests.memory.test_slot_table import BEGIN_STORES, FINISH_STORES, PUBLISH_STORES, TAKE_STORES, Link
from tests.memory.watched_words import Life, survives, watch


@pytest.fixture
def link():
    return Link()


def hand_over(link, seq, part, *, added):
    slot = link.producer.free_slot()
    verdict = Outcome.ADDED if added else Outcome.DELIVERED
    link.producer.begin(slot, seq, 3000 * seq + 100 * part, 0, 1, 1, 2, 2, verdict, part)
    link.producer.publish(slot, 2)
    return slot


def test_pictures_of_one_frame_come_in_their_order_and_share_its_number(link):
    hand_over(link, 6, 0, added=False)
    hand_over(link, 7, 0, added=True)
    hand_over(link, 7, 1, added=True)
    hand_over(link, 7, 2, added=False)
    ready = link.consumer.ready()
    assert [slot.seq for slot in ready] == [6, 7, 7, 7]
    assert [slot.order & MAX_PARTS - 1 for slot in ready] == [0, 0, 1, 2]


def test_a_frame_is_published_by_its_own_picture_and_by_no_other(link):
    hand_over(link, 6, 0, added=False)
    hand_over(link, 7, 0, added=True)
    assert link.supervisor.published == 7
    link.supervisor.reclaim_producer(Outcome.RETRY)
    assert link.supervisor.published == 7
    hand_over(link, 7, 1, added=False)
    assert link.supervisor.published == 8


@pytest.mark.parametrize("outcome", [Outcome.DELIVERED, Outcome.LATE])
def test_an_added_picture_is_counted_as_that_whatever_becomes_of_it(link, outcome):
    hand_over(link, 0, 0, added=True)
    link.consumer.finish(link.take(), outcome)
    assert {outcome for outcome, count in link.supervisor.counts().items() if count} == {Outcome.ADDED}


def test_an_added_picture_that_kills_its_consumers_is_no_dropped_frame(link):
    hand_over(link, 0, 0, added=True)
    for _ in range(2):
        link.take()
        link.supervisor.reclaim_consumer()
    assert link.states() == [FREE] * 4
    assert link.supervisor.count(Outcome.POISON) == 0
    assert link.supervisor.count(Outcome.ADDED) == 1


def test_the_next_picture_may_be_another_of_the_same_frame(link):
    added = hand_over(link, 3, 0, added=True)
    assert link.consumer.order_after(added) == 3 << PART_BITS | 1
    own = hand_over(link, 3, 1, added=False)
    assert link.consumer.order_after(own) == 4 << PART_BITS


def test_added_pictures_in_flight_are_told_from_frames(link):
    hand_over(link, 0, 0, added=True)
    hand_over(link, 0, 1, added=False)
    assert link.supervisor.in_flight() == 2
    assert link.supervisor.added_in_flight() == 1


def double(incoming, outgoing):
    """What inference does with one frame of which it makes two pictures."""
    source = incoming.take()
    hand_over(outgoing, source.seq, 0, added=True)
    hand_over(outgoing, source.seq, 1, added=False)
    incoming.consumer.finish(source, Outcome.DELIVERED)


BEGIN_AND_PUBLISH = BEGIN_STORES + PUBLISH_STORES
DOUBLE_STORES = TAKE_STORES + 2 * BEGIN_AND_PUBLISH - 1 + FINISH_STORES
"""An added picture's publishing leaves one store out."""


@pytest.mark.parametrize("stores", range(DOUBLE_STORES + 1))
def test_a_frame_of_two_pictures_crosses_a_stage_that_dies_exactly_once(stores):
    incoming, outgoing = Link(), Link(slots=8)
    incoming.publish()
    incoming.publish()
    double(incoming, outgoing)
    life = Life(stores)
    watch(incoming.consumer, life)
    watch(outgoing.producer, life)
    assert survives(lambda: double(incoming, outgoing)) == (stores == DOUBLE_STORES)

    outgoing.supervisor.reclaim_producer(Outcome.RETRY)
    incoming.supervisor.reclaim_consumer(outgoing.supervisor.published)
    incoming.consumer, outgoing.producer = incoming.attach(ConsumerTable), outgoing.attach(ProducerTable)
    while incoming.consumer.ready():
        double(incoming, outgoing)

    own = [slot.seq for slot in outgoing.consumer.ready() if slot.verdict is Outcome.DELIVERED]
    assert own == [0, 1]
    assert incoming.supervisor.count(Outcome.DELIVERED) == 2
    assert incoming.states() == [FREE] * 4
    assert FILLING not in outgoing.states()
    assert outgoing.states().count(READY) == outgoing.supervisor.in_flight()
    incoming.assert_balanced()
    outgoing.assert_balanced()
