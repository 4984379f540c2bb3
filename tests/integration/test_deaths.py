"""SIGKILL to one stage under a live stream: it comes back, the stream goes on, and every frame is accounted for."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.media.verify import verify_recording
from tests.integration.conftest import FPS, SECONDS
from tests.integration.running import SPINE, RunningPipeline, wait_until_gone

Launch = Callable[..., RunningPipeline]


@pytest.mark.parametrize("stage", SPINE)
def test_the_stream_goes_on_after_the_death_of(stage: str, launch: Launch, source: Path, tmp_path: Path) -> None:
    pipeline = launch(source)
    pipeline.wait_for("first_segment")

    os.kill(pipeline.pid_of(stage), signal.SIGKILL)

    pipeline.wait_for(f"died stage={stage} how=SIGKILL")
    pipeline.wait_for(f"ready stage={stage}", 2)
    assert pipeline.end() == 0, pipeline.log
    status = pipeline.summary()
    assert status.frames.balanced, status.frames
    assert status.frames.in_flight == 0
    assert {s.stage: s.restarts for s in status.stages if s.stage in SPINE} == {s: int(s == stage) for s in SPINE}
    away = {s.stage: s.recovery.total for s in status.stages if s.recovery is not None}
    assert away == {s: int(s == stage) for s in away}, "each absence was timed once"
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert (report.out_of_order, report.duplicates, report.unreadable) == (0, 0, 0)
    assert report.last_index == FPS * SECONDS - 1, "the viewer saw the stream to its end"
    assert report.frames + report.missing == report.last_index - report.first_index + 1
    assert report.frames <= status.frames.delivered
    assert report.max_audio_offset_ms < 40


def test_a_stage_that_keeps_dying_is_given_up_and_the_rest_stays(launch: Launch, source: Path) -> None:
    pipeline = launch(source, restart={"max_restarts": 1, "window": 60})
    pipeline.wait_for("first_segment")

    os.kill(pipeline.pid_of("decode"), signal.SIGKILL)
    pipeline.wait_for("ready stage=decode", 2)
    os.kill(pipeline.pid_of("decode", 2), signal.SIGKILL)

    pipeline.wait_for("failed stage=decode .*1 restarts in 60 s used up")
    pipeline.signal(signal.SIGTERM)
    assert pipeline.end() == 1
    status = pipeline.summary()
    assert status.state == "DEGRADED"
    assert status.frames.balanced
    assert status.frames.in_flight == 0


def test_nothing_outlives_a_killed_launcher(launch: Launch, source: Path) -> None:
    pipeline = launch(source)
    pipeline.wait_for("first_segment")
    pids = pipeline.pids()

    pipeline.signal(signal.SIGKILL)

    assert len(pids) == 8
    assert all(wait_until_gone(pid) for pid in pids)
