"""Follows the streams on request at the launcher, whoever asked for them, and keeps a session for each that is under
way: also for those that ran when this service was started again."""

import asyncio
import time
from collections import deque
from typing import Any

from pipeline import log
from pipeline.api.answers import under_way
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.stream_session import Channels, StreamSession, tell_failure
from pipeline.control import LauncherSilent
from pipeline.status import Status, StreamStatus
from pipeline.topology_sections import Api

LOOK_SECONDS = 1.0
"""Between two looks at the launcher's status, at most; sooner when something happens to a stream."""

TURNING_POINTS = frozenset({"stream_started", "stream_online", "stream_stopped"})
"""Supervision events after which the status is worth a look."""

STOP_SECONDS = 3.0
"""How long sessions may take to end together: a little more than their channels."""

KEPT_CHANGES = 16
"""Of parameters, which may come in the moment between the start of a stream and its being seen."""

OLD_SECONDS = 2.0
"""A stream that began this long before this service did was not asked for here."""


class StreamWatch:
    """`run` in a task; `stop` ends it and all sessions."""

    def __init__(self, line: LauncherLine, channels: Channels, section: Api) -> None:
        self._line = line
        self._channels = channels
        self._section = section
        self._began = time.time()
        self._sessions: dict[str, tuple[StreamSession, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._changes: deque[tuple[float, str, dict[str, Any]]] = deque(maxlen=KEPT_CHANGES)
        self._status: Status | None = None
        self._look = asyncio.Event()

    def look(self) -> None:
        """Something has changed: see what."""
        self._look.set()

    def changed(self, params: dict[str, Any], name: str = "") -> None:
        """Parameters came into force, asked for with this stream's id; empty: for whatever runs."""
        self._changes.append((time.time(), name, params))
        for session, _ in self._sessions.values():
            if not name or session.spec.stream == name:
                session.changed(params)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(), name="supervision-events")
                tasks.create_task(self._look_forever(), name="stream-watch")
        finally:
            await self._leave()

    async def _listen(self) -> None:
        async for event in self._line.events():
            for session, _ in self._sessions.values():
                session.heard(event, self._status, time.monotonic())
            if event.name in TURNING_POINTS:
                self.look()

    async def _look_forever(self) -> None:
        while True:
            try:
                self._status = await self._line.look()
                self._follow(self._status)
            except LauncherSilent as silent:
                log.warning("api.launcher_silent", reason=silent)
            try:
                async with asyncio.timeout(min(LOOK_SECONDS, self._section.stats_seconds)):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()

    def _follow(self, status: Status) -> None:
        running = {stream.spec.stream: stream for stream in under_way(status)}
        over = {stream.spec.stream: stream for stream in reversed(status.streams) if stream.spec.stream not in running}
        for name, (session, task) in list(self._sessions.items()):
            stream = running.get(name)
            if stream is None or stream.began != session.stream.began:
                session.end(over.get(name))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
                del self._sessions[name]
        for name, stream in running.items():
            if name not in self._sessions and (stream.spec.control_url or stream.spec.events_url):
                self._open(stream)
            if name in self._sessions:
                self._sessions[name][0].saw(status, stream, time.monotonic())

    def _open(self, stream: StreamStatus) -> None:
        new = stream.began > self._began - OLD_SECONDS
        session = StreamSession(self._line, self._channels, self._section, stream, new=new)
        task = asyncio.create_task(session.run(), name=f"session {stream.spec.stream}")
        task.add_done_callback(tell_failure)
        self._sessions[stream.spec.stream] = (session, task)
        for at, name, params in self._changes:
            if at >= stream.began and name in ("", stream.spec.stream):
                session.changed(params)

    async def _leave(self) -> None:
        for session, _ in self._sessions.values():
            session.leave()
        tasks = {task for _, task in self._sessions.values()} | self._ending
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
        self._sessions.clear()
