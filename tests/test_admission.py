import pytest

from pipeline.admission import Admission

RUNNING = ("a", "b")


def measured(streams: tuple[str, ...], busy: float, cores: float, seconds: int = 5, limit: float = 0.9) -> Admission:
    """After so many seconds in which inference was this busy, and so many of 4 cores were."""
    admission = Admission(limit, 4)
    for second in range(seconds + 1):
        admission.note(100.0 + second, streams, 7 + busy * second, 50 + cores * second)
    return admission


def problem(admission: Admission, online: tuple[str, ...] = RUNNING, starting: int = 0, serves: int = 2) -> str:
    """Of one more, for a replica of inference that serves so many."""
    return admission.problem(online, starting, "inference.2", serves)


def test_one_more_is_admitted_while_there_is_room() -> None:
    assert problem(measured(RUNNING, busy=0.55, cores=2.0)) == ""


@pytest.mark.parametrize(
    ("busy", "cores", "reason"),
    [
        (
            0.7,
            1.0,
            "a stream takes 35% of inference's time, measured with 2 streams: one more would have inference.2 busy "
            "105%, and streams.admit_below is 0.9",
        ),
        (0.2, 3.0, "2 streams take 3.0 of 4 CPU cores: one more would need 1.5, and streams.admit_below is 0.9"),
    ],
)
def test_what_was_measured_is_the_reason_for_a_refusal(busy: float, cores: float, reason: str) -> None:
    assert problem(measured(RUNNING, busy, cores)).startswith(reason)


def test_nothing_is_refused_before_anything_was_measured() -> None:
    assert problem(Admission(0.9, 4)) == ""
    assert problem(measured((), busy=0.9, cores=4), ()) == "", "no stream runs, or one is still starting"
    assert problem(measured(RUNNING, busy=0.9, cores=4, seconds=2)) == ""


def test_what_other_streams_cost_says_nothing() -> None:
    admission = measured(RUNNING, busy=0.9, cores=4)
    assert problem(admission)
    admission.note(106.0, ("a", "b", "c"), 12.0, 80.0)
    assert problem(admission) == ""


def test_what_was_long_ago_does_not_count() -> None:
    admission = measured(RUNNING, busy=0.9, cores=4)
    for second in range(6, 30):
        admission.note(100.0 + second, RUNNING, 11.5 + 0.1 * (second - 5), 70 + 0.1 * (second - 5))
    assert problem(admission) == ""


def test_it_can_be_turned_off() -> None:
    assert problem(measured(RUNNING, busy=0.99, cores=4, limit=0)) == ""


def test_what_is_starting_counts_and_what_is_over_does_not() -> None:
    admission = measured(RUNNING, busy=0.5, cores=1)
    assert problem(admission) == ""
    assert problem(admission, starting=1, serves=3)
    assert problem(measured(RUNNING, busy=0.9, cores=4), ("b",)) == "", "what one alone costs was not measured"
    assert problem(measured(RUNNING, busy=0.9, cores=4), ()) == ""


def test_a_replica_is_asked_for_its_own_share_only() -> None:
    admission = measured(RUNNING, busy=1.2, cores=1)
    assert problem(admission, serves=0) == "", "the two streams are other replicas'"
    assert "inference.2 busy 120%" in problem(admission, serves=1)
