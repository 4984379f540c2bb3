"""Which bitrate follows from how long the publisher's bytes wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.rate_control import (
    DECREASE_FACTOR,
    HIGH_DELAY_S,
    HOLD_S,
    LOW_DELAY_S,
    SETTLE_S,
    RateControl,
)

CEILING, FLOOR = 1_500_000, 375_000
FRAME_S = 1 / 30


@pytest.fixture
def control():
    return RateControl(CEILING, FLOOR)


def observe_for(control, seconds, delay_s, start_s=0.0):
    """Tell it the same delay at each picture; the bitrates that followed, in order."""
    changes = []
    for number in range(round(seconds / FRAME_S)):
        if control.observe(delay_s, start_s + number * FRAME_S):
            changes.append(control.bitrate)
    return changes


def test_a_path_that_carries_the_bitrate_changes_nothing(control):
    assert observe_for(control, 60, 0.02) == []
    assert control.bitrate == CEILING
    assert not control.is_reduced


def test_a_queue_that_stands_long_lowers_it_once_per_settling_time_to_the_floor(control):
    changes = observe_for(control, 3 * SETTLE_S, HIGH_DELAY_S)
    assert changes == pytest.approx([CEILING * DECREASE_FACTOR**n for n in (1, 2, 3)], abs=2)
    assert observe_for(control, 60, 2.0, start_s=100)[-1] == FLOOR
    assert observe_for(control, 60, 2.0, start_s=200) == []


def test_between_the_two_limits_it_stays(control):
    observe_for(control, SETTLE_S, HIGH_DELAY_S)
    reduced = control.bitrate
    assert observe_for(control, 60, (LOW_DELAY_S + HIGH_DELAY_S) / 2, start_s=10) == []
    assert control.bitrate == reduced


def test_it_rises_to_the_ceiling_again_but_not_at_once(control):
    control.observe(HIGH_DELAY_S, 0)
    reduced = control.bitrate
    assert observe_for(control, HOLD_S - FRAME_S, 0.0, start_s=FRAME_S) == []
    changes = observe_for(control, 30, 0.0, start_s=HOLD_S)
    assert changes == sorted(changes)
    assert changes[0] > reduced
    assert changes[-1] == CEILING


def test_a_short_queue_in_between_begins_the_waiting_anew(control):
    control.observe(HIGH_DELAY_S, 0)
    observe_for(control, HOLD_S / 2, 0.0)
    control.observe(2 * LOW_DELAY_S, HOLD_S - FRAME_S)
    assert observe_for(control, HOLD_S - FRAME_S, 0.0, start_s=HOLD_S) == []


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 2)), max_size=300))
def test_it_never_leaves_its_bounds_and_says_every_change(observations):
    control, now_s, told = RateControl(CEILING, FLOOR), 0.0, CEILING
    for delay_s, step_s in observations:
        now_s += step_s
        if control.observe(delay_s, now_s):
            told = control.bitrate
        assert FLOOR <= control.bitrate <= CEILING
        assert told == control.bitrate


@pytest.mark.parametrize("capacity", [0.9, 0.6, 0.3])
def test_on_a_narrow_path_the_queue_comes_down_and_most_of_the_path_is_used(capacity):
    """A queue that takes what is encoded and lets out `capacity` of the ceiling, for five minutes of pictures."""
    control = RateControl(CEILING, FLOOR)
    queue_bits, now_s, sent, delays = 0.0, 0.0, 0.0, []
    for _ in range(300 * 30):
        queue_bits += control.bitrate * FRAME_S
        out = min(queue_bits, CEILING * capacity * FRAME_S)
        queue_bits -= out
        now_s += FRAME_S
        control.observe(queue_bits / (CEILING * capacity), now_s)
        if now_s > 60:
            sent += out
            delays.append(queue_bits / (CEILING * capacity))
    assert max(delays) < 2 * HIGH_DELAY_S
    assert sent > 0.75 * CEILING * capacity * 240


@pytest.mark.parametrize(("ceiling", "floor"), [(1000, 1001), (1000, 0)])
def test_a_floor_that_is_none_is_refused(ceiling, floor):
    with pytest.raises(ValueError, match="floor"):
        RateControl(ceiling, floor)
