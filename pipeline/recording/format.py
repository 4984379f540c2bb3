"""The file that a recording is: records one after the other, each whole or not there.

    magic    "LIVEPIPE-RECORDING 1\\n": what it is, and the version of the records
    record   length (4 bytes, big-endian), CRC-32 of what follows (4 bytes), one Record as msgpack

It is only ever appended to, so whatever dies while writing leaves a file that is good up to there; a reader stops at
the first record that is not whole and says so. Times (`_ns`) are the recorded machine's CLOCK_MONOTONIC.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

MAGIC = b"LIVEPIPE-RECORDING 1\n"
_KIND = b"LIVEPIPE-RECORDING "

MAX_RECORD_BYTES = 64 << 20
"""What claims to be longer is damage."""

_PREFIX = struct.Struct(">II")


class Header(msgspec.Struct, array_like=True, frozen=True, tag="header"):
    """The first record, and once more where a recorder went on in the place of one that died. `topology` is the
    resolved one without its secrets, with the parameters in force when the recording began; `versions` are those of
    livepipe and of what it computes with; `began` is seconds since the epoch (UTC)."""

    pipeline: str
    stream: str
    epoch: int
    began: float
    began_ns: int
    versions: dict[str, str]
    topology: dict[str, Any]


class Input(msgspec.Struct, array_like=True, frozen=True, tag="input"):
    """Bytes of a segment as ingress handed them to decode: see messages.EncodedBytes."""

    segment: int
    offset: int
    at_ns: int
    last: bool
    gap: bool
    data: bytes


class InputEnd(msgspec.Struct, array_like=True, frozen=True, tag="input_end"):
    """The source came to its end."""

    at_ns: int


class Timeline(msgspec.Struct, array_like=True, frozen=True, tag="timeline"):
    """How decode's timeline was before `segment`, where the recording begins in the middle of a stream: see
    media.timeline.Timeline."""

    segment: int
    offset: int
    last_video: int | None


class Frame(msgspec.Struct, array_like=True, frozen=True, tag="frame"):
    """A picture that egress showed. `part` tells those that one frame became apart. `digest` and `sketch` are those of
    its pixels before they were encoded, see picture_digest; empty for one that had none of its own. `pts` counts
    1/90000 s, `outcome` is as what it was counted."""

    seq: int
    part: int
    pts: int
    outcome: str
    at_ns: int
    width: int
    height: int
    digest: bytes
    sketch: bytes


class Change(msgspec.Struct, array_like=True, frozen=True, tag="change"):
    """Parameters that a stage, told by its worker's name, took after the picture at `after`; None: before the first."""

    worker: str
    params: dict[str, Any]
    after: int | None
    at_ns: int


class Happened(msgspec.Struct, array_like=True, frozen=True, tag="event"):
    """A supervision event: see messages.SupervisionEvent."""

    time: float
    level: str
    stage: str
    name: str
    fields: dict[str, str | int | float]


class Hole(msgspec.Struct, array_like=True, frozen=True, tag="hole"):
    """`lost` records of `stage` did not get here: the recorder was too slow, or dead."""

    stage: str
    lost: int
    at_ns: int


class OutputEnd(msgspec.Struct, array_like=True, frozen=True, tag="output_end"):
    """Egress has shown everything that there was."""

    at_ns: int


class End(msgspec.Struct, array_like=True, frozen=True, tag="end"):
    """The last record. `whole`: the stream is in it up to its own end."""

    reason: str
    whole: bool
    at_ns: int


Record = Header | Input | InputEnd | Timeline | Frame | Change | Happened | Hole | OutputEnd | End
Tappable = Input | InputEnd | Frame | Change | OutputEnd
"""What stages tell a recorder."""

_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_encoder = msgspec.msgpack.Encoder()


class RecordingError(Exception):
    """A file that is no recording, or none that can be read here. The text is one line for the user."""


class RecordingWriter:
    """Appends to a file. What was written survives the death of this process."""

    def __init__(self, path: Path, *, goes_on: bool = False) -> None:
        """`goes_on`: behind what a predecessor left, if there is something. Raises FileExistsError for a file that is
        there and not empty, RecordingError for one that is no recording, OSError when it cannot be written."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)  # It holds what was in front of a camera.
        try:
            self.size = os.fstat(self._fd).st_size
            self.is_new = not self.size
            if self.size and not goes_on:
                raise FileExistsError(17, "is there already; give another name, or remove it", str(path))
            if self.size:
                self.size = _whole_bytes(path)
                os.ftruncate(self._fd, self.size)
            else:
                self._write(MAGIC)
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, record: Record) -> None:
        """Raises OSError when there is no room."""
        data = _encoder.encode(record)
        self._write(_PREFIX.pack(len(data), zlib.crc32(data)) + data)

    def close(self) -> None:
        """Not before it is on the disk."""
        os.fsync(self._fd)
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size += len(data)


class RecordingReader:
    """Iterate over it for the records. Raises RecordingError for what is no recording."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.truncated = False
        """Once it was read: whether it ends in the middle of a record, or in damage."""
        with _open(path):
            pass

    def __iter__(self) -> Iterator[Record]:
        self.truncated = False
        with _open(self.path) as file:
            while (record := self._next(file)) is not None:
                yield record

    def _next(self, file: BinaryIO) -> Record | None:
        data = _read_whole(file)
        if not data:
            self.truncated = data is None
            return None
        try:
            return _decoder.decode(data)
        except msgspec.DecodeError as error:
            raise RecordingError(f"{self.path}: holds a record that is not known here: {error}") from error


def read_header(path: Path) -> Header:
    """Raises RecordingError when there is none."""
    first = next(iter(RecordingReader(path)), None)
    if not isinstance(first, Header):
        raise RecordingError(f"{path}: holds nothing: it was cut off before its first record")
    return first


def _open(path: Path) -> BinaryIO:
    try:
        file = path.open("rb")
        try:
            found = file.read(len(MAGIC))
        except OSError:
            file.close()
            raise
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from error
    if found == MAGIC:
        return file
    file.close()
    if found.startswith(_KIND):
        version = found[len(_KIND) :].decode(errors="replace").strip()
        raise RecordingError(f"{path}: is a recording of version {version}; this program reads version 1")
    raise RecordingError(f"{path}: is no recording; give a file that launcher.py record, or run --record, has written")


def _read_whole(file: BinaryIO) -> bytes | None:
    """The next record as it was encoded; empty at the end of the file, None where it is not whole."""
    prefix = file.read(_PREFIX.size)
    if not prefix:
        return b""
    if len(prefix) < _PREFIX.size:
        return None
    length, crc = _PREFIX.unpack(prefix)
    if not 0 < length <= MAX_RECORD_BYTES:
        return None
    data = file.read(length)
    return data if len(data) == length and zlib.crc32(data) == crc else None


def _whole_bytes(path: Path) -> int:
    """Up to where a file that somebody died over is good."""
    with _open(path) as file:
        good = len(MAGIC)
        while data := _read_whole(file):
            good += _PREFIX.size + len(data)
        return good
