"""The control channel of one stream: parameters, one JSON object a segment, each handed on in order. Livepeer's gateway
writes one for each change, and `{"keep":"alive"}` every 10 s."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline import log
from pipeline.api.problems import ApiError
from pipeline.api.redact import redacted
from pipeline.api.requests import decode_object
from pipeline.api.urls import UrlRefused
from pipeline.channel_address import ChannelAddress
from pipeline.trickle import AccessDenied, ChannelGone, SegmentTooLarge, TrickleError, TrickleSubscriber

KEEP_ALIVE = {"keep": "alive"}

MAX_WAITING = 32
"""Messages that came while one is being applied, which takes as long as the processor loads; one more and the oldest
is given up, and that is told. Servers keep five."""

FIRST_DELAY_SECONDS = 0.2
MAX_DELAY_SECONDS = 5.0
"""Between two attempts to read a channel that is not there yet, or whose server is away; twice as long each time."""


class ControlChannel:
    """`run` reads until it is cancelled: a control channel that ends, or never begins, ends no stream."""

    def __init__(
        self,
        address: ChannelAddress,
        max_bytes: int,
        check: Callable[[], Awaitable[None]],
        apply: Callable[[dict[str, Any]], Awaitable[None]],
        report: Callable[[str], None],
    ) -> None:
        """`max_bytes` is the longest message. `check` is called before the URL is opened and may raise UrlRefused;
        `apply` with each message; `report` with what is wrong with one."""
        self._address = address
        self._max_bytes = max_bytes
        self._check = check
        self._apply = apply
        self._report = report
        self._waiting: deque[dict[str, Any]] = deque()
        self._news = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(), name="control-read")
            tasks.create_task(self._apply_forever(), name="control-apply")

    async def _apply_forever(self) -> None:
        while True:
            while self._waiting:
                await self._apply(self._waiting.popleft())
            self._news.clear()
            await self._news.wait()

    async def _read(self) -> None:
        delay, said = FIRST_DELAY_SECONDS, False
        while True:
            try:
                await self._check()
                async with TrickleSubscriber(
                    self._address.url, token=self._address.token, judge=self._address.judge
                ) as subscriber:
                    while await self._take(subscriber):
                        delay, said = FIRST_DELAY_SECONDS, False
            except (TrickleError, UrlRefused) as error:
                if not said and not isinstance(error, ChannelGone):
                    log.warning("api.control_not_read", url=redacted(self._address.url), reason=redacted(str(error)))
                    self._report(f"control channel: {error}")
                    said = True
                if isinstance(error, AccessDenied):
                    delay = MAX_DELAY_SECONDS
            # Also after its end: whoever writes it may begin anew, as a gateway that changes over does.
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_DELAY_SECONDS)

    async def _take(self, subscriber: TrickleSubscriber) -> bool:
        """One message; False at the channel's end."""
        segment = await subscriber.next()
        if segment is None:
            return False
        try:
            body = await segment.read_all(self._max_bytes)
        except SegmentTooLarge:
            self._report(f"control message {segment.seq()}: longer than {self._max_bytes} bytes, api.max_request_bytes")
            return True
        try:
            message = decode_object(body)
        except ApiError as error:
            self._report(f"control message {segment.seq()}: {error.error}; allowed: {error.allowed}")
            return True
        if message and message != KEEP_ALIVE:
            self._put(message)
        return True

    def _put(self, message: dict[str, Any]) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._report(f"control messages come faster than they can be applied: one of {MAX_WAITING} was given up")
        self._waiting.append(message)
        self._news.set()
