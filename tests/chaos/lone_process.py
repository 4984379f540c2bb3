"""What a process of these tests is born with: one thread, so that it can be forked, and no life beyond its parent's."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def one_thread() -> dict[str, str]:
    """An environment in which numpy starts no threads."""
    return os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def die_with_parent() -> None:
    """Be killed when whoever started this process dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
