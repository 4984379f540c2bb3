"""One stage dies under a live stream, or at its end: it comes back, the stream goes on, and every frame is accounted
for."""

import os
import signal
import sys
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


def odd_python(folder: Path, odd: str) -> str:
    """A program that runs what `odd` makes of a worker."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name(odd)} "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_an_error_in_egress_is_no_end_for_viewers(
    launch: Launch, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILED_ONCE", str(tmp_path / "failed"))
    pipeline = launch(source, stages__egress__python=odd_python(tmp_path, "odd_egress.py"))

    pipeline.wait_for('died stage=egress how="exit code 1" .*RuntimeError: the encoder broke')
    assert pipeline.end() == 0, pipeline.log
    assert pipeline.summary().frames.balanced
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert report.last_index == FPS * SECONDS - 1, "the viewer saw the stream to its end"
    assert (report.out_of_order, report.duplicates) == (0, 0)
    assert pipeline.log.count("relay.channel_removed stage=relay channel=output") == 1


@pytest.fixture
def end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the process at its end go on."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setenv("AT_THE_END", str(fifo))
    return lambda: fifo.write_bytes(b"go")


@pytest.fixture
def launch_odd(
    launch: Launch, short_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], RunningPipeline]:
    """`launch_odd(stage, end)`: a second of a stream, with a stage that comes to an odd end once `end_it` is called."""

    def start(stage: str, end: str) -> RunningPipeline:
        monkeypatch.setenv("AT_THE_END_IT", end)
        return launch(short_source, **{f"stages__{stage}__python": odd_python(tmp_path, "odd_end.py")})

    return start


@pytest.mark.parametrize("stage", ["ingress", "decode", "egress"])
def test_a_stage_that_dies_when_all_is_done_comes_to_its_end_all_the_same(
    stage: str, end_it: Callable[[], None], launch_odd: Callable[[str, str], RunningPipeline]
) -> None:
    """Its neighbours are gone by then, and tell its successor nothing."""
    pipeline = launch_odd(stage, "is_killed")
    for other in SPINE:
        if other != stage:
            pipeline.wait_for(f"finished stage={other}")

    end_it()

    pipeline.wait_for(f"died stage={stage} how=SIGKILL")
    assert pipeline.end() == 0, pipeline.log
    frames = pipeline.summary().frames
    assert (frames.balanced, frames.delivered, frames.in_flight) == (True, FPS, 0)


def test_a_stage_whose_last_word_is_lost_has_come_to_its_end(
    end_it: Callable[[], None], launch_odd: Callable[[str, str], RunningPipeline]
) -> None:
    pipeline = launch_odd("ingress", "says_nothing")

    end_it()

    assert pipeline.end() == 0, pipeline.log
    assert "died" not in pipeline.log
    assert pipeline.summary().frames.delivered == FPS


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

    assert len(pids) == 7
    assert all(wait_until_gone(pid) for pid in pids)
