"""Access units to MPEG-TS bytes, at once: there is no interleaving queue, which in libavformat costs 1 to 11 frames.

It writes packets and tables. When to write a table and where a segment begins is the segmenter's business.
"""

from pipeline.media.access_unit import Codec
from pipeline.media.psi import PAT_PID, ElementaryStream, pat_payload, pmt_payload

PMT_PID = 0x1000
VIDEO_PID = 0x100
AUDIO_PID = 0x101
# The PCR runs this far ahead of the DTS, in 90 kHz ticks: the time that a receiver has to buffer.
PCR_LEAD = 9_000

_PAYLOAD_BYTES = 184
_MAX_PES_LENGTH = 0xFFFF
_TIMESTAMP_MASK = (1 << 33) - 1
_AUDIO_STREAM_ID = 0xC0
_PRIVATE_STREAM_1 = 0xBD
# ISO 13818-1 2.14.1 wants an access unit delimiter in front of each H.264 picture, 2.17.1 of each HEVC picture.
_DELIMITERS = {Codec.H264: b"\x00\x00\x00\x01\x09\xf0", Codec.HEVC: b"\x00\x00\x00\x01\x46\x01\x50"}


class TsMuxer:
    """One programme with one video stream and at most one audio stream. Continuity counters run on across segments."""

    def __init__(self, video: Codec = Codec.H264, audio: Codec | None = None, audio_channels: int = 2) -> None:
        self.audio_codec = audio
        self._audio_channels = audio_channels
        self._video = video
        self._delimiter = _DELIMITERS[video]
        self._version = 0
        self._continuity = {PAT_PID: 0, PMT_PID: 0, VIDEO_PID: 0, AUDIO_PID: 0}
        self._pat = pat_payload(PMT_PID)
        self._pmt = self._map()

    def set_audio(self, codec: Codec | None, channels: int = 2) -> None:
        """Announce another audio codec from the next `psi()` on; the same again changes nothing."""
        if (codec, channels) == (self.audio_codec, self._audio_channels):
            return
        self.audio_codec = codec
        self._audio_channels = channels
        self._version += 1
        self._pmt = self._map()

    def psi(self) -> bytes:
        """PAT and PMT, 2 TS packets: what a segment begins with."""
        return b"".join(self._table(pid, payload) for pid, payload in ((PAT_PID, self._pat), (PMT_PID, self._pmt)))

    def video(self, data: bytes, pts: int, dts: int | None = None, key: bool = False) -> bytes:
        """TS packets of one Annex B access unit; times in 90 kHz ticks, `dts` the same as `pts` if not given."""
        if dts is None:
            dts = pts
        if dts == pts:
            header = b"\x84\x80\x05" + _timestamp(2, pts)
        else:
            header = b"\x84\xc0\x0a" + _timestamp(3, pts) + _timestamp(1, dts)
        delimiter = b"" if data.startswith((self._delimiter, self._delimiter[1:])) else self._delimiter
        length = len(header) + len(delimiter) + len(data)
        # Length 0 means unbounded, allowed for video only (2.4.3.7); set, it spares the receiver a frame of waiting.
        length = length if length <= _MAX_PES_LENGTH else 0
        pes = b"".join((b"\x00\x00\x01\xe0", length.to_bytes(2, "big"), header, delimiter, data))
        return self._packets(VIDEO_PID, pes, _clock_field(dts - PCR_LEAD, key))

    def audio(self, payload: bytes, pts: int) -> bytes:
        """TS packets of one audio payload: ADTS frames, or Opus with its control headers.

        Raises ValueError for a payload that does not fit a PES packet, 64 KiB.
        """
        length = 8 + len(payload)
        if length > _MAX_PES_LENGTH:
            raise ValueError(f"audio payload of {len(payload)} bytes does not fit a PES packet")
        stream_id = _PRIVATE_STREAM_1 if self.audio_codec is Codec.OPUS else _AUDIO_STREAM_ID
        start = bytes((0, 0, 1, stream_id)) + length.to_bytes(2, "big")
        return self._packets(AUDIO_PID, start + b"\x84\x80\x05" + _timestamp(2, pts) + payload, b"")

    def _map(self) -> bytes:
        streams = [ElementaryStream(VIDEO_PID, self._video)]
        if self.audio_codec is not None:
            streams.append(ElementaryStream(AUDIO_PID, self.audio_codec, self._audio_channels))
        return pmt_payload(streams, VIDEO_PID, self._version)

    def _table(self, pid: int, payload: bytes) -> bytes:
        counter = self._continuity[pid]
        self._continuity[pid] = (counter + 1) & 15
        return bytes((0x47, 0x40 | pid >> 8, pid & 0xFF, 0x10 | counter)) + payload

    def _packets(self, pid: int, pes: bytes, field: bytes) -> bytes:
        """Cut a PES into TS packets; `field` is the adaptation field of the first one, without its length byte."""
        high, low = pid >> 8, pid & 0xFF
        counter = self._continuity[pid]
        headers = _HEADERS[pid]
        parts: list[bytes] = []
        position, end = 0, len(pes)
        if field:
            room = _PAYLOAD_BYTES - 1 - len(field)
            if end >= room:
                parts += (bytes((0x47, 0x40 | high, low, 0x30 | counter, len(field))), field, pes[:room])
                position = room
            else:
                parts += (bytes((0x47, 0x40 | high, low, 0x30 | counter)), _stuffed(field, room - end), pes)
                position = end
            counter = (counter + 1) & 15
        elif end >= _PAYLOAD_BYTES:
            parts += (bytes((0x47, 0x40 | high, low, 0x10 | counter)), pes[:_PAYLOAD_BYTES])
            position = _PAYLOAD_BYTES
            counter = (counter + 1) & 15
        last_whole = end - _PAYLOAD_BYTES
        while position <= last_whole:
            parts += (headers[counter], pes[position : position + _PAYLOAD_BYTES])
            position += _PAYLOAD_BYTES
            counter = (counter + 1) & 15
        if position < end:
            begins = 0x40 if position == 0 else 0
            padding = _PAYLOAD_BYTES - (end - position)
            parts += (bytes((0x47, begins | high, low, 0x30 | counter)), _padding(padding), pes[position:])
            counter = (counter + 1) & 15
        self._continuity[pid] = counter
        return b"".join(parts)


def _clock_field(pcr: int, key: bool) -> bytes:
    """Flags and PCR of an adaptation field (2.4.3.4); the PCR in 90 kHz ticks, its 27 MHz extension 0."""
    pcr &= _TIMESTAMP_MASK
    flags = 0x50 if key else 0x10
    return bytes((flags, pcr >> 25, pcr >> 17 & 0xFF, pcr >> 9 & 0xFF, pcr >> 1 & 0xFF, (pcr & 1) << 7 | 0x7E, 0))


def _stuffed(field: bytes, padding: int) -> bytes:
    return bytes((len(field) + padding,)) + field + b"\xff" * padding


def _padding(size: int) -> bytes:
    """An adaptation field of `size` bytes, length byte included, that holds nothing."""
    return b"\x00" if size == 1 else bytes((size - 1, 0)) + b"\xff" * (size - 2)


def _timestamp(prefix: int, ticks: int) -> bytes:
    """5 bytes of a PES header (2.4.3.7): 4 prefix bits and 33 bits of time with their marker bits."""
    ticks &= _TIMESTAMP_MASK
    return bytes(
        (
            prefix << 4 | ticks >> 29 & 0x0E | 1,
            ticks >> 22 & 0xFF,
            ticks >> 14 & 0xFE | 1,
            ticks >> 7 & 0xFF,
            ticks << 1 & 0xFE | 1,
        )
    )


def _plain_headers(pid: int) -> list[bytes]:
    return [bytes((0x47, pid >> 8, pid & 0xFF, 0x10 | counter)) for counter in range(16)]


_HEADERS = {pid: _plain_headers(pid) for pid in (VIDEO_PID, AUDIO_PID)}
