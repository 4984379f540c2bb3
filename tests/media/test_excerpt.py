import pytest

from pipeline.media.excerpt import FIRST_PTS, MAX_INTERLEAVING, WHOLE, excerpt
from pipeline.media.file_source import TsFileSource
from pipeline.media.pattern import write_pattern


def test_an_excerpt_holds_what_begins_in_it():
    part = excerpt(1.5, 2)
    first, end = FIRST_PTS + 135_000, FIRST_PTS + 315_000
    assert [part.holds(pts) for pts in (first - 1, first, end - 1, end)] == [False, True, True, False]
    assert not part.is_past(end)
    assert part.is_past(end + MAX_INTERLEAVING)
    assert WHOLE.holds(FIRST_PTS + 10**9)


@pytest.mark.parametrize(
    ("start", "duration", "of_file", "length"),
    [(0, None, 900, 900), (0, None, None, None), (1, 2, None, 180_000), (1, 9, 180_000, 90_000), (3, 9, 180_000, 0)],
)
def test_its_length_is_what_the_file_has_of_it(start, duration, of_file, length):
    assert excerpt(start, duration).length(of_file) == length


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_pattern(path, 192, 108, seconds=6, container="mp4", bframes=2)
    return path


def test_a_source_gives_the_segments_that_an_excerpt_needs(clip, demux):
    part = excerpt(2.4, 1)
    source = TsFileSource(clip, excerpt=part)
    units = demux(b"".join(chunk.data for chunk in source)).video
    assert source.length == 90_000
    assert units[0].key
    assert units[0].pts <= part.first < units[0].pts + 90_000, "from the key picture before it on"
    shown = sorted(unit.pts for unit in units if part.holds(unit.pts))
    assert len(shown) == 30
    assert units[-1].dts < part.end + 2 * MAX_INTERLEAVING


def test_its_segments_have_the_same_numbers_when_read_again(clip):
    part = excerpt(2.4, None)
    whole = [(chunk.segment_index, len(chunk.data)) for chunk in TsFileSource(clip, excerpt=part)]
    later = [(chunk.segment_index, len(chunk.data)) for chunk in TsFileSource(clip, excerpt=part, start_segment=2)]
    assert later == [chunk for chunk in whole if chunk[0] >= 2]
