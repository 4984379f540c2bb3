"""Lets a browser publish its camera or a file into a channel of the embedded relay: one WebSocket for as long as it
lasts, one publisher a channel. What becomes of the bytes is `browser_media`'s."""

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
from aiohttp import WSMsgType, web

from pipeline import log
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.open_answers import OpenAnswers
from pipeline.api.problems import ApiError
from pipeline.api.redact import redacted
from pipeline.api.stream_session import Channels
from pipeline.api.urls import UrlRefused
from pipeline.control import LauncherSilent
from pipeline.topology_sections import Api as Section

PROTOCOL = "livepipe.publish"
"""Subprotocol of the WebSocket. The token, if one is needed, is offered as another: see access.TOKEN_PROTOCOL."""

MAX_PUBLISHERS = 2
MAX_MESSAGE_BYTES = 4 << 20
FIRST_WORD_SECONDS = 10.0
HEARTBEAT_SECONDS = 10.0
"""A browser that does not answer for so long is gone."""


class Begin(msgspec.Struct, frozen=True):
    """The first message, as JSON: what the binary ones are parts of. `size` is that of a file, in bytes."""

    kind: Literal["camera", "file"]
    size: int = 0


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the browser is told, as JSON. `received`: all of a file is here; `done`: the channel has ended."""

    state: Literal["ready", "received", "done", "error"]
    error: str = ""
    segments: int = 0
    segments_lost: int = 0
    bytes: int = 0


class Publish:
    def __init__(self, line: LauncherLine, channels: Channels, section: Section) -> None:
        self._line = line
        self._channels = channels
        self._max_bytes = section.max_upload_bytes
        self._open = OpenAnswers(MAX_PUBLISHERS, "publish")
        self._taken: set[str] = set()

    def close(self) -> None:
        self._open.close()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """What goes wrong is told over the WebSocket: a browser shows a page no other answer to its request."""
        socket = web.WebSocketResponse(
            protocols=(PROTOCOL,), max_msg_size=MAX_MESSAGE_BYTES, heartbeat=HEARTBEAT_SECONDS
        )
        if not socket.can_prepare(request):
            raise ApiError(426, "this is for WebSockets", allowed=PROTOCOL, headers={"Upgrade": "websocket"})
        await socket.prepare(request)
        channel = request.match_info["channel"]
        try:
            async with self._open.place(), self._claim(channel):
                await self._publish(socket, channel)
        except ApiError as problem:
            await _say(socket, Said("error", problem.text))
        except LauncherSilent as silent:
            await _say(socket, Said("error", str(silent)))
        finally:
            await socket.close()
        return socket

    async def _publish(self, socket: web.WebSocketResponse, name: str) -> None:
        begin = await _first_word(socket)
        if begin.kind == "file" and not 0 < begin.size <= self._max_bytes:
            raise ApiError(
                413, f"the file has {begin.size} bytes", allowed=f"1 to {self._max_bytes} (max_upload_bytes)"
            )
        await asyncio.to_thread(importlib.import_module, "pipeline.api.browser_media")
        from pipeline.api import browser_media

        address = self._channels.address(name)
        channel = browser_media.Channel(address.url, address.token)
        log.info("api.publishing", channel=name, kind=begin.kind)
        await _say(socket, Said("ready"))
        try:
            if begin.kind == "camera":
                done = await browser_media.publish_camera(lambda: _next_part(socket), channel)
            else:
                done = await browser_media.publish_upload(
                    lambda: _next_part(socket), begin.size, channel, lambda: _say(socket, Said("received"))
                )
        except browser_media.USER_ERRORS as error:
            raise ApiError(422, redacted(str(error))) from error
        finally:
            log.info("api.published", channel=name)
        await _say(socket, Said("done", "", done.segments, done.segments_lost, done.bytes))

    @asynccontextmanager
    async def _claim(self, channel: str) -> AsyncIterator[None]:
        """Raises ApiError for a channel that is not to be written by a browser now."""
        plan = await self._line.plan()
        if not plan.has_relay:
            raise ApiError(404, "there is no embedded relay to publish into", allowed="with relay: in the topology")
        try:
            await self._channels.rules.check(channel)
        except UrlRefused as refused:
            raise ApiError(400, str(refused), path="channel", allowed=refused.allowed) from refused
        names = (channel, self._channels.address(channel).url)
        for stage in plan.stages:
            if stage.writes in names:
                raise ApiError(409, f"the stage {stage.stage} writes the channel {channel}", allowed="another channel")
        if channel in self._taken:
            raise ApiError(409, f"somebody publishes into {channel} already", allowed="one at a time")
        self._taken.add(channel)
        try:
            yield
        finally:
            self._taken.discard(channel)


async def _first_word(socket: web.WebSocketResponse) -> Begin:
    try:
        async with asyncio.timeout(FIRST_WORD_SECONDS):
            message = await socket.receive()
        return msgspec.json.decode(message.data or b"", type=Begin)
    except TimeoutError as error:
        raise ApiError(408, f"no word within {FIRST_WORD_SECONDS:g} s") from error
    except (msgspec.DecodeError, TypeError) as error:
        raise ApiError(400, f"the first message: {error}", allowed='{"kind": "camera"}, {"kind": "file"}') from error


async def _next_part(socket: web.WebSocketResponse) -> bytes:
    """Empty at the end: when the browser says so, and when it is gone."""
    message = await socket.receive()
    return message.data if message.type is WSMsgType.BINARY else b""


async def _say(socket: web.WebSocketResponse, said: Said) -> None:
    with contextlib.suppress(ConnectionError):
        await socket.send_str(msgspec.json.encode(said).decode())
