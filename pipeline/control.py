"""Asks a running launcher over its control socket: from an event loop, or from a command line. The launcher's end is
`switchboard`."""

import asyncio
from typing import Any, Self

import msgspec
import zmq
import zmq.asyncio

from pipeline.messages import (
    Answer,
    RestartRequest,
    Status,
    StatusRequest,
    Subscribe,
    SupervisionEvent,
    ToLauncher,
    UpdateRequest,
)

REPLY_SECONDS = 2.0
UPDATE_SECONDS = 120.0
"""A processor answers between two frames, and may have to load what its new parameters name."""


class LauncherSilent(Exception):
    """The launcher did not answer in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer from the launcher within {seconds:g} s")


class ControlLine:
    """Blocking, for commands."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.connect(endpoint)

    def status(self) -> Status:
        """Raises LauncherSilent when there is no answer within REPLY_SECONDS."""
        return msgspec.msgpack.decode(self._ask(StatusRequest()), type=Status)

    def restart(self, stage: str) -> Answer:
        """Start a stage again. Raises LauncherSilent when there is no answer within REPLY_SECONDS."""
        return msgspec.msgpack.decode(self._ask(RestartRequest(stage)), type=Answer)

    def update(self, stage: str, params: dict[str, Any], *, renew: bool = False) -> Answer:
        """Change parameters of a stage's processor, and wait until they are in force. `renew`: in a new process, loaded
        beside the one at work. Raises LauncherSilent when there is no answer within UPDATE_SECONDS."""
        return msgspec.msgpack.decode(self._ask(UpdateRequest(stage, params, renew), UPDATE_SECONDS), type=Answer)

    def _ask(self, question: ToLauncher, seconds: float = REPLY_SECONDS) -> bytes:
        self._socket.send(msgspec.msgpack.encode(question))
        if not self._socket.poll(int(1000 * seconds)):
            raise LauncherSilent(seconds)
        return self._socket.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)


class EventStream:
    """Every supervision event from now on, for commands and programs that wait for something to happen."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.connect(endpoint)
        self._socket.send(msgspec.msgpack.encode(Subscribe()))

    def next(self, wait_seconds: float) -> SupervisionEvent | None:
        """The next event; None when there is none within `wait_seconds`."""
        if not self._socket.poll(int(1000 * wait_seconds)):
            return None
        return msgspec.msgpack.decode(self._socket.recv(), type=SupervisionEvent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)


class ControlClient:
    """For event loops. One question at a time; the others wait for their turn."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.connect(endpoint)
        self._turn = asyncio.Lock()

    async def status(self) -> Status:
        """Raises LauncherSilent when there is no answer within REPLY_SECONDS."""
        async with self._turn:
            await self._socket.send(msgspec.msgpack.encode(StatusRequest()))
            try:
                reply = await asyncio.wait_for(self._socket.recv(), REPLY_SECONDS)
            except TimeoutError as error:
                raise LauncherSilent(REPLY_SECONDS) from error
            return msgspec.msgpack.decode(reply, type=Status)

    def close(self) -> None:
        self._context.destroy(linger=0)
