"""One coded picture or one packet of coded audio, as it travels between demuxer, decoder, muxer and recorder.

It is data only: nothing here parses or produces a container.
"""

import re
from enum import IntEnum, StrEnum

import msgspec

# The system clock of MPEG-2 systems in which every timestamp of this package counts (ISO 13818-1 2.4.2.1).
CLOCK_HZ = 90_000

# H.264 7.4.1: the first coded slice, type 1 (non-IDR) or 5 (IDR), whatever its nal_ref_idc.
_H264_FIRST_SLICE = re.compile(rb"\x00\x00\x01([\x01\x21\x41\x61\x25\x45\x65])")
# H.265 7.4.2.2: the first coded slice segment, nal_unit_type 0..31 in bits 1..6, of the base layer.
_HEVC_FIRST_SLICE = re.compile(rb"\x00\x00\x01([\x00-\x3f])")
# Sequence parameter sets: H.264 7.4.1, type 7; H.265 7.4.2.2, type 33.
_H264_SPS = re.compile(rb"\x00\x00\x01[\x07\x27\x47\x67]")
_HEVC_SPS = re.compile(rb"\x00\x00\x01[\x42\x43]")
_H264_IDR_BYTES = b"\x25\x45\x65"
_HEVC_FIRST_IRAP, _HEVC_LAST_IRAP = 16, 21


class Codec(StrEnum):
    H264 = "h264"
    HEVC = "hevc"
    AAC = "aac"
    OPUS = "opus"

    @property
    def is_video(self) -> bool:
        return self is Codec.H264 or self is Codec.HEVC


class Loss(IntEnum):
    """What the demuxer knows of missing bytes."""

    NONE = 0
    BEFORE = 1  # something is missing in front of this unit, which is itself whole
    INSIDE = 2  # bytes of this unit are missing


class AccessUnit(msgspec.Struct, frozen=True, gc=False):
    """One PES payload: a coded picture in Annex B form, or audio exactly as the PES carries it.

    `pts` and `dts` count 90 kHz ticks, without the 33-bit wrap. Audio is ADTS frames (AAC) or packets with their
    control headers (Opus). `key` says that decoding can begin here; it is always true of audio.
    """

    codec: Codec
    pts: int
    dts: int
    data: bytes
    key: bool
    loss: Loss = Loss.NONE

    @property
    def is_video(self) -> bool:
        return self.codec.is_video


class StreamInfo(msgspec.Struct, frozen=True):
    """What a programme map announced. `unsupported` holds the stream_type values that were passed over."""

    video: Codec | None = None
    audio: Codec | None = None
    audio_channels: int = 2
    unsupported: tuple[int, ...] = ()


def starts_with_random_access(codec: Codec, data: bytes) -> bool:
    """Whether the first slice of an Annex B access unit belongs to a picture that needs no other (IDR, IRAP)."""
    if codec is Codec.H264:
        slice_start = _H264_FIRST_SLICE.search(data)
        return slice_start is not None and slice_start[1] in _H264_IDR_BYTES
    slice_start = _HEVC_FIRST_SLICE.search(data)
    return slice_start is not None and _HEVC_FIRST_IRAP <= slice_start[1][0] >> 1 <= _HEVC_LAST_IRAP


def first_slice(codec: Codec, data: bytes) -> int | None:
    """Where the start code of the first slice of an Annex B access unit is; None if there is no slice."""
    found = (_H264_FIRST_SLICE if codec is Codec.H264 else _HEVC_FIRST_SLICE).search(data)
    return found.start() if found else None


def has_parameter_sets(codec: Codec, data: bytes) -> bool:
    """Whether an Annex B access unit brings the sequence parameter set that decoding it needs."""
    return (_H264_SPS if codec is Codec.H264 else _HEVC_SPS).search(data, 0, first_slice(codec, data) or 0) is not None
