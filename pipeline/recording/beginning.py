"""Lets decode begin on a recording as it went on in the pipeline that was recorded, in the middle of a stream."""

from itertools import takewhile
from pathlib import Path

from pipeline.boot import LinkBoot
from pipeline.encoded_link import Cursor
from pipeline.media.timeline_notes import TimelineNote, write_note
from pipeline.memory.slab import Slab
from pipeline.memory.slot_table import ProducerTable
from pipeline.recording.format import Input, Record, RecordingReader, Timeline

NOTED_WITHIN = 8
"""Segments from the first on, in which a recorder has noted decode's timeline if it ever has."""


def begin_where_recorded(path: str, frames: LinkBoot, cursor: Cursor) -> None:
    """Leave for decode what a predecessor would have: its timeline, so that every picture gets the time that it had,
    and its place. `frames` is the link that it writes to. No process may use either yet. Raises RecordingError."""
    noted = _timeline(Path(path))
    if noted is None:
        return
    slab = Slab(frames.fd)
    table = ProducerTable(slab, frames.slots, frames.host_slot_bytes)
    write_note(table, 0, TimelineNote(noted.segment, noted.offset, noted.last_video))
    table.close()
    slab.close()
    cursor.move(noted.segment, 0)


def _timeline(path: Path) -> Timeline | None:
    first: int | None = None

    def is_early(record: Record) -> bool:
        nonlocal first
        if isinstance(record, Input):
            first = record.segment if first is None else first
            return record.segment < first + NOTED_WITHIN
        return True

    early = takewhile(is_early, RecordingReader(path))
    return next((record for record in early if isinstance(record, Timeline) and record.segment == first), None)
