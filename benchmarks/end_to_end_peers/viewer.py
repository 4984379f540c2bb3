"""Watches a channel from its first segment on: `python -m benchmarks.end_to_end_peers.viewer URL FD`.

While it watches it only notes when the last byte of each picture was there, so that it is no load. Told to stop, it
decodes what it has kept, reads the numbers, and says what it saw.
"""

import asyncio
import sys
from multiprocessing.connection import Connection

from benchmarks.end_to_end_peers.said import Watched
from benchmarks.onlooker import Sighting
from pipeline.bench.viewer import ChannelViewer

WATCHING = "watching"


async def watch(viewer: ChannelViewer, runner: Connection) -> None:
    """Until the runner says anything."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_reader(runner.fileno(), stopped.set)
    reading = asyncio.create_task(viewer.watch())
    runner.send(WATCHING)
    await stopped.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    loop.remove_reader(runner.fileno())


def look_at_all(viewer: ChannelViewer) -> Watched:
    found = viewer.tell()
    seen = [Sighting(at, number) for at, number in zip(found.at, found.numbers, strict=True)]
    return Watched(seen, sorted(set(found.sizes)), found.video_bytes, found.problem)


def main(url: str, fd: str) -> None:
    runner = Connection(int(fd))
    viewer = ChannelViewer(url)
    try:
        asyncio.run(watch(viewer, runner))
        runner.recv()
        runner.send(look_at_all(viewer))
        runner.recv()
    except EOFError:
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
