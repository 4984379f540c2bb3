import io

import av
import pytest

from pipeline.media.access_unit import Codec
from pipeline.media.segmenter import Segmenter
from pipeline.media.ts_demux import PACKET_BYTES, TsDemuxer
from pipeline.media.ts_mux import AUDIO_PID, VIDEO_PID, TsMuxer

DELIMITER = b"\x00\x00\x00\x01\x09\xf0"


def remux(units, streams, sink):
    segmenter = Segmenter(TsMuxer(streams.video, streams.audio, streams.audio_channels), sink)
    for unit in units:
        if unit.is_video:
            segmenter.video(unit.data, unit.pts, unit.dts, unit.key)
        else:
            segmenter.audio(unit.data, unit.pts)
    segmenter.close()
    return sink.segments


@pytest.mark.parametrize(
    "options",
    [{}, {"audio": "opus"}, {"bframes": 2}, {"audio": None, "gop_seconds": 0.5}, {"codec": "libx265", "seconds": 1}],
    ids=str,
)
def test_what_was_muxed_decodes_to_the_same_pictures_and_sound(pattern, demux, sink, decoded_by_libavformat, options):
    ts = pattern(**options)
    source = demux(ts)
    again = b"".join(remux(source.all, source.demuxer.streams, sink))
    assert decoded_by_libavformat(again) == decoded_by_libavformat(ts)
    result = demux(again)
    assert [(unit.data, unit.pts) for unit in result.audio] == [(unit.data, unit.pts) for unit in source.audio]
    assert [(unit.pts, unit.dts, unit.key) for unit in result.video] == [
        (unit.pts, unit.dts, unit.key) for unit in source.video
    ]
    assert result.demuxer.continuity_errors == 0


def test_each_segment_alone_decodes_from_its_first_packet(pattern, demux, sink, decoded_by_libavformat):
    ts = pattern()
    source = demux(ts)
    segments = remux(source.all, source.demuxer.streams, sink)
    alone = [decoded_by_libavformat(segment) for segment in segments]
    assert [len(frames) for frames in alone] == [30] * 4
    assert [frame for frames in alone for frame in frames] == decoded_by_libavformat(ts)
    for segment in segments:
        with av.open(io.BytesIO(segment), format="mpegts") as container:
            assert next(container.demux(video=0)).is_keyframe


@pytest.mark.parametrize("size", [*range(1, 400), 65_500, 65_520, 65_536, 200_000])
def test_payloads_of_every_size_come_back(size):
    data = DELIMITER + bytes(n % 251 + 1 for n in range(size))
    muxer, demuxer = TsMuxer(audio=Codec.AAC), TsDemuxer()
    for key in (True, False):
        units = demuxer.feed(muxer.psi() + muxer.video(data, 5000, 2000, key)) + demuxer.flush()
        assert [(unit.data, unit.pts, unit.dts, unit.key) for unit in units] == [(data, 5000, 2000, key)]
    if size < 60_000:
        assert [unit.data for unit in demuxer.feed(muxer.audio(data, 1))] == [data]


def test_output_is_whole_packets_with_running_counters():
    muxer = TsMuxer(audio=Codec.AAC)
    out = b""
    for number in range(40):
        out += muxer.psi() + muxer.video(b"x" * (number * 37), number * 3000, key=True) + muxer.audio(b"y" * 300, 1)
    assert len(out) % PACKET_BYTES == 0
    counters = {}
    for at in range(0, len(out), PACKET_BYTES):
        assert out[at] == 0x47
        pid = (out[at + 1] & 0x1F) << 8 | out[at + 2]
        counter = out[at + 3] & 15
        assert counter == (counters.get(pid, -1) + 1) & 15
        counters[pid] = counter
    assert {VIDEO_PID, AUDIO_PID} < set(counters)


def test_a_clock_and_a_random_access_mark_stand_in_front_of_a_key_picture():
    packet = TsMuxer().video(b"x", 90_000, 90_000, key=True)
    assert packet[3] & 0x20
    assert packet[5] & 0x50 == 0x50
    pcr = packet[6] << 25 | packet[7] << 17 | packet[8] << 9 | packet[9] << 1 | packet[10] >> 7
    assert pcr == 81_000


def test_times_wrap_at_33_bits():
    muxer, demuxer = TsMuxer(), TsDemuxer()
    demuxer.feed(muxer.psi())
    assert demuxer.feed(muxer.video(b"x", (1 << 33) + 77))[0].pts == 77


def test_another_audio_codec_is_announced_under_a_new_version():
    muxer = TsMuxer()
    before = muxer.psi()
    muxer.set_audio(None)
    assert muxer.psi()[PACKET_BYTES + 4 :] == before[PACKET_BYTES + 4 :]
    muxer.set_audio(Codec.OPUS, 2)
    after = muxer.psi()
    version_at = PACKET_BYTES + 5 + 5
    assert after[version_at] >> 1 & 31 == (before[version_at] >> 1 & 31) + 1
    demuxer = TsDemuxer()
    demuxer.feed(after)
    assert (demuxer.streams.audio, demuxer.streams.audio_channels) == (Codec.OPUS, 2)


def test_audio_that_fits_no_packet_is_refused():
    with pytest.raises(ValueError, match="70000 bytes"):
        TsMuxer(audio=Codec.AAC).audio(b"x" * 70_000, 0)
