"""iceoryx2: loan a sample, write it in place, send, notify; the subscriber waits on the event's listener.

Used as its documentation says and as fast as its Python package goes: one node an end, a slice of a fixed size, no
overflow, and a view that is made once for each chunk of its memory, since the chunks come again and again.
"""

import ctypes
import os
from typing import Any

import iceoryx2 as iox2

from benchmarks.handoff_peers.transport import SLOTS, Consumer, Frame, Producer, Transport, write_frame

Pixels = iox2.Slice[ctypes.c_uint8]


class Iceoryx(Transport):
    def __init__(self, frames: list[Frame]) -> None:
        super().__init__()
        self.service = f"handoff/{os.getpid()}/{self.acknowledgements}"

    def producer(self, frame: Frame) -> Producer:
        return IceoryxProducer(self.service, frame.nbytes)

    def consumer(self, frame: Frame) -> Consumer:
        return IceoryxConsumer(self.service, frame.nbytes)


class IceoryxProducer(Producer):
    def __init__(self, service: str, nbytes: int) -> None:
        self._node, frames, events = _open(service)
        self._publisher = (
            frames.publisher_builder()
            .initial_max_slice_len(nbytes)
            .max_loaned_samples(SLOTS)
            .backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        self._notifier = events.notifier_builder().create()
        self._nbytes = nbytes
        self._views: dict[int, memoryview] = {}
        self._populate()

    def send(self, seq: int, source: memoryview | None) -> None:
        loan = self._publisher.loan_slice_uninit(self._nbytes)
        pointer = loan.payload_ptr
        write_frame(self._views.get(pointer) or self._view(pointer), seq, source)
        loan.assume_init().send()
        self._notifier.notify()

    def close(self) -> None:
        self._publisher.delete()
        self._notifier.delete()

    def _view(self, pointer: int) -> memoryview:
        view = self._views[pointer] = _bytes_at(pointer, self._nbytes)
        return view

    def _populate(self) -> None:
        """Touch the memory before the clock starts, as every other transport does."""
        loans = [self._publisher.loan_slice_uninit(self._nbytes) for _ in range(SLOTS)]
        for loan in loans:
            ctypes.memset(loan.payload_ptr, 0, self._nbytes)
            loan.delete()


class IceoryxConsumer(Consumer):
    def __init__(self, service: str, nbytes: int) -> None:
        self._node, frames, events = _open(service)
        self._listener = events.listener_builder().create()
        self._subscriber = frames.subscriber_builder().create()
        self._nbytes = nbytes
        self._views: dict[int, memoryview] = {}
        self._sample: Any = None
        self._received = 0

    def receive(self) -> tuple[int, memoryview]:
        while (sample := self._subscriber.receive()) is None:
            self._listener.blocking_wait()
        self._sample = sample
        self._received += 1
        pointer = sample.payload_ptr
        return self._received - 1, self._views.get(pointer) or self._view(pointer)

    def release(self) -> None:
        self._sample.delete()

    def close(self) -> None:
        self._subscriber.delete()
        self._listener.delete()

    def _view(self, pointer: int) -> memoryview:
        view = self._views[pointer] = _bytes_at(pointer, self._nbytes)
        return view


def _open(service: str) -> tuple[Any, Any, Any]:
    """A node, which must outlive the rest, its frames, and its events."""
    iox2.set_log_level(iox2.LogLevel.Error)
    builder = iox2.NodeBuilder.new().signal_handling_mode(iox2.SignalHandlingMode.Disabled)
    node = builder.create(iox2.ServiceType.Ipc)
    name = iox2.ServiceName.new(service)
    frames = (
        node.service_builder(name)
        .publish_subscribe(Pixels)
        .max_publishers(1)
        .max_subscribers(1)
        .history_size(0)
        .subscriber_max_buffer_size(SLOTS)
        .subscriber_max_borrowed_samples(1)
        .enable_safe_overflow(False)
        .open_or_create()
    )
    # One kind of event: a wake-up looks through fewer bits, which takes 0.6 us less than with the default of 255 kinds.
    events = node.service_builder(name).event().event_id_max_value(0).max_notifiers(1).max_listeners(1)
    return node, frames, events.open_or_create()


def _bytes_at(pointer: int, nbytes: int) -> memoryview:
    return memoryview((ctypes.c_uint8 * nbytes).from_address(pointer)).cast("B")
