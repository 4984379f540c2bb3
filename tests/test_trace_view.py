"""What a person sees of traced frames."""

import io

import pytest
from rich.console import Console

from pipeline.status import FrameTrace, Hop, Traces
from pipeline.trace_view import NewTraces, trace_view
from pipeline.traces import HOPS, hop_times


def trace(seq: int, outcome: str = "delivered", hops: int = len(HOPS)) -> FrameTrace:
    way = [Hop(name, float(2 * index), 2.0) for index, name in enumerate(HOPS[:hops])]
    return FrameTrace("main", 0, seq, 90_000 * seq, outcome, 1.0, 2.0 * hops, way)


def shown(*traces: FrameTrace) -> str:
    screen = io.StringIO()
    Console(file=screen, width=120).print(trace_view(Traces(30, list(traces), hop_times(traces))))
    return screen.getvalue()


def test_a_waterfall_has_a_row_a_hop_each_further_to_the_right() -> None:
    lines = shown(trace(3)).splitlines()
    assert lines[0].startswith("main epoch 0 frame 3 at 3.000 s: delivered, 14.00 ms")
    rows = lines[1 : 1 + len(HOPS)]
    assert [row.split()[0] for row in rows] == list(HOPS)
    begins = [row.index("█") for row in rows]
    assert begins == sorted(set(begins))
    assert all(row.rstrip().endswith("2.00 ms") for row in rows)


def test_a_dropped_frame_says_where_it_ended() -> None:
    assert "frame 3 at 3.000 s: late in wait_inference, 6.00 ms" in shown(trace(3, "late", 3))


def test_one_that_something_else_was_shown_for_says_so() -> None:
    assert "processor_error, something else was shown in its place" in shown(trace(3, "processor_error"))


@pytest.mark.parametrize("count", [1, 5])
def test_the_hops_are_counted_over_all_whole_frames(count: int) -> None:
    said = shown(*[trace(seq) for seq in range(count)], trace(99, "late", 2))
    assert f"{count} frames, one in 30" in said
    assert "│ total          │  14.00 │  14.00 │" in said


def test_nothing_traced_yet_is_said() -> None:
    assert shown() == "no frame has been traced yet: one in 30 is\n"


def test_what_was_there_before_is_not_new() -> None:
    new = NewTraces()
    first = Traces(30, [trace(2), trace(1)], [])
    assert [each.seq for each in new.of(first)] == [1, 2]
    assert list(new.of(first)) == []
    assert [each.seq for each in new.of(Traces(30, [trace(3), trace(2)], []))] == [3]
