"""The connections to one channel's server, opened when needed and used again when free.

Trickle needs two or three at a time: one per segment in flight and one for small requests.
"""

import asyncio
import ssl

from pipeline.addresses import JudgeAddress
from pipeline.trickle.bearer import AUTHORIZATION
from pipeline.trickle.errors import TrickleConnectionError, TrickleTimeout
from pipeline.trickle.http1 import CONNECT_TIMEOUT_S, Headers, HttpConnection
from pipeline.trickle.response import Reply
from pipeline.trickle.target import Target

REPLY_TIMEOUT_S = 10.0
"""How long a request that the server answers at once (create, next, delete) may take."""

_MAX_IDLE = 4
_MAX_TEXT_BYTES = 4096


class ConnectionPool:
    """Owns every idle connection of one client. Those that are in use belong to whoever acquired them."""

    def __init__(
        self,
        target: Target,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        token: str | None = None,
        judge: JudgeAddress | None = None,
    ) -> None:
        """`token` is the bearer token that each request carries, and `judge` says which addresses may not be connected
        to. Raises ValueError for a token that is none (RFC 6750, 2.1)."""
        if token is not None and not AUTHORIZATION.fullmatch(f"bearer {token}"):
            raise ValueError("token: not a bearer token; allowed: letters, digits, - . _ ~ + / and = at the end")
        self._target = target
        self._token = token
        self._judge = judge
        self._connect_timeout_s = connect_timeout_s
        self.broken = 0
        """Exchanges so far whose connection was lost before the end of the reply."""
        self._idle: list[HttpConnection] = []
        # Made once: loading the system's certificates takes 10 ms and blocks the loop.
        self._ssl_context = ssl_context or (ssl.create_default_context() if target.tls else None)

    async def acquire(self, *, fresh: bool = False) -> HttpConnection:
        """An idle connection, or a new one. Raises TrickleTimeout or TrickleConnectionError."""
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.alive:
                return connection
            connection.close()
        return await HttpConnection.open(
            self._target, self._ssl_context, self._connect_timeout_s, self._token, self._note_broken, self._judge
        )

    def release(self, connection: HttpConnection) -> None:
        """Give a connection back after a complete exchange; it is closed if it cannot carry another."""
        if len(self._idle) < _MAX_IDLE and connection.recycle():
            self._idle.append(connection)
        else:
            connection.close()

    async def get(self, path: str) -> tuple[HttpConnection, Reply]:
        """Start a GET and wait for the head of its reply without a limit. The caller releases the connection."""
        connection = await self.acquire()
        try:
            return connection, await connection.request("GET", path)
        except TrickleConnectionError:
            connection.close()
            if not connection.reused:
                raise
        except BaseException:
            connection.close()
            raise
        # The server had closed an idle connection: no failure of this request.
        connection = await self.acquire(fresh=True)
        try:
            return connection, await connection.request("GET", path)
        except BaseException:
            connection.close()
            raise

    async def call(self, method: str, path: str, headers: Headers = ()) -> tuple[Reply, str]:
        """A request that the server answers at once: the reply and its text.

        On a connection of its own, so that a request that may not be repeated meets no stale one. Raises TrickleTimeout
        after REPLY_TIMEOUT_S seconds, or TrickleConnectionError.
        """
        connection = await self.acquire(fresh=True)
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                reply = await connection.request(method, path, headers)
                text = await _read_text(connection)
        except TimeoutError as error:
            connection.close()
            raise TrickleTimeout(f"{method} {path}: no reply within {REPLY_TIMEOUT_S:g} s") from error
        except BaseException:
            connection.close()
            raise
        self.release(connection)
        return reply, text

    async def finish(self, connection: HttpConnection) -> str:
        """Read the text of a small reply, or its beginning, and give the connection back. Whatever goes wrong with it,
        the reply's head is worth something without it."""
        text = ""
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                text = await _read_text(connection)
        except (TimeoutError, TrickleConnectionError):
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            self.release(connection)
        return text

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _note_broken(self) -> None:
        self.broken += 1


async def _read_text(connection: HttpConnection) -> str:
    """The beginning of a body that is text. With a longer one the connection cannot be used again."""
    text = b""
    while len(text) < _MAX_TEXT_BYTES and (piece := await connection.read(_MAX_TEXT_BYTES)):
        text += piece
    return text.decode("latin-1").strip()
