"""Watches a channel as a viewer does, and notes every picture: when it was there, and which number it bears.

It subscribes, demuxes and decodes in a thread of its own, and goes on by itself when the server was away.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Self

import msgspec
import numpy as np

from pipeline.bench.words import UNREADABLE
from pipeline.media.access_unit import AccessUnit
from pipeline.media.blockcode import read_index
from pipeline.media.decoder import VideoDecoder
from pipeline.media.ts_demux import TsDemuxer
from pipeline.trickle.errors import ChannelGone
from pipeline.trickle.subscriber import TrickleSubscriber

RETRY_SECONDS = 0.05


class Sighting(msgspec.Struct, frozen=True, gc=False):
    """A picture that was decoded `at` (CLOCK_MONOTONIC seconds); `index` is its number, or UNREADABLE; `inverted`: it
    is a negative; `width` in pixels."""

    at: float
    index: int
    inverted: bool = False
    width: int = 0


class Onlooker:
    """A context manager. `seen` grows while it watches and is in order of arrival."""

    def __init__(self, url: str) -> None:
        """Watches `url` from its first segment on."""
        self.seen: list[Sighting] = []
        self.newest = UNREADABLE
        """The highest number seen so far."""
        self.renewed_at = 0.0
        """When `newest` last rose."""
        self.error: Exception | None = None
        self._url = url
        self._demuxer = TsDemuxer()
        self._decoder = VideoDecoder(16, 16)  # Nothing is scaled here.
        self._news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._watching: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="onlooker")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()
        self._loop.close()

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until `condition`, which is looked at after every picture; whether it came true in time."""
        with self._news:
            return self._news.wait_for(condition, seconds)

    def wait_for_end(self, seconds: float) -> bool:
        """Whether the stream, and with it the watching, ends in time."""
        return self.wait_for(lambda: self._watching is not None and self._watching.done(), seconds)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._watching = self._loop.create_task(self._watch())
        self._watching.add_done_callback(lambda _: self._tell())
        self._loop.run_until_complete(asyncio.gather(self._watching, return_exceptions=True))
        if not self._watching.cancelled() and isinstance(error := self._watching.exception(), Exception):
            self.error = error

    def _stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        async with TrickleSubscriber(self._url, 0) as subscriber:
            while True:
                try:
                    segment = await subscriber.next()
                except ChannelGone:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if segment is None:
                    break
                if segment.discontinuity:
                    self._demuxer.discontinuity()
                async for data in segment:
                    self._look_at(self._demuxer.feed(data))
        self._look_at(self._demuxer.flush())

    def _look_at(self, units: list[AccessUnit]) -> None:
        for unit in units:
            if not unit.is_video:
                continue
            for frame in self._decoder.decode(unit):
                reading = read_index(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
                index, inverted = (UNREADABLE, False) if reading is None else (reading.index, reading.inverted)
                self._note(Sighting(time.monotonic(), index, inverted, frame.width))

    def _note(self, picture: Sighting) -> None:
        with self._news:
            self.seen.append(picture)
            if picture.index > self.newest:
                self.newest, self.renewed_at = picture.index, picture.at
            self._news.notify_all()

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()
