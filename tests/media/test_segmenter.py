import pytest

from pipeline.media.access_unit import CLOCK_HZ, Codec
from pipeline.media.segmenter import MAX_AUDIO_HOLD, MAX_HELD_AUDIO, Segmenter
from pipeline.media.ts_mux import TsMuxer

FRAME = CLOCK_HZ // 30


@pytest.fixture
def segmenter(sink):
    return Segmenter(TsMuxer(audio=Codec.AAC), sink)


def audio_times(demux, segments):
    return [unit.pts for unit in demux(b"".join(segments)).audio]


def test_a_segment_begins_at_each_key_picture(segmenter, sink, demux):
    for number in range(7):
        segmenter.video(b"p%d" % number, number * FRAME, number * FRAME, key=number % 3 == 0)
    segmenter.close()
    assert segmenter.segments == 3
    assert [len(demux(segment).video) for segment in sink.segments] == [3, 3, 1]
    assert not sink.open


def test_pictures_before_the_first_key_picture_are_counted_and_lost(segmenter, sink):
    segmenter.video(b"p", 0, 0, key=False)
    assert sink.segments == []
    assert segmenter.video_dropped == 1


def test_audio_waits_for_the_video_of_its_time(segmenter, sink, demux):
    segmenter.video(b"p", 0, 0, key=True)
    segmenter.audio(b"a", FRAME)
    assert audio_times(demux, sink.segments) == []
    segmenter.video(b"p", FRAME, FRAME, key=False)
    assert audio_times(demux, sink.segments) == [FRAME]


def test_late_audio_is_written_at_once(segmenter, sink, demux):
    segmenter.video(b"p", 10 * FRAME, 10 * FRAME, key=True)
    segmenter.audio(b"a", FRAME)
    assert audio_times(demux, sink.segments) == [FRAME]


def test_audio_runs_on_when_the_video_stalls(segmenter, sink, demux):
    segmenter.video(b"p", 0, 0, key=True)
    for tick in range(0, 3 * MAX_AUDIO_HOLD, 1920):
        segmenter.audio(b"a", tick)
    written = audio_times(demux, sink.segments)
    assert written[-1] == pytest.approx(2 * MAX_AUDIO_HOLD, abs=2 * 1920)


def test_audio_before_the_first_segment_is_kept_for_the_hold_time_only(segmenter, sink, demux):
    for tick in range(0, 5 * CLOCK_HZ, 1920):
        segmenter.audio(b"a", tick)
    segmenter.video(b"p", 5 * CLOCK_HZ, 5 * CLOCK_HZ, key=True)
    written = audio_times(demux, sink.segments)
    assert written[0] >= 4 * CLOCK_HZ - 1920
    assert segmenter.audio_dropped + len(written) == len(range(0, 5 * CLOCK_HZ, 1920))


def test_held_audio_is_bounded_whatever_its_times(segmenter):
    segmenter.video(b"p", 0, 0, key=True)
    for _ in range(3 * MAX_HELD_AUDIO):
        segmenter.audio(b"a", FRAME)
    assert len(segmenter._held) == MAX_HELD_AUDIO
    assert segmenter.audio_dropped == 2 * MAX_HELD_AUDIO


def test_close_writes_the_audio_that_waits_and_the_stream_can_go_on(segmenter, sink, demux):
    segmenter.video(b"p", 0, 0, key=True)
    segmenter.audio(b"a", 5 * FRAME)
    segmenter.close()
    segmenter.close()
    segmenter.video(b"p", 6 * FRAME, 6 * FRAME, key=True)
    segmenter.close()
    assert audio_times(demux, sink.segments) == [5 * FRAME]
    assert len(sink.segments) == 2


def test_a_file_keeps_the_sound_that_waits_for_its_first_picture(sink, demux):
    segmenter = Segmenter(TsMuxer(audio=Codec.AAC), sink, gives_up_audio=False)
    times = [n * CLOCK_HZ // 20 for n in range(2 * MAX_HELD_AUDIO)]
    for pts in times:
        segmenter.audio(b"sound", pts)
    segmenter.video(b"p", 0, 0, key=True)
    segmenter.close()
    assert audio_times(demux, sink.segments) == times
    assert segmenter.audio_dropped == 0
