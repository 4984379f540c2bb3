"""Coded sound, made by FFmpeg alone, to PCM at its own times."""

import msgspec
import numpy as np
import pytest

from pipeline.media.access_unit import CLOCK_HZ, Codec
from pipeline.media.audio_decoder import AudioDecoder
from pipeline.media.pcm import SAMPLE_RATE, ticks_of
from tests.media.sounds import bursts, coded_by_ffmpeg, decoded, joined, level, onsets, pitch, sine

MS = 1e-3
CODECS = ["aac", "opus"]


def moved(units, ticks):
    return [msgspec.structs.replace(unit, pts=unit.pts + ticks) for unit in units]


@pytest.mark.parametrize(("codec", "rate"), [("aac", 48_000), ("aac", 44_100), ("aac", 32_000), ("opus", 48_000)])
def test_a_burst_is_heard_at_its_time_at_whatever_rate_it_was_sampled(codec, rate):
    times = [0.5, 1.0, 2.25]
    units = coded_by_ffmpeg(codec, bursts(times, 3, rate)[None], rate)
    decoder = AudioDecoder(Codec(codec), 1)
    assert onsets(decoded(units, decoder)) == pytest.approx(times, abs=MS)
    assert decoder.errors == 0


@pytest.mark.parametrize("codec", CODECS)
def test_mono_stays_mono_and_stereo_keeps_its_sides(codec):
    mono = decoded(coded_by_ffmpeg(codec, sine(440, 1)[None]), AudioDecoder(Codec(codec), 1))
    assert {pcm.channels for pcm in mono} == {1}
    left_only = np.stack([sine(440, 1), np.zeros(SAMPLE_RATE, np.float32)])
    left, right = joined(decoded(coded_by_ffmpeg(codec, left_only), AudioDecoder(Codec(codec), 2)))
    assert level(left[4800:-4800]) == pytest.approx(0.5, rel=0.1)
    assert level(right) < 0.005


def test_more_channels_become_two():
    pcm = decoded(coded_by_ffmpeg("aac", np.stack([sine(440, 1)] * 6)), AudioDecoder(Codec.AAC))
    assert {block.channels for block in pcm} == {2}


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_pitch_and_level_are_kept(rate):
    pcm = joined(decoded(coded_by_ffmpeg("aac", sine(1000, 2, rate=rate)[None], rate), AudioDecoder(Codec.AAC)))
    middle = pcm[0, SAMPLE_RATE // 2 : 3 * SAMPLE_RATE // 2]
    assert pcm.dtype == np.float32
    assert pitch(middle) == pytest.approx(1000, abs=2)
    assert level(middle) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_the_blocks_follow_each_other_without_a_gap_and_without_a_drift(rate):
    pcm = decoded(coded_by_ffmpeg("aac", sine(440, 20, rate=rate)[None], rate), AudioDecoder(Codec.AAC))
    expected = pcm[0].pts
    samples = 0
    for block in pcm:
        assert abs(block.pts - (expected + ticks_of(samples))) <= 2
        samples += block.samples.shape[1]


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_a_gap_of_the_units_is_a_gap_of_the_sound(rate):
    units = coded_by_ffmpeg("aac", bursts([0.5, 1.5, 2.5], 3, rate)[None], rate)
    kept = [unit for unit in units if not 0.8 * CLOCK_HZ < unit.pts < 1.3 * CLOCK_HZ]
    assert onsets(decoded(kept, AudioDecoder(Codec.AAC))) == pytest.approx([0.5, 1.5, 2.5], abs=MS)
    later = [unit for unit in units if unit.pts > 2 * CLOCK_HZ]
    jumping = [unit for unit in units if unit.pts <= 2 * CLOCK_HZ] + moved(later, 100 * CLOCK_HZ)
    assert onsets(decoded(jumping, AudioDecoder(Codec.AAC))) == pytest.approx([0.5, 1.5, 102.5], abs=MS)


def test_several_frames_in_one_unit_have_a_time_each():
    units = coded_by_ffmpeg("aac", bursts([0.5, 1.0], 2)[None])
    alone = [pcm for unit in units for pcm in AudioDecoder(Codec.AAC).decode(unit.data, unit.pts)]
    pairs = [
        msgspec.structs.replace(first, data=first.data + second.data)
        for first, second in zip(units[::2], units[1::2], strict=False)
    ]
    pcm = decoded(pairs, AudioDecoder(Codec.AAC))
    assert onsets(pcm) == pytest.approx([0.5, 1.0], abs=MS)
    assert [block.pts for block in pcm] == [block.pts for block in alone][: len(pcm)]


def test_damage_is_counted_and_what_follows_is_heard():
    units = coded_by_ffmpeg("aac", bursts([0.5, 1.5], 2)[None])
    rng = np.random.default_rng(1)
    damaged = list(units)
    for number in range(40, 50):
        header = units[number].data[:7]
        noise = rng.integers(0, 256, len(units[number].data) - 7, np.uint8).tobytes()
        damaged[number] = msgspec.structs.replace(units[number], data=header + noise)
    decoder = AudioDecoder(Codec.AAC)
    assert onsets(decoded(damaged, decoder), level=0.3)[-1] == pytest.approx(1.5, abs=2 * MS)
    assert decoder.errors > 0
    assert list(decoder.decode(b"no audio at all", 0)) == []


def test_a_source_that_changes_its_rate_goes_on():
    before = coded_by_ffmpeg("aac", bursts([0.5], 1, 48_000)[None], 48_000)
    after = coded_by_ffmpeg("aac", bursts([0.5], 1, 44_100)[None], 44_100)
    pcm = decoded(before + moved(after, CLOCK_HZ), AudioDecoder(Codec.AAC))
    assert onsets(pcm) == pytest.approx([0.5, 1.5], abs=MS)


def test_a_picture_is_no_sound():
    with pytest.raises(ValueError, match="h264"):
        AudioDecoder(Codec.H264)
