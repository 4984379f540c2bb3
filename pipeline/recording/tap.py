"""A stage's end of a recording: hands copies of what it sees to whoever records, while somebody does.

It never holds a live stream up: what does not fit in the queue is lost, and the recorder finds the hole in the numbers.
"""

import contextlib
import time
from collections.abc import Callable

import msgspec
import zmq

from pipeline.boot import TapBoot
from pipeline.messages import EncodedBytes, EncodedEnd, Tapped
from pipeline.recording.format import Input, InputEnd, Tappable

QUEUED_RECORDS = 512
WAIT_MS = 100
RECONNECT_MS = 5

Context = zmq.Context[zmq.Socket[bytes]]


class Tap:
    """One process's. `send` is for one thread, at a time when `recording` is not empty."""

    def __init__(self, context: Context, boot: TapBoot | None, stage: str) -> None:
        """With None there is nothing to tell."""
        self.recording = boot.recording if boot is not None else ""
        """The one that is being made; empty: none. Set by the thread that hears the launcher."""
        self._context = context
        self._endpoint = boot.endpoint if boot is not None else ""
        self._stage = stage
        self._waits = boot is not None and boot.waits
        self._socket: zmq.Socket[bytes] | None = None
        self._sent_to = ""
        self._number = 0
        self._encoder = msgspec.msgpack.Encoder()

    def send(self, record: Tappable, epoch: int) -> None:
        recording = self.recording
        if self._socket is None or recording != self._sent_to:
            self._open(recording)
        assert self._socket is not None
        data = self._encoder.encode(Tapped(recording, self._stage, self._number, epoch, record))
        self._number += 1
        while True:
            with contextlib.suppress(zmq.Again):
                self._socket.send(data, 0 if self._waits else zmq.NOBLOCK)
                return
            if not self._waits or self.recording != recording:
                return

    def _open(self, recording: str) -> None:
        """What is still queued for another recording is nothing to this one."""
        if self._socket is not None:
            self._socket.close(linger=0)
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.set(zmq.SNDHWM, QUEUED_RECORDS)
        self._socket.set(zmq.SNDTIMEO, WAIT_MS)
        self._socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._socket.set(zmq.LINGER, 1000)
        self._socket.connect(self._endpoint)
        self._sent_to, self._number = recording, 0


def input_tap(tap: Tap, epoch: int) -> Callable[[EncodedBytes | EncodedEnd], None]:
    """To be told of everything that ingress hands to decode, once each."""

    def tell(message: EncodedBytes | EncodedEnd) -> None:
        if not tap.recording:
            return
        if isinstance(message, EncodedEnd):
            tap.send(InputEnd(time.monotonic_ns()), epoch)
            return
        record = Input(message.segment, message.offset, message.arrived_ns, message.last, message.gap, message.data)
        tap.send(record, epoch)

    return tell
