"""Which codec does the work: the graphics card's, where it opens, else the processor's. Opening it is the only probe.

A list of cards would be wrong on both sides: H100 and A100 have NVDEC and no NVENC, consumer cards limit how many
sessions of NVENC may be open, and containers often hide the driver's video libraries.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import av
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext

from pipeline.media.errors import EncoderError
from pipeline.media.h264_codec import NVENC, X264

# What `encoder.codec` may say, and what is tried for it, in this order.
ENCODERS = {"auto": (NVENC, X264), NVENC: (NVENC, X264), X264: (X264,)}

Open = Callable[[str], VideoCodecContext]


class OpenedEncoder(NamedTuple):
    """`refused` says why the ones that were tried before `codec` are not used; empty when it was the first."""

    codec: str
    context: VideoCodecContext
    refused: str


class OpenedDecoder(NamedTuple):
    """`refused` says why the card does not decode; empty when it does, or was not asked to."""

    context: VideoCodecContext
    refused: str


def open_encoder(codecs: Sequence[str], open_one: Open) -> OpenedEncoder:
    """The first of `codecs` that `open_one` opens. Raises EncoderError, that of the last one, if none does."""
    *preferred, last = codecs
    refusals: list[str] = []
    for codec in preferred:
        try:
            return OpenedEncoder(codec, open_one(codec), "; ".join(refusals))
        except EncoderError as error:
            refusals.append(str(error))
    return OpenedEncoder(last, open_one(last), "; ".join(refusals))


def open_decoder(codec: str, card: int | None) -> OpenedDecoder:
    """A decoder for `codec`, "h264" or "hevc": NVDEC of this card if one is named and it opens, else FFmpeg's own.

    NVDEC's pictures come out as NV12 in host memory: PyAV downloads each into a frame of its own. What NVDEC cannot
    decode, such as 4:2:2, FFmpeg decodes on the CPU with the same context.
    """
    if card is None:
        return OpenedDecoder(_decoder(codec, None), "")
    try:
        return OpenedDecoder(_decoder(codec, HWAccel("cuda", str(card))), "")
    except (av.FFmpegError, OSError) as error:
        return OpenedDecoder(_decoder(codec, None), f"NVDEC of card {card} does not open: {error.strerror or error}")


def _decoder(codec: str, accelerator: HWAccel | None) -> VideoCodecContext:
    context = av.CodecContext.create(codec, "r", hwaccel=accelerator)
    assert isinstance(context, VideoCodecContext)
    return context
