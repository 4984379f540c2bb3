"""What egress makes of frames and sound, watched as a viewer would: other sizes, other codecs."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from pipeline.media.verify import verify_recording
from tests.integration.conftest import FPS, SECONDS
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
