"""What goes into the pipeline and what comes out of it, for a player in the page: a channel's segments as one answer
that goes on, MPEG-TS as it comes, from the newest segment on. The relay's token stays here."""

import asyncio
import contextlib

from aiohttp import web

from pipeline import log
from pipeline.api.answers import under_way
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.open_answers import OpenAnswers, while_read, write
from pipeline.api.problems import ApiError, not_now
from pipeline.api.redact import redacted
from pipeline.api.stream_session import Channels
from pipeline.api.streams import find
from pipeline.api.urls import UrlRefused
from pipeline.channel_address import ChannelAddress
from pipeline.status import Plan
from pipeline.trickle.errors import AccessDenied, TrickleError
from pipeline.trickle.segment_reader import SegmentReader
from pipeline.trickle.subscriber import TrickleSubscriber

MAX_WATCHERS = 16
RETRY_SECONDS = 0.25
"""Between two looks for a channel that is not there."""

PACKET_BYTES = 188
"""ISO 13818-1, 2.4.3.2."""

FIRST_SECONDS = 0.2
"""So long it is seen whether the channel may be read before the answer begins."""

CONTENT_TYPE = "video/mp2t"

ENDS = {"input": ("ingress", "reads"), "output": ("egress", "writes")}
"""What may be watched: the worker at that end, and what it says of it."""

OF_STREAM = {"input": "subscribe_url", "output": "publish_url"}
"""The same of a stream on request."""


class Watch:
    def __init__(self, line: LauncherLine, channels: Channels) -> None:
        self._line = line
        self._channels = channels
        self._open = OpenAnswers(MAX_WATCHERS, "watch")

    def close(self) -> None:
        self._open.close()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The channel at one end of the pipeline. One that is not there yet, or no more, is waited for; when the stream
        ends, so does the answer."""
        end = request.match_info["end"]
        if end not in ENDS:
            raise ApiError(404, f"there is no {end[:40]!r} to watch", allowed=", ".join(ENDS), code="unknown")
        channel = await self._channel(end, request.query.get("stream", ""))
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "X-Accel-Buffering": "no"})
        reader = TrickleSubscriber(channel.url, token=channel.token, judge=channel.judge)
        async with self._open.place(), reader as subscriber:
            first = asyncio.create_task(_next(subscriber, request), name="first-segment")
            try:
                await asyncio.wait((first,), timeout=FIRST_SECONDS)
                if first.done():
                    _check(first)
                await response.prepare(request)
                segment = await first
                while segment is not None:
                    await _copy(segment, request, response)
                    segment = await _next(subscriber, request)
            except AccessDenied as denied:
                log.warning("api.watch_denied", reason=redacted(str(denied)))
            finally:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
        return response

    async def _channel(self, end: str, stream: str) -> ChannelAddress:
        """Of the stream that is called so; empty: of the only one that runs."""
        plan = await self._line.plan()
        channel = channel_at(end, plan)
        if plan.on_request:
            status = await self._line.status()
            if not stream and not under_way(status):
                raise not_now(f"no stream runs, so there is no {end}", "loading")
            channel = getattr(find(status, stream, "watch").spec, OF_STREAM[end])
        if "://" in channel:
            try:
                await self._channels.rules.check(channel)
            except UrlRefused as refused:
                raise ApiError(403, str(refused), allowed=refused.allowed) from refused
        return self._channels.address(channel)


def channel_at(end: str, plan: Plan) -> str:
    """The channel at this end; empty with streams on request, of which each has its own. Raises ApiError for a file."""
    worker, key = ENDS[end]
    stage = next(stage for stage in plan.stages if stage.worker == worker)
    channel: str = getattr(stage, key)
    if not channel and stage.file:
        raise ApiError(404, f"the {end} is a file, {stage.file}", allowed="a trickle channel", code="unknown")
    return channel


def _check(first: asyncio.Task[SegmentReader | None]) -> None:
    """Raises ApiError when the channel may not be read: told while there is still a status to tell it with."""
    if isinstance(denied := first.exception(), AccessDenied):
        raise ApiError(
            403, redacted(str(denied)), allowed="a channel of the embedded relay, or one that needs no token"
        ) from denied


async def _next(subscriber: TrickleSubscriber, request: web.Request) -> SegmentReader | None:
    """None at the end of the stream. Raises ReaderGone and AccessDenied."""
    while True:
        try:
            return await while_read(request, subscriber.next())
        except AccessDenied:
            raise
        except TrickleError:
            await asyncio.sleep(RETRY_SECONDS)


async def _copy(segment: SegmentReader, request: web.Request, response: web.StreamResponse) -> None:
    """Whole packets only: a player that lost one byte would find no more packet. What is left of a segment whose
    connection breaks is lost; the next one begins with a key picture. Raises ReaderGone."""
    rest = b""
    with contextlib.suppress(TrickleError):
        while piece := await while_read(request, segment.read()):
            data = rest + piece
            whole = len(data) - len(data) % PACKET_BYTES
            rest = data[whole:]
            if whole:
                await write(request, response, data[:whole])
