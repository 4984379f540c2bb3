"""A processor whose helper moves out of its process group and loses its parent, as a daemon does."""

import subprocess

import torch

_DAEMON = "setsid sleep 1000 > /dev/null 2>&1 & echo stray $!"


def leaves_a_stray(image: torch.Tensor) -> torch.Tensor:
    global _DAEMON
    if _DAEMON:
        print(subprocess.check_output(["sh", "-c", _DAEMON], text=True), flush=True)
        _DAEMON = ""
    return image
