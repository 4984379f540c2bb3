"""A difference is one only beyond the noise of both reports."""

import msgspec
import pytest

from pipeline.bench.compare import compare
from pipeline.bench.report import Recovery


def verdicts(old, new):
    return {one.name: one.verdict for one in compare(old, new).differences}


def test_a_report_does_not_differ_from_itself(make_report):
    comparison = compare(make_report(), make_report())
    assert {one.verdict for one in comparison.differences} == {"same"}
    assert not comparison.is_worse
    assert comparison.unlike == []


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


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [(4, 3, "same"), (4, 2, "worse"), (3, 2, "same"), (2, 1, "worse"), (1, 0, "worse"), (0, 1, "better")],
)
def test_streams_are_a_whole_number(make_report, before, now, verdict):
    assert verdicts(make_report(most_streams=before), make_report(most_streams=now))["max_streams"] == verdict


def test_what_was_not_asked_for_or_was_interrupted_is_not_compared_and_no_worse(make_report):
    assert "recovery_ms.inference" not in verdicts(make_report(), make_report(recoveries=[]))
    assert "max_streams" not in verdicts(make_report(), make_report(most_streams=None))
    assert not compare(make_report(), make_report(latencies=[], interrupted=True)).is_worse


def test_what_does_not_work_any_more_is_worse(make_report):
    dead = Recovery("inference", 30.0, 0.0, 0.0, 0.0, 9, "no new picture came")
    once = make_report(recoveries=[1600.0])
    comparison = compare(make_report(), msgspec.structs.replace(once, recoveries=[*once.recoveries, dead, dead]))
    assert comparison.gone == ["inference did not come back after 67% of its kills, and after 0% before"]
    assert comparison.is_worse


def test_what_was_never_measured_is_not_gone(make_report):
    dead = Recovery("inference", 30.0, 0.0, 0.0, 0.0, 9, "no new picture came")
    new = msgspec.structs.replace(make_report(), recoveries=[dead])
    assert not compare(make_report(recoveries=[]), new).is_worse


def test_a_rate_that_does_not_hold_any_more_is_worse(make_report):
    comparison = compare(make_report(), make_report(latencies=[]))
    assert comparison.gone == ["30 fps, which held, did not hold: there is no latency and no cost to compare"]
    assert comparison.is_worse


def test_other_circumstances_are_told(make_report):
    old, new = make_report(), make_report()
    new.machine.versions["torch"] = "3"
    assert compare(old, new).unlike == ["torch: 2 -> 3"]
    other = msgspec.structs.replace(old.settings, digest="b")
    assert compare(old, msgspec.structs.replace(old, settings=other)).unlike == [], "an older report has none"
    both = [msgspec.structs.replace(old.settings, digest=each) for each in ("a", "b")]
    reports = [msgspec.structs.replace(old, settings=settings) for settings in both]
    assert compare(*reports).unlike == ["the topology beside that: a -> b"]
