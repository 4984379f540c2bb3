"""The demuxer under damage made by design: whatever comes, it neither fails nor grows, and how the bytes are cut into
calls changes nothing."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.media import ts_demux
from pipeline.media.access_unit import Codec
from pipeline.media.decoder import VideoDecoder
from pipeline.media.psi import ElementaryStream, pat_payload, pmt_payload
from pipeline.media.ts_demux import PACKET_BYTES, TsDemuxer

MAX_PES = 20_000
STREAMS = 2
PIDS = st.sampled_from([0, 1, 0x100, 0x101, 0x1000, 0x1FFF])
CODECS = st.sampled_from(Codec)


def forged_table(table, pids, codecs, version, counter):
    """A PAT or PMT whose checksum is right and whose contents are not."""
    if table == "pat":
        pid, payload = 0, pat_payload(pids[0])
    else:
        streams = [ElementaryStream(pid, codec) for pid, codec in zip(pids, codecs, strict=True)]
        pid, payload = 0x1000, pmt_payload(streams, pids[0], version)
    return bytes((0x47, 0x40 | pid >> 8, pid & 0xFF, 0x10 | counter)) + payload


forged = st.builds(
    forged_table,
    st.sampled_from(["pat", "pmt"]),
    st.lists(PIDS, min_size=3, max_size=3),
    st.lists(CODECS, min_size=3, max_size=3),
    st.integers(0, 31),
    st.integers(0, 15),
)
where = st.integers(0, 10_000)
damage = st.one_of(
    st.tuples(st.just("flip"), where, st.integers(0, 8 * PACKET_BYTES - 1)),
    st.tuples(st.just("drop"), where, st.integers(1, 20)),
    st.tuples(st.just("repeat"), where, st.integers(1, 3)),
    st.tuples(st.just("move"), where, where),
    st.tuples(st.just("cut"), where, st.integers(0, PACKET_BYTES - 1)),
    st.tuples(st.just("length"), where, st.integers(0, 0xFFFF)),
    st.tuples(st.just("header"), where, st.integers(0, 0xFF)),
    st.tuples(st.just("adaptation"), where, st.integers(0, 0xFF)),
    st.tuples(st.just("insert"), where, forged | st.binary(max_size=400)),
)


def damaged(ts, damages):
    packets = [ts[at : at + PACKET_BYTES] for at in range(0, len(ts), PACKET_BYTES)]
    for kind, place, what in damages:
        if not packets:
            break
        at = place % len(packets)
        packet = bytearray(packets[at])
        if kind == "flip" and what // 8 < len(packet):
            packet[what // 8] ^= 1 << what % 8
            packets[at] = bytes(packet)
        elif kind == "drop":
            del packets[at : at + what]
        elif kind == "repeat":
            packets[at:at] = [packets[at]] * what
        elif kind == "move":
            packets.insert(what % len(packets), packets.pop(at))
        elif kind == "cut":
            packets[at] = packets[at][:what]
        elif kind == "insert":
            packets.insert(at, what)
        else:
            packets[at] = lying(packet, kind, what)
    return b"".join(packets)


def lying(packet, kind, value):
    """The packet, or the PES header in it, with a wrong length field."""
    at = packet.find(b"\0\0\1\xe0")
    if kind == "adaptation" and len(packet) > 5:
        packet[3] |= 0x20
        packet[4] = value
    elif kind == "length" and 0 <= at < len(packet) - 6:
        packet[at + 4 : at + 6] = value.to_bytes(2, "big")
    elif kind == "header" and 0 <= at < len(packet) - 9:
        packet[at + 8] = value
    return bytes(packet)


def fed(data, sizes):
    """All units, fed in calls of these sizes in turn, with the bound on what is held kept throughout."""
    demuxer, units, at, turn = TsDemuxer(), [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        units += demuxer.feed(data[at : at + size])
        assert demuxer.bytes_held <= STREAMS * (MAX_PES + PACKET_BYTES) + 2 * PACKET_BYTES
        at, turn = at + size, turn + 1
    units += demuxer.flush()
    assert demuxer.bytes_held == 0
    return units


@pytest.fixture(scope="module")
def sources(pattern):
    options = ({}, {"bframes": 2}, {"audio": "opus"}, {"codec": "libx265"})
    return [pattern(width=96, height=64, seconds=1, **each) for each in options]


@pytest.fixture(autouse=True)
def low_bound(monkeypatch):
    monkeypatch.setattr(ts_demux, "MAX_PES_BYTES", MAX_PES)


survives = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@survives
@given(
    st.integers(0, 3),
    st.lists(damage, max_size=15),
    st.lists(st.integers(1, 3 * PACKET_BYTES), min_size=1, max_size=4),
)
def test_the_same_units_come_out_however_the_bytes_are_cut(sources, number, damages, sizes):
    data = damaged(sources[number], damages)
    assert fed(data, sizes) == fed(data, [len(data) or 1])


@survives
@given(st.lists(forged | st.binary(max_size=600), max_size=40), st.integers(1, 1000))
def test_forged_tables_and_noise_are_survived_and_a_true_stream_is_found_behind_them(sources, parts, size):
    data = b"".join(parts)
    demuxer = TsDemuxer()
    for at in range(0, len(data), size):
        demuxer.feed(data[at : at + size])
    demuxer.discontinuity()
    # Its tables come with each key picture: after the first half they have come again.
    units = demuxer.feed(sources[0] * 2) + demuxer.flush()
    assert sum(unit.is_video for unit in units) >= 30


@survives
@given(st.integers(0, 3), st.lists(damage, min_size=1, max_size=15))
def test_the_decoder_shows_no_more_pictures_than_came_in(sources, number, damages):
    decoder, shown, taken = VideoDecoder(16, 16), 0, 0
    for unit in fed(damaged(sources[number], damages), [1316]):
        if unit.is_video:
            taken += 1
            shown += len(decoder.decode(unit))
    shown += len(decoder.flush())
    assert shown + decoder.skipped <= taken + 1
