"""The sound that goes with the burnt-in frame numbers: a tone with a beep at each whole second, and a finder for it."""

import msgspec
import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 48_000
BEEP_SECONDS = 0.04
# The pitch of a beep tells its second modulo this.
BEEP_PITCHES = 8

_TONE_HZ = 440
_WINDOW = 240  # samples, 5 ms
_MIN_RMS = 0.22
_ONSET_LEVEL = 0.25
_MEASURED_SAMPLES = int(0.035 * SAMPLE_RATE)
_MIN_MEASURED_SAMPLES = 1000
_DEAD_WINDOWS = 20  # 100 ms after a beep that belong to it


class Beep(msgspec.Struct, frozen=True):
    """`time` in seconds of its onset, `pitch` is the second at which it was made, modulo BEEP_PITCHES."""

    time: float
    pitch: int


def tone(first: int, count: int) -> NDArray[np.float32]:
    """`count` mono samples from sample `first` on, at SAMPLE_RATE: 440 Hz at -20 dB, a beep at each whole second."""
    at = np.arange(first, first + count)
    samples = 0.1 * np.sin(2 * np.pi * _TONE_HZ * at / SAMPLE_RATE)
    second, offset = at // SAMPLE_RATE, at % SAMPLE_RATE
    on = offset < int(BEEP_SECONDS * SAMPLE_RATE)
    pitch = 900 + 300 * (second[on] % BEEP_PITCHES)
    samples[on] += 0.6 * np.sin(2 * np.pi * pitch * offset[on] / SAMPLE_RATE)
    return samples.astype(np.float32)


def find_beeps(samples: NDArray[np.float32], start: float = 0.0) -> list[Beep]:
    """Beeps in mono float samples [n] at SAMPLE_RATE, the first of which is at `start` seconds."""
    count = len(samples) // _WINDOW
    rms = np.sqrt((samples[: count * _WINDOW].reshape(count, _WINDOW) ** 2).mean(1))
    loud = rms > _MIN_RMS
    beeps = []
    window = 0
    while window < count:
        if not loud[window] or (window and loud[window - 1]):
            window += 1
            continue
        burst = samples[window * _WINDOW : window * _WINDOW + _MEASURED_SAMPLES]
        if len(burst) >= _MIN_MEASURED_SAMPLES:
            # The onset to the sample: the first loud one around the window that crossed the threshold.
            first = max(0, window - 1) * _WINDOW
            onset = first + int(np.argmax(np.abs(samples[first : first + 3 * _WINDOW]) > _ONSET_LEVEL))
            beeps.append(Beep(start + onset / SAMPLE_RATE, _pitch(burst)))
        window += _DEAD_WINDOWS
    return beeps


def _pitch(burst: NDArray[np.float32]) -> int:
    at = np.arange(len(burst)) / SAMPLE_RATE
    power = [abs(np.dot(burst, np.exp(-2j * np.pi * (900 + 300 * k) * at))) for k in range(BEEP_PITCHES)]
    return int(np.argmax(power))
