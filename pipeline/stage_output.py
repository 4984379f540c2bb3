"""What a worker prints, within bounds: whole lines, and among them the records of its log. One that prints without end
is read all the same, so that it never waits for the launcher; what is too much is counted and not shown."""

import collections
import contextlib
import os

import msgspec

from pipeline import log

LAST_LINES = 20

READ_BYTES = 64 * 1024
MAX_READS = 16
"""What is read of one worker before the others have their turn: a worker that prints without end holds nobody up."""

MAX_LINE_BYTES = 32 * 1024
CUT = "... [cut]"
"""Follows what is shown of a longer line."""

LINES_PER_SECOND = 100
MAX_BURST = 1000
"""So many lines are shown at once, then LINES_PER_SECOND: a terminal, and whoever reads a file, can follow no more."""

TELL_SECONDS = 1.0
"""Between two words on what was not shown."""

Line = str | log.Record


class StageOutput:
    def __init__(self, fd: int) -> None:
        """`fd` is the end of a pipe that can be read without waiting."""
        self.fd = fd
        self.ended = False
        self.last_lines: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        """Shown or not."""
        self._partial = b""
        self._is_cut = False  # what is read belongs to a line whose beginning was shown
        self._decoder = msgspec.json.Decoder(log.Record)
        self._allowance = float(MAX_BURST)
        self._seen = self._told = 0.0
        self._unshown = 0

    def lines(self, now: float) -> list[Line]:
        """What has been printed since the last call, as far as it is to be shown. `now` in seconds, of any clock that
        does not go back."""
        whole = [line for line in self._split(self._read()) if line.strip()]
        self._allowance = min(MAX_BURST, self._allowance + (now - self._seen) * LINES_PER_SECOND)
        self._seen = now
        room = min(len(whole), int(self._allowance))
        self._allowance -= room
        self._unshown += len(whole) - room
        shown = [line for text in whole[:room] for line in self._understood(text)]
        unshown = [line for text in whole[room:][-LAST_LINES:] for line in self._understood(text)]
        self.last_lines.extend(_text(line) for line in (*shown, *unshown))
        return shown

    def take_unshown(self, now: float) -> int:
        """How many lines were not shown, now and then and at the end; 0 in between."""
        if not self._unshown or (now - self._told < TELL_SECONDS and not self.ended):
            return 0
        unshown, self._unshown, self._told = self._unshown, 0, now
        return unshown

    def _read(self) -> bytes:
        text = b""
        with contextlib.suppress(BlockingIOError):
            for _ in range(MAX_READS):
                chunk = os.read(self.fd, READ_BYTES)
                if not chunk:
                    self.ended = True
                    break
                text += chunk
        return text

    def _split(self, text: bytes) -> list[bytes]:
        """The lines that are whole now; one that is too long counts as whole once that is known."""
        if not text and not self.ended:
            return []
        *whole, partial = (self._partial + text).split(b"\n")
        if whole and self._is_cut:
            del whole[0]
            self._is_cut = False
        self._partial = b"" if self._is_cut else _visible(partial)
        if self.ended or len(self._partial) > MAX_LINE_BYTES:
            whole.append(self._partial)
            self._partial, self._is_cut = b"", not self.ended
        return [_visible(line) for line in whole]

    def _understood(self, line: bytes) -> list[Line]:
        """A record of the worker's log, after what something else may have printed in front of it; else text."""
        before, mark, record = line.partition(log.RECORD_MARK)
        if mark:
            with contextlib.suppress(msgspec.DecodeError):
                return [*([_shortened(before)] if before else []), self._decoder.decode(record)]
        return [_shortened(line.replace(log.RECORD_MARK, b""))]


def _visible(line: bytes) -> bytes:
    """What a terminal would still show of it: a progress bar goes back to the line's start and prints again."""
    ended = line.endswith(b"\r")
    last = line.rstrip(b"\r").rpartition(b"\r")[2]
    return last + b"\r" if ended else last


def _shortened(line: bytes) -> str:
    text = line[:MAX_LINE_BYTES].decode(errors="replace").rstrip()
    return text + CUT if len(line) > MAX_LINE_BYTES else text


def _text(line: Line) -> str:
    return line if isinstance(line, str) else f"{line.level} {log.worded(line.event, line.fields)}"
