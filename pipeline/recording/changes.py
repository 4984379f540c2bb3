"""The parameters that were changed while a recording was made, for the stage that takes them again: after the same
picture, whatever the clock says."""

from collections import deque
from pathlib import Path
from typing import Any

from pipeline.recording.format import Change, RecordingReader


class RecordedChanges:
    """Those of one kind of worker, oldest first. Without a recording there are none."""

    def __init__(self, path: str | None, worker: str) -> None:
        """Raises RecordingError."""
        records = RecordingReader(Path(path)) if path is not None else ()
        changes = (record for record in records if isinstance(record, Change) and record.worker == worker)
        self._left: deque[Change] = deque(changes)

    def are_due(self, pts: int) -> bool:
        """Whether there is something to be changed before the picture at `pts`. To be asked for each picture."""
        return bool(self._left) and (self._left[0].after is None or self._left[0].after < pts)

    def due(self, pts: int) -> list[dict[str, Any]]:
        """What that is, each once."""
        found = []
        while self.are_due(pts):
            found.append(self._left.popleft().params)
        return found
