"""A trickle server over HTTP/1.1, compatible with go-livepeer's, so that a pipeline needs no other program to relay.

It says what each request means; connections, segments on their way in and out, and channels have files of their own.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipeline import log
from pipeline.topology_sections import Relay
from pipeline.trickle import changefeed
from pipeline.trickle.channel import Channel, Channels, Memory, Segment
from pipeline.trickle.connection import Connection
from pipeline.trickle.delivery import Delivery
from pipeline.trickle.door import Door
from pipeline.trickle.handshake import Handshakes
from pipeline.trickle.intake import Intake
from pipeline.trickle.limits import over
from pipeline.trickle.origins import Origins
from pipeline.trickle.reply import CONTINUE, Refusal
from pipeline.trickle.request import NOT_FOUND, Request
from pipeline.trickle.statuses import STATUS_NO_SEGMENT
from pipeline.trickle.tokens import Tokens

MAX_SEQ = 2**63 - 2
"""The largest number of a segment: the next one must still be an int64 to clients."""

CLOSE_TIMEOUT_S = 1.0
"""How long clients may take what is on its way to them when the relay stops."""

_BACKLOG = 1024
_MAX_CHECK_S = 1.0
_CHECKS_PER_LIMIT = 4
_NO_CHANNEL = "Stream not found\n"

_Handler = Callable[[Connection, Request, str, str], None]


class TrickleServer:
    """The routes of one relay, and who is connected to it. `serve` puts it to work."""

    def __init__(self, section: Relay, base_path: str = "/") -> None:
        """Raises TokenMissing."""
        self.limits = limits = section.limits
        self.channels = Channels(limits.max_channels, Memory(limits.max_total_bytes), limits.segments_per_channel)
        self.connections: set[Connection] = set()
        self.empty = asyncio.Event()
        """Set while nobody is connected."""
        self.empty.set()
        self._section = section
        self._base = tuple(filter(None, base_path.split("/")))
        self._tokens = Tokens(section.publish_tokens, section.subscribe_tokens)
        self._origins = Origins(section.cors_origins)
        self._door = Door(limits)
        self._graces: set[asyncio.TimerHandle] = set()
        self._channel_routes: dict[str, _Handler] = {"DELETE": self._remove, "POST": self._create}
        self._segment_routes: dict[str, _Handler] = {
            "DELETE": self._close_segment,
            "GET": self._read,
            "HEAD": self._read,
            "POST": self._write,
        }
        if section.changefeed:
            changefeed.ChangeFeed(self.channels)
        for name, content_type in section.channels.items():
            self.create_channel(name, content_type)

    @property
    def _requests(self) -> int:
        """How many are being answered."""
        return sum(connection.busy for connection in self.connections)

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

    async def check(self) -> None:
        """Hold clients to the limits of time and rate, for ever."""
        limits = self.limits
        spans = (limits.head_timeout_s, limits.idle_connection_s, limits.rate_window_s, limits.reader_wait_s)
        interval = min(_MAX_CHECK_S, *(span / _CHECKS_PER_LIMIT for span in spans if span))
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(interval)
            for connection in list(self.connections):
                connection.check(loop.time())

    def close(self) -> None:
        """End every stream: waiting readers get the end-of-stream header, publishers are released."""
        for grace in self._graces:
            grace.cancel()
        self._graces.clear()
        self.channels.clear()

    # What connections say.

    def entered(self, connection: Connection) -> None:
        self.connections.add(connection)
        self.empty.clear()
        connection.refusal = self._door.enter(connection.address)
        if self._door.crowded:
            connection.abort()

    def left(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._door.leave(connection.address, was_refused=connection.refusal is not None)
        if not self.connections:
            self.empty.set()

    def answer(self, connection: Connection, request: Request) -> None:
        """Reply to a request, or begin to. Raises Refusal."""
        connection.fields = self._origins.fields(request)
        name, seq = self._place(request)
        routes = self._segment_routes if seq else self._channel_routes
        handler = routes.get(request.method)
        if handler is None:
            self._answer_other(connection, request, ", ".join(routes))
            return
        reads = request.method in ("GET", "HEAD")
        self._tokens.check(request.headers.get("authorization", ""), writes=not reads)
        if not reads and name == changefeed.NAME and self._section.changefeed:
            raise Refusal(403, "the change feed is written by the relay alone\n", last=True)
        handler(connection, request, name, seq)

    def _place(self, request: Request) -> tuple[str, str]:
        """The channel and the segment that the path names; an empty segment for the channel itself."""
        base, place = request.path[: len(self._base)], request.path[len(self._base) :]
        if base != self._base or len(place) not in (1, 2) or any(part in ("", ".", "..") for part in place):
            raise Refusal(404, NOT_FOUND)
        if not place[0].isprintable():
            raise Refusal(400, "Invalid name\n")
        return place[0], place[1] if len(place) == 2 else ""

    def _answer_other(self, connection: Connection, request: Request, methods: str) -> None:
        """A method that trickle does not have here: a browser's question, or a mistake."""
        allowed = self._origins.preflight(request, methods)
        if allowed is None:
            raise Refusal(405, "Method Not Allowed\n", [("Allow", methods)])
        connection.reply(200, fields=allowed)

    # Routes.

    def _create(self, connection: Connection, request: Request, name: str, _: str) -> None:
        self._find_or_create(name, request.headers.get("expect-content", ""))
        connection.reply(200)

    def _remove(self, connection: Connection, _request: Request, name: str, _: str) -> None:
        if not self.channels.remove(name):
            raise Refusal(400, "Invalid stream\n")
        log.info("relay.channel_removed", channel=name)
        connection.reply(200)

    def _close_segment(self, connection: Connection, _: Request, name: str, seq_text: str) -> None:
        channel = self._find(name)
        segment = channel.find(_parse_seq(seq_text, lowest=0))
        if segment is None:
            raise Refusal(400, "Nonexistent segment\n")
        segment.close()
        connection.reply(200)

    def _read(self, connection: Connection, request: Request, name: str, seq_text: str) -> None:
        channel = self._find(name)
        if seq_text == "next":
            connection.reply(200, str(channel.latest), [("Lp-Trickle-Latest", str(channel.latest))])
            return
        seq = _parse_seq(seq_text, lowest=-2)
        found = channel.for_read(seq)
        if found is None:
            fields = [("Lp-Trickle-Latest", str(channel.latest)), ("Lp-Trickle-Seq", str(seq))]
            raise Refusal(STATUS_NO_SEGMENT, "Entry not found", fields)
        Delivery(
            connection, channel, found, self.limits, chunked=request.is_http11, head=request.method == "HEAD"
        ).start()

    def _write(self, connection: Connection, request: Request, name: str, seq_text: str) -> None:
        if self.channels.get(name) is None:
            self._check_may_create(name)
        seq = _parse_seq(seq_text, lowest=-1)
        if (request.length or 0) > self.limits.max_segment_bytes:
            raise over("max_segment_bytes", f"a segment may have {self.limits.max_segment_bytes} bytes", 413)
        channel = self._find_or_create(name, request.headers.get("content-type", ""))
        if seq == -1:
            seq = _parse_seq(str(channel.latest), lowest=0)
        segment = channel.for_write(seq)
        if "lp-trickle-reset" in request.headers:
            channel.close_before(seq)
        if request.expects_continue:
            connection.send(CONTINUE)
        Intake(connection, channel, segment, self.limits, self.channels.memory, abandoned=self._give_grace).start(
            request
        )

    def _find(self, name: str) -> Channel:
        channel = self.channels.get(name)
        if channel is None:
            raise Refusal(404, _NO_CHANNEL)
        return channel

    def _find_or_create(self, name: str, content_type: str) -> Channel:
        known = self.channels.get(name)
        if known is not None:
            return known
        self._check_may_create(name)
        channel = self.channels.create(name, self._section.channels.get(name, content_type), time.monotonic())
        if channel is None:
            raise over("max_channels", f"there may be {self.limits.max_channels} channels at once", 503)
        log.info("relay.channel_created", channel=name, content_type=channel.content_type)
        return channel

    def _check_may_create(self, name: str) -> None:
        if not self._section.autocreate and name not in self._section.channels:
            raise Refusal(404, _NO_CHANNEL, last=True)

    def _give_grace(self, channel: Channel, segment: Segment) -> None:
        """After a broken POST: leave the segment open for another one to go on with it, then close it."""

        def expire() -> None:
            self._graces.discard(grace)
            if not segment.writers:
                segment.close()

        grace = asyncio.get_running_loop().call_later(self.limits.broken_post_grace_s, expire)
        self._graces.add(grace)


class RunningServer:
    """A relay that listens. Made by `serve`."""

    def __init__(self, trickle: TrickleServer, servers: Sequence[asyncio.Server]) -> None:
        self.trickle = trickle
        self.ports: list[int] = [listener.getsockname()[1] for server in servers for listener in server.sockets]
        self.port = self.ports[0]
        self._servers = servers
        self._chores = [asyncio.create_task(trickle.sweep()), asyncio.create_task(trickle.check())]

    async def close(self) -> None:
        """End every stream and stop listening."""
        for server in self._servers:
            server.close()
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        self.trickle.close()
        for connection in list(self.trickle.connections):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.trickle.empty.wait()
        for connection in list(self.trickle.connections):
            connection.abort()
        await self.trickle.empty.wait()


async def serve(
    host: str, port: int, *, base_path: str = "/", ssl_context: ssl.SSLContext | None = None, **section: Any
) -> RunningServer:
    """Listen; port 0 takes a free one, see `RunningServer.port`. `section` are keys of the topology's relay section.

    Raises OSError if the address cannot be had.
    """
    listener = socket.create_server((host, port), backlog=_BACKLOG)
    try:
        tls = (listener, ssl_context) if ssl_context is not None else None
        return await serve_on([] if tls else [listener], Relay(**section), base_path=base_path, tls=tls)
    except BaseException:
        listener.close()
        raise


async def serve_on(
    listeners: Sequence[socket.socket],
    section: Relay,
    *,
    base_path: str = "/",
    tls: tuple[socket.socket, ssl.SSLContext] | None = None,
) -> RunningServer:
    """Serve on sockets that listen already, such as those that a launcher keeps open while its relay restarts; on that
    of `tls`, which comes last in `RunningServer.ports`, over TLS.

    All of them lead to the same channels. Raises TokenMissing.
    """
    trickle = TrickleServer(section, base_path)
    loop = asyncio.get_running_loop()

    def connection() -> Connection:
        return Connection(trickle)

    doors: list[tuple[socket.socket, Callable[[], asyncio.Protocol]]] = [(each, connection) for each in listeners]
    if tls is not None:
        listener, context = tls
        doors.append((listener, Handshakes(context, section.limits.head_timeout_s, connection).protocol))
    for listener, _ in doors:
        # Accepted sockets inherit it. asyncio sets it only on those that carry a protocol number, which create_server's
        # do not: then the end of a segment waits up to 40 ms for the reader's delayed ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    servers = [await loop.create_server(protocol, sock=listener, backlog=_BACKLOG) for listener, protocol in doors]
    return RunningServer(trickle, servers)


def _parse_seq(text: str, *, lowest: int) -> int:
    """What Go's strconv.Atoi takes; Python's int() would take more. Raises Refusal."""
    digits = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if digits.isascii() and digits.isdigit() and len(digits.lstrip("0")) <= len(str(MAX_SEQ)):
        seq = int(digits.lstrip("0") or "0") * (-1 if text.startswith("-") else 1)
        if lowest <= seq <= MAX_SEQ:
            return seq
    raise Refusal(400, "Invalid idx\n", last=True)
