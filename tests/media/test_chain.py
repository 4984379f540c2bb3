"""The parts of this package in a row, as the pipeline runs them."""

import itertools

import numpy as np
import pytest

from pipeline.media.decoder import VideoDecoder
from pipeline.media.encoder import VideoEncoder
from pipeline.media.recorder import Mp4Recorder
from pipeline.media.segmenter import Segmenter
from pipeline.media.timeline import Timeline
from pipeline.media.ts_demux import TsDemuxer
from pipeline.media.ts_mux import TsMuxer
from pipeline.media.verify import verify_recording


def run_chain(ts, sink, keep=lambda number: True):
    """Demux, decode to 128x128, invert, encode, mux; `keep` drops pictures in between as a busy inference does."""
    demuxer, decoder, timeline = TsDemuxer(), VideoDecoder(128, 128), Timeline()
    encoder = VideoEncoder(128, 128, 30)
    slot = np.empty((128, 128, 3), np.uint8)
    segmenter = None
    number = 0
    for start in range(0, len(ts), 1316):
        for unit in demuxer.feed(ts[start : start + 1316]):
            if segmenter is None:
                streams = demuxer.streams
                segmenter = Segmenter(TsMuxer(audio=streams.audio, audio_channels=streams.audio_channels), sink)
            if not unit.is_video:
                segmenter.audio(unit.data, timeline.audio(unit.pts))
                continue
            for frame in decoder.decode(unit):
                pts = timeline.video(frame.pts)
                number += 1
                if not keep(number):
                    continue
                decoder.scale_into(frame, slot)
                np.subtract(255, slot, out=slot)
                for coded in encoder.encode(slot, pts):
                    segmenter.video(coded.data, coded.pts, coded.dts, coded.key)
    segmenter.close()


def record(segments, demux, path):
    with Mp4Recorder(path) as recorder:
        for unit in demux(b"".join(segments)).all:
            recorder.write(unit)
    return verify_recording(path, 30)


@pytest.mark.parametrize("audio", ["aac", "opus"])
@pytest.mark.parametrize("dropping", [False, True])
def test_sound_and_picture_stay_within_2_ms(pattern, demux, sink, tmp_path, audio, dropping):
    run_chain(pattern(audio=audio), sink, (lambda number: number % 10 not in (3, 4, 8)) if dropping else lambda _: True)
    report = record(sink.segments, demux, tmp_path / "out.mp4")
    assert report.in_order
    assert report.inverted == report.frames
    assert report.frames >= (80 if dropping else 118)
    assert report.beeps == 3
    assert report.max_audio_offset_ms < 2


def test_a_source_that_starts_over_gives_one_rising_stream(pattern, demux, sink, decoded_by_libavformat):
    run_chain(pattern(seconds=2) + pattern(seconds=1), sink)
    times = [pts for pts, _ in decoded_by_libavformat(b"".join(sink.segments))]
    assert len(times) >= 88
    assert all(0 < after - before < 90_000 for before, after in itertools.pairwise(times))
