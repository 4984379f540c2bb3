"""One HTTP/1.1 connection with what trickle asks of it: headers at once, endless bodies, replies at any time.

It is no general HTTP client: no redirects, no cookies, no compression, and no time-out once a connection stands.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterable
from typing import Self
from urllib.parse import urlsplit

import h11
import msgspec

from pipeline.trickle.errors import TrickleConnectionError, TrickleError, TrickleTimeout

CONNECT_TIMEOUT_S = 10.0
"""How long a TCP connection and its TLS handshake may take."""

_READ_BYTES = 256 * 1024
_STREAM_LIMIT_BYTES = 512 * 1024
_WRITE_BUFFER_BYTES = 256 * 1024
# A write that the kernel takes whole does not suspend, so a fast writer would starve the rest of its loop.
_YIELD_EVERY_BYTES = 512 * 1024
# A peer that vanished without a word is noticed after 60 s, however long a segment may rest.
_KEEPALIVE_IDLE_S = 30
_KEEPALIVE_INTERVAL_S = 10
_KEEPALIVE_PROBES = 3

Headers = Iterable[tuple[str, str]]
Buffer = bytes | bytearray | memoryview


class Target(msgspec.Struct, frozen=True):
    """A channel's URL, taken apart once."""

    host: str
    port: int
    tls: bool
    path: str
    query: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def join(self, *parts: str | int) -> str:
        """The request target of the channel, or of what lies below it."""
        path = "/".join([self.path, *map(str, parts)])
        return f"{path}?{self.query}" if self.query else path

    def url(self, *parts: str | int) -> str:
        """The whole URL, for messages."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.join(*parts)}"


class Reply(msgspec.Struct, frozen=True):
    """The head of a response. Header names are in lower case."""

    status: int
    headers: dict[str, str]

    @property
    def closes(self) -> bool:
        return "close" in self.headers.get("connection", "").lower()

    def number(self, header: str) -> int | None:
        """The integer in a header, or None if it is absent or no integer."""
        try:
            return int(self.headers.get(header, ""))
        except ValueError:
            return None


def parse_url(url: str) -> Target:
    """Take a channel's URL apart. Raises ValueError if it is no http or https URL with a channel name."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or not path:
        raise ValueError(f"not a trickle channel URL (http[s]://host[:port]/name): {url}")
    tls = parts.scheme == "https"
    return Target(parts.hostname, parts.port or (443 if tls else 80), tls, path, parts.query)


class HttpConnection:
    """One connection; one exchange at a time, any number of them in a row.

    Every method raises TrickleConnectionError when the connection is lost. None has a time-out: a segment may be as
    long as it likes, and a reply may be waited for as long as the caller cares to.
    """

    def __init__(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reused = False
        self._target = target
        self._reader = reader
        self._writer = writer
        self._state = h11.Connection(our_role=h11.CLIENT)
        self._reply: asyncio.Task[Reply] | None = None
        self._early: Reply | None = None
        self._body_ended = False
        self._unyielded = 0

    @classmethod
    async def open(
        cls, target: Target, ssl_context: ssl.SSLContext | None = None, timeout_s: float = CONNECT_TIMEOUT_S
    ) -> Self:
        """Connect. Raises TrickleTimeout after `timeout_s` seconds and TrickleConnectionError when refused."""
        context = (ssl_context or ssl.create_default_context()) if target.tls else None
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(
                    target.host, target.port, ssl=context, limit=_STREAM_LIMIT_BYTES
                )
        except TimeoutError as error:
            raise TrickleTimeout(f"{target.url()}: no connection within {timeout_s:g} s") from error
        except OSError as error:
            raise TrickleConnectionError(f"{target.url()}: {error}") from error
        writer.transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        _keep_alive(writer.get_extra_info("socket"))
        return cls(target, reader, writer)

    @property
    def alive(self) -> bool:
        """Whether an idle connection still looks open."""
        return not (self._reader.at_eof() or self._writer.is_closing() or self._reader.exception())

    @property
    def early_reply(self) -> Reply | None:
        """What the server said of a POST before its body was ended; the connection is closed by then."""
        return self._early

    @property
    def lost(self) -> bool:
        """Whether a POST can take no more bytes: it was answered early or its connection broke."""
        return self._reply is not None and self._reply.done()

    def recycle(self) -> bool:
        """Make ready for another exchange; False if this connection cannot carry one."""
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE or not self.alive:
            return False
        self._state.start_next_cycle()
        self._reply = None
        self._body_ended = False
        self.reused = True
        return True

    def close(self) -> None:
        """Drop the connection at once. What the server has not answered may or may not have reached it."""
        if self._reply is not None:
            self._reply.cancel()
        self._writer.transport.abort()

    async def request(self, method: str, path: str, headers: Headers = ()) -> Reply:
        """Send a request without a body and wait for the head of its reply, however long that takes."""
        length = [("Content-Length", "0")] if method == "POST" else []
        self._send_head(method, path, [*headers, *length])
        self._write(self._state.send(h11.EndOfMessage()))
        await self._drain()
        return await self._read_head()

    async def read(self) -> bytes:
        """The next piece of the reply's body as it came, b"" at its end."""
        while True:
            event = self._next_event()
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if event is h11.NEED_DATA:
                await self._receive()
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or event is h11.PAUSED:
                return b""

    async def start_post(self, path: str, headers: Headers = ()) -> None:
        """Send the head of a chunked POST now; the server sees it before there is any body."""
        self._send_head("POST", path, [*headers, ("Transfer-Encoding", "chunked")])
        await self._drain()
        self._reply = asyncio.create_task(self._await_reply())
        self._reply.add_done_callback(_retrieve)

    async def write_chunk(self, data: Buffer) -> None:
        """Send a piece of the body; returns when the buffers below have room again.

        Raises TrickleConnectionError also when the server answered early: then `early_reply` is set.
        """
        if not data:
            return
        if self.lost:
            raise self._broken("POST ended by the server")
        # One write per chunk: framing done here costs a quarter of h11's, and the kernel is called once.
        self._write(b"".join((b"%x\r\n" % len(data), data, b"\r\n")))
        self._unyielded += len(data)
        if self._unyielded >= _YIELD_EVERY_BYTES:
            self._unyielded = 0
            await asyncio.sleep(0)
        await self._drain()

    async def finish_post(self) -> Reply:
        """End the body and wait for the reply."""
        if self._reply is None:
            raise ValueError("no POST was started")
        if self.lost:
            raise self._broken("POST ended by the server")
        self._body_ended = True
        self._write(self._state.send(h11.EndOfMessage()))
        try:
            return await asyncio.shield(self._reply)
        except TrickleError as error:
            raise self._broken(str(error)) from error

    async def _await_reply(self) -> Reply:
        reply = await self._read_head()
        if self._body_ended:
            while await self.read():
                pass
            return reply
        # The exchange cannot be completed any more. Aborting wakes a writer that waits for room.
        self._early = reply
        self._writer.transport.abort()
        return reply

    async def _read_head(self) -> Reply:
        while True:
            event = self._next_event()
            if isinstance(event, h11.Response):
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
                return Reply(event.status_code, headers)
            if event is h11.NEED_DATA:
                await self._receive()
            elif not isinstance(event, h11.InformationalResponse):
                raise self._broken("closed without a reply")

    def _send_head(self, method: str, path: str, headers: list[tuple[str, str]]) -> None:
        fields = [("Host", self._target.authority), *headers]
        self._write(self._state.send(h11.Request(method=method, target=path, headers=fields)))

    def _next_event(self) -> object:
        try:
            return self._state.next_event()
        except h11.RemoteProtocolError as error:
            raise self._broken(str(error)) from error

    async def _receive(self) -> None:
        try:
            data = await self._reader.read(_READ_BYTES)
            self._state.receive_data(data)
        except (OSError, h11.RemoteProtocolError) as error:
            raise self._broken(str(error)) from error

    def _write(self, data: bytes | None) -> None:
        if data:
            self._writer.write(data)

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError as error:
            raise self._broken(str(error)) from error

    def _broken(self, reason: str) -> TrickleConnectionError:
        return TrickleConnectionError(f"{self._target.url()}: {reason or 'connection lost'}")


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with contextlib.suppress(AttributeError, OSError):  # the finer options are not on every system
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)


def _retrieve(task: asyncio.Task[Reply]) -> None:
    if not task.cancelled():
        task.exception()
