import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.blockcode import IndexReading, draw_index, read_index
from pipeline.media.pattern import Picture


@given(st.integers(0, (1 << 24) - 1), st.sampled_from([(180, 320), (512, 512), (36, 18), (720, 1280)]))
def test_a_number_is_read_back(index, size):
    image = np.full((*size, 3), 128, np.uint8)
    draw_index(image, index)
    assert read_index(image) == IndexReading(index, False)
    assert read_index(image[..., 0]) == IndexReading(index, False)
    assert read_index(255 - image) == IndexReading(index, True)


def test_the_number_survives_a_crop_to_the_centre():
    image = Picture(640, 360).frame(4711)
    assert read_index(image[:, 140:500]).index == 4711


def test_noise_is_not_a_number():
    rng = np.random.default_rng(3)
    assert sum(read_index(rng.integers(0, 255, (360, 640), np.uint8)) is not None for _ in range(200)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (2, 400), (400, 2), (17, 9, 3)])
def test_pictures_too_small_for_a_number_have_none(shape):
    assert read_index(np.zeros(shape, np.uint8)) is None


def test_one_wrong_bit_makes_it_unreadable():
    image = np.full((360, 640), 128, np.uint8)
    draw_index(image, 1000)
    cell = 20
    left, top = 320 - 90, 337 - 80
    image[top : top + cell, left + 5 * cell : left + 6 * cell] ^= 255
    assert read_index(image) is None
