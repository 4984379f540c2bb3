from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.scaler import Fit, FrameScaler, lay_out

LIMITED, FULL = 1, 2
# AVColorSpace number: Kr and Kb of the matrix (BT.709-6 3.2, BT.601-7 2.5.1, BT.2020-2 table 4).
MATRICES = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
CARDS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 80, 30)]
SIZES = [(1, 1), (3, 5), (641, 361), (2, 4000), (4000, 2), (7680, 4320)]
TARGETS = [(1, 1), (7, 9), (512, 512), (1920, 1080)]


def yuv_frame(width, height, pix_fmt, planes, colorspace=2, color_range=0):
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, value in zip(frame.planes, planes, strict=True):
        np.frombuffer(plane, np.uint8)[:] = value
    frame.colorspace, frame.color_range = colorspace, color_range
    frame.pts, frame.time_base = 0, Fraction(1, 90000)
    return frame


def yuv_of(rgb, matrix, color_range):
    red_weight, blue_weight = MATRICES[matrix]
    red, green, blue = (value / 255 for value in rgb)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    chroma_blue = (blue - luma) / (2 * (1 - blue_weight))
    chroma_red = (red - luma) / (2 * (1 - red_weight))
    luma_span, chroma_span, black = (219, 224, 16) if color_range == LIMITED else (255, 255, 0)
    values = (black + luma_span * luma, 128 + chroma_span * chroma_blue, 128 + chroma_span * chroma_red)
    return [min(255, max(0, round(value))) for value in values]


def scaled(frame, width, height, fit=Fit.CROP):
    slot = np.full((height, width, 3), 77, np.uint8)
    FrameScaler(width, height, fit).scale_into(frame, slot)
    return slot


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", MATRICES)
def test_flat_colours_come_out_within_2_of_255(matrix, color_range, pix_fmt):
    for card in CARDS:
        frame = yuv_frame(640, 360, pix_fmt, yuv_of(card, matrix, color_range), matrix, color_range)
        assert np.abs(scaled(frame, 64, 48).astype(int) - card).max() <= 2


@pytest.mark.parametrize(("height", "matrix"), [(480, 6), (720, 1)])
def test_without_a_matrix_hd_means_709_and_sd_means_601(height, matrix):
    frame = yuv_frame(640, height, "yuv420p", yuv_of((255, 0, 0), matrix, LIMITED))
    assert np.abs(scaled(frame, 64, 48).astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_grey_picture_of_any_size_fills_any_target(size, target, fit):
    out = scaled(yuv_frame(*size, "yuv420p", (128, 128, 128)), *target, fit)
    picture = np.abs(out.astype(int) - 130) <= 2
    if fit is Fit.PAD:
        assert (picture | (out == 0)).all()
        assert picture.any()
    else:
        assert picture.all()


def half_and_half(width, height):
    """Left half black, right half white."""
    frame = yuv_frame(width, height, "yuv420p", (16, 128, 128))
    rows = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)
    rows[:, width // 2 : width] = 235
    return frame


def test_crop_keeps_the_centre():
    out = scaled(half_and_half(640, 360), 100, 100, Fit.CROP)
    assert out[:, :45].max() <= 5
    assert out[:, 55:].min() >= 250


def test_pad_shows_all_between_black_bars_even_in_a_used_slot():
    frame = yuv_frame(640, 320, "yuv420p", (235, 128, 128))
    slot = np.full((100, 100, 3), 77, np.uint8)
    FrameScaler(100, 100, Fit.PAD).scale_into(frame, slot)
    assert (slot[:25] == 0).all()
    assert (slot[75:] == 0).all()
    assert slot[25:75].min() >= 250


def test_stretch_uses_the_whole_picture():
    out = scaled(half_and_half(640, 100), 100, 100, Fit.STRETCH)
    assert out[:, :48].max() <= 5
    assert out[:, 52:].min() >= 250


def test_the_graph_is_rebuilt_only_when_the_input_changes():
    scaler, slot = FrameScaler(32, 32), np.empty((32, 32, 3), np.uint8)
    for size in ((64, 64), (64, 64), (128, 64), (128, 64)):
        scaler.scale_into(yuv_frame(*size, "yuv420p", (128, 128, 128)), slot)
    scaler.scale_into(yuv_frame(128, 64, "yuv420p", (128, 128, 128), colorspace=1), slot)
    assert scaler.rebuilds == 3


def test_a_slot_of_the_wrong_shape_is_refused():
    frame = yuv_frame(64, 64, "yuv420p", (128, 128, 128))
    scaler = FrameScaler(32, 16)
    for slot in (
        np.empty((32, 16, 3), np.uint8),
        np.empty((16, 32, 3), np.float32),
        np.empty((16, 64, 3), np.uint8)[:, ::2],
    ):
        with pytest.raises(ValueError, match="wanted contiguous uint8"):
            scaler.scale_into(frame, slot)


def test_a_size_below_1_and_an_unknown_fit_are_refused():
    with pytest.raises(ValueError, match="0x5"):
        FrameScaler(0, 5)
    with pytest.raises(ValueError, match="zoom"):
        FrameScaler(5, 5, "zoom")


lengths = st.integers(1, 8192)


@given(lengths, lengths, lengths, lengths, st.sampled_from(Fit))
def test_nothing_sticks_out_of_source_or_target(width, height, to_width, to_height, fit):
    layout = lay_out(width, height, Fraction(1), to_width, to_height, fit)
    assert layout.crop_width >= 1
    assert layout.crop_height >= 1
    assert layout.width >= 1
    assert layout.height >= 1
    assert 0 <= layout.crop_x <= width - layout.crop_width
    assert 0 <= layout.crop_y <= height - layout.crop_height
    assert 0 <= layout.x <= to_width - layout.width
    assert 0 <= layout.y <= to_height - layout.height
