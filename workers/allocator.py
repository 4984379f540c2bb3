"""Allocator: owns the slabs in GPU memory, and does nothing else. Started by the launcher; it is not a stage."""

import argparse
import socket

from pipeline.memory.allocator import serve
from pipeline.parent_death import die_with


def main() -> None:
    parser = argparse.ArgumentParser(description="The owner of the GPU memory; started by launcher.py, not by hand.")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--launcher-pid", type=int, required=True)
    arguments = parser.parse_args()
    die_with(arguments.launcher_pid, "allocator")
    with socket.socket(fileno=arguments.socket_fd) as line:
        serve(line)


if __name__ == "__main__":
    main()
