"""A trickle server over HTTP/1.1, compatible with go-livepeer's, so that a pipeline needs no other program to relay.

It adapts `channel` to aiohttp and keeps everything in memory; it has no authentication and no change feed.
"""

import asyncio
import contextlib
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from pipeline import log
from pipeline.trickle.channel import Channel, Channels, Segment
from pipeline.trickle.limits import RelayLimits

_LINGER_S = 2.0
_READ_BUFFER_BYTES = 256 * 1024
_JOIN_BYTES = 256 * 1024
_BACKLOG = 512
_STATUS_NO_SEGMENT = 470
_NO_SEGMENT = "Entry not found"
_NO_CHANNEL = "Stream not found\n"
_CLOSED = {"Lp-Trickle-Closed": "terminated"}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# What Go's strconv.Atoi takes; Python's int() would take more. Longer numbers are out of its range.
_SEQ = re.compile(r"[+-]?[0-9]{1,18}")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TrickleServer:
    """The routes of one relay, and the sweep of idle channels. `serve` puts it to work."""

    def __init__(self, limits: RelayLimits, *, autocreate: bool = True) -> None:
        self.limits = limits
        self.channels = Channels(limits.max_channels)
        self._autocreate = autocreate
        self._requests = 0
        self._graces: set[asyncio.TimerHandle] = set()

    def routes(self, base_path: str = "/") -> list[web.RouteDef]:
        channel, segment = f"{base_path.rstrip('/')}/{{name}}", f"{base_path.rstrip('/')}/{{name}}/{{seq}}"
        return [
            web.post(channel, self._limited(self._create)),
            web.delete(channel, self._limited(self._remove)),
            web.get(f"{channel}/next", self._limited(self._next), allow_head=True),
            web.get(segment, self._limited(self._read), allow_head=True),
            web.post(segment, self._limited(self._write)),
            web.delete(segment, self._limited(self._close_segment)),
        ]

    def create_channel(self, name: str, content_type: str) -> bool:
        """Create a channel from inside, which needs no autocreate; False if there are too many."""
        return self.channels.create(name, content_type, time.monotonic()) is not None

    async def sweep(self) -> None:
        """Remove idle channels, for ever."""
        while True:
            await asyncio.sleep(self.limits.sweep_interval_s)
            for name in self.channels.idle(time.monotonic() - self.limits.idle_timeout_s):
                self.channels.remove(name)
                log.info("relay.channel_swept", channel=name)

    def close(self) -> None:
        """End every stream: waiting readers get the end-of-stream header, waiting publishers are released."""
        for grace in self._graces:
            grace.cancel()
        self._graces.clear()
        self.channels.clear()

    def _limited(self, handler: _Handler) -> _Handler:
        async def limited(request: web.Request) -> web.StreamResponse:
            if self._requests >= self.limits.max_requests:
                return _last_reply(503, f"more than {self.limits.max_requests} requests at once\n")
            self._requests += 1
            try:
                return await handler(request)
            finally:
                self._requests -= 1

        return limited

    async def _create(self, request: web.Request) -> web.StreamResponse:
        channel = self._find_or_create(request, request.headers.get("Expect-Content", ""))
        return channel if isinstance(channel, web.Response) else web.Response()

    async def _remove(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if not self.channels.remove(name):
            return web.Response(status=400, text="Invalid stream\n")
        log.info("relay.channel_removed", channel=name)
        return web.Response()

    async def _next(self, request: web.Request) -> web.StreamResponse:
        channel = self.channels.get(request.match_info["name"])
        if channel is None:
            return web.Response(status=404, text=_NO_CHANNEL)
        return web.Response(text=str(channel.latest), headers={"Lp-Trickle-Latest": str(channel.latest)})

    async def _close_segment(self, request: web.Request) -> web.StreamResponse:
        channel = self.channels.get(request.match_info["name"])
        if channel is None:
            return web.Response(status=404, text=_NO_CHANNEL)
        seq = _parse_seq(request, lowest=0)
        if seq is None:
            return _invalid_seq()
        segment = channel.find(seq)
        if segment is None:
            return web.Response(status=400, text="Nonexistent segment\n")
        segment.close()
        return web.Response()

    async def _read(self, request: web.Request) -> web.StreamResponse:
        channel = self.channels.get(request.match_info["name"])
        if channel is None:
            return web.Response(status=404, text=_NO_CHANNEL)
        seq = _parse_seq(request, lowest=-2)
        if seq is None:
            return _invalid_seq()
        found = channel.for_read(seq)
        if found is None:
            headers = {"Lp-Trickle-Latest": str(channel.latest), "Lp-Trickle-Seq": str(seq)}
            return web.Response(status=_STATUS_NO_SEGMENT, reason="status code 470", text=_NO_SEGMENT, headers=headers)
        segment, latest = found
        while not segment.chunks and not segment.closed:
            await segment.wait()
        headers = {"Lp-Trickle-Seq": str(segment.seq)}
        if not segment.chunks:
            headers["Lp-Trickle-Latest"] = str(channel.latest)
            return web.Response(headers=headers | (_CLOSED if channel.closed else {}))
        if latest != segment.seq:
            headers["Lp-Trickle-Latest"] = str(latest)
        if channel.content_type:
            headers["Content-Type"] = channel.content_type
        # The head is not sent here: aiohttp holds it back for the first write, which follows at once.
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if request.method != "HEAD":
            await _send(segment, response)
        return response

    async def _write(self, request: web.Request) -> web.StreamResponse:
        seq = _parse_seq(request, lowest=-1)
        if seq is None:
            return _invalid_seq()
        channel = self._find_or_create(request, request.headers.get("Content-Type", ""))
        if isinstance(channel, web.Response):
            return channel
        segment = channel.for_write(seq)
        if "Lp-Trickle-Reset" in request.headers:
            channel.close_before(segment.seq)
        segment.writers += 1
        complete = False
        try:
            response = await self._take_body(request, channel, segment)
            complete = True
            return response
        except (web.RequestPayloadError, ConnectionError):
            return _last_reply(500, "Server error\n")
        finally:
            segment.writers -= 1
            if not complete and not segment.closed:
                self._give_grace(channel, segment)

    async def _take_body(self, request: web.Request, channel: Channel, segment: Segment) -> web.Response:
        data = await self._first_bytes(request, segment)
        size = 0
        while data and not segment.closed:
            size += len(data)
            reason = self._over_limit(channel, segment, len(data))
            if reason:
                segment.close()
                log.warning("relay.segment_refused", channel=channel.name, seq=segment.seq, reason=reason)
                return _last_reply(413, reason)
            channel.append(segment, data, time.monotonic())
            data = await request.content.readany()
        headers = {"Lp-Trickle-Seq": str(segment.seq)} | (_CLOSED if channel.closed else {})
        if data is None or data:
            return _last_reply(200, "", headers)
        channel.finish(segment, time.monotonic())
        return web.Response(headers=headers) if size else _last_reply(200, "", headers)

    async def _first_bytes(self, request: web.Request, segment: Segment) -> bytes | None:
        """The first bytes of a body that may be long in coming, b"" if it has none; None once the segment is closed.

        Meanwhile the client is told `100 Continue` now and then, so that it and what is between us see a live exchange.
        """
        reading = asyncio.ensure_future(request.content.readany())
        closing = asyncio.ensure_future(segment.wait_closed())
        interval = self.limits.interim_interval_s
        try:
            while not segment.closed:
                await asyncio.wait({reading, closing}, timeout=interval, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    return reading.result()
                if not closing.done():
                    _send_continue(request)
            return None
        finally:
            reading.cancel()
            closing.cancel()
            # The body has one reader at a time, and aiohttp will read on after us.
            await asyncio.wait({reading, closing})

    def _over_limit(self, channel: Channel, segment: Segment, more: int) -> str:
        if segment.size + more > self.limits.max_segment_bytes:
            return f"a segment may have {self.limits.max_segment_bytes} bytes\n"
        if channel.size + more > self.limits.max_channel_bytes:
            return f"a channel's segments may have {self.limits.max_channel_bytes} bytes together\n"
        return ""

    def _give_grace(self, channel: Channel, segment: Segment) -> None:
        """After a broken POST: leave the segment open for another one to go on with it, then close it."""
        log.warning("relay.post_broken", channel=channel.name, seq=segment.seq, bytes=segment.size)

        def expire() -> None:
            self._graces.discard(grace)
            # One without bytes holds nothing up: its readers wait at the leading edge, and it can still be written.
            if segment.chunks and not segment.writers:
                segment.close()

        grace = asyncio.get_running_loop().call_later(self.limits.broken_post_grace_s, expire)
        self._graces.add(grace)

    def _find_or_create(self, request: web.Request, content_type: str) -> Channel | web.Response:
        name = request.match_info["name"]
        channel = self.channels.get(name)
        if channel is not None:
            return channel
        if not self._autocreate:
            return _last_reply(404, _NO_CHANNEL)
        channel = self.channels.create(name, content_type, time.monotonic())
        if channel is None:
            return _last_reply(503, f"more than {self.limits.max_channels} channels\n")
        log.info("relay.channel_created", channel=name, content_type=content_type)
        return channel


class RunningServer:
    """A relay that listens. Made by `serve`."""

    def __init__(self, server: TrickleServer, runner: web.AppRunner, port: int) -> None:
        self.trickle = server
        self.port = port
        self._runner = runner

    async def close(self) -> None:
        """End every stream and stop listening."""
        self.trickle.close()
        # One turn of the loop, so that whoever waited is answered before connections are closed.
        await asyncio.sleep(0)
        await self._runner.cleanup()


async def serve(
    host: str,
    port: int,
    *,
    limits: RelayLimits | None = None,
    autocreate: bool = True,
    base_path: str = "/",
    ssl_context: ssl.SSLContext | None = None,
) -> RunningServer:
    """Listen; port 0 takes a free one, see `RunningServer.port`. Raises OSError if the address cannot be had."""
    listener = socket.create_server((host, port), backlog=_BACKLOG)
    return await serve_on(listener, limits=limits, autocreate=autocreate, base_path=base_path, ssl_context=ssl_context)


async def serve_on(
    listener: socket.socket,
    *,
    limits: RelayLimits | None = None,
    autocreate: bool = True,
    base_path: str = "/",
    ssl_context: ssl.SSLContext | None = None,
) -> RunningServer:
    """Serve on a socket that listens already, such as one that a supervisor keeps open while its relay restarts."""
    server = TrickleServer(limits or RelayLimits(), autocreate=autocreate)
    # A waiting GET whose client went away must not wait on, hence the cancellation.
    runner = web.AppRunner(
        _build_app(server, base_path),
        access_log=None,
        handler_cancellation=True,
        lingering_time=_LINGER_S,
        read_bufsize=_READ_BUFFER_BYTES,
        auto_decompress=False,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listener, ssl_context=ssl_context, backlog=_BACKLOG).start()
    except BaseException:
        await runner.cleanup()
        raise
    return RunningServer(server, runner, listener.getsockname()[1])


def _build_app(server: TrickleServer, base_path: str) -> web.Application:
    app = web.Application()
    app.add_routes(server.routes(base_path))

    async def sweeping(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(server.sweep())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app.cleanup_ctx.append(sweeping)
    return app


async def _send(segment: Segment, response: web.StreamResponse) -> None:
    """Everything the segment has and will have. Pieces that wait are sent together, a new one at once."""
    position = 0
    while True:
        while position < len(segment.chunks):
            first = position
            size = 0
            while position < len(segment.chunks) and (position == first or size < _JOIN_BYTES):
                size += len(segment.chunks[position])
                position += 1
            chunks = segment.chunks[first:position]
            await response.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if segment.closed:
            return
        await segment.wait()


def _send_continue(request: web.Request) -> None:
    if request.transport is not None and request.version >= (1, 1):
        request.transport.write(_CONTINUE)


def _parse_seq(request: web.Request, *, lowest: int) -> int | None:
    text = request.match_info["seq"]
    if not _SEQ.fullmatch(text):
        return None
    seq = int(text)
    return seq if seq >= lowest else None


def _invalid_seq() -> web.Response:
    return _last_reply(400, "Invalid idx\n")


def _last_reply(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    """A reply after which the connection is closed, because the rest of a request's body is of no interest."""
    response = web.Response(status=status, text=text or None, headers=headers)
    response.force_close()
    return response
