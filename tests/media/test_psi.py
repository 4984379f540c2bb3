import pytest

from pipeline.media.access_unit import Codec, StreamInfo
from pipeline.media.psi import (
    ElementaryStream,
    crc32_mpeg,
    parse_pat,
    parse_pmt,
    pat_payload,
    pmt_payload,
    section_of,
)


def packet(payload):
    return b"\x47\x50\x00\x10" + payload


def test_crc_of_the_check_string_is_that_of_the_catalogue():
    assert crc32_mpeg(b"123456789") == 0x0376E6E7


def test_a_pat_is_read_back():
    assert parse_pat(section_of(packet(pat_payload(0x1ABC)))) == 0x1ABC


@pytest.mark.parametrize(("audio", "channels"), [(None, 2), (Codec.AAC, 2), (Codec.OPUS, 1), (Codec.OPUS, 2)], ids=str)
@pytest.mark.parametrize("video", [Codec.H264, Codec.HEVC])
def test_a_map_is_read_back(video, audio, channels):
    streams = [ElementaryStream(0x100, video)]
    if audio:
        streams.append(ElementaryStream(0x101, audio, channels))
    program = parse_pmt(section_of(packet(pmt_payload(streams, 0x100, 3))))
    assert program.info == StreamInfo(video, audio, channels)
    assert program.codecs == {stream.pid: stream.codec for stream in streams}


def test_a_damaged_table_is_refused():
    payload = bytearray(pmt_payload([ElementaryStream(0x100, Codec.H264)], 0x100, 0))
    payload[15] ^= 1
    assert parse_pmt(section_of(packet(bytes(payload)))) is None


def test_the_first_stream_of_a_kind_is_taken():
    streams = [ElementaryStream(pid, Codec.AAC) for pid in (0x200, 0x201)]
    assert parse_pmt(section_of(packet(pmt_payload(streams, 0x200, 0)))).codecs == {0x200: Codec.AAC}


def test_a_section_that_does_not_fit_its_packet_is_ignored():
    payload = bytearray(pat_payload(0x100))
    payload[2], payload[3] = 0xBF, 0xFF
    assert section_of(packet(bytes(payload))) == b""
