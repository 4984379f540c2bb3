"""One HTTP/1.1 connection with what trickle asks of it: headers at once, endless bodies, replies at any time.

It is no general HTTP client: no redirects, no cookies, no compression, and no time-out once a connection stands.
"""

import asyncio
import contextlib
import fcntl
import re
import socket
import ssl
import sys
import termios
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self, TypeVar

from pipeline.addresses import JudgeAddress
from pipeline.trickle.body import BodyBroken, BodyDecoder
from pipeline.trickle.errors import TrickleConnectionError, TrickleTimeout
from pipeline.trickle.response import Reply, ReplyBroken, ReplyHead
from pipeline.trickle.target import Target

CONNECT_TIMEOUT_S = 10.0
"""How long a TCP connection and its TLS handshake may take."""

READ_BYTES = 256 * 1024
"""The most that one `read` gives, if not told otherwise."""

MAX_UNREAD_BYTES = 256 * 1024
"""Of a reply's body that may wait to be read; then the connection is not read from, so that the server has to wait.
What had come by then may be as much again: the event loop reads so many bytes at a time."""

PEER_LOST_S = 60
"""A peer that vanished without a word, with its machine or its network, is noticed after so long: at rest by probes,
and while something is being sent because it does not arrive. To Linux, a peer that takes nothing has vanished, too."""

KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10

_WRITE_BUFFER_BYTES = 256 * 1024
# A write that the kernel takes whole does not suspend, so a fast writer would starve the rest of its loop.
_YIELD_EVERY_BYTES = 512 * 1024
# What a piece that waits to be read costs besides its bytes.
_PIECE_BYTES = 256
_LAST_CHUNK = b"0\r\n\r\n"
Connection = TypeVar("Connection", bound="HttpConnection")

_NOT_IN_A_LINE = re.compile(r"[\x00\r\n]")

Headers = Iterable[tuple[str, str]]
Buffer = bytes | bytearray | memoryview


class HttpConnection(asyncio.Protocol):
    """One connection; one exchange at a time, any number of them in a row, for one task at a time.

    Every method raises TrickleConnectionError when the connection is lost, or when what comes over it is not HTTP/1.x.
    None has a time-out: a segment may be as long as it likes, and a reply may be waited for as long as the caller cares
    to.
    """

    def __init__(self, target: Target, token: str | None, on_broken: Callable[[], None]) -> None:
        self.reused = False
        self._target = target
        self._authorization = [("Authorization", f"Bearer {token}")] if token else []
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._failure: str | None = None  # why nothing more can be read or written, once that is so
        self._has_room = True
        self._waiting_for_room: asyncio.Future[None] | None = None
        self._waiting_for_reply: asyncio.Future[None] | None = None
        self._unyielded = 0
        self._surplus = False  # the server said more than it was asked for
        self._begin()

    def _begin(self) -> None:
        """Nothing was asked yet."""
        self._asked = self._asked_all = False
        self._head = ReplyHead()
        self._reply: Reply | None = None
        self._early: Reply | None = None
        self._body: BodyDecoder | None = None  # None while a body goes on to the end of the connection, too
        self._replied_all = False
        self._pieces: deque[memoryview] = deque()
        self._unread = 0
        self._reading = True

    @classmethod
    async def open(
        cls,
        target: Target,
        ssl_context: ssl.SSLContext | None = None,
        timeout_s: float = CONNECT_TIMEOUT_S,
        token: str | None = None,
        on_broken: Callable[[], None] = lambda: None,
        judge: JudgeAddress | None = None,
    ) -> Self:
        """Connect. Each request will carry `token`; `on_broken` is called if the connection is lost during an exchange.
        An address that `judge` has something against is not connected to.

        Raises TrickleTimeout after `timeout_s` seconds and TrickleConnectionError when refused.
        """
        context = (ssl_context or ssl.create_default_context()) if target.tls else None
        try:
            async with asyncio.timeout(timeout_s):
                hosts = [target.host] if judge is None else await _judged_addresses(target, judge)
                return await _first_to_answer(hosts, lambda: cls(target, token, on_broken), target, context)
        except TimeoutError as error:
            raise TrickleTimeout(f"{target.url()}: no connection within {timeout_s:g} s") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that no name can be
            raise TrickleConnectionError(f"{target.url()}: {error}") from error

    # What the loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        _notice_lost_peer(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        try:
            self._take(data)
        except (ReplyBroken, BodyBroken) as error:
            self._fail(str(error))
            self._transport.abort()
        self._wake()

    def eof_received(self) -> None:
        if self._reply is not None and self._reply.length is None and not self._reply.chunked:
            self._replied_all = True
        self._fail("closed by the server" if self._reply else "closed without a reply")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc) if exc else "connection lost")

    def pause_writing(self) -> None:
        self._has_room = False

    def resume_writing(self) -> None:
        self._has_room = True
        _set(self._waiting_for_room)

    # What the user says.

    @property
    def alive(self) -> bool:
        """Whether an idle connection still looks open."""
        return self._failure is None and not self._surplus

    @property
    def early_reply(self) -> Reply | None:
        """What the server said of a POST before its body was ended; the connection is closed by then."""
        return self._early

    @property
    def lost(self) -> bool:
        """Whether a POST can take no more bytes: it was answered early or its connection broke."""
        return self._failure is not None

    @property
    def untaken(self) -> int:
        """Bytes written that the peer's system has not acknowledged yet."""
        return self._transport.get_write_buffer_size() + _unacknowledged(self._transport.get_extra_info("socket"))

    def recycle(self) -> bool:
        """Make ready for another exchange; False if this connection cannot carry one."""
        if not (self._asked_all and self._replied_all and not self._pieces and self.alive):
            return False
        if self._reply is None or not self._reply.keeps_alive:
            return False
        self._begin()
        self.reused = True
        return True

    def close(self) -> None:
        """Drop the connection at once. What the server has not answered may or may not have reached it."""
        self._asked = False  # The exchange is given up, not broken.
        self._fail("closed")
        self._transport.abort()

    async def request(self, method: str, path: str, headers: Headers = ()) -> Reply:
        """Send a request without a body and wait for the head of its reply, however long that takes."""
        length = [("Content-Length", "0")] if method == "POST" else []
        self._send_head(method, path, [*headers, *length])
        self._asked_all = True
        return await self._read_head()

    async def has_body(self) -> bool:
        """Wait for a byte of the reply's body, but leave it to be read; False at its end."""
        while not self._pieces:
            if self._replied_all:
                return False
            await self._something_new()
        return True

    async def read(self, n: int = READ_BYTES) -> bytes:
        """Up to `n` bytes of the reply's body, as soon as there are any; b"" at its end."""
        if not await self.has_body():
            return b""
        size, taken = 0, []
        while self._pieces and size < n:
            piece = self._pieces.popleft()
            self._unread -= len(piece) + _PIECE_BYTES
            if size + len(piece) > n:
                self._keep(piece[n - size :], in_front=True)
                piece = piece[: n - size]
            size += len(piece)
            taken.append(piece)
        if not self._reading and self._unread < MAX_UNREAD_BYTES:
            self._reading = True
            self._transport.resume_reading()
        return b"".join(taken)

    async def start_post(self, path: str, headers: Headers = ()) -> None:
        """Send the head of a chunked POST now; the server sees it before there is any body."""
        self._send_head("POST", path, [*headers, ("Transfer-Encoding", "chunked")])
        await self._drain()

    async def write_chunk(self, data: Buffer) -> None:
        """Send a piece of the body; returns when the buffers below have room again.

        Raises TrickleConnectionError also when the server answered early: then `early_reply` is set.
        """
        if not data:
            return
        # One write per chunk, so that the kernel is called once.
        self._write(b"".join((b"%x\r\n" % len(data), data, b"\r\n")))
        self._unyielded += len(data)
        if self._unyielded >= _YIELD_EVERY_BYTES:
            self._unyielded = 0
            await asyncio.sleep(0)
        await self._drain()

    async def finish_post(self) -> Reply:
        """End the body and wait for the reply."""
        self._asked_all = True
        self._write(_LAST_CHUNK)
        reply = await self._read_head()
        while await self.read():
            pass
        return reply

    # Reading.

    def _take(self, data: bytes) -> None:
        if not self._asked or self._replied_all:
            self._surplus = True
            return
        if self._reply is None:
            found = self._head.feed(data)
            if found is None:
                return
            self._reply, data = found
            if not self._asked_all:
                # The exchange cannot be completed any more.
                self._early, self._replied_all = self._reply, True
                self._fail("answered by the server before its end")
                self._transport.abort()
                return
            if self._reply.chunked or self._reply.length is not None:
                self._body = BodyDecoder(self._reply.length)
                self._replied_all = self._body.ended
        if self._body is None:
            self._keep(memoryview(data))
        else:
            pieces, used = self._body.feed(data)
            for piece in pieces:
                self._keep(piece)
            self._replied_all = self._body.ended
            self._surplus = used < len(data)
        if self._unread >= MAX_UNREAD_BYTES and self._reading and self._failure is None:
            self._reading = False
            self._transport.pause_reading()

    def _keep(self, piece: memoryview, *, in_front: bool = False) -> None:
        if piece:
            self._unread += len(piece) + _PIECE_BYTES
            (self._pieces.appendleft if in_front else self._pieces.append)(piece)

    async def _read_head(self) -> Reply:
        while self._reply is None:
            await self._something_new()
        return self._reply

    async def _something_new(self) -> None:
        """Until more of the reply has come. Raises TrickleConnectionError if nothing more will."""
        if self._failure is not None:
            raise self._broken()
        self._waiting_for_reply = self._loop.create_future()
        try:
            await self._waiting_for_reply
        finally:
            self._waiting_for_reply = None

    # Writing.

    def _send_head(self, method: str, path: str, headers: list[tuple[str, str]]) -> None:
        fields = [("Host", self._target.authority), *self._authorization, *headers]
        for name, value in fields:
            if _NOT_IN_A_LINE.search(value):
                raise ValueError(f"{name} {value!r}: cannot be sent in a header")
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        data = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self._asked = True
        self._write(data)

    def _write(self, data: bytes) -> None:
        if self._failure is not None:
            raise self._broken()
        self._transport.write(data)

    async def _drain(self) -> None:
        if self._failure is None and not self._has_room:
            self._waiting_for_room = self._loop.create_future()
            try:
                await self._waiting_for_room
            finally:
                self._waiting_for_room = None
        if self._transport.is_closing():
            await asyncio.sleep(0)  # the loop knows of a failure, and has not had its turn to say so
        if self._failure is not None:
            raise self._broken()

    # The end.

    def _fail(self, reason: str) -> None:
        """Nothing more comes or goes. What has come can still be read."""
        if self._failure is not None:
            return
        self._failure = reason
        if self._asked and not self._replied_all:
            self._on_broken()
        self._wake()
        _set(self._waiting_for_room)

    def _wake(self) -> None:
        _set(self._waiting_for_reply)

    def _broken(self) -> TrickleConnectionError:
        return TrickleConnectionError(f"{self._target.url()}: {self._failure}")


async def _first_to_answer(
    hosts: list[str], make: Callable[[], Connection], target: Target, context: ssl.SSLContext | None
) -> Connection:
    """Raises OSError when none does."""
    for host in hosts:
        try:
            name = target.host if context is not None else None
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(make, host, target.port, ssl=context, server_hostname=name)
        except OSError:
            if host == hosts[-1]:
                raise
        else:
            return connection
    raise OSError("no address")


async def _judged_addresses(target: Target, judge: JudgeAddress) -> list[str]:
    """What the host leads to, once nothing is wrong with any. Raises TrickleConnectionError, and OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if problem := judge(address):
            raise TrickleConnectionError(f"{target.url()}: {target.host} leads to {problem}")
    return addresses


def _set(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _notice_lost_peer(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with contextlib.suppress(AttributeError, OSError):  # the finer options are not on every system
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        probes = max(1, (PEER_LOST_S - KEEPALIVE_IDLE_S) // KEEPALIVE_INTERVAL_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_LOST_S * 1000)


def _unacknowledged(connection: socket.socket) -> int:
    """What the system holds of a socket's bytes; 0 if it is closed, or the system does not tell."""
    queued = bytearray(4)
    with contextlib.suppress(OSError, ValueError):
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, queued)
    return int.from_bytes(queued, sys.byteorder)
