"""What decode and inference are given of a recording: where to begin, and what was changed after which picture."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.boot import LinkBoot
from pipeline.encoded_link import CURSOR_BYTES, NO_SEGMENT, Cursor
from pipeline.media.timeline_notes import TimelineNote, oldest_bank, read_notes, write_note
from pipeline.memory.slab import Slab
from pipeline.memory.slot_table import ProducerTable
from pipeline.recording.beginning import begin_where_recorded
from pipeline.recording.changes import RecordedChanges
from pipeline.recording.format import Change, Input, Record, RecordingWriter, Timeline

Boot = Callable[..., LinkBoot]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """write(*records) -> path of a recording."""

    def make(*records: Record) -> str:
        writer = RecordingWriter(tmp_path / "a.rec")
        for record in records:
            writer.write(record)
        writer.close()
        return str(tmp_path / "a.rec")

    return make


def table_of(boot: LinkBoot) -> ProducerTable:
    return ProducerTable(Slab(boot.fd), boot.slots, boot.host_slot_bytes)


def fed(segment: int) -> Input:
    return Input(segment, 0, 0, True, False, b"x")


def test_each_change_is_due_once_after_its_picture(write: Callable[..., str]) -> None:
    path = write(
        Change("inference", {"a": 1}, None, 0),
        Change("decode", {"width": 64}, 10, 0),
        Change("inference", {"a": 2}, 100, 0),
        Change("inference", {"b": 3}, 100, 0),
        Change("inference", {"a": 4}, 300, 0),
    )
    changes = RecordedChanges(path, "inference")
    assert changes.due(50) == [{"a": 1}]
    assert changes.due(100) == []
    assert changes.due(101) == [{"a": 2}, {"b": 3}]
    assert changes.due(1000) == [{"a": 4}]
    assert changes.due(2000) == []
    assert RecordedChanges(path, "decode").due(11) == [{"width": 64}]
    assert RecordedChanges(None, "decode").due(11) == []


def test_decode_begins_with_the_timeline_that_was_noted(
    write: Callable[..., str], link_boot: Boot, slab_fd: Callable[[int], int]
) -> None:
    boot, cursor = link_boot(), Cursor(slab_fd(CURSOR_BYTES))
    begin_where_recorded(write(fed(7), fed(8), Timeline(7, -90_000, 4500)), boot, cursor)
    assert (cursor.segment, cursor.offset) == (7, 0)
    assert read_notes(table_of(boot)) == [TimelineNote(7, -90_000, 4500)]


@pytest.mark.parametrize("records", [(fed(0), fed(1)), (fed(0), fed(1), Timeline(1, 5, 5))])
def test_a_recording_from_the_start_on_begins_with_nothing(
    write: Callable[..., str], link_boot: Boot, slab_fd: Callable[[int], int], records: tuple[Record, ...]
) -> None:
    boot, cursor = link_boot(), Cursor(slab_fd(CURSOR_BYTES))
    begin_where_recorded(write(*records), boot, cursor)
    assert cursor.segment == NO_SEGMENT
    assert read_notes(table_of(boot)) == []


def test_the_notes_hold_the_last_three_segments(link_boot: Boot) -> None:
    table = table_of(link_boot())
    for segment in range(5):
        write_note(table, oldest_bank(table), TimelineNote(segment, segment * 10, None if segment % 2 else segment))
    assert sorted(read_notes(table)) == [TimelineNote(2, 20, 2), TimelineNote(3, 30, None), TimelineNote(4, 40, 4)]
