import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.adts import AacConfig, adts_config, parse_audio_specific_config, split_adts, wrap_adts

configs = st.builds(AacConfig, st.integers(1, 4), st.integers(0, 12), st.integers(1, 7))


@given(configs, st.lists(st.binary(max_size=2000), max_size=5), st.binary(max_size=6))
def test_frames_come_back_without_what_is_cut_off_behind_them(config, frames, rest):
    wrapped = [wrap_adts(config, frame) for frame in frames]
    assert list(split_adts(b"".join(wrapped) + rest)) == wrapped
    assert all(adts_config(frame) == config for frame in wrapped)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("1190", AacConfig(2, 3, 2)),  # AAC-LC, 48 kHz, stereo
        ("1208", AacConfig(2, 4, 1)),  # AAC-LC, 44.1 kHz, mono
        ("2b118800", AacConfig(2, 6, 2)),  # HE-AAC: SBR to 48 kHz over AAC-LC at 24 kHz
    ],
)
def test_an_audio_specific_config_is_read(config, expected):
    assert parse_audio_specific_config(bytes.fromhex(config)) == expected


@pytest.mark.parametrize("config", ["", "11", "1180", "f8e85000", "17"])
def test_a_config_that_adts_cannot_say_is_none(config):
    assert parse_audio_specific_config(bytes.fromhex(config)) is None


def test_a_frame_too_long_for_the_header_is_refused():
    with pytest.raises(ValueError, match="9000 bytes"):
        wrap_adts(AacConfig(2, 3, 2), b"x" * 9000)


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data):
    assert b"".join(split_adts(data)) == data[: sum(len(frame) for frame in split_adts(data))]
