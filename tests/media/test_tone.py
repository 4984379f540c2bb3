import numpy as np
import pytest

from pipeline.media.tone import SAMPLE_RATE, find_beeps, tone


def test_the_beep_of_each_second_is_found_with_its_pitch():
    beeps = find_beeps(tone(0, 12 * SAMPLE_RATE), start=5.0)
    assert [beep.pitch for beep in beeps] == [second % 8 for second in range(12)]
    assert [beep.time for beep in beeps] == pytest.approx([5.0 + second for second in range(12)], abs=0.001)


def test_the_tone_goes_on_without_a_seam():
    whole = tone(0, 10_000)
    assert np.array_equal(np.concatenate([tone(0, 3_333), tone(3_333, 6_667)]), whole)


def test_silence_has_no_beeps():
    assert find_beeps(np.zeros(SAMPLE_RATE, np.float32)) == []
    assert find_beeps(np.zeros(0, np.float32)) == []
