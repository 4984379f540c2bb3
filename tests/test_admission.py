import pytest

from pipeline.admission import Admission

RUNNING = ("a", "b")


def measured(streams: tuple[str, ...], busy: float, cores: float, seconds: int = 5, limit: float = 0.9) -> Admission:
    """After so many seconds in which inference was this busy, and so many of 4 cores were."""
    admission = Admission(limit, 4)
    for second in range(seconds + 1):
        admission.note(100.0 + second, streams, 7 + busy * second, 50 + cores * second)
    return admission


def test_one_more_is_admitted_while_there_is_room() -> None:
    assert measured(RUNNING, busy=0.55, cores=2.0).problem(RUNNING) == ""


@pytest.mark.parametrize(
    ("busy", "cores", "reason"),
    [
        (
            0.7,
            1.0,
            "inference is busy 70% of the time with 2 streams: one more would need 35%, and streams.admit_below",
        ),
        (0.2, 3.0, "2 streams take 3.0 of 4 CPU cores: one more would need 1.5, and streams.admit_below is 0.9"),
    ],
)
def test_what_was_measured_is_the_reason_for_a_refusal(busy: float, cores: float, reason: str) -> None:
    assert measured(RUNNING, busy, cores).problem(RUNNING).startswith(reason)


def test_nothing_is_refused_before_anything_was_measured() -> None:
    assert Admission(0.9, 4).problem(RUNNING) == ""
    assert measured((), busy=0.9, cores=4).problem(()) == "", "no stream runs, or one is still starting"
    assert measured(RUNNING, busy=0.9, cores=4, seconds=2).problem(RUNNING) == ""


def test_what_other_streams_cost_says_nothing() -> None:
    admission = measured(RUNNING, busy=0.9, cores=4)
    assert admission.problem(RUNNING)
    admission.note(106.0, ("a", "b", "c"), 12.0, 80.0)
    assert admission.problem(RUNNING) == ""


def test_what_was_long_ago_does_not_count() -> None:
    admission = measured(RUNNING, busy=0.9, cores=4)
    for second in range(6, 30):
        admission.note(100.0 + second, RUNNING, 11.5 + 0.1 * (second - 5), 70 + 0.1 * (second - 5))
    assert admission.problem(RUNNING) == ""


def test_it_can_be_turned_off() -> None:
    assert measured(RUNNING, busy=0.99, cores=4, limit=0).problem(RUNNING) == ""


def test_what_is_starting_counts_and_what_is_over_does_not() -> None:
    admission = measured(RUNNING, busy=0.5, cores=1)
    assert admission.problem(RUNNING) == ""
    assert admission.problem(RUNNING, starting=1)
    assert measured(RUNNING, busy=0.9, cores=4).problem(("b",)) == "", "what one alone costs was not measured"
    assert measured(RUNNING, busy=0.9, cores=4).problem(()) == ""
