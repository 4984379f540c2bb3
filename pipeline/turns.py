"""Whose frame is next in a process that serves several streams: of those that have one, the stream that has had the
least of the process's time, after its weight (stride scheduling, Waldspurger and Weihl 1995).

A stream whose output has no room is passed over, so that one whose egress is away holds up no other.
"""

import select
import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from pipeline.link import BlockReader, LatestReader, LinkWriter
from pipeline.memory.slot_table import Slot


class Served(Protocol):
    """One stream's part of the process."""

    @property
    def reader(self) -> BlockReader | LatestReader: ...

    @property
    def writer(self) -> LinkWriter: ...

    @property
    def weight(self) -> float: ...

    @property
    def has_room(self) -> bool:
        """Whether a frame of it can be seen to without waiting."""


Work = TypeVar("Work", bound=Served)


class Turns(Generic[Work]):
    def __init__(
        self,
        wake_fd: int,
        clear_wake: Callable[[], None],
        *,
        alone: bool,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`wake_fd` ends a wait; `clear_wake` is called after it has. `alone`: there is never more than one stream, so
        its link can be waited at, with one call a frame; whoever wakes the process wakes the link too."""
        self._alone = alone
        self._now_ns = now_ns
        self._wake_fd = wake_fd
        self._clear_wake = clear_wake
        self._spent: dict[Work, float] = {}  # of the process's time, by weight, of those that take part
        self._now = 0.0  # what the one that was served last had spent before
        self._begun: tuple[list[Work], int] | None = None  # who is served now, and since when
        self._is_suspect = False  # a process died on what was taken last

    def join(self, work: Work) -> None:
        """A stream takes part from now on, and has no time saved up."""
        self._spent[work] = self._now

    def leave(self, work: Work) -> None:
        """Its links are left alone from now on, also if they were before."""
        self._spent.pop(work, None)

    def take(self, seconds: float | None = None) -> tuple[Work, Slot] | None:
        """The next frame, now IN_USE, and whose it is. Waits for one, `seconds` at most; None: there was none in that
        time, or the wait was ended, and there may be something else to do. What its work costs counts until the next
        call."""
        if self._alone and self._spent:
            (work,) = self._spent
            slot = work.reader.take(seconds)
            return None if slot is None else (work, slot)
        self._settle()
        found = self._look()
        if found is None and self._wait(seconds):
            found = self._look()
        if found is not None:
            work, slot = found
            self._now = self._spent[work] = max(self._spent[work], self._now)
            self._begun, self._is_suspect = ([work], self._now_ns()), bool(slot.attempts)
        return found

    def take_more(self, most: int, seconds: float) -> list[tuple[Work, Slot]]:
        """Frames of others, one each, to be served together with the one that was taken: at most so many, and those
        that come within `seconds`. They share what it costs. Nothing is taken beside or behind a frame that a process
        died on: it may take with it whatever else is in hand."""
        assert self._begun is not None
        works, _ = self._begun
        taken: list[tuple[Work, Slot]] = []
        until = self._now_ns() + int(seconds * 1e9)
        while not self._is_suspect and len(taken) < most and len(works) < len(self._spent):
            found = self._look(works)
            if found is not None:
                taken.append(found)
                works.append(found[0])
                self._is_suspect = bool(found[1].attempts)
            elif (left := until - self._now_ns()) <= 0 or not self._wait(left / 1e9, works):
                break
        return taken

    def _settle(self) -> None:
        """Count what the last frame has cost."""
        if self._begun is not None:
            works, since = self._begun
            self._begun = None
            share = (self._now_ns() - since) / len(works)
            for work in works:
                if work in self._spent:
                    self._spent[work] += share / work.weight

    def _look(self, but: Sequence[Work] = ()) -> tuple[Work, Slot] | None:
        for work in sorted(self._spent, key=self._spent.__getitem__):
            if work not in but and work.has_room and (slot := work.reader.take_at_once()) is not None:
                return work, slot
        return None

    def _wait(self, seconds: float | None, but: Sequence[Work] = ()) -> bool:
        """Until there may be something. Whether a frame may have come."""
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        listening: list[Work] = []
        full: list[Work] = []
        for work in self._spent:
            if work in but:
                continue
            if not work.has_room:
                full.append(work)
                poll.register(work.writer.credit, select.POLLIN)
            elif work.reader.listen():
                listening.append(work)
                poll.register(work.reader.bell, select.POLLIN)
            else:
                seconds = 0
        events = poll.poll(None if seconds is None else max(0.0, 1000 * seconds))
        for work in listening:
            work.reader.heard()
        for work in full:
            work.writer.clear_credit()
        if any(fd == self._wake_fd for fd, _ in events):
            self._clear_wake()
            return False
        return True
