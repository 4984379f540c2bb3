"""The two tables of MPEG-TS that say which PID carries what: PAT and PMT, read and written.

Both are taken to fit one TS packet, as those of every live stream do.
"""

import msgspec

from pipeline.media.access_unit import Codec, StreamInfo

PAT_PID = 0
_PAT_TABLE = 0x00
_PMT_TABLE = 0x02
_SECTION_HEADER_BYTES = 8
_CRC_BYTES = 4
# A section is padded to the 184 payload bytes of one TS packet.
_PAYLOAD_BYTES = 184

# stream_type of ISO 13818-1 table 2-34.
_STREAM_TYPES = {0x1B: Codec.H264, 0x24: Codec.HEVC, 0x0F: Codec.AAC}
_PRIVATE_PES = 0x06
# ETSI TS 101 154 / Opus in TS: registration_descriptor "Opus", then an extension descriptor with the channel count.
_OPUS_REGISTRATION = b"\x05\x04Opus"
_OPUS_EXTENSION = b"\x7f\x02\x80"


class ProgramMap(msgspec.Struct, frozen=True):
    """PID to codec of the streams that are used, at most one video and one audio."""

    codecs: dict[int, Codec]
    info: StreamInfo


class ElementaryStream(msgspec.Struct, frozen=True):
    """One line of a PMT to be written."""

    pid: int
    codec: Codec
    channels: int = 2


def section_of(packet: bytes) -> bytes:
    """The PSI section that begins in a TS packet of 188 bytes; empty if none does, or if it is cut or corrupt."""
    if not packet[1] & 0x40 or packet[1] & 0x80:
        return b""
    start = 4
    if packet[3] & 0x20:
        start += 1 + packet[4]
    if start >= len(packet):
        return b""
    start += 1 + packet[start]  # pointer_field
    if start + 3 > len(packet):
        return b""
    length = 3 + ((packet[start + 1] & 0x0F) << 8 | packet[start + 2])
    section = packet[start : start + length]
    if len(section) < length or length < _SECTION_HEADER_BYTES + _CRC_BYTES:
        return b""
    return section


def parse_pat(section: bytes) -> int | None:
    """PID of the map of the first programme (ISO 13818-1 2.4.4.3); None if the section is damaged or lists none."""
    if section[0] != _PAT_TABLE or crc32_mpeg(section):
        return None
    for at in range(_SECTION_HEADER_BYTES, len(section) - _CRC_BYTES - 3, 4):
        program_number = section[at] << 8 | section[at + 1]
        if program_number:
            return (section[at + 2] & 0x1F) << 8 | section[at + 3]
    return None


def parse_pmt(section: bytes) -> ProgramMap | None:
    """The streams of a programme (ISO 13818-1 2.4.4.8); None if the section is damaged."""
    if section[0] != _PMT_TABLE or len(section) < 12 + _CRC_BYTES or crc32_mpeg(section):
        return None
    codecs: dict[int, Codec] = {}
    video: Codec | None = None
    audio: Codec | None = None
    channels = 2
    unsupported: list[int] = []
    at = 12 + ((section[10] & 0x0F) << 8 | section[11])
    end = len(section) - _CRC_BYTES
    while at + 5 <= end:
        stream_type = section[at]
        pid = (section[at + 1] & 0x1F) << 8 | section[at + 2]
        descriptors_end = at + 5 + ((section[at + 3] & 0x0F) << 8 | section[at + 4])
        descriptors = section[at + 5 : descriptors_end]
        at = descriptors_end
        codec = _STREAM_TYPES.get(stream_type)
        if stream_type == _PRIVATE_PES and _OPUS_REGISTRATION in descriptors:
            codec = Codec.OPUS
        if codec is None:
            unsupported.append(stream_type)
        elif codec.is_video and video is None:
            video = codecs[pid] = codec
        elif not codec.is_video and audio is None:
            audio = codecs[pid] = codec
            channels = _opus_channels(descriptors) if codec is Codec.OPUS else 2
    return ProgramMap(codecs, StreamInfo(video, audio, channels, tuple(unsupported)))


def pat_payload(pmt_pid: int) -> bytes:
    """184 bytes of TS payload: a PAT with one programme, number 1."""
    return _section_payload(_PAT_TABLE, 0, bytes((0, 1, 0xE0 | pmt_pid >> 8, pmt_pid & 0xFF)))


def pmt_payload(streams: list[ElementaryStream], pcr_pid: int, version: int) -> bytes:
    """184 bytes of TS payload: the PMT of programme 1. `version` counts modulo 32 (2.4.4.9)."""
    body = bytes((0xE0 | pcr_pid >> 8, pcr_pid & 0xFF, 0xF0, 0))
    types = {codec: stream_type for stream_type, codec in _STREAM_TYPES.items()}
    for stream in streams:
        descriptors = b""
        if stream.codec is Codec.OPUS:
            descriptors = _OPUS_REGISTRATION + _OPUS_EXTENSION + bytes((stream.channels,))
        stream_type = types.get(stream.codec, _PRIVATE_PES)
        body += bytes((stream_type, 0xE0 | stream.pid >> 8, stream.pid & 0xFF, 0xF0, len(descriptors))) + descriptors
    return _section_payload(_PMT_TABLE, version, body)


def crc32_mpeg(data: bytes) -> int:
    """CRC-32/MPEG-2 (ISO 13818-1 annex A): 0 over a section that ends with its own CRC."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC_TABLE[crc >> 24 ^ byte]
    return crc


def _section_payload(table: int, version: int, body: bytes) -> bytes:
    length = len(body) + 9
    header = bytes((table, 0xB0 | length >> 8, length & 0xFF, 0, 1, 0xC1 | (version & 31) << 1, 0, 0))
    section = header + body
    section += crc32_mpeg(section).to_bytes(4, "big")
    return (b"\x00" + section).ljust(_PAYLOAD_BYTES, b"\xff")


def _opus_channels(descriptors: bytes) -> int:
    at = descriptors.find(_OPUS_EXTENSION)
    if at < 0 or at + 3 >= len(descriptors):
        return 2
    return descriptors[at + 3] or 2


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
        table.append(crc)
    return table


_CRC_TABLE = _crc_table()
