from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.timeline import DEFAULT_STEP, MAX_GAP, Timeline

times = st.integers(-(1 << 34), 1 << 34)
FRAME = 3000


def play(timeline, start, count, step=FRAME):
    return [timeline.video(start + n * step) for n in range(count)]


@given(st.lists(st.tuples(st.sampled_from(["video", "audio"]), times)))
def test_times_rise_strictly_whatever_comes_in(events):
    timeline = Timeline()
    out = {"video": [], "audio": []}
    for kind, pts in events:
        out[kind].append(getattr(timeline, kind)(pts))
    for series in out.values():
        assert all(before < after for before, after in pairwise(series))


@given(st.integers(0, 1 << 33), st.lists(st.integers(1, MAX_GAP), min_size=1, max_size=30))
def test_a_rising_source_is_passed_through_with_its_gaps(start, gaps):
    timeline = Timeline()
    pts = start
    assert timeline.video(pts) == pts
    for gap in gaps:
        pts += gap
        assert timeline.video(pts) == pts
    assert timeline.changes == 0


@given(st.lists(st.tuples(times, st.integers(2, 20)), min_size=1, max_size=6))
def test_sound_keeps_its_distance_from_the_picture_through_every_restart(epochs):
    timeline = Timeline()
    for start, frames in epochs:
        pairs = [(timeline.video(start + n * FRAME), timeline.audio(start + n * FRAME + 100)) for n in range(frames)]
        video, audio = pairs[-1]
        assert audio - video == 100


def test_a_restart_at_zero_goes_on_one_frame_later():
    timeline = Timeline()
    out = play(timeline, 50 * CLOCK_HZ, 10) + play(timeline, 0, 10)
    assert [after - before for before, after in pairwise(out)] == [FRAME] * 19
    assert timeline.changes == 1


def test_a_jump_ahead_goes_on_one_frame_later():
    timeline = Timeline()
    out = play(timeline, 0, 5) + play(timeline, 1000 * CLOCK_HZ, 5)
    assert [after - before for before, after in pairwise(out)] == [FRAME] * 9


def test_one_wrong_time_shifts_nothing():
    timeline = Timeline()
    play(timeline, 0, 10)
    timeline.video(1 << 32)
    assert timeline.video(11 * FRAME) == 11 * FRAME


def test_a_repeated_time_moves_on_by_one_tick():
    timeline = Timeline()
    assert [timeline.video(pts) for pts in (0, FRAME, FRAME, 2 * FRAME)] == [0, FRAME, FRAME + 1, 2 * FRAME]
    assert timeline.changes == 0


def test_audio_that_restarts_first_takes_the_video_along():
    timeline = Timeline()
    play(timeline, 100 * CLOCK_HZ, 10)
    last_audio = timeline.audio(100 * CLOCK_HZ + 9 * FRAME)
    audio = timeline.audio(0)
    video = timeline.video(500)
    assert audio == last_audio + DEFAULT_STEP
    assert video - audio == 500


def test_video_that_an_audio_restart_leaves_far_behind_sets_its_own_origin():
    timeline = Timeline()
    before = play(timeline, 100 * CLOCK_HZ, 10)
    timeline.audio(50 * CLOCK_HZ)
    after = play(timeline, 45 * CLOCK_HZ, 10)
    assert after[0] > before[-1]
    assert [later - earlier for earlier, later in pairwise(after)] == [FRAME] * 9


@given(st.integers(-(1 << 33), 1 << 33), st.integers(0, 1 << 33), st.integers(1, 60))
def test_a_restarted_stage_gives_what_it_replays_the_same_times(offset, start, replayed):
    before = Timeline(offset)
    first = [before.video(start + n * FRAME) for n in range(60 - replayed)]
    state = (before.offset, before.last_video)
    first += [before.video(start + n * FRAME) for n in range(60 - replayed, 60)]
    after = Timeline(*state)
    again = [after.video(start + n * FRAME) for n in range(60 - replayed, 90)]
    assert again[:replayed] == first[60 - replayed :]
    assert again[replayed:] == [first[-1] + (n + 1) * FRAME for n in range(30)]


def test_a_restarted_stage_whose_source_restarted_too_goes_on_after_what_went_out():
    after = Timeline(offset=0, last_video=1000 * CLOCK_HZ)
    assert after.video(0) == 1000 * CLOCK_HZ + DEFAULT_STEP
