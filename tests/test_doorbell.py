import os
import threading

import pytest

from pipeline.doorbell import MAX_QUEUED_BELLS, BellListener, BellRinger


@pytest.fixture
def endpoint(short_dir):
    return f"ipc://{short_dir}/bell"


@pytest.fixture
def bells(context, endpoint, wake_fd):
    listener, ringer = BellListener(context, endpoint, wake_fd), BellRinger(context, endpoint)
    yield listener, ringer
    ringer.close()
    listener.close()


def hear(listener, count=1):
    heard = []
    while len(heard) < count:
        listener.wait(1)
        heard += listener.drain()
    return heard


def test_bells_arrive_in_order(bells):
    listener, ringer = bells
    for message in (b"1", b"2", b""):
        ringer.ring(message)
    assert hear(listener, 3) == [b"1", b"2", b""]


def test_the_message_is_copied_before_the_buffer_is_used_again(bells):
    listener, ringer = bells
    buffer = bytearray(b"first")
    ringer.ring(buffer)
    buffer[:] = b"later"
    assert hear(listener) == [b"first"]


def test_draining_an_empty_bell_does_not_wait(bells):
    assert list(bells[0].drain()) == []


@pytest.mark.timeout(20)
def test_ringing_never_blocks_with_nobody_listening(context, endpoint):
    ringer = BellRinger(context, endpoint)
    for _ in range(10 * MAX_QUEUED_BELLS):
        ringer.ring(b"x")
    ringer.close()


@pytest.mark.timeout(20)
def test_a_listener_that_does_not_listen_costs_a_bounded_number_of_bells(bells):
    listener, ringer = bells
    ringer.ring(b"first")
    hear(listener)
    for _ in range(100 * MAX_QUEUED_BELLS):
        ringer.ring(b"x" * 4096)
    kept = 0
    while True:
        listener.wait(1)
        if not (heard := list(listener.drain())):
            break
        kept += len(heard)
    assert MAX_QUEUED_BELLS <= kept < 100 * MAX_QUEUED_BELLS


def test_a_ringer_may_be_there_before_its_listener(context, endpoint, wake_fd):
    ringer = BellRinger(context, endpoint)
    ringer.ring(b"early")
    listener = BellListener(context, endpoint, wake_fd)
    assert hear(listener) == [b"early"]
    ringer.close()
    listener.close()


def test_a_wait_ends_when_the_worker_is_woken(bells, wake_fd):
    listener, _ = bells
    os.eventfd_write(wake_fd, 1)
    listener.wait(60)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(wake_fd)


def test_a_wake_that_another_thread_took_does_no_harm(bells, wake_fd):
    listener, ringer = bells
    done = threading.Event()

    def steal():
        while not done.is_set():
            try:
                os.eventfd_read(wake_fd)
            except BlockingIOError:
                continue

    thief = threading.Thread(target=steal)
    thief.start()
    for _ in range(200):
        os.eventfd_write(wake_fd, 1)
        listener.wait(0.001)
    done.set()
    thief.join()
    ringer.ring(b"still alive")
    assert hear(listener) == [b"still alive"]


@pytest.mark.parametrize("seconds", [-1, 0, 1e-9])
def test_a_wait_of_nothing_returns(bells, seconds):
    bells[0].wait(seconds)


def test_a_successor_hears_on_the_same_address(open_context, endpoint, wake_fd):
    ringer = BellRinger(open_context(), endpoint)
    first_life = open_context()
    listener = BellListener(first_life, endpoint, wake_fd)
    ringer.ring(b"1")
    assert hear(listener) == [b"1"]
    first_life.destroy(linger=0)

    successor = BellListener(open_context(), endpoint, wake_fd)
    heard = []
    while not heard:
        ringer.ring(b"2")
        successor.wait(1)
        heard += successor.drain()
    assert set(heard) == {b"2"}
    successor.close()
    ringer.close()


def test_closing_removes_the_socket_file(open_context, endpoint, short_dir, wake_fd):
    context = open_context()
    listener = BellListener(context, endpoint, wake_fd)
    assert os.listdir(short_dir) == ["bell"]
    listener.close()
    context.destroy()
    assert os.listdir(short_dir) == []
