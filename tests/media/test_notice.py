import numpy as np
import pytest

from pipeline.media.notice import Notice

GREY = 200


def drawn(text, height=120, width=320):
    picture, target = np.full((height, width, 3), GREY, np.uint8), np.zeros((height, width, 3), np.uint8)
    Notice(text).draw(picture, target)
    return target


def lit(picture):
    return picture[..., 0] == 255


def test_the_text_is_white_in_the_middle_of_the_dimmed_picture():
    picture = drawn("LOADING")
    assert set(np.unique(picture)) == {GREY >> 2, 255}
    rows, columns = np.nonzero(lit(picture))
    assert abs((rows.min() + rows.max()) / 2 - 60) <= 2
    assert abs((columns.min() + columns.max()) / 2 - 160) <= 4


def test_letters_have_their_shapes():
    """At one dot a pixel, as a person would read it."""
    dots = lit(drawn("L1", 16, 16))
    rows, columns = np.nonzero(dots)
    read = ["".join(".#"[int(dot)] for dot in row) for row in dots[rows.min() : rows.max() + 1, columns.min() :]]
    assert [row[:11].rstrip(".") for row in read] == [
        "#.......#",
        "#......##",
        "#.......#",
        "#.......#",
        "#.......#",
        "#.......#",
        "#####..###",
    ]


def test_small_letters_are_written_as_capitals():
    assert np.array_equal(drawn("one moment"), drawn("ONE MOMENT"))


def test_what_the_font_lacks_is_a_box():
    assert np.array_equal(drawn("é"), drawn("ü"))
    assert lit(drawn("é")).any()


@pytest.mark.parametrize("size", [(2, 2), (16, 4096), (512, 512), (1080, 1920)])
@pytest.mark.parametrize("text", ["", "X", "A LONG NOTICE THAT IS CUT WHERE IT IS TOO LONG FOR ANYBODY"])
def test_any_text_fits_any_picture(size, text):
    assert drawn(text, *size).shape == (*size, 3)


def test_the_next_picture_may_have_another_size():
    notice = Notice("X")
    for height, width in ((64, 64), (128, 64)):
        target = np.zeros((height, width, 3), np.uint8)
        notice.draw(np.zeros_like(target), target)
        assert lit(target).any()
