"""Ingress's and decode's ends of the encoded link, over a real socket and real shared memory."""

import itertools
import os
import subprocess
import sys

import msgspec
import pytest
import zmq

from pipeline.boot import EncodedBoot
from pipeline.encoded_link import (
    CURSOR_BYTES,
    END_OF_STREAM,
    NO_SEGMENT,
    QUEUED_MESSAGES,
    Cursor,
    EncodedReader,
    EncodedWriter,
)
from pipeline.messages import EncodedBytes, EncodedConsumed, EncodedEnd

LIMIT = 1 << 20
POLL_MS = 100

MOVE_AND_DIE = """
import os, signal, sys
from pipeline.encoded_link import Cursor
Cursor(int(sys.argv[1])).move(7, 1316)
os.kill(os.getpid(), signal.SIGKILL)
"""

READ_AND_DIE = """
import os, signal, sys, msgspec, zmq
from pipeline.encoded_link import EncodedReader
from pipeline.boot import EncodedBoot
boot = msgspec.msgpack.decode(bytes.fromhex(sys.argv[1]), type=EncodedBoot)
reader = EncodedReader(boot, zmq.Context(), owner=0)  # Each process has a number of its own, as a launcher gives it.
wanted, got = int(sys.argv[2]), 0
while got < wanted:
    reader.socket.poll()
    for message in reader.receive():
        reader.consumed(message, message.segment)
        got += len(message.data)
        if got >= wanted:
            break
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def boot(slab_fd, short_dir):
    return EncodedBoot("encoded", slab_fd(CURSOR_BYTES), f"ipc://{short_dir}/encoded", LIMIT)


@pytest.fixture
def open_writer(open_context):
    """open_writer(boot) -> an ingress; closing its context is its death."""

    def make(boot):
        context = open_context()
        writer = EncodedWriter(boot, context)
        writer.die = lambda: context.destroy(linger=0)
        return writer

    return make


@pytest.fixture
def open_reader(open_context):
    owners = iter(range(1, 100))

    def make(boot):
        context = open_context()
        reader = EncodedReader(boot, context, owner=next(owners))
        reader.die = lambda: context.destroy(linger=0)
        return reader

    return make


def pump(writer, reader, until, consume=True):
    """Let both ends work, each only when its socket says so, until `until(messages)` holds. Returns what came."""
    poller = zmq.Poller()
    poller.register(writer.socket, zmq.POLLIN)
    poller.register(reader.socket, zmq.POLLIN)
    got = []
    while not until(got):
        events = dict(poller.poll(POLL_MS))
        reader.insist()
        if writer.socket in events:
            writer.attend()
        for message in reader.receive():
            got.append(message)
            if consume and isinstance(message, EncodedBytes):
                reader.consumed(message, message.segment)
    return got


def bytes_of(messages, segment=None):
    return b"".join(
        m.data for m in messages if isinstance(m, EncodedBytes) and (segment is None or m.segment == segment)
    )


def amount(nbytes):
    return lambda messages: len(bytes_of(messages)) >= nbytes


def write_segment(writer, number, data, chunk=1000):
    for start in range(0, len(data), chunk):
        writer.write(number, start, data[start : start + chunk], last=start + chunk >= len(data))


def content(number, nbytes=5000):
    return bytes((number * 31 + i) % 251 for i in range(nbytes))


# The cursor


def test_a_new_cursor_is_before_the_first_byte(boot):
    cursor = Cursor(boot.fd)
    assert (cursor.segment, cursor.offset, cursor.base) == (NO_SEGMENT, 0, 0)


def test_a_cursor_survives_the_death_of_who_moved_it(boot):
    subprocess.run([sys.executable, "-c", MOVE_AND_DIE, str(boot.fd)], pass_fds=[boot.fd], check=False)
    cursor = Cursor(boot.fd)
    assert (cursor.segment, cursor.offset) == (7, 1316)


def test_segment_0_is_not_taken_for_none(boot):
    Cursor(boot.fd).move(0, 0)
    assert Cursor(boot.fd).segment == 0


def test_moving_a_cursor_never_shows_a_new_segment_with_an_old_offset(boot):
    class Watch:
        def __init__(self, words):
            self.words, self.seen = words, []

        def __getitem__(self, index):
            return self.words[index]

        def __setitem__(self, index, value):
            self.words[index] = value
            self.seen.append((self.words[0] - 1, self.words[1]))

    cursor = Cursor(boot.fd)
    cursor.move(3, 900)
    cursor._words = watch = Watch(cursor._words)
    cursor.move(4, 100)
    assert all(seen in ((3, 900), (3, 0), (4, 0), (4, 100)) for seen in watch.seen)
    assert watch.seen[-1] == (4, 100)


def test_the_base_is_kept_beside_the_position(boot):
    Cursor(boot.fd).base = 812
    Cursor(boot.fd).move(5, 6)
    assert Cursor(boot.fd).base == 812


# The quiet life


def test_bytes_arrive_in_order_and_the_writer_forgets_what_was_consumed(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    for number in range(3):
        write_segment(writer, number, content(number))
    writer.end()
    got = pump(writer, reader, lambda messages: EncodedEnd() in messages)
    assert [bytes_of(got, number) for number in range(3)] == [content(number) for number in range(3)]
    assert [(m.segment, m.last) for m in got if isinstance(m, EncodedBytes) and m.last] == [(n, True) for n in range(3)]
    assert (reader.cursor.segment, reader.cursor.offset) == (2, 5000)


def test_a_link_is_drained_only_when_the_end_was_taken_in(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    write_segment(writer, 0, content(0))
    writer.end()
    pump(writer, reader, lambda messages: EncodedEnd() in messages)
    assert not writer.drained
    reader.finished()
    assert writer.socket.poll(), "who waits for it is woken"
    assert writer.drained
    reader.die()
    writer.die()
    assert open_writer(boot).drained, "both may die over it"


def test_the_end_alone_is_drained_too(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    writer.end()
    pump(writer, reader, lambda messages: EncodedEnd() in messages)
    reader.finished()
    assert writer.drained


def test_an_empty_last_message_completes_a_segment(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    writer.write(0, 0, b"abc")
    writer.write(0, 3, b"", last=True)
    got = pump(writer, reader, lambda messages: len(messages) == 2)
    assert [(m.data, m.last) for m in got] == [(b"abc", False), (b"", True)]


def test_a_gap_is_passed_on(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    writer.write(4, 0, b"abc", gap=True)
    assert pump(writer, reader, lambda messages: bool(messages))[0].gap


@pytest.mark.timeout(60)
def test_many_small_messages_do_not_stall(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    count = 20 * QUEUED_MESSAGES
    for i in range(count):
        writer.write(0, i, b"x")
    assert len(pump(writer, reader, amount(count))) == count


@pytest.mark.timeout(60)
def test_a_writer_may_run_far_ahead_of_a_reader_that_comes_late(boot, open_writer, open_reader):
    writer = open_writer(boot)
    for number in range(200):
        write_segment(writer, number, content(number, 400), chunk=20)
    reader = open_reader(boot)
    got = pump(writer, reader, amount(200 * 400))
    assert bytes_of(got) == b"".join(content(number, 400) for number in range(200))


# Bounds


def test_a_writer_is_full_at_its_bound_until_the_reader_moves_on(boot, open_writer, open_reader):
    writer = open_writer(boot)
    number = 0
    while not writer.full:
        write_segment(writer, number, bytes(LIMIT // 4), chunk=1 << 15)
        number += 1
    assert number == 4
    reader = open_reader(boot)
    pump(writer, reader, lambda messages: not writer.full)
    pump(writer, reader, lambda messages: reader.cursor.offset == LIMIT // 4 and reader.cursor.segment == 3)


def test_the_segment_that_the_reader_is_in_is_kept_from_its_start(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    write_segment(writer, 0, content(0))
    writer.write(1, 0, content(1)[:3000])
    pump(writer, reader, amount(8000))
    reader.die()
    successor = open_reader(boot)
    assert bytes_of(pump(writer, successor, amount(3000))) == content(1)[:3000]


@pytest.mark.timeout(20)
def test_a_segment_larger_than_the_bound_does_not_stop_the_stream(boot, open_writer, open_reader):
    """The one segment that decode is in may be larger than all that may be kept."""
    writer, reader = open_writer(boot), open_reader(boot)
    data, chunk = bytes(3 * LIMIT), 1 << 15
    got = []
    for start in range(0, len(data), chunk):
        while writer.full:
            got += pump(writer, reader, lambda _: reader.cursor.offset >= start or not writer.full)  # noqa: B023
            writer.attend()
        writer.write(0, start, data[start : start + chunk])


# Decode dies


def test_a_successor_is_fed_from_the_start_of_the_segment(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    write_segment(writer, 0, content(0))
    write_segment(writer, 1, content(1))
    pump(writer, reader, amount(7000))
    reader.die()
    successor = open_reader(boot)
    assert bytes_of(pump(writer, successor, amount(5000))) == content(1)


def test_a_complete_segment_is_fed_again_until_the_next_was_begun(boot, open_writer, open_reader):
    """Its last access unit may only come to light with the first bytes of the next."""
    writer, reader = open_writer(boot), open_reader(boot)
    write_segment(writer, 0, content(0))
    pump(writer, reader, amount(5000))
    reader.die()
    successor = open_reader(boot)
    assert bytes_of(pump(writer, successor, amount(5000))) == content(0)


def test_a_reader_that_consumed_nothing_leaves_everything_to_its_successor(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    write_segment(writer, 0, content(0))
    pump(writer, reader, amount(5000), consume=False)
    reader.die()
    assert bytes_of(pump(writer, open_reader(boot), amount(5000))) == content(0)


@pytest.mark.parametrize("killed_after", [1, 4000, 5000, 5001, 12_345])
def test_a_killed_reader_costs_no_byte(boot, open_writer, open_reader, killed_after):
    writer = open_writer(boot)
    for number in range(4):
        write_segment(writer, number, content(number), chunk=500)
    writer.end()
    command = [sys.executable, "-c", READ_AND_DIE, msgspec.msgpack.encode(boot).hex(), str(killed_after)]
    with subprocess.Popen(command, pass_fds=[boot.fd]) as process:
        while process.poll() is None:
            writer.socket.poll(20)
            writer.attend()
    start = Cursor(boot.fd).segment
    assert start == (killed_after - 1) // 5000
    got = pump(writer, open_reader(boot), lambda messages: EncodedEnd() in messages)
    assert bytes_of(got) == b"".join(content(number) for number in range(start, 4))


def test_the_end_reaches_a_successor_too(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    write_segment(writer, 0, content(0))
    writer.end()
    pump(writer, reader, lambda messages: EncodedEnd() in messages)
    reader.die()
    pump(writer, open_reader(boot), lambda messages: EncodedEnd() in messages)
    assert not writer.drained


def test_what_a_dead_reader_still_had_to_say_is_not_its_successors(boot, open_writer, open_reader):
    """Only the present reader may let the writer forget."""
    writer, old = open_writer(boot), open_reader(boot)
    write_segment(writer, 0, content(0))
    pump(writer, old, amount(5000))
    new = open_reader(boot)
    pump(writer, new, amount(5000))
    old.socket.send(msgspec.msgpack.encode(EncodedConsumed(END_OF_STREAM)))
    writer.socket.poll()
    writer.attend()
    assert not writer.drained
    assert bytes_of(pump(writer, open_reader(boot), amount(5000))) == content(0), "it has forgotten nothing"


# Ingress dies


@pytest.mark.parametrize("had", [1, 999, 1000, 2500, 4999])
def test_bytes_go_on_exactly_where_they_were_when_the_writer_is_replaced(boot, open_writer, open_reader, had):
    writer, reader = open_writer(boot), open_reader(boot)
    writer.write(0, 0, content(0)[:had])
    got = pump(writer, reader, amount(had))
    writer.die()

    successor = open_writer(boot)
    reader.attach()
    assert successor.cursor.segment == 0
    write_segment(successor, 0, content(0), chunk=1700)
    write_segment(successor, 1, content(1), chunk=1700)
    got += pump(successor, reader, amount(10_000 - had))
    assert bytes_of(got, 0) == content(0)
    assert bytes_of(got, 1) == content(1)
    assert sum(m.last for m in got if m.segment == 0) == 1


def test_an_attach_that_died_with_the_connection_is_sent_again(boot, open_context, open_writer, open_reader):
    context = open_context()
    deaf = context.socket(zmq.ROUTER)
    deaf.bind(boot.endpoint)
    reader = open_reader(boot)
    deaf.recv_multipart()
    context.destroy(linger=0)

    writer = open_writer(boot)
    write_segment(writer, 0, content(0))
    assert bytes_of(pump(writer, reader, amount(5000))) == content(0)


def test_a_segment_that_was_complete_is_not_given_out_again(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    write_segment(writer, 0, content(0))
    pump(writer, reader, amount(5000))
    writer.die()
    successor = open_writer(boot)
    reader.attach()
    write_segment(successor, 0, content(0))
    write_segment(successor, 1, content(1))
    got = pump(successor, reader, amount(5000))
    assert bytes_of(got) == content(1)


def test_the_completion_alone_is_given_out_when_only_it_was_missing(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    writer.write(0, 0, content(0))
    pump(writer, reader, amount(5000))
    writer.die()
    successor = open_writer(boot)
    reader.attach()
    write_segment(successor, 0, content(0))
    (message,) = pump(successor, reader, lambda messages: bool(messages))
    assert (message.segment, message.offset, message.data, message.last) == (0, 5000, b"", True)


@pytest.mark.timeout(20)
def test_many_messages_that_were_had_before_do_not_stall(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    count = 10 * QUEUED_MESSAGES
    for i in range(count):
        writer.write(0, i, b"x")
    pump(writer, reader, amount(count))
    writer.die()
    successor = open_writer(boot)
    for i in range(count + 1):
        successor.write(0, i, b"x")
    reader.attach()
    (message,) = pump(successor, reader, lambda messages: bool(messages))
    assert message.offset == count


def test_both_ends_may_be_replaced_at_once(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    write_segment(writer, 0, content(0))
    writer.write(1, 0, content(1)[:2000])
    pump(writer, reader, amount(7000))
    writer.die()
    reader.die()
    writer, reader = open_writer(boot), open_reader(boot)
    assert writer.cursor.segment == 1
    write_segment(writer, 1, content(1))
    assert bytes_of(pump(writer, reader, amount(5000))) == content(1)


def test_attaching_twice_gives_nothing_twice(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    write_segment(writer, 0, content(0), chunk=50)
    reader.attach()
    reader.attach()
    got = pump(writer, reader, amount(5000))
    write_segment(writer, 1, content(1))
    got += pump(writer, reader, amount(5000))
    assert bytes_of(got) == content(0) + content(1)


def test_attaching_again_lets_nothing_be_forgotten(boot, open_writer, open_reader):
    """A reader that has all of a segment may still have pictures of it in hand."""
    writer, reader = open_writer(boot), open_reader(boot)
    write_segment(writer, 0, content(0))
    pump(writer, reader, amount(5000))
    reader.attach()
    writer.socket.poll()
    writer.attend()
    reader.die()
    write_segment(writer, 1, content(1))
    assert bytes_of(pump(writer, open_reader(boot), amount(5000)), 0) == content(0)


@pytest.mark.timeout(20)
def test_a_successor_in_a_segment_larger_than_the_bound_goes_on_in_the_middle(boot, open_writer, open_reader):
    writer, reader = open_writer(boot), open_reader(boot)
    chunk = 1 << 15
    for start in range(0, 2 * LIMIT, chunk):
        writer.write(0, start, bytes(chunk))
        pump(writer, reader, lambda _: reader.cursor.offset == start + chunk)  # noqa: B023
    writer.attend()
    reader.die()
    successor = open_reader(boot)
    writer.write(0, 2 * LIMIT, b"end", last=True)
    got = pump(writer, successor, lambda messages: bool(messages) and messages[-1].last)
    assert 0 < got[0].offset < 2 * LIMIT
    assert all(before.offset + len(before.data) == after.offset for before, after in itertools.pairwise(got))


def test_closing_leaves_no_descriptor_behind(boot, open_context):
    before = len(os.listdir("/proc/self/fd"))
    context = open_context()
    writer, reader = EncodedWriter(boot, context), EncodedReader(boot, context, owner=1)
    writer.close()
    reader.close()
    context.destroy(linger=0)
    del writer, reader
    assert len(os.listdir("/proc/self/fd")) == before
