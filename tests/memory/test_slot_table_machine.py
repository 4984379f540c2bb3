"""Producer, consumer and supervisor of one link in every order, dying between any two stores and overtaken in scans."""

import os

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.memory.slab import Slab, create_slab
from pipeline.memory.slot_table import (
    FREE,
    IN_USE,
    READY,
    ConsumerTable,
    Outcome,
    ProducerTable,
    SupervisorTable,
    link_bytes,
)
from tests.memory.watched_words import Life, survives, watch

SLOT_BYTES = 8
DYING = st.sampled_from([*[None] * 10, *range(10)])
"""After how many stores a process dies in the move; None: it survives."""


class LinkMachine(RuleBasedStateMachine):
    """`choose` is the consumer's policy."""

    @initialize(slots=st.integers(2, 6))
    def make(self, slots):
        self.slots = slots
        self.fd = create_slab("test", link_bytes(slots, SLOT_BYTES))
        self.producer = self.attach(ProducerTable)
        self.consumer = self.attach(ConsumerTable)
        self.supervisor = self.attach(SupervisorTable)
        self.producer_died = self.consumer_died = False
        self.filling = self.in_use = None
        self.newest_taken = -1
        self.finished = set()  # sequence numbers of frames whose end the consumer saw
        self.numbers = 0  # sequence numbers given away

    def attach(self, kind):
        return kind(Slab(self.fd), self.slots, SLOT_BYTES)

    def teardown(self):
        if not hasattr(self, "numbers"):
            return
        if self.producer_died:
            self.reclaim_producer()
        if self.consumer_died:
            self.reclaim_consumer()
        if self.filling is not None:
            self.publish(None)
        while self.in_use is not None or self.consumer.ready():
            if self.in_use is None:
                self.take(None, None, None)
            self.finish(Outcome.DELIVERED, None)
        self.every_frame_is_counted()
        assert self.supervisor.in_flight() == 0, "a slot leaked"
        assert self.supervisor.abandon() == 0
        os.close(self.fd)

    # The producer

    @precondition(lambda self: not self.producer_died and self.filling is None and self.producer.free_slot())
    @rule(dying=DYING)
    def begin(self, dying):
        slot = self.producer.free_slot()
        seq = self.producer.next_seq()
        assert seq == self.numbers, "a number was skipped or given twice"
        watch(self.producer, Life(dying))
        if survives(lambda: self.producer.begin(slot, seq, 3000 * seq, 0, 0, owner=1)):
            self.filling = slot
        else:
            self.producer_died = True
        self.numbers += dying is None or dying > 0

    @precondition(lambda self: self.filling is not None)
    @rule(dying=DYING)
    def publish(self, dying):
        slot, self.filling = self.filling, None
        watch(self.producer, Life(dying))
        self.producer_died = not survives(lambda: self.producer.publish(slot, 0))

    @precondition(lambda self: not self.producer_died and self.filling is None)
    @rule(dying=DYING)
    def drop(self, dying):
        watch(self.producer, Life(dying))
        self.producer_died = not survives(lambda: self.producer.drop(Outcome.NO_SLOT))
        self.numbers += dying is None or dying > 0

    @precondition(lambda self: not self.producer_died)
    @rule()
    def kill_producer(self):
        self.producer_died, self.filling = True, None

    @rule()
    def publish_next(self):
        """A whole frame at once, while somebody else is in the middle of something."""
        if not self.producer_died and self.filling is None and self.producer.free_slot():
            self.begin(None)
            self.publish(None)

    # The consumer

    @precondition(lambda self: not self.consumer_died and self.in_use is None)
    @rule(dying=DYING, overtaken_at=st.none() | st.integers(0, 9), frames=st.integers(1, 4))
    def take(self, dying, overtaken_at, frames):
        words = watch(self.consumer, Life(dying))
        if overtaken_at is not None:
            words.overtake_at = overtaken_at
            words.overtake = lambda: [self.publish_next() for _ in range(frames)]
        self.consumer_died = not survives(self.take_by_policy)
        words.overtake_at = -1

    def scan(self):
        ready = self.consumer.ready()
        if ready:
            older = {slot.seq for slot in self.supervisor.slots if slot.state == READY and slot.seq < ready[-1].seq}
            assert older == {slot.seq for slot in ready[:-1]}, "a newer frame was seen without an older one"
        return ready

    def take_by_policy(self):
        raise NotImplementedError

    def take_slot(self, slot):
        seq, attempts = slot.seq, slot.attempts
        assert seq not in self.finished, "a frame was given out again"
        assert seq > self.newest_taken or attempts > 0, "frames went backwards"
        self.consumer.take(slot, owner=1)
        self.newest_taken = max(self.newest_taken, seq)
        self.in_use = slot

    @precondition(lambda self: self.in_use is not None)
    @rule(dying=st.sampled_from((None, 0, 1)))
    def commit(self, dying):
        slot = self.in_use
        watch(self.consumer, Life(dying))
        if not survives(lambda: self.consumer.commit(slot)):
            self.consumer_died, self.in_use = True, None

    @precondition(lambda self: self.in_use is not None)
    @rule(outcome=st.sampled_from((Outcome.DELIVERED, Outcome.PROCESSOR_ERROR)), dying=DYING)
    def finish(self, outcome, dying):
        slot, self.in_use = self.in_use, None
        watch(self.consumer, Life(dying))
        self.consumer_died = not survives(lambda: self.finish_slot(slot, outcome))

    def finish_slot(self, slot, outcome):
        seq, life = slot.seq, self.consumer._words.life
        stored, before = life.stored, self.supervisor.count(outcome)
        try:
            self.consumer.finish(slot, outcome)
            assert self.supervisor.count(outcome) == before + 1
        finally:
            if life.stored - stored >= 4:  # The journal has it, whatever happens now.
                self.finished.add(seq)

    @precondition(lambda self: not self.consumer_died)
    @rule()
    def kill_consumer(self):
        self.consumer_died, self.in_use = True, None

    # The supervisor

    @precondition(lambda self: self.producer_died)
    @rule()
    def reclaim_producer(self):
        self.supervisor.reclaim_producer(Outcome.CRASH)
        assert self.supervisor.reclaim_producer(Outcome.CRASH) == 0
        self.producer, self.producer_died = self.attach(ProducerTable), False
        assert self.producer.published >= self.newest_taken + 1

    @precondition(lambda self: self.consumer_died)
    @rule()
    def reclaim_consumer(self):
        before = self.supervisor.count(Outcome.CRASH) + self.supervisor.count(Outcome.POISON)
        _, dropped = self.supervisor.reclaim_consumer()
        after = self.supervisor.count(Outcome.CRASH) + self.supervisor.count(Outcome.POISON)
        assert after == before + dropped
        assert self.supervisor.reclaim_consumer() == (0, 0)
        assert all(slot.state != IN_USE for slot in self.supervisor.slots)
        self.consumer, self.consumer_died, self.in_use = self.attach(ConsumerTable), False, None

    # Always

    @invariant()
    def every_frame_is_counted(self):
        if not hasattr(self, "numbers") or self.consumer_died:
            return  # Between a death and its reclaiming one step may be half done.
        table = self.supervisor
        assert table.begun() + table.dropped_before_slot() == self.numbers
        assert self.numbers == sum(table.counts().values()) + table.in_flight()

    @invariant()
    def a_held_slot_is_held(self):
        if hasattr(self, "numbers"):
            held = [slot.index for slot in (self.filling, self.in_use) if slot is not None]
            assert all(self.supervisor.slots[index].state != FREE for index in held)


class BlockMachine(LinkMachine):
    def take_by_policy(self):
        ready = self.scan()
        if ready:
            self.take_slot(ready[0])


class LatestMachine(LinkMachine):
    def take_by_policy(self):
        ready = self.scan()
        for slot in ready[:-1]:
            self.consumer.take(slot, owner=1)
            self.finish_slot(slot, Outcome.LATE)
        if ready:
            self.take_slot(ready[-1])


SETTINGS = settings(max_examples=500, stateful_step_count=40, deadline=None)
TestBlock = BlockMachine.TestCase
TestBlock.settings = SETTINGS
TestLatest = LatestMachine.TestCase
TestLatest.settings = SETTINGS
