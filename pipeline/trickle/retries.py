"""How long a reader that fails goes on trying."""

import asyncio

from pipeline.trickle.errors import TrickleError, TrickleTimeout

MAX_RETRIES = 9
"""Failures in a row, without a byte or a quiet wait between them, before the last one is raised. About 7 seconds."""

_FIRST_DELAY_S = 0.05
_MAX_DELAY_S = 2.0
# A connection that stood this long was no failure: servers with a write time-out close waiting GETs without a reply.
_QUIET_WAIT_S = 3.0


class Retries:
    """Waits between failures in a row, each longer than the last and the first not at all, and gives up after so
    many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._since = asyncio.get_running_loop().time()

    async def wait(self, error: TrickleError) -> None:
        """Wait before the next attempt, or raise `error` when there were enough."""
        loop = asyncio.get_running_loop()
        if not isinstance(error, TrickleTimeout) and loop.time() - self._since > _QUIET_WAIT_S:
            self._count = 0
        if self._count >= self._limit:
            raise error
        await asyncio.sleep(min(_FIRST_DELAY_S * 2 ** (self._count - 1), _MAX_DELAY_S) if self._count else 0)
        self._count += 1
        self._since = loop.time()


class Patience:
    """A limit in seconds that begins with its first use."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: float | None = None

    def exhausted(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
        return now - self._since > self._limit_s
