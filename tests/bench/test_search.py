"""The search finds the limit that there is, and asks no more than it must."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.search import LOWEST_FPS, find_count, find_limit

HIGHEST = 480.0


def searched(limit: float, **options):
    """What is found of a load that holds up to `limit`, and the rates that were tried."""
    tried = []

    def sustains(fps):
        tried.append(fps)
        return fps <= limit

    return find_limit(sustains, options.pop("start", 30.0), HIGHEST, **options), tried


@given(st.floats(LOWEST_FPS, HIGHEST), st.floats(LOWEST_FPS, HIGHEST), st.sampled_from([1.12, 1.5, 2.0]))
def test_the_limit_lies_between_what_held_and_what_did_not(limit, start, factor):
    found, tried = searched(limit, start=start, factor=factor)
    assert found.sustained <= limit
    assert found.not_sustained is None or limit < found.not_sustained
    if found.not_sustained is None:
        assert found.sustained == HIGHEST
    elif found.sustained >= 10:
        assert found.not_sustained - found.sustained <= max(1.0, 0.06 * found.sustained)
    assert len(tried) == len(set(tried)), "a rate was tried twice"
    assert len(tried) <= 20


def test_it_goes_up_in_steps_and_then_halves_what_is_open():
    _, tried = searched(100.0)
    assert tried == [30, 60, 120, 85, 101, 93, 97]


def test_it_goes_no_higher_than_it_is_told():
    found, tried = searched(1000.0)
    assert (found.sustained, found.not_sustained) == (HIGHEST, None)
    assert max(tried) == HIGHEST


def test_where_nothing_holds_the_limit_is_zero():
    found, tried = searched(0.5)
    assert (found.sustained, found.not_sustained) == (0.0, LOWEST_FPS)
    assert min(tried) == LOWEST_FPS


def test_from_a_limit_that_is_known_few_steps_are_needed():
    assert len(searched(100.0, start=97.0, factor=1.12)[1]) <= 4


@pytest.mark.parametrize("most", [1, 2, 3, 7, 16])
def test_every_number_of_streams_is_found(most):
    for holds in range(most + 1):
        tried = []

        def sustains(count, holds=holds, tried=tried):
            tried.append(count)
            return count <= holds

        assert find_count(sustains, most) == holds
        assert all(1 <= count <= most for count in tried)
        assert len(tried) == len(set(tried))
