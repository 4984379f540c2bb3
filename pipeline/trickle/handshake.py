"""What stands between accept and a connection where the relay speaks TLS: the handshake, which costs whoever asks.

asyncio's own TLS listener does the same, but it lets any number of clients be at it.
"""

import asyncio
import math
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable

MAX_HANDSHAKES = 256
"""Under way at once; who comes on top is cut off without a word. They are not counted as connections yet."""

SHUTDOWN_TIMEOUT_S = 2
"""How long a client may take to agree to the end of its connection."""


class Handshakes:
    """Those of one listener. `protocol` is for `loop.create_server`, without a context there."""

    def __init__(self, context: ssl.SSLContext, timeout_s: float, connection: Callable[[], asyncio.Protocol]) -> None:
        """`connection` makes what takes over when TLS stands, within `timeout_s` seconds."""
        self.under_way = 0
        self._context = context
        self._timeout_s = math.ceil(timeout_s)
        self._connection = connection

    def protocol(self) -> asyncio.Protocol:
        return _Accepted(self)

    def begin(self, transport: asyncio.Transport) -> None:
        if self.under_way >= MAX_HANDSHAKES:
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        ended.add_done_callback(self._has_ended)
        self.under_way += 1
        tls = SSLProtocol(
            loop,
            self._connection(),
            self._context,
            ended,
            server_side=True,
            ssl_handshake_timeout=self._timeout_s,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        )
        transport.set_protocol(tls)
        tls.connection_made(transport)

    def _has_ended(self, ended: asyncio.Future[None]) -> None:
        self.under_way -= 1
        ended.exception()  # Looked at, or asyncio would tell of it; a client that fails here is nobody's concern.


class _Accepted(asyncio.Protocol):
    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._handshakes.begin(transport)
