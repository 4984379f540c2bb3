"""Watches channels as viewers do: `python -m pipeline.bench.viewer FD`.

While it watches it only notes when the last byte of each picture was there, so that it is no load. Asked, it decodes
what it has kept, reads the numbers, and says what it saw.
"""

import asyncio
import contextlib
import sys
import time
from multiprocessing.connection import Connection

import msgspec
import numpy as np

from pipeline.bench.words import READY, UNREADABLE, Tell, Unwatch, Watch, Watched
from pipeline.media.access_unit import AccessUnit
from pipeline.media.blockcode import read_index
from pipeline.media.decoder import VideoDecoder
from pipeline.media.ts_demux import TsDemuxer
from pipeline.trickle import TrickleError, TrickleSubscriber
from pipeline.trickle.errors import ChannelGone

RETRY_S = 0.05


class ChannelViewer:
    """One channel. `watch` runs until the stream ends or it is cancelled."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._kept: list[tuple[float, AccessUnit]] = []
        self._decoder = VideoDecoder(16, 16)  # Nothing is scaled here.
        self._problem = ""

    async def watch(self) -> None:
        demuxer = TsDemuxer()
        try:
            async with TrickleSubscriber(self._url, 0) as subscriber:
                while True:
                    try:
                        segment = await subscriber.next()
                    except ChannelGone:  # Nobody has written it yet.
                        await asyncio.sleep(RETRY_S)
                        continue
                    if segment is None:
                        break
                    if segment.discontinuity:
                        demuxer.discontinuity()
                    async for data in segment:
                        units = demuxer.feed(data)
                        now = time.monotonic()
                        self._kept += [(now, unit) for unit in units if unit.is_video]
        except TrickleError as error:
            self._problem = str(error)

    def tell(self, *, numbers: bool = True) -> Watched:
        """What was there since the last time; see Tell. Whoever has once left the numbers out does so always: the
        decoder has missed those pictures."""
        kept, self._kept = self._kept, []
        watched = Watched([], [], [], [], sum(len(unit.data) for _, unit in kept), self._problem)
        if not numbers:
            return msgspec.structs.replace(
                watched,
                at=[at for at, _ in kept],
                pts=[unit.pts for _, unit in kept],
                numbers=[UNREADABLE] * len(kept),
            )
        for at, unit in kept:
            for frame in self._decoder.decode(unit):
                reading = read_index(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
                watched.at.append(at)
                watched.pts.append(unit.pts if frame.pts is None else frame.pts)
                watched.numbers.append(UNREADABLE if reading is None else reading.index)
                watched.sizes.append((frame.width, frame.height))
        return watched


class Viewer:
    def __init__(self, runner: Connection) -> None:
        self._runner = runner
        self._channels: dict[str, tuple[ChannelViewer, asyncio.Task[None]]] = {}

    async def run_forever(self) -> None:
        """Until the other side hangs up."""
        readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._runner.fileno(), readable.set)
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                await readable.wait()
                readable.clear()
                while self._runner.poll():
                    await self._obey(self._runner.recv())
        for _, task in self._channels.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in self._channels.values()), return_exceptions=True)

    async def _obey(self, order: Watch | Unwatch | Tell) -> None:
        match order:
            case Watch(url=url):
                viewer = ChannelViewer(url)
                self._channels[url] = viewer, asyncio.create_task(viewer.watch())
                self._runner.send(READY)
            case Unwatch(url=url):
                _, task = self._channels.pop(url)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self._runner.send(READY)
            case Tell(numbers=numbers):
                channels = self._channels.items()
                self._runner.send({url: viewer.tell(numbers=numbers) for url, (viewer, _) in channels})


def main(fd: str) -> None:
    asyncio.run(Viewer(Connection(int(fd))).run_forever())


if __name__ == "__main__":
    main(*sys.argv[1:])
