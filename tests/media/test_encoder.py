import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from pipeline.media.access_unit import CLOCK_HZ, AccessUnit, Codec
from pipeline.media.decoder import VideoDecoder
from pipeline.media.encoder import VideoEncoder
from pipeline.media.errors import EncoderError
from pipeline.media.pattern import Picture, read_index

FRAME = 3000


@pytest.fixture
def picture():
    return Picture(128, 128)


def encode_all(encoder, picture, count, step=FRAME):
    units = []
    for number in range(count):
        got = encoder.encode(picture.frame(number), number * step)
        assert [unit.pts for unit in got] == [number * step]
        units += got
    return units


def keys(units):
    return [unit.pts for unit in units if unit.key]


def decoded(units):
    decoder = VideoDecoder(128, 128)
    frames = [f for u in units for f in decoder.decode(AccessUnit(Codec.H264, u.pts, u.dts, u.data, u.key))]
    return frames + decoder.flush()


@pytest.mark.parametrize("options", [{}, {"threads": 3}, {"bitrate": 300_000}, {"preset": "veryfast"}], ids=str)
def test_each_picture_comes_out_of_the_call_that_took_it(picture, options):
    encoder = VideoEncoder(128, 128, 30, **options)
    units = encode_all(encoder, picture, 40)
    assert encoder.flush() == []
    assert all(unit.dts == unit.pts for unit in units)
    assert [read_index(frame.to_ndarray(format="gray")).index for frame in decoded(units)] == list(range(40))


def test_a_key_picture_comes_every_gop_of_time_and_not_of_pictures(picture):
    units = encode_all(VideoEncoder(128, 128, 30, gop_seconds=0.5), picture, 20, step=15_000)
    assert keys(units) == list(range(0, 300_000, 45_000))


def test_a_key_picture_comes_when_asked_for(picture):
    encoder = VideoEncoder(128, 128, 30, gop_seconds=100)
    units = []
    for number in range(20):
        if number in (7, 13):
            encoder.request_keyframe()
        units += encoder.encode(picture.frame(number), number * FRAME)
    assert keys(units) == [0, 7 * FRAME, 13 * FRAME]


def test_a_scene_cut_is_no_key_picture():
    rng = np.random.default_rng(1)
    encoder = VideoEncoder(128, 128, 30, gop_seconds=100)
    units = []
    for number in range(12):
        units += encoder.encode(rng.integers(0, 255, (128, 128, 3), np.uint8), number * FRAME)
    assert keys(units) == [0]


def test_every_key_picture_can_be_decoded_alone(picture):
    units = encode_all(VideoEncoder(128, 128, 30, gop_seconds=0.2), picture, 20)
    for unit in (unit for unit in units if unit.key):
        assert b"\0\0\0\1\x67" in unit.data
        assert len(decoded([unit])) == 1


CARDS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (255, 255, 255), (0, 0, 0)]
CARDS += [(200, 80, 30), (128, 128, 128), (17, 34, 51), (250, 240, 230)]


@pytest.mark.parametrize("card", CARDS, ids=str)
def test_colours_come_back_through_encoder_and_decoder(card):
    unit = VideoEncoder(64, 64, 30, options={"qp": "1"}).encode(np.full((64, 64, 3), card, np.uint8), 0)
    slot = np.empty((128, 128, 3), np.uint8)
    VideoDecoder(128, 128).scale_into(decoded(unit)[0], slot)
    assert np.abs(slot.astype(int) - card).max() <= 2


def test_the_bitstream_says_its_colours():
    """Read by FFmpeg from the SPS alone: video_signal_type_present and the three codes for BT.709, H.264 E.2.1."""
    (unit,) = VideoEncoder(64, 64, 30).encode(np.zeros((64, 64, 3), np.uint8), 0)
    context = av.CodecContext.create("h264", "r")
    (frame,) = context.decode(av.Packet(unit.data)) or context.decode(None)
    assert frame.color_range == ColorRange.MPEG
    assert frame.colorspace == Colorspace.ITU709
    assert context.color_primaries == ColorPrimaries.BT709
    assert context.color_trc == ColorTrc.BT709


def test_another_size_begins_with_a_key_picture_of_that_size(picture):
    encoder = VideoEncoder(128, 128, 30, gop_seconds=100)
    other = Picture(192, 160)
    units, sizes = [], []
    for number, of in enumerate([picture] * 3 + [other] * 3 + [picture] * 2):
        units += encoder.encode(of.frame(number), number * FRAME)
    units += encoder.repeat(9 * FRAME)
    assert [unit.pts for unit in units] == [number * FRAME for number in (*range(8), 9)]
    assert keys(units) == [0, 3 * FRAME, 6 * FRAME]
    for unit in (unit for unit in units if unit.key):
        assert unit.data.count(b"\0\0\0\1\x67") == 1
    frames = decoded(units)
    sizes = [(frame.width, frame.height) for frame in frames]
    assert sizes == [(128, 128)] * 3 + [(192, 160)] * 3 + [(128, 128)] * 3
    gray = [frame.to_ndarray(format="gray") for frame in frames]
    assert [read_index(image).index for image in gray] == [*range(8), 7]


def test_a_size_that_no_codec_takes_is_refused_and_the_encoder_goes_on(picture):
    encoder = VideoEncoder(128, 128, 30)
    encoder.encode(picture.frame(0), 0)
    with pytest.raises(EncoderError, match="127x128"):
        encoder.encode(np.zeros((128, 127, 3), np.uint8), FRAME)
    (unit,) = encoder.encode(picture.frame(1), 2 * FRAME)
    assert not unit.key


def noise(number):
    """A picture that no bitrate is enough for: so the rate control decides."""
    return np.random.default_rng(number).integers(0, 255, (128, 128, 3), np.uint8)


def bits_of(encoder, first, seconds, fps):
    """Bits of each second of video from picture `first` on."""
    numbers = range(first, first + seconds * fps)
    sizes = [sum(8 * len(u.data) for u in encoder.encode(noise(n), n * CLOCK_HZ // fps)) for n in numbers]
    return [sum(sizes[at : at + fps]) for at in range(0, len(sizes), fps)]


@pytest.mark.parametrize("fps", [12, 24, 30, 60])
def test_the_bitrate_is_kept_at_whatever_rate_pictures_come(fps):
    seconds = bits_of(VideoEncoder(128, 128, 30, bitrate=600_000), 0, 6, fps)
    assert sum(seconds[2:]) / 4 == pytest.approx(600_000, rel=0.2)


def test_another_bitrate_is_taken_up_without_a_key_picture_and_given_back():
    encoder = VideoEncoder(128, 128, 30, bitrate=800_000, gop_seconds=100)
    before = bits_of(encoder, 0, 4, 30)
    encoder.set_bitrate(200_000)
    during = bits_of(encoder, 120, 5, 30)
    encoder.set_bitrate(800_000)
    after = bits_of(encoder, 270, 6, 30)
    assert sum(before[1:]) / 3 == pytest.approx(800_000, rel=0.2)
    assert sum(during[2:]) / 3 == pytest.approx(200_000, rel=0.2)
    assert sum(after[3:]) / 3 == pytest.approx(800_000, rel=0.2)
    (unit,) = encoder.encode(noise(450), 450 * 3000)
    assert not unit.key


def test_a_bitrate_that_was_lowered_stays_so_at_another_size():
    encoder = VideoEncoder(256, 256, 30, bitrate=800_000)
    encoder.set_bitrate(200_000)
    assert sum(bits_of(encoder, 0, 5, 30)[2:]) / 3 == pytest.approx(200_000, rel=0.25)


def test_constant_quality_has_no_bitrate_to_be_changed():
    with pytest.raises(ValueError, match="constant quality"):
        VideoEncoder(128, 128, 30, crf=20).set_bitrate(100_000)


def test_the_bitrate_is_kept(picture):
    units = encode_all(VideoEncoder(128, 128, 30, bitrate=200_000), picture, 150)
    assert sum(len(unit.data) for unit in units) * 8 / 5 == pytest.approx(200_000, rel=0.25)


def test_a_view_of_shared_memory_is_taken_and_left_alone(picture):
    memory = bytearray(2 * 128 * 128 * 3)
    slot = np.frombuffer(memory, np.uint8).reshape(2, 128, 128, 3)[1]
    picture.frame(5, slot)
    before = slot.copy()
    units = VideoEncoder(128, 128, 30).encode(slot, 0)
    assert (slot == before).all()
    slot[:] = 0
    assert read_index(decoded(units)[0].to_ndarray(format="gray")).index == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"codec": "libx999"}, "libx999"),
        ({"preset": "warp"}, "warp"),
        ({"options": {"no_such_option": "1"}}, "no_such_option"),
        ({"width": 127}, "127x128"),
        ({"width": 0}, "0x128"),
        ({"fps_hint": 0}, "fps_hint"),
        ({"bitrate": 1, "crf": 1}, "not both"),
    ],
    ids=str,
)
def test_what_is_refused_is_named(arguments, message):
    with pytest.raises(EncoderError, match=message):
        VideoEncoder(**{"width": 128, "height": 128, "fps_hint": 30, **arguments})


def test_a_time_that_does_not_rise_and_what_is_no_picture_are_refused(picture):
    encoder = VideoEncoder(128, 128, 30)
    encoder.encode(picture.frame(0), 10)
    with pytest.raises(ValueError, match="does not come after"):
        encoder.encode(picture.frame(1), 10)
    with pytest.raises(ValueError, match="wanted"):
        encoder.encode(np.zeros((128, 128), np.uint8), 20)


def test_the_last_picture_can_be_shown_again(picture):
    encoder = VideoEncoder(128, 128, 30, gop_seconds=0.1)
    units = encode_all(encoder, picture, 3)
    for pts in (6001, 6002, 20_000, 23_000):
        units += encoder.repeat(pts)
    units += encoder.encode(picture.frame(3), 26_000)
    assert [unit.pts for unit in units] == [0, 3000, 6000, 6001, 6002, 20_000, 23_000, 26_000]
    assert [read_index(frame.to_ndarray(format="gray")).index for frame in decoded(units)] == [0, 1, 2, 2, 2, 2, 2, 3]
    assert keys(units) == [0, 20_000]


def test_a_picture_that_was_never_shown_cannot_be_repeated(picture):
    encoder = VideoEncoder(128, 128, 30)
    with pytest.raises(ValueError, match="no picture to repeat"):
        encoder.repeat(0)
    encoder.encode(picture.frame(0), 100)
    with pytest.raises(ValueError, match="pts 100 does not come after 100"):
        encoder.repeat(100)
