"""Sound and text through processors, several pictures of one frame, several frames under way: watched as a viewer."""

import os
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from pipeline.control import ControlLine
from pipeline.media.verify import verify_recording
from pipeline.run_dir import control_endpoint
from tests.integration.conftest import FPS, SECONDS
from tests.integration.running import RunningPipeline

Launch = Callable[..., RunningPipeline]

FRAMES = FPS * SECONDS
OPS = "tests.integration.sound_ops"


def loudness(path: Path) -> float:
    """The root of the mean square of the sound."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray().astype(np.float64) for frame in container.decode(audio=0)]
    return float(np.sqrt(np.mean(np.concatenate([np.ravel(frame) for frame in frames]) ** 2)))


def picture_times(path: Path) -> list[int]:
    """In 1/90000 s, by FFmpeg alone."""
    with av.open(str(path)) as container:
        return [round(float(frame.time or 0) * 90_000) for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    "processor", [{"callable": f"{OPS}:Quieter"}, {"trickle_app": "tests.integration.trickle_app_ops:QuieterApp"}]
)
def test_sound_goes_through_the_processor_in_sync(
    launch: Launch, source: Path, tmp_path: Path, processor: dict[str, str]
) -> None:
    pipeline = launch(source, stages__inference__processor=processor | {"audio": True, "threads": 1})
    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    assert (frames.decoded, frames.delivered, frames.dropped) == (FRAMES, FRAMES, {})
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert len(report.audio_offsets_ms) >= SECONDS - 2
    assert report.max_audio_offset_ms < 5
    assert loudness(tmp_path / "seen.mp4") == pytest.approx(0.75 * loudness(source), rel=0.1)


@pytest.mark.parametrize(("on_error", "heard"), [("pass_through", True), ("last_frame", False)])
def test_sound_on_which_the_processor_fails_passes_or_is_left_out_as_the_topology_says(
    launch: Launch, source: Path, tmp_path: Path, on_error: str, heard: bool
) -> None:
    processor = {"callable": f"{OPS}:FailsToHear", "audio": True, "on_error": on_error, "threads": 1}
    pipeline = launch(source, stages__inference__processor=processor)
    assert pipeline.end() == 0, pipeline.log

    assert pipeline.summary().frames.delivered == FRAMES
    pipeline.wait_for(r'audio_error stage=inference problem="RuntimeError: too loud" count=1')
    assert bool(verify_recording(tmp_path / "seen.mp4", FPS).audio_offsets_ms) is heard


def test_sound_finds_its_way_again_when_inference_or_egress_dies(
    launch: Launch, long_source: Path, tmp_path: Path
) -> None:
    pipeline = launch(
        long_source,
        stages__inference__processor={"callable": f"{OPS}:Counts", "params": {"gain": 1.0}, "audio": True},
        links__raw={"policy": "latest"},
    )
    pipeline.wait_for("text=.picture", 30)
    for stage in ("inference", "egress"):
        os.kill(pipeline.pid_of(stage), signal.SIGKILL)
        pipeline.wait_for(f"died stage={stage}")
        pipeline.wait_for("text=.picture", sum("text=" in line for line in pipeline.lines) + 60)
    pipeline.signal(signal.SIGINT)
    assert pipeline.end() == 0, pipeline.log

    assert pipeline.summary().frames.balanced
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert len(report.audio_offsets_ms) >= 3
    assert report.max_audio_offset_ms < 20


def test_text_is_an_event_and_a_line_in_its_channel(launch: Launch, source: Path, tmp_path: Path) -> None:
    processor = {"callable": f"{OPS}:Listens", "audio": True, "threads": 1}
    pipeline = launch(
        source,
        relay={"port": 0, "channels": {"texts": "application/jsonl"}},
        stages__inference__processor=processor,
        stages__egress__sink={"trickle": "output", "text": "texts"},
    )
    read = pipeline.read_channel("texts")
    assert pipeline.end() == 0, pipeline.log

    lines = [msgspec.json.decode(line) for line in read().splitlines()]
    assert all(line["text"].startswith("peak 0.") for line in lines)
    times = [line["pts"] for line in lines]
    assert len(times) > 100
    assert all(before < after for before, after in pairwise(times))
    pipeline.wait_for(r'text stage=inference pts=\d+ text="peak 0\.')
    assert verify_recording(tmp_path / "seen.mp4", FPS).audio_offsets_ms


def test_a_frame_may_become_several_pictures_and_is_counted_once(launch: Launch, source: Path, tmp_path: Path) -> None:
    pipeline = launch(
        source,
        stages__inference__processor={"callable": f"{OPS}:Doubles", "threads": 1},
        stages__egress__sink={"trickle": "output", "file": str(tmp_path / "out.ts")},
    )
    assert pipeline.end() == 0, pipeline.log

    status = pipeline.summary()
    assert (status.frames.decoded, status.frames.delivered, status.frames.dropped) == (FRAMES, FRAMES, {})
    assert status.added == FRAMES - 1
    times = picture_times(tmp_path / "out.ts")
    assert len(times) == 2 * FRAMES - 1
    assert {after - before for before, after in pairwise(times)} == {1500}


def test_several_frames_are_under_way_and_come_out_in_their_order(launch: Launch, source: Path, tmp_path: Path) -> None:
    """Each takes three times as long as the stream leaves for it."""
    processor = {"callable": f"{OPS}:at_a_time", "params": {"seconds": 0.1}, "in_flight": 4}
    pipeline = launch(source, stages__inference__processor=processor)
    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    assert (frames.decoded, frames.delivered, frames.dropped) == (FRAMES, FRAMES, {})
    pipeline.wait_for('text="4 under way"')
    assert '"5 under way"' not in pipeline.log
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert (report.frames, report.out_of_order, report.inverted) == (FRAMES, 0, FRAMES)


def test_frames_under_way_are_tried_again_when_inference_dies(launch: Launch, source: Path, tmp_path: Path) -> None:
    processor = {"callable": f"{OPS}:at_a_time", "params": {"seconds": 0.2}, "in_flight": 4}
    pipeline = launch(source, stages__inference__processor=processor)
    pipeline.wait_for('text="4 under way"')
    with ControlLine(control_endpoint(pipeline.name)) as line:
        while not any(slot.state == "IN_USE" for link in line.status().links[:1] for slot in link.slots):
            time.sleep(0.01)  # Nobody tells of what is only in the slot table.
    os.kill(pipeline.pid_of("inference"), signal.SIGKILL)
    assert pipeline.end() == 0, pipeline.log

    pipeline.wait_for("died stage=inference how=SIGKILL.* retried=[1234]")
    frames = pipeline.summary().frames
    assert (frames.decoded, frames.delivered, frames.dropped) == (FRAMES, FRAMES, {})
    assert verify_recording(tmp_path / "seen.mp4", FPS).out_of_order == 0


def test_a_frame_that_fails_among_others_under_way_is_passed_through_whole(
    launch: Launch, source: Path, tmp_path: Path
) -> None:
    processor = {"callable": f"{OPS}:fails_at_a_time", "in_flight": 4, "on_error": "pass_through"}
    pipeline = launch(source, stages__inference__processor=processor)
    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    assert frames.balanced
    assert frames.dropped.keys() == {"processor_error"}
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert (report.frames, report.unreadable, report.duplicates, report.out_of_order) == (FRAMES, 0, 0, 0)
    assert report.inverted == FRAMES - frames.dropped["processor_error"]
