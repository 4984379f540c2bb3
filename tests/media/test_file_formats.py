"""Whatever people have: each container and codec as a sequence of access units that our decoder shows whole."""

import av
import numpy as np
import pytest

from pipeline.media.access_unit import CLOCK_HZ, Codec
from pipeline.media.decoder import VideoDecoder
from pipeline.media.errors import MediaFileError
from pipeline.media.media_file import FIRST_PTS, MediaFile
from pipeline.media.orientation import orientation_of
from pipeline.media.pattern import read_index
from tests.media.clips import FPS, HEIGHT, WIDTH, write_clip

FORMATS = [
    ("mp4", "libx264", "aac", {"bframes": 2}),
    ("mov", "libx265", "alac", {}),
    ("mov", "prores_ks", "pcm_s24le", {}),
    ("mkv", "libx264", "ac3", {"bframes": 2}),
    ("mkv", "ffv1", "flac", {}),
    ("webm", "libvpx-vp9", "libopus", {}),
    ("webm", "libvpx", "libopus", {}),
    ("mp4", "libsvtav1", "aac", {}),
    ("mkv", "libsvtav1", "libopus", {}),
    ("avi", "libx264", "libmp3lame", {"bframes": 2}),
    ("avi", "mjpeg", "pcm_s16le", {}),
    ("ts", "libx264", "ac3", {"bframes": 2, "container": "mpegts"}),
    ("ts", "mpeg2video", "mp2", {"container": "mpegts"}),
    ("m2ts", "libx265", "ac3", {"container": "mpegts", "options": {"mpegts_m2ts_mode": "1"}}),
    ("flv", "libx264", "aac", {"bframes": 2}),
    ("mpg", "mpeg2video", "mp2", {"container": "mpeg", "bframes": 2}),
    ("3gp", "libx264", "aac", {}),
    ("mxf", "mpeg2video", "pcm_s16le", {}),
    ("nut", "libx264", "eac3", {}),
    ("h264", "libx264", None, {}),
    ("h264", "libx264", None, {"bframes": 2}),
    ("hevc", "libx265", None, {"bframes": 2}),
    ("gif", "gif", None, {"fps": 25}),
]


def decode(units):
    decoder = VideoDecoder(16, 16)
    return [frame for unit in units if unit.is_video for frame in decoder.decode(unit)] + decoder.flush()


def numbers(frames):
    return [read_index(frame.to_ndarray(format="gray")).index for frame in frames]


@pytest.mark.parametrize(("suffix", "codec", "sound", "options"), FORMATS, ids=str)
def test_every_picture_of_a_file_comes_out_once_and_in_time(tmp_path, suffix, codec, sound, options):
    path = tmp_path / f"clip.{suffix}"
    write_clip(path, codec, (sound,) if sound else (), **options)
    with MediaFile(path) as file:
        units = list(file.units())
        assert file.missing == 0
    fps = options.get("fps", FPS)
    frames = decode(units)
    assert numbers(frames) == list(range(fps))
    # Matroska, FLV and their like count milliseconds.
    assert [frame.pts for frame in frames] == pytest.approx(
        [FIRST_PTS + n * CLOCK_HZ / fps for n in range(fps)], abs=90
    )
    if sound:
        heard = [unit.pts for unit in units if not unit.is_video]
        assert heard[-1] - heard[0] == pytest.approx(CLOCK_HZ, abs=CLOCK_HZ / 12)
        assert heard[0] == pytest.approx(FIRST_PTS, abs=CLOCK_HZ / 20), "sound begins with the picture"


def test_a_variable_frame_rate_stays_as_it_is(tmp_path):
    times = [0, 40, 50, 200, 1000, 1033, 3000]
    write_clip(tmp_path / "phone.mp4", times=times)
    with MediaFile(tmp_path / "phone.mp4") as file:
        frames = decode(file.units())
    assert [frame.pts - FIRST_PTS for frame in frames] == pytest.approx([time * 90 for time in times], abs=2)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_how_a_phone_was_held_is_told_in_the_stream(tmp_path, codec, degrees):
    write_clip(tmp_path / "phone.mov", codec, degrees=degrees)
    with MediaFile(tmp_path / "phone.mov") as file:
        frames = decode(file.units())
    assert len(frames) == FPS
    assert {orientation_of(frame).degrees for frame in frames} == {degrees}


def test_what_is_transcoded_is_turned_upright(tmp_path):
    write_clip(tmp_path / "phone.mov", "prores_ks", degrees=90)
    with MediaFile(tmp_path / "phone.mov") as file:
        frames = decode(file.units())
    assert {(frame.width, frame.height) for frame in frames} == {(HEIGHT, WIDTH)}
    turned_back = [np.rot90(frame.to_ndarray(format="gray"), -1) for frame in frames]
    assert [read_index(np.ascontiguousarray(picture)).index for picture in turned_back] == list(range(FPS))


def test_of_several_sounds_the_default_one_is_taken(tmp_path):
    write_clip(tmp_path / "film.mkv", sounds=("libopus", "aac"))
    with MediaFile(tmp_path / "film.mkv") as file:
        assert file.info.audio is Codec.AAC
        assert {unit.codec for unit in file.units()} == {Codec.H264, Codec.AAC}


def test_a_cover_is_no_moving_picture(tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video = output.add_stream("libx264", rate=FPS)
        video.width, video.height = WIDTH, HEIGHT
        output.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
        for _ in range(FPS):
            output.mux(video.encode(av.VideoFrame(WIDTH, HEIGHT, "yuv420p")))
        output.mux(video.encode(None))
    with MediaFile(path) as file:
        frames = decode(file.units())
    assert [(frame.width, frame.height) for frame in frames] == [(WIDTH, HEIGHT)] * FPS


def test_pictures_that_an_edit_list_hides_keep_times_before_the_first(tmp_path):
    """They are decoded, since others refer to them, and not shown: the excerpt begins at FIRST_PTS."""
    path = tmp_path / "cut.mp4"
    write_clip(tmp_path / "whole.mp4", sounds=())
    with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                shift = round(0.2 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, video
                output.mux(packet)
    with MediaFile(path) as file:
        frames = decode(file.units())
    shown = [frame for frame in frames if frame.pts >= FIRST_PTS]
    assert numbers(shown) == list(range(6, FPS))
    assert shown[0].pts == pytest.approx(FIRST_PTS, abs=2)
    assert all(frame.pts > 0 for frame in frames)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv"])
def test_a_file_that_is_cut_off_gives_what_is_there_and_says_what_is_missing(tmp_path, suffix):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    times = [n * 100 for n in range(40)]
    fast = {"movflags": "+faststart"} if suffix == "mp4" else {}
    write_clip(whole, sounds=(), times=times, options=fast)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with MediaFile(cut) as file:
        frames = decode(file.units())
        missing = file.missing
    assert 5 < len(frames) < 40
    assert numbers(frames) == list(range(len(frames)))
    assert missing / 9000 == pytest.approx(40 - len(frames), abs=2)


def test_an_index_that_is_cut_off_is_named(tmp_path):
    write_clip(tmp_path / "clip.mp4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes((tmp_path / "clip.mp4").read_bytes()[:-3000])
    with pytest.raises(MediaFileError, match="or its index is cut off"):
        MediaFile(cut)


def test_an_encrypted_file_is_named(tmp_path):
    locked = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "01" * 16, "encryption_kid": "02" * 16}
    write_clip(tmp_path / "locked.mp4", sounds=(), options=locked)
    with MediaFile(tmp_path / "locked.mp4") as file, pytest.raises(MediaFileError, match="is encrypted"):
        list(file.units())


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "webm", "h264"])
def test_reading_from_a_time_on_begins_with_the_key_picture_before_it(tmp_path, suffix):
    """With a key picture every half second, 2.2 s needs the one at 2 s, or an earlier one."""
    path = tmp_path / f"long.{suffix}"
    codec = "libvpx" if suffix == "webm" else "libx264"
    times = [round(n * 1000 / FPS) for n in range(4 * FPS)]
    container = {"ts": "mpegts"}.get(suffix)
    if suffix == "h264":
        write_clip(path, codec, (), fps=FPS)
        first = FIRST_PTS + CLOCK_HZ * 7 // 10
    else:
        write_clip(path, codec, (), times=times, container=container)
        first = FIRST_PTS + CLOCK_HZ * 22 // 10
    with MediaFile(path, first_pts=first) as file:
        frames = decode(file.units())
    shown = [frame for frame in frames if frame.pts >= first]
    expected = round((first - FIRST_PTS) * FPS / CLOCK_HZ)
    assert numbers(shown) == list(range(expected, FPS if suffix == "h264" else 4 * FPS))
    if suffix in ("mp4", "mkv"):
        assert len(frames) - len(shown) < FPS, "it did not read from the start"
