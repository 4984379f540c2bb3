"""The events channel of one stream: takes events at once, and publishes them as fast as the server takes them."""

import asyncio
import contextlib
from collections import deque
from types import TracebackType
from typing import Self

from pipeline import log
from pipeline.api.redact import redacted
from pipeline.channel_address import ChannelAddress
from pipeline.trickle import TrickleError, TricklePublisher

MAX_WAITING = 256
"""Events that the server has not taken yet; then the oldest make room."""

CLOSE_SECONDS = 2.0
"""How long the last events may take to be sent."""

FIRST_DELAY_SECONDS = 0.2
MAX_DELAY_SECONDS = 5.0
"""Between two attempts to reach the server, twice as long each time."""

CONTENT_TYPE = "application/json"


class EventsChannel:
    """`send` from anywhere in the loop; `run` in a task until `close`. Nothing here is raised to whoever sends."""

    def __init__(self, address: ChannelAddress) -> None:
        """Raises ValueError for a URL that names no channel."""
        self._address = address
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self.lost = 0
        """Events that had to make room since the server took some last."""
        self._news = asyncio.Event()
        self._closing = False
        self._delete = True
        self._publisher = self._make()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="events")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what waits and remove the channel, for it ends with its stream; see `leave`."""
        assert self._task is not None
        self._closing = True
        self._news.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.shield(self._task)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def leave(self) -> None:
        """Do not remove the channel at the end: the stream goes on without us for a while."""
        self._delete = False

    def send(self, event: bytes) -> None:
        """Never waits."""
        if len(self._waiting) == MAX_WAITING:
            self.lost += 1
        self._waiting.append(event)
        self._news.set()

    async def _run(self) -> None:
        delay = FIRST_DELAY_SECONDS
        joined = said = False
        try:
            while not (self._closing and not self._waiting):
                try:
                    if not joined:
                        await self._publisher.resume()
                        joined = True
                    await self._send_waiting()
                    delay, said = FIRST_DELAY_SECONDS, False
                except TrickleError as error:
                    if not said:
                        log.warning("api.events_not_sent", url=redacted(self._address.url), reason=redacted(str(error)))
                        said = True
                    self._publisher.abort()
                    self._publisher, joined = self._make(), False
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, MAX_DELAY_SECONDS)
            with contextlib.suppress(TrickleError):
                await self._publisher.close(delete=self._delete)
        finally:
            self._publisher.abort()

    async def _send_waiting(self) -> None:
        """Until there is nothing to send; then wait for news. An event leaves the queue once the server has it."""
        while self._waiting:
            event = self._waiting[0]
            async with await self._publisher.next() as segment:
                await segment.write(event)
            if self._waiting and self._waiting[0] is event:
                self._waiting.popleft()
        if self.lost:
            log.warning("api.events_lost", url=redacted(self._address.url), count=self.lost)
            self.lost = 0
        self._news.clear()
        if not self._closing:
            await self._news.wait()

    def _make(self) -> TricklePublisher:
        return TricklePublisher(self._address.url, CONTENT_TYPE, token=self._address.token, judge=self._address.judge)
