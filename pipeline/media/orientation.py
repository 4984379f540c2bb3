"""How a picture lies in its file: phones write it as their sensor has it, with a matrix that says how to show it.

MPEG-TS has no such matrix; H.264 and HEVC have a message for it that travels with the pictures.
"""

import struct
from collections.abc import Iterable
from typing import cast

import av
import msgspec
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType

from pipeline.media.access_unit import AccessUnit, Codec, first_slice

_MATRIX = struct.Struct("=9i")
_SEI_DISPLAY_ORIENTATION = 47
_NAL_HEADERS = {Codec.H264: b"\x00\x00\x00\x01\x06", Codec.HEVC: b"\x00\x00\x00\x01\x4e\x01"}
# H.264 D.1.27 closes with a repetition period of 1 and no extension, H.265 D.2.20 with its persistence flag.
_TAILS = {Codec.H264: "0100", Codec.HEVC: "1"}


class Orientation(msgspec.Struct, frozen=True):
    """Mirror the picture left to right if `flip`, then turn it by `degrees` against the clock: 0, 90, 180 or 270."""

    degrees: int = 0
    flip: bool = False

    @property
    def is_upright(self) -> bool:
        return self.degrees == 0 and not self.flip

    @property
    def filters(self) -> list[tuple[str, str]]:
        """The filters that show the picture, with their arguments."""
        turns = {
            0: [],
            90: [("transpose", "cclock")],
            180: [("hflip", ""), ("vflip", "")],
            270: [("transpose", "clock")],
        }
        return [("hflip", ""), *turns[self.degrees]] if self.flip else turns[self.degrees]


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """What the frame's display matrix says, to the next right angle; upright without one."""
    sides = cast(Iterable[SideData], frame.side_data)  # PyAV's type knows of motion vectors alone.
    data = next((side for side in sides if side.type is SideDataType.DISPLAYMATRIX), None)
    if data is None:
        return Orientation()
    matrix = _MATRIX.unpack(bytes(data))
    # A column of the matrix is where an axis of the picture goes; a negative determinant means that it is mirrored.
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    flip = a * d - b * c < 0
    right = (-a, -b) if flip else (a, b)
    if abs(right[0]) >= abs(right[1]):
        return Orientation(0 if right[0] > 0 else 180, flip)
    return Orientation(90 if right[1] < 0 else 270, flip)


def with_orientation(unit: AccessUnit, orientation: Orientation) -> AccessUnit:
    """The same picture with a display orientation message (SEI, type 47) before its first slice."""
    at = first_slice(unit.codec, unit.data)
    if at is None:
        return unit
    message = display_orientation(unit.codec, orientation)
    return msgspec.structs.replace(unit, data=unit.data[:at] + message + unit.data[at:])


def display_orientation(codec: Codec, orientation: Orientation) -> bytes:
    """The message as a NAL unit in Annex B form (H.264 D.1.27, H.265 D.2.20). Its turn counts units of 360 / 2**16."""
    bits = f"0{orientation.flip:b}0{orientation.degrees * 65536 // 360:016b}{_TAILS[codec]}"
    if len(bits) % 8:
        bits += "1" + "0" * (-(len(bits) + 1) % 8)
    payload = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return _NAL_HEADERS[codec] + bytes((_SEI_DISPLAY_ORIENTATION, len(payload))) + payload + b"\x80"
