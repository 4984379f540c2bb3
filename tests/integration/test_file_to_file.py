"""The pipeline as an offline tool: a file in, a file out, every picture once, whatever happens on the way."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.media.pattern import write_pattern
from pipeline.media.verify import verify_recording
from tests.integration.running import ROOT, RunningPipeline

FPS, SECONDS = 30, 12

Process = Callable[..., RunningPipeline]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_pattern(path, 256, 144, FPS, SECONDS, container="mp4", bframes=2)
    return path


@pytest.fixture
def process(tmp_path: Path, request: pytest.FixtureRequest):
    """process(film, *options) -> configs/file.yaml at work on it, with a processor that takes 5 ms a picture."""
    running: list[RunningPipeline] = []

    def start(film: Path, *options: str) -> RunningPipeline:
        topology: dict[str, Any] = yaml.safe_load((ROOT / "configs/file.yaml").read_text())
        topology |= {"name": f"t-file-{os.getpid()}", "frame": {"width": 256, "height": 144}}
        slow = {"callable": "tests.integration.odd_ops:slow", "params": {"seconds": 0.005}, "threads": 1}
        topology["stages"]["inference"]["processor"] = slow
        running.append(RunningPipeline(topology, tmp_path, "--input", str(film), *options))
        return running[-1]

    yield start
    for pipeline in running:
        pipeline.__exit__()


def all_of_it(path: Path, pictures: int = FPS * SECONDS) -> bool:
    report = verify_recording(path, FPS)
    assert (report.frames, report.missing, report.duplicates, report.out_of_order) == (pictures, 0, 0, 0)
    assert report.duration_seconds == pytest.approx(pictures / FPS, abs=1 / FPS)
    assert report.beeps == SECONDS - 1
    assert report.max_audio_offset_ms is not None
    return report.max_audio_offset_ms < 5


def wait_for_growth(pipeline: RunningPipeline, path: Path, size: int) -> None:
    """Until the growing file has so many bytes; it has no event to wait for."""
    pipeline.wait_for("first_frame stage=egress")
    while path.stat().st_size < size:
        assert pipeline.process.poll() is None, pipeline.log
        time.sleep(0.01)


def test_every_picture_is_in_the_file_once_though_its_writer_is_killed(process: Process, film: Path, tmp_path: Path):
    out = tmp_path / "new" / "out.mp4"
    pipeline = process(film, "--output", str(out))
    wait_for_growth(pipeline, tmp_path / "new" / "out.mp4.part.ts", 40_000)
    os.kill(pipeline.pid_of("egress"), signal.SIGKILL)

    assert pipeline.end() == 0, pipeline.log

    assert "died stage=egress how=SIGKILL" in pipeline.log
    frames = pipeline.summary().frames
    assert frames.decoded == frames.delivered == FPS * SECONDS
    assert all_of_it(out)
    assert [entry.name for entry in out.parent.iterdir()] == ["out.mp4"]
    progress = pipeline.summary().progress
    assert progress is not None
    assert progress.length_s == SECONDS
    assert progress.done_s == pytest.approx(SECONDS, abs=2 / FPS)


def test_what_ctrl_c_leaves_can_be_played_and_gone_on_with(process: Process, film: Path, tmp_path: Path):
    out, part = tmp_path / "out.mkv", tmp_path / "out.mkv.part.ts"
    first = process(film, "--output", str(out))
    wait_for_growth(first, part, 40_000)
    first.signal(signal.SIGINT)

    assert first.end() == 0, first.log
    done = verify_recording(out, FPS)
    assert 0 < done.frames == first.summary().frames.delivered < FPS * SECONDS
    assert (done.first_index, done.last_index) == (0, done.frames - 1)
    assert f"{part}: what was done so far, playable; the same command with --resume goes on" in first.log

    second = process(film, "--output", str(out), "--resume")
    assert second.end() == 0, second.log
    assert second.summary().frames.delivered == FPS * SECONDS - done.frames + 1, "the last picture is made again"
    assert all_of_it(out)
    assert not part.exists()


def test_a_part_of_a_file_begins_and_ends_where_it_is_asked_to(process: Process, film: Path, tmp_path: Path):
    out = tmp_path / "out.mov"
    pipeline = process(film, "--output", str(out), "--start", "2.5", "--duration", "1.5")
    assert pipeline.end() == 0, pipeline.log
    report = verify_recording(out, FPS)
    assert (report.frames, report.first_index, report.last_index) == (45, 75, 119)


def test_a_file_that_cannot_be_used_ends_the_run_with_one_line(process: Process, tmp_path: Path):
    (tmp_path / "notes.mp4").write_text("no video")
    pipeline = process(tmp_path / "notes.mp4", "--output", str(tmp_path / "out.mp4"))
    assert pipeline.end() == 2
    pipeline.wait_for("^ingress: stages.ingress.source.file: .*notes.mp4: not a media file")
    assert "Traceback" not in pipeline.log
    assert not list(tmp_path.glob("out*"))
