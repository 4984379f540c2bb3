"""One run held against another: what is the same, what is close, and what differs first."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pipeline.recording.format import (
    End,
    Frame,
    Happened,
    Header,
    Hole,
    Input,
    RecordingError,
    RecordingWriter,
)
from pipeline.replay_report import TOLERANCE, Side, compare

STEP = 3000


def frame(number: int, level: int = 100, outcome: str = "delivered", **changes: Any) -> Frame:
    fields = {"width": 16, "height": 16, "digest": bytes([level] * 16), "sketch": bytes([level] * 192)} | changes
    return Frame(number, 0, number * STEP, outcome, 0, **fields)


class Sides:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def side(
        self, name: str, frames: Iterable[Frame], policy: str = "block", *, whole: bool = True, more: Iterable[Any] = ()
    ) -> Side:
        path = self._folder / f"{name}.rec"
        writer = RecordingWriter(path)
        topology = {"links": {"encoded": {"policy": "block"}, "raw": {"policy": policy}}}
        writer.write(Header("demo", "main", 0, 1.0, 1, {"livepipe": "1"}, topology))
        for record in [*frames, *more, End("over", whole, 1)]:
            writer.write(record)
        writer.close()
        return Side(path)


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    return Sides(tmp_path)


def report(original: Side, replayed: Side, tolerance: float = TOLERANCE, problems: list[str] | None = None):
    return compare(original, replayed, "max", tolerance, problems or [])


def test_the_same_frames_are_the_same(sides: Sides) -> None:
    made = report(sides.side("a", map(frame, range(4))), sides.side("b", map(frame, range(4))))
    assert made.same
    assert (made.compared, made.identical, made.close, made.differing, made.missing, made.extra) == (4, 4, 0, 0, 0, 0)
    assert made.first_difference is None
    assert made.lines()[0] == ("same: 4 frames compared: 4 identical, 0 close, 0 differing; 0 missing, 0 extra")


def test_pixels_may_round_otherwise_unless_they_must_not(sides: Sides) -> None:
    original = sides.side("a", [frame(0, 100), frame(1, 100)])
    replayed = sides.side("b", [frame(0, 100), frame(1, 102)])
    made = report(original, replayed)
    assert (made.same, made.identical, made.close) == (True, 1, 1)
    exact = report(original, replayed, tolerance=-1.0)
    assert (exact.same, exact.differing) == (False, 1)
    assert exact.first_difference is not None
    assert exact.first_difference.largest == 2.0


@pytest.mark.parametrize(
    ("there", "here", "kind", "words"),
    [
        (
            frame(2, 100),
            frame(2, 103),
            "picture",
            "picture at 0.067 s (pts 6000): 646464646464 there, 676767676767 here",
        ),
        (frame(2), frame(2, outcome="processor_error"), "outcome", "delivered there, processor_error here"),
        (frame(2), frame(2, width=32), "size", "16x16 there, 32x16 here"),
    ],
)
def test_the_first_difference_is_told(sides: Sides, there: Frame, here: Frame, kind: str, words: str) -> None:
    original = sides.side("a", [frame(0), frame(1), there, frame(3, 10)])
    replayed = sides.side("b", [frame(0), frame(1), here, frame(3, 90)])
    made = report(original, replayed)
    assert (made.same, made.identical, made.differing) == (False, 2, 2)
    assert made.first_difference is not None
    assert (made.first_difference.kind, made.first_difference.pts) == (kind, 6000)
    assert any(words in line for line in made.lines())


def test_a_frame_that_one_of_two_lacks_is_a_difference_where_none_may_be_left_out(sides: Sides) -> None:
    some, every = [frame(0), frame(2)], list(map(frame, range(3)))
    lost = report(sides.side("a", every), sides.side("b", some))
    assert (lost.same, lost.missing, lost.extra) == (False, 1, 0)
    assert lost.first_difference is not None
    assert (lost.first_difference.kind, lost.first_difference.original) == ("missing", "delivered")
    found = report(sides.side("c", some), sides.side("d", every))
    assert (found.same, found.missing, found.extra) == (False, 0, 1)


def test_what_the_clock_left_out_is_no_difference(sides: Sides) -> None:
    some, every = [frame(0), frame(2)], list(map(frame, range(3)))
    made = report(sides.side("a", some, "latest"), sides.side("b", every))
    assert (made.same, made.extra, made.compared) == (True, 1, 2)
    hasty = report(sides.side("c", every, "latest"), sides.side("d", some, "latest"))
    assert (hasty.same, hasty.missing) == (True, 1)
    slow = report(sides.side("e", every, "latest"), sides.side("f", some))
    assert not slow.same, "with every frame processed none may be missing"


def test_pictures_that_were_added_between_other_frames_are_not_compared(sides: Sides) -> None:
    there = [frame(0), frame(1, 5, "added"), frame(2)]
    here = [frame(0), frame(1, 9, "added"), frame(2)]
    assert report(sides.side("a", there, "latest"), sides.side("b", here)).same
    assert not report(sides.side("c", there), sides.side("d", here)).same


def test_what_came_during_a_pause_is_not_compared(sides: Sides) -> None:
    """A replay does not pause, and processes it."""
    there = [frame(0), frame(1, outcome="paused"), frame(2)]
    made = report(sides.side("a", there), sides.side("b", map(frame, range(3))))
    assert (made.same, made.compared, made.missing, made.extra) == (True, 2, 0, 0)


def test_of_a_recording_that_was_stopped_only_what_both_could_show_is_compared(sides: Sides) -> None:
    """What it shows first was fed before it began, what it shows last was fed after it ended, and what was fed last had
    not come out."""
    replayed = sides.side("b", map(frame, range(2, 6)))
    before_and_after = report(sides.side("a", map(frame, range(8)), whole=False), replayed)
    assert (before_and_after.same, before_and_after.compared, before_and_after.missing) == (True, 4, 0)
    not_all = report(sides.side("c", map(frame, range(2, 4)), whole=False), replayed)
    assert (not_all.same, not_all.compared, not_all.extra) == (True, 2, 0)
    whole = report(sides.side("d", map(frame, range(2, 4))), replayed)
    assert (whole.same, whole.extra) == (False, 2)


def test_nothing_compared_and_a_replay_that_failed_are_not_the_same(sides: Sides) -> None:
    nothing = report(sides.side("a", [frame(0)]), sides.side("b", []))
    assert not nothing.same
    assert "problem: no frame could be compared" in nothing.lines()
    failed = report(sides.side("c", [frame(0)]), sides.side("d", [frame(0)]), problems=["inference: boom"])
    assert not failed.same
    assert "problem: inference: boom" in failed.lines()


def test_what_happened_to_the_original_is_told(sides: Sides) -> None:
    died = Happened(1.0, "error", "decode", "died", {"how": "SIGKILL"})
    more = [died, died, Hole("egress", 3, 1), Input(0, 0, 0, True, False, b"")]
    original = sides.side("a", [frame(0)], more=more)
    assert (original.run.deaths, original.run.holes, original.run.segments) == ({"decode": 2}, 3, 1)
    line = report(original, sides.side("b", [frame(0)])).lines()[1]
    assert line.endswith("1 segments in; delivered 1; deaths: decode 2; it has holes (3)")


def test_where_something_is_not_in_a_recording_nothing_is_missing(sides: Sides) -> None:
    some, every = [frame(0), frame(2)], list(map(frame, range(3)))
    hole = Hole("ingress", 3, 1)
    again = Header("demo", "main", 0, 2.0, 2, {"livepipe": "1"}, {"links": {}})
    for name, original, replayed, more in (
        ("a", every, some, hole),
        ("b", some, every, hole),
        ("c", every, some, again),
    ):
        made = report(sides.side(f"{name}1", original, more=[more]), sides.side(f"{name}2", replayed))
        assert (made.same, made.compared, made.missing + made.extra) == (True, 2, 1)
        assert made.original.holes


def test_a_recording_without_anything_is_refused(tmp_path: Path) -> None:
    RecordingWriter(tmp_path / "a.rec").close()
    with pytest.raises(RecordingError, match="holds nothing"):
        Side(tmp_path / "a.rec")
