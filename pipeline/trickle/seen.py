"""What a reader has had of a segment, well enough to know it again on a server that may have lost it meanwhile.

A sequence number does not tell: a server that died and came back counts from 0, and has another segment under it.
"""

import asyncio
import zlib

from pipeline.trickle.http1 import READ_BYTES, HttpConnection

STILL_S = 10.0
"""What was had once a server that still has it sends at once; one that sends nothing for so long has not got it."""

_EMPTY_SUM = zlib.adler32(b"")


class Seen:
    """Size and checksum of a segment's first bytes. Adler-32, as it costs a third of CRC-32: 0.3 ms a megabyte."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.size = 0
        self._sum = _EMPTY_SUM

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._sum = zlib.adler32(data, self._sum)

    async def passes(self, connection: HttpConnection) -> bool:
        """Read as much from a reply's body as was had; whether it is the same. What follows can be read next.

        Raises TrickleConnectionError.
        """
        expected, left = self._sum, self.size  # As of now: somebody may be reading on.
        found = _EMPTY_SUM
        try:
            while left:
                async with asyncio.timeout(STILL_S):
                    data = await connection.read(min(left, READ_BYTES))
                if not data:
                    return False
                found = zlib.adler32(data, found)
                left -= len(data)
        except TimeoutError:
            return False
        return found == expected
