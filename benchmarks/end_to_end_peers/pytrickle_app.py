"""pytrickle's StreamProcessor that hands every frame on as it is: `python -m benchmarks.end_to_end_peers.pytrickle_app
PORT FD`. Runs in pytrickle's interpreter; what it can be told is told over its own HTTP service, on 127.0.0.1:PORT.

It is not patched: this is how its own pass-through example is written. It logs warnings alone. torch has one thread, as
livepipe's has here: with more pytrickle uses a little more CPU and is no faster.
"""

import logging
import os
import sys
import threading
from importlib import metadata
from multiprocessing.connection import Connection
from typing import Any

import torch
from pytrickle import AudioFrame, StreamProcessor, VideoFrame

VERSIONED = ("pytrickle", "av", "torch", "aiohttp")

logging.basicConfig(level=logging.WARNING)


async def load(**_: Any) -> None:
    """There is no model."""


async def hand_on_picture(frame: VideoFrame) -> VideoFrame:
    return frame


async def hand_on_sound(frame: AudioFrame) -> list[AudioFrame]:
    return [frame]


def _end_with(runner: Connection) -> None:
    """When the runner hangs up."""
    try:
        runner.recv()
    except EOFError:
        os._exit(0)


def main(port: str, fd: str) -> None:
    runner = Connection(int(fd))
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(runner,), daemon=True).start()
    runner.send({name: metadata.version(name) for name in VERSIONED})
    StreamProcessor(
        video_processor=hand_on_picture,
        audio_processor=hand_on_sound,
        model_loader=load,
        name="pass-through",
        host="127.0.0.1",
        port=int(port),
    ).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
