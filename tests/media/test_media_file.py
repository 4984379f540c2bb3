import av
import numpy as np
import pytest

from pipeline.media.access_unit import Codec, StreamInfo
from pipeline.media.decoder import VideoDecoder
from pipeline.media.errors import MediaFileError
from pipeline.media.media_file import FIRST_PTS, MediaFile
from pipeline.media.pattern import read_index, write_pattern

SOURCES = [
    {"container": "mpegts"},
    {"container": "mpegts", "audio": "opus", "bframes": 2},
    {"container": "mp4", "bframes": 2},
    {"container": "mp4", "audio": "opus"},
    {"container": "matroska"},
    {"container": "mp4", "codec": "libx265"},
    {"container": "matroska", "codec": "libvpx"},
    {"container": "mp4", "audio": None},
]


@pytest.fixture
def media(tmp_path, request):
    path = tmp_path / "pattern"
    write_pattern(path, 192, 108, seconds=2, **request.param)
    return path


@pytest.mark.parametrize("media", SOURCES, indirect=True, ids=str)
def test_every_picture_is_there_in_annex_b_with_its_time(media):
    decoder = VideoDecoder(16, 16)
    with MediaFile(media) as file:
        units = [unit for unit in file.units() if unit.is_video]
    assert all(unit.data.startswith((b"\0\0\1", b"\0\0\0\1")) for unit in units)
    assert all(unit.dts >= 0 for unit in units)
    frames = [frame for unit in units for frame in decoder.decode(unit)] + decoder.flush()
    assert [read_index(frame.to_ndarray(format="gray")).index for frame in frames] == list(range(60))
    assert [frame.pts for frame in frames] == pytest.approx([FIRST_PTS + n * 3000 for n in range(60)], abs=90)


def test_info_tells_the_codecs_that_come_out(tmp_path):
    path = tmp_path / "pattern"
    write_pattern(path, 192, 108, seconds=1, container="matroska", codec="libvpx", audio="opus")
    with MediaFile(path) as file:
        assert file.info == StreamInfo(Codec.H264, Codec.OPUS, 1)


def test_transcoded_sound_is_aac_with_adts(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=30)
        video.width = video.height = 64
        sound = output.add_stream("pcm_s16le", rate=44100)
        sound.layout = "stereo"
        for _ in range(30):
            output.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        for n in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 4410), np.int16), format="s16", layout="stereo")
            frame.sample_rate, frame.pts = 44100, n * 4410
            output.mux(sound.encode(frame))
        output.mux(video.encode(None))
    with MediaFile(path) as file:
        assert file.info == StreamInfo(Codec.H264, Codec.AAC, 2)
        sound_units = [unit for unit in file.units() if not unit.is_video]
    assert all(unit.data[:2] == b"\xff\xf1" for unit in sound_units)
    span = sound_units[-1].pts - sound_units[0].pts
    assert span == pytest.approx(90_000, abs=3 * 1920)


def test_what_is_no_video_file_is_named(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("hello " * 100)
    silent = tmp_path / "silent.wav"
    with av.open(str(silent), "w") as output:
        sound = output.add_stream("pcm_s16le", rate=48000)
        sound.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48000
        output.mux(sound.encode(frame))
    for path, message in (
        (tmp_path / "absent.mp4", "no such file"),
        (tmp_path, "is a directory"),
        (text, "not a media file"),
        (silent, "no video stream"),
    ):
        with pytest.raises(MediaFileError, match=message):
            MediaFile(path)


def test_a_file_that_breaks_off_gives_what_there_is(tmp_path, demux):
    path = tmp_path / "pattern.ts"
    write_pattern(path, 192, 108, seconds=2)
    path.write_bytes(path.read_bytes()[:-20_000])
    with MediaFile(path) as file:
        pictures = sum(unit.is_video for unit in file.units())
    assert 20 < pictures < 60


def test_a_file_without_times_is_counted_out_at_its_rate(tmp_path):
    path = tmp_path / "raw.h264"
    write_pattern(path, 192, 108, fps=25, seconds=1, audio=None, container="h264")
    with MediaFile(path) as file:
        times = [unit.pts for unit in file.units()]
    assert times == [FIRST_PTS + n * 3600 for n in range(25)]
