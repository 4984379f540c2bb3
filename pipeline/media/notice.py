"""A line of text over a picture, for viewers who have to wait: drawn with a font of 5x7 dots, since no font file is
known to be anywhere."""

import numpy as np
from numpy.typing import NDArray

DOTS_WIDE, DOTS_HIGH = 5, 7
MAX_CHARACTERS = 40

_SHARE_OF_WIDTH = 0.8
"""How much of the picture's width the text takes, at most."""

_SHARE_OF_HEIGHT = 0.12
_DIM_SHIFT = 2
"""What is behind the text is dimmed to a quarter."""

# Seven rows a character, five bits a row, the leftmost dot the highest bit.
_FONT = {
    " ": "00 00 00 00 00 00 00",
    "A": "0e 11 11 1f 11 11 11",
    "B": "1e 11 11 1e 11 11 1e",
    "C": "0e 11 10 10 10 11 0e",
    "D": "1e 11 11 11 11 11 1e",
    "E": "1f 10 10 1e 10 10 1f",
    "F": "1f 10 10 1e 10 10 10",
    "G": "0e 11 10 17 11 11 0f",
    "H": "11 11 11 1f 11 11 11",
    "I": "0e 04 04 04 04 04 0e",
    "J": "07 02 02 02 02 12 0c",
    "K": "11 12 14 18 14 12 11",
    "L": "10 10 10 10 10 10 1f",
    "M": "11 1b 15 15 11 11 11",
    "N": "11 11 19 15 13 11 11",
    "O": "0e 11 11 11 11 11 0e",
    "P": "1e 11 11 1e 10 10 10",
    "Q": "0e 11 11 11 15 12 0d",
    "R": "1e 11 11 1e 14 12 11",
    "S": "0f 10 10 0e 01 01 1e",
    "T": "1f 04 04 04 04 04 04",
    "U": "11 11 11 11 11 11 0e",
    "V": "11 11 11 11 11 0a 04",
    "W": "11 11 11 15 15 15 0a",
    "X": "11 11 0a 04 0a 11 11",
    "Y": "11 11 11 0a 04 04 04",
    "Z": "1f 01 02 04 08 10 1f",
    "0": "0e 11 13 15 19 11 0e",
    "1": "04 0c 04 04 04 04 0e",
    "2": "0e 11 01 02 04 08 1f",
    "3": "1f 02 04 02 01 11 0e",
    "4": "02 06 0a 12 1f 02 02",
    "5": "1f 10 1e 01 01 11 0e",
    "6": "06 08 10 1e 11 11 0e",
    "7": "1f 01 02 04 08 08 08",
    "8": "0e 11 11 0e 11 11 0e",
    "9": "0e 11 11 0f 01 02 0c",
    ".": "00 00 00 00 00 0c 0c",
    ",": "00 00 00 00 0c 04 08",
    "-": "00 00 00 1f 00 00 00",
    ":": "00 0c 0c 00 0c 0c 00",
    "!": "04 04 04 04 04 00 04",
    "?": "0e 11 01 02 04 00 04",
}
_UNKNOWN = "1f 11 11 11 11 11 1f"


class Notice:
    """Draws `text`, in capitals, one picture after another. Characters that the font lacks become boxes."""

    def __init__(self, text: str) -> None:
        self._dots = _dots(text[:MAX_CHARACTERS].upper())
        self._mask: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)

    def draw(self, picture: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
        """Write `picture` dimmed, with the text in its middle, into `target`; both uint8 [height, width, 3]."""
        if self._mask.shape != target.shape[:2]:
            self._mask = _lay_out(self._dots, *target.shape[:2])
        np.right_shift(picture, _DIM_SHIFT, out=target)
        target[self._mask] = 255


def _dots(text: str) -> NDArray[np.bool_]:
    """The text as dots, [7, 6 per character]."""
    columns = []
    for character in text:
        rows = bytes.fromhex(_FONT.get(character, _UNKNOWN))
        columns.append(np.array([[row >> (DOTS_WIDE - 1 - x) & 1 for x in range(DOTS_WIDE)] + [0] for row in rows]))
    return np.hstack(columns).astype(np.bool_) if columns else np.zeros((DOTS_HIGH, 1), np.bool_)


def _lay_out(dots: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """The dots as large as they may be, in the middle of a picture; cut where it is too small for them."""
    scale = max(1, int(min(width * _SHARE_OF_WIDTH / dots.shape[1], height * _SHARE_OF_HEIGHT / dots.shape[0])))
    text = dots.repeat(scale, axis=0).repeat(scale, axis=1)[:height, :width]
    mask = np.zeros((height, width), np.bool_)
    top, left = (height - text.shape[0]) // 2, (width - text.shape[1]) // 2
    mask[top : top + text.shape[0], left : left + text.shape[1]] = text
    return mask
