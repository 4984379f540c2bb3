"""The floor: slots and two indexes in shared memory, the cheapest doorbell that Python has, and nothing else. Two rows
more carry a descriptor over a socket in place of that doorbell.

No states, no counts, no recovery: whoever dies while holding a slot takes the ring with it.
"""

import os
import socket
from collections.abc import Callable
from typing import Literal

import msgspec
import zmq

from benchmarks.handoff_peers.transport import SLOTS, Consumer, Frame, Producer, Transport, write_frame
from pipeline.memory.slab import PAGE_BYTES, Slab, create_slab, page_aligned

HEAD, TAIL = 0, 8
"""Words of the ring's first page, in cache lines of their own: frames sent, frames released."""

MAX_DESCRIPTOR_BYTES = 128
NO_BELL = -1
Doorbell = Literal["eventfd", "seqpacket", "zeromq"]


class Descriptor(msgspec.Struct, array_like=True, frozen=True):
    slot: int
    seq: int
    epoch: int
    pts: int


class Ring(Transport):
    def __init__(self, frames: list[Frame], doorbell: Doorbell) -> None:
        super().__init__()
        self.doorbell = doorbell
        self.slabs = {frame.name: self.inherit(create_slab("ring", _ring_bytes(frame))) for frame in frames}
        self.ready, self.free = self.inherit(os.eventfd(0)), self.inherit(os.eventfd(0))
        self.endpoint = f"ipc://@handoff-ring-{os.getpid()}-{self.ready}"
        self.send_fd = self.receive_fd = -1
        if doorbell == "seqpacket":
            ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.send_fd, self.receive_fd = (self.inherit(end.detach()) for end in ends)

    def producer(self, frame: Frame) -> Producer:
        memory = _Memory(self.slabs[frame.name], frame)
        if self.doorbell == "eventfd":
            return RingProducer(memory, self.ready, self.free)
        if self.doorbell == "seqpacket":
            bell = socket.socket(fileno=os.dup(self.send_fd))
            return DescriptorProducer(memory, self.free, bell.send, bell.close)
        context = zmq.Context[zmq.Socket[bytes]]()
        push = context.socket(zmq.PUSH)
        push.connect(self.endpoint)
        return DescriptorProducer(memory, self.free, push.send, lambda: context.destroy(linger=0))

    def consumer(self, frame: Frame) -> Consumer:
        memory = _Memory(self.slabs[frame.name], frame)
        memory.words[HEAD] = memory.words[TAIL] = 0
        if self.doorbell == "eventfd":
            return RingConsumer(memory, self.ready, self.free)
        if self.doorbell == "seqpacket":
            bell = socket.socket(fileno=os.dup(self.receive_fd))
            return DescriptorConsumer(memory, self.free, lambda: bell.recv(MAX_DESCRIPTOR_BYTES), bell.close)
        context = zmq.Context[zmq.Socket[bytes]]()
        pull = context.socket(zmq.PULL)
        pull.bind(self.endpoint)
        return DescriptorConsumer(memory, self.free, pull.recv, lambda: context.destroy(linger=0))


class RingProducer(Producer):
    def __init__(self, memory: "_Memory", ready: int, free: int) -> None:
        self._memory, self._words, self._slots = memory, memory.words, memory.slots
        self._ready, self._free = ready, free
        self._head = 0

    def send(self, seq: int, source: memoryview | None) -> None:
        head = self._head
        while head - self._words[TAIL] >= SLOTS:
            os.eventfd_read(self._free)
        write_frame(self._slots[head % SLOTS], seq, source)
        self._head = self._words[HEAD] = head + 1
        os.eventfd_write(self._ready, 1)

    def close(self) -> None:
        self._memory.close()


class RingConsumer(Consumer):
    def __init__(self, memory: "_Memory", ready: int, free: int) -> None:
        self._memory, self._words, self._slots = memory, memory.words, memory.slots
        self._ready, self._free = ready, free
        self._tail = 0

    def receive(self) -> tuple[int, memoryview]:
        tail = self._tail
        while self._words[HEAD] == tail:
            os.eventfd_read(self._ready)
        return tail, self._slots[tail % SLOTS]

    def release(self) -> None:
        self._tail += 1
        self._words[TAIL] = self._tail
        os.eventfd_write(self._free, 1)

    def close(self) -> None:
        self._memory.close()


class DescriptorProducer(RingProducer):
    """Every frame's descriptor is a message; credits come back as in the floor."""

    def __init__(
        self, memory: "_Memory", free: int, ring: Callable[[bytes], object], hang_up: Callable[[], None]
    ) -> None:
        super().__init__(memory, NO_BELL, free)
        self._ring, self._hang_up = ring, hang_up
        self._encoder = msgspec.msgpack.Encoder()

    def send(self, seq: int, source: memoryview | None) -> None:
        head = self._head
        while head - self._words[TAIL] >= SLOTS:
            os.eventfd_read(self._free)
        write_frame(self._slots[head % SLOTS], seq, source)
        self._head = head + 1
        self._ring(self._encoder.encode(Descriptor(head % SLOTS, seq, 0, seq * 3000)))

    def close(self) -> None:
        self._hang_up()
        super().close()


class DescriptorConsumer(RingConsumer):
    def __init__(self, memory: "_Memory", free: int, hear: Callable[[], bytes], hang_up: Callable[[], None]) -> None:
        super().__init__(memory, NO_BELL, free)
        self._hear, self._hang_up = hear, hang_up
        self._decoder = msgspec.msgpack.Decoder(Descriptor)

    def receive(self) -> tuple[int, memoryview]:
        descriptor = self._decoder.decode(self._hear())
        return descriptor.seq, self._slots[descriptor.slot]

    def close(self) -> None:
        self._hang_up()
        super().close()


class _Memory:
    """One end's mapping of the ring of one kind of frame."""

    def __init__(self, fd: int, frame: Frame) -> None:
        self._slab = Slab(fd)
        self.words = self._slab.words(0, PAGE_BYTES // 8)
        stride = page_aligned(frame.nbytes)
        starts = [PAGE_BYTES + slot * stride for slot in range(SLOTS)]
        self.slots = [self._slab.buffer[start : start + frame.nbytes] for start in starts]

    def close(self) -> None:
        for view in (self.words, *self.slots):
            view.release()
        self._slab.close()


def _ring_bytes(frame: Frame) -> int:
    return PAGE_BYTES + SLOTS * page_aligned(frame.nbytes)
