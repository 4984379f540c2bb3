"""A doorbell: tells the process at the other end of a link that the slot table has changed.

It is a ZeroMQ PUSH/PULL pair over an ipc socket. A bell is a hint and never the truth: losing one loses no frame, since
whoever waits looks at the table before it sleeps, and again when RESCAN_SECONDS have passed without a bell.
"""

import contextlib
import os
from collections.abc import Iterator

import zmq

RESCAN_SECONDS = 0.1
RECONNECT_MS = 5

MAX_QUEUED_BELLS = 64
"""As many as the slots of the largest link: when so many wait, one more would tell the listener nothing new."""


class BellRinger:
    """The end that rings. Never blocks: with nobody listening, or MAX_QUEUED_BELLS waiting, the bell is dropped."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self._socket = context.socket(zmq.PUSH)
        self._socket.set(zmq.SNDHWM, MAX_QUEUED_BELLS)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._socket.connect(endpoint)

    def ring(self, message: bytes | bytearray = b"") -> None:
        with contextlib.suppress(zmq.Again):
            self._socket.send(message, zmq.NOBLOCK)

    def close(self) -> None:
        self._socket.close()


class BellListener:
    """The end that waits. `wake_fd` is a non-blocking eventfd that ends a wait early (the worker was told
    something)."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, wake_fd: int) -> None:
        self._wake_fd = wake_fd
        self._path = endpoint.removeprefix("ipc://")
        self._socket = context.socket(zmq.PULL)
        self._socket.set(zmq.RCVHWM, MAX_QUEUED_BELLS)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind(endpoint)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(wake_fd, zmq.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Return when a bell is there, when woken (True), or after `seconds`, at most RESCAN_SECONDS."""
        events = self._poller.poll(int(1000 * min(max(seconds, 0.001), RESCAN_SECONDS)))
        woken = any(source == self._wake_fd for source, _ in events)
        if woken:
            with contextlib.suppress(BlockingIOError):  # Another thread may have taken it.
                os.eventfd_read(self._wake_fd)
        return woken

    def drain(self) -> Iterator[bytes]:
        """Every bell that has come, without waiting."""
        while True:
            try:
                yield self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return

    def close(self) -> None:
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
