"""From a source to the encoded link: a trickle channel that may not be there yet, or a file as fast as decode takes it.

What it hands on are bytes of numbered segments; it never looks into them.
"""

import asyncio

import zmq

from pipeline.encoded_link import NO_SEGMENT, EncodedWriter
from pipeline.media.file_source import TsFileSource
from pipeline.memory.stage_stats import Word
from pipeline.trickle.errors import ChannelGone, TrickleError
from pipeline.trickle.subscriber import SegmentReader, TrickleSubscriber
from pipeline.worker import Worker

CHUNK_BYTES = 64 * 1024
RETRY_SECONDS = 0.25
"""How often an absent channel is asked for; the protocol has no way to be told."""

CURRENT_SEGMENT = -2
"""Trickle's name for the segment being written."""

FULL_POLL_MS = 100


class TrickleIngest:
    """Subscribes to `url` and writes what comes to `link`, until the end of the stream or until told to drain."""

    def __init__(self, url: str, link: EncodedWriter, worker: Worker) -> None:
        self._url = url
        self._link = link
        self._worker = worker
        self._stats = worker.stats
        self._numbers = _LinkNumbers(link)
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Returns once decode has taken in everything, or will not any more."""
        loop = asyncio.get_running_loop()
        stopping = self._worker.draining_event()
        fd = self._link.socket.fileno()
        loop.add_reader(fd, self._attend)
        try:
            work = asyncio.create_task(self._subscribe_until_end())
            stop = asyncio.create_task(stopping.wait())
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
            await asyncio.gather(work, return_exceptions=stopping.is_set())
            stop.cancel()
            self._link.end()
            while not (self._link.drained or self._worker.abandoned):
                self._room.clear()
                self._attend()
                await self._wait_for_room()
        finally:
            loop.remove_reader(fd)

    async def _subscribe_until_end(self) -> None:
        waiting_for = ""
        while True:
            try:
                await self._subscribe()
                return
            except ChannelGone:
                waiting_for = self._say_waiting("waiting_for_source", waiting_for)
            except TrickleError as error:
                waiting_for = self._say_waiting("source_unreachable", waiting_for, problem=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    def _say_waiting(self, event: str, said: str, **fields: str) -> str:
        if event != said:
            self._worker.info(event, url=self._url, **fields)
        return event

    async def _subscribe(self) -> None:
        """Read the channel to its end. Raises TrickleError."""
        async with TrickleSubscriber(self._url, self._numbers.next_channel_seq()) as subscriber:
            while (segment := await subscriber.next()) is not None:
                await self._read(segment)
        self._worker.info("source_ended", url=self._url)

    async def _read(self, segment: SegmentReader) -> None:
        number = self._numbers.link_number(segment.seq())
        offset, gap = 0, segment.discontinuity
        if not self._stats[Word.UNITS_IN]:
            self._worker.info("first_segment", url=self._url, seq=segment.seq())
        async with segment:
            async for data in segment:
                await self._write(number, offset, data, gap)
                offset, gap = offset + len(data), False
        self._link.write(number, offset, b"", last=True)
        self._attend()
        self._stats.add(Word.UNITS_IN)
        self._stats.out()

    async def _write(self, number: int, offset: int, data: bytes, gap: bool) -> None:
        while self._link.full:
            self._room.clear()
            self._attend()
            await self._wait_for_room()
        for start in range(0, len(data), CHUNK_BYTES):
            self._link.write(number, offset + start, data[start : start + CHUNK_BYTES], gap=gap and not start)
        self._stats.add(Word.BYTES_IN, len(data))
        self._attend()

    async def _wait_for_room(self) -> None:
        """Until decode has said something, or for FULL_POLL_MS: ZeroMQ's descriptor is edge-triggered."""
        try:
            await asyncio.wait_for(self._room.wait(), FULL_POLL_MS / 1000)
        except TimeoutError:
            pass

    def _attend(self) -> None:
        self._link.attend()
        self._room.set()


class _LinkNumbers:
    """Segment numbers on the link rise for ever; those of a channel start again when its server lost them."""

    def __init__(self, link: EncodedWriter) -> None:
        self._link = link
        self._last = link.cursor.segment

    def next_channel_seq(self) -> int:
        """What to subscribe to: the segment that decode is in, or the current one at the very start."""
        at = self._link.cursor.segment
        return CURRENT_SEGMENT if at == NO_SEGMENT else at - self._link.cursor.base

    def link_number(self, seq: int) -> int:
        number = seq + self._link.cursor.base
        if number < self._last:
            self._link.cursor.base += self._last + 1 - number
            number = self._last + 1
        self._last = number
        return number


def ingest_file(path: str, link: EncodedWriter, worker: Worker) -> None:
    """Write a media file to `link` as MPEG-TS, never more than the link's bound ahead of decode. Goes on at the segment
    that decode is in. Raises MediaFileError for a file that cannot be used."""
    segment = offset = 0
    for chunk in TsFileSource(path, start_segment=max(0, link.cursor.segment)):
        while link.full and not worker.draining:
            _attend_when_heard(link, worker)
        if worker.draining:
            break
        if chunk.segment_index != segment:
            segment, offset = chunk.segment_index, 0
        link.write(segment, offset, chunk.data, last=chunk.last)
        link.attend()
        offset += len(chunk.data)
        worker.stats.add(Word.BYTES_IN, len(chunk.data))
        if chunk.last:
            worker.stats.add(Word.UNITS_IN)
            worker.stats.out()
    link.end()
    while not (link.drained or worker.abandoned):
        _attend_when_heard(link, worker)


def _attend_when_heard(link: EncodedWriter, worker: Worker) -> None:
    poller = zmq.Poller()
    poller.register(link.socket, zmq.POLLIN)
    poller.register(worker.wake_fd, zmq.POLLIN)
    poller.poll(FULL_POLL_MS)
    worker.clear_wake()
    link.attend()
