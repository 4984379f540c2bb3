"""The text that a processor writes, as JSON lines in a trickle channel: {"pts": 1/90000 s, "text": "..."}, a line each.

Lines that come close together share a segment, so that a reader is not asked for hundreds a second.
"""

import time
from collections.abc import Callable

import msgspec

from pipeline.messages import TextLine
from pipeline.trickle.errors import AccessDenied
from pipeline.trickle.sink import TrickleSink

CONTENT_TYPE = "application/jsonl"

BATCH_SECONDS = 0.25
MAX_HELD_LINES = 1000
"""More in BATCH_SECONDS are no text for people; the oldest are given up."""


class TextChannel:
    def __init__(self, sink: TrickleSink, report: Callable[..., None]) -> None:
        """`sink` is of CONTENT_TYPE, and stays its owner's. `report` is told once, with the name of an event and its
        fields, when the server does not let us write: a stream is not ended for its text."""
        self.dropped = 0
        self._sink: TrickleSink | None = sink
        self._report = report
        self._held: list[bytes] = []
        self._sent = 0.0

    def write(self, line: TextLine) -> None:
        """Never waits."""
        if len(self._held) >= MAX_HELD_LINES:
            del self._held[0]
            self.dropped += 1
        self._held.append(msgspec.json.encode({"pts": line.pts, "text": line.text}) + b"\n")
        self.send_due()

    def send_due(self) -> None:
        """To be called now and then: send what has waited long enough."""
        if self._held and time.monotonic() - self._sent >= BATCH_SECONDS:
            self.send()

    def send(self) -> None:
        """Send what waits."""
        if self._sink is None or not self._held:
            return
        try:
            self._sink.begin_segment()
            self._sink.write(b"".join(self._held))
            self._sink.end_segment()
        except AccessDenied as denied:
            self._report("text_denied", reason=str(denied))
            self._sink = None
        self._held.clear()
        self._sent = time.monotonic()
