"""The slot table of a link: the single source of truth of who owns which slot, and of what became of every frame.

It lies in shared memory in front of the slots and is written by three parties, never two of them the same word at the
same time. It knows nothing of doorbells or policies; those are the link's.

A slot's **state word** holds its generation and its state, so that one store moves both:

    FREE --producer--> FILLING --producer--> READY --consumer--> IN_USE --consumer--> FREE

A party's states are left by that party alone, or by the supervisor once that party is dead and waited for. So no
compare-and-swap is needed: the word is the token of ownership and is stored last (one aligned 8-byte store, ordered on
x86-64; a weakly ordered processor would need a release barrier before it).

How each count stays exact under SIGKILL at any instruction:

- Frames begun: the sum of the generations. The store that begins a frame also counts it.
- Frames that never got a slot: one store each into a counter of the producer's.
- Frames finished: a journal. The consumer notes slot, outcome and the old count, then counts, then frees the slot; the
  supervisor completes a noted step whose slot is still IN_USE, exactly once.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from enum import IntEnum

from pipeline.memory.slab import Slab, page_aligned

FREE, FILLING, READY, IN_USE = range(4)
STATE_NAMES = ("FREE", "FILLING", "READY", "IN_USE")
STATE_BITS = 2
STATE_MASK = (1 << STATE_BITS) - 1
GENERATION_MASK = ~STATE_MASK

MAX_ATTEMPTS = 2
"""Deaths of the consumer on one frame after which the frame is dropped as poison."""

NO_SEQ = -1

PART_BITS = 4
MAX_PARTS = 1 << PART_BITS
"""Pictures that one frame may become."""


class Outcome(IntEnum):
    """What became of a frame on a link. RETRY is no drop: the frame is still held by the link before this one. Nor is
    ADDED: a picture that a processor made besides the frame's own, whatever became of it."""

    DELIVERED = 0
    LATE = 1
    NO_SLOT = 2
    DECODE_ERROR = 3
    PROCESSOR_ERROR = 4
    CRASH = 5
    POISON = 6
    SHUTDOWN = 7
    RETRY = 8
    WITHHELD = 9
    ADDED = 10
    PAUSED = 11

    @property
    def is_drop(self) -> bool:
        return self not in (Outcome.DELIVERED, Outcome.RETRY, Outcome.ADDED)


# Header, in words. Each party has cache lines of its own.
_PRODUCER = 8
_ENDED = _PRODUCER
_PUBLISHED = _PRODUCER + 1  # highest sequence number published, plus 1
_LAST_PTS = _PRODUCER + 2
_OPENED_AT = _PRODUCER + 3  # what _PUBLISHED was when the present stream began
_PRODUCER_COUNTS = _PRODUCER + 8
_NOTES = _PRODUCER + 24  # NOTE_WORDS words that a restarted producer finds again
_CONSUMER = 48
_JOURNAL_KEY = _CONSUMER
_JOURNAL_OUTCOME = _CONSUMER + 1
_JOURNAL_BEFORE = _CONSUMER + 2
_CONSUMER_COUNTS = _CONSUMER + 8
_SUPERVISOR_COUNTS = 80
_HEADER_WORDS = 128

NOTE_WORDS = 16

_now_ns = time.monotonic_ns

# One record, in words: two cache lines. The state word is the first, so its index is the record's own.
_STATE = 0
_ORDER = 1  # the sequence number, and in the low PART_BITS which picture of that frame it is
_PTS = 2
_EPOCH = 3
_ATTEMPTS = 4
_COMMITTED = 5
_OWNER = 6
_ARRIVED_NS = 7
_READY_NS = 8
_HELD_NS = 9
_WIDTH = 10
_HEIGHT = 11
_VERDICT = 12
_CARRIED = 13  # three words, of frames that are traced: see ProducerTable.carry
_RECORD_WORDS = 16


def link_bytes(slots: int, slot_bytes: int) -> int:
    """Size of the slab that holds a table and `slots` slots of `slot_bytes` bytes, every slot page-aligned."""
    return _table_bytes(slots) + slots * page_aligned(slot_bytes)


def _table_bytes(slots: int) -> int:
    return page_aligned(8 * (_HEADER_WORDS + slots * _RECORD_WORDS))


class Slot:
    """One slot as a worker sees it: its pixels and what the table says of the frame in it.

    One object a slot is made when a process attaches, and handed out again and again: nothing is allocated per frame.
    `data` is the slot's `slot_bytes` bytes. Times are CLOCK_MONOTONIC nanoseconds, `pts` counts 1/90000 s.
    """

    __slots__ = ("_base", "_words", "data", "index")

    def __init__(self, index: int, words: memoryview, data: memoryview) -> None:
        self.index = index
        self.data = data
        self._words = words
        self._base = _HEADER_WORDS + index * _RECORD_WORDS

    @property
    def state(self) -> int:
        return int(self._words[self._base + _STATE]) & STATE_MASK

    @property
    def generation(self) -> int:
        return int(self._words[self._base + _STATE]) >> STATE_BITS

    @property
    def seq(self) -> int:
        return int(self._words[self._base + _ORDER]) >> PART_BITS

    @property
    def order(self) -> int:
        """Rises from picture to picture, with `seq` and among the pictures that one frame became."""
        return int(self._words[self._base + _ORDER])

    @property
    def part(self) -> int:
        """Which picture of its frame it is."""
        return int(self._words[self._base + _ORDER]) & MAX_PARTS - 1

    @property
    def pts(self) -> int:
        return int(self._words[self._base + _PTS])

    @property
    def epoch(self) -> int:
        return int(self._words[self._base + _EPOCH])

    @property
    def attempts(self) -> int:
        return int(self._words[self._base + _ATTEMPTS])

    @property
    def owner(self) -> int:
        return int(self._words[self._base + _OWNER])

    @property
    def width(self) -> int:
        """Of the picture, in pixels; 0: there is none, and the one before is to be shown again."""
        return int(self._words[self._base + _WIDTH])

    @property
    def height(self) -> int:
        return int(self._words[self._base + _HEIGHT])

    @property
    def verdict(self) -> Outcome:
        """As what the producer wants the frame to be counted once it was shown: DELIVERED, but for one that stands in
        for a frame which it could not process. One that was ADDED is counted as that, whatever becomes of it."""
        return Outcome(self._words[self._base + _VERDICT])

    @property
    def arrived_ns(self) -> int:
        return int(self._words[self._base + _ARRIVED_NS])

    @property
    def ready_ns(self) -> int:
        return int(self._words[self._base + _READY_NS])

    @property
    def held_ns(self) -> int:
        """When the party that holds the slot, FILLING or IN_USE, came to hold it."""
        return int(self._words[self._base + _HELD_NS])

    @property
    def since_ns(self) -> int:
        """When the slot came into its state; meaningless while it is FREE."""
        return self.ready_ns if self.state == READY else self.held_ns

    @property
    def decoding_ns(self) -> int:
        """When decode began on the frame. This and the two below are there for traced frames only."""
        return int(self._words[self._base + _CARRIED])

    @property
    def decoded_ns(self) -> int:
        """When it was READY on the link before this one; 0 on the first."""
        return int(self._words[self._base + _CARRIED + 1])

    @property
    def taken_ns(self) -> int:
        """When it was taken from the link before this one; 0 on the first."""
        return int(self._words[self._base + _CARRIED + 2])


class SlotTable:
    """The table of one link, mapped. Reading is for anybody; the moves are in the three classes below."""

    def __init__(self, slab: Slab, slots: int, slot_bytes: int) -> None:
        """Raises ValueError when the slab is smaller than `link_bytes(slots, slot_bytes)`."""
        if slab.nbytes < link_bytes(slots, slot_bytes):
            raise ValueError(f"slab of {slab.nbytes} bytes is too small for {slots} slots of {slot_bytes} bytes")
        self._words = slab.words(0, _HEADER_WORDS + slots * _RECORD_WORDS)
        stride, first = page_aligned(slot_bytes), _table_bytes(slots)
        self.slots = tuple(
            Slot(i, self._words, slab.buffer[first + i * stride : first + i * stride + slot_bytes])
            for i in range(slots)
        )

    def close(self) -> None:
        """Let go of the slab, which its owner may then close. Views that others made of a slot stay valid."""
        for slot in self.slots:
            with contextlib.suppress(BufferError):
                slot.data.release()
        self._words.release()

    @property
    def ended(self) -> bool:
        """Whether the producer has said that no further frame will come."""
        return bool(self._words[_ENDED])

    @property
    def published(self) -> int:
        """1 + the highest sequence number of which the frame's own picture was published, 0 before the first."""
        return int(self._words[_PUBLISHED])

    @property
    def last_pts(self) -> int | None:
        """Timestamp of the newest frame that was published of the present stream, in 1/90000 s; None before the
        first."""
        return int(self._words[_LAST_PTS]) if self._words[_PUBLISHED] > self._words[_OPENED_AT] else None

    def noted(self, index: int) -> int:
        """See ProducerTable.note."""
        return int(self._words[_NOTES + index])

    def begun(self) -> int:
        """Frames that were given a slot since the slab was made."""
        return sum(slot.generation for slot in self.slots)

    def in_flight(self) -> int:
        """Slots that are not FREE."""
        return sum(slot.state != FREE for slot in self.slots)

    def added_in_flight(self) -> int:
        """Those of them whose picture is one that was ADDED."""
        return sum(slot.state != FREE and slot.verdict is Outcome.ADDED for slot in self.slots)

    def ready(self) -> list[Slot]:
        """READY slots, oldest first; complete up to the newest of them.

        One pass over several words is no snapshot: it can read slot 0 before frame n is published there and slot 1
        after n+1 is, and see n+1 without n. Whatever is older than something that a first pass saw was published
        before that pass ended, and nobody but the consumer leaves READY: so a second pass is exact up to there. What it
        finds beyond is left for the next call.
        """
        newest = self._newest_ready()
        if newest == NO_SEQ:
            return []
        words = self._words
        ready = [slot for slot in self.slots if words[slot._base] & STATE_MASK == READY and slot.order <= newest]
        if len(ready) > 1:
            ready.sort(key=_order_of)
        return ready

    def oldest(self, expected: int = NO_SEQ) -> Slot | None:
        """The first of `ready`, None when there is none. Exact for the same reason. `expected` is an order before which
        the caller knows that nothing can come: found in the first pass, it needs no second."""
        oldest, found = NO_SEQ, None
        words = self._words
        for slot in self.slots:
            base = slot._base
            if words[base] & STATE_MASK == READY:
                order = words[base + _ORDER]
                if order == expected:
                    return slot
                if order > oldest:
                    oldest = order
        if oldest == NO_SEQ:
            return None
        for slot in self.slots:
            base = slot._base
            if words[base] & STATE_MASK == READY and words[base + _ORDER] <= oldest:
                oldest, found = words[base + _ORDER], slot
        return found

    def _newest_ready(self) -> int:
        words, newest = self._words, NO_SEQ
        for slot in self.slots:
            base = slot._base
            if words[base] & STATE_MASK == READY and words[base + _ORDER] > newest:
                newest = words[base + _ORDER]
        return newest

    def dropped_before_slot(self) -> int:
        """Frames that the producer counted as dropped without ever giving them a slot."""
        return sum(self._words[_PRODUCER_COUNTS + outcome] for outcome in Outcome)

    def count(self, outcome: Outcome) -> int:
        """Frames with this outcome, whoever counted them."""
        words = self._words
        return int(
            words[_PRODUCER_COUNTS + outcome] + words[_CONSUMER_COUNTS + outcome] + words[_SUPERVISOR_COUNTS + outcome]
        )

    def counts(self) -> dict[Outcome, int]:
        return {outcome: self.count(outcome) for outcome in Outcome}


class ProducerTable(SlotTable):
    """The producer's moves. One process, one thread."""

    def next_seq(self) -> int:
        """The number of the next frame, for a producer that numbers frames itself: what was begun plus what was
        dropped before. It is derived, so no crash can make a number be skipped or given twice."""
        return self.begun() + self.dropped_before_slot()

    def free_slot(self) -> Slot | None:
        words = self._words
        for slot in self.slots:
            if words[slot._base] & STATE_MASK == FREE:
                return slot
        return None

    def free_slots(self) -> int:
        words = self._words
        return sum(words[slot._base] & STATE_MASK == FREE for slot in self.slots)

    def begin(
        self,
        slot: Slot,
        seq: int,
        pts: int,
        epoch: int,
        arrived_ns: int,
        owner: int,
        width: int = 0,
        height: int = 0,
        verdict: Outcome = Outcome.DELIVERED,
        part: int = 0,
    ) -> None:
        """FREE -> FILLING. Counts the frame as begun. Of several pictures of a frame each has its `part`, which rises;
        the frame's own is the last, the others are ADDED."""
        words, base = self._words, slot._base
        words[base] = (words[base] | STATE_MASK) + 1 | FILLING  # the next generation
        words[base + _HELD_NS] = _now_ns()
        words[base + _ORDER] = seq << PART_BITS | part
        words[base + _PTS] = pts
        words[base + _EPOCH] = epoch
        words[base + _ATTEMPTS] = 0
        words[base + _COMMITTED] = 0
        words[base + _OWNER] = owner
        words[base + _ARRIVED_NS] = arrived_ns
        words[base + _WIDTH] = width
        words[base + _HEIGHT] = height
        words[base + _VERDICT] = verdict

    def carry(self, slot: Slot, decoding_ns: int, decoded_ns: int = 0, taken_ns: int = 0) -> None:
        """Note the times that a traced frame has behind it. While FILLING; what is found in the record of a frame that
        is not traced is another frame's."""
        words, base = self._words, slot._base + _CARRIED
        words[base] = decoding_ns
        words[base + 1] = decoded_ns
        words[base + 2] = taken_ns

    def publish(self, slot: Slot, now_ns: int) -> None:
        """FILLING -> READY. The pixels must be complete: from here on they survive this process."""
        words, base = self._words, slot._base
        words[base + _READY_NS] = now_ns
        words[base] = words[base] & GENERATION_MASK | READY
        words[_LAST_PTS] = words[base + _PTS]
        if words[base + _VERDICT] != Outcome.ADDED:
            words[_PUBLISHED] = (words[base + _ORDER] >> PART_BITS) + 1

    def drop(self, outcome: Outcome) -> None:
        """Count a frame that gets no slot. Uses up its sequence number."""
        self._words[_PRODUCER_COUNTS + outcome] += 1

    def end(self) -> None:
        """No further frame will come."""
        self._words[_ENDED] = 1

    def note(self, index: int, value: int) -> None:
        """Keep `value` where a restarted producer finds it: `index` from 0 to NOTE_WORDS - 1."""
        self._words[_NOTES + index] = value


class ConsumerTable(SlotTable):
    """The consumer's moves. One process; several threads only under one lock."""

    def take(self, slot: Slot, owner: int) -> None:
        """READY -> IN_USE."""
        words, base = self._words, slot._base
        words[base + _OWNER] = owner
        words[base + _HELD_NS] = _now_ns()
        words[base] = words[base] & GENERATION_MASK | IN_USE

    def order_after(self, slot: Slot) -> int:
        """The lowest order that a picture after this one can have."""
        words, base = self._words, slot._base
        if words[base + _VERDICT] == Outcome.ADDED:
            return int(words[base + _ORDER]) + 1
        return ((words[base + _ORDER] >> PART_BITS) + 1) << PART_BITS

    def commit(self, slot: Slot) -> None:
        """Say that something which cannot be undone is about to happen to the frame (its bytes leave the process).

        A death after this drops the frame as `crash` instead of trying it again: better lost than shown twice.
        """
        self._words[slot._base + _COMMITTED] = 1

    def finish(self, slot: Slot, outcome: Outcome) -> None:
        """IN_USE -> FREE, counted as `outcome`. See the module's text for the order of the stores."""
        words, base = self._words, slot._base
        if words[base + _VERDICT] == Outcome.ADDED:
            outcome = Outcome.ADDED
        count = _CONSUMER_COUNTS + outcome
        before = words[count]
        words[_JOURNAL_KEY] = 0
        words[_JOURNAL_OUTCOME] = outcome
        words[_JOURNAL_BEFORE] = before
        words[_JOURNAL_KEY] = _journal_key(slot)
        words[count] = before + 1
        words[base] = words[base] & GENERATION_MASK | FREE


class SupervisorTable(SlotTable):
    """The supervisor's moves, for a party that is dead: killed AND waited for, never merely silent."""

    on_end: Callable[[Slot, Outcome], None] | None = None
    """Is told of every frame that ends here, before its slot is FREE."""

    def reclaim_producer(self, outcome: Outcome) -> int:
        """FILLING -> FREE, counted as `outcome`: CRASH for a producer that numbers frames, RETRY for one that still
        holds the frame on the link before. Returns the number of slots. A second call finds nothing."""
        words = self._words
        published = [
            slot
            for slot in self.slots
            if slot.state != FILLING and slot.generation and slot.verdict is not Outcome.ADDED
        ]
        newest = max(published, key=_order_of, default=None)
        if newest is not None and newest.seq >= self.published:
            words[_LAST_PTS] = newest.pts  # Died between READY and the note of it.
            words[_PUBLISHED] = newest.seq + 1
        reclaimed = 0
        for slot in self._in_state(FILLING):
            words[slot._base + _ORDER] = NO_SEQ
            self._free(slot, outcome)
            reclaimed += 1
        return reclaimed

    def reclaim_consumer(self, passed_on: int = 0, *, to_blame: bool = True) -> tuple[int, int]:
        """IN_USE -> READY with one attempt more, or -> FREE: as DELIVERED when the consumer had published the frame on
        its own output (`passed_on` is that link's `published`, its producer reclaimed before), as CRASH when the frame
        had been committed, as POISON after MAX_ATTEMPTS; an attempt counts only if the frame may be `to_blame`. Returns
        (slots to be tried again, slots dropped). A second call finds nothing."""
        self._complete_journal()
        retried = dropped = 0
        for slot in self._in_state(IN_USE):
            words, base = self._words, slot._base
            words[base + _ATTEMPTS] += to_blame
            if slot.seq < passed_on:
                self._free(slot, Outcome.DELIVERED)
            elif words[base + _COMMITTED]:
                self._free(slot, Outcome.CRASH)
                dropped += 1
            elif words[base + _ATTEMPTS] >= MAX_ATTEMPTS:
                self._free(slot, Outcome.POISON)
                dropped += 1
            else:
                words[base + _STATE] = slot.generation << STATE_BITS | READY
                retried += 1
        return retried, dropped

    def skim(self) -> int:
        """READY -> FREE as LATE, but for the newest. Only while the link has no consumer. Returns slots."""
        older = self.ready()[:-1]
        for slot in older:
            self._free(slot, Outcome.LATE)
        return len(older)

    def end(self) -> None:
        """Say in a dead producer's place that no further frame will come."""
        self._words[_ENDED] = 1

    def discard(self) -> int:
        """READY -> FREE as SHUTDOWN: nobody will come to take them, and the producer must not wait for room. Only while
        the link has no consumer. Returns slots."""
        ready = self.ready()
        for slot in ready:
            self._free(slot, Outcome.SHUTDOWN)
        return len(ready)

    def reopen(self) -> None:
        """Begin another stream: forget that the one before has ended, its times, and what its producer had noted.
        Counts and numbers go on. Every slot must be FREE, and each party dead, or waiting to be told of the stream."""
        words = self._words
        words[_OPENED_AT] = words[_PUBLISHED]
        for index in range(NOTE_WORDS):
            words[_NOTES + index] = 0
        words[_ENDED] = 0

    def abandon(self) -> int:
        """Free whatever is left, counted as SHUTDOWN. For the end of a stream, when both parties are gone and
        reclaimed, or have nothing in hand and wait. Returns slots."""
        self._complete_journal()
        left = [slot for slot in self.slots if slot.state != FREE]
        for slot in left:
            self._free(slot, Outcome.SHUTDOWN)
        return len(left)

    def _complete_journal(self) -> None:
        words = self._words
        key = words[_JOURNAL_KEY]
        for slot in self._in_state(IN_USE):
            if key == _journal_key(slot):
                words[_CONSUMER_COUNTS + words[_JOURNAL_OUTCOME]] = words[_JOURNAL_BEFORE] + 1
                words[slot._base + _STATE] = slot.generation << STATE_BITS | FREE

    def _in_state(self, state: int) -> Iterator[Slot]:
        return (slot for slot in self.slots if slot.state == state)

    def _free(self, slot: Slot, outcome: Outcome) -> None:
        words = self._words
        if words[slot._base + _VERDICT] == Outcome.ADDED:
            outcome = Outcome.ADDED
        if self.on_end is not None and outcome.is_drop and slot.state != FILLING:
            self.on_end(slot, outcome)
        words[_SUPERVISOR_COUNTS + outcome] += 1
        words[slot._base + _STATE] = slot.generation << STATE_BITS | FREE


def _order_of(slot: Slot) -> int:
    return slot.order


def _journal_key(slot: Slot) -> int:
    """A non-zero word that names one life of one slot."""
    return slot.generation << 8 | slot.index
