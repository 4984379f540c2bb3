import hashlib
import io
import random
from itertools import pairwise

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.media import ts_demux
from pipeline.media.access_unit import Codec, Loss, StreamInfo
from pipeline.media.decoder import VideoDecoder
from pipeline.media.opus_ts import split_opus
from pipeline.media.pattern import read_index
from pipeline.media.psi import ElementaryStream, crc32_mpeg, pat_payload, pmt_payload
from pipeline.media.ts_demux import PACKET_BYTES, TsDemuxer
from pipeline.media.ts_mux import PMT_PID, VIDEO_PID, TsMuxer

WRAP = 1 << 33


def packets_of(ts):
    return [ts[at : at + PACKET_BYTES] for at in range(0, len(ts), PACKET_BYTES)]


def pid_of(packet):
    return (packet[1] & 0x1F) << 8 | packet[2]


def own_decode(units):
    decoder = VideoDecoder(16, 16)
    frames = [frame for unit in units for frame in decoder.decode(unit)]
    return [*frames, *decoder.flush()]


def shown_indices(units, size=180):
    """(index by the timestamp, index read from the picture or None) of each picture that the decoder shows."""
    frames = own_decode(units)
    first = units[0].pts
    pairs = []
    for frame in frames:
        reading = read_index(frame.to_ndarray(format="gray"))
        pairs.append((round((frame.pts - first) / 3000), reading.index if reading else None))
    return pairs


@pytest.mark.parametrize("chunk", [1, 7, 187, 188, 189, 1316, 4095, 65537])
def test_units_do_not_depend_on_how_the_bytes_are_cut(pattern, demux, chunk):
    ts = pattern(seconds=1)
    assert demux(ts, chunk).all == demux(ts, len(ts)).all


@pytest.mark.parametrize("options", [{}, {"bframes": 2}, {"codec": "libx265", "seconds": 1}], ids=str)
def test_pictures_are_those_that_libavformat_finds(pattern, demux, decoded_by_libavformat, options):
    ts = pattern(**options)
    ours = [(frame.pts, frame.to_ndarray().tobytes()) for frame in own_decode(demux(ts).video)]
    assert ours == decoded_by_libavformat(ts)


def test_aac_payload_is_what_libavformat_finds(pattern, demux):
    ts = pattern(audio="aac")
    with av.open(io.BytesIO(ts), format="mpegts") as container:
        reference = b"".join(bytes(packet) for packet in container.demux(audio=0))
    ours = b"".join(unit.data for unit in demux(ts).audio)
    assert hashlib.md5(ours).hexdigest() == hashlib.md5(reference).hexdigest()


def test_opus_payload_is_what_libavformat_finds(pattern, demux):
    ts = pattern(audio="opus")
    with av.open(io.BytesIO(ts), format="mpegts") as container:
        reference = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    ours = [packet for unit in demux(ts).audio for packet in split_opus(unit.data)]
    assert ours == reference


def test_streams_tells_what_the_map_announced(pattern, demux):
    assert demux(pattern(audio="opus")).demuxer.streams == StreamInfo(Codec.H264, Codec.OPUS, 1)
    assert demux(pattern(audio=None, seconds=1)).demuxer.streams == StreamInfo(Codec.H264, None)
    assert TsDemuxer().streams is None


def test_only_key_pictures_are_called_so(pattern, demux):
    for options in ({}, {"bframes": 2}, {"codec": "libx265", "seconds": 1}):
        source = demux(pattern(**options))
        assert [number for number, unit in enumerate(source.video) if unit.key] == [
            number for number in range(len(source.video)) if number % 30 == 0
        ]
        assert all(unit.key for unit in source.audio)


def test_unsupported_streams_are_named_and_passed_over():
    table = pmt_payload([ElementaryStream(0x50, Codec.AAC)], 0x50, 0)
    # stream_type 0x02 is MPEG-2 video: the section is written anew with its CRC.
    section = bytearray(table[1 : 22 - 4])
    section[12] = 0x02
    section += crc32_mpeg(bytes(section)).to_bytes(4, "big")
    demuxer = TsDemuxer()
    demuxer.feed(table_packet(0, pat_payload(PMT_PID)))
    demuxer.feed(table_packet(PMT_PID, (b"\0" + bytes(section)).ljust(184, b"\xff")))
    assert demuxer.streams == StreamInfo(unsupported=(0x02,))


def table_packet(pid, payload):
    return bytes((0x47, 0x40 | pid >> 8, pid & 0xFF, 0x10)) + payload


def test_a_unit_with_a_length_is_given_by_the_packet_that_ends_it(pattern, demux):
    source = demux(pattern(audio=None))
    muxer, demuxer = TsMuxer(), TsDemuxer()
    demuxer.feed(muxer.psi())
    for unit in source.video:
        assert [got.pts for got in demuxer.feed(muxer.video(unit.data, unit.pts, unit.dts, unit.key))] == [unit.pts]


def test_without_lengths_the_end_is_known_from_the_stuffing(pattern):
    """libavformat writes video PES without a length: an open unit waits for the next one only at first."""
    demuxer = TsDemuxer()
    waited = given = 0
    for packet in packets_of(pattern(width=640, height=360, audio=None)):
        units = demuxer.feed(packet)
        given += len(units)
        waited += len(units) if packet[1] & 0x40 else 0
    assert given >= 119
    assert waited <= 3 + given // 60  # one in 184 ends exactly with its packet


def test_a_muxer_that_stuffs_inside_a_picture_loses_nothing(pattern, demux):
    """Each packet's payload is halved and stuffed, so stuffing tells nothing."""
    ts = pattern(audio=None, seconds=1)
    halved, counter = [], 0
    for packet in packets_of(ts):
        if pid_of(packet) != VIDEO_PID:
            halved.append(packet)
            continue
        payload_at = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
        payload = packet[payload_at:]
        for part, begins in ((payload[: len(payload) // 2], packet[1] & 0x40), (payload[len(payload) // 2 :], 0)):
            pad = 184 - len(part)
            field = bytes((pad - 1, 0)) + b"\xff" * (pad - 2)
            head = bytes((0x47, (packet[1] & 0x1F) | begins, packet[2], 0x30 | counter))
            halved.append(head + field + part)
            counter = (counter + 1) & 15
    got, reference = demux(b"".join(halved)).video, demux(ts).video
    assert len(got) == len(reference)
    assert [unit.data for unit in got] == [unit.data for unit in reference]


def test_dropped_packets_show_no_broken_picture(pattern, demux):
    rng = random.Random(5)
    ts = pattern(width=640, height=360, audio=None)
    first_second = len(ts) // 4
    kept = [p for n, p in enumerate(packets_of(ts)) if n * PACKET_BYTES < first_second or rng.random() > 0.004]
    source = demux(b"".join(kept))
    pairs = shown_indices(source.video)
    assert source.demuxer.continuity_errors > 0
    assert 30 <= len(pairs) < 120
    assert all(expected == read for expected, read in pairs)


def test_missing_bytes_are_reported_and_the_stream_found_again(pattern, demux):
    ts = pattern(audio=None)
    cut = len(ts) // 2
    source = demux(ts[:cut] + ts[cut + 1003 :])
    assert [unit.loss for unit in source.video].count(Loss.NONE) < len(source.video)
    assert source.demuxer.resyncs >= 1
    pairs = shown_indices(source.video)
    assert pairs[-1] == (119, 119)
    assert all(expected == read for expected, read in pairs)


def test_garbage_in_front_and_in_between_is_skipped(pattern, demux):
    ts = pattern(audio=None)
    noise = random.Random(1).randbytes(5000)
    cut = PACKET_BYTES * 200
    source = demux(noise + ts[:cut] + noise + ts[cut:])
    assert source.demuxer.streams is not None
    assert shown_indices(source.video)[-1] == (119, 119)


def test_a_stream_joined_in_mid_gop_begins_with_the_next_key_picture(pattern, demux):
    ts = pattern(audio=None)
    psi = b"".join(packets_of(ts)[1:3])
    source = demux(psi + ts[len(ts) // 3 // PACKET_BYTES * PACKET_BYTES :])
    frames = own_decode(source.video)
    indices = [read_index(frame.to_ndarray(format="gray")).index for frame in frames]
    assert indices[0] % 30 == 0
    assert indices == list(range(indices[0], 120))


def test_a_change_of_resolution_goes_through(pattern, demux):
    source = demux(pattern(seconds=1, audio=None) + pattern(seconds=1, audio=None, width=640, height=360))
    sizes = [(frame.width, frame.height) for frame in own_decode(source.video)]
    assert sizes == [(320, 180)] * 30 + [(640, 360)] * 30


def test_timestamps_rise_across_the_33_bit_wrap(pattern, demux):
    source = demux(pattern(ts_offset=WRAP / 90000 - 3.4))
    times = [unit.pts for unit in source.video]
    assert times[0] < WRAP < times[-1]
    assert [after - before for before, after in pairwise(times)] == [3000] * 119
    assert all(abs(unit.pts - times[0]) < 5 * 90000 for unit in source.audio)


def test_duplicate_packets_are_ignored(pattern, demux):
    ts = pattern(seconds=1)
    doubled = b"".join(packet * 2 if pid_of(packet) == VIDEO_PID else packet for packet in packets_of(ts))
    assert demux(doubled).video == demux(ts).video


def test_a_packet_flagged_as_damaged_marks_its_unit(pattern, demux):
    packets = packets_of(pattern(audio=None, seconds=1))
    inside = next(n for n, p in enumerate(packets) if n > 20 and pid_of(p) == VIDEO_PID and not p[1] & 0x40)
    packets[inside] = bytes((0x47, packets[inside][1] | 0x80)) + packets[inside][2:]
    source = demux(b"".join(packets))
    assert source.demuxer.transport_errors == 1
    assert [unit.loss for unit in source.video].count(Loss.INSIDE) == 1


def test_a_picture_whose_end_is_missing_is_damaged_and_the_next_one_whole(pattern, demux):
    packets = packets_of(pattern(width=640, height=360, audio=None, seconds=1))
    starts = [n for n, p in enumerate(packets) if pid_of(p) == VIDEO_PID and p[1] & 0x40]
    last_of_second = max(n for n in range(starts[1], starts[2]) if pid_of(packets[n]) == VIDEO_PID)
    del packets[last_of_second]
    losses = [unit.loss for unit in demux(b"".join(packets)).video]
    assert losses[:4] == [Loss.NONE, Loss.INSIDE, Loss.BEFORE, Loss.NONE]


def test_a_discontinuity_marks_the_unit_that_follows(pattern, demux):
    units = demux(pattern(audio=None)).video
    muxer, demuxer = TsMuxer(), TsDemuxer()
    demuxer.feed(muxer.psi())
    first, second, third = (muxer.video(unit.data, unit.pts, unit.dts, unit.key) for unit in units[:3])
    assert [unit.loss for unit in demuxer.feed(first)] == [Loss.NONE]
    demuxer.discontinuity()
    assert [unit.loss for unit in demuxer.feed(second)] == [Loss.BEFORE]
    assert [unit.loss for unit in demuxer.feed(third)] == [Loss.NONE]


def test_bytes_that_are_no_mpeg_ts_are_counted(pattern):
    demuxer = TsDemuxer()
    assert demuxer.feed(b"<html>not video</html>" * 1000) == []
    assert demuxer.bytes_unrecognized == 22_000
    demuxer.feed(pattern(seconds=1))
    assert demuxer.bytes_unrecognized == 0


def test_a_new_map_replaces_the_streams():
    demuxer = TsDemuxer()
    muxer = TsMuxer(audio=Codec.AAC)
    demuxer.feed(muxer.psi())
    muxer.set_audio(Codec.OPUS, 1)
    demuxer.feed(muxer.psi())
    assert demuxer.streams == StreamInfo(Codec.H264, Codec.OPUS, 1)


def test_a_unit_that_never_ends_is_dropped_at_the_bound(monkeypatch):
    monkeypatch.setattr(ts_demux, "MAX_PES_BYTES", 100_000)
    muxer, demuxer = TsMuxer(), TsDemuxer()
    demuxer.feed(muxer.psi())
    units = demuxer.feed(muxer.video(b"\0\0\0\1\x65" + b"\xaa" * 200_000, 0, 0, True) + muxer.video(b"x", 1, 1))
    assert demuxer.oversized == 1
    assert [(unit.pts, unit.loss) for unit in units] == [(1, Loss.BEFORE)]


def test_a_missing_time_is_guessed_from_the_step_before():
    muxer, demuxer = TsMuxer(), TsDemuxer()
    demuxer.feed(muxer.psi())
    demuxer.feed(muxer.video(b"a", 1000) + muxer.video(b"b", 4000))
    packet = bytearray(muxer.video(b"c", 7000))
    at = packet.index(b"\0\0\1\xe0")
    packet[at + 7] = 0  # no PTS
    assert [unit.pts for unit in demuxer.feed(bytes(packet))] == [7000]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_length_too_short_for_its_own_header_is_damage(length):
    muxer, demuxer = TsMuxer(), TsDemuxer()
    demuxer.feed(muxer.psi() + muxer.video(b"a", 1000) + muxer.video(b"b", 4000))
    packet = bytearray(muxer.video(b"c", 7000))
    at = packet.index(b"\0\0\1\xe0")
    packet[at + 4 : at + 6] = length.to_bytes(2, "big")
    assert all(not unit.data.endswith(b"c") for unit in demuxer.feed(bytes(packet)))
    (after,) = demuxer.feed(muxer.video(b"d", 10_000))
    assert after.data.endswith(b"d")


def test_a_table_that_claims_to_be_a_stream_is_still_read():
    demuxer, muxer = TsDemuxer(), TsMuxer()
    demuxer.feed(table_packet(0, pat_payload(PMT_PID)))
    forged = [ElementaryStream(0, Codec.H264), ElementaryStream(PMT_PID, Codec.AAC)]
    demuxer.feed(table_packet(PMT_PID, pmt_payload(forged, 0, 1)))
    demuxer.feed(muxer.psi())
    assert [unit.pts for unit in demuxer.feed(muxer.video(b"a", 1000))] == [1000]


def test_the_map_of_a_programme_that_comes_back_is_taken_again():
    """The same map on the same PID, after another programme in between."""
    demuxer = TsDemuxer()
    first = table_packet(0, pat_payload(0x100)) + table_packet(
        0x100, pmt_payload([ElementaryStream(0x200, Codec.H264)], 0x200, 0)
    )
    other = table_packet(0, pat_payload(0x101)) + table_packet(
        0x101, pmt_payload([ElementaryStream(0x201, Codec.HEVC)], 0x201, 0)
    )
    demuxer.feed(first + other)
    assert demuxer.streams == StreamInfo(Codec.HEVC)
    demuxer.feed(first)
    assert demuxer.streams == StreamInfo(Codec.H264)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=4000), st.integers(1, 400))
def test_any_bytes_are_survived(data, chunk):
    demuxer = TsDemuxer()
    for start in range(0, len(data), chunk):
        demuxer.feed(data[start : start + chunk])
        assert len(demuxer._tail) <= PACKET_BYTES
    demuxer.flush()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 0.999), st.sampled_from(["flip", "drop", "insert"])), min_size=1, max_size=12),
    st.integers(1, 3000),
)
def test_any_damage_is_survived_by_demuxer_and_decoder(pattern, damage, chunk):
    data = bytearray(pattern(seconds=1))
    for where, kind in damage:
        at = int(where * len(data))
        if kind == "flip":
            data[at] ^= 0xFF
        elif kind == "drop":
            del data[at : at + 300]
        else:
            data[at:at] = b"\x47\x1f\xff" * 50
    demuxer, decoder = TsDemuxer(), VideoDecoder(16, 16)
    pictures = seen = 0
    for start in range(0, len(data), chunk):
        for unit in demuxer.feed(bytes(data[start : start + chunk])):
            if unit.is_video:
                seen += 1
                pictures += len(decoder.decode(unit))
        assert len(demuxer._tail) <= PACKET_BYTES
    assert pictures + decoder.skipped <= seen + 1
