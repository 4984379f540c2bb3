"""How decode's timeline was before each of its last segments, in words that outlive it: for a successor that is fed
from there, and for a recording that begins there. `live_decoder` says when it is noted.
"""

from typing import NamedTuple, Protocol

# The segment being noted, the one before it, and the one that a successor may still be fed from.
BANKS = 3
_BANK_WORDS = 3
_SEGMENT, _OFFSET, _LAST_VIDEO = range(_BANK_WORDS)
WORDS = BANKS * _BANK_WORDS

_NO_VIDEO = -(1 << 62)


class TimelineNote(NamedTuple):
    """State of a media.timeline.Timeline before `segment`."""

    segment: int
    offset: int
    last_video: int | None


class Noted(Protocol):
    """A slot table: anybody may read its notes."""

    def noted(self, index: int) -> int: ...


class Notes(Noted, Protocol):
    """The producer's."""

    def note(self, index: int, value: int) -> None: ...


def read_notes(table: Noted) -> list[TimelineNote]:
    """Those that are there. One that is being written just now is left out."""
    found = (_read(table, bank) for bank in range(BANKS))
    return [note for note in found if note is not None]


def write_note(table: Notes, bank: int, note: TimelineNote) -> None:
    """The segment first goes and then comes, so that what is found with it is whole."""
    words = bank * _BANK_WORDS
    table.note(words + _SEGMENT, 0)
    table.note(words + _OFFSET, note.offset)
    table.note(words + _LAST_VIDEO, _NO_VIDEO if note.last_video is None else note.last_video)
    table.note(words + _SEGMENT, note.segment + 1)


def oldest_bank(table: Noted) -> int:
    """Where the next note goes."""
    kept = [table.noted(bank * _BANK_WORDS + _SEGMENT) for bank in range(BANKS)]
    return kept.index(min(kept))


def _read(table: Noted, bank: int) -> TimelineNote | None:
    words = bank * _BANK_WORDS
    segment = table.noted(words + _SEGMENT)
    offset, last = table.noted(words + _OFFSET), table.noted(words + _LAST_VIDEO)
    if not segment or table.noted(words + _SEGMENT) != segment:
        return None
    return TimelineNote(segment - 1, offset, None if last == _NO_VIDEO else last)
