import pytest

from pipeline.admission import Admission

RUNNING = ("a", "b")
ALONE = {"inference": 2}


def measured(streams: tuple[str, ...], busy: float, cores: float, seconds: int = 5, limit: float = 0.9) -> Admission:
    """After so many seconds in which the one process of inference was this busy, and so many of 4 cores were."""
    admission = Admission(limit, 4)
    for second in range(seconds + 1):
        used = {"inference": 7 + busy * second}
        admission.note(100.0 + second, streams, {"inference": len(streams)}, used, 50 + cores * second)
    return admission


def problem(admission: Admission, serves: int = 2) -> str:
    """Of one more, while so many run or are starting."""
    return admission.problem({"inference": serves}, "inference")


def test_one_more_is_admitted_while_there_is_room() -> None:
    assert problem(measured(RUNNING, busy=0.55, cores=2.0)) == ""


@pytest.mark.parametrize(
    ("busy", "cores", "reason"),
    [
        (
            0.7,
            1.0,
            "a stream takes 35% of inference's time, measured with 2 streams: one more would have it busy 105%, and "
            "streams.admit_below is 0.9",
        ),
        (0.2, 3.0, "2 streams take 3.0 of 4 CPU cores: one more would need 1.5, and streams.admit_below is 0.9"),
    ],
)
def test_what_was_measured_is_the_reason_for_a_refusal(busy: float, cores: float, reason: str) -> None:
    assert problem(measured(RUNNING, busy, cores)) == reason


def test_nothing_is_refused_before_anything_was_measured() -> None:
    assert problem(Admission(0.9, 4)) == ""
    assert problem(measured((), busy=0.9, cores=4)) == "", "no stream runs, or one begins"
    assert problem(measured(RUNNING, busy=0.9, cores=4, seconds=2)) == ""


def test_what_was_measured_holds_until_it_is_measured_anew() -> None:
    admission = measured(RUNNING, busy=1.0, cores=1)
    admission.note(106.0, (), {"inference": 0}, {"inference": 12.0}, 56.0)
    assert "50% of inference's time" in problem(admission, serves=1), (
        "one of them is over, the other costs what it does"
    )
    one = ("a",)
    admission.note(107.0, one, {"inference": 1}, {"inference": 12.5}, 57.0)
    assert "2 streams" in problem(admission, serves=1)
    admission.note(110.5, one, {"inference": 1}, {"inference": 12.9}, 58.0)
    assert problem(admission, serves=1) == ""


def test_what_was_long_ago_does_not_count() -> None:
    admission = measured(RUNNING, busy=0.9, cores=4)
    for second in range(6, 30):
        used = {"inference": 11.5 + 0.1 * (second - 5)}
        admission.note(100.0 + second, RUNNING, ALONE, used, 70 + 0.1 * (second - 5))
    assert problem(admission) == ""


def test_it_can_be_turned_off() -> None:
    assert problem(measured(RUNNING, busy=0.99, cores=4, limit=0)) == ""


def test_what_is_starting_counts_and_one_alone_is_never_too_much() -> None:
    admission = measured(RUNNING, busy=0.5, cores=1)
    assert problem(admission) == ""
    assert problem(admission, serves=3)
    assert problem(measured(RUNNING, busy=1.9, cores=4), serves=1)
    assert problem(measured(RUNNING, busy=1.9, cores=4), serves=0) == ""


def test_a_replica_is_measured_by_itself_and_one_that_does_nothing_by_the_others() -> None:
    admission, serves = Admission(0.9, 4), {"fast": 2, "slow": 1, "idle": 0}
    for second in range(6):
        used = {"fast": 0.2 * second, "slow": 0.7 * second, "idle": 0.0}
        admission.note(100.0 + second, ("a", "b", "c"), serves, used, float(second))

    def asked(inference: str, more: int = 0) -> str:
        now = serves | {inference: serves[inference] + more}
        return admission.problem(now, inference)

    assert asked("fast", 5) == ""
    assert asked("slow").startswith(
        "a stream takes 70% of slow's time, measured with 1 stream: one more would have it busy 140%,"
    )
    assert asked("idle", 2) == ""
    assert asked("idle", 3).startswith("a stream takes 30% of idle's time, measured with 3 streams of other replicas:")
