"""A ring of the hop times of single frames in shared memory: one process writes it, the launcher reads it whenever it
likes, and a crash takes nothing with it. Which frames are noted, and when, is `frame_tracer`'s.

Times are CLOCK_MONOTONIC nanoseconds; 0: the frame did not come so far.
"""

from typing import NamedTuple

from pipeline.memory.slab import Slab, page_aligned

RECORDS = 128
"""Frames that a ring holds; a newer one takes the place of the oldest."""

_HEADER_WORDS = 8
_WRITTEN = 0  # frames noted so far
_RECORD_WORDS = 16
_RING_WORDS = _HEADER_WORDS + RECORDS * _RECORD_WORDS


class TraceRecord(NamedTuple):
    """One frame: its identity, what became of it (an Outcome), when that was, and when it passed each hop."""

    seq: int
    epoch: int
    pts: int
    outcome: int
    ended_ns: int
    arrived_ns: int  # in ingress: the last byte of its access unit
    decoding_ns: int  # decode began on it
    decoded_ns: int  # READY for inference
    taken_ns: int  # by inference
    processed_ns: int  # READY for egress
    collected_ns: int  # taken by egress
    encoded_ns: int


def rings_bytes(rings: int) -> int:
    """Size of a slab with so many rings."""
    return page_aligned(8 * rings * _RING_WORDS)


class TraceRing:
    """Ring number `index` of a slab, as its one writer or as a reader has it mapped."""

    def __init__(self, slab: Slab, index: int) -> None:
        self._words = slab.words(8 * index * _RING_WORDS, _RING_WORDS)

    def write(self, record: TraceRecord) -> None:
        """The ticket goes first and comes back last, so that nobody takes a record that is half old for whole."""
        words = self._words
        number = words[_WRITTEN]
        base = _HEADER_WORDS + number % RECORDS * _RECORD_WORDS
        words[base] = 0
        for offset, value in enumerate(record, base + 1):
            words[offset] = value
        words[base] = number + 1
        words[_WRITTEN] = number + 1

    def read(self) -> list[TraceRecord]:
        """Every whole record, in no order. One that is being written meanwhile is left out."""
        tickets = self._words[_HEADER_WORDS::_RECORD_WORDS]
        before, words, after = tickets.tolist(), self._words.tolist(), tickets.tolist()
        tickets.release()
        bases = range(_HEADER_WORDS, _RING_WORDS, _RECORD_WORDS)
        return [
            TraceRecord(*words[base + 1 : base + 1 + len(TraceRecord._fields)])
            for ticket, base, still in zip(before, bases, after, strict=True)
            if ticket and ticket == still
        ]

    def close(self) -> None:
        self._words.release()
