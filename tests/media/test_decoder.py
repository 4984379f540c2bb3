import gc
import io

import av
import msgspec
import numpy as np
import pytest

from pipeline.media.access_unit import AccessUnit, Codec, Loss
from pipeline.media.blockcode import read_index
from pipeline.media.decoder import VideoDecoder


def replace(unit, **changes):
    return msgspec.structs.replace(unit, **changes)


def times(frames):
    return [frame.pts for frame in frames]


def test_each_picture_comes_with_its_own_unit(pattern, demux):
    decoder = VideoDecoder(64, 64)
    for unit in demux(pattern()).video:
        assert times(decoder.decode(unit)) == [unit.pts]
    assert (decoder.decode_errors, decoder.skipped) == (0, 0)


def test_pictures_of_a_b_frame_stream_come_in_presentation_order(pattern, demux):
    decoder = VideoDecoder(64, 64)
    units = demux(pattern(bframes=2)).video
    out = [pts for unit in units for pts in times(decoder.decode(unit))] + times(decoder.flush())
    assert out == sorted(unit.pts for unit in units)


def test_hevc_is_decoded_and_a_change_of_codec_starts_anew(pattern, demux):
    decoder = VideoDecoder(64, 64)
    h264 = demux(pattern(seconds=1)).video
    hevc = demux(pattern(seconds=1, codec="libx265")).video
    shown = sum(len(decoder.decode(unit)) for unit in h264)
    shown += len([frame for unit in hevc for frame in decoder.decode(unit)]) + len(decoder.flush())
    assert shown == 60
    assert (decoder.decode_errors, decoder.skipped) == (0, 0)


def test_nothing_is_shown_before_the_first_key_picture(pattern, demux):
    decoder = VideoDecoder(64, 64)
    units = demux(pattern()).video[10:]
    out = [pts for unit in units for pts in times(decoder.decode(unit))]
    assert out[0] == units[20].pts
    assert decoder.skipped == 20


@pytest.mark.parametrize("loss", [Loss.BEFORE, Loss.INSIDE])
def test_after_a_gap_nothing_is_shown_until_the_next_key_picture(pattern, demux, loss):
    decoder = VideoDecoder(64, 64)
    units = demux(pattern()).video
    units[40] = replace(units[40], loss=loss)
    out = [pts for unit in units for pts in times(decoder.decode(unit))]
    assert out == [unit.pts for unit in units[:40] + units[60:]]
    assert decoder.skipped == 20


def test_a_whole_key_picture_after_a_gap_is_shown(pattern, demux):
    decoder = VideoDecoder(64, 64)
    units = demux(pattern()).video
    units[30] = replace(units[30], loss=Loss.BEFORE)
    assert sum(len(decoder.decode(unit)) for unit in units) == 120


def test_a_damaged_key_picture_is_not_shown(pattern, demux):
    decoder = VideoDecoder(64, 64)
    units = demux(pattern()).video
    units[30] = replace(units[30], loss=Loss.INSIDE)
    assert sum(len(decoder.decode(unit)) for unit in units) == 90


def test_a_unit_that_cannot_be_decoded_is_counted_and_waits_for_a_key_picture(pattern, demux):
    decoder = VideoDecoder(64, 64)
    units = demux(pattern()).video
    units[40] = replace(units[40], data=b"\0\0\0\1\x67\xff\xff\xff\0\0\0\1\x61\xff\xff")
    out = [pts for unit in units for pts in times(decoder.decode(unit))]
    assert decoder.decode_errors == 1
    assert out == [unit.pts for unit in units[:40] + units[60:]]


def test_an_empty_unit_is_damage_and_not_the_end(pattern, demux):
    decoder = VideoDecoder(64, 64)
    units = demux(pattern()).video
    units[30] = replace(units[30], data=b"")
    assert sum(len(decoder.decode(unit)) for unit in units) == 90
    assert (decoder.decode_errors, decoder.skipped) == (0, 30)


def test_decoding_can_begin_anew_after_a_flush(pattern, demux):
    decoder = VideoDecoder(64, 64)
    units = demux(pattern(seconds=1)).video
    assert decoder.flush() == []
    for _ in range(2):
        assert sum(len(decoder.decode(unit)) for unit in units) + len(decoder.flush()) == 30


def test_pictures_are_scaled_into_the_slot(pattern, demux, slot):
    decoder = VideoDecoder(128, 128)
    for number, unit in enumerate(demux(pattern(seconds=1)).video):
        for frame in decoder.decode(unit):
            decoder.scale_into(frame, slot)
            assert read_index(slot).index == number


def encoded(width, height, pix_fmt):
    target = io.BytesIO()
    with av.open(target, "w", format="h264") as output:
        stream = output.add_stream("libx264", rate=30, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 128, np.uint8), format="rgb24")
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return target.getvalue()


@pytest.mark.parametrize(
    ("width", "height", "pix_fmt"), [(1, 1, "yuv444p"), (33, 17, "yuv444p"), (7680, 4320, "yuv420p")], ids=str
)
def test_pictures_of_any_size_are_decoded_and_scaled(width, height, pix_fmt, slot):
    decoder = VideoDecoder(128, 128)
    unit = AccessUnit(Codec.H264, 0, 0, encoded(width, height, pix_fmt), True)
    frames = decoder.decode(unit) + decoder.flush()
    assert [(frame.width, frame.height) for frame in frames] == [(width, height)]
    decoder.scale_into(frames[0], slot)
    assert np.abs(slot.astype(int) - 128).max() <= 3


def test_a_picture_larger_than_the_bound_is_an_error_and_not_an_allocation(slot):
    decoder = VideoDecoder(128, 128)
    unit = AccessUnit(Codec.H264, 0, 0, encoded(16384, 2304, "yuv420p"), True)
    assert decoder.decode(unit) + decoder.flush() == []
    assert decoder.decode_errors + decoder.skipped > 0


def test_key_pictures_are_given_back_one_by_one(pattern, demux):
    units = demux(pattern(seconds=8)).video
    decoder = VideoDecoder(64, 64)
    gc.collect()
    gc.disable()  # Nothing else makes the collector run: a decode stage allocates too little for that.
    try:
        before = sum(isinstance(each, av.VideoFrame) for each in gc.get_objects())
        held = []
        for unit in units:
            held = decoder.decode(unit)  # Until the next one is there, as a caller may.
        del held
        kept = sum(isinstance(each, av.VideoFrame) for each in gc.get_objects()) - before
    finally:
        gc.enable()
    assert sum(unit.key for unit in units) >= 8
    assert kept <= 2, "the codec's next one, and the last key picture"
