"""Sound beside the frames: from decode past inference to egress as it came, or decoded through inference, which sends
the text that it writes the same way. One ZeroMQ socket each, at most a few hundred kilobytes a second.

Bounded like everything else; what does not fit is dropped and counted, since late audio is of no use.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec
import numpy as np
import zmq

from pipeline.media.pcm import Pcm
from pipeline.messages import AudioEnd, AudioFormat, AudioMessage, AudioPacket, AudioSamples, TextLine

MAX_QUEUED_PACKETS = 512
"""10 s of AAC at 48 kHz."""

REPEATED_PACKETS = MAX_QUEUED_PACKETS // 2
"""They must fit beside what comes meanwhile."""

RECONNECT_MS = 5

Context = zmq.Context[zmq.Socket[bytes]]


class AudioWriter:
    """The end that sends: decode's, or inference's. One thread."""

    def __init__(self, endpoint: str, context: Context, *, epoch: int = 0, waits: bool = True) -> None:
        """`epoch` is the stream's number. `waits`: what is sent while nobody listens is kept for who will; else it is
        dropped, so that who comes late hears what is new."""
        self.dropped = 0
        self._epoch = _packed(epoch)
        self._endpoint = endpoint
        self._context = context
        self._waits = waits
        self._format: AudioFormat | None = None
        self._recent: deque[AudioMessage] = deque(maxlen=REPEATED_PACKETS)
        self._socket = self._connect()
        self._encoder = msgspec.msgpack.Encoder()

    def announce(self, form: AudioFormat) -> None:
        """Say what kind of audio comes; again only when it changes."""
        if form != self._format and self._send(form):
            self._format = form

    def repeat_format(self) -> None:
        """The reader was restarted and has not heard the format."""
        if self._format is not None:
            self._send(self._format)

    def write(self, pts: int, data: bytes) -> None:
        """One audio access unit; `pts` in 1/90000 s."""
        self._write(AudioPacket(pts, data))

    def write_samples(self, pcm: Pcm) -> None:
        """A piece of decoded sound."""
        self._write(AudioSamples(pcm.pts, pcm.channels, pcm.samples.tobytes()))

    def write_text(self, pts: int, text: str) -> None:
        """A line of text; `pts` in 1/90000 s."""
        self._send(TextLine(pts, text))

    def forward(self, message: AudioMessage) -> None:
        """Hand on what another one has sent."""
        self._send(message)

    def end(self, of: Literal["audio", "text"]) -> None:
        """Say that no more of it will come."""
        self._send(AudioEnd(of))

    def repeat_recent(self) -> None:
        """The reader was restarted in the middle of a file, of which it is known what came of it: what its predecessor
        had heard and not handed on is in what was sent of late."""
        self._socket.close(linger=0)
        self._socket = self._connect()
        self.repeat_format()
        for packet in self._recent:
            self._send(packet)

    def rest(self) -> None:
        """The stream is over: what was sent goes out, and nobody is looked for until `wake`. Looking for a reader that
        is not there takes 5 ms of CPU time a second."""
        self._socket.close()

    def wake(self, epoch: int) -> None:
        """Another stream begins, of this number, which has said nothing yet; no matter whether there was a rest."""
        self._epoch = _packed(epoch)
        if self._socket.closed:
            self._socket = self._connect()
            self._format = None
            self._recent.clear()

    def close(self) -> None:
        self._socket.close()

    def _write(self, message: AudioMessage) -> None:
        self._recent.append(message)
        self._send(message)

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.PUSH)
        socket.set(zmq.SNDHWM, MAX_QUEUED_PACKETS)
        socket.set(zmq.LINGER, 1000)
        socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.set(zmq.IMMEDIATE, not self._waits)
        socket.connect(self._endpoint)
        return socket

    def _send(self, message: AudioMessage) -> bool:
        try:
            self._socket.send_multipart((self._epoch, self._encoder.encode(message)), zmq.NOBLOCK)
        except zmq.Again:
            self.dropped += 1
            return False
        return True


class AudioReader:
    """The end that listens. One thread."""

    def __init__(self, endpoint: str, context: Context, epoch: int = 0) -> None:
        """`epoch` is the stream's number: what one before it has left behind, when nobody took it, is let go."""
        self.epoch = epoch
        self._socket = context.socket(zmq.PULL)
        self._socket.set(zmq.RCVHWM, MAX_QUEUED_PACKETS)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind(endpoint)
        self._decoder: msgspec.msgpack.Decoder[AudioMessage] = msgspec.msgpack.Decoder(AudioMessage)

    def read(self) -> Iterator[AudioMessage]:
        """Everything that has come, without waiting."""
        while True:
            try:
                epoch, message = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if int.from_bytes(epoch, "little", signed=True) >= self.epoch:
                yield self._decoder.decode(message)

    def wait(self, seconds: float) -> bool:
        """Whether something comes within `seconds`."""
        return bool(self._socket.poll(int(1000 * seconds)))

    def close(self) -> None:
        self._socket.close()


class AudioListener:
    """Reads in a thread of its own, for a stage that waits for frames meanwhile."""

    def __init__(self, endpoint: str, context: Context, heard: Callable[[AudioMessage], None]) -> None:
        """`heard` is called with every message, in that thread."""
        self._reader = AudioReader(endpoint, context)
        self._heard = heard
        self._closing = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._listen, name="audio", daemon=True)
        self._thread.start()

    def forget_before(self, epoch: int) -> None:
        """A stream of this number begins: what the ones before have left behind is let go."""
        self._reader.epoch = epoch

    def close(self) -> None:
        os.eventfd_write(self._closing, 1)
        self._thread.join()
        os.close(self._closing)

    def _listen(self) -> None:
        poller = zmq.Poller()
        poller.register(self._reader._socket, zmq.POLLIN)
        poller.register(self._closing, zmq.POLLIN)
        while self._closing not in dict(poller.poll()):
            for message in self._reader.read():
                self._heard(message)
        self._reader.close()


def _packed(epoch: int) -> bytes:
    return epoch.to_bytes(8, "little", signed=True)


def pcm_of(message: AudioSamples) -> Pcm:
    """The sound in a message. It is read-only: it lies in the message."""
    return Pcm(message.pts, np.frombuffer(message.data, np.float32).reshape(message.channels, -1))
