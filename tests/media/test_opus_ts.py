import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.opus_ts import has_control_header, opus_ticks, split_opus, wrap_opus


@given(st.lists(st.binary(min_size=1, max_size=1300), max_size=5))
def test_packets_come_back(packets):
    assert list(split_opus(b"".join(wrap_opus(packet) for packet in packets))) == packets


@given(st.binary(max_size=100))
def test_any_bytes_are_survived(data):
    assert all(packet in data for packet in split_opus(data))


def test_trims_and_extension_are_stepped_over():
    payload = b"\x7f\xfc\x02" + b"\0\1" + b"\0\2" + b"\x03abc" + b"hi"
    assert list(split_opus(payload)) == [b"hi"]


def test_a_bare_packet_has_no_control_header():
    assert has_control_header(wrap_opus(b"abc"))
    assert not has_control_header(b"\x78\x01\x02")


@pytest.mark.parametrize(
    ("packet", "milliseconds"),
    [
        (b"\x00", 10),  # SILK, narrowband
        (b"\x18", 60),
        (b"\x68", 20),  # hybrid
        (b"\xe0", 2.5),  # CELT
        (b"\xf8", 20),
        (b"\xf9", 40),  # two frames
        (b"\xfb\x03", 60),  # three frames
        (b"", 0),
    ],
)
def test_durations_are_those_of_rfc_6716(packet, milliseconds):
    assert opus_ticks(packet) == milliseconds * 90
