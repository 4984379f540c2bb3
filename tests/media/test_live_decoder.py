"""A decoder that is killed anywhere and starts again with the segment that it was in."""

import pytest

from pipeline.media.decoder import VideoDecoder
from pipeline.media.excerpt import Excerpt
from pipeline.media.live_decoder import LiveDecoder, Picture
from pipeline.memory.slab import Slab, create_slab
from pipeline.memory.slot_table import ProducerTable, link_bytes
from tests.media.decode_stage import CHUNK

FRAMES, SEGMENT_FRAMES = 120, 30


def run_through(stage, segments, first=0):
    for number, data in enumerate(segments, first):
        stage.feed(number, data)
    stage.flush()
    return stage.given


@pytest.fixture
def whole(new_stage, segments):
    def give(**options):
        return run_through(new_stage(), segments(**options))

    return give


def test_the_pattern_is_cut_into_segments_of_a_second(segments, new_stage):
    assert len(segments()) == 4
    pictures, sounds = run_through(new_stage(), segments())
    assert len(pictures) == FRAMES
    assert pictures == sorted(set(pictures))
    assert len(sounds) > 100
    assert [pts for pts, _ in sounds] == sorted({pts for pts, _ in sounds})


@pytest.mark.parametrize("audio", ["aac", "opus"])
@pytest.mark.parametrize("killed_at", [0.0, 0.01, 0.3, 0.77, 1.0])
@pytest.mark.parametrize("segment", [0, 1, 3])
def test_a_restart_gives_exactly_what_was_not_delivered(segments, new_stage, whole, audio, segment, killed_at):
    data = segments(audio=audio)
    stage = new_stage()
    for number in range(segment):
        stage.feed(number, data[number])
    stage.feed(segment, data[segment][: int(killed_at * len(data[segment])) // 188 * 188])
    delivered = len(stage.pictures)
    stage.start()
    for number in range(max(0, stage.cursor), len(data)):
        stage.feed(number, data[number])
    stage.flush()
    assert stage.given == whole(audio=audio)
    assert stage.live.replayed == delivered - SEGMENT_FRAMES * max(0, stage_start(segment, killed_at))


def stage_start(segment, killed_at):
    """The segment that the successor is fed first: 1 % of a segment is less than its first picture."""
    return segment if killed_at > 0.01 else segment - 1


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_no_picture_is_lost_with_the_first_bytes_of_a_segment(segments, new_stage, whole, killed_after):
    """The last picture of a segment may only come to light with the next one's first."""
    data = segments()
    stage = new_stage()
    stage.feed(0, data[0])
    for packet in range(killed_after):
        stage.feed_chunk(1, data[1][188 * packet : 188 * (packet + 1)])
    stage.start()
    for number in range(stage.cursor, len(data)):
        stage.feed(number, data[number])
    stage.flush()
    assert stage.given == whole()


@pytest.mark.parametrize("killed_at", [0.1, 0.5, 0.9])
def test_no_picture_of_a_b_frame_stream_is_lost_in_a_restart(segments, new_stage, whole, killed_at):
    """The decoder holds pictures back across the border of a segment."""
    data = segments(bframes=2)
    stage = new_stage()
    stage.feed(0, data[0])
    stage.feed(1, data[1][: int(killed_at * len(data[1])) // 188 * 188])
    stage.start()
    for number in range(stage.cursor, len(data)):
        stage.feed(number, data[number])
    stage.flush()
    assert stage.given == whole(bframes=2)


def test_no_picture_of_a_b_frame_stream_is_lost_right_behind_a_border(segments, new_stage, whole):
    data = segments(bframes=2)
    stage = new_stage()
    stage.feed(0, data[0])
    stage.feed_chunk(1, data[1][:CHUNK])
    stage.start()
    for number in range(stage.cursor, len(data)):
        stage.feed(number, data[number])
    stage.flush()
    assert stage.given == whole(bframes=2)


def test_two_restarts_in_one_segment_give_nothing_twice(segments, new_stage, whole):
    data = segments()
    stage = new_stage()
    stage.feed(0, data[0])
    for part in (0.6, 0.3):
        stage.feed(1, data[1][: int(part * len(data[1])) // 188 * 188])
        stage.start()
    for number in range(1, len(data)):
        stage.feed(number, data[number])
    stage.flush()
    assert stage.given == whole()


def origins(segments):
    """A source that counts from 1000 s, and then starts over at 2 s."""
    return segments(ts_offset=1000.0, seconds=2) + segments(ts_offset=2.0)


def test_a_restart_after_the_source_started_over_keeps_the_timeline(segments, new_stage):
    data = origins(segments)
    expected = run_through(new_stage(), data)
    stage = new_stage()
    for number in range(4):
        stage.feed(number, data[number])
    stage.feed(4, data[4][: len(data[4]) // 376 * 188])
    stage.start()
    for number in range(4, len(data)):
        stage.feed(number, data[number])
    stage.flush()
    assert stage.given == expected


@pytest.mark.parametrize("first_origin", [1000.0, 5.0])
def test_a_restart_in_the_segment_in_which_the_source_started_over_keeps_the_timeline(
    segments, new_stage, first_origin
):
    data = segments(ts_offset=first_origin, seconds=2) + segments(ts_offset=2.0)
    expected = run_through(new_stage(), data)
    stage = new_stage()
    stage.feed(0, data[0])
    stage.feed(1, data[1])
    stage.feed(2, data[2][: len(data[2]) // 376 * 188])
    stage.start()
    for number in range(2, len(data)):
        stage.feed(number, data[number])
    stage.flush()
    assert stage.given == expected


def test_a_restart_at_a_hole_between_segments_keeps_the_timeline(segments, new_stage):
    """The next segment has the same parity as the one that the predecessor was in."""
    data = origins(segments)
    stage = new_stage()
    for number in range(4):
        stage.feed(number, data[number])
    expected = stage.pictures[-1]
    for item in stage.live.feed(5, data[5][:CHUNK], gap=True):
        stage.hand_on(item)  # It dies before the cursor has moved.
    stage.start()
    stage.feed(3, data[3])
    assert stage.pictures[-1] == expected
    stage.feed(5, data[5], gap=True)
    assert 0 < stage.pictures[-1] - expected < 3 * 90_000


def test_after_a_gap_nothing_is_shown_before_the_next_key_picture(segments, new_stage):
    data = segments()
    stage = new_stage()
    stage.feed(0, data[0])
    shown = len(stage.pictures)
    stage.feed(2, data[2][len(data[2]) // 376 * 188 :], gap=True)
    assert len(stage.pictures) <= shown + 1
    stage.feed(3, data[3])
    stage.flush()
    assert stage.live.skipped > 0
    assert len(stage.pictures) >= shown + SEGMENT_FRAMES - 1


def test_a_first_segment_that_is_not_known_starts_a_timeline(segments, new_stage):
    stage = new_stage()
    stage.feed(812, segments()[0])
    assert stage.live.replayed == 0
    assert len(stage.pictures) >= SEGMENT_FRAMES - 1


def test_bytes_that_are_no_mpeg_ts_are_counted_and_give_nothing(new_stage):
    stage = new_stage()
    stage.feed(0, b"\x00" * 10_000)
    assert stage.live.bytes_unrecognized == 10_000
    assert stage.live.streams is None
    assert stage.given == ([], [])


def test_of_a_file_only_the_excerpt_is_given_out(pattern):
    table = ProducerTable(Slab(create_slab("test", link_bytes(2, 8))), 2, 8)
    excerpt = Excerpt(first=3 * 90_000, end=4 * 90_000)
    live = LiveDecoder(VideoDecoder(64, 64), table, -1, excerpt)
    given = [*live.feed(0, pattern(ts_offset=1.4, bframes=2), gap=False), *live.flush()]
    pictures = [item.pts for item in given if isinstance(item, Picture)]
    assert len(pictures) == 30
    assert all(excerpt.holds(item.pts) for item in given)
    assert any(not isinstance(item, Picture) for item in given)
