"""A video file as a sink of segments: MPEG-TS beside it while it grows, which survives the death of its writer at any
byte, and the container that its name asks for once it is whole."""

import os
from collections.abc import Callable
from typing import Self

from pipeline.media.errors import MediaFileError
from pipeline.media.file_kinds import container_of, growing_file
from pipeline.media.remux import remux
from pipeline.media.ts_tail import TsTail, read_tail


class ContainerFile:
    """Each write is one system call and complete units: the kernel has them whatever becomes of this process. Leaving
    the `with` block closes the file; `finish` makes it whole."""

    def __init__(
        self, path: str, note: Callable[[int], None], *, append: bool = False, whole_bytes: int | None = None
    ) -> None:
        """`note` is told after each write how many bytes are whole. `append` goes on behind what a predecessor wrote,
        of which `whole_bytes` are known to be whole; without them its last picture does not count.

        Raises OSError when the file cannot be written, ValueError for a suffix that names no container.
        """
        self.path = path
        self.tail = TsTail()
        """What a predecessor wrote."""
        self._container = container_of(path)
        self._growing = growing_file(path)
        self._growing.parent.mkdir(parents=True, exist_ok=True)
        if append and self._growing.exists():
            self.tail = read_tail(self._growing, whole_bytes)
            os.truncate(self._growing, self.tail.size)
        mode = os.O_APPEND if append else os.O_TRUNC
        self._fd = os.open(self._growing, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | mode, 0o666)
        self._size = self.tail.size
        self._note = note
        self._note(self._size)

    def begin_segment(self) -> None:
        """Nothing marks a segment in a file but its keyframe."""

    def write(self, data: bytes) -> None:
        """Raises MediaFileError when the file cannot be written on."""
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            raise MediaFileError(f"cannot write {self._growing}: {error.strerror}") from error
        self._size += len(data)
        self._note(self._size)

    def end_segment(self) -> None:
        """Nothing is held back."""

    def finish(self) -> None:
        """Put the file under its name; what it was made of stays beside it. Without a picture there is no file.

        Raises MediaFileError when it cannot be made.
        """
        if self._container == "mpegts" or not self._size:
            return
        try:
            remux(self._growing, self._growing.with_name(os.path.basename(self.path)), self._container)
        except OSError as error:
            raise MediaFileError(f"cannot write {self.path}: {error.strerror}; {self._growing} has it all") from error

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
