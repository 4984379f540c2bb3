"""The file that egress writes: whole whatever its writer dies of, at the end in the container that was asked for."""

import av
import pytest

from pipeline.media.access_unit import Codec
from pipeline.media.container_file import ContainerFile
from pipeline.media.errors import MediaFileError
from pipeline.media.file_kinds import growing_file
from pipeline.media.segmenter import Segmenter
from pipeline.media.ts_mux import TsMuxer
from pipeline.media.ts_tail import read_tail
from pipeline.media.verify import verify_recording


def write(path, units, audio=Codec.AAC, **options):
    """Write units as egress does; returns the file, closed, and the sizes that were noted."""
    noted = []
    with ContainerFile(str(path), noted.append, **options) as file:
        segmenter = Segmenter(TsMuxer(audio=audio, audio_channels=1), file)
        for unit in units:
            if unit.is_video and not file.tail.has_picture(unit.pts):
                segmenter.video(unit.data, unit.pts, unit.dts, unit.key)
            elif not unit.is_video and not file.tail.has_sound(unit.pts):
                segmenter.audio(unit.data, unit.pts)
        segmenter.close()
    return file, noted


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
@pytest.mark.parametrize("audio", ["aac", "opus", None])
def test_a_finished_file_holds_every_picture_and_the_sound_in_time(pattern, demux, tmp_path, suffix, audio):
    path = tmp_path / f"out.{suffix}"
    file, _ = write(path, demux(pattern(audio=audio)).all, Codec(audio) if audio else None)
    file.finish()
    report = verify_recording(path, 30)
    assert (report.frames, report.missing, report.out_of_order, report.unreadable) == (120, 0, 0, 0)
    if audio:
        assert report.beeps == 3
        assert report.max_audio_offset_ms < 2
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == bool(audio)
        assert container.duration / av.time_base == pytest.approx(4, abs=1 / 30)
        if suffix != "ts":
            assert next(container.decode(video=0)).pts == 0


def test_an_mp4_begins_with_its_index_and_says_its_colours(pattern, demux, tmp_path):
    file, _ = write(tmp_path / "out.mp4", demux(pattern(seconds=1)).all)
    file.finish()
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace == 1  # BT.709, as the pattern has it


def test_the_file_appears_under_its_name_only_when_it_is_whole(pattern, demux, tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"of a run before")
    file, _ = write(path, demux(pattern(seconds=1)).all)
    assert path.read_bytes() == b"of a run before"
    file.finish()
    assert verify_recording(path, 30).frames == 30
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.mp4", "out.mp4.part.ts"]


def test_without_a_picture_there_is_no_file(tmp_path):
    file, _ = write(tmp_path / "out.mp4", [])
    file.finish()
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("more", [0, 1, 100, 5000])
def test_a_successor_goes_on_behind_the_bytes_that_were_noted(pattern, demux, tmp_path, more):
    """Its predecessor died in a write, or between a write and the note of it."""
    path = tmp_path / "out.mkv"
    units = demux(pattern()).all
    _, noted = write(path, units[:200])
    whole = noted[120]
    growing = growing_file(path)
    growing.write_bytes(growing.read_bytes()[: whole + more])
    # The encoder of a successor begins with a key picture; those of the pattern stand in for it.
    tail = read_tail(growing, whole)
    key = next(n for n, unit in enumerate(units) if unit.is_video and unit.key and unit.pts > tail.video_pts)
    lost = sum(unit.is_video and unit.pts > tail.video_pts for unit in units[:key])
    file, _ = write(path, units, append=True, whole_bytes=whole)
    file.finish()
    assert file.tail.size == whole
    report = verify_recording(path, 30)
    assert (report.frames, report.duplicates, report.out_of_order) == (120 - lost, 0, 0)


def test_of_a_file_of_which_nothing_is_known_the_last_picture_does_not_count(pattern, demux, tmp_path):
    path = tmp_path / "out.ts"
    units = demux(pattern(seconds=2)).all
    write(path, units)
    last = [unit.pts for unit in units if unit.is_video]
    assert read_tail(path).video_pts == last[-2]
    assert read_tail(path, path.stat().st_size).video_pts == last[-1]
    assert read_tail(path).audio is Codec.AAC
    path.write_bytes(path.read_bytes()[:-700])
    assert read_tail(path).video_pts in last[-4:-1]


@pytest.mark.parametrize("data", [b"", b"no video at all" * 1000])
def test_what_is_no_beginning_of_ours_is_begun_anew(pattern, demux, tmp_path, data):
    path = tmp_path / "out.ts"
    path.write_bytes(data)
    file, _ = write(path, demux(pattern(seconds=1)).all, append=True)
    assert file.tail.video_pts is None
    assert verify_recording(path, 30).frames == 30


def test_sound_that_comes_late_in_the_file_is_kept(pattern, demux, tmp_path):
    units = demux(pattern(seconds=4)).all
    late = [unit for unit in units if unit.is_video or unit.pts > units[0].pts + 3 * 90_000]
    file, _ = write(tmp_path / "out.mp4", late)
    file.finish()
    with av.open(str(tmp_path / "out.mp4")) as container:
        sounds = [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.size]
    assert sounds[0] == pytest.approx(3, abs=0.05)


def test_an_unknown_suffix_and_a_full_disk_are_named(pattern, demux, tmp_path):
    with pytest.raises(ValueError, match=r"no container is named \.xyz; allowed: \.mp4, \.mov, \.mkv, \.ts"):
        ContainerFile(str(tmp_path / "out.xyz"), print)
    (tmp_path / "out.ts").symlink_to("/dev/full")
    with (
        ContainerFile(str(tmp_path / "out.ts"), lambda _: None) as file,
        pytest.raises(MediaFileError, match="No space left on device"),
    ):
        file.write(b"x")
