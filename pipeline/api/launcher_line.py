"""The api's lines to the launcher. One line carries one question at a time, and some answers take minutes: so looks,
questions that are answered at once, changes and stops have a line each, and /health never waits for a model to load."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from pipeline.api.problems import not_now
from pipeline.boot import Pause
from pipeline.control import ControlClient
from pipeline.messages import Answer, SupervisionEvent
from pipeline.status import Plan, Status, StreamSpec, Traces

MAX_WAITING = 16
"""Questions on one line, the one that is being answered included; one more is turned away."""

T = TypeVar("T")


class LauncherLine:
    """Every question raises LauncherSilent when there is no answer in its time, and ApiError when too many wait."""

    def __init__(self, endpoint: str) -> None:
        self._looks, self._prompt, self._changes, self._stops = (_Line(endpoint) for _ in range(4))
        self._look: asyncio.Task[Status] | None = None

    async def look(self) -> Status:
        """The status of this moment or, if somebody is looking already, what he sees: a launcher that is silent keeps
        nobody waiting for longer than one question takes."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._looks.ask(self._looks.client.status()))
            self._look.add_done_callback(_retrieve)
        return await asyncio.shield(self._look)

    async def status(self) -> Status:
        """With everything in it that was done before."""
        return await self._prompt.ask(self._prompt.client.status())

    async def traces(self) -> Traces:
        return await self._prompt.ask(self._prompt.client.traces())

    async def plan(self) -> Plan:
        """What the pipeline consists of."""
        return await self._prompt.ask(self._prompt.client.plan())

    async def restart(self, stage: str) -> Answer:
        return await self._prompt.ask(self._prompt.client.restart(stage))

    async def start_stream(self, spec: StreamSpec) -> Answer:
        return await self._prompt.ask(self._prompt.client.start_stream(spec))

    async def stop_stream(self, stream: str) -> Answer:
        return await self._stops.ask(self._stops.client.stop_stream(stream))

    async def pause(self, stream: str, pause: Pause | None) -> Answer:
        return await self._prompt.ask(self._prompt.client.pause(stream, pause))

    async def update(self, stage: str, params: dict[str, Any], stream: str = "") -> Answer:
        return await self._changes.ask(self._changes.client.update(stage, params, stream=stream))

    def events(self) -> AsyncGenerator[SupervisionEvent, None]:
        """Every supervision event from now on."""
        return self._looks.client.events()

    def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
        for line in (self._looks, self._prompt, self._changes, self._stops):
            line.client.close()


def _retrieve(look: asyncio.Task[Status]) -> None:
    """Whoever waited for it may be gone: then its failure is nobody's."""
    if not look.cancelled():
        look.exception()


class _Line:
    def __init__(self, endpoint: str) -> None:
        self.client = ControlClient(endpoint)
        self._waiting = 0

    async def ask(self, question: Coroutine[Any, Any, T]) -> T:
        if self._waiting >= MAX_WAITING:
            question.close()
            raise not_now("too many requests wait for the launcher", "busy")
        self._waiting += 1
        try:
            return await question
        finally:
            self._waiting -= 1
