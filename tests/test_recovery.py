"""How long a stage was away, by the moments that its recovery is told."""

import pytest

from pipeline.histogram import Durations, Histogram
from pipeline.recovery import RECOVERY_EDGES_S, Recovery

SECOND = 10**9


def durations(histogram: Histogram) -> tuple[int, float]:
    return histogram.total, pytest.approx(histogram.sum_s)


def test_a_duration_is_counted_below_the_first_edge_that_it_does_not_pass():
    counted = Durations((0.1, 1.0))
    for seconds in (0.1, 0.11, 1.0, 1.5):
        counted.add(seconds)
    assert counted.histogram() == Histogram((0.1, 1.0), (1, 2, 1), pytest.approx(2.71))


def test_what_was_added_is_told_without_what_was_there_before():
    counted = Durations((0.1, 1.0))
    counted.add(0.5)
    before = counted.histogram()
    for seconds in (0.5, 7.0):
        counted.add(seconds)
    assert counted.histogram().since(before) == Histogram((0.1, 1.0), (0, 1, 1), pytest.approx(7.5))


def test_an_absence_lasts_until_the_stage_is_at_work_again():
    recovery = Recovery()
    recovery.at_work(5 * SECOND)
    assert recovery.away.total == 0, "it was never away"
    recovery.lost(10 * SECOND, 9 * SECOND)
    recovery.at_work(12 * SECOND)
    recovery.at_work(13 * SECOND)
    assert durations(recovery.away) == (1, 2.0)
    assert recovery.away.edges_s == RECOVERY_EDGES_S


def test_a_gap_lasts_from_the_last_unit_to_the_first_of_the_next_process():
    recovery = Recovery()
    recovery.lost(10 * SECOND, 9 * SECOND)
    recovery.handed_on(0)
    assert recovery.gaps.total == 0, "it has handed nothing on yet"
    recovery.handed_on(15 * SECOND)
    recovery.handed_on(15 * SECOND)
    assert durations(recovery.gaps) == (1, 6.0)


def test_a_successor_that_dies_before_it_was_of_use_makes_the_absence_longer():
    recovery = Recovery()
    recovery.lost(10 * SECOND, 9 * SECOND)
    recovery.lost(20 * SECOND, 9 * SECOND)
    recovery.at_work(21 * SECOND)
    recovery.handed_on(22 * SECOND)
    assert (durations(recovery.away), durations(recovery.gaps)) == ((1, 11.0), (1, 13.0))


def test_a_stage_that_had_handed_nothing_on_has_no_gap():
    recovery = Recovery()
    recovery.lost(10 * SECOND, 0)
    recovery.handed_on(15 * SECOND)
    assert recovery.gaps.total == 0


def test_what_nothing_is_expected_of_any_more_does_not_come_back():
    recovery = Recovery()
    recovery.lost(10 * SECOND, 9 * SECOND)
    recovery.forget()
    recovery.at_work(90 * SECOND)
    recovery.handed_on(91 * SECOND)
    assert (recovery.away.total, recovery.gaps.total) == (0, 0)
