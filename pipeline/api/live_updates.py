"""What a page that stays open is told: the status twice a second, the way of the newest traced frames, how busy the
machine is, and every supervision event, after those that came before. Server-sent events (HTML, 9.2), one look at the
launcher for all readers."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

import msgspec
from aiohttp import web

from pipeline import log
from pipeline.api.hardware import HardwareStats
from pipeline.api.health import Health, health_of
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.open_answers import OpenAnswers, abort, write
from pipeline.api.problems import ApiError
from pipeline.api.redact import redacted, redacted_status
from pipeline.control import LauncherSilent
from pipeline.messages import SupervisionEvent
from pipeline.status import Status

LOOK_SECONDS = 0.5
HARDWARE_LOOKS = 4
"""The machine is looked at every so many times."""

TRACE_LOOKS = 2
SHOWN_TRACES = 8
"""Of the traced frames, the newest so many are told; how long each hop takes is of all."""

MAX_READERS = 32
MAX_WAITING_BYTES = 1 << 20
"""For one reader; one that is further behind is given up."""

HISTORY = 500
"""Events that a new reader is told at once, the newest of them."""

CONTENT_TYPE = "text/event-stream"


class Look(msgspec.Struct, frozen=True):
    """What the launcher knows now. Without a status it is silent, and `health` says so."""

    health: Health
    status: Status | None = None


class _Reader:
    """What waits for one of them."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._some = asyncio.Event()

    def tell(self, message: bytes) -> bool:
        """Whether there was room for it."""
        if self._bytes + len(message) > MAX_WAITING_BYTES:
            return False
        self._waiting.append(message)
        self._bytes += len(message)
        self._some.set()
        return True

    async def take(self) -> bytes:
        """Everything that waits, once there is something."""
        await self._some.wait()
        taken = b"".join(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        self._some.clear()
        return taken


class LiveUpdates:
    """`run` in a task; `answer` is the handler."""

    def __init__(self, line: LauncherLine, hardware: Any) -> None:
        """`hardware()` gives HardwareStats; it blocks, and is called in a thread."""
        self._line = line
        self._hardware = hardware
        self._events: deque[bytes] = deque(maxlen=HISTORY)
        self._readers: set[_Reader] = set()
        self._somebody = asyncio.Event()
        self._open = OpenAnswers(MAX_READERS, "follow the pipeline")

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name="live-events")
            tasks.create_task(self._look_forever(), name="live-looks")

    def close(self) -> None:
        self._open.close()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Every message from now on, after the events that came before."""
        async with self._open.place():
            response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "X-Accel-Buffering": "no"})
            await response.prepare(request)
            reader = _Reader(request)
            reader.tell(b"".join(self._events) or b": no event yet\n\n")
            self._readers.add(reader)
            self._somebody.set()
            try:
                while True:
                    await write(request, response, await reader.take())
            finally:
                self._readers.discard(reader)
        return response

    async def _listen(self) -> None:
        async for event in self._line.events():
            message = _message("event", _shown(event))
            self._events.append(message)
            self._tell(message)

    async def _look_forever(self) -> None:
        looks = 0
        while True:
            if not self._readers:
                self._somebody.clear()
                await self._somebody.wait()
            self._tell(_message("look", await self._look()))
            if looks % TRACE_LOOKS == 0:
                await self._tell_traces()
            if looks % HARDWARE_LOOKS == 0:
                stats: HardwareStats = await asyncio.to_thread(self._hardware)
                self._tell(_message("hardware", stats))
            looks += 1
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> Look:
        try:
            status = await self._line.look()
        except LauncherSilent as silent:
            return Look(Health("ERROR", [str(silent)]))
        return Look(health_of(status), redacted_status(status))

    async def _tell_traces(self) -> None:
        with suppress(LauncherSilent, ApiError):  # The look before has told of it.
            traces = await self._line.traces()
            self._tell(_message("traces", msgspec.structs.replace(traces, traces=traces.traces[:SHOWN_TRACES])))

    def _tell(self, message: bytes) -> None:
        for reader in list(self._readers):
            if not reader.tell(message):
                log.warning("api.slow_reader", client=reader.request.remote, waiting=MAX_WAITING_BYTES)
                self._readers.discard(reader)
                abort(reader.request)


def _message(kind: str, content: msgspec.Struct) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(content))


def _shown(event: SupervisionEvent) -> SupervisionEvent:
    fields = {name: redacted(value) if isinstance(value, str) else value for name, value in event.fields.items()}
    return msgspec.structs.replace(event, fields=fields)
