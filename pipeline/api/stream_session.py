"""The control and events channels of one stream on request, from when it is seen until it is over."""

import asyncio
from collections import deque
from contextlib import AsyncExitStack
from typing import Any

from pipeline import log
from pipeline.api import events
from pipeline.api.answers import is_of_another
from pipeline.api.changes import Changed, change
from pipeline.api.control_channel import ControlChannel
from pipeline.api.events_channel import EventsChannel
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.problems import ApiError
from pipeline.api.redact import redacted
from pipeline.api.urls import UrlRefused, UrlRules
from pipeline.channel_address import ChannelAddress
from pipeline.control import LauncherSilent
from pipeline.messages import SupervisionEvent
from pipeline.status import StageStatus, Status, StreamSpec, StreamStatus
from pipeline.topology_sections import Api

SAME_SECONDS = 1.0
"""An event of the same stage and name is told once in so long: one with every frame would crowd out all else."""

MAX_KINDS = 256
"""Of events whose time is remembered."""

PAUSES = frozenset({"stream_paused", "stream_resumed"})

MAX_EARLY = 64
"""Events that wait for their channel to be opened."""


class Channels:
    """How channels are reached from here. `relay_url` is that of the embedded relay, if there is one."""

    def __init__(self, rules: UrlRules, relay_url: str | None, relay_token: str | None) -> None:
        self.rules = rules
        self._relay_url = relay_url
        self._relay_token = relay_token

    def address(self, channel: str) -> ChannelAddress:
        """A name is a channel of the embedded relay, which takes our token; nobody else gets it."""
        if "://" in channel:
            return ChannelAddress(channel, judge=self.rules.judge)
        return ChannelAddress(f"{self._relay_url}/{channel}", self._relay_token)


class StreamSession:
    """`run` in a task. The others say what happens, and return at once."""

    def __init__(
        self, line: LauncherLine, channels: Channels, section: Api, stream: StreamStatus, *, new: bool
    ) -> None:
        """`new`: it was started while this service was there to see it."""
        self.stream = stream
        self.over = asyncio.Event()
        self._line = line
        self._channels = channels
        self._section = section
        self._new = new
        self._events: EventsChannel | None = None
        self._early: deque[bytes] | None = deque(maxlen=MAX_EARLY)  # told before the channel was open; then None
        self._told_in = not new and stream.first_in_ms is not None
        self._told_out = not new and stream.first_out_ms is not None
        self._told_at: dict[tuple[str, str], float] = {}
        self._dead: set[str] = set()  # stages that died and are not back
        self._status_due = 0.0
        self._left = False

    @property
    def spec(self) -> StreamSpec:
        return self.stream.spec

    async def run(self) -> None:
        """Until the stream is over. Whatever is wrong with a channel is logged and ends neither this nor the stream."""
        async with AsyncExitStack() as stack:
            if self.spec.events_url and await self._may("events_url", self.spec.events_url):
                address = self._channels.address(self.spec.events_url)
                self._events = await stack.enter_async_context(EventsChannel(address))
            self._begin(events.started(self.stream) if self._new else events.resumed())
            control = asyncio.create_task(self._control(), name="control") if self.spec.control_url else None
            if control is not None:
                control.add_done_callback(tell_failure)
            try:
                await self.over.wait()
            finally:
                if control is not None:
                    control.cancel()
                    await asyncio.gather(control, return_exceptions=True)
                if self._left and self._events is not None:
                    self._events.leave()
                else:
                    self._tell(events.stopped(self.stream), events.TRACE)

    def saw(self, status: Status, stream: StreamStatus, now: float) -> None:
        """The launcher's latest word. `now` in seconds, for `stats_seconds`."""
        self.stream = stream
        if not self._told_in and stream.first_in_ms is not None:
            self._told_in = True
            self._tell(events.first_in(stream), events.TRACE)
        if not self._told_out and stream.first_out_ms is not None:
            self._told_out = True
            self._tell(events.first_out(stream), events.TRACE)
        if now >= self._status_due:
            self._status_due = now + self._section.stats_seconds
            self._tell(events.status(status, stream))

    def heard(self, event: SupervisionEvent, status: Status | None, now: float) -> None:
        """A supervision event; `status` is the latest that is known."""
        if event.fields.get("stream", self.spec.stream) != self.spec.stream:
            return
        stage = next((each for each in status.stages if each.stage == event.stage), None) if status else None
        if stage is not None and is_of_another(self.stream, stage):
            return
        if event.name == "died":
            self._dead.add(event.stage)
        if stage is not None and event.stage in self._dead and event.name == _back(stage):
            self._dead.discard(event.stage)
            self._tell(events.restarted(event, stage))
        elif event.name in PAUSES:
            self._tell(events.paused(event))
        elif event.level in ("warning", "error") and self._is_news(event, now):
            self._tell(events.of_stage(event))

    def changed(self, params: dict[str, Any]) -> None:
        """Parameters are in force."""
        if params:
            self._tell(events.params_updated(params))

    def end(self, stream: StreamStatus | None = None) -> None:
        """The stream is over, with this last status if the launcher still had one."""
        self.stream = stream or self.stream
        self.over.set()

    def leave(self) -> None:
        """This service ends, and the stream may go on."""
        self._left = True
        self.over.set()

    async def _control(self) -> None:
        channel = ControlChannel(
            self._channels.address(self.spec.control_url),
            self._section.max_request_bytes,
            self._check_control,
            self._apply,
            self._report,
        )
        try:
            await channel.run()
        except* ValueError as wrong:
            self._report(f"control_url: {wrong.exceptions[0]}")

    async def _check_control(self) -> None:
        await self._channels.rules.check(self.spec.control_url)

    async def _may(self, field: str, url: str) -> bool:
        """Whether a URL may be opened. Streams are asked for elsewhere too, on the control socket."""
        try:
            await self._channels.rules.check(url)
        except UrlRefused as refused:
            log.warning("api.url_refused", stream=self.spec.stream, field=field, url=redacted(url), reason=refused)
            return False
        return True

    async def _apply(self, params: dict[str, Any]) -> None:
        try:
            done: Changed = await change(self._line, params, self.spec.stream)
        except ApiError as error:
            self._report(f"control message: {error.path + ': ' if error.path else ''}{error.error}")
        except LauncherSilent as error:
            self._report(f"control message: {error}")
        else:
            self.changed(done.params)

    def _report(self, problem: str) -> None:
        self._tell(events.error(problem))

    def _begin(self, event: events.Fields) -> None:
        """The first event, and after it what was to be told before."""
        early, self._early = self._early or (), None
        self._tell(event, events.TRACE)
        for message in early:
            if self._events is not None:
                self._events.send(message)

    def _tell(self, event: events.Fields, queue: str = events.EVENTS) -> None:
        if self._early is not None:
            self._early.append(events.encode(event, queue, self.stream))
        elif self._events is not None:
            self._events.send(events.encode(event, queue, self.stream))

    def _is_news(self, event: SupervisionEvent, now: float) -> bool:
        kind = (event.stage, event.name)
        if now - self._told_at.get(kind, -SAME_SECONDS) < SAME_SECONDS:
            return False
        if len(self._told_at) >= MAX_KINDS:
            self._told_at.clear()
        self._told_at[kind] = now
        return True


def _back(stage: StageStatus) -> str:
    """The event that says that a stage is at work again: inference processes take turns, others begin with theirs."""
    return "active" if stage.worker == "inference" else "ready"


def tell_failure(task: asyncio.Task[None]) -> None:
    """For what must not fail: it ends nothing else, and it is not lost either."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("api.task_failed", task=task.get_name(), error=redacted(repr(error)))
