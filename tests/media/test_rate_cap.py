import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.rate_cap import RateCap


def kept(max_fps, times):
    cap = RateCap(max_fps)
    return [n for n, pts in enumerate(times) if cap.keeps(pts)]


def source(fps, count, jitter=0):
    rng = random.Random(3)
    return [round(n * CLOCK_HZ / fps) + rng.randint(-jitter, jitter) for n in range(count)]


@pytest.mark.parametrize(
    ("fps", "max_fps", "steps"),
    [(60, 24, {2, 3}), (60, 30, {2}), (50, 25, {2}), (30, 24, {1, 2}), (60, 59.94, {1, 2}), (120, 30, {4})],
)
def test_what_is_kept_is_as_even_as_the_source_allows(fps, max_fps, steps):
    indices = kept(max_fps, source(fps, 600))
    assert {after - before for before, after in pairwise(indices)} <= steps
    assert abs(len(indices) - 600 * max_fps / fps) <= 1


@pytest.mark.parametrize("fps", [1, 15, 24, 29.97, 30])
def test_a_source_within_the_cap_loses_nothing(fps):
    assert len(kept(30, source(fps, 300))) == 300


def test_a_source_whose_times_jitter_by_half_an_interval_loses_no_more_than_one():
    assert len(kept(30, source(30, 600, jitter=CLOCK_HZ // 60))) >= 599


def test_a_jittering_source_of_twice_the_rate_gives_every_second_picture():
    indices = kept(30, source(60, 600, jitter=CLOCK_HZ // 600))
    assert {after - before for before, after in pairwise(indices)} == {2}


def test_after_a_stall_at_most_one_picture_comes_ahead_of_its_beat():
    times = source(60, 60) + [10 * CLOCK_HZ + pts for pts in source(60, 60)]
    indices = [n for n in kept(30, times) if n >= 60]
    assert indices[0] == 60
    assert len(indices) <= 31


def test_a_successor_goes_on_with_the_beat_of_its_predecessor():
    times = source(60, 120)
    first = RateCap(30)
    whole = [pts for pts in times if first.keeps(pts)]
    at = whole[20]
    successor = RateCap(30, last_kept=at)
    assert [pts for pts in times if pts > at and successor.keeps(pts)] == whole[21:]


@given(st.lists(st.integers(1, CLOCK_HZ), min_size=1, max_size=200), st.sampled_from([1, 7.5, 24, 30, 60]))
def test_no_stretch_of_time_holds_more_than_its_share_and_two(steps, max_fps):
    times = [sum(steps[: n + 1]) for n in range(len(steps))]
    cap = RateCap(max_fps)
    chosen = [pts for pts in times if cap.keeps(pts)]
    assert len(chosen) + cap.dropped == len(times)
    for n, begin in enumerate(chosen):
        for count, end in enumerate(chosen[n:], 1):
            assert count <= (end - begin) * max_fps / CLOCK_HZ + 2.26
