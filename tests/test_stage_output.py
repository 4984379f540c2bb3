"""What is read of a worker, through a real pipe, and what of it is shown. The clock is the tests'."""

import os
from collections.abc import Iterator

import msgspec
import pytest

from pipeline import log
from pipeline.stage_output import (
    CUT,
    LAST_LINES,
    LINES_PER_SECOND,
    MAX_BURST,
    MAX_LINE_BYTES,
    READ_BYTES,
    TELL_SECONDS,
    Line,
    StageOutput,
)

RECORD = log.Record("WARNING", "sink.segment_lost", {"seq": 3})
RECORD_LINE = log.RECORD_MARK + msgspec.json.encode(RECORD) + b"\n"


class Pipe:
    """A worker's end, and what the launcher sees of it."""

    def __init__(self) -> None:
        fd, self._end = os.pipe()
        os.set_blocking(fd, False)
        self.output = StageOutput(fd)
        self.now = 100.0

    def printed(self, text: bytes) -> list[Line]:
        """What is shown of what has been printed by now."""
        shown = []
        for start in range(0, len(text), READ_BYTES):  # So much fits into a pipe.
            os.write(self._end, text[start : start + READ_BYTES])
            shown += self.output.lines(self.now)
        return shown

    def ended(self) -> list[Line]:
        os.close(self._end)
        self._end = -1
        return self.output.lines(self.now)

    def close(self) -> None:
        os.close(self.output.fd)
        if self._end >= 0:
            os.close(self._end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_a_record_of_the_log_is_understood_and_kept_as_a_line(pipe: Pipe) -> None:
    assert pipe.printed(b"loading\n" + RECORD_LINE) == ["loading", RECORD]
    assert list(pipe.output.last_lines) == ["loading", "WARNING sink.segment_lost seq=3"]


def test_a_record_that_comes_into_somebody_elses_line_is_found(pipe: Pipe) -> None:
    assert pipe.printed(b"half" + RECORD_LINE) == ["half", RECORD]


@pytest.mark.parametrize("text", [b"no json", b'{"level":"LOUD","event":"a","fields":{}}', b"[1]"])
def test_what_only_looks_like_a_record_is_a_line(pipe: Pipe, text: bytes) -> None:
    assert pipe.printed(log.RECORD_MARK + text + b"\n") == [text.decode()]


def test_a_line_comes_once_it_is_whole(pipe: Pipe) -> None:
    assert pipe.printed(b"half") == []
    assert pipe.printed(b" line\r\nnext") == ["half line"]
    assert pipe.ended() == ["next"]
    assert pipe.output.ended


def test_of_a_progress_bar_its_last_state_is_shown(pipe: Pipe) -> None:
    for percent in range(100):
        assert pipe.printed(b"\r%d%% loaded" % percent) == []
    assert pipe.printed(b"\r100% loaded\n") == ["100% loaded"]
    assert pipe.printed(b"a\rb\r\n") == ["b"]


def test_a_line_without_end_is_cut_and_does_not_grow(pipe: Pipe) -> None:
    shown = pipe.printed(b"x" * 10 * MAX_LINE_BYTES)
    assert shown == ["x" * MAX_LINE_BYTES + CUT]
    assert pipe.printed(b"still the same line") == []
    assert pipe.printed(b" and its end\nnext\n") == ["next"]
    assert pipe.ended() == []


def test_a_flood_is_read_to_its_end_counted_and_not_shown(pipe: Pipe) -> None:
    lines = 5 * MAX_BURST
    shown = pipe.printed(b"".join(b"line %d\n" % number for number in range(lines)))
    assert shown == [f"line {number}" for number in range(MAX_BURST)]
    assert list(pipe.output.last_lines) == [f"line {number}" for number in range(lines - LAST_LINES, lines)]
    assert pipe.output.take_unshown(pipe.now) == lines - MAX_BURST
    assert pipe.output.take_unshown(pipe.now) == 0


def test_after_a_flood_lines_are_shown_at_a_rate(pipe: Pipe) -> None:
    pipe.printed(b"x\n" * (MAX_BURST + 1))
    pipe.now += 0.5
    assert len(pipe.printed(b"y\n" * 1000)) == LINES_PER_SECOND // 2
    pipe.now += 3600
    assert len(pipe.printed(b"z\n" * (MAX_BURST + 7))) == MAX_BURST


def test_what_was_not_shown_is_told_now_and_then_and_at_the_end(pipe: Pipe) -> None:
    pipe.printed(b"x\n" * (MAX_BURST + 1))
    assert pipe.output.take_unshown(pipe.now) == 1
    pipe.printed(b"x\n" * 3)
    assert pipe.output.take_unshown(pipe.now) == 0
    pipe.now += TELL_SECONDS
    assert pipe.output.take_unshown(pipe.now) == 3
    pipe.printed(b"x\n" * (MAX_BURST + 1))
    assert pipe.output.take_unshown(pipe.now) == 0
    pipe.ended()
    assert pipe.output.take_unshown(pipe.now) == MAX_BURST + 1 - int(TELL_SECONDS * LINES_PER_SECOND)
