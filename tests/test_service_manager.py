"""What systemd is told, read at the other end of its socket."""

import os
import socket

import pytest

from pipeline.service_manager import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def systemd(request, short_dir, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"{short_dir}/notify"
        listener.bind(name if request.param == "path" else "\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", name if request.param == "path" else "@" + name)
        listener.setblocking(False)
        yield listener


def told(listener):
    lines = []
    while True:
        try:
            lines += listener.recv(4096).decode().split("\n")
        except BlockingIOError:
            return lines


def test_the_service_has_started_when_frames_can_flow(systemd):
    manager = ServiceManager()
    manager.tell("LOADING", "0 frames")
    assert told(systemd) == ["STATUS=LOADING: 0 frames"]
    manager.tell("OK", "1 frame")
    assert told(systemd) == ["READY=1", "STATUS=OK: 1 frame"]
    manager.tell("OK", "1 frame")
    assert told(systemd) == []
    manager.stopping()
    assert told(systemd) == ["STOPPING=1"]
    manager.close()


def test_a_reload_begins_and_ends(systemd):
    manager = ServiceManager()
    manager.tell("OK", "")
    told(systemd)
    manager.reloading()
    manager.reloaded()
    begin, stamp, end = told(systemd)
    assert (begin, end) == ("RELOADING=1", "READY=1")
    assert int(stamp.removeprefix("MONOTONIC_USEC=")) > 0
    manager.close()


def test_the_watchdog_is_fed_when_the_unit_has_one(systemd, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "3600000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    manager = ServiceManager()
    manager.feed_watchdog()
    manager.feed_watchdog()
    assert told(systemd) == ["WATCHDOG=1"], "four times in its interval is enough"
    manager.close()


@pytest.mark.parametrize(
    "environment", [{}, {"WATCHDOG_USEC": "junk"}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}]
)
def test_no_watchdog_is_fed_that_is_not_ours(systemd, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    manager = ServiceManager()
    manager.feed_watchdog()
    assert told(systemd) == []
    manager.close()


def test_without_systemd_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    manager = ServiceManager()
    manager.tell("OK", "")
    manager.stopping()
    manager.close()


def test_a_manager_that_is_gone_does_no_harm(short_dir, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", f"{short_dir}/nobody")
    manager = ServiceManager()
    manager.tell("OK", "")
    manager.close()
