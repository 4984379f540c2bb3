"""A frame number burnt into a picture, that a program reads back after scaling, cropping, coding and colour changes.

9 x 4 cells of H/18, centred, bottom at 15/16 H; every position is a fraction of the height, so the code survives
"cover, then crop the centre to a square". Row by row: white black | 24 bits, high first | CRC-8 | black white. The
four reference cells give the threshold, and tell an inverted picture.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS = 9, 4
INDEX_BITS = 24
_HIGH, _LOW = 225, 30
_CELLS_PER_HEIGHT = 18
# Reference cells closer than this, of 255, are noise.
_MIN_CONTRAST = 20.0


class IndexReading(msgspec.Struct, frozen=True):
    index: int
    inverted: bool


def draw_index(rgb: NDArray[np.uint8], index: int) -> None:
    """Burn `index` modulo 2**24 into `rgb`, uint8 [H, W, 3] or [H, W], in place. Wants W >= H / 2 and H >= 36."""
    xs, ys = _edges(*rgb.shape[:2])
    for cell, bit in enumerate(_bits(index % (1 << INDEX_BITS))):
        row, column = divmod(cell, COLUMNS)
        rgb[ys[row] : ys[row + 1], xs[column] : xs[column + 1]] = _HIGH if bit else _LOW


def read_index(image: NDArray[np.uint8]) -> IndexReading | None:
    """The number in `image`, uint8 [H, W, 3] or [H, W]; None if there is none that can be trusted."""
    levels = _levels(image)
    high, low = (levels[0] + levels[-1]) / 2, (levels[1] + levels[-2]) / 2
    if abs(high - low) < _MIN_CONTRAST:
        return None
    inverted = bool(high < low)
    bits = (levels > (high + low) / 2) ^ inverted
    if not (bits[0] and not bits[1] and not bits[-2] and bits[-1]):
        return None
    index = _number(bits[2 : 2 + INDEX_BITS])
    if _number(bits[2 + INDEX_BITS : -2]) != _crc8(index):
        return None
    return IndexReading(index, inverted)


def _levels(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean of the inner half of each cell: its edges are blurred by scaling and coding."""
    xs, ys = _edges(*image.shape[:2])
    levels = []
    for row in range(ROWS):
        top, bottom = _inner(ys[row], ys[row + 1])
        for column in range(COLUMNS):
            left, right = _inner(xs[column], xs[column + 1])
            cell = image[max(0, top) : bottom, max(0, left) : right]
            levels.append(float(cell.mean()) if cell.size else 0.0)
    return np.array(levels)


def _inner(start: int, end: int) -> tuple[int, int]:
    margin = (end - start) // 4
    return start + margin, max(start + margin + 1, end - margin)


def _edges(height: int, width: int) -> tuple[list[int], list[int]]:
    cell = height / _CELLS_PER_HEIGHT
    left = width / 2 - COLUMNS * cell / 2
    top = height * 15 / 16 - ROWS * cell
    xs = [max(0, round(left + i * cell)) for i in range(COLUMNS + 1)]
    ys = [max(0, round(top + i * cell)) for i in range(ROWS + 1)]
    return xs, ys


def _bits(index: int) -> list[int]:
    crc = _crc8(index)
    number = [index >> i & 1 for i in reversed(range(INDEX_BITS))]
    return [1, 0, *number, *(crc >> i & 1 for i in reversed(range(8))), 0, 1]


def _number(bits: NDArray[np.bool_]) -> int:
    return int("".join("1" if bit else "0" for bit in bits), 2)


def _crc8(index: int) -> int:
    """CRC-8 with polynomial 0x2F (AUTOSAR), from 0xA5 so that index 0 does not give 0."""
    crc = 0xA5
    for byte in index.to_bytes(3, "big"):
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x2F if crc & 0x80 else crc << 1) & 0xFF
    return crc
