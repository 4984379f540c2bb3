import av
import msgspec
import numpy as np
import pytest

from pipeline.media.errors import MediaFileError
from pipeline.media.pattern import write_pattern
from pipeline.media.recorder import Mp4Recorder
from pipeline.media.verify import verify_recording


@pytest.fixture
def record(pattern, demux, tmp_path):
    """record(pictures, audio_delay) -> path of a recording of these picture numbers, a key picture each."""
    source = demux(pattern(gop_seconds=1 / 30))

    def write(numbers, audio_delay=0, silent=()):
        start = source.video[0].pts
        path = tmp_path / "out.mp4"
        pictures = [
            msgspec.structs.replace(source.video[number], pts=start + at * 3000, dts=start + at * 3000)
            for at, number in enumerate(numbers)
        ]
        heard = [unit for unit in source.audio if not any(low <= unit.pts - start < high for low, high in silent)]
        sound = [msgspec.structs.replace(unit, pts=unit.pts + audio_delay) for unit in heard]
        with Mp4Recorder(path) as recorder:
            for unit in sorted([*pictures, *sound], key=lambda unit: unit.pts):
                recorder.write(unit)
        return path

    return write


def test_a_faultless_recording_has_nothing_to_report(record):
    report = verify_recording(record(range(120)), 30)
    assert (report.frames, report.first_index, report.last_index) == (120, 0, 119)
    assert (report.out_of_order, report.duplicates, report.unreadable, report.missing) == (0, 0, 0, 0)
    assert report.in_order
    assert report.duration_seconds == pytest.approx(4.0, abs=0.001)
    assert report.max_audio_offset_ms < 2


def test_missing_repeated_and_swapped_pictures_are_counted(record):
    numbers = [*range(20), *range(25, 40), 39, 39, *range(40, 60), 59 - 4, *range(60, 119)]
    report = verify_recording(record(numbers), 30)
    assert (report.missing, report.duplicates, report.out_of_order) == (5, 2, 1)
    assert not report.in_order


def test_late_sound_is_measured(record):
    report = verify_recording(record(range(120), audio_delay=4500), 30)
    assert report.audio_offsets_ms == pytest.approx([50.0] * len(report.audio_offsets_ms), abs=1)
    assert report.beeps >= 3


def test_a_beep_in_the_middle_of_which_sound_comes_back_is_no_measure(record):
    """It seems to be as late as what was lost of it is long."""
    whole = verify_recording(record(range(120)), 30)
    for lost in range(90_000, 93_600, 900):  # 0 to 40 ms of the second beep
        report = verify_recording(record(range(120), silent=[(60_000, lost)]), 30)
        assert report.beeps >= whole.beeps - 1
        assert report.max_audio_offset_ms < 2


def test_pictures_without_a_number_are_counted(tmp_path):
    path = tmp_path / "plain.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width = stream.height = 128
        for _ in range(10):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((128, 128, 3), 99, np.uint8))))
        output.mux(stream.encode(None))
    report = verify_recording(path, 30)
    assert (report.frames, report.unreadable, report.first_index, report.max_audio_offset_ms) == (10, 10, None, None)


def test_beeps_are_matched_beyond_the_eighth_second(tmp_path):
    path = tmp_path / "long.ts"
    write_pattern(path, 160, 90, fps=10, seconds=3, start_index=200)
    report = verify_recording(path, 10)
    assert report.max_audio_offset_ms < 2
    assert len(report.audio_offsets_ms) >= 2


def test_a_file_that_is_no_recording_is_named(tmp_path):
    with pytest.raises(MediaFileError, match="no such file"):
        verify_recording(tmp_path / "gone.mp4", 30)
