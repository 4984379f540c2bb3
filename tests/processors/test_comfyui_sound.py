import numpy as np
import pytest
import torch

from pipeline.media.pcm import SAMPLE_RATE, Pcm
from pipeline.processors.comfyui.sound import SoundBuffer, audio_of, pcm_of
from pipeline.processors.errors import ProcessorError

PIECE = 1024
TICKS = 1920
CPU = torch.device("cpu")


def piece(number, channels=2, start=0):
    ramp = np.arange(number * PIECE, (number + 1) * PIECE, dtype=np.float32)
    return Pcm(start + number * TICKS, np.stack([ramp] * channels))


def test_pieces_are_gathered_to_the_length_that_is_wanted():
    buffer = SoundBuffer(50)  # 2,400 samples
    given = [each for number in range(10) for each in buffer.add(piece(number))]
    assert [each.samples.shape for each in given] == [(1, 2400)] * 4
    assert [each.pts for each in given] == [0, 4500, 9000, 13_500]
    assert np.array_equal(np.concatenate([each.samples[0] for each in given]), np.arange(9600))
    (rest,) = buffer.rest()
    assert (rest.pts, rest.samples.shape) == (18_000, (1, 10 * PIECE - 9600))
    assert list(buffer.rest()) == []


def test_channels_are_mixed_to_one():
    (mixed,) = SoundBuffer(10).add(Pcm(0, np.stack([np.ones(480, np.float32), np.zeros(480, np.float32)])))
    assert np.array_equal(mixed.samples, np.full((1, 480), 0.5, np.float32))


def test_what_was_held_before_a_gap_is_not_joined_to_what_comes_after_it():
    buffer = SoundBuffer(500)
    assert list(buffer.add(piece(0))) == []
    (before,) = buffer.add(piece(0, start=90_000))
    assert (before.pts, before.samples.shape) == (0, (1, PIECE))
    (after,) = buffer.rest()
    assert after.pts == 90_000


def test_what_is_held_counts_when_the_length_changes():
    buffer = SoundBuffer(500)
    assert list(buffer.add(piece(0))) == []
    buffer.set_length(40)
    (given,) = buffer.add(piece(1))
    assert given.samples.shape == (1, 1920)


def test_sound_crosses_to_comfyui_and_back():
    audio = audio_of(piece(1), CPU)
    assert (tuple(audio["waveform"].shape), audio["sample_rate"]) == ((1, 2, PIECE), SAMPLE_RATE)
    back = pcm_of(audio, 77)
    assert back.pts == 77
    assert np.array_equal(back.samples, piece(1).samples)


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        (torch.zeros(1, 1, 3), "gave Tensor as sound"),
        ({"waveform": torch.zeros(1, 3), "sample_rate": 48_000}, r"gave \(1, 3\) as sound"),
        ({"waveform": torch.zeros(1, 6, 3), "sample_rate": 48_000}, r"gave \(1, 6, 3\) as sound"),
        ({"waveform": torch.zeros(1, 1, 3), "sample_rate": 44_100}, "sound of 44100 Hz; needed: 48000 Hz"),
    ],
)
def test_what_cannot_be_played_is_said(audio, said):
    with pytest.raises(ProcessorError, match=said):
        pcm_of(audio, 0)
