"""What every child of the launcher does first: see that it does not outlive it, and show who it is."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_NAME_BYTES = 15


def die_with(launcher_pid: int, name: str) -> None:
    """Have the kernel kill this process when the launcher's thread that started it is gone (prctl(2)), and show `name`
    in `top`. Exits when the launcher is gone already."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, name.encode()[:_NAME_BYTES], 0, 0, 0)
    if os.getppid() != launcher_pid:
        sys.exit(1)  # It died before the order to die with it was in place.
