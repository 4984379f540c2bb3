import io

import av
import numpy as np
import pytest

from pipeline.media.pattern import Picture, read_index, write_pattern


def test_pictures_carry_their_number_and_move():
    picture = Picture(320, 180)
    first, second = picture.frame(7), picture.frame(8)
    assert (read_index(first).index, read_index(second).index) == (7, 8)
    assert np.abs(first.astype(int) - second).mean() > 1


def test_the_file_has_the_asked_for_times_and_numbers():
    target = io.BytesIO()
    count = write_pattern(target, 160, 90, fps=25, seconds=2, start_index=100, ts_offset=10, gop_seconds=0.4)
    with av.open(io.BytesIO(target.getvalue())) as container:
        frames = list(container.decode(video=0))
    assert count == len(frames) == 50
    assert [read_index(frame.to_ndarray(format="gray")).index for frame in frames] == list(range(100, 150))
    assert frames[0].time == pytest.approx(10, abs=0.001)
    assert [n for n, frame in enumerate(frames) if frame.key_frame] == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("audio", ["aac", "opus", None])
def test_the_sound_is_of_the_asked_for_codec(audio):
    target = io.BytesIO()
    write_pattern(target, 160, 90, seconds=1, audio=audio)
    with av.open(io.BytesIO(target.getvalue())) as container:
        assert [stream.codec.canonical_name for stream in container.streams.audio] == ([audio] if audio else [])
