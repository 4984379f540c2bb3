"""Both ends of a frame link over real memory and real sockets."""

import os
import select
import signal
import subprocess
import sys
import threading

import msgspec
import pytest

from pipeline.boot import FrameFormat, LinkBoot
from pipeline.doorbell import wake
from pipeline.link import BlockReader, FrameLink, LatestReader, LinkWriter, open_reader
from pipeline.memory.slab import Slab
from pipeline.memory.slot_table import FREE, IN_USE, READY, Outcome, SupervisorTable

CONSUME = """
import sys, msgspec
from pipeline.link import open_reader
from pipeline.memory.slot_table import Outcome
from pipeline.boot import FrameFormat, LinkBoot

boot = msgspec.msgpack.decode(bytes.fromhex(sys.argv[1]), type=LinkBoot)
reader = open_reader(boot, owner=1)
while True:
    slot = reader.take(1.0)
    if slot is not None:
        print(slot.seq, flush=True)
        if not sys.stdin.readline():
            break
        reader.release(slot, Outcome.DELIVERED)
"""
"""Prints each frame that it takes, and holds it until told to go on."""

PRODUCE = """
import sys, msgspec
from pipeline.link import LinkWriter
from pipeline.boot import FrameFormat, LinkBoot

boot = msgspec.msgpack.decode(bytes.fromhex(sys.argv[1]), type=LinkBoot)
writer = LinkWriter(boot, owner=1)
for line in sys.stdin:
    seq = writer.table.next_seq()
    slot = writer.acquire(seq=seq, pts=seq, epoch=0, arrived_ns=0, wait_seconds=60)
    slot.data[:] = bytes([seq]) * len(slot.data)
    if line == "publish\\n":
        writer.publish(slot)
    print(seq, flush=True)
"""
"""For each line begins a frame, and publishes it when the line says so."""


class Process:
    """A real process at one end of a link."""

    def __init__(self, code: str, boot: LinkBoot) -> None:
        command = [sys.executable, "-c", code, msgspec.msgpack.encode(boot).hex()]
        self.process = subprocess.Popen(
            command, pass_fds=boot.fds, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> int:
        return int(self.process.stdout.readline())

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def start():
    processes = []

    def make(code, boot):
        processes.append(Process(code, boot))
        return processes[-1]

    yield make
    for process in processes:
        if process.process.poll() is None:
            process.kill()


@pytest.fixture
def open_writer():
    writers = []

    def make(boot):
        writers.append(LinkWriter(boot, owner=1))
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


@pytest.fixture
def reading():
    readers = []

    def make(boot):
        readers.append(open_reader(boot, owner=1))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


def supervisor_of(boot):
    return SupervisorTable(Slab(boot.fd), boot.slots, boot.format.nbytes)


def send(writer, wait_seconds=60.0):
    """One frame, full of its number."""
    seq = writer.table.next_seq()
    slot = writer.acquire(seq=seq, pts=3000 * seq, epoch=0, arrived_ns=5, wait_seconds=wait_seconds)
    if slot is not None:
        slot.data[:] = bytes([seq % 256]) * len(slot.data)
        writer.publish(slot)
    return slot


def receive(reader):
    """The next frame, released as delivered: its number, after a look at every pixel."""
    while (slot := reader.take(1.0)) is None:
        pass
    seq = slot.seq
    assert bytes(slot.data) == bytes([seq % 256]) * len(slot.data)
    reader.release(slot, Outcome.DELIVERED)
    return seq


def everything_is_heard(boot):
    """Returns once whoever listens to the bell has read every ring so far."""
    bell = select.poll()
    bell.register(boot.ready_fd, select.POLLIN)
    while bell.poll(0):
        pass


def assert_balanced(table):
    assert table.begun() + table.dropped_before_slot() == sum(table.counts().values()) + table.in_flight()


def test_the_policy_chooses_the_reader(link_boot, reading):
    assert isinstance(reading(link_boot("block")), BlockReader)
    assert isinstance(reading(link_boot("latest")), LatestReader)


# block


def test_every_frame_arrives_in_order_and_whole(link_boot, open_writer, reading):
    boot = link_boot("block")
    writer, reader = open_writer(boot), reading(boot)
    producer = threading.Thread(target=lambda: [send(writer) for _ in range(200)])
    producer.start()
    assert [receive(reader) for _ in range(200)] == list(range(200))
    producer.join()
    table = supervisor_of(boot)
    assert table.counts() == dict.fromkeys(Outcome, 0) | {Outcome.DELIVERED: 200}


def test_block_waits_for_a_credit_and_drops_nothing(link_boot, open_writer, reading):
    boot = link_boot("block", slots=2)
    writer, reader = open_writer(boot), reading(boot)
    send(writer)
    send(writer)
    assert send(writer, wait_seconds=0) is None
    assert send(writer, wait_seconds=0.001) is None
    waiting = threading.Thread(target=send, args=(writer,))
    waiting.start()
    assert [receive(reader) for _ in range(3)] == [0, 1, 2]
    waiting.join()
    assert_balanced(supervisor_of(boot))


def test_a_frame_that_was_not_given_a_slot_can_be_given_up(link_boot, open_writer):
    boot = link_boot("block", slots=2)
    writer = open_writer(boot)
    send(writer)
    send(writer)
    assert send(writer, wait_seconds=0) is None
    writer.drop(Outcome.NO_SLOT)
    assert writer.table.next_seq() == 3
    assert supervisor_of(boot).count(Outcome.NO_SLOT) == 1


@pytest.mark.timeout(20)
def test_waiting_for_a_slot_ends_when_the_worker_is_woken(link_boot, open_writer):
    boot = link_boot("block", slots=2)
    writer = open_writer(boot)
    send(writer)
    send(writer)
    wake(boot.free_fd)
    assert send(writer, wait_seconds=None) is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("policy", ["block", "latest"])
def test_waiting_for_a_frame_ends_when_the_worker_is_woken(link_boot, reading, policy):
    boot = link_boot(policy)
    reader = reading(boot)
    wake(boot.ready_fd)
    assert reader.take() is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("policy", ["block", "latest"])
def test_bells_for_frames_that_are_gone_do_not_end_a_wait(link_boot, open_writer, reading, policy):
    boot = link_boot(policy)
    writer, reader = open_writer(boot), reading(boot)
    send(writer)
    assert receive(reader) == 0
    late = threading.Thread(target=lambda: (everything_is_heard(boot), send(writer)))
    late.start()
    assert reader.take().seq == 1
    late.join()


def test_a_reader_that_looks_without_waiting_finds_nothing_or_the_oldest(link_boot, open_writer, reading):
    boot = link_boot("block")
    writer, reader = open_writer(boot), reading(boot)
    assert reader.take(0) is None
    send(writer)
    send(writer)
    assert reader.take(0).seq == 0
    assert reader.take(0).seq == 1
    assert reader.take(0) is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("policy", ["block", "latest"])
def test_the_launcher_rings_for_a_producer_that_died_before_it_could(link_boot, open_writer, reading, policy):
    boot = link_boot(policy)
    writer, reader = open_writer(boot), reading(boot)

    def die_between_store_and_ring():
        slot = writer.acquire(seq=0, pts=0, epoch=0, arrived_ns=0)
        writer.table.publish(slot, 0)
        wake(boot.ready_fd)

    producer = threading.Thread(target=die_between_store_and_ring)
    producer.start()
    assert reader.take().seq == 0
    producer.join()


@pytest.mark.timeout(20)
def test_the_launcher_rings_for_a_consumer_that_died_before_it_could(link_boot, open_writer, reading):
    boot = link_boot("block", slots=2)
    writer, reader = open_writer(boot), reading(boot)
    send(writer)
    send(writer)
    held = reader.take()

    def die_between_store_and_ring():
        reader.table.finish(held, Outcome.DELIVERED)
        wake(boot.free_fd)

    consumer = threading.Thread(target=die_between_store_and_ring)
    consumer.start()
    assert send(writer, wait_seconds=None).index == held.index
    consumer.join()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("policy", ["block", "latest"])
def test_the_end_of_the_link_ends_a_wait(link_boot, open_writer, reading, policy):
    boot = link_boot(policy)
    writer, reader = open_writer(boot), reading(boot)
    producer = threading.Thread(target=writer.end)
    producer.start()
    while not reader.drained:
        assert reader.take() is None
    producer.join()


@pytest.mark.parametrize("policy", ["block", "latest"])
def test_a_link_is_drained_when_it_has_ended_and_is_empty(link_boot, open_writer, reading, policy):
    boot = link_boot(policy)
    writer, reader = open_writer(boot), reading(boot)
    assert not reader.drained
    send(writer)
    writer.end()
    assert not reader.drained
    assert receive(reader) == 0
    assert reader.drained
    assert reader.take(0) is None


def test_a_frame_in_hand_does_not_keep_a_link_from_being_drained(link_boot, open_writer, reading):
    boot = link_boot("block")
    writer, reader = open_writer(boot), reading(boot)
    send(writer)
    slot = reader.take(1.0)
    writer.end()
    assert reader.drained
    reader.release(slot, Outcome.DELIVERED)


# latest


def test_latest_frees_older_frames_while_the_consumer_is_busy(link_boot, open_writer, reading):
    boot = link_boot("latest")
    writer, reader = open_writer(boot), reading(boot)
    send(writer)
    held = None
    while held is None:
        held = reader.take(1.0)
    for _ in range(20):  # With one slot of three in hand, only the skimmer can make room.
        assert send(writer) is not None
    assert held.state == IN_USE
    assert bytes(held.data) == bytes(len(held.data))
    reader.release(held, Outcome.DELIVERED)
    assert receive(reader) == 20
    table = supervisor_of(boot)
    assert table.count(Outcome.LATE) == 19
    assert table.count(Outcome.DELIVERED) == 2
    assert_balanced(table)


def test_latest_keeps_the_newest_frame_until_it_is_taken(link_boot, open_writer, reading):
    boot = link_boot("latest")
    writer, reader = open_writer(boot), reading(boot)
    for _ in range(3):
        send(writer)
    assert receive(reader) == 2
    assert reader.take(0) is None


def test_latest_never_goes_back_in_time(link_boot, open_writer, reading):
    boot = link_boot("latest", slots=6)
    writer, reader = open_writer(boot), reading(boot)

    def produce():
        for _ in range(3000):
            send(writer)
        writer.end()

    producer = threading.Thread(target=produce)
    producer.start()
    taken = []
    while not reader.drained:
        if (slot := reader.take(0.1)) is not None:
            taken.append(slot.seq)
            reader.release(slot, Outcome.DELIVERED)
    producer.join()
    table = supervisor_of(boot)
    assert taken == sorted(set(taken))
    assert taken[-1] == 2999
    assert table.count(Outcome.DELIVERED) == len(taken)
    assert table.count(Outcome.DELIVERED) + table.count(Outcome.LATE) == 3000
    assert [slot.state for slot in table.slots] == [FREE] * 6


def test_a_latest_reader_leaves_no_thread_behind(link_boot):
    before = set(threading.enumerate())
    reader = open_reader(link_boot("latest"), owner=1)
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["raw-skimmer"]
    reader.close()
    assert set(threading.enumerate()) == before


@pytest.mark.timeout(20)
def test_a_wake_that_comes_while_a_latest_reader_is_busy_is_not_lost(link_boot, open_writer, reading):
    boot = link_boot("latest")
    writer, reader = open_writer(boot), reading(boot)
    send(writer)
    held = reader.take()
    wake(boot.ready_fd)
    everything_is_heard(boot)
    reader.release(held, Outcome.DELIVERED)
    assert reader.take() is None


def test_an_end_lets_go_of_the_memory(link_boot, open_writer):
    writer = LinkWriter(link_boot(), owner=1)
    slot = send(writer)
    pixels = memoryview(slot.data)
    writer.close()
    assert pixels[0] == 0, "a view that somebody holds stays valid"


# Nobody reads


def test_while_nobody_reads_the_launcher_keeps_only_the_newest(open_writer, reading):
    link = FrameLink("raw", 3, "latest", FrameFormat(16, 16))
    writer = open_writer(link.boot)
    for _ in range(3):
        send(writer)
    assert send(writer, wait_seconds=0) is None
    link.skim()
    assert link.table.count(Outcome.LATE) == 2
    assert send(writer, wait_seconds=None) is not None, "the producer was told that there is room"
    link.skim()
    assert receive(reading(link.boot)) == 3
    assert_balanced(link.table)


def test_the_launcher_takes_in_the_bells_of_a_reader_that_is_away(open_writer):
    link = FrameLink("raw", 3, "latest", FrameFormat(16, 16))
    writer = open_writer(link.boot)
    send(writer)
    assert select.select([link.boot.ready_fd], [], [], 0)[0]
    link.skim()
    assert not select.select([link.boot.ready_fd], [], [], 0)[0]
    assert link.table.in_flight() == 1
    link.skim()
    assert link.table.in_flight() == 1
    link.close()


# Deaths


@pytest.mark.parametrize("policy", ["block", "latest"])
def test_a_successor_gets_the_frame_that_its_predecessor_died_on(link_boot, open_writer, reading, start, policy):
    boot = link_boot(policy)
    writer = open_writer(boot)
    consumer = start(CONSUME, boot)
    send(writer)
    assert consumer.hear() == 0
    consumer.kill()
    table = supervisor_of(boot)
    assert table.slots[0].state == IN_USE
    assert table.reclaim_consumer() == (1, 0)
    reader = reading(boot)
    assert receive(reader) == 0
    assert_balanced(table)


def test_frames_wait_in_the_table_while_the_consumer_is_dead(link_boot, open_writer, reading, start):
    boot = link_boot("block")
    writer = open_writer(boot)
    consumer = start(CONSUME, boot)
    send(writer)
    assert consumer.hear() == 0
    consumer.tell("go on")
    send(writer)
    assert consumer.hear() == 1
    consumer.kill()
    send(writer)
    send(writer)
    table = supervisor_of(boot)
    assert table.reclaim_consumer() == (1, 0)
    waiting = threading.Thread(target=send, args=(writer,))
    waiting.start()
    reader = reading(boot)
    assert [receive(reader) for _ in range(4)] == [1, 2, 3, 4]
    waiting.join()
    assert table.count(Outcome.DELIVERED) == 5
    assert_balanced(table)


def test_a_frame_that_kills_two_consumers_is_poison(link_boot, open_writer, reading, start):
    boot = link_boot("block")
    writer = open_writer(boot)
    table = supervisor_of(boot)
    send(writer)
    for reclaimed in ((1, 0), (0, 1)):
        consumer = start(CONSUME, boot)
        assert consumer.hear() == 0
        consumer.kill()
        assert table.reclaim_consumer() == reclaimed
    send(writer)
    assert receive(reading(boot)) == 1
    assert table.count(Outcome.POISON) == 1
    assert_balanced(table)


def test_a_producers_successor_goes_on_with_the_next_number(link_boot, open_writer, reading, start):
    boot = link_boot("block")
    reader = reading(boot)
    producer = start(PRODUCE, boot)
    producer.tell("publish")
    assert producer.hear() == 0
    producer.tell("begin")
    assert producer.hear() == 1
    producer.kill()
    table = supervisor_of(boot)
    assert table.slots[0].state == READY
    assert table.reclaim_producer(Outcome.CRASH) == 1
    writer = open_writer(boot)
    send(writer)
    assert [receive(reader), receive(reader)] == [0, 2]
    assert table.count(Outcome.CRASH) == 1
    assert_balanced(table)


def test_pixels_that_were_published_survive_their_producer(link_boot, reading, start):
    boot = link_boot("block")
    producer = start(PRODUCE, boot)
    for seq in range(3):
        producer.tell("publish")
        assert producer.hear() == seq
    producer.kill()
    reader = reading(boot)
    assert [receive(reader) for _ in range(3)] == [0, 1, 2]
