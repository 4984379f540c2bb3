"""What a viewer gets while inference is away: the last frame, the input, or the same as before from a spare."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from pipeline.media.verify import verify_recording
from tests.integration.conftest import FPS
from tests.integration.running import RunningPipeline, topology

Launch = Callable[..., RunningPipeline]

LIVE = {"links__raw__policy": "latest"}
FLOWS = "first_frame stage=egress"

REAL = r"active stage=inference pid=(\d+)$"
"""A process that does the work, and no stand-in, was given the links."""

CALLABLE = {"callable": "pipeline.processors.torch_ops:invert", "threads": 1}


def inference(**keys: Any) -> dict[str, Any]:
    return {"worker": "inference", "input": "raw", "output": "styled", "processor": CALLABLE} | keys


def kill_inference(pipeline: RunningPipeline) -> None:
    os.kill(int(pipeline.wait_for(r"active stage=inference pid=(\d+)")[1]), signal.SIGKILL)


def assert_accounted_for(pipeline: RunningPipeline) -> None:
    frames = pipeline.summary().frames
    assert frames.balanced
    assert frames.in_flight == 0


def test_the_last_frame_is_repeated_until_inference_is_back(launch: Launch, source: Path, tmp_path: Path) -> None:
    pipeline = launch(source, **LIVE)
    pipeline.wait_for(FLOWS)
    kill_inference(pipeline)
    pipeline.wait_for("active stage=inference", 2)
    assert pipeline.end() == 0, pipeline.log

    status = pipeline.summary()
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert status.repeated > 3, "torch alone takes longer than that to load"
    assert report.frames == status.frames.delivered + status.repeated
    assert report.duplicates == status.repeated
    assert report.out_of_order == report.unreadable == 0
    assert_accounted_for(pipeline)


def test_nothing_is_repeated_where_every_frame_is_waited_for(launch: Launch, source: Path, tmp_path: Path) -> None:
    pipeline = launch(source)
    pipeline.wait_for(FLOWS)
    kill_inference(pipeline)
    assert pipeline.end() == 0, pipeline.log

    status = pipeline.summary()
    assert status.repeated == 0
    assert verify_recording(tmp_path / "seen.mp4", FPS).duplicates == 0
    assert status.frames.decoded == status.frames.delivered
    assert_accounted_for(pipeline)


def test_a_spare_takes_over_at_once(launch: Launch, long_source: Path, tmp_path: Path) -> None:
    pipeline = launch(long_source, stages__inference=inference(spares=1), **LIVE)
    spare = pipeline.pid_of("inference", 2)
    pipeline.wait_for("ready stage=inference", 2)
    pipeline.wait_for(FLOWS)
    kill_inference(pipeline)
    taking_over = pipeline.wait_for(r"active stage=inference pid=(\d+)", 2)
    assert int(taking_over[1]) == spare
    pipeline.wait_for("started stage=inference", 3)
    pipeline.signal(signal.SIGINT)
    assert pipeline.end() == 0, pipeline.log

    (stage,) = (stage for stage in pipeline.summary().stages if stage.stage == "inference")
    assert stage.restarts == 1
    assert stage.state == "FINISHED"
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert report.inverted == report.frames, "a spare does the same work"
    assert report.out_of_order == report.unreadable == 0
    assert_accounted_for(pipeline)


def test_a_spare_that_dies_is_replaced_and_nobody_notices(launch: Launch, long_source: Path) -> None:
    pipeline = launch(long_source, stages__inference=inference(spares=1))
    pipeline.wait_for("ready stage=inference", 2)
    os.kill(pipeline.pid_of("inference", 2), signal.SIGKILL)
    pipeline.wait_for("started stage=inference", 3)
    pipeline.signal(signal.SIGINT)
    assert pipeline.end() == 0, pipeline.log
    assert len([line for line in pipeline.lines if " active stage=inference" in line]) == 1
    frames = pipeline.summary().frames
    assert frames.decoded == frames.delivered
    assert_accounted_for(pipeline)


def test_the_input_is_passed_through_until_inference_is_back(launch: Launch, long_source: Path, tmp_path: Path) -> None:
    """With links that wait for every frame, so that whatever is missing was lost by the change of hands."""
    pipeline = launch(long_source, stages__inference=inference(while_away="pass_through"))
    pipeline.wait_for("active stage=inference .*role=stand-in")
    pipeline.wait_for(FLOWS)
    os.kill(int(pipeline.wait_for(REAL)[1]), signal.SIGKILL)
    pipeline.wait_for(REAL, 2)
    pipeline.wait_for_delivered(FPS)
    pipeline.signal(signal.SIGINT)
    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert report.frames == frames.delivered == frames.decoded
    assert report.duplicates == report.out_of_order == report.unreadable == report.missing == 0
    assert 0 < report.inverted < report.frames, "some were styled and some were passed through"
    assert_accounted_for(pipeline)


def test_viewers_get_a_notice_while_the_model_loads(launch: Launch, source: Path, tmp_path: Path) -> None:
    pipeline = launch(source, stages__inference=inference(while_away="notice", notice="loading"))
    pipeline.wait_for(FLOWS)
    os.kill(int(pipeline.wait_for(REAL)[1]), signal.SIGKILL)
    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert report.frames == frames.delivered == frames.decoded
    assert 0 < report.inverted < report.frames
    with av.open(str(tmp_path / "seen.mp4")) as seen:
        brightness = [frame.to_ndarray(format="gray").mean() for frame in seen.decode(video=0)]
    dimmed = sum(level < max(brightness) / 2 for level in brightness)
    assert dimmed == report.frames - report.inverted
    assert_accounted_for(pipeline)


def test_with_its_budget_used_up_the_input_goes_on_passing_through(
    launch: Launch, source: Path, tmp_path: Path
) -> None:
    stage = inference(while_away="pass_through", restart={"max_restarts": 0})
    pipeline = launch(source, stages__inference=stage, limits={"ready": 30})
    pipeline.wait_for(FLOWS)
    os.kill(int(pipeline.wait_for(REAL)[1]), signal.SIGKILL)
    pipeline.wait_for("failed stage=inference")
    assert pipeline.end() == 1, pipeline.log

    status = pipeline.summary()
    assert status.state == "DEGRADED"
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert report.frames == status.frames.delivered == status.frames.decoded
    assert report.inverted < report.frames
    assert_accounted_for(pipeline)


def test_a_stand_in_does_not_hide_that_the_processor_is_not_there(launch: Launch, source: Path) -> None:
    processor = CALLABLE | {"callable": "pipeline.processors.torch_ops:no_such"}
    pipeline = launch(source, stages__inference=inference(while_away="pass_through", processor=processor))
    assert pipeline.end() == 2, pipeline.log
    assert "stages.inference.processor.callable: " in pipeline.log


def test_a_stage_that_waits_for_a_model_to_load_is_not_hanging(launch: Launch, source: Path, tmp_path: Path) -> None:
    processor = {"callable": "tests.integration.odd_loads:SlowToLoad", "params": {"seconds": 4}, "threads": 1}
    stages = topology("unused", tmp_path, None)["stages"]
    del stages["recorder"]
    stages["ingress"]["source"] = {"file": str(source)}
    stages["egress"]["sink"] = {"file": str(tmp_path / "result.ts")}
    stages["inference"]["processor"] = processor
    pipeline = launch(None, relay=None, stages=stages, limits={"progress": 1})
    assert pipeline.end() == 0, pipeline.log
    assert " hanging " not in pipeline.log
    frames = pipeline.summary().frames
    assert frames.decoded == frames.delivered
