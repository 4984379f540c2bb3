"""The head of a response: its status, its headers, and how long the body is that follows (RFC 9112).

It reads what servers send; what relays write is `reply`'s business.
"""

import re

import msgspec

MAX_HEAD_BYTES = 64 * 1024
"""Of a status line and headers, interim ones (1xx) each for themselves."""

_START = b"HTTP/1."
_SHOWN_BYTES = 24
_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9][0-9])(?: [^\x00\r\n]*)?\r?\n")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*\r?\n")
# RFC 9112, 5.2: a line that begins with white space goes on with the one before.
_FOLD = re.compile(rb"[ \t]*\r?\n[ \t]+")
# One digit fewer than a signed 64-bit number has.
_LENGTH = re.compile(r"([0-9]{1,18})(?:\s*,\s*\1)*")


class ReplyBroken(Exception):
    """What the server said is not HTTP/1.x, or not so that one could tell where its parts end. The text says why."""


class Reply(msgspec.Struct, frozen=True):
    """The head of a response. Header names are in lower case; a name that comes twice has both values, with a comma.

    `length` is None for a body that is chunked, and for one that ends with the connection.
    """

    status: int
    headers: dict[str, str]
    is_http11: bool = True
    chunked: bool = False
    length: int | None = 0

    @property
    def closes(self) -> bool:
        """Whether the server says that nothing follows on this connection."""
        return "close" in self.headers.get("connection", "").lower()

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may follow on this connection, once the body has ended."""
        return self.is_http11 and not self.closes and (self.chunked or self.length is not None)

    def number(self, header: str) -> int | None:
        """The integer in a header, or None if it is absent or no integer."""
        try:
            return int(self.headers.get(header, ""))
        except ValueError:
            return None


class ReplyHead:
    """Collects a response's head from what comes, in pieces of any size, and passes over interim ones."""

    def __init__(self) -> None:
        self._pending = b""
        self._scanned = 0

    def feed(self, data: bytes) -> tuple[Reply, bytes] | None:
        """The head and what follows it, or None as long as it is not whole. Raises ReplyBroken."""
        pending = self._pending + data if self._pending else data
        while True:
            if not pending.startswith(_START[: len(pending)]):
                raise ReplyBroken(f"the server does not speak HTTP/1.x, it says {pending[:_SHOWN_BYTES]!r}")
            end = _END.search(pending, self._scanned)
            if (end.end() if end else len(pending)) > MAX_HEAD_BYTES:
                raise ReplyBroken(f"the reply's head has more than {MAX_HEAD_BYTES} bytes")
            if end is None:
                self._pending, self._scanned = pending, max(0, len(pending) - 3)
                return None
            reply = _parse(pending[: end.end()])
            pending, self._scanned = pending[end.end() :], 0
            if reply.status >= 200:
                self._pending = b""
                return reply, pending


def _parse(head: bytes) -> Reply:
    line = _STATUS_LINE.match(head)
    if line is None:
        raise ReplyBroken(f"the reply's status line is broken: {_line(head, 0)}")
    is_http11 = line[1] != b"0"
    status = int(line[2])
    headers = _fields(_FOLD.sub(b" ", head), line.end())
    if status == 101:
        raise ReplyBroken("the server changes to a protocol that nobody asked for, status 101")
    if status < 200 or status in (204, 304):
        return Reply(status, headers, is_http11)
    coding = headers.get("transfer-encoding", "").lower()
    if coding not in ("", "chunked"):
        raise ReplyBroken(f"the reply's transfer coding is unknown: {coding}")
    if coding:
        return Reply(status, headers, is_http11, chunked=True, length=None)
    if "content-length" not in headers:
        return Reply(status, headers, is_http11, length=None)
    length = _LENGTH.fullmatch(headers["content-length"])
    if length is None:
        raise ReplyBroken(f"the reply's length is no number: {headers['content-length']}")
    return Reply(status, headers, is_http11, length=int(length[1]))


def _fields(head: bytes, at: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    while match := _FIELD.match(head, at):
        name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
        at = match.end()
    if head[at:] not in (b"\r\n", b"\n"):
        raise ReplyBroken(f"a header of the reply is broken: {_line(head, at)}")
    return headers


def _line(head: bytes, at: int) -> str:
    """One line of it, for messages."""
    return repr(head[at : at + _SHOWN_BYTES].split(b"\n")[0])
