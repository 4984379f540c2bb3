"""Python's own way: a queue of arrays between processes, plain and torch's: pickle, a feeder thread, a locked pipe.

Torch's is used as ai-runner uses it: `maxsize=1`, a tensor made anew for every frame, moved to shared memory by its
first crossing. torch is imported in the ends alone; the queue itself is the same object.
"""

import multiprocessing
from typing import Any

import numpy as np

from benchmarks.handoff_peers.transport import Consumer, Frame, Producer, Transport

MAX_QUEUED_FRAMES = 1


class NumpyQueue(Transport):
    def __init__(self, frames: list[Frame]) -> None:
        super().__init__()
        self.queue: Any = multiprocessing.get_context("spawn").Queue(MAX_QUEUED_FRAMES)

    def producer(self, frame: Frame) -> Producer:
        return NumpyProducer(self.queue)

    def consumer(self, frame: Frame) -> Consumer:
        return QueueConsumer(self.queue)


class TorchQueue(NumpyQueue):
    def producer(self, frame: Frame) -> Producer:
        return TorchProducer(self.queue)

    def consumer(self, frame: Frame) -> Consumer:
        import torch.multiprocessing  # noqa: F401 - teaches the queue's pickler to share tensors

        return QueueConsumer(self.queue)


class NumpyProducer(Producer):
    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def fresh(self, pixels: memoryview) -> Any:
        return np.frombuffer(pixels, np.uint8)

    def send(self, seq: int, source: Any) -> None:
        self._queue.put((seq, source))


class TorchProducer(NumpyProducer):
    def __init__(self, queue: Any) -> None:
        super().__init__(queue)
        import torch.multiprocessing

        self._from_buffer, self._uint8 = torch.frombuffer, torch.uint8

    def fresh(self, pixels: memoryview) -> Any:
        return self._from_buffer(pixels, dtype=self._uint8).clone()


class QueueConsumer(Consumer):
    """Arrays and CPU tensors can both be indexed as they come."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._frame: Any = None

    def receive(self) -> tuple[int, Any]:
        seq, self._frame = self._queue.get()
        return seq, self._frame

    def release(self) -> None:
        self._frame = None
