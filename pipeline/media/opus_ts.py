"""Opus packets with and without the control header that MPEG-TS puts in front of each (the "Opus in MPEG-TS" draft).

The header: 11 bits 0x3FF, flags for start trim, end trim and extension, 2 reserved bits, then the size in bytes of
255 and a last one below. Bare packets cannot begin like this: it would be a packet of 32 frames, 640 ms.
"""

from collections.abc import Iterator

from pipeline.media.access_unit import CLOCK_HZ

_PREFIX = b"\x7f\xe0"
_START_TRIM, _END_TRIM, _EXTENSION = 0x10, 0x08, 0x04
# RFC 6716 table 2: frame length in 90 kHz ticks by the low bits of the config number.
_SILK_TICKS = (900, 1800, 3600, 5400)
_HYBRID_TICKS = (900, 1800)
_CELT_TICKS = (225, 450, 900, 1800)


def wrap_opus(packet: bytes) -> bytes:
    """One Opus packet with its control header."""
    return _PREFIX + b"\xff" * (len(packet) // 255) + bytes((len(packet) % 255,)) + packet


def has_control_header(payload: bytes) -> bool:
    return len(payload) > 2 and payload[0] == 0x7F and payload[1] & 0xE0 == 0xE0


def split_opus(payload: bytes) -> Iterator[bytes]:
    """The bare packets of a PES payload; what is cut or damaged at its end is left out."""
    at = 0
    while has_control_header(payload[at : at + 3]):
        flags = payload[at + 1]
        at += 2
        size = 0
        while at < len(payload) and payload[at] == 255:
            size += 255
            at += 1
        if at >= len(payload):
            return
        size += payload[at]
        at += 1 + (2 if flags & _START_TRIM else 0) + (2 if flags & _END_TRIM else 0)
        if flags & _EXTENSION:
            if at >= len(payload):
                return
            at += 1 + payload[at]
        if size == 0 or at + size > len(payload):
            return
        yield payload[at : at + size]
        at += size


def opus_ticks(packet: bytes) -> int:
    """Duration of a bare packet in 90 kHz ticks (RFC 6716 3.1); 0 for an empty one."""
    if not packet:
        return 0
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = _SILK_TICKS[config & 3]
    elif config < 16:
        frame = _HYBRID_TICKS[config & 1]
    else:
        frame = _CELT_TICKS[config & 3]
    frames = (1, 2, 2, packet[1] & 0x3F if len(packet) > 1 else 0)[code]
    return min(frame * frames, CLOCK_HZ)
