"""Allocator: owns the slabs in GPU memory, and does nothing else. Started by the launcher; it is not a stage."""

import argparse
import ctypes
import os
import signal
import socket
import sys

from pipeline.memory.allocator import serve

_PR_SET_NAME = 15
_PR_SET_PDEATHSIG = 1


def main() -> None:
    parser = argparse.ArgumentParser(description="The owner of the GPU memory; started by launcher.py, not by hand.")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--launcher-pid", type=int, required=True)
    arguments = parser.parse_args()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"allocator", 0, 0, 0)
    if os.getppid() != arguments.launcher_pid:
        sys.exit(1)  # It died before the order to die with it was in place.
    with socket.socket(fileno=arguments.socket_fd) as line:
        serve(line)


if __name__ == "__main__":
    main()
