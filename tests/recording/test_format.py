"""The file of a recording: what was written is read, whatever died while writing."""

import os
import stat
from pathlib import Path

import pytest

from pipeline.recording.format import (
    MAGIC,
    Change,
    End,
    Frame,
    Happened,
    Header,
    Hole,
    Input,
    InputEnd,
    OutputEnd,
    Record,
    RecordingError,
    RecordingReader,
    RecordingWriter,
    Timeline,
    read_header,
)

HEADER = Header("demo", "main", 0, 1.5, 7, {"livepipe": "1"}, {"name": "demo", "stages": {}})
RECORDS: list[Record] = [
    HEADER,
    Input(3, 0, 10, False, True, b"\x47" * 188),
    Input(3, 188, 11, True, False, b""),
    Timeline(3, -90, None),
    Frame(0, 0, 3000, "delivered", 12, 16, 16, b"d" * 16, b"s" * 192),
    Change("inference", {"levels": 2, "nested": {"a": [1, None]}}, None, 13),
    Change("decode", {"width": 64}, 3000, 13),
    Happened(1.5, "error", "decode", "died", {"how": "SIGKILL", "retried": 1}),
    Hole("ingress", 2, 14),
    InputEnd(15),
    OutputEnd(16),
    End("the stream is over", True, 17),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.rec"


def write(path: Path, records: list[Record], *, goes_on: bool = False) -> None:
    writer = RecordingWriter(path, goes_on=goes_on)
    for record in records:
        writer.write(record)
    writer.close()
    assert writer.size == path.stat().st_size


def test_every_kind_of_record_comes_back_as_it_was(path: Path) -> None:
    write(path, RECORDS)
    reader = RecordingReader(path)
    assert list(reader) == RECORDS
    assert not reader.truncated
    assert read_header(path) == HEADER


def test_nobody_else_may_read_what_was_in_front_of_a_camera(path: Path) -> None:
    write(path, RECORDS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_cut_off_anywhere_is_good_up_to_there(path: Path) -> None:
    write(path, RECORDS[:3])
    before = path.stat().st_size
    write(path, RECORDS[3:4], goes_on=True)
    whole = path.read_bytes()
    for length in range(before, len(whole)):
        path.write_bytes(whole[:length])
        reader = RecordingReader(path)
        assert list(reader) == RECORDS[:3]
        assert reader.truncated == (length > before)


@pytest.mark.parametrize("filling", [b"\0", b"\xff", b"\x47"])
def test_a_tail_of_nothing_is_no_record(path: Path, filling: bytes) -> None:
    """What a file system leaves of a file that grew when the power went."""
    write(path, RECORDS)
    with path.open("ab") as file:
        file.write(filling * 4096)
    reader = RecordingReader(path)
    assert list(reader) == RECORDS
    assert reader.truncated


def test_a_damaged_record_ends_what_can_be_read(path: Path) -> None:
    write(path, RECORDS[:3])
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    reader = RecordingReader(path)
    assert list(reader) == RECORDS[:2]
    assert reader.truncated


def test_a_successor_goes_on_behind_the_last_whole_record(path: Path) -> None:
    write(path, RECORDS[:4])
    os.truncate(path, path.stat().st_size - 3)
    write(path, RECORDS[4:], goes_on=True)
    assert list(RecordingReader(path)) == RECORDS[:3] + RECORDS[4:]


def test_a_file_that_is_there_is_not_written_over(path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="is there already; give another name, or remove it"):
        RecordingWriter(path)
    with pytest.raises(RecordingError, match="is no recording"):
        RecordingWriter(path, goes_on=True)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no recording; give a file that launcher.py record"),
        (b"\x00\x00\x00\x20ftypisom", "is no recording"),
        (MAGIC.replace(b"1", b"9"), "is a recording of version 9; this program reads version 1"),
    ],
)
def test_what_cannot_be_read_is_one_line(path: Path, content: bytes, said: str) -> None:
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=said) as error:
        RecordingReader(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(RecordingError, match=r"a\.rec: No such file or directory"):
        read_header(path)


def test_a_recording_without_a_header_holds_nothing(path: Path) -> None:
    path.write_bytes(MAGIC)
    with pytest.raises(RecordingError, match="holds nothing"):
        read_header(path)
