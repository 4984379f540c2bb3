"""AAC between its two dresses: bare frames with one AudioSpecificConfig (MP4), or ADTS frames (MPEG-TS)."""

from collections.abc import Iterator

import msgspec

SAMPLES_PER_FRAME = 1024
_HEADER_BYTES = 7
_MAX_FRAME_BYTES = 0x1FFF
# ISO 14496-3 table 1.18, by sampling_frequency_index.
SAMPLE_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
# ISO 14496-3 table 1.17: SBR and PS, each followed by the object type beneath; ADTS names only that one.
_EXTENSION_TYPES = (5, 29)
_MAX_ADTS_OBJECT_TYPE = 4


class AacConfig(msgspec.Struct, frozen=True):
    object_type: int
    rate_index: int
    channels: int

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATES[self.rate_index]


def parse_audio_specific_config(config: bytes) -> AacConfig | None:
    """Read an AudioSpecificConfig (ISO 14496-3 1.6.2.1); None if ADTS has no way to say the same."""
    if len(config) < 2:
        return None
    bits = int.from_bytes(config[:5].ljust(5, b"\0"), "big")
    object_type, rate_index, channels = bits >> 35, bits >> 31 & 15, bits >> 27 & 15
    if object_type in _EXTENSION_TYPES:
        # The extension's own rate index follows, then the object type of the core.
        if bits >> 23 & 15 == 15:
            return None
        object_type = bits >> 18 & 31
    if not 1 <= object_type <= _MAX_ADTS_OBJECT_TYPE or rate_index >= len(SAMPLE_RATES) or not 1 <= channels <= 7:
        return None
    return AacConfig(object_type, rate_index, channels)


def wrap_adts(config: AacConfig, frame: bytes) -> bytes:
    """One bare AAC frame with a header in front (ISO 14496-3 1.A.2.2). Raises ValueError past 8 KiB."""
    length = len(frame) + _HEADER_BYTES
    if length > _MAX_FRAME_BYTES:
        raise ValueError(f"AAC frame of {len(frame)} bytes does not fit ADTS")
    header = bytes(
        (
            0xFF,
            0xF1,
            (config.object_type - 1) << 6 | config.rate_index << 2 | config.channels >> 2,
            (config.channels & 3) << 6 | length >> 11,
            length >> 3 & 0xFF,
            (length & 7) << 5 | 0x1F,
            0xFC,
        )
    )
    return header + frame


def adts_config(payload: bytes) -> AacConfig | None:
    """What the ADTS header at the start of `payload` says; None if there is none."""
    if len(payload) < _HEADER_BYTES or payload[0] != 0xFF or payload[1] & 0xF6 != 0xF0:
        return None
    rate_index = payload[2] >> 2 & 15
    if rate_index >= len(SAMPLE_RATES):
        return None
    return AacConfig((payload[2] >> 6) + 1, rate_index, (payload[2] & 1) << 2 | payload[3] >> 6)


def split_adts(payload: bytes) -> Iterator[bytes]:
    """The ADTS frames of a PES payload, headers included; what is cut or damaged at its end is left out."""
    at = 0
    while adts_config(payload[at : at + _HEADER_BYTES]) is not None:
        length = (payload[at + 3] & 3) << 11 | payload[at + 4] << 3 | payload[at + 5] >> 5
        if length < _HEADER_BYTES or at + length > len(payload):
            return
        yield payload[at : at + length]
        at += length
