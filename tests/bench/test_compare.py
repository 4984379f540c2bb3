"""A difference is one only beyond the noise of both reports."""

import pytest

from pipeline.bench.compare import compare


def verdicts(old, new):
    return {one.name: one.verdict for one in compare(old, new).differences}


def test_a_report_does_not_differ_from_itself(make_report):
    comparison = compare(make_report(), make_report())
    assert {one.verdict for one in comparison.differences} == {"same"}
    assert (comparison.worse, comparison.unlike) == ([], [])


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        ([59.0, 62.0, 64.0], "same"),
        ([70.0, 71.0, 72.0], "better"),
        ([50.0, 51.0, 52.0], "worse"),
        ([40.0, 51.0, 61.0], "same"),
        ([64.0, 64.0, 64.0], "same"),
    ],
    ids=["overlaps", "apart above", "apart below", "scatters too much", "apart by less than a search can tell"],
)
def test_a_rate_is_judged_by_its_spread(make_report, new, verdict):
    assert verdicts(make_report(), make_report(rates=new))["max_fps"] == verdict


def test_less_is_better_for_a_latency_and_a_recovery(make_report):
    found = verdicts(make_report(), make_report(latencies=[10.0, 10.5, 11.0], recoveries=[2500.0, 2600.0, 2700.0]))
    assert (found["latency_p50_ms"], found["recovery_ms.inference"]) == ("better", "worse")


def test_what_was_measured_once_has_no_spread_and_no_verdict(make_report):
    assert verdicts(make_report(rates=[60.0]), make_report(rates=[20.0]))["max_fps"] == "unknown"


def test_streams_are_a_whole_number(make_report):
    assert verdicts(make_report(most_streams=4), make_report(most_streams=3))["max_streams"] == "same"
    assert verdicts(make_report(most_streams=4), make_report(most_streams=2))["max_streams"] == "worse"


def test_what_only_one_report_has_is_not_compared(make_report):
    assert "recovery_ms.inference" not in verdicts(make_report(), make_report(recoveries=[]))
    assert "max_streams" not in verdicts(make_report(), make_report(most_streams=None))


def test_other_circumstances_are_told(make_report):
    old, new = make_report(), make_report()
    new.machine.versions["torch"] = "3"
    assert compare(old, new).unlike == ["torch: 2 -> 3"]
