"""A stage's end of a recording: over a real socket, with a recorder that is there, slow, late, or another one."""

import os
import threading
from pathlib import Path

import msgspec
import pytest
import zmq

from pipeline.boot import TapBoot
from pipeline.messages import EncodedBytes, EncodedEnd, Tapped
from pipeline.recording.format import Input, InputEnd, OutputEnd
from pipeline.recording.tap import QUEUED_RECORDS, Tap, input_tap

PATIENCE_MS = 10_000


class Bench:
    def __init__(self, context: zmq.Context, folder: Path) -> None:
        self.context = context
        self.endpoint = f"ipc://{folder}/tape"
        self.queue: zmq.Socket[bytes] | None = None

    def tap(self, recording: str, *, waits: bool = False) -> Tap:
        return Tap(self.context, TapBoot(self.endpoint, recording, waits), "egress")

    def listen(self) -> None:
        self.queue = self.context.socket(zmq.PULL)
        self.queue.set(zmq.RCVHWM, 1)
        self.queue.bind(self.endpoint)

    def read(self) -> Tapped:
        assert self.queue is not None
        assert self.queue.poll(PATIENCE_MS)
        return msgspec.msgpack.decode(self.queue.recv(), type=Tapped)


@pytest.fixture
def bench(context: zmq.Context, short_dir: Path) -> Bench:
    return Bench(context, short_dir)


def test_what_was_told_before_the_recorder_listened_comes_in_order_with_numbers(bench: Bench) -> None:
    tap = bench.tap("r1")
    for at_ns in range(3):
        tap.send(OutputEnd(at_ns), 5)
    bench.listen()
    assert [bench.read() for _ in range(3)] == [Tapped("r1", "egress", n, 5, OutputEnd(n)) for n in range(3)]


def test_a_live_stream_does_not_wait_and_the_numbers_show_what_was_lost(bench: Bench) -> None:
    tap = bench.tap("r1")
    for at_ns in range(QUEUED_RECORDS + 10):
        tap.send(OutputEnd(at_ns), 0)
    bench.listen()
    for number in range(QUEUED_RECORDS):
        assert bench.read().number == number
    tap.send(OutputEnd(0), 0)
    assert bench.read().number == QUEUED_RECORDS + 10


def test_a_file_waits_for_its_recorder_and_loses_nothing(bench: Bench) -> None:
    tap = bench.tap("r1", waits=True)
    count = QUEUED_RECORDS + 200
    teller = threading.Thread(target=lambda: [tap.send(OutputEnd(n), 0) for n in range(count)])
    teller.start()
    bench.listen()
    assert [bench.read().number for _ in range(count)] == list(range(count))
    teller.join()


def test_a_file_does_not_wait_for_a_recorder_that_the_launcher_gave_up(bench: Bench) -> None:
    tap = bench.tap("r1", waits=True)
    told = os.eventfd(0)

    def tell() -> None:
        for number in range(QUEUED_RECORDS + 1):
            os.eventfd_write(told, 1)
            tap.send(OutputEnd(number), 0)

    teller = threading.Thread(target=tell)
    teller.start()
    while os.eventfd_read(told) and tap._number < QUEUED_RECORDS:
        pass
    tap.recording = ""
    teller.join(PATIENCE_MS / 1000)
    assert not teller.is_alive()
    os.close(told)
    assert tap._socket is not None
    tap._socket.close(linger=0)


def test_another_recording_begins_with_number_0_whatever_was_queued_for_the_one_before(bench: Bench) -> None:
    tap = bench.tap("r1")
    for at_ns in range(QUEUED_RECORDS + 1):
        tap.send(OutputEnd(at_ns), 0)
    tap.recording = "r2"
    tap.send(OutputEnd(2), 0)
    bench.listen()
    told = bench.read()
    while told.recording == "r1":  # ZeroMQ may hand over what it had; a recorder passes over it.
        told = bench.read()
    assert told == Tapped("r2", "egress", 0, 0, OutputEnd(2))


def test_what_ingress_hands_on_is_told_once_it_is_recorded_and_not_before(bench: Bench) -> None:
    tap = bench.tap("")
    tell = input_tap(tap, 4)
    tell(EncodedBytes(1, 0, 7, False, False, b"before"))
    tap.recording = "r1"
    tell(EncodedBytes(1, 6, 8, True, True, b"data"))
    tell(EncodedEnd())
    bench.listen()
    first, end = bench.read(), bench.read()
    assert (first.number, first.epoch, first.record) == (0, 4, Input(1, 6, 8, True, True, b"data"))
    assert isinstance(end.record, InputEnd)
