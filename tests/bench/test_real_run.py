"""A real pipeline, a real source and a real viewer, for a few seconds. No times are asserted."""

import os
import tempfile
from pathlib import Path

import msgspec
import pytest
import yaml

import launcher
from pipeline.bench import machine, measure
from pipeline.bench.report import Report, read_report
from pipeline.run_dir import running
from pipeline.usable_cores import usable_cores
from tests.integration.running import topology


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, str]:
    """What `launcher.py bench` has written: the report, and the page."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "t.yaml").write_text(yaml.safe_dump(topology("measured", folder, None)))
    options = ["--seconds", "1", "--max-fps", "5", "--fps", "5", "--latency-ms", "60000", "--repeats", "1"]
    files = ["--json", str(folder / "r.json"), "--report", str(folder / "r.html")]
    with pytest.MonkeyPatch.context() as patch:
        for name, short in (("WARM_UP_S", 0.4), ("ARRIVING_S", 0.6), ("BEFORE_KILL_S", 0.3), ("AFTER_KILL_S", 0.6)):
            patch.setattr(measure, name, short)
        patch.setattr(machine, "LOOK_S", 0.1)
        patch.setattr(measure, "SPINE", ("egress",))
        assert launcher.main(["bench", str(folder / "t.yaml"), *options, "--kills", "1", *files]) == 0
    return read_report(folder / "r.json"), (folder / "r.html").read_text()


def test_what_is_played_is_seen_and_counted(measured: tuple[Report, str]) -> None:
    report, _ = measured
    assert len(report.limits) == 1
    for step in report.steps:
        assert 0 < step.arrived <= step.sent <= 6
        assert step.numbered == 1.0, "every picture bears the number that was sent with its time stamp"
        assert 0 < step.p50_ms <= step.p95_ms <= step.p99_ms <= step.max_ms
        uses = {use.stage: use for use in step.stages}
        assert list(uses) == ["ingress", "decode", "inference", "egress", "relay", "launcher"]
        assert min(uses[stage].busy or 0 for stage in ("decode", "inference", "egress")) > 0
        assert min(use.rss_mb for use in step.stages) > 0


def test_a_killed_stage_is_seen_to_come_back(measured: tuple[Report, str]) -> None:
    (found,) = measured[0].recoveries
    assert (found.stage, found.problem) == ("egress", "")
    assert found.new_ms > 0
    assert found.dark_ms <= found.gap_ms


def test_it_says_what_it_was_measured_on(measured: tuple[Report, str]) -> None:
    report, page = measured
    assert report.machine.cores == round(usable_cores())
    assert "not installed" not in report.machine.versions.values()
    assert report.settings.processor == "pipeline.processors.torch_ops:invert"
    assert (report.settings.width, report.settings.height) == (256, 256)
    assert report.streams_allowed == 1
    assert report.machine.cpu in page
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_nothing_of_it_is_left(measured: tuple[Report, str]) -> None:
    name = f"bench-{os.getpid()}"
    assert not list(Path(tempfile.gettempdir()).glob(f"livepipe-bench-*/{name}.yaml"))
    assert name not in running()
