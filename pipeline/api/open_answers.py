"""Answers that go on for as long as somebody reads them: a bounded number, each given up when its reader is gone or too
slow, all of them when the service stops."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from aiohttp import web

from pipeline.api.problems import not_now

SLOW_SECONDS = 5.0
"""A reader that takes nothing for so long is given up: what is live is of no use to it."""

CHECK_SECONDS = 1.0
"""How often it is seen whether a reader is still there to whom there is nothing to send."""

T = TypeVar("T")


class ReaderGone(Exception):
    """Whoever read is gone, or was given up."""


class OpenAnswers:
    """One kind of them; `what` is their name for messages."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._tasks: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """For the running task. Raises ApiError when there is none left. A reader that goes ends the block."""
        if len(self._tasks) >= self._most:
            raise not_now(f"{self._most} others {self._what} already", "full")
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ReaderGone, ConnectionError):  # The latter from sending the head.
                yield
        finally:
            self._tasks.discard(task)

    def close(self) -> None:
        """End all of them: the service stops."""
        for task in self._tasks:
            task.cancel()


async def while_read(request: web.Request, work: Coroutine[Any, Any, T]) -> T:
    """What comes of `work`, which is given up when the reader goes meanwhile: aiohttp tells nobody of a connection that
    is lost while there is nothing to write. Raises ReaderGone, and what `work` raises."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            _check_reader(request)
            await asyncio.wait((task,), timeout=CHECK_SECONDS)
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Raises ReaderGone."""
    _check_reader(request)
    try:
        async with asyncio.timeout(SLOW_SECONDS):
            await response.write(data)
    except (ConnectionError, TimeoutError) as error:
        abort(request)
        raise ReaderGone from error


def abort(request: web.Request) -> None:
    """Hang up, with what waits to be sent."""
    if request.transport is not None:
        request.transport.abort()


def _check_reader(request: web.Request) -> None:
    if request.transport is None or request.transport.is_closing():
        raise ReaderGone
