"""What is fitted to a report predicts the box that it was made of. Measuring is `bench`'s."""

import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import capacity
from benchmarks.capacity import (
    HARNESS,
    USABLE_CORES,
    USABLE_TIME,
    Cost,
    NotEnough,
    Prediction,
    fit,
    predict_fps,
    predict_streams,
    tables,
)
from pipeline.bench.report import Limit, Machine, Report, Settings, StageUse, Step, write_report
from tests.bench.conftest import step

CPU_MS = {"ingress": 0.5, "decode": 2.0, "inference": 6.0, "egress": 4.0}
IDLE = {"ingress": 0.01, "decode": 0.02, "inference": 0.0, "egress": 0.02}
HARNESS_MS = 0.5


def load(fps: float, cores: int, of_cores: float, of_time: float) -> Step:
    """A step of a pipeline whose costs are known; it holds while no larger part is in use of the cores, and of
    inference's time."""
    uses = [
        StageUse(stage, fps * ms / 1000, ms, IDLE[stage] + fps * ms / 1000, ms, 50.0) for stage, ms in CPU_MS.items()
    ]
    busy = sum(use.cores for use in uses) + fps * HARNESS_MS / 1000
    holds = busy <= of_cores * cores and fps * CPU_MS["inference"] / 1000 <= of_time
    return step(
        fps=fps,
        stages=uses,
        harness_cores=fps * HARNESS_MS / 1000,
        cores_busy=busy,
        failings=[] if holds else ["late"],
    )


def report(cores: int, of_cores: float = USABLE_CORES, of_time: float = USABLE_TIME) -> Report:
    steps = [load(float(fps), cores, of_cores, of_time) for fps in range(10, 400, 2)]
    best = max(one.fps for one in steps if one.sustained)
    return Report(
        version=1,
        began="",
        interrupted=False,
        problem="",
        machine=Machine("a CPU", cores, 8000, [], "Linux", "3.11", {}, 0.0),
        settings=Settings("t.yaml", "m:f", "", 64, 64, 4.0, 100.0, 480.0, 30.0, 1, 0),
        warnings=[],
        limits=[Limit(best, best + 2)],
        steps=steps,
        most_streams=1,
        streams_allowed=1,
        recoveries=[],
    )


def test_of_several_searches_the_one_in_the_middle_is_the_limit() -> None:
    made = report(2)
    best = made.limits[0].sustained
    several = msgspec.structs.replace(made, limits=[Limit(best, None), Limit(60.0, 62.0), Limit(50.0, 52.0)])
    assert fit(several).measured_fps == 60


def test_a_relay_with_one_thread_is_a_limit_of_its_own() -> None:
    model = fit(report(2))
    dear = msgspec.structs.replace(model, costs=[*model.costs, Cost("relay", 0.0, 10.0, None)])
    assert predict_fps(dear, 64) == Prediction(64, pytest.approx(95), "relay")
    assert predict_streams(dear, 64, 30.0).value == 3


def test_the_costs_are_found_again() -> None:
    costs = {cost.stage: cost for cost in fit(report(2)).costs}
    for stage, ms in CPU_MS.items():
        assert costs[stage].cpu_ms == pytest.approx(ms)
        assert costs[stage].idle_cores == pytest.approx(IDLE[stage], abs=1e-9)
        assert costs[stage].busy_ms == pytest.approx(ms)
    assert costs[HARNESS].cpu_ms == pytest.approx(HARNESS_MS)


@pytest.mark.parametrize(("fitted", "asked"), [(1, 2), (2, 1), (1, 1), (2, 2), (4, 1)])
def test_one_box_predicts_the_other(fitted: int, asked: int) -> None:
    predicted, measured = predict_fps(fit(report(fitted)), asked), fit(report(asked)).measured_fps
    assert predicted.value == pytest.approx(measured, rel=0.06)


def test_with_cores_enough_the_slowest_stage_limits() -> None:
    model = fit(report(1))
    assert predict_fps(model, 1).limit == "cores"
    assert predict_fps(model, 16).limit == "inference"
    assert predict_streams(model, 1, 30.0).limit == "cores"
    many = predict_streams(model, 32, 30.0)
    assert (many.limit, many.value) == ("inference", 4)


@pytest.mark.parametrize(
    ("cores", "of_cores", "of_time", "found"),
    [(1, 0.6, 0.9, (0.6, USABLE_TIME)), (2, 0.99, 0.5, (USABLE_CORES, 0.5)), (8, 0.9, 0.9, (USABLE_CORES, 0.9))],
)
def test_of_what_was_the_limit_as_much_can_be_used_as_was(
    cores: int, of_cores: float, of_time: float, found: tuple[float, float]
) -> None:
    model = fit(report(cores, of_cores, of_time))
    assert (model.usable, model.usable_time) == (pytest.approx(found[0], abs=0.03), pytest.approx(found[1], abs=0.03))
    assert predict_fps(model, cores).value == pytest.approx(model.measured_fps, rel=0.03)


def test_a_stream_that_one_stage_cannot_follow_is_no_stream() -> None:
    slow = fit(report(2))
    costs = [msgspec.structs.replace(one, busy_ms=50.0) if one.stage == "decode" else one for one in slow.costs]
    found = predict_streams(msgspec.structs.replace(slow, costs=costs), 32, 30.0)
    assert (found.value, found.limit) == (0, "decode")


def test_one_rate_is_too_few() -> None:
    one = report(2)
    with pytest.raises(NotEnough, match="fewer than two rates held"):
        fit(msgspec.structs.replace(one, steps=one.steps[:1]))


def test_reports_are_read_and_their_errors_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for cores in (1, 2):
        several = msgspec.structs.replace(report(cores), most_streams=cores, streams_allowed=16)
        write_report(tmp_path / f"{cores}.json", several)
    monkeypatch.setattr(sys, "argv", ["capacity", "--reports", str(tmp_path / "1.json"), str(tmp_path / "2.json")])
    capacity.main()
    said = capsys.readouterr().out
    errors = said[said.index("predicted and measured") :]
    rows = [[cell.strip() for cell in line.split("│")] for line in errors.splitlines() if " 1 cores" in line]
    assert [row[6:8] for row in rows] == [["2", "1"], ["4", "2"]], "streams: predicted and measured"
    assert "predicted from 2 cores" in said
    assert len(tables([fit(report(1))], 30.0)) == 2, "one report has nothing to be held against"


@pytest.mark.parametrize("arguments", [["--cores", "0"], ["--seconds", "0"], ["--fps", "0"], ["--reports", "no.json"]])
def test_nonsense_is_refused_before_anything_starts(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["capacity", *arguments])
    with pytest.raises(SystemExit, match="2"):
        capacity.main()
