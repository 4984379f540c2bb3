"""PCM to coded sound and back: who hears what, when, how loud, on which side."""

import io
from itertools import pairwise

import av
import msgspec
import numpy as np
import pytest

from pipeline.media.access_unit import CLOCK_HZ, Codec
from pipeline.media.audio_decoder import AudioDecoder
from pipeline.media.audio_encoder import MAX_REPAIR_SAMPLES, TOLERANCE_SAMPLES, AudioEncoder
from pipeline.media.audio_reencoder import AudioReencoder
from pipeline.media.errors import EncoderError
from pipeline.media.pcm import SAMPLE_RATE, Pcm, ticks_of
from pipeline.media.ts_mux import TsMuxer
from tests.media.sounds import (
    DELAY_SAMPLES,
    blocks,
    bursts,
    coded_by_ffmpeg,
    decoded,
    joined,
    level,
    onsets,
    pitch,
    sine,
)

MS = 1e-3
BITRATE = 128_000
CODECS = pytest.mark.parametrize("codec", [Codec.AAC, Codec.OPUS])


def coded(codec, pcm):
    encoder = AudioEncoder(codec, BITRATE)
    units = [unit for block in pcm for unit in encoder.encode(block)]
    return units + list(encoder.flush())


def heard(codec, pcm, channels=1):
    return decoded(coded(codec, pcm), AudioDecoder(codec, channels))


@CODECS
def test_a_burst_comes_out_at_its_time(codec):
    start = 1_000_000
    times = [0.1, 0.5, 1.9]
    out = onsets(heard(codec, blocks(bursts(times, 2)[None], start)))
    assert [at - start / CLOCK_HZ for at in out] == pytest.approx(times, abs=MS)


@CODECS
def test_the_first_unit_is_early_by_the_codecs_delay_and_the_times_rise_by_its_frame(codec):
    units = coded(codec, blocks(sine(440, 2)[None], start=90_000))
    assert units[0].pts == 90_000 - ticks_of(DELAY_SAMPLES[codec.value])
    step = {Codec.AAC: 1920, Codec.OPUS: 1800}[codec]
    assert {after.pts - before.pts for before, after in pairwise(units)} == {step}


@CODECS
def test_sides_pitch_and_level_are_kept(codec):
    stereo = np.stack([sine(440, 2), np.zeros(2 * SAMPLE_RATE, np.float32)])
    left, right = joined(heard(codec, blocks(stereo), channels=2))
    middle = left[SAMPLE_RATE // 2 : 3 * SAMPLE_RATE // 2]
    assert pitch(middle) == pytest.approx(440, abs=2)
    assert level(middle) == pytest.approx(0.5, rel=0.1), "1 dB is a factor of 1.12"
    assert level(right) < 0.005


@CODECS
def test_mono_stays_mono(codec):
    assert {pcm.channels for pcm in heard(codec, blocks(sine(440, 0.5)[None]))} == {1}


@CODECS
def test_a_gap_becomes_silence_and_a_long_one_a_jump(codec):
    tone = bursts([0.3], 1)[None]
    gap = MAX_REPAIR_SAMPLES // 2
    short = heard(codec, [*blocks(tone), *blocks(tone, CLOCK_HZ + ticks_of(gap))])
    assert onsets(short) == pytest.approx([0.3, 1.3 + gap / SAMPLE_RATE], abs=MS)
    assert joined(short).shape[1] >= 2 * SAMPLE_RATE + gap, "silence was encoded"

    units = coded(codec, [*blocks(tone), *blocks(tone, 1000 * CLOCK_HZ)])
    long = decoded(units, AudioDecoder(codec, 1))
    assert onsets(long) == pytest.approx([0.3, 1000.3], abs=MS)
    assert len(units) < 150, "nobody encodes a quarter of an hour of silence"
    assert all(before.pts < after.pts for before, after in pairwise(units))


@CODECS
def test_what_overlaps_is_heard_once(codec):
    tone = bursts([0.3, 0.9], 1)[None]
    again = Pcm(CLOCK_HZ // 2, tone[:, SAMPLE_RATE // 2 :])
    after = blocks(bursts([0.2], 1)[None], CLOCK_HZ)
    assert onsets(heard(codec, [*blocks(tone), again, *after])) == pytest.approx([0.3, 0.9, 1.2], abs=MS)


@CODECS
def test_jittery_times_leave_the_sound_whole(codec):
    """Times in whole milliseconds, cut: as RTMP has them."""
    exact = blocks(sine(1000, 3)[None], size=1024)
    rounded = [msgspec.structs.replace(pcm, pts=pcm.pts // 90 * 90) for pcm in exact]
    pcm = joined(heard(codec, rounded))[0, SAMPLE_RATE // 2 : 5 * SAMPLE_RATE // 2]
    assert pitch(pcm) == pytest.approx(1000, abs=1)
    assert level(pcm) == pytest.approx(0.5, rel=0.01), "silence in between would lower it"


def test_a_sample_clock_that_runs_fast_is_followed_within_the_tolerance():
    """1000 ppm, two minutes: 120 ms, if nobody looked after it."""
    encoder = AudioEncoder(Codec.OPUS, BITRATE)
    units, pts = [], 0.0
    block = np.zeros((1, 9600), np.float32)
    for _ in range(120 * 5):
        units += encoder.encode(Pcm(round(pts), block))
        pts += ticks_of(9600) * (1 + 1000e-6)
    end = units[-1].pts + ticks_of(DELAY_SAMPLES["opus"]) + ticks_of(960)
    assert end == pytest.approx(pts, abs=ticks_of(TOLERANCE_SAMPLES + 960))


def test_ten_minutes_through_decoder_and_encoder_do_not_drift():
    """From 44.1 kHz, where no frame is a whole number of samples long. Two bursts, ten minutes apart."""
    frame = ticks_of(1024, 44_100)
    units = coded_by_ffmpeg("aac", bursts([0.2], 0.5, 44_100)[None], 44_100)
    silent = coded_by_ffmpeg("aac", np.zeros((1, 44_100), np.float32), 44_100)[20].data
    count = 600 * 44_100 // 1024
    start = units[-1].pts + frame
    filling = [(silent, start + ticks_of(number * 1024, 44_100)) for number in range(count)]
    end = filling[-1][1] + frame
    reencoder = AudioReencoder(Codec.OPUS, BITRATE)
    reencoder.set_source(Codec.AAC, 1)
    source = [(unit.data, unit.pts) for unit in units] + filling + [(unit.data, unit.pts + end) for unit in units]
    out = [coded for data, pts in source for coded in reencoder.reencode(data, pts)]
    assert reencoder.errors == 0
    decoder = AudioDecoder(Codec.OPUS, 1)
    first = onsets(decoded(out[:60], decoder))
    last = onsets(decoded(out[-60:], decoder))
    assert first == pytest.approx([0.2], abs=MS)
    assert last == pytest.approx([end / CLOCK_HZ + 0.2], abs=MS)


@CODECS
def test_ffmpeg_alone_hears_the_same(codec):
    units = coded(codec, blocks(bursts([0.5, 1.5], 2)[None], start=CLOCK_HZ))
    muxer = TsMuxer(audio=codec, audio_channels=1)
    ts = muxer.psi() + b"".join(muxer.audio(unit.data, unit.pts) for unit in units)
    with av.open(io.BytesIO(ts), format="mpegts") as container:
        (stream,) = container.streams.audio
        assert stream.codec_context.name in (codec.value, f"lib{codec.value}")
        pcm = [
            Pcm(round(frame.pts * frame.time_base * CLOCK_HZ), frame.to_ndarray()) for frame in container.decode(stream)
        ]
    assert onsets(pcm) == pytest.approx([1.5, 2.5], abs=MS)


@CODECS
def test_a_change_of_channels_begins_anew(codec):
    mono, stereo = bursts([0.3], 1)[None], np.stack([bursts([0.3], 1)] * 2)
    units = coded(codec, [*blocks(mono), *blocks(stereo, CLOCK_HZ)])
    assert onsets(decoded(units, AudioDecoder(codec, 2))) == pytest.approx([0.3, 1.3], abs=MS)


def test_what_is_refused_is_named():
    with pytest.raises(EncoderError, match="h264"):
        AudioEncoder(Codec.H264, BITRATE)
    with pytest.raises(EncoderError, match=r"opus.*10000000"):
        AudioEncoder(Codec.OPUS, 10_000_000)


@pytest.mark.parametrize(("source", "target"), [(Codec.AAC, Codec.OPUS), (Codec.OPUS, Codec.AAC)])
def test_reencoded_sound_keeps_its_time_and_its_sides(source, target):
    times = [0.5, 1.0, 1.75]
    samples = np.stack([bursts(times, 2), np.zeros(2 * SAMPLE_RATE, np.float32)])
    reencoder = AudioReencoder(target, BITRATE)
    assert list(reencoder.reencode(b"before it is known what it is", 0)) == []
    reencoder.set_source(source, 2)
    units = [
        coded for unit in coded_by_ffmpeg(source.value, samples) for coded in reencoder.reencode(unit.data, unit.pts)
    ]
    units += reencoder.flush()
    pcm = decoded(units, AudioDecoder(target, 2))
    assert {unit.codec for unit in units} == {target}
    assert onsets(pcm) == pytest.approx(times, abs=MS)
    assert level(joined(pcm)[1]) < 0.005


def test_a_source_of_another_codec_is_taken_up():
    reencoder = AudioReencoder(Codec.AAC, BITRATE)
    units = []
    for number, source in enumerate((Codec.AAC, Codec.OPUS)):
        reencoder.set_source(source, 1)
        for unit in coded_by_ffmpeg(source.value, bursts([0.5], 1)[None]):
            units += reencoder.reencode(unit.data, unit.pts + number * CLOCK_HZ)
    units += reencoder.flush()
    assert onsets(decoded(units, AudioDecoder(Codec.AAC))) == pytest.approx([0.5, 1.5], abs=MS)
