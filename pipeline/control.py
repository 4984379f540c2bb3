"""Asks a running launcher over its control socket: from an event loop, or from a command line. The launcher's end is
`switchboard`."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Self

import msgspec
import zmq
import zmq.asyncio

from pipeline.boot import Pause
from pipeline.messages import (
    Answer,
    LogLevelRequest,
    PauseRequest,
    PlanRequest,
    RecordAnswer,
    RecordEndRequest,
    RecordRequest,
    RestartRequest,
    StatusRequest,
    StreamStartRequest,
    StreamStopRequest,
    Subscribe,
    SupervisionEvent,
    ToLauncher,
    TraceRequest,
    UpdateRequest,
)
from pipeline.status import Plan, Status, StreamSpec, Traces
from pipeline.topology_logs import Level

REPLY_SECONDS = 2.0
UPDATE_SECONDS = 120.0
"""A processor answers between two frames, and may have to load what its new parameters name."""

STOP_SECONDS = 60.0
"""A stream is stopped once every stage has given back what it had; `limits.drain` bounds that."""


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

    def traces(self) -> Traces:
        """The way of frames that were traced. Raises LauncherSilent when there is no answer within REPLY_SECONDS."""
        return msgspec.msgpack.decode(self._ask(TraceRequest()), type=Traces)

    def restart(self, stage: str) -> Answer:
        """Start a stage again. Raises LauncherSilent when there is no answer within REPLY_SECONDS."""
        return msgspec.msgpack.decode(self._ask(RestartRequest(stage)), type=Answer)

    def update(self, stage: str, params: dict[str, Any], *, renew: bool = False, stream: str = "") -> Answer:
        """Change parameters of a stage's processor, and wait until they are in force. `renew`: in a new process, loaded
        beside the one at work. Raises LauncherSilent when there is no answer within UPDATE_SECONDS."""
        return msgspec.msgpack.decode(
            self._ask(UpdateRequest(stage, params, renew, stream), UPDATE_SECONDS), type=Answer
        )

    def set_log_level(self, stage: str, level: Level) -> Answer:
        """See LogLevelRequest. Raises LauncherSilent when there is no answer within REPLY_SECONDS."""
        return msgspec.msgpack.decode(self._ask(LogLevelRequest(stage, level)), type=Answer)

    def record(self, request: RecordRequest) -> RecordAnswer:
        """See RecordRequest. Raises LauncherSilent when there is no answer within REPLY_SECONDS."""
        return msgspec.msgpack.decode(self._ask(request), type=RecordAnswer)

    def end_recording(self, recording: str) -> Answer:
        """See RecordEndRequest. Raises LauncherSilent when there is no answer within REPLY_SECONDS."""
        return msgspec.msgpack.decode(self._ask(RecordEndRequest(recording)), type=Answer)

    def start_stream(self, spec: StreamSpec) -> Answer:
        """See StreamStartRequest. Raises LauncherSilent when there is no answer within REPLY_SECONDS."""
        return msgspec.msgpack.decode(self._ask(StreamStartRequest(spec)), type=Answer)

    def stop_stream(self, stream: str) -> Answer:
        """See StreamStopRequest. Raises LauncherSilent when there is no answer within STOP_SECONDS."""
        return msgspec.msgpack.decode(self._ask(StreamStopRequest(stream), STOP_SECONDS), type=Answer)

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
        self.socket = self._context.socket(zmq.DEALER)
        """For polling."""
        self.socket.set(zmq.LINGER, 0)
        self.socket.connect(endpoint)
        self.socket.send(msgspec.msgpack.encode(Subscribe()))

    def next(self, wait_seconds: float) -> SupervisionEvent | None:
        """The next event; None when there is none within `wait_seconds`."""
        if not self.socket.poll(int(1000 * wait_seconds)):
            return None
        return msgspec.msgpack.decode(self.socket.recv(), type=SupervisionEvent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)


class ControlClient:
    """For event loops. One question at a time; the others wait for their turn. Every question raises LauncherSilent
    when there is no answer in its time."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.asyncio.Context()
        self._endpoint = endpoint
        self._socket = self._connect()
        self._turn = asyncio.Lock()

    async def status(self) -> Status:
        """Everything that the launcher knows."""
        return msgspec.msgpack.decode(await self._ask(StatusRequest()), type=Status)

    async def traces(self) -> Traces:
        """The way of frames that were traced."""
        return msgspec.msgpack.decode(await self._ask(TraceRequest()), type=Traces)

    async def plan(self) -> Plan:
        """What the pipeline consists of."""
        return msgspec.msgpack.decode(await self._ask(PlanRequest()), type=Plan)

    async def restart(self, stage: str) -> Answer:
        """Start a stage again."""
        return msgspec.msgpack.decode(await self._ask(RestartRequest(stage)), type=Answer)

    async def update(self, stage: str, params: dict[str, Any], *, renew: bool = False, stream: str = "") -> Answer:
        """See ControlLine.update, and UpdateRequest for `stream`."""
        question = UpdateRequest(stage, params, renew, stream)
        return msgspec.msgpack.decode(await self._ask(question, UPDATE_SECONDS), type=Answer)

    async def start_stream(self, spec: StreamSpec) -> Answer:
        """See StreamStartRequest."""
        return msgspec.msgpack.decode(await self._ask(StreamStartRequest(spec)), type=Answer)

    async def stop_stream(self, stream: str) -> Answer:
        """See StreamStopRequest."""
        return msgspec.msgpack.decode(await self._ask(StreamStopRequest(stream), STOP_SECONDS), type=Answer)

    async def pause(self, stream: str, pause: Pause | None) -> Answer:
        """See PauseRequest."""
        return msgspec.msgpack.decode(await self._ask(PauseRequest(stream, pause)), type=Answer)

    async def events(self) -> AsyncGenerator[SupervisionEvent, None]:
        """Every supervision event from now on."""
        socket = self._connect()
        try:
            await socket.send(msgspec.msgpack.encode(Subscribe()))
            while True:
                yield msgspec.msgpack.decode(await socket.recv(), type=SupervisionEvent)
        finally:
            socket.close()

    def close(self) -> None:
        self._context.destroy(linger=0)

    def _connect(self) -> zmq.asyncio.Socket:
        socket = self._context.socket(zmq.DEALER)
        socket.set(zmq.LINGER, 0)
        socket.connect(self._endpoint)
        return socket

    async def _ask(self, question: ToLauncher, seconds: float = REPLY_SECONDS) -> bytes:
        async with self._turn:
            await self._socket.send(msgspec.msgpack.encode(question))
            try:
                async with asyncio.timeout(seconds):  # wait_for forgets a cancellation that comes with the answer.
                    return await self._socket.recv()
            except (TimeoutError, asyncio.CancelledError) as error:
                self._socket.close()
                self._socket = self._connect()  # A late answer is not taken for that of the next question.
                if isinstance(error, TimeoutError):
                    raise LauncherSilent(seconds) from error
                raise
