"""A slab: one sealed, nameless, shared region of host memory. It outlives the death of any process that maps it.

What lies in the region is somebody else's business: the slot table and the slots for a link, counters for a stage.
"""

import fcntl
import mmap
import os

PAGE_BYTES = mmap.PAGESIZE


def page_aligned(nbytes: int) -> int:
    """`nbytes` rounded up to whole pages."""
    return -(-nbytes // PAGE_BYTES) * PAGE_BYTES


def create_slab(name: str, nbytes: int) -> int:
    """Make a memfd of `nbytes`, sealed against shrinking and growing, and return its file descriptor.

    The seals make a stray `ftruncate` by any holder fail with EPERM, where a plain shared file would turn it into a
    SIGBUS for everybody. `name` only shows in /proc/PID/maps. The descriptor is close-on-exec: hand it to a child
    with `pass_fds`. Raises OSError when the system is out of memory or descriptors.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, nbytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


class Slab:
    """This process's mapping of a slab. Every page is present before the constructor returns (MAP_POPULATE), so that
    no frame pays for a first touch (380 us for 0.8 MB, measured).

    The descriptor stays the caller's. `close()` drops the mapping once no view of it is left.
    """

    def __init__(self, fd: int) -> None:
        self.nbytes = os.fstat(fd).st_size
        self._map = mmap.mmap(fd, self.nbytes, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self.buffer = memoryview(self._map)

    def words(self, offset: int, count: int) -> memoryview:
        """`count` signed 64-bit words from byte `offset`, a multiple of 8. A store of one word is atomic."""
        return self.buffer[offset : offset + 8 * count].cast("q")

    def close(self) -> None:
        """Unmap. Views handed out must have been released; those still held keep the mapping alive."""
        self.buffer.release()
        try:
            self._map.close()
        except BufferError:
            pass  # A numpy or torch view is alive somewhere; the mapping goes with it.
