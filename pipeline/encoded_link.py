"""The link of encoded bytes from ingress to decode: bounded, replayed after either end dies, nothing lost or doubled.

Ingress keeps every segment that decode may still need: from the start of the one that decode is in. Decode says where
it is by two words in shared memory, so that they survive both, and by messages that let ingress forget and go on.
It carries a few megabits a second, so it is built for order and not for speed; pixels never come this way.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator

import msgspec
import zmq

from pipeline.boot import EncodedBoot
from pipeline.memory.slab import Slab, page_aligned
from pipeline.messages import (
    EncodedAttach,
    EncodedAttached,
    EncodedBytes,
    EncodedConsumed,
    EncodedDown,
    EncodedEnd,
    EncodedUp,
)

NO_SEGMENT = -1
END_OF_STREAM = 1 << 62
CURSOR_BYTES = page_aligned(24)

RECONNECT_MS = 5
ANSWER_SECONDS = 0.5
"""After so long without an answer decode asks again."""

TELL_EVERY_MESSAGES = 16
QUEUED_MESSAGES = 4 * TELL_EVERY_MESSAGES
"""Decode says how far it has come well before ingress may run into the bound of the socket."""

Context = zmq.Context[zmq.Socket[bytes]]


class Cursor:
    """Where decode is: the segment it reads and the bytes of it that it has used. In shared memory; decode stores,
    ingress reads when it starts again. `NO_SEGMENT` before the first byte, `END_OF_STREAM` after the last."""

    def __init__(self, fd: int) -> None:
        self._slab = Slab(fd)
        self._words = self._slab.words(0, 3)

    @property
    def segment(self) -> int:
        return int(self._words[0]) - 1  # A new slab is all zeros, which must mean NO_SEGMENT.

    @property
    def offset(self) -> int:
        return int(self._words[1])

    @property
    def base(self) -> int:
        """What ingress adds to a channel's sequence number to get the link's. Kept here over its death."""
        return int(self._words[2])

    @base.setter
    def base(self, base: int) -> None:
        self._words[2] = base

    def clear(self) -> None:
        """Begin another stream. No process may use it just now."""
        for index in range(len(self._words)):
            self._words[index] = 0

    def close(self) -> None:
        self._words.release()
        self._slab.close()

    def move(self, segment: int, offset: int) -> None:
        """Offset first when it shrinks: a reader between the two stores then asks for bytes again, never too few."""
        if segment + 1 != self._words[0]:
            self._words[1] = 0
            self._words[0] = segment + 1
        self._words[1] = offset


class EncodedWriter:
    """Ingress's end. Keeps what decode has not left behind, up to `buffer_bytes`; single-threaded, never blocks."""

    def __init__(
        self, boot: EncodedBoot, context: Context, copy: Callable[[EncodedBytes | EncodedEnd], None] | None = None
    ) -> None:
        """`copy` is told of every message, once, when it is written."""
        self.cursor = Cursor(boot.fd)
        self._copy = copy
        self._limit = boot.buffer_bytes
        self._kept: deque[EncodedBytes | EncodedEnd] = deque()
        self._kept_bytes = 0
        self._unsent = 0  # index into _kept of the first message that the present decode has not been sent
        self._peer: bytes | None = None
        self._socket = context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.SNDHWM, QUEUED_MESSAGES)
        self._socket.set(zmq.ROUTER_MANDATORY, 1)
        self._socket.bind(boot.endpoint)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[EncodedUp] = msgspec.msgpack.Decoder(EncodedUp)

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """For polling: readable means that `attend` has something to do."""
        return self._socket

    @property
    def full(self) -> bool:
        """Whether the bound is reached: take no more input until decode has moved on."""
        return self._kept_bytes >= self._limit

    @property
    def drained(self) -> bool:
        """Whether decode has taken in all there was, the end included, from this process or from one before it. Decode
        may be gone by then, so that it stands in shared memory."""
        return self.cursor.segment == END_OF_STREAM

    def write(self, segment: int, offset: int, data: bytes, *, last: bool = False, gap: bool = False) -> None:
        """Bytes of a segment that arrived just now. `last` completes it, and may come with no bytes."""
        self._keep(EncodedBytes(segment, offset, time.monotonic_ns(), last, gap, data))
        self._kept_bytes += len(data)

    def end(self) -> None:
        """No more segments will come."""
        self._keep(EncodedEnd())

    def attend(self) -> None:
        """Hear what decode has to say and send it what it lacks. Call when `socket` is readable and after writing."""
        while True:
            try:
                peer, message = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._hear(peer, self._decoder.decode(message))
        if self.full:
            self._forget_before(self.cursor.segment)
        self._send()

    def close(self) -> None:
        self._socket.close()

    def _keep(self, message: EncodedBytes | EncodedEnd) -> None:
        self._kept.append(message)
        if self._copy is not None:
            self._copy(message)
        self._send()

    def _hear(self, peer: bytes, message: EncodedUp) -> None:
        if isinstance(message, EncodedAttach):
            self._peer, self._unsent = peer, 0
            with contextlib.suppress(zmq.ZMQError):  # It asks again.
                self._socket.send_multipart((peer, self._encoder.encode(EncodedAttached())), zmq.NOBLOCK)
        if peer == self._peer:
            self._forget_before(message.segment)

    def _forget_before(self, segment: int) -> None:
        while self._kept:
            oldest = self._kept[0]
            if isinstance(oldest, EncodedEnd) or (oldest.segment >= segment and not self._is_too_much(oldest)):
                break
            self._kept_bytes -= len(oldest.data)
            self._kept.popleft()
            self._unsent = max(0, self._unsent - 1)

    def _is_too_much(self, oldest: EncodedBytes) -> bool:
        """Whether the segment that decode is in outgrows the bound and decode has used these bytes of it. A successor
        then begins in the middle, at the next keyframe: that costs pictures, where waiting would cost the stream."""
        used = oldest.segment == self.cursor.segment and oldest.offset + len(oldest.data) <= self.cursor.offset
        return used and self.full

    def _send(self) -> None:
        while self._peer is not None and self._unsent < len(self._kept):
            message = self._kept[self._unsent]
            try:
                self._socket.send_multipart((self._peer, self._encoder.encode(message)), zmq.NOBLOCK)
            except zmq.Again:
                return  # Decode is behind; `attend` goes on when it says how far it has come.
            except zmq.ZMQError:
                self._peer = None  # Decode is gone; its successor will attach.
                return
            self._unsent += 1


class EncodedReader:
    """Decode's end."""

    def __init__(self, boot: EncodedBoot, context: Context, *, owner: int) -> None:
        self.cursor = Cursor(boot.fd)
        self.cursor.move(self.cursor.segment, 0)  # This process has used nothing yet.
        self._position = (self.cursor.segment, 0)
        self._untold = 0
        self._asked_at: float | None = None  # since when there is no answer to an attach
        self._socket = context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 1000)
        self._socket.set(zmq.RCVHWM, QUEUED_MESSAGES)
        self._socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._socket.set(zmq.IDENTITY, f"decode-{owner}".encode())
        self._socket.connect(boot.endpoint)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[EncodedDown] = msgspec.msgpack.Decoder(EncodedDown)
        self.attach()

    def attach(self) -> None:
        """Ask ingress to go on from where this reader is. To be called again when ingress was restarted."""
        self._asked_at = time.monotonic()
        self._tell(EncodedAttach(self.cursor.segment))

    @property
    def is_asking(self) -> bool:
        """Whether ingress has not answered yet."""
        return self._asked_at is not None

    def insist(self) -> None:
        """Ask again if there was no answer: what is sent while the connection to an ingress that died is still there is
        lost with it. To be called now and then while it `is_asking`."""
        if self._asked_at is not None and time.monotonic() - self._asked_at > ANSWER_SECONDS:
            self.attach()

    def receive(self) -> Iterator[EncodedBytes | EncodedEnd]:
        """Everything that has come and that is new, in order. Bytes that were had before are cut off."""
        while True:
            try:
                message = self._decoder.decode(self._socket.recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            if isinstance(message, EncodedAttached):
                self._asked_at = None
                continue
            if isinstance(message, EncodedEnd):
                yield message
                continue
            fresh = self._fresh(message)
            if fresh is not None:
                yield fresh
            else:
                self._count_message()

    def consumed(self, message: EncodedBytes, resume_segment: int) -> None:
        """Say that every frame which `message` completed was handed on, and that a successor would have to be fed from
        the start of `resume_segment`: the message's, or an earlier one of which pictures are still to come."""
        if resume_segment != self.cursor.segment:
            self.cursor.move(resume_segment, 0)
            self._tell(EncodedConsumed(resume_segment))
        if resume_segment == message.segment:
            self.cursor.move(resume_segment, message.offset + len(message.data))
        self._count_message()

    def finished(self) -> None:
        """Say that the end was taken in too, to ingress and to its successor."""
        self.cursor.move(END_OF_STREAM, 0)
        self._tell(EncodedConsumed(END_OF_STREAM))

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """For polling."""
        return self._socket

    def close(self) -> None:
        self._socket.close()

    def _fresh(self, message: EncodedBytes) -> EncodedBytes | None:
        segment, offset = self._position
        end = message.offset + len(message.data)
        if message.segment < segment:
            return None
        if message.segment == segment and message.offset < offset:
            if end < offset or (end == offset and not message.last):
                return None
            message = msgspec.structs.replace(message, offset=offset, data=message.data[offset - message.offset :])
        self._position = (message.segment + 1, 0) if message.last else (message.segment, end)
        return message

    def _count_message(self) -> None:
        """Also for what was had before: ingress sends no more than so many without hearing anything."""
        self._untold += 1
        if self._untold >= TELL_EVERY_MESSAGES:
            self._tell(EncodedConsumed(self.cursor.segment))

    def _tell(self, message: EncodedUp) -> None:
        self._untold = 0
        with contextlib.suppress(zmq.Again):
            self._socket.send(self._encoder.encode(message), zmq.NOBLOCK)
