"""One client's connection to the relay: requests in, one at a time, and what is written back. HTTP/1.1 and 1.0.

It holds the client to the limits of time and rate. What a request means is its host's business.
"""

import asyncio
import contextlib
import re
import socket
from typing import Protocol

from pipeline import log
from pipeline.trickle.body import BodyBroken, BodyDecoder
from pipeline.trickle.limits import RelayLimits, over
from pipeline.trickle.pace import Pace
from pipeline.trickle.reply import TEXT, Fields, Refusal, response_head
from pipeline.trickle.request import Request, parse_request

LINGER_S = 2.0
"""After the last reply, how long a client may go on sending before it is cut off. Closed at once, its system would
throw the reply away unread (RFC 9112, 9.6)."""

MAX_PENDING_BYTES = 64 * 1024
"""Of requests that have come and wait for their turn; then nothing more is read."""

# A peer that vanished without a word is noticed after 60 s while nothing is sent to it; else by the least rate.
_KEEPALIVE_IDLE_S = 30
_KEEPALIVE_INTERVAL_S = 10
_KEEPALIVE_PROBES = 3

_HEAD_END = re.compile(rb"\n\r?\n")
_HEAD_END_BYTES = 3
_LINE_ENDS = b"\r\n"


class Exchange(Protocol):
    """What a connection is busy with between a request's head and the end of the reply, if that takes time."""

    def body(self, pieces: list[memoryview], ended: bool) -> None:
        """Bytes of the request's body, and whether they are the last."""

    def broken(self) -> None:
        """The body will not come to its end; a reply can still be sent."""

    def has_room(self) -> None:
        """The client takes more of the reply."""

    def check(self, now: float) -> None:
        """Once in a while."""

    def lost(self) -> None:
        """The connection is gone."""


class Host(Protocol):
    """Whom connections belong to."""

    limits: RelayLimits

    def entered(self, connection: "Connection") -> None:
        """A client has connected."""

    def answer(self, connection: "Connection", request: Request) -> None:
        """Reply to a request, or begin an exchange that will."""

    def left(self, connection: "Connection") -> None:
        """The client is gone."""


class Connection(asyncio.Protocol):
    """From accept to close. The loop calls it with what comes, its host and its exchanges with what goes."""

    def __init__(self, host: Host) -> None:
        self.address, self.port = "", 0
        self.has_room = True
        """Whether the client takes what is written; if not, an exchange waits to be told."""
        self.refusal: Refusal | None = None
        """All that the client gets, if there are too many already."""
        self.fields: Fields = ()
        """What every reply to the request at hand says besides."""
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._pending = bytearray()
        self._scanned = 0
        self._turn: asyncio.Handle | None = None
        self._request: Request | None = None
        self._body: BodyDecoder | None = None
        self._exchange: Exchange | None = None
        self._last = False  # nothing follows the reply to the request at hand
        self._parting = False
        self._linger: asyncio.TimerHandle | None = None
        self._idle_since = self._loop.time()
        self._head_since: float | None = None
        self._sent = 0
        self._reading = Pace(host.limits.min_read_rate, host.limits.rate_window_s)

    # What the loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # Full as soon as the system takes no more: what waits is in the segment, not once more here.
        transport.set_write_buffer_limits(high=1)
        self.address, self.port = (*(transport.get_extra_info("peername") or ()), "", 0)[:2]
        _keep_alive(transport.get_extra_info("socket"))
        self._host.entered(self)

    def data_received(self, data: bytes) -> None:
        if self._parting:
            return
        if self._body is not None:
            data = data[self._take_body(data) :]
        if data and not self._parting:
            self._pending += data
            self._next_request()

    def eof_received(self) -> None:
        if self._body is not None and self._exchange is not None:
            self._exchange.broken()

    def pause_writing(self) -> None:
        self.has_room = False

    def resume_writing(self) -> None:
        self.has_room = True
        # Not at once: a transport that is closed, or fails, while it says this tells of its end twice (selector_events,
        # _write_ready), and the second time is a traceback.
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._exchange is not None:
            self._exchange.has_room()
        else:
            self._next_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._parting = True
        if self._linger is not None:
            self._linger.cancel()
        self._host.left(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost()

    # What the host and its exchanges say.

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._exchange is not None

    def begin(self, exchange: Exchange) -> None:
        """The reply takes time; `exchange` sees to it."""
        self._exchange = exchange

    def send(self, data: bytes) -> None:
        """Write, now or when there is room. A connection that is going down takes it in silence."""
        if not self._transport.is_closing():
            self._sent += len(data)
            self._transport.write(data)

    def head(self, status: int, fields: Fields, *, last: bool = False) -> bytes:
        """The head of the reply to the request at hand, to be sent with the first bytes of the reply's body."""
        self._skip_body()
        # With the rest of a body still to come, nobody could tell where the next request begins.
        self._last = self._last or last or self._body is not None
        return response_head(status, [*fields, *self.fields], close=self._last)

    def reply(self, status: int, text: str = "", fields: Fields = (), *, last: bool = False) -> None:
        """Send a whole reply, which ends the exchange. After the `last` one the connection is closed."""
        body = text.encode()
        length = ("Content-Length", str(len(body)))
        head = self.head(status, [*fields, length, TEXT] if body else [*fields, length], last=last)
        self.send(head if self._request is not None and self._request.method == "HEAD" else head + body)
        self.finish()

    def refuse(self, refusal: Refusal) -> None:
        self.reply(refusal.status, refusal.text, refusal.fields, last=refusal.last)

    def finish(self) -> None:
        """The reply is complete; whatever comes next is another request."""
        self._exchange = self._request = None
        self._idle_since = self._loop.time()
        if self._last:
            self._part()
        else:
            self._take_turn()

    def close(self) -> None:
        """Send what is written, take no more, and close."""
        self._parting = True
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what the client has not taken is dropped."""
        self._parting = True
        self._transport.abort()

    def check(self, now: float) -> None:
        """Once in a while: hold the client to the limits."""
        waiting = self._transport.get_write_buffer_size()
        if not waiting:
            self._reading.rest()
        elif self._reading.is_too_slow(now, self._sent - waiting):
            log.warning("relay.reader_cut", address=self.address, untaken=waiting, limit="relay.limits.min_read_rate")
            self.abort()
            return
        if self._parting:
            return
        limits = self._host.limits
        if self._exchange is not None:
            self._exchange.check(now)
        elif self._head_since is not None and now - self._head_since > limits.head_timeout_s:
            self.refuse(over("head_timeout_s", f"a request's head may take {limits.head_timeout_s:g} s", 408))
        elif now - self._idle_since > (limits.idle_connection_s if self.refusal is None else LINGER_S):
            self.close()

    # Requests.

    def _take_turn(self) -> None:
        """See to the next request, if it has come. Not at once: whoever calls may be telling others the same news."""
        if self._pending and self._turn is None:
            self._turn = self._loop.call_soon(self._next_request)

    def _next_request(self) -> None:
        self._turn = None
        if self._exchange is None and not self._parting and self.has_room and self._pending:
            try:
                request = self._read_head()
                if request is not None:
                    self._answer(request)
            except Refusal as refusal:
                self.refuse(refusal)
        if len(self._pending) > MAX_PENDING_BYTES and not self._parting:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _read_head(self) -> Request | None:
        """The next request's head; None while it is incomplete. Raises Refusal."""
        if self.refusal is not None:
            raise self.refusal
        self.fields = ()
        # RFC 9112, 2.2: some clients send an empty line after a body.
        if self._pending[0] in _LINE_ENDS:
            self._pending = self._pending.lstrip(_LINE_ENDS)
        if not self._pending:
            return None
        most = self._host.limits.max_head_bytes
        end = _head_end(self._pending, max(0, self._scanned - _HEAD_END_BYTES))
        if (end or len(self._pending)) > most:
            raise over("max_head_bytes", f"a request's head may have {most} bytes", 431)
        if not end:
            self._scanned = len(self._pending)
            self._head_since = self._head_since or self._loop.time()
            return None
        head = bytes(self._pending[:end])
        del self._pending[:end]
        self._scanned, self._head_since = 0, None
        return parse_request(head)

    def _answer(self, request: Request) -> None:
        self._request = request
        self._last = not request.keep_alive
        self._body = BodyDecoder(request.length) if request.has_body else None
        self._host.answer(self, request)
        if self._exchange is not None:
            self._skip_body()
        if self._exchange is None:
            self._take_turn()

    def _skip_body(self) -> None:
        """Take what has come of the body together with the head."""
        if self._body is not None and self._pending:
            data = bytes(self._pending)
            self._pending.clear()
            self._pending += data[self._take_body(data) :]

    def _take_body(self, data: bytes) -> int:
        """Hand on what `data` has of the body; returns how many bytes that was."""
        assert self._body is not None
        try:
            pieces, used = self._body.feed(data)
        except BodyBroken:
            if self._exchange is not None:
                self._exchange.broken()
            return len(data)
        ended = self._body.ended
        if ended:
            self._body = None
        if self._exchange is not None and (pieces or ended):
            self._exchange.body(pieces, ended)
        return used

    def _part(self) -> None:
        """Close after the last reply, once the client has stopped to send, or soon."""
        self._parting = True
        if self._body is None and not self._pending:
            self._transport.close()
            return
        self._pending.clear()
        self._transport.resume_reading()
        with contextlib.suppress(OSError, NotImplementedError):  # the client is gone already; TLS has no half of it
            self._transport.write_eof()
        self._linger = self._loop.call_later(LINGER_S, self._transport.abort)


def _head_end(pending: bytearray, start: int) -> int:
    """Where the first empty line after `start` ends; 0 if there is none."""
    match = _HEAD_END.search(pending, start)
    return match.end() if match else 0


def _keep_alive(connection: socket.socket | None) -> None:
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with contextlib.suppress(AttributeError, OSError):  # the finer options are not on every system
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
