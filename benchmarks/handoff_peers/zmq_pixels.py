"""ZeroMQ with the pixels in the message: PUSH to PULL over ipc, no copy made in Python, all of it through a socket."""

import os
from typing import Any

import zmq

from benchmarks.handoff_peers.transport import SLOTS, Consumer, Frame, Producer, Transport

MAX_QUEUED_FRAMES = SLOTS // 2
"""At each end."""


class ZmqPixels(Transport):
    def __init__(self, frames: list[Frame]) -> None:
        super().__init__()
        self.endpoint = f"ipc://@handoff-pixels-{os.getpid()}-{self.acknowledgements}"

    def producer(self, frame: Frame) -> Producer:
        return ZmqProducer(self.endpoint)

    def consumer(self, frame: Frame) -> Consumer:
        return ZmqConsumer(self.endpoint)


class ZmqProducer(Producer):
    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context[zmq.Socket[bytes]]()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.set(zmq.SNDHWM, MAX_QUEUED_FRAMES)
        self._socket.connect(endpoint)

    def send(self, seq: int, source: Any) -> None:
        self._socket.send(source, copy=False)

    def close(self) -> None:
        self._context.destroy(linger=0)


class ZmqConsumer(Consumer):
    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context[zmq.Socket[bytes]]()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.set(zmq.RCVHWM, MAX_QUEUED_FRAMES)
        self._socket.bind(endpoint)
        self._message: zmq.Frame | None = None
        self._received = 0

    def receive(self) -> tuple[int, Any]:
        self._message = self._socket.recv(copy=False)
        self._received += 1
        return self._received - 1, self._message.buffer

    def release(self) -> None:
        self._message = None

    def close(self) -> None:
        self._context.destroy(linger=0)
