"""Response heads as the relay writes them, and refusals: what a request gets that is not done.

Nothing here knows what was asked for, or what a channel is.
"""

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

from pipeline.trickle.statuses import STATUS_NO_SEGMENT

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TEXT = ("Content-Type", "text/plain; charset=utf-8")

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {STATUS_NO_SEGMENT: "status code 470"}

Fields = Iterable[tuple[str, str]]


class Refusal(Exception):
    """Raised by whoever finds that a request cannot be done; becomes the reply. `last`: nothing follows it on the
    connection, because the rest of the request's body is of no interest."""

    def __init__(self, status: int, text: str, fields: Fields = (), *, last: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.fields = tuple(fields)
        self.last = last


def response_head(status: int, fields: Fields, *, close: bool) -> bytes:
    """A status line and headers, with their end."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}", f"Date: {_date(int(time.time()))}"]
    lines += [f"{name}: {value}" for name, value in fields]
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


_last_date = (0, "")


def _date(now: int) -> str:
    """The time as a header has it. Made once a second: it takes longer than the rest of a head."""
    global _last_date
    if _last_date[0] != now:
        _last_date = (now, formatdate(now, usegmt=True))
    return _last_date[1]
