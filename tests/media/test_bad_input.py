"""Damage of every kind, as bytes into the decode stage: it goes on at the next whole key picture, shows nothing broken
and counts what it leaves out. The source has a key picture a second, and its number is burnt into each picture."""

import random
from itertools import pairwise

import pytest

from pipeline.media.access_unit import Codec
from pipeline.media.ts_mux import VIDEO_PID, TsMuxer
from tests.media.decode_stage import CHUNK

PACKET = 188
SECOND = 30
WRAP_SECONDS = (1 << 33) / 90_000


def packets_of(ts):
    return [ts[at : at + PACKET] for at in range(0, len(ts), PACKET)]


def pid_of(packet):
    return (packet[1] & 0x1F) << 8 | packet[2]


def with_a_flipped_bit(segment, rng):
    """In the second half, inside a picture, behind its headers."""
    packets = [bytearray(packet) for packet in packets_of(segment)]
    inner = [p for p in packets if pid_of(p) == VIDEO_PID and not p[1] & 0x40 and not p[3] & 0x20]
    rng.choice(inner[len(inner) // 2 :])[rng.randrange(10, 180)] ^= 1 << rng.randrange(8)
    return b"".join(bytes(packet) for packet in packets)


def run(stage, *segments, first=0):
    for number, data in enumerate(segments, first):
        stage.feed(number, data)
    stage.flush()
    return stage


def assert_nothing_broken(stage):
    assert None not in stage.shown
    assert all(before < after for before, after in pairwise(stage.pictures))


@pytest.fixture
def stage(new_stage):
    return new_stage(reads=True)


def test_bits_flipped_in_pictures_are_found_by_the_decoder_and_those_pictures_not_shown(segments, stage):
    """The packets are whole to MPEG-TS: only H.264's own decoding can tell."""
    data = segments(audio=None, width=640, height=360)
    rng = random.Random(11)
    run(stage, *(with_a_flipped_bit(segment, rng) for segment in data))
    assert_nothing_broken(stage)
    assert stage.live.decode_errors == 4
    assert len(stage.shown) < 4 * SECOND
    assert {0, 30, 60, 90} <= set(stage.shown)


def test_dropped_packets_show_nothing_until_the_next_key_picture(segments, stage):
    data = segments(audio=None)
    packets = packets_of(data[1])
    lost = [n for n, p in enumerate(packets) if pid_of(p) == VIDEO_PID and not p[1] & 0x40][-3]
    run(stage, data[0], b"".join(packets[:lost] + packets[lost + 1 :]), *data[2:])
    assert_nothing_broken(stage)
    assert stage.shown[-2 * SECOND :] == list(range(60, 120))
    assert len(stage.shown) < 4 * SECOND


def test_a_segment_that_is_missing_costs_its_own_pictures_only(segments, stage):
    data = segments(audio=None)
    stage.feed(0, data[0])
    stage.feed(2, data[2], gap=True)
    stage.feed(3, data[3])
    stage.flush()
    assert_nothing_broken(stage)
    # The last picture before the hole has no end that could be known, as its muxer gives no lengths.
    assert stage.shown in ([*range(30), *range(60, 120)], [*range(29), *range(60, 120)])


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("odd", [0, 77], ids=["between-packets", "inside-a-packet"])
def test_a_segment_that_breaks_off_costs_what_it_lacks(segments, stage, part, odd):
    data = segments(audio=None, width=640, height=360)
    cut = int(part * len(data[1])) // PACKET * PACKET + odd
    run(stage, data[0], data[1][:cut], *data[2:])
    assert_nothing_broken(stage)
    assert stage.shown[:SECOND] == list(range(30))
    assert stage.shown[-2 * SECOND :] == list(range(60, 120))


@pytest.mark.parametrize("count", [1, 187, 188, 5000])
def test_garbage_between_segments_and_inside_one_is_stepped_over(segments, stage, count):
    data = segments(audio=None)
    noise = random.Random(count).randbytes(count)
    middle = len(data[2]) // 2 // PACKET * PACKET
    run(stage, noise + data[0], noise + data[1], data[2][:middle] + noise + data[2][middle:], data[3])
    assert_nothing_broken(stage)
    assert stage.shown[-SECOND:] == list(range(90, 120))
    assert len(stage.shown) >= 3 * SECOND - 1


def test_a_stream_joined_in_mid_gop_begins_with_the_next_key_picture(segments, stage):
    data = segments(audio=None)
    half = len(data[0]) // 2 // PACKET * PACKET
    run(stage, data[0][half:], *data[1:])
    assert stage.shown == list(range(30, 120))


def test_tables_that_are_missing_at_first_cost_what_came_before_them(segments, stage):
    data = segments(audio=None)
    without = [
        b"".join(p for p in packets_of(segment) if pid_of(p) >= 0x20 and pid_of(p) != 0x1000) for segment in data
    ]
    run(stage, without[0], without[1], data[2], data[3])
    assert stage.shown == list(range(60, 120))
    assert stage.live.streams.video is Codec.H264


def test_tables_that_are_missing_later_are_not_missed(segments, stage):
    data = segments(audio=None)
    without = [
        b"".join(p for p in packets_of(segment) if pid_of(p) >= 0x20 and pid_of(p) != 0x1000) for segment in data
    ]
    run(stage, data[0], *without[1:])
    assert_nothing_broken(stage)
    assert len(stage.shown) == 120


def test_size_and_codec_may_change_from_segment_to_segment(segments, stage):
    run(
        stage,
        *segments(audio=None, seconds=1),
        *segments(audio=None, seconds=1, width=640, height=360, ts_offset=3.0),
        *segments(audio=None, seconds=1, codec="libx265", ts_offset=4.0),
        *segments(audio=None, seconds=1, bframes=2, ts_offset=5.0),
        *segments(audio=None, seconds=1, codec="libx265", ts_offset=6.0),
    )
    assert stage.shown == [*range(30)] * 5
    assert_nothing_broken(stage)
    assert stage.live.decode_errors == 0


def test_time_goes_on_over_the_33_bit_wrap_and_a_new_start_at_zero(segments, stage):
    before = segments(audio=None, ts_offset=WRAP_SECONDS - 2.0)
    run(stage, *before, *segments(audio=None, ts_offset=0.5, seconds=2))
    assert stage.shown == [*range(120), *range(60)]
    assert {after - before for before, after in pairwise(stage.pictures)} == {3000}


@pytest.mark.parametrize("audio", ["aac", "opus"])
def test_sound_alone_goes_through(segments, stage, audio):
    packets = [packet for segment in segments(audio=audio) for packet in packets_of(segment)]
    run(stage, b"".join(packet for packet in packets if pid_of(packet) != VIDEO_PID))
    assert stage.pictures == []
    assert len(stage.sounds) > 100


def test_pictures_alone_go_through(segments, stage):
    run(stage, *segments(audio=None))
    assert stage.shown == list(range(120))
    assert stage.sounds == []


def test_segments_of_no_length_change_nothing(segments, stage):
    data = segments(audio=None)
    stage.live.feed(0, b"", gap=False)
    for number, segment in enumerate(data):
        stage.feed_chunk(2 * number, b"")
        stage.feed(2 * number, segment)
        stage.feed_chunk(2 * number + 1, b"")
    stage.flush()
    assert stage.shown == list(range(120))


def test_a_stream_that_stalls_and_comes_back_goes_on(segments, stage):
    """The source's clock went on meanwhile: for 5 s it is a gap, for 500 s a new origin."""
    run(
        stage,
        *segments(audio=None, seconds=1),
        *segments(audio=None, seconds=1, ts_offset=7.0),
        *segments(audio=None, seconds=1, ts_offset=507.0),
    )
    assert stage.shown == [*range(30)] * 3
    steps = [after - before for before, after in pairwise(stage.pictures)]
    assert steps[29] > 4 * 90_000
    assert steps[59] == 3000


@pytest.mark.parametrize(
    ("before", "after"),
    [({"audio": "aac"}, {"audio": "opus"}), ({"audio": "opus"}, {"audio": "aac"}), ({"audio": None}, {"audio": "aac"})],
    ids=["aac-opus", "opus-aac", "none-aac"],
)
def test_sound_may_change_its_codec(segments, stage, before, after):
    run(stage, *segments(seconds=2, **before), *segments(seconds=2, ts_offset=4.0, **after))
    assert stage.shown == [*range(60)] * 2
    assert [pts for pts, _ in stage.sounds] == sorted({pts for pts, _ in stage.sounds})
    wanted = [codec for codec in (before["audio"], after["audio"]) if codec]
    assert list(dict.fromkeys(str(codec) for codec in stage.codecs)) == wanted
    assert len(stage.sounds) > 60


def test_a_length_that_lies_costs_the_pictures_up_to_the_next_key_picture(demux, pattern, stage):
    """With lengths in its PES, a stream says where each picture ends; one says too little, one too much."""
    muxer = TsMuxer()
    stream = bytearray(muxer.psi())
    for number, unit in enumerate(demux(pattern(audio=None, width=640, height=360)).video):
        part = bytearray(muxer.video(unit.data, unit.pts, unit.dts, unit.key))
        at = part.index(b"\0\0\1\xe0")
        if number in (40, 70):
            length = int.from_bytes(part[at + 4 : at + 6], "big")
            part[at + 4 : at + 6] = (length // 2 if number == 40 else length + 400).to_bytes(2, "big")
        stream += part
    run(stage, bytes(stream))
    assert_nothing_broken(stage)
    assert stage.shown in ([*range(40), *range(60, 70), *range(90, 120)], [*range(41), *range(60, 70), *range(90, 120)])


def test_a_unit_that_cannot_be_decoded_is_counted_once_over_a_restart(segments, stage):
    data = segments(audio=None, width=640, height=360)
    damaged = with_a_flipped_bit(data[1], random.Random(2))
    stage.feed(0, data[0])
    stage.feed(1, damaged)
    first = stage.live.decode_errors
    stage.start()
    stage.feed(1, damaged)
    for number in (2, 3):
        stage.feed(number, data[number])
    stage.flush()
    assert (first, stage.live.decode_errors) == (1, 0)
    assert_nothing_broken(stage)
    assert stage.shown[-60:] == list(range(60, 120))


@pytest.mark.parametrize("fps", [25, 60])
def test_a_restart_behind_the_33_bit_wrap_gives_nothing_twice(segments, new_stage, fps):
    data = segments(ts_offset=WRAP_SECONDS - 2.9, seconds=4, fps=fps)
    whole = run(new_stage(), *data).given
    stage = new_stage()
    for number in range(3):
        stage.feed(number, data[number])
    stage.feed(3, data[3][: len(data[3]) // 2 // PACKET * PACKET])
    stage.start()
    stage.feed(3, data[3])
    stage.flush()
    assert stage.given == whole


def test_max_fps_keeps_every_second_picture_also_over_a_restart(segments, new_stage):
    data = segments(audio=None, fps=60, seconds=3)
    whole = run(new_stage(max_fps=30, reads=True), *data)
    assert whole.shown == list(range(0, 180, 2))
    assert whole.live.capped == 90
    stage = new_stage(max_fps=30, reads=True)
    stage.feed(0, data[0])
    stage.feed(1, data[1][: len(data[1]) // 2 // PACKET * PACKET])
    stage.start()
    run(stage, *data[1:], first=1)
    assert stage.shown == whole.shown


def test_each_picture_comes_with_the_last_byte_of_its_unit(demux, pattern, stage):
    muxer = TsMuxer()
    stage.feed_chunk(0, muxer.psi())
    for number, unit in enumerate(demux(pattern(audio=None)).video):
        data = muxer.video(unit.data, unit.pts, unit.dts, unit.key)
        stage.feed_chunk(0, data[:-1])
        assert len(stage.shown) == number
        stage.feed_chunk(0, data[-1:])
        assert stage.shown[-1] == number


def test_without_lengths_a_picture_comes_at_the_latest_with_the_first_packet_that_proves_its_end(pattern, stage):
    begun = 0
    for packet in packets_of(pattern(audio=None, width=640, height=360)):
        begun += pid_of(packet) == VIDEO_PID and bool(packet[1] & 0x40)
        stage.feed_chunk(0, packet)
        assert begun - 1 <= len(stage.shown) <= begun
    assert len(stage.shown) >= 119


def test_pictures_are_cut_to_the_chunk_like_the_bytes_of_a_network(segments, new_stage):
    data = segments()
    whole = run(new_stage(), *data).given
    for size in (1, PACKET - 1, CHUNK + 1):
        stage = new_stage()
        for number, segment in enumerate(data[:2] if size == 1 else data):
            for start in range(0, len(segment), size):
                stage.feed_chunk(number, segment[start : start + size])
        stage.flush()
        pictures, sounds = stage.given
        assert pictures == whole[0][: len(pictures)]
        assert sounds == whole[1][: len(sounds)]
        assert len(pictures) == (60 if size == 1 else 120)
