from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.media.pcm import Pcm
from pipeline.processors.errors import ProcessorError
from pipeline.processors.trickle_frames import AudioFrame
from pipeline.processors.trickle_sound import audio_frame, pcm_of

STEREO = Pcm(90_000, np.array([[0.0, 0.25, 0.5], [0.0, -0.25, -0.5]], np.float32))


def test_a_frame_is_what_a_decoder_would_have_given():
    frame = audio_frame(AudioFrame, STEREO)
    assert (frame.rate, frame.format, frame.layout, frame.nb_samples) == (48_000, "fltp", "stereo", 3)
    assert frame.timestamp * frame.time_base == 1
    assert np.array_equal(frame.samples, STEREO.samples)


def test_a_handler_may_write_into_it():
    frame = audio_frame(AudioFrame, STEREO)
    frame.samples *= 2
    assert STEREO.samples[0, 1] == 0.25


@pytest.mark.parametrize(
    "samples",
    [
        STEREO.samples,
        (STEREO.samples * 32768).astype(np.int16),
        (STEREO.samples.T.reshape(1, -1) * 32768).astype(np.int16),
        STEREO.samples.T.reshape(-1),
        STEREO.samples.astype(np.float64),
    ],
    ids=["planes", "planes of s16", "packed s16", "flat", "doubles"],
)
def test_samples_come_back_from_whatever_form_they_were_given(samples):
    back = pcm_of(audio_frame(AudioFrame, STEREO).replace_samples(samples))
    assert back.pts == STEREO.pts
    assert back.samples.dtype == np.float32
    assert np.allclose(back.samples, STEREO.samples)


def test_its_own_time_base_counts():
    frame = audio_frame(AudioFrame, STEREO)
    frame.timestamp, frame.time_base = 48_000, Fraction(1, 48_000)
    assert pcm_of(frame).pts == 90_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": 16_000}, "gave sound of 16000 Hz, stereo; needed: 48000 Hz, mono or stereo"),
        ({"layout": "5.1"}, "gave sound of 48000 Hz, 5.1"),
        ({"samples": [0.0]}, "gave a SimpleNamespace as sound; needed: AudioFrames"),
    ],
)
def test_what_cannot_be_played_is_said(change, said):
    frame = SimpleNamespace(**vars(audio_frame(AudioFrame, STEREO)) | change)
    with pytest.raises(ProcessorError, match=said):
        pcm_of(frame)
