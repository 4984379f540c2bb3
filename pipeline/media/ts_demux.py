"""MPEG-TS bytes to access units, incrementally: each call gives what is complete, at once, and nothing is probed.

It reports damage and repairs none: what to show after a gap is the decoder's decision. One video picture per PES is
assumed, as every live muxer we know writes; of several video or audio streams the first supported one is taken.
"""

from pipeline.media.access_unit import CLOCK_HZ, AccessUnit, Codec, Loss, StreamInfo, starts_with_random_access
from pipeline.media.psi import PAT_PID, ProgramMap, parse_pat, parse_pmt, section_of

PACKET_BYTES = 188
SYNC_BYTE = 0x47

# A picture larger than this is no picture: the largest IDR measured at 8K and 200 Mb/s is below 8 MB.
MAX_PES_BYTES = 16 * 1024 * 1024
# PES that must end where stuffing said so before stuffing is believed (see _PesAssembler).
STUFFING_TRUST = 3
# A timestamp that is missing is guessed from the step before it, unless that step was a jump.
MAX_GUESSED_STEP = CLOCK_HZ

_PES_HEADER_BYTES = 9
_NEVER = -(1 << 62)
_WRAP = 1 << 33


class TsDemuxer:
    """Feed it bytes cut anywhere; it never blocks and holds at most one unfinished access unit per stream."""

    def __init__(self, near: int | None = None) -> None:
        """`near`: a time without the 33-bit wrap that the first timestamp is close to; None: it is taken as it is."""
        self.continuity_errors = 0
        self.resyncs = 0
        self.transport_errors = 0
        self.oversized = 0
        self.untimed = 0
        self._tail = b""
        self._in_sync = True
        self._pmt_pid = -1
        self._psi_seen: dict[int, bytes] = {}
        self._program: ProgramMap | None = None
        self._assemblers: dict[int, _PesAssembler] = {}
        self._clock = _Unwrapper(near)
        self._unrecognized = 0

    @property
    def streams(self) -> StreamInfo | None:
        """What the newest programme map announced; None before the first one."""
        return self._program.info if self._program else None

    @property
    def bytes_unrecognized(self) -> int:
        """Bytes fed so far without any programme map among them; 0 once there was one."""
        return self._unrecognized

    @property
    def bytes_held(self) -> int:
        """Bytes of what is not complete yet: at most MAX_PES_BYTES for each of two streams, and two TS packets."""
        return len(self._tail) + sum(assembler.bytes_held for assembler in self._assemblers.values())

    def feed(self, data: bytes) -> list[AccessUnit]:
        """Take the next bytes of the stream, and return the access units that they complete, in stream order."""
        units: list[AccessUnit] = []
        if self._program is None:
            self._unrecognized += len(data)
        buffer = self._tail + data if self._tail else data
        position, end = 0, len(buffer)
        assemblers = self._assemblers
        while position + PACKET_BYTES <= end:
            if buffer[position] != SYNC_BYTE or not self._in_sync:
                position = self._find_sync(buffer, position)
                if self._in_sync:
                    continue
                break
            pid = (buffer[position + 1] & 0x1F) << 8 | buffer[position + 2]
            assembler = assemblers.get(pid)
            if assembler is not None:
                assembler.push(buffer, position, units)
            elif pid == PAT_PID or pid == self._pmt_pid:
                self._take_psi(pid, buffer[position : position + PACKET_BYTES], units)
            position += PACKET_BYTES
        self._tail = buffer[position:]
        return units

    def flush(self) -> list[AccessUnit]:
        """Return the units still open, at the end of the stream or of a segment that is known to end a picture."""
        units: list[AccessUnit] = []
        for assembler in self._assemblers.values():
            if self._tail or not self._in_sync:
                assembler.note_gap()  # What was cut off or is no packet may have been its end.
            assembler.finish(units)
        self._tail, self._in_sync = b"", True
        return units

    def discontinuity(self) -> None:
        """Note that bytes are missing here, as the transport knows it (a lost or shortened segment)."""
        self._tail, self._in_sync = b"", True
        for assembler in self._assemblers.values():
            assembler.note_gap()

    def _find_sync(self, buffer: bytes, position: int) -> int:
        """Where the next packet begins: a sync byte with another one a packet later. If the bytes do not reach so far,
        where it may begin, and the search goes on with the next ones."""
        if self._in_sync:
            self.resyncs += 1
            self._in_sync = False
        position = buffer.find(SYNC_BYTE, position)
        while 0 <= position < len(buffer) - PACKET_BYTES:
            if buffer[position + PACKET_BYTES] == SYNC_BYTE:
                self._in_sync = True
                return position
            position = buffer.find(SYNC_BYTE, position + 1)
        return position if position >= 0 else len(buffer)

    def _take_psi(self, pid: int, packet: bytes, units: list[AccessUnit]) -> None:
        section = section_of(packet)
        if not section or self._psi_seen.get(pid) == section:
            return
        if pid == PAT_PID:
            pmt_pid = parse_pat(section)
            if pmt_pid is None:
                return
            if pmt_pid != self._pmt_pid:
                self._psi_seen.clear()
                self._pmt_pid = pmt_pid
        else:
            program = parse_pmt(section)
            if program is None:
                return
            self._adopt(program, units)
        self._psi_seen[pid] = section

    def _adopt(self, program: ProgramMap, units: list[AccessUnit]) -> None:
        self._program = program
        self._unrecognized = 0
        for pid, assembler in list(self._assemblers.items()):
            if program.codecs.get(pid) is not assembler.codec:
                assembler.finish(units)
                del self._assemblers[pid]
        for pid, codec in program.codecs.items():
            # Tables that claim to be streams as well would never be read again.
            if pid not in self._assemblers and pid not in (PAT_PID, self._pmt_pid):
                self._assemblers[pid] = _PesAssembler(codec, self)

    def unwrap(self, timestamp: int) -> int:
        """Undo the 33-bit wrap, on one reference for audio and video so that they stay on one timeline."""
        return self._clock.unwrap(timestamp)


class _Unwrapper:
    def __init__(self, reference: int | None) -> None:
        self._reference = reference

    def unwrap(self, timestamp: int) -> int:
        if self._reference is None:
            self._reference = timestamp
            return timestamp
        step = (timestamp - self._reference) % _WRAP
        if step >= _WRAP // 2:
            step -= _WRAP
        self._reference += step
        return self._reference


class _PesAssembler:
    """Joins the TS packets of one PID to PES packets.

    A video PES may come without a length. Waiting for the next one to begin would cost a frame of delay, so its end
    is inferred from the stuffing of its last TS packet. A muxer may stuff in mid-PES too: stuffing is believed only
    after it was right STUFFING_TRUST times, and never again once it was wrong.
    """

    __slots__ = (
        "_chunks",
        "_closed_by_length",
        "_closed_by_stuffing",
        "_continuity",
        "_demuxer",
        "_expected",
        "_gap",
        "_last_dts",
        "_last_payload",
        "_loss",
        "_open",
        "_random_access",
        "_random_access_next",
        "_size",
        "_step",
        "_stuffed_last",
        "_trust",
        "codec",
    )

    def __init__(self, codec: Codec, demuxer: TsDemuxer) -> None:
        self.codec = codec
        self._demuxer = demuxer
        self._chunks: list[bytes] = []
        self._size = 0
        self._expected = 0
        self._open = False
        self._loss = Loss.NONE
        self._gap = False
        self._continuity = -1
        self._last_payload = b""
        self._random_access = False
        self._random_access_next = False
        self._trust = 0
        self._stuffed_last = False
        self._closed_by_stuffing = False
        self._closed_by_length = False
        self._last_dts: int | None = None
        self._step = 0

    def push(self, buffer: bytes, start: int, units: list[AccessUnit]) -> None:
        """Take the TS packet at buffer[start : start + 188] (ISO 13818-1 2.4.3.2)."""
        flags = buffer[start + 1]
        if flags & 0x80:  # transport_error_indicator
            self._demuxer.transport_errors += 1
            self._gap = True
            return
        begins = flags & 0x40  # payload_unit_start_indicator
        control = buffer[start + 3]
        payload_start = start + 4
        end = start + PACKET_BYTES
        stuffed = False
        if control & 0x20:
            length = buffer[payload_start]
            stuffed = self._adaptation(buffer, payload_start, length, begins)
            payload_start += 1 + length
        if not control & 0x10 or payload_start >= end:
            return
        payload = buffer[payload_start:end]
        if not self._continues(control & 0x0F, payload):
            self._random_access_next = False
            return
        if begins:
            self._begin(payload, units)
        elif self._open:
            self._append(payload)
        elif self._closed_by_stuffing and not self._gap:
            self._distrust_stuffing()
        elif self._closed_by_length:
            self._gap = True  # The length was wrong, so that what came out was cut short.
        if not self._open:
            return
        if self._expected:
            if self._size >= self._expected:
                self._emit(units)
                self._closed_by_length = True
        elif stuffed:
            self._stuffed_last = True
            if self._trust >= STUFFING_TRUST:
                self._emit(units)
                self._closed_by_stuffing = True

    @property
    def bytes_held(self) -> int:
        return self._size if self._open else 0

    def finish(self, units: list[AccessUnit]) -> None:
        """Emit what is open; damaged if a gap came after what there is of it."""
        if self._open:
            if self._gap:
                self._loss = Loss.INSIDE
            self._emit(units)

    def note_gap(self) -> None:
        self._gap = True
        self._continuity = -1

    def _adaptation(self, buffer: bytes, start: int, length: int, begins: int) -> bool:
        """Read the adaptation field (2.4.3.4) and say whether it holds stuffing."""
        if length == 0:
            return True
        if length > PACKET_BYTES - 5:
            return False
        flags = buffer[start + 1]
        if flags & 0x80 and self._continuity >= 0:  # discontinuity_indicator
            self.note_gap()
        if flags & 0x40 and begins:  # random_access_indicator
            self._random_access_next = True  # the unit before this packet may still be open
        if flags & 0x03:  # private data or an extension: their length is not worth parsing
            return False
        used = 1 + (6 if flags & 0x10 else 0) + (6 if flags & 0x08 else 0) + (1 if flags & 0x04 else 0)
        return length > used

    def _continues(self, counter: int, payload: bytes) -> bool:
        """Check the continuity counter (2.4.3.3); false for a duplicate packet, which is to be ignored."""
        last = self._continuity
        if last >= 0 and counter != (last + 1) & 0x0F:
            # The counter alone would call one gap in 16 a duplicate, and drop a whole picture: compare the bytes.
            if counter == last and payload == self._last_payload:
                return False
            self._demuxer.continuity_errors += 1
            self._gap = True
        self._continuity = counter
        self._last_payload = payload
        return True

    def _begin(self, payload: bytes, units: list[AccessUnit]) -> None:
        if self._open:
            if self._gap:
                self._loss = Loss.INSIDE  # the end of the previous unit may be what is missing
            self._emit(units)
        self._random_access, self._random_access_next = self._random_access_next, False
        if self._stuffed_last:
            self._trust += 1
            self._stuffed_last = False
        self._closed_by_stuffing = self._closed_by_length = False
        self._loss = Loss.BEFORE if self._gap else Loss.NONE
        self._gap = False
        begins_pes = len(payload) >= _PES_HEADER_BYTES and payload.startswith(b"\x00\x00\x01")
        length = payload[4] << 8 | payload[5] if begins_pes else 0
        self._open = begins_pes and (length == 0 or length + 6 >= _PES_HEADER_BYTES)
        if not self._open:
            self._gap = True
            return
        self._expected = length + 6 if length else 0
        self._chunks = [payload]
        self._size = len(payload)

    def _append(self, payload: bytes) -> None:
        if self._stuffed_last:
            self._stuffed_last = False
            if not self._gap:
                self._distrust_stuffing()
        self._chunks.append(payload)
        self._size += len(payload)
        if self._gap:
            self._loss = Loss.INSIDE
            self._gap = False
        if self._size > MAX_PES_BYTES:
            self._demuxer.oversized += 1
            self._chunks = []
            self._open = False
            self._gap = True

    def _distrust_stuffing(self) -> None:
        self._trust = _NEVER
        self._closed_by_stuffing = False

    def _emit(self, units: list[AccessUnit]) -> None:
        """Close the PES (2.4.3.6) and append its access unit, unless no time can be told for it."""
        pes = b"".join(self._chunks)
        self._chunks = []
        self._open = False
        loss = self._loss
        if self._expected:
            if len(pes) < self._expected:
                loss = Loss.INSIDE
            pes = pes[: self._expected]
        timestamps = self._timestamps(pes)
        if timestamps is None:
            self._demuxer.untimed += 1
            self._gap = True
            return
        data = pes[9 + pes[8] :]
        key = self._random_access or not self.codec.is_video or starts_with_random_access(self.codec, data)
        units.append(AccessUnit(self.codec, timestamps[0], timestamps[1], data, key, loss))

    def _timestamps(self, pes: bytes) -> tuple[int, int] | None:
        """PTS and DTS of a PES, unwrapped; a missing one is guessed from the units before it."""
        flags = pes[7]
        raw_pts = _timestamp(pes, 9) if flags & 0x80 and len(pes) >= 14 else None
        if raw_pts is None:
            if self._last_dts is None or not self._step:
                return None
            pts = dts = self._last_dts + self._step
        else:
            pts = dts = self._demuxer.unwrap(raw_pts)
            raw_dts = _timestamp(pes, 14) if flags & 0x40 and len(pes) >= 19 else None
            if raw_dts is not None:
                dts = self._demuxer.unwrap(raw_dts)
        if self._last_dts is not None and 0 < dts - self._last_dts <= MAX_GUESSED_STEP:
            self._step = dts - self._last_dts
        self._last_dts = dts
        return pts, dts


def _timestamp(pes: bytes, at: int) -> int | None:
    """A 33-bit timestamp of a PES header; None if one of its marker bits is wrong (2.4.3.7)."""
    first, third, fifth = pes[at], pes[at + 2], pes[at + 4]
    if not first & third & fifth & 1:
        return None
    return (first >> 1 & 7) << 30 | pes[at + 1] << 22 | third >> 1 << 15 | pes[at + 3] << 7 | fifth >> 1
