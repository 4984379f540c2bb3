"""The parts of the GPU benchmark that need no torch, run against the emulated driver: that they come to an end and that
no frame arrives wrong. Their times say nothing here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import copies, handover, kills, sharing
from benchmarks.gpu.part import Child, report
from pipeline.boot import FrameFormat
from tests.memory import emulated_driver

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"small": FrameFormat(64, 48)}
FRAMES = 20


@pytest.fixture(autouse=True)
def emulated(monkeypatch, tmp_path):
    emulated_driver.emulate(monkeypatch, tmp_path)


def test_every_frame_is_handed_over_whole_by_both_routes_and_in_both_orders():
    figures = dict(handover.measure(SMALL, FRAMES))
    assert len(figures) == len(handover.ROUTES) * len(handover.ORDERS)
    for figure in figures.values():
        assert (figure["frames"], figure["wrong"]) == (FRAMES, 0)
        assert 0 < figure["hop_us"]["p50"] < figure["total_us"]["p50"]


def test_copies_are_compared_with_the_bus_in_both_directions():
    figures = dict(copies.measure(SMALL, FrameFormat(1024, 1024), copies=5))
    limit = figures.pop("bus_limit_gb_per_s")
    for figure in figures.values():
        assert figure.keys() == limit.keys() == {"upload", "download"}
        assert figure["upload"]["ratio"] > 0


def test_killed_stages_leave_no_device_memory_behind():
    for figure in dict(kills.measure(kills=4, at_once=2)).values():
        assert (figure["kills"], figure["lost_bytes"]) == (4, 0)


def test_sharing_is_tried_for_both_routes_and_after_a_death():
    assert dict(sharing.measure()) == {"vmm": True, "ipc": True, "vmm_survives_exporter": True}


def test_a_figure_that_fails_is_one_line_and_the_others_are_still_taken(monkeypatch):
    monkeypatch.setenv("EMULATED_CUDA_BYTES", str(2 << 20))
    figures = dict(copies.measure({**SMALL, "large": FrameFormat(4096, 4096)}, FrameFormat(64, 64), copies=2))
    assert figures["small vmm"]["upload"]["ratio"] > 0
    assert figures["large vmm"]["error"].startswith("CudaUnavailable: CUDA device 0 does not give")


def test_what_stops_a_part_is_a_figure_too(capsys):
    def figures():
        yield "first", 1
        raise ValueError("two\nlines")

    report(figures())
    assert capsys.readouterr().out.splitlines() == ['["first", 1]', '["error", "ValueError: two lines"]']


def test_a_process_that_dies_is_an_error_and_no_hang():
    job = kills.Job(handover.CudaSlabHandle("vmm", 0, 1, fd=0))
    with Child("benchmarks.gpu.kills", "stage", job, []) as child, pytest.raises(RuntimeError, match="exit code 1"):
        child.hear()


def test_without_a_device_the_report_says_why_and_the_command_succeeds(monkeypatch, tmp_path):
    monkeypatch.setenv("EMULATED_CUDA_DEVICES", "0")
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    parts = json.loads(out.read_text())["parts"]
    assert json.loads(done.stdout)["parts"] == parts
    assert "nothing is measured: no NVIDIA driver that works" in done.stderr
    assert all(part["skipped"].startswith("no NVIDIA driver that works") for part in parts.values())
