import av
import msgspec
import pytest

from pipeline.media.access_unit import AccessUnit, Codec, Loss
from pipeline.media.errors import MediaError
from pipeline.media.recorder import Mp4Recorder
from pipeline.media.verify import verify_recording


@pytest.mark.parametrize(
    "options", [{}, {"audio": "opus"}, {"audio": None}, {"bframes": 2}, {"codec": "libx265"}], ids=str
)
def test_a_recording_holds_every_picture_and_the_sound_in_time(pattern, demux, tmp_path, options):
    path = tmp_path / "out.mp4"
    with Mp4Recorder(path) as recorder:
        for unit in demux(pattern(**options)).all:
            recorder.write(unit)
    report = verify_recording(path, 30)
    assert (report.frames, report.missing, report.unreadable, report.out_of_order) == (120, 0, 0, 0)
    if options.get("audio", "aac"):
        assert report.beeps == 3
        assert report.max_audio_offset_ms < 2
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).pts == 0


def test_the_file_appears_only_when_it_is_whole(pattern, demux, tmp_path):
    path = tmp_path / "out.mp4"
    recorder = Mp4Recorder(path)
    for unit in demux(pattern(seconds=1)).all:
        recorder.write(unit)
    assert not path.exists()
    recorder.close()
    recorder.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_without_a_key_picture_there_is_no_file(pattern, demux, tmp_path):
    with Mp4Recorder(tmp_path / "out.mp4") as recorder:
        for unit in demux(pattern(seconds=1)).video[1:]:
            recorder.write(unit)
    assert list(tmp_path.iterdir()) == []
    assert recorder.dropped == 29


def test_a_stream_that_cannot_be_recorded_leaves_no_file(tmp_path):
    recorder = Mp4Recorder(tmp_path / "out.mp4")
    recorder.write(AccessUnit(Codec.H264, 0, 0, b"\0\0\0\1\x65 no picture", True))
    with pytest.raises(MediaError, match="cannot record"):
        recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_sound_that_comes_after_the_wait_is_dropped(pattern, demux, tmp_path):
    source = demux(pattern())
    with Mp4Recorder(tmp_path / "out.mp4") as recorder:
        for unit in [*source.video, *source.audio]:
            recorder.write(unit)
    assert recorder.dropped == len(source.audio)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio


def test_a_recording_begins_at_a_key_picture_and_leaves_damage_out(pattern, demux, tmp_path):
    units = demux(pattern()).video
    units[50] = msgspec.structs.replace(units[50], loss=Loss.INSIDE)
    with Mp4Recorder(tmp_path / "out.mp4") as recorder:
        for unit in units[10:]:
            recorder.write(unit)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for packet in container.demux(video=0) if packet.size) == 89
    assert recorder.dropped == 21


def test_a_time_that_goes_back_is_dropped_and_the_file_stays_whole(pattern, demux, tmp_path):
    units = demux(pattern(seconds=1)).video
    with Mp4Recorder(tmp_path / "out.mp4") as recorder:
        for unit in [*units, units[3]]:
            recorder.write(unit)
    assert recorder.dropped == 1
    assert verify_recording(tmp_path / "out.mp4", 30).frames == 30
