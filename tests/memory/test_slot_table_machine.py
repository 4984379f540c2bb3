"""A link, and a chain of two, with all their parties in every order: dying between any two stores, overtaken in scans.

The model knows what became of every frame number; the tables must say the same.
"""

import os
from collections import Counter

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.memory.slab import Slab, create_slab
from pipeline.memory.slot_table import (
    FILLING,
    IN_USE,
    MAX_ATTEMPTS,
    READY,
    ConsumerTable,
    Outcome,
    ProducerTable,
    SupervisorTable,
    link_bytes,
)
from tests.memory.watched_words import Life, survives, watch

SLOT_BYTES = 8
DYING = st.sampled_from([*[None] * 20, *range(10)])
"""After how many stores a process dies in the move; None: it survives."""

DYING_ON_THE_WAY = st.none() | st.integers(0, 22)
"""The same for all the moves that one frame needs."""

SLOTS = st.integers(2, 6)
OVERTAKEN_AT = st.none() | st.integers(0, 9)
"""Before which load of a scan others come in between."""

FRAMES = st.integers(1, 4)
JOURNAL_STORES = 4
"""After so many stores of `finish` the frame has ended, whatever happens then."""


class Link:
    """The memory of a link, and what the consumers of all times made of the frames on it."""

    def __init__(self, slots, policy):
        self.slots = slots
        self.policy = policy
        self.fd = create_slab("test", link_bytes(slots, SLOT_BYTES))
        self.table = self.attach(SupervisorTable)
        self.newest_taken = -1
        self.ended = set()  # numbers that a consumer was done with
        self.committed = set()
        self.deaths = Counter()  # by the number that the consumer had in hand

    def attach(self, kind):
        return kind(Slab(self.fd), self.slots, SLOT_BYTES)

    def in_state(self, state):
        return [slot for slot in self.table.slots if slot.state == state]


class Process:
    """A stage at the end of one link, of the other, or between both."""

    def __init__(self, reads=None, writes=None):
        self.reads, self.writes = reads, writes
        self.stored = 0
        self.start()

    def start(self):
        """At first, or in another's place."""
        self.consumer = self.reads and self.reads.attach(ConsumerTable)
        self.producer = self.writes and self.writes.attach(ProducerTable)
        self.died = False
        self._let_go()

    def does(self, move, dying, overtaken_at=None, overtake=None):
        """Whether it lives to see the end of `move`."""
        self.life = Life(dying)
        words = [watch(table, self.life) for table in (self.consumer, self.producer) if table is not None]
        if overtaken_at is not None:
            words[0].overtake_at, words[0].overtake = overtaken_at, overtake
        if not survives(move):
            self.dies()
        words[0].overtake_at = -1
        self.stored += self.life.stored
        return not self.died

    def dies(self):
        self.died = True
        self._let_go()

    def _let_go(self):
        self.in_use = self.filling = None
        self.passed_on = False  # what is in use was published on the other link

    @property
    def idle(self):
        return not self.died and self.in_use is None and self.filling is None


class LinkMachine(RuleBasedStateMachine):
    """A source and a sink; between them one link, which is both the first and the last."""

    policy = "block"

    @initialize(slots=SLOTS)
    def make(self, slots):
        self.first = self.last = Link(slots, self.policy)
        self.start()

    def start(self):
        self.links = list(dict.fromkeys((self.first, self.last)))
        self.source = Process(writes=self.first)
        self.sink = Process(reads=self.last)
        self.processes = [self.source, self.sink]
        self.numbers = 0  # sequence numbers given away
        self.fates = {}  # what became of them
        self.newest_shown = -1

    def teardown(self):
        if not hasattr(self, "numbers"):
            return
        self.drain()
        self.every_frame_is_counted()
        assert sorted(self.fates) == list(range(self.numbers)), "a frame has vanished"
        for link in self.links:
            assert link.table.in_flight() == 0, "a slot leaked"
            assert link.table.abandon() == 0
            os.close(link.fd)

    def drain(self):
        while not self.source.idle:
            self.source_goes_on(None)
        while not self.sink.idle or self.last.in_state(READY):
            self.sink_goes_on(None)

    def ends(self, seq, outcome):
        assert seq not in self.fates, "a frame ended twice"
        self.fates[seq] = outcome

    # The source

    @rule(dying=DYING)
    def source_goes_on(self, dying):
        """Its next step, whatever that is; for a dead one, another in its place."""
        if self.source.died:
            self.replace_source()
        elif self.source.filling is not None:
            self.publish(self.source, dying)
        elif self.source.producer.free_slot() is not None:
            self.begin(dying)

    def begin(self, dying):
        source = self.source
        slot, seq = source.producer.free_slot(), source.producer.next_seq()
        assert seq == self.numbers, "a number was skipped or given twice"
        if source.does(lambda: source.producer.begin(slot, seq, 3000 * seq, 0, 0, owner=1), dying):
            source.filling = slot
        self.numbers += dying is None or dying > 0

    def publish(self, process, dying):
        slot, process.filling = process.filling, None
        return process.does(lambda: process.producer.publish(slot, 0), dying)

    @precondition(lambda self: self.source.idle)
    @rule(dying=DYING)
    def source_drops(self, dying):
        self.source.does(lambda: self.source.producer.drop(Outcome.NO_SLOT), dying)
        if dying is None or dying > 0:
            self.ends(self.numbers, Outcome.NO_SLOT)
            self.numbers += 1

    @rule(dying=DYING_ON_THE_WAY)
    def publish_next(self, dying=None):
        """A whole frame at once, perhaps while somebody else is in the middle of something."""
        self.goes_on(self.source, self.source_goes_on, 2, dying)

    def goes_on(self, process, step, steps, dying):
        """Several steps of a living process at once, in which it makes `dying` stores."""
        for _ in range(steps):
            if process.died:
                return
            stored = process.stored
            step(dying)
            dying = None if dying is None else dying - (process.stored - stored)

    # The sink

    @rule(dying=DYING, overtaken_at=OVERTAKEN_AT, frames=FRAMES)
    def sink_goes_on(self, dying, overtaken_at=None, frames=0):
        """Its next step, whatever that is; for a dead one, another in its place."""
        if self.sink.died:
            self.replace_sink()
        elif self.sink.in_use is not None:
            self.finish(self.sink, Outcome.DELIVERED, dying)
        else:
            self.take(self.sink, dying, overtaken_at, lambda: [self.send_next() for _ in range(frames)])

    @precondition(lambda self: self.sink.in_use is not None)
    @rule(dying=st.sampled_from((None, 0)))
    def sink_commits(self, dying):
        seq = self.sink.in_use.seq
        if self.sink.does(lambda: self.sink.consumer.commit(self.sink.in_use), dying):
            assert seq > self.newest_shown or seq in self.last.committed, "frames were shown twice or out of order"
            self.newest_shown = seq
            self.last.committed.add(seq)

    @precondition(lambda self: self.sink.in_use is not None)
    @rule(dying=DYING)
    def sink_fails(self, dying):
        self.finish(self.sink, Outcome.PROCESSOR_ERROR, dying)

    @rule(dying=DYING_ON_THE_WAY)
    def deliver_next(self, dying=None):
        """A whole frame at once, or what is left to do for the one in hand."""
        self.goes_on(self.sink, self.sink_goes_on, 2, dying)

    def send_next(self):
        """What brings a frame to the sink while it looks."""
        self.publish_next()

    def take(self, process, dying, overtaken_at=None, overtake=None):
        return process.does(lambda: self.take_by_policy(process), dying, overtaken_at, overtake)

    def take_by_policy(self, process):
        slot = self.skim(process) if process.reads.policy == "latest" else process.consumer.oldest()
        if slot is not None:
            self.take_slot(process, slot)

    def skim(self, process):
        ready = process.consumer.ready()
        if not ready:
            return None
        older = {slot.seq for slot in process.reads.in_state(READY) if slot.seq < ready[-1].seq}
        assert older == {slot.seq for slot in ready[:-1]}, "a newer frame was seen without an older one"
        for slot in ready[:-1]:
            process.consumer.take(slot, owner=1)
            self.finish_slot(process, slot, Outcome.LATE)
        return ready[-1]

    def take_slot(self, process, slot):
        link, seq = process.reads, slot.seq
        assert seq not in link.ended, "a frame was given out again"
        assert seq > link.newest_taken or slot.attempts > 0, "frames went backwards"
        assert link.policy == "latest" or seq == min(ready.seq for ready in link.in_state(READY)), "one was overtaken"
        process.consumer.take(slot, owner=1)
        link.newest_taken = max(link.newest_taken, seq)
        process.in_use = slot

    def finish(self, process, outcome, dying):
        slot, process.in_use, process.passed_on = process.in_use, None, False
        return process.does(lambda: self.finish_slot(process, slot, outcome), dying)

    def finish_slot(self, process, slot, outcome):
        link, seq, stored = process.reads, slot.seq, process.life.stored
        before = link.table.count(outcome)
        try:
            process.consumer.finish(slot, outcome)
            assert link.table.count(outcome) == before + 1
        finally:
            if process.life.stored - stored >= JOURNAL_STORES:
                self.leaves(link, seq, outcome)

    def leaves(self, link, seq, outcome):
        """A consumer is done with a frame; unless it goes on over the next link, the frame has ended."""
        link.ended.add(seq)
        if link is self.last or outcome.is_drop:
            self.ends(seq, outcome)

    # The supervisor

    def replace_source(self):
        if self.reclaim_writer(self.first, Outcome.CRASH):
            self.ends(self.numbers - 1, Outcome.CRASH)
        self.source.start()

    def reclaim_writer(self, link, outcome):
        slots = link.table.reclaim_producer(outcome)
        assert slots <= 1
        assert link.table.reclaim_producer(outcome) == 0
        assert not link.in_state(FILLING)
        assert link.table.published >= link.newest_taken + 1
        return slots

    def replace_sink(self):
        self.reclaim_reader(self.last)
        self.skim_for_reader(self.last)
        self.sink.start()

    def skim_for_reader(self, link):
        """In the place of a reader of the newest frame that is away."""
        if link.policy == "latest":
            self.publish_next()
            late = sorted(slot.seq for slot in link.in_state(READY))[:-1]
            assert link.table.skim() == len(late)
            for seq in late:
                self.leaves(link, seq, Outcome.LATE)

    def reclaim_reader(self, link, passed_on=0):
        """Says beforehand what the supervisor must do with each frame, by what the model knows of it."""
        retried, dropped = [], []
        for slot in link.in_state(IN_USE):
            seq = slot.seq
            if seq in link.ended:
                continue
            link.deaths[seq] += 1
            if seq < passed_on:
                self.leaves(link, seq, Outcome.DELIVERED)
            elif seq in link.committed or link.deaths[seq] == MAX_ATTEMPTS:
                self.leaves(link, seq, Outcome.CRASH if seq in link.committed else Outcome.POISON)
                dropped.append(seq)
            else:
                retried.append(seq)
        assert link.table.reclaim_consumer(passed_on) == (len(retried), len(dropped))
        assert link.table.reclaim_consumer(passed_on) == (0, 0)
        assert not link.in_state(IN_USE)
        assert set(retried) <= {slot.seq for slot in link.in_state(READY)}

    @rule(process=st.sampled_from(("source", "sink")))
    def kill(self, process):
        getattr(self, process).dies()

    # Always

    def quiet(self):
        """Between the death of a consumer and its reclaiming one step may be half done."""
        return not self.sink.died

    def in_flight(self):
        return self.last.table.in_flight()

    @invariant()
    def every_frame_is_counted(self):
        if not self.quiet():
            return
        for link in self.links:
            table = link.table
            assert table.begun() + table.dropped_before_slot() == sum(table.counts().values()) + table.in_flight()
        assert self.first.table.begun() + self.first.table.dropped_before_slot() == self.numbers
        assert self.numbers == len(self.fates) + self.in_flight()
        counted = {outcome: sum(link.table.count(outcome) for link in self.links) for outcome in Outcome}
        counted[Outcome.DELIVERED] = self.last.table.count(Outcome.DELIVERED)
        del counted[Outcome.RETRY]
        assert Counter(self.fates.values()) == Counter(counted)

    @invariant()
    def a_held_slot_is_held(self):
        for process in self.processes:
            assert process.filling is None or process.filling.state == FILLING
            assert process.in_use is None or process.in_use.state == IN_USE


class BlockMachine(LinkMachine):
    policy = "block"


class LatestMachine(LinkMachine):
    policy = "latest"


class ChainMachine(LinkMachine):
    """A middle between two links: what it takes from the first it publishes on the last, and then gives it back."""

    @initialize(first_slots=SLOTS, last_slots=SLOTS, policy=st.sampled_from(("block", "latest")))
    def make(self, first_slots, last_slots, policy):
        self.first, self.last = Link(first_slots, policy), Link(last_slots, "block")
        self.start()
        self.middle = Process(reads=self.first, writes=self.last)
        self.processes.append(self.middle)

    def drain(self):
        super().drain()
        while not self.middle.idle or self.first.in_state(READY):
            self.middle_goes_on(None)
            super().drain()

    @rule(dying=DYING, overtaken_at=OVERTAKEN_AT, frames=FRAMES, others_go_on=st.booleans())
    def middle_goes_on(self, dying, overtaken_at=None, frames=0, others_go_on=False):
        """Its next step, whatever that is; for a dead one, another in its place."""
        middle = self.middle
        if middle.died:
            self.replace_middle(others_go_on)
        elif middle.passed_on:
            self.finish(middle, Outcome.DELIVERED, dying)
        elif middle.filling is not None:
            middle.passed_on = self.publish(middle, dying)
        elif middle.in_use is None:
            self.take(middle, dying, overtaken_at, lambda: [self.publish_next() for _ in range(frames)])
        elif middle.producer.free_slot() is not None:
            self.begin_again(dying)

    def begin_again(self, dying):
        middle, held = self.middle, self.middle.in_use
        slot = middle.producer.free_slot()
        if middle.does(lambda: middle.producer.begin(slot, held.seq, held.pts, 0, 0, owner=1), dying):
            middle.filling = slot

    @precondition(lambda self: self.middle.in_use and not self.middle.filling and not self.middle.passed_on)
    @rule(dying=DYING)
    def middle_fails(self, dying):
        self.finish(self.middle, Outcome.PROCESSOR_ERROR, dying)

    @rule(dying=DYING_ON_THE_WAY)
    def pass_next_on(self, dying=None):
        """A whole frame at once, or what is left to do for the one in hand."""
        self.goes_on(self.middle, self.middle_goes_on, 4, dying)

    def send_next(self):
        self.publish_next()
        self.pass_next_on()

    def replace_middle(self, others_go_on):
        """The output first: it says up to where the input had been passed on."""
        self.reclaim_writer(self.last, Outcome.RETRY)
        if others_go_on:
            self.publish_next()
            self.deliver_next()
        self.reclaim_reader(self.first, self.last.table.published)
        self.skim_for_reader(self.first)
        self.middle.start()

    @rule()
    def kill_middle(self):
        self.middle.dies()

    def quiet(self):
        return super().quiet() and not self.middle.died

    def in_flight(self):
        """A frame that the middle has in hand may be in a slot of both links, or in one and delivered already."""
        passed_on = self.last.table.published
        twice = len(self.last.in_state(FILLING)) + sum(slot.seq < passed_on for slot in self.first.in_state(IN_USE))
        return sum(link.table.in_flight() for link in self.links) - twice


SETTINGS = settings(max_examples=400, stateful_step_count=40, deadline=None)
TestBlock = BlockMachine.TestCase
TestBlock.settings = SETTINGS
TestLatest = LatestMachine.TestCase
TestLatest.settings = SETTINGS
TestChain = ChainMachine.TestCase
TestChain.settings = settings(SETTINGS, stateful_step_count=60)
