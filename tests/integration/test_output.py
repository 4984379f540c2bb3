"""What egress makes of frames and sound, watched as a viewer would: other sizes, other codecs."""

import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from pipeline.media.verify import verify_recording
from tests.integration.conftest import FPS, LONGER_SECONDS, SECONDS
from tests.integration.running import RunningPipeline

Launch = Callable[..., RunningPipeline]

FRAMES = FPS * SECONDS


def resizing(**keys: Any) -> dict[str, Any]:
    return {"callable": "tests.integration.odd_ops:resizing", "params": {"every": 60}, "threads": 1} | keys


def decoded_times(path: Path) -> list[tuple[float, int, int]]:
    """Time, width and height of each picture, by FFmpeg alone."""
    with av.open(str(path)) as container:
        return [(float(frame.time or 0), frame.width, frame.height) for frame in container.decode(video=0)]


def test_pictures_that_change_their_size_and_sound_that_is_encoded_anew_come_out_in_sync(
    launch: Launch, source: Path, tmp_path: Path
) -> None:
    pipeline = launch(
        source,
        stages__inference__processor=resizing(),
        links__styled={"slots": 6, "max_frame": {"width": 384, "height": 256}},
        stages__egress__encoder={"codec": "auto", "preset": "ultrafast", "bitrate": "1500k"},
        stages__egress__audio={"codec": "opus", "bitrate": "96k"},
        stages__egress__sink={"trickle": "output", "file": str(tmp_path / "out.ts")},
    )
    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    assert (frames.decoded, frames.delivered, frames.dropped) == (FRAMES, FRAMES, {})
    pipeline.wait_for(r"encoder stage=egress .*codec=(libx264 .*h264_nvenc|h264_nvenc)")
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert len(report.audio_offsets_ms) >= SECONDS - 2
    assert report.max_audio_offset_ms < 20
    with av.open(str(tmp_path / "out.ts")) as container:
        assert container.streams.audio[0].codec_context.name in ("opus", "libopus")
    pictures = decoded_times(tmp_path / "out.ts")
    assert len(pictures) == FRAMES
    assert {(width, height) for _, width, height in pictures} == {(256, 256), (384, 256)}
    assert all(before < after for (before, *_), (after, *_) in pairwise(pictures))


def test_the_size_of_the_frames_changes_while_they_flow(launch: Launch, longer_source: Path, tmp_path: Path) -> None:
    """And a decode that is started again makes them of the new size too."""
    pipeline = launch(
        longer_source,
        frame={"width": 256, "height": 256},
        links__raw={"policy": "block", "max_frame": {"width": 384, "height": 256}},
        links__styled={"policy": "block", "max_frame": {"width": 384, "height": 256}},
        stages__egress__sink={"trickle": "output", "file": str(tmp_path / "out.ts")},
    )
    pipeline.wait_for("first_frame stage=egress")
    code, said = pipeline.update("{width: 384}", "decode")
    assert (code, said) == (0, 'decode: changed {"width":384}\n')
    code, said = pipeline.update("{width: 640}", "decode")
    assert code == 2
    assert "decode: 640x256 does not fit in the slots of links.raw, made for 384x256" in said
    os.kill(pipeline.pid_of("decode"), signal.SIGKILL)
    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    assert frames.decoded == frames.delivered + sum(frames.dropped.values()) == FPS * LONGER_SECONDS
    assert frames.dropped.keys() <= {"crash"}, "none but the one that decode died on"
    sizes = [(width, height) for _, width, height in decoded_times(tmp_path / "out.ts")]
    assert len(sizes) == frames.delivered
    change = sizes.index((384, 256))
    assert set(sizes[:change]) == {(256, 256)}
    assert set(sizes[change:]) == {(384, 256)}
    assert verify_recording(tmp_path / "seen.mp4", FPS).out_of_order == 0
