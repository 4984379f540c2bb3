import fcntl
import os
import subprocess
import sys

import numpy as np
import pytest

from pipeline.memory.slab import PAGE_BYTES, Slab, create_slab, page_aligned

WRITE_AND_DIE = """
import os, signal, sys
from pipeline.memory.slab import Slab
slab = Slab(int(sys.argv[1]))
slab.words(0, 1)[0] = 812
os.kill(os.getpid(), signal.SIGKILL)
"""


def open_fds():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(("nbytes", "aligned"), [(0, 0), (1, PAGE_BYTES), (PAGE_BYTES, PAGE_BYTES)])
def test_sizes_are_rounded_up_to_whole_pages(nbytes, aligned):
    assert page_aligned(nbytes) == aligned


@pytest.mark.parametrize("nbytes", [0, PAGE_BYTES, 3 * PAGE_BYTES])
def test_nobody_can_change_the_size_of_a_slab(slab_fd, nbytes):
    fd = slab_fd(2 * PAGE_BYTES)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, nbytes)


def test_nobody_can_add_a_seal_that_would_stop_the_writers(slab_fd):
    with pytest.raises(PermissionError):
        fcntl.fcntl(slab_fd(PAGE_BYTES), fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_a_child_inherits_a_slab_only_when_it_is_handed_over(slab_fd):
    assert not os.get_inheritable(slab_fd(PAGE_BYTES))


def test_two_mappings_are_one_memory(slab_fd):
    fd = slab_fd(2 * PAGE_BYTES)
    one, other = Slab(fd), Slab(fd)
    one.words(PAGE_BYTES, 2)[1] = -7
    assert list(other.words(PAGE_BYTES, 2)) == [0, -7]


def test_what_a_process_stored_outlives_its_death(slab_fd):
    fd = slab_fd(PAGE_BYTES)
    died = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(fd)], pass_fds=[fd], check=False)
    assert died.returncode == -9
    assert Slab(fd).words(0, 1)[0] == 812


def test_every_page_is_present_before_the_first_frame(slab_fd):
    fd = slab_fd(64 * PAGE_BYTES)
    slab = Slab(fd)
    assert os.fstat(fd).st_blocks * 512 >= slab.nbytes


def test_closing_unmaps_and_gives_every_descriptor_back(slab_fd):
    fd = slab_fd(PAGE_BYTES)
    before = open_fds()
    slab = Slab(fd)
    slab.close()
    assert open_fds() == before
    os.fstat(fd)  # The caller's own is still open.


def test_closing_leaves_alone_what_somebody_still_looks_at(slab_fd):
    slab = Slab(slab_fd(PAGE_BYTES))
    view = np.frombuffer(slab.buffer, np.uint8)
    slab.words(0, 1)[0] = 5
    try:
        slab.close()
    except BufferError:
        pytest.fail("close must not raise while a view is held")
    assert view[0] == 5


def test_a_failed_slab_leaves_no_descriptor_behind():
    before = open_fds()
    with pytest.raises(OSError, match="Invalid argument"):
        create_slab("negative", -1)
    assert open_fds() == before
