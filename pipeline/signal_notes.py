"""Signals as notes for a loop: the handler does nothing but note, and a descriptor wakes whoever polls."""

import collections
import contextlib
import os
import signal
from types import FrameType
from typing import Self


class SignalNotes:
    """While in use, the named signals are noted. `fd` is readable when there are notes to take."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self._notes: collections.deque[int] = collections.deque()

    def take(self) -> list[signal.Signals]:
        """The signals that came since the last call, in order."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)
        taken = []
        while self._notes:
            taken.append(signal.Signals(self._notes.popleft()))
        return taken

    def __enter__(self) -> Self:
        self.fd, self._wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before_fd = signal.set_wakeup_fd(self._wake_fd)
        self._before = {number: signal.signal(number, self._note) for number in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._before_fd)
        os.close(self.fd)
        os.close(self._wake_fd)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._notes.append(number)
