from itertools import groupby

import pytest

from pipeline.media.errors import MediaFileError
from pipeline.media.file_source import TsFileSource
from pipeline.media.pattern import write_pattern


@pytest.fixture
def path(tmp_path, request):
    target = tmp_path / "pattern"
    write_pattern(target, 192, 108, seconds=4, **getattr(request, "param", {}))
    return target


def segments_of(chunks):
    return [b"".join(c.data for c in group) for _, group in groupby(chunks, key=lambda c: c.segment_index)]


def shape(chunks):
    return [(c.segment_index, len(c.data), c.pts_seconds, c.last) for c in chunks]


def test_a_file_becomes_one_segment_a_second_each_ended_once(path, demux):
    chunks = list(TsFileSource(path))
    assert [c.segment_index for c in chunks if c.last] == [0, 1, 2, 3]
    assert [len(demux(segment).video) for segment in segments_of(chunks)] == [30] * 4
    assert demux(b"".join(c.data for c in chunks)).demuxer.continuity_errors == 0


def test_chunks_come_due_in_order_and_in_real_time(path):
    due = [c.pts_seconds for c in TsFileSource(path)]
    assert due == sorted(due)
    assert due[0] == 0
    assert due[-1] == pytest.approx(119 / 30, abs=0.05)


def test_short_gops_are_joined_to_segments_of_the_minimum(tmp_path, demux):
    path = tmp_path / "pattern"
    write_pattern(path, 192, 108, seconds=4, gop_seconds=0.5)
    assert [len(demux(s).video) for s in segments_of(TsFileSource(path, min_segment_seconds=1.4))] == [45, 45, 30]


@pytest.mark.parametrize(
    "path",
    [{}, {"audio": "opus", "bframes": 2}, {"container": "mp4"}, {"container": "matroska", "audio": "opus"}],
    indirect=True,
    ids=str,
)
def test_a_reader_that_starts_later_gets_the_same_chunks(path):
    whole = list(TsFileSource(path))
    later = list(TsFileSource(path, start_segment=2))
    assert shape(later) == [entry for entry in shape(whole) if entry[0] >= 2]


@pytest.mark.parametrize("path", [{"container": "matroska", "codec": "libvpx"}], indirect=True, ids=str)
def test_a_transcoded_file_keeps_its_segment_numbers_too(path, demux):
    whole = segments_of(TsFileSource(path))
    later = list(TsFileSource(path, start_segment=2))
    assert [c.segment_index for c in later if c.last] == [2, 3]
    times = [[unit.pts for unit in demux(segment).video] for segment in segments_of(later)]
    assert times == [[unit.pts for unit in demux(segment).video] for segment in whole[2:]]


def test_a_start_beyond_the_end_gives_nothing(path):
    assert list(TsFileSource(path, start_segment=9)) == []


def test_a_missing_file_is_named_when_the_source_is_made(tmp_path):
    with pytest.raises(MediaFileError, match=r"gone\.mp4: no such file"):
        TsFileSource(tmp_path / "gone.mp4")
