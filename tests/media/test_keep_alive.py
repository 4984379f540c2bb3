"""When the last picture is shown again, and at what time of the stream."""

from itertools import pairwise

import pytest

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.keep_alive import LAG_S, KeepAlive

FRAME_S = 1 / 25
FRAME_TICKS = CLOCK_HZ // 25


def ns(seconds):
    return round(seconds * 1e9)


@pytest.fixture
def playing():
    """A stream at 25 fps that has shown ten pictures; the last one, number 9, at 0.36 s."""
    alive = KeepAlive(60)
    for number in range(10):
        alive.shown(number * FRAME_TICKS, ns(number * FRAME_S))
    return alive


LAST_S = 9 * FRAME_S


def repeats(alive, now_s, until_s):
    """(seconds, pts) of every repeated picture up to `until_s`, as a loop that waits would show them."""
    shown = []
    while (left := alive.seconds_left(ns(now_s))) is not None:
        now_s += left
        if now_s > until_s:
            break
        shown.append((now_s, alive.repeat(ns(now_s))))
    return shown


def test_before_the_first_picture_there_is_nothing_to_repeat():
    alive = KeepAlive(60)
    assert alive.seconds_left(0) is None
    alive.inference_is_away(0)
    assert alive.seconds_left(ns(100)) is None


def test_a_stream_that_flows_is_left_alone(playing):
    assert playing.seconds_left(ns(LAST_S + 0.1)) is None


def test_a_source_that_falls_silent_is_not_spoken_for(playing):
    """Its next picture may carry the very next time stamp, however long it was silent."""
    assert playing.seconds_left(ns(LAST_S + 30)) is None
    assert playing.accepts(10 * FRAME_TICKS, ns(LAST_S + 30))


def test_an_outage_is_bridged_at_the_streams_own_rate(playing):
    playing.inference_is_away(ns(LAST_S))
    shown = repeats(playing, LAST_S, LAST_S + 1)
    assert shown[0][0] == pytest.approx(LAST_S + FRAME_S)
    gaps = [later - sooner for (sooner, _), (later, _) in pairwise(shown)]
    assert gaps == pytest.approx([FRAME_S] * len(gaps))
    assert len(gaps) >= 25 - 2


def test_the_repeated_pictures_follow_the_clock(playing):
    playing.inference_is_away(ns(LAST_S))
    shown = repeats(playing, LAST_S, LAST_S + 3)
    stamps = [pts for _, pts in shown]
    assert stamps == sorted(set(stamps))
    seconds, pts = shown[-1]
    assert pts / CLOCK_HZ == pytest.approx(seconds - LAG_S, abs=1e-3)


@pytest.mark.parametrize("late_s", [0.0, 0.1, LAG_S - 0.01])
def test_a_new_picture_that_was_late_still_fits(playing, late_s):
    """Number 10 was to come at 0.4 s."""
    playing.inference_is_away(ns(LAST_S))
    repeats(playing, LAST_S, LAST_S + FRAME_S + late_s)
    assert playing.accepts(10 * FRAME_TICKS, ns(LAST_S + FRAME_S + late_s))


def test_a_picture_from_before_the_outage_does_not_fit(playing):
    playing.inference_is_away(ns(LAST_S))
    repeats(playing, LAST_S, LAST_S + 2)
    assert not playing.accepts(10 * FRAME_TICKS, ns(LAST_S + 2))
    assert playing.accepts(round((LAST_S + 2) * CLOCK_HZ), ns(LAST_S + 2))


def test_a_picture_that_comes_too_late_ends_the_repeating_too(playing):
    """So that the stream's clock can catch up, whatever it lost meanwhile."""
    playing.inference_is_away(ns(LAST_S))
    repeats(playing, LAST_S, LAST_S + 2)
    assert not playing.accepts(10 * FRAME_TICKS, ns(LAST_S + 2))
    assert playing.seconds_left(ns(LAST_S + 2.5)) is None


def test_a_picture_that_was_ready_before_the_outage_does_not_end_the_repeating(playing):
    """It waited on the link when inference died: it says nothing of a successor."""
    playing.inference_is_away(ns(LAST_S + 0.01))
    assert playing.accepts(10 * FRAME_TICKS, ns(LAST_S))
    playing.shown(10 * FRAME_TICKS, ns(LAST_S + 0.02))
    assert playing.seconds_left(ns(LAST_S + 0.02)) == pytest.approx(FRAME_S)


def test_a_successor_gives_out_nothing_that_lies_before_what_was_repeated(playing):
    playing.inference_is_away(ns(LAST_S))
    repeated = repeats(playing, LAST_S, LAST_S + 2)[-1][1]
    successor = KeepAlive(60, shown_to=repeated)
    assert not successor.accepts(repeated, ns(LAST_S + 2))
    assert successor.accepts(repeated + 1, ns(LAST_S + 2))


def test_a_new_picture_ends_the_repeating(playing):
    playing.inference_is_away(ns(LAST_S))
    repeats(playing, LAST_S, LAST_S + 1)
    assert playing.accepts(round((LAST_S + 1) * CLOCK_HZ), ns(LAST_S + 1))
    playing.shown(round((LAST_S + 1) * CLOCK_HZ), ns(LAST_S + 1))
    assert playing.seconds_left(ns(LAST_S + 1.1)) is None


def test_an_outage_does_not_change_the_streams_rate(playing):
    playing.shown(round((LAST_S + 5) * CLOCK_HZ), ns(LAST_S + 5))
    playing.inference_is_away(ns(LAST_S + 5))
    assert playing.seconds_left(ns(LAST_S + 5)) == pytest.approx(FRAME_S)


def test_after_the_limit_nothing_is_repeated_any_more(playing):
    playing.inference_is_away(ns(LAST_S))
    shown = repeats(playing, LAST_S, LAST_S + 1000)
    assert shown[-1][0] == pytest.approx(LAST_S + 60, abs=2 * FRAME_S)


def test_a_limit_of_nothing_turns_it_off():
    alive = KeepAlive(0)
    alive.shown(0, 0)
    alive.inference_is_away(0)
    assert alive.seconds_left(ns(10)) is None
    assert alive.accepts(1, ns(10))
