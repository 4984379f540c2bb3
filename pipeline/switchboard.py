"""The launcher's end of the control socket: workers report and are told what to do, people ask and listen.

It carries messages and decides nothing. The other ends are in `worker` and `control`.
"""

import contextlib
from collections.abc import Iterator

import msgspec
import zmq

from pipeline.messages import FromLauncher, Subscribe, SupervisionEvent, ToLauncher

MAX_LISTENERS = 64
"""Of the event stream. One more takes the place of the oldest, which may be gone: nobody signs off."""


class BadMessage(msgspec.Struct, frozen=True):
    """Something came that is no message."""

    sender: str
    problem: str


class Switchboard:
    def __init__(self, endpoint: str) -> None:
        """Raises zmq.ZMQError when `endpoint` cannot be bound."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.set(zmq.LINGER, 500)
        self.socket.bind(endpoint)
        self._decoder: msgspec.msgpack.Decoder[ToLauncher] = msgspec.msgpack.Decoder(ToLauncher)
        self._encoder = msgspec.msgpack.Encoder()
        self._listeners: dict[bytes, None] = {}

    def messages(self) -> Iterator[tuple[bytes, ToLauncher | BadMessage]]:
        """Every message that has come, with its sender; those who subscribe are seen to here."""
        while True:
            try:
                sender, data = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            except ValueError:
                continue  # Not two parts: nobody of ours.
            try:
                message = self._decoder.decode(data)
            except msgspec.DecodeError as error:
                yield sender, BadMessage(sender.hex(), str(error))
                continue
            if isinstance(message, Subscribe):
                self._subscribe(sender)
            else:
                yield sender, message

    def send(self, receiver: bytes, message: FromLauncher) -> None:
        """Never waits. The receiver may be gone; its death is noticed elsewhere."""
        with contextlib.suppress(zmq.ZMQError):
            self.socket.send_multipart((receiver, self._encoder.encode(message)), zmq.NOBLOCK)

    def publish(self, event: SupervisionEvent) -> None:
        """Tell everybody who listens."""
        for listener in self._listeners:
            self.send(listener, event)

    def close(self) -> None:
        self._context.destroy(linger=500)

    def _subscribe(self, sender: bytes) -> None:
        self._listeners.pop(sender, None)
        if len(self._listeners) >= MAX_LISTENERS:
            del self._listeners[next(iter(self._listeners))]
        self._listeners[sender] = None
