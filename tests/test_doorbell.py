"""Bells between threads and processes: heard once, heard late, and heard by a successor."""

import os
import signal
import threading

import pytest

from pipeline.doorbell import BellListener, make_bell, ring, wake

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def bell():
    fd = make_bell()
    yield fd
    os.close(fd)


def test_a_bell_ends_a_wait(bell):
    ringer = threading.Thread(target=ring, args=(bell,))
    ringer.start()
    assert BellListener(bell).wait() is False
    ringer.join()


def test_a_bell_that_was_rung_before_is_heard(bell):
    ring(bell)
    assert BellListener(bell).wait() is False


def test_many_bells_are_heard_as_one(bell):
    listener = BellListener(bell)
    for _ in range(10_000):
        ring(bell)
    assert listener.wait() is False
    assert listener.wait(0) is False
    ring(bell)
    assert listener.wait() is False


def test_a_wake_is_told_from_a_bell(bell):
    listener = BellListener(bell)
    ring(bell)
    wake(bell)
    ring(bell)
    assert listener.wait() is True
    ring(bell)
    assert listener.wait() is False


@pytest.mark.parametrize("seconds", [-1, 0, 1e-9, 0.001])
def test_a_wait_without_a_bell_ends_in_its_time(bell, seconds):
    assert BellListener(bell).wait(seconds) is False


def test_a_signal_does_not_end_a_wait_but_its_handler_may(bell):
    handled = []

    def on_signal(*_):
        handled.append(True)
        wake(bell)

    before = signal.signal(signal.SIGUSR1, on_signal)
    main = threading.main_thread().ident
    killer = threading.Thread(target=lambda: signal.pthread_kill(main, signal.SIGUSR1))
    killer.start()
    assert BellListener(bell).wait() is True
    killer.join()
    signal.signal(signal.SIGUSR1, before)
    assert handled


def test_a_successor_hears_what_its_predecessor_did_not(bell):
    dead = os.fork()
    if not dead:
        signal.raise_signal(signal.SIGKILL)
    os.waitpid(dead, 0)
    ring(bell)
    heard = os.fork()
    if not heard:
        BellListener(bell).wait()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(heard, 0)[1]) == 7


def test_a_bell_survives_its_ringer(bell):
    ringer = os.fork()
    if not ringer:
        ring(bell)
        signal.raise_signal(signal.SIGKILL)
    os.waitpid(ringer, 0)
    assert BellListener(bell).wait() is False
