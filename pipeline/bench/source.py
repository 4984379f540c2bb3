"""A camera to measure with: publishes the numbered pattern live, at any rate, to any number of channels:
`python -m pipeline.bench.source FD`.

Pictures are encoded before they are played, two seconds of them, and played over and over with time stamps that follow
the clock, so that playing costs next to nothing. Which picture came out is told by its time stamp, and by its number.
"""

import asyncio
import io
import sys
import time
from fractions import Fraction
from multiprocessing.connection import Connection
from typing import Any

from pipeline.bench.words import READY, End, Play, Played, Prepare, Stop
from pipeline.media.access_unit import CLOCK_HZ, AccessUnit
from pipeline.media.pattern import write_pattern
from pipeline.media.ts_demux import TsDemuxer
from pipeline.media.ts_mux import TsMuxer
from pipeline.trickle import SegmentWriter, TricklePublisher

CLIP_S, GOP_S = 2.0, 1.0
MAX_PHASE_S = 0.25
MIN_CLIP_PICTURES = 2


def make_clip(width: int, height: int, fps: float) -> list[AccessUnit]:
    """Pictures 0, 1, 2... of the pattern, a key picture at the first and in every second: x264 superfast at CRF 23."""
    file = io.BytesIO()
    seconds = max(CLIP_S, MIN_CLIP_PICTURES / fps)
    write_pattern(file, width, height, Fraction(fps).limit_denominator(1000), seconds, audio=None, gop_seconds=GOP_S)
    demuxer = TsDemuxer()
    return [unit for unit in demuxer.feed(file.getvalue()) + demuxer.flush() if unit.is_video]


class Channel:
    """One channel and where its stream is. A pause between two plays is one in the time stamps too."""

    def __init__(self, url: str, origin: float) -> None:
        self._publisher = TricklePublisher(url)
        self._muxer = TsMuxer()
        self._origin = origin

    async def play(
        self, clip: list[AccessUnit], fps: float, seconds: float, stopped: asyncio.Event, delay_s: float = 0.0
    ) -> Played:
        """From `delay_s` on. Raises TrickleError when the server takes no more."""
        played = Played([], [], [], [])
        writer: SegmentWriter | None = None
        began = time.monotonic() + delay_s
        first = round((began - self._origin + 1) * CLOCK_HZ)
        while (count := len(played.pts)) < seconds * fps and not stopped.is_set():
            due = began + count / fps
            if time.monotonic() > began + seconds:
                break  # There was no time for so many; that they were late is told.
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            unit, pts = clip[count % len(clip)], first + round(count * CLOCK_HZ / fps)
            data = self._muxer.video(unit.data, pts, key=unit.key)
            if writer is None:
                writer = await self._publisher.next()
                data = self._muxer.psi() + data
            now = time.monotonic()
            await writer.write(data)
            played.pts.append(pts)
            played.numbers.append(count % len(clip))
            played.sent.append(now)
            played.late_ms.append(1000 * (now - due))
            if clip[(count + 1) % len(clip)].key:
                await writer.close()
                writer = None
        if writer is not None:
            await writer.close()
        return played

    async def close(self, *, ends: bool) -> None:
        await self._publisher.close(delete=ends)


class Source:
    def __init__(self, runner: Connection) -> None:
        self._runner = runner
        self._origin = time.monotonic()
        self._clip: list[AccessUnit] = []
        self._fps = 0.0
        self._channels: dict[str, Channel] = {}
        self._clips: dict[Prepare, list[AccessUnit]] = {}

    async def run_forever(self) -> None:
        """Until the other side hangs up."""
        loop = asyncio.get_running_loop()
        orders: asyncio.Queue[Any] = asyncio.Queue(maxsize=4)  # An order is answered before the next; Stop is extra.
        loop.add_reader(self._runner.fileno(), self._hear, orders)
        while (order := await orders.get()) is not None:
            match order:
                case Prepare():
                    await self._prepare(order)
                case Play():
                    self._runner.send(await self._play(order, orders))
                    continue
                case End():
                    if (channel := self._channels.pop(order.url, None)) is not None:
                        await channel.close(ends=True)
            self._runner.send(READY)
        loop.remove_reader(self._runner.fileno())
        for channel in self._channels.values():
            await channel.close(ends=False)

    async def _prepare(self, order: Prepare) -> None:
        if order not in self._clips:
            self._clips[order] = await asyncio.to_thread(make_clip, order.width, order.height, order.fps)
        self._clip, self._fps = self._clips[order], order.fps

    async def _play(self, order: Play, orders: asyncio.Queue[Any]) -> list[Played]:
        stopped = asyncio.Event()
        for url in order.urls:
            if url not in self._channels:
                self._channels[url] = Channel(url, self._origin)
        # Cameras are not in step: neither their pictures nor their key pictures are all due at the same time.
        apart_s = (GOP_S + min(1 / self._fps, MAX_PHASE_S)) / len(order.urls)
        work = asyncio.gather(
            *(
                self._channels[url].play(self._clip, self._fps, order.seconds, stopped, number * apart_s)
                for number, url in enumerate(order.urls)
            )
        )
        told = asyncio.create_task(_wait_for_stop(orders))
        await asyncio.wait((work, told), return_when=asyncio.FIRST_COMPLETED)
        stopped.set()
        told.cancel()
        return await work

    def _hear(self, orders: asyncio.Queue[Any]) -> None:
        try:
            orders.put_nowait(self._runner.recv())
        except (EOFError, ConnectionResetError):
            asyncio.get_running_loop().remove_reader(self._runner.fileno())
            orders.put_nowait(None)


async def _wait_for_stop(orders: asyncio.Queue[Any]) -> None:
    """Until Stop comes, or the runner has gone."""
    order = await orders.get()
    if order is None:
        orders.put_nowait(None)
    else:
        assert isinstance(order, Stop)


def main(fd: str) -> None:
    asyncio.run(Source(Connection(int(fd))).run_forever())


if __name__ == "__main__":
    main(*sys.argv[1:])
