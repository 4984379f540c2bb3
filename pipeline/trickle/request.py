"""The head of a request: what it asks for, and how long its body is. h11 judges the syntax.

It knows nothing of connections, and bodies are read by `body`.
"""

import re
from urllib.parse import unquote_to_bytes

import h11
import msgspec

from pipeline.trickle.reply import Refusal

NOT_FOUND = "404 page not found\n"

_MALFORMED = "malformed request\n"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ORIGIN = re.compile(r"https?://[^/?#]*", re.I)


class Request(msgspec.Struct, frozen=True):
    """A request's head. Header names are in lower case; `length` is None for a chunked body."""

    method: str
    path: tuple[str, ...]
    headers: dict[str, str]
    length: int | None
    is_http11: bool

    @property
    def has_body(self) -> bool:
        return self.length != 0

    @property
    def keep_alive(self) -> bool:
        """Whether another request may follow. Clients of HTTP/1.0 find the end of a body by the connection's."""
        return self.is_http11 and "close" not in self.headers.get("connection", "").lower()

    @property
    def expects_continue(self) -> bool:
        return self.is_http11 and self.headers.get("expect", "").lower() == "100-continue"


def parse_request(head: bytes) -> Request:
    """Read a head up to and including its empty line. Raises Refusal for whatever is wrong with it."""
    state = h11.Connection(h11.SERVER)
    state.receive_data(head)
    try:
        event = state.next_event()
    except h11.RemoteProtocolError as error:
        raise Refusal(error.error_status_hint, _MALFORMED, last=True) from error
    if not isinstance(event, h11.Request):
        raise Refusal(400, _MALFORMED, last=True)
    if event.http_version not in (b"1.0", b"1.1"):
        raise Refusal(505, "HTTP/1.1 is spoken here\n", last=True)
    headers: dict[str, str] = {}
    for name, value in event.headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    is_http11 = event.http_version == b"1.1"
    return Request(
        method=event.method.decode("latin-1"),
        path=_path(event.target.decode("latin-1")),
        headers=headers,
        length=_length(headers, is_http11),
        is_http11=is_http11,
    )


def _length(headers: dict[str, str], is_http11: bool) -> int | None:
    # RFC 9112, 6.1: both at once, or chunks in HTTP/1.0, is how requests are smuggled past a proxy.
    if "transfer-encoding" in headers:
        if "content-length" in headers or not is_http11:
            raise Refusal(400, _MALFORMED, last=True)
        return None
    return int(headers.get("content-length", "0"))


def _path(target: str) -> tuple[str, ...]:
    """The decoded parts of the path; an escaped slash is part of a name. The query is of no interest."""
    path = _ORIGIN.sub("", target, count=1) if not target.startswith("/") else target
    path = path.partition("?")[0]
    if not path.startswith("/"):
        raise Refusal(404, NOT_FOUND, last=True)
    return tuple(_decode(part) for part in path[1:].split("/"))


def _decode(part: str) -> str:
    if _BAD_ESCAPE.search(part):
        raise Refusal(400, _MALFORMED, last=True)
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError as error:
        raise Refusal(400, _MALFORMED, last=True) from error
