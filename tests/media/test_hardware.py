"""Which codec is chosen where the graphics card's opens, and where it does not. Only tests marked gpu need a card."""

import os

import av
import numpy as np
import pytest

from pipeline.media.access_unit import AccessUnit, Codec
from pipeline.media.decoder import VideoDecoder
from pipeline.media.encoder import VideoEncoder
from pipeline.media.errors import EncoderError
from pipeline.media.h264_codec import NVENC, X264, H264Settings, open_codec
from pipeline.media.hardware import ENCODERS, open_decoder, open_encoder
from pipeline.media.pattern import Picture, read_index
from pipeline.topology_values import card_of

SETTINGS = H264Settings(30, "superfast", 500_000, None, 1, {})
CARD = pytest.mark.skipif(not os.path.exists("/dev/nvidia0"), reason="needs an NVIDIA card")


def x264(_codec):
    return open_codec(X264, 128, 128, SETTINGS)


def refusing(*codecs):
    """What opens a codec on a machine that has none of these."""

    def open_one(codec):
        if codec in codecs:
            raise EncoderError(f"{codec} is not here")
        return x264(codec)

    return open_one


def test_the_first_that_opens_is_taken_and_no_other_is_tried():
    opened = open_encoder((NVENC, X264), refusing(X264))
    assert (opened.codec, opened.refused) == (NVENC, "")


def test_what_was_refused_before_is_said():
    opened = open_encoder((NVENC, X264), refusing(NVENC))
    assert (opened.codec, opened.refused) == (X264, "h264_nvenc is not here")


def test_when_none_opens_the_last_one_says_why():
    with pytest.raises(EncoderError, match="libx264 is not here"):
        open_encoder((NVENC, X264), refusing(NVENC, X264))


def test_auto_prefers_the_card_and_a_named_codec_comes_first():
    assert ENCODERS == {"auto": (NVENC, X264), NVENC: (NVENC, X264), X264: (X264,)}


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="is about machines without a card")
@pytest.mark.parametrize("codec", ["auto", NVENC])
@pytest.mark.parametrize("quality", [{"bitrate": 500_000}, {"crf": 20}], ids=str)
def test_without_a_card_x264_does_the_work_and_the_reason_is_named(codec, quality):
    encoder = VideoEncoder(128, 128, 30, codec=codec, **quality)
    assert encoder.codec == X264
    assert encoder.refused.startswith("encoder 'h264_nvenc' refused 128x128 ")
    assert "\n" not in encoder.refused
    (unit,) = encoder.encode(Picture(128, 128).frame(0), 0)
    assert unit.key


def test_x264_alone_was_refused_nothing():
    assert VideoEncoder(128, 128, 30).refused == ""


def test_what_nvenc_is_told_this_ffmpeg_knows():
    context = av.CodecContext.create(NVENC, "w")
    presets = {choice.name for option in context.supported_options.private for choice in option.choices}
    assert {f"p{n}" for n in range(1, 7)} <= presets


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="is about machines without a card")
@pytest.mark.parametrize("settings", [SETTINGS, H264Settings(30, "medium", None, 20, 1, {})], ids=["bitrate", "crf"])
def test_without_a_card_nvenc_is_refused_at_its_opening_and_not_for_an_option_that_it_does_not_have(settings):
    with pytest.raises(EncoderError, match=r"refused 128x128 .*Operation not permitted"):
        open_codec(NVENC, 128, 128, settings)


def test_the_card_is_the_one_that_the_topology_names():
    assert [card_of(device) for device in ("auto", "cuda:0", "cuda:3", "cpu")] == [0, 0, 3, None]


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="is about machines without a card")
def test_without_a_card_pictures_are_decoded_all_the_same_and_it_is_said_why():
    (unit,) = VideoEncoder(128, 128, 30).encode(Picture(128, 128).frame(7), 0)
    decoder = VideoDecoder(128, 128, card=0)
    frames = decoder.decode(AccessUnit(Codec.H264, unit.pts, unit.dts, unit.data, unit.key)) + decoder.flush()
    assert [read_index(frame.to_ndarray(format="gray")).index for frame in frames] == [7]
    assert "NVDEC" in decoder.card_refused


def test_a_decoder_on_the_cpu_is_not_refused_anything():
    opened = open_decoder("h264", None)
    assert opened.refused == ""
    assert not opened.context.is_hwaccel


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="is about machines without a card")
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_without_a_card_the_cpu_decodes_and_the_reason_is_named(codec):
    opened = open_decoder(codec, 0)
    assert opened.refused.startswith("NVDEC of card 0 does not open: ")
    assert not opened.context.is_hwaccel


@CARD
@pytest.mark.gpu
def test_nvenc_gives_each_picture_at_once():
    try:
        open_codec(NVENC, 256, 256, SETTINGS)
    except EncoderError as refusal:
        pytest.skip(str(refusal))  # Cards without NVENC: H100, A100.
    encoder = VideoEncoder(256, 256, 30, codec=NVENC, bitrate=500_000)
    picture = Picture(256, 256)
    decoder = VideoDecoder(256, 256)
    seen = []
    for number in range(60):
        (unit,) = encoder.encode(picture.frame(number), number * 3000)
        assert unit.key == (number % 30 == 0)
        seen += decoder.decode(AccessUnit(Codec.H264, unit.pts, unit.dts, unit.data, unit.key))
    assert [read_index(frame.to_ndarray(format="gray")).index for frame in seen] == list(range(60))


@CARD
@pytest.mark.gpu
def test_nvdec_gives_each_picture_at_once():
    encoder, picture = VideoEncoder(256, 256, 30), Picture(256, 256)
    decoder = VideoDecoder(256, 256, card=0)
    slot = np.empty((256, 256, 3), np.uint8)
    for number in range(60):
        (unit,) = encoder.encode(picture.frame(number), number * 3000)
        (frame,) = decoder.decode(AccessUnit(Codec.H264, unit.pts, unit.dts, unit.data, unit.key))
        decoder.scale_into(frame, slot)
        assert read_index(slot).index == number
    assert decoder.card_refused == ""
