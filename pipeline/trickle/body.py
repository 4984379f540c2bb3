"""The body of a request as its bytes come: chunked, or of a length given ahead (RFC 9112, 6 and 7.1).

It hands out views of what it is fed and copies nothing; what the bytes are for is none of its concern.
"""

import re

MAX_LINE_BYTES = 1024
"""Of a chunk's size with its extension, and of one trailer."""

MAX_TRAILER_BYTES = 8192

# One digit fewer than a signed 64-bit number has, so that no sum of sizes can surprise anybody.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")


_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")


class BodyBroken(Exception):
    """The framing is wrong: where the next bytes belong cannot be told any more."""


class BodyDecoder:
    """One body. `ended` once its last byte has been fed."""

    def __init__(self, length: int | None) -> None:
        """`length` is None for a chunked body."""
        self.ended = length == 0
        self._chunked = length is None
        self._left = length or 0
        self._line = b""
        self._expects = self._size
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> tuple[list[memoryview], int]:
        """The body's bytes in `data`, and how many bytes of `data` were the body's. Raises BodyBroken."""
        view = memoryview(data)
        pieces: list[memoryview] = []
        at = 0
        while at < len(data) and not self.ended:
            if self._chunked and not self._left and not self._line:
                at = self._take_whole_chunks(data, view, at, pieces)
            if self._left:
                end = min(at + self._left, len(data))
                pieces.append(view[at:end])
                self._left -= end - at
                at = end
                self.ended = not self._left and not self._chunked
            else:
                at = self._read_line(data, at)
        return pieces, at

    def _take_whole_chunks(self, data: bytes, view: memoryview, at: int, pieces: list[memoryview]) -> int:
        """Chunks that have come whole, as most do: small ones take a third of the time that they take line by line."""
        if self._expects != self._size:
            return at
        while match := _PLAIN_SIZE.match(data, at):
            start = match.end()
            end = start + int(match[1], 16)
            if end == start or data[end : end + 2] != b"\r\n":
                break
            pieces.append(view[start:end])
            at = end + 2
        return at

    def _read_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at, at + MAX_LINE_BYTES) + 1
        self._line += data[at : end or len(data)]
        if len(self._line) > MAX_LINE_BYTES:
            raise BodyBroken("a line of the chunked body is too long")
        if not end:
            return len(data)
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            raise BodyBroken("a line of the chunked body does not end with CRLF")
        self._expects(line[:-2])
        return end

    def _size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BodyBroken("a chunk's size is no number")
        self._left = int(match[1], 16)
        self._expects = self._chunk_end if self._left else self._trailer

    def _chunk_end(self, line: bytes) -> None:
        if line:
            raise BodyBroken("a chunk is longer than its size")
        self._expects = self._size

    def _trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if self._trailer_bytes > MAX_TRAILER_BYTES:
            raise BodyBroken("the trailers are too long")
        self.ended = not line
