"""Real H.264 and HEVC of every shape and colour, encoded without loss, through decoder and scaler: a card of known
colours comes out within 2 of 255."""

from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.media.access_unit import CLOCK_HZ, AccessUnit, Codec
from pipeline.media.decoder import VideoDecoder
from pipeline.media.orientation import Orientation, with_orientation
from pipeline.media.scaler import Fit, FrameScaler

LIMITED, FULL = 1, 2
BT601, BT709, BT2020 = 6, 1, 9
# H.273 number: Kr and Kb of the matrix (BT.709-6 3.2, BT.601-7 2.5.1, BT.2020-2 table 4).
WEIGHTS = {BT709: (0.2126, 0.0722), BT601: (0.299, 0.114), BT2020: (0.2627, 0.0593)}
# What x264 and x265 call them.
NAMES = {BT709: "bt709", BT601: "smpte170m", BT2020: "bt2020nc"}
QUADRANTS = ((220, 30, 40), (20, 200, 60), (30, 60, 230), (240, 220, 30))  # top left, top right, bottom left and right
TARGET = 96
PQ, HLG = 16, 18


def card(width, height, pix_fmt, matrix=BT709, color_range=LIMITED, quadrants=QUADRANTS):
    """Four colours as a frame of that format, computed in floating point."""
    frame = av.VideoFrame(width, height, pix_fmt)
    depth = 10 if "10" in pix_fmt else 8
    rgb = np.zeros((height, width, 3))
    for number, colour in enumerate(quadrants):
        rows = slice(0, height // 2) if number < 2 else slice(height // 2, height)
        columns = slice(0, width // 2) if number % 2 == 0 else slice(width // 2, width)
        rgb[rows, columns] = np.array(colour) / 255
    for plane, values in zip(frame.planes, _yuv(rgb, matrix, color_range, depth), strict=False):
        dtype = np.uint16 if depth > 8 else np.uint8
        rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        step = round(height / plane.height), round(width / plane.width)
        rows[:, : plane.width] = values[:: step[0], :: step[1]][: plane.height, : plane.width]
    frame.colorspace, frame.color_range = matrix, color_range
    return frame


def _yuv(rgb, matrix, color_range, depth):
    red_weight, blue_weight = WEIGHTS[matrix]
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    chroma = [(blue - luma) / (2 * (1 - blue_weight)), (red - luma) / (2 * (1 - red_weight))]
    scale = 1 << depth - 8
    if color_range == LIMITED:
        return [np.rint(scale * (16 + 219 * luma)), *(np.rint(scale * (128 + 224 * each)) for each in chroma)]
    top = (1 << depth) - 1
    return [np.rint(top * luma), *(np.clip(np.rint(128 * scale + top * each), 0, top) for each in chroma)]


def encode(frames, codec=Codec.H264, sample_aspect=None, options=(), color_trc=None):
    """Access units, without loss, each frame decodable by itself or from those before it."""
    first = frames[0]
    library = "libx264" if codec is Codec.H264 else "libx265"
    encoder = av.CodecContext.create(library, "w")
    encoder.width, encoder.height, encoder.pix_fmt = first.width, first.height, first.format.name
    encoder.time_base, encoder.framerate = Fraction(1, CLOCK_HZ), Fraction(25)
    if sample_aspect is not None:
        encoder.sample_aspect_ratio = sample_aspect
    encoder.colorspace, encoder.color_range = int(first.colorspace), int(first.color_range)
    if color_trc is not None:
        encoder.color_trc, encoder.color_primaries = color_trc, BT2020
    lossless = {"qp": "0"} if codec is Codec.H264 else {"x265-params": "lossless=1:log-level=none"}
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", **lossless, **dict(options)}
    packets = []
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number * CLOCK_HZ // 25, Fraction(1, CLOCK_HZ)
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return [AccessUnit(codec, packet.pts, packet.dts, bytes(packet), packet.is_keyframe) for packet in packets]


def shown(units, fit=Fit.STRETCH, width=TARGET, height=TARGET):
    """The pictures as uint8 [n, height, width, 3]."""
    decoder, pictures = VideoDecoder(width, height, fit), []
    for unit in units:
        for frame in decoder.decode(unit):
            pictures.append(np.full((height, width, 3), 77, np.uint8))
            decoder.scale_into(frame, pictures[-1])
    assert decoder.flush() == []
    assert (decoder.decode_errors, decoder.skipped) == (0, 0)
    return np.stack(pictures)


def corners(picture):
    """Mean colour of the middle of each quadrant: top left, top right, bottom left and right."""
    height, width = picture.shape[:2]
    middles = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [picture[y - 4 : y + 4, x - 4 : x + 4].reshape(-1, 3).mean(axis=0) for y, x in middles]


def assert_colours(picture, quadrants=QUADRANTS, within=2.0):
    for found, wanted in zip(corners(picture), quadrants, strict=True):
        assert np.abs(found - wanted).max() <= within, (found, wanted)


@pytest.mark.parametrize("color_range", [LIMITED, FULL], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", WEIGHTS, ids=NAMES.get)
@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        (Codec.H264, "yuv420p"),
        (Codec.H264, "yuv444p"),
        (Codec.H264, "yuv422p10le"),
        (Codec.HEVC, "yuv420p10le"),
    ],
    ids=str,
)
def test_colours_are_those_that_were_encoded(codec, pix_fmt, matrix, color_range):
    assert_colours(shown(encode([card(256, 192, pix_fmt, matrix, color_range)], codec))[0])


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        (Codec.H264, "yuv422p"),
        (Codec.H264, "yuv420p10le"),
        (Codec.H264, "yuv444p10le"),
        (Codec.HEVC, "yuv420p"),
        (Codec.HEVC, "yuv422p"),
        (Codec.HEVC, "yuv444p10le"),
    ],
    ids=str,
)
def test_other_formats_keep_their_colours(codec, pix_fmt):
    assert_colours(shown(encode([card(256, 192, pix_fmt)], codec))[0])


@pytest.mark.parametrize(("size", "matrix"), [((640, 480), BT601), ((1280, 720), BT709)], ids=str)
def test_without_a_matrix_hd_means_709_and_sd_means_601(size, matrix):
    frame = card(*size, "yuv420p", matrix)
    frame.colorspace, frame.color_range = 2, 0
    assert_colours(shown(encode([frame]))[0])


def test_rgb_and_grey_are_taken_as_they_are():
    rgb = av.VideoFrame.from_ndarray(np.full((64, 64, 3), (200, 80, 30), np.uint8), "rgb24").reformat(format="gbrp")
    grey = av.VideoFrame.from_ndarray(np.full((64, 64), 128, np.uint8), "gray")  # Of full range, to FFmpeg.
    for frame, colour in ((rgb, (200, 80, 30)), (grey, (128, 128, 128))):
        slot = np.empty((TARGET, TARGET, 3), np.uint8)
        FrameScaler(TARGET, TARGET).scale_into(frame, slot)
        assert np.abs(slot.astype(int) - colour).max() <= 2


@pytest.mark.parametrize("size", [(853, 479), (641, 361), (1, 1), (3, 2), (17, 9)], ids=str)
def test_odd_sizes_come_out_whole(size):
    pictures = shown(encode([card(*size, "yuv444p")]))
    assert pictures.shape == (1, TARGET, TARGET, 3)
    if min(size) > 100:
        assert_colours(pictures[0])


@pytest.mark.parametrize("codec", [Codec.H264, Codec.HEVC])
@pytest.mark.parametrize("flip", [False, True], ids=["", "mirrored"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_picture_that_lies_on_its_side_is_shown_upright(degrees, flip, codec):
    """H.264 D.1.27: mirrored first, then turned against the clock. It is said once and holds for those that follow."""
    units = encode([card(256, 192, "yuv420p") for _ in range(3)], codec)
    units[0] = with_orientation(units[0], Orientation(degrees, flip))
    upright = np.array(QUADRANTS).reshape(2, 2, 3)
    upright = np.rot90(upright[:, ::-1] if flip else upright, degrees // 90)
    pictures = shown(units)
    assert len(pictures) == 3
    for picture in pictures:
        assert_colours(picture, upright.reshape(4, 3))


def test_a_picture_is_turned_before_it_is_fitted():
    units = [with_orientation(unit, Orientation(90)) for unit in encode([card(256, 128, "yuv420p")])]
    picture = shown(units, Fit.PAD)[0]
    assert (picture[:, :24] == 0).all()
    assert (picture[:, -24:] == 0).all()
    assert picture[:, 26:-26].reshape(-1, 3).max(axis=1).min() > 100


def test_an_orientation_ends_with_the_next_key_picture():
    turned = with_orientation(encode([card(256, 192, "yuv420p")])[0], Orientation(180))
    upright = encode([card(256, 192, "yuv420p")])[0]
    decoder, slot = VideoDecoder(TARGET, TARGET, Fit.STRETCH), np.empty((TARGET, TARGET, 3), np.uint8)
    for unit, wanted in ((turned, QUADRANTS[::-1]), (upright, QUADRANTS)):
        for frame in decoder.decode(unit):
            decoder.scale_into(frame, slot)
            assert_colours(slot, wanted)


@pytest.mark.parametrize("codec", [Codec.H264, Codec.HEVC])
def test_oblong_pixels_are_shown_in_their_true_proportions(codec):
    """720x576 with pixels of 64:45 is 16:9: padded to a square, it leaves bars of 7/32 of the height."""
    picture = shown(encode([card(720, 576, "yuv420p")], codec, Fraction(64, 45)), Fit.PAD)[0]
    bar = TARGET * 7 // 32
    assert (picture[:bar] == 0).all()
    assert (picture[-bar:] == 0).all()
    assert picture[bar + 2 : -bar - 2].reshape(-1, 3).max(axis=1).min() > 100


@pytest.mark.parametrize("aspect", [Fraction(1000, 1), Fraction(1, 1000)], ids=str)
def test_pixels_of_an_absurd_shape_are_taken_as_square(aspect):
    picture = shown(encode([card(256, 256, "yuv420p")], sample_aspect=aspect), Fit.PAD)[0]
    assert picture.reshape(-1, 3).max(axis=1).min() > 100


def interlaced(width, height, count, options):
    """A white bar that moves 16 pixels a field."""
    frames = []
    for number in range(count):
        frame = card(width, height, "yuv420p", quadrants=((40, 40, 40),) * 4)
        rows = np.frombuffer(frame.planes[0], np.uint8).reshape(height, -1)
        for field in (0, 1):
            at = 16 * (2 * number + field)
            rows[field::2, at : at + 64] = 235
        frames.append(frame)
    return encode(frames, options={"flags": "+ildct+ilme", "x264-params": options}.items())


@pytest.mark.parametrize("options", ["tff=1", "bff=1"])
def test_interlaced_pictures_come_out_at_once_and_without_combs(options):
    decoder = VideoDecoder(480, 270, Fit.STRETCH)
    slot = np.empty((270, 480, 3), np.uint8)
    last = -1
    for number, unit in enumerate(interlaced(480, 270 + 2, 10, options)):
        (frame,) = decoder.decode(unit)
        assert frame.interlaced_frame
        decoder.scale_into(frame, slot)
        left_edges = (slot[10:-10, :, 0] > 140).argmax(axis=1)
        assert np.ptp(left_edges) <= 2  # A comb would be 16 pixels deep.
        assert left_edges[0] // 16 in (2 * number, 2 * number + 1)
        assert left_edges[0] > last
        last = left_edges[0]


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_high_dynamic_range_is_shown_as_it_is_coded(transfer):
    """It is not mapped to what displays show, and it does not hold up the stream."""
    assert_colours(shown(encode([card(256, 192, "yuv420p10le", BT2020)], Codec.HEVC, color_trc=transfer))[0])
