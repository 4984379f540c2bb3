"""The ring of traced frames: bounded, whole records only, and still there after its writer."""

import os
import subprocess
import sys

import pytest

from pipeline.memory.slab import Slab
from pipeline.memory.trace_ring import RECORDS, TraceRecord, TraceRing, rings_bytes
from tests.memory.watched_words import Died, Life, WatchedWords

WRITE_STORES = 3 + len(TraceRecord._fields)

WRITE_AND_DIE = """
import os, signal, sys
from pipeline.memory.slab import Slab
from pipeline.memory.trace_ring import TraceRecord, TraceRing
TraceRing(Slab(int(sys.argv[1])), 1).write(TraceRecord(*range(12)))
os.kill(os.getpid(), signal.SIGKILL)
"""


def record(seq):
    return TraceRecord(seq, *range(1, len(TraceRecord._fields)))


@pytest.fixture
def slab(slab_fd):
    return Slab(slab_fd(rings_bytes(2)))


def test_a_new_ring_is_empty(slab):
    assert TraceRing(slab, 0).read() == []


def test_what_is_written_to_a_ring_is_read_from_it_and_from_no_other(slab):
    TraceRing(slab, 1).write(record(7))
    assert TraceRing(slab, 1).read() == [record(7)]
    assert TraceRing(slab, 0).read() == []


def test_a_full_ring_holds_the_newest(slab):
    ring = TraceRing(slab, 1)
    for seq in range(RECORDS + 3):
        ring.write(record(seq))
    assert sorted(found.seq for found in ring.read()) == list(range(3, RECORDS + 3))


def test_a_death_takes_nothing_with_it_and_a_successor_goes_on(slab_fd):
    fd = slab_fd(rings_bytes(2))
    died = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(fd)], pass_fds=[fd], check=False)
    assert died.returncode == -9
    successor = TraceRing(Slab(os.dup(fd)), 1)
    successor.write(record(1))
    assert {found.seq for found in successor.read()} == {0, 1}


@pytest.mark.parametrize("stores", range(WRITE_STORES + 1))
def test_a_record_is_read_whole_or_not_at_all(slab, stores):
    ring = TraceRing(slab, 0)
    for seq in range(RECORDS):
        ring.write(record(seq))
    plain = ring._words
    ring._words = WatchedWords(plain, Life(stores))
    try:
        ring.write(TraceRecord(*[1000] * len(TraceRecord._fields)))
    except Died:
        assert stores < WRITE_STORES
    ring._words = plain
    found = ring.read()
    assert all(each == record(each.seq) or set(each) == {1000} for each in found)
    assert len(found) >= RECORDS - 1
    ring.write(record(5000))
    assert 5000 in {each.seq for each in ring.read()}
