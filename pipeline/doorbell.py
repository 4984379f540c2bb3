"""A doorbell: tells the process at the other end of a link that the slot table has changed.

It is an eventfd, made with the link and inherited by both ends, so the kernel keeps the count: what was rung before the
listener was there, or while it was being replaced, is heard by whoever listens next. A bell says no more than "look at
the table". The one bell that can be lost is that of a ringer that died between its store and the ring; whoever reclaims
rings in its place.
"""

import os
import select

WAKE = 1 << 32
"""Added by whoever wants a listener to return to its loop; bells add 1, and nobody lets 2**32 of them gather."""


def make_bell() -> int:
    """A descriptor to be inherited by both ends. It blocks: a listener sleeps in the read itself, one call a bell."""
    return os.eventfd(0, os.EFD_CLOEXEC)


def ring(bell: int) -> None:
    """Never waits."""
    os.eventfd_write(bell, 1)


def wake(bell: int) -> None:
    """End the listener's wait, or its next one."""
    os.eventfd_write(bell, WAKE)


class BellListener:
    """The end that waits. One at a time may listen to a bell."""

    def __init__(self, bell: int) -> None:
        self._bell = bell
        self._poll = select.poll()
        self._poll.register(bell, select.POLLIN)

    def wait(self, seconds: float | None = None) -> bool:
        """Return when the bell rings, or when `seconds` have passed. True: somebody called `wake`."""
        if seconds is not None and not self._poll.poll(max(0.0, 1000 * seconds)):
            return False
        while True:
            try:
                return os.eventfd_read(self._bell) >= WAKE
            except InterruptedError:  # A signal; unlike os.read this call does not go on after it by itself.
                continue
