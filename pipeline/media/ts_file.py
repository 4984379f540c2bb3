"""A file as a sink of segments: one after the other, which makes a playable MPEG-TS file."""

from pathlib import Path
from typing import Self


class TsFile:
    def __init__(self, path: str, *, append: bool = False) -> None:
        """`append` goes on behind what a predecessor wrote. Raises OSError when the file cannot be written."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab" if append else "wb")  # noqa: SIM115 - closed by close()

    def begin_segment(self) -> None:
        """Nothing marks a segment in a file but its keyframe."""

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def end_segment(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
