"""Audio past inference: from decode straight to egress, a few kilobytes a second over one ZeroMQ socket.

Bounded like everything else; what does not fit is dropped and counted, since late audio is of no use.
"""

from collections import deque
from collections.abc import Iterator

import msgspec
import zmq

from pipeline.messages import AudioFormat, AudioMessage, AudioPacket

MAX_QUEUED_PACKETS = 512
"""10 s of AAC at 48 kHz."""

REPEATED_PACKETS = MAX_QUEUED_PACKETS // 2
"""They must fit beside what comes meanwhile."""

RECONNECT_MS = 5

Context = zmq.Context[zmq.Socket[bytes]]


class AudioWriter:
    """Decode's end."""

    def __init__(self, endpoint: str, context: Context) -> None:
        self.dropped = 0
        self._endpoint = endpoint
        self._context = context
        self._format: AudioFormat | None = None
        self._recent: deque[AudioPacket] = deque(maxlen=REPEATED_PACKETS)
        self._socket = self._connect()
        self._encoder = msgspec.msgpack.Encoder()

    def announce(self, form: AudioFormat) -> None:
        """Say what kind of audio comes; again only when it changes."""
        if form != self._format and self._send(form):
            self._format = form

    def repeat_format(self) -> None:
        """Egress was restarted and has not heard the format."""
        if self._format is not None:
            self._send(self._format)

    def write(self, pts: int, data: bytes) -> None:
        """One audio access unit; `pts` in 1/90000 s."""
        packet = AudioPacket(pts, data)
        self._recent.append(packet)
        self._send(packet)

    def repeat_recent(self) -> None:
        """Egress was restarted and writes a file, of which it knows what is in it: what its predecessor had heard and
        not written is in what was sent of late."""
        self._socket.close(linger=0)
        self._socket = self._connect()
        self.repeat_format()
        for packet in self._recent:
            self._send(packet)

    def close(self) -> None:
        self._socket.close()

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.PUSH)
        socket.set(zmq.SNDHWM, MAX_QUEUED_PACKETS)
        socket.set(zmq.LINGER, 1000)
        socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.connect(self._endpoint)
        return socket

    def _send(self, message: AudioMessage) -> bool:
        try:
            self._socket.send(self._encoder.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            self.dropped += 1
            return False
        return True


class AudioReader:
    """Egress's end."""

    def __init__(self, endpoint: str, context: Context) -> None:
        self._socket = context.socket(zmq.PULL)
        self._socket.set(zmq.RCVHWM, MAX_QUEUED_PACKETS)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind(endpoint)
        self._decoder: msgspec.msgpack.Decoder[AudioMessage] = msgspec.msgpack.Decoder(AudioMessage)

    def read(self) -> Iterator[AudioMessage]:
        """Everything that has come, without waiting."""
        while True:
            try:
                yield self._decoder.decode(self._socket.recv(zmq.NOBLOCK))
            except zmq.Again:
                return

    def close(self) -> None:
        self._socket.close()
