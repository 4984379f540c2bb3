"""What is kept of a picture: equal pixels are told from others, and others by how much they differ."""

import numpy as np
import pytest

from pipeline.media.pattern import Picture
from pipeline.recording.picture_digest import FIELDS, digest_of, sketch_of


@pytest.mark.parametrize(("width", "height"), [(16, 16), (128, 96), (130, 98), (512, 512)])
def test_a_sketch_has_a_mean_a_field_and_colour(width: int, height: int) -> None:
    assert len(sketch_of(Picture(width, height).frame(0))) == FIELDS * FIELDS * 3


def test_one_pixel_makes_another_digest() -> None:
    picture = Picture(64, 48).frame(3)
    before = digest_of(picture)
    assert digest_of(picture.copy()) == before
    picture[20, 20, 1] ^= 1
    assert digest_of(picture) != before


def test_a_plain_picture_is_sketched_as_its_colour() -> None:
    picture = np.empty((48, 64, 3), np.uint8)
    picture[:] = 10, 20, 30
    assert sketch_of(picture) == bytes((10, 20, 30)) * (FIELDS * FIELDS)


def test_fields_lie_in_rows_from_the_top() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:8, 56:] = 200
    sketch = np.frombuffer(sketch_of(picture), np.uint8).reshape(FIELDS, FIELDS, 3)
    assert (sketch[0, 7] == 200).all()
    assert int(sketch.sum()) == 600


def test_rounding_moves_a_sketch_by_one_at_most_and_another_picture_by_more() -> None:
    picture = Picture(256, 144).frame(3)
    noise = np.random.default_rng(1).integers(-1, 2, picture.shape)
    rounded = np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8)
    first, near, far = (
        np.frombuffer(sketch_of(each), np.uint8).astype(int) for each in (picture, rounded, Picture(256, 144).frame(9))
    )
    assert abs(first - near).max() <= 1
    assert abs(first - far).max() > 10
