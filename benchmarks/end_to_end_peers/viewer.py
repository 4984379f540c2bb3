"""Watches a channel from its first segment on: `python -m benchmarks.end_to_end_peers.viewer URL FD`.

While it watches it only notes when the last byte of each picture was there, so that it is no load. Told to stop, it
decodes what it has kept, reads the numbers, and says what it saw.
"""

import asyncio
import sys
import time
from multiprocessing.connection import Connection

import numpy as np

from benchmarks.end_to_end_peers.said import Watched
from benchmarks.onlooker import UNREADABLE, Sighting
from pipeline.media.access_unit import AccessUnit
from pipeline.media.blockcode import read_index
from pipeline.media.decoder import VideoDecoder
from pipeline.media.ts_demux import TsDemuxer
from pipeline.trickle import TrickleError, TrickleSubscriber

WATCHING = "watching"


class Viewer:
    def __init__(self, url: str) -> None:
        self._url = url
        self._kept: list[tuple[float, AccessUnit]] = []
        self._problem = ""

    async def watch(self, runner: Connection) -> None:
        """Until the stream ends or the runner says anything."""
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        loop.add_reader(runner.fileno(), stopped.set)
        reading = asyncio.create_task(self._read())
        runner.send(WATCHING)
        await stopped.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        loop.remove_reader(runner.fileno())

    async def _read(self) -> None:
        demuxer = TsDemuxer()
        try:
            async with TrickleSubscriber(self._url, 0) as subscriber:
                while (segment := await subscriber.next()) is not None:
                    if segment.discontinuity:
                        demuxer.discontinuity()
                    async for data in segment:
                        units = demuxer.feed(data)
                        now = time.monotonic()
                        self._kept += [(now, unit) for unit in units if unit.is_video]
        except TrickleError as error:
            self._problem = str(error)

    def look_at_all(self) -> Watched:
        decoder = VideoDecoder(16, 16)  # Nothing is scaled here.
        seen, sizes = [], set()
        for at, unit in self._kept:
            for frame in decoder.decode(unit):
                reading = read_index(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
                seen.append(Sighting(at, UNREADABLE if reading is None else reading.index))
                sizes.add((frame.width, frame.height))
        return Watched(seen, sorted(sizes), sum(len(unit.data) for _, unit in self._kept), self._problem)


def main(url: str, fd: str) -> None:
    runner = Connection(int(fd))
    viewer = Viewer(url)
    try:
        asyncio.run(viewer.watch(runner))
        runner.recv()
        runner.send(viewer.look_at_all())
        runner.recv()
    except EOFError:
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
