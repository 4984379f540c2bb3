"""From a trickle channel, which may not be there yet, to the encoded link. `file_ingest` does the same with a file.

What it hands on are bytes of numbered segments; it never looks into them.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipeline.channel_address import ChannelAddress
from pipeline.encoded_link import NO_SEGMENT, EncodedWriter
from pipeline.memory.stage_stats import Word
from pipeline.trickle.errors import AccessDenied, ChannelGone, TrickleError
from pipeline.trickle.segment_reader import SegmentReader
from pipeline.trickle.subscriber import TrickleSubscriber
from pipeline.worker import Worker

CHUNK_BYTES = 64 * 1024
RETRY_SECONDS, MAX_RETRY_SECONDS, RETRY_SHARE = 0.25, 1.0, 0.1
"""How often an absent channel is asked for; the protocol has no way to be told. The longer it has been absent the less
often, so that no more than a tenth of the wait is added to it."""

GONE_SECONDS = 10.0
"""A channel that was read from, and is absent for so long, has ended while nobody could say so: ingress was being
restarted, or the server was."""

CURRENT_SEGMENT = -2
"""Trickle's name for the segment being written."""

FULL_POLL_MS = 100

T = TypeVar("T")


class TrickleIngest:
    """Subscribes to `channel` and writes what comes to `link`, until the end of the stream or until told to drain."""

    def __init__(
        self, channel: ChannelAddress, link: EncodedWriter, worker: Worker, source_timeout: float | None = None
    ) -> None:
        """After `source_timeout` seconds without a byte the stream is taken to be at its end; None: a source that has
        not come, or is silent, is waited for."""
        self._channel = channel
        self._url = channel.url
        self._link = link
        self._worker = worker
        self._stats = worker.stats
        self._numbers = _LinkNumbers(link)
        self._waiting_for = ""
        self._gap = False
        self._stream = 0
        self._absent_since: float | None = None
        self._timeout = source_timeout
        self._heard = 0.0  # when the last byte came, or would have been taken
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Returns once decode has taken in everything, or will not any more.

        Raises WorkerRefused if the server does not let us read.
        """
        loop = asyncio.get_running_loop()
        stopping = self._worker.draining_event()
        fd = self._link.socket.fileno()
        loop.add_reader(fd, self._attend)
        try:
            work = asyncio.create_task(self._subscribe_until_end())
            stop = asyncio.create_task(stopping.wait())
            silence = asyncio.create_task(self._wait_for_silence())
            ended, _ = await asyncio.wait((work, stop, silence), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
            await asyncio.gather(work, return_exceptions=work not in ended or stopping.is_set())
            stop.cancel()
            silence.cancel()
            self._link.end()
            self._link.attend()
            while not (self._link.drained or self._worker.abandoned):
                await self._wait_for_room()
        finally:
            loop.remove_reader(fd)

    async def _subscribe_until_end(self) -> None:
        while not await self._subscribe():  # noqa: ASYNC110 - nobody tells when a channel comes
            await asyncio.sleep(min(max(RETRY_SECONDS, RETRY_SHARE * self._absent_seconds), MAX_RETRY_SECONDS))
        self._worker.info("source_ended", url=self._url)
        self._worker.farewell = "the source has ended"

    async def _wait_for_silence(self) -> None:
        """Returns once nothing has come for so long that nothing will."""
        loop = asyncio.get_running_loop()
        if self._timeout is None:
            await asyncio.Event().wait()
            return
        self._heard = loop.time()
        while (left := self._heard + self._timeout - loop.time()) > 0:  # noqa: ASYNC110 - on the clock
            await asyncio.sleep(min(left, self._timeout))
        self._worker.farewell = f"nothing came from {self._url} for {self._timeout:g} s"
        self._worker.info("source_silent", url=self._url, seconds=self._timeout)

    async def _subscribe(self) -> bool:
        """Read the channel as far as it goes. Returns whether that was the end of the stream."""
        self._stream = 0
        try:
            async with TrickleSubscriber(
                self._url,
                self._numbers.next_channel_seq(),
                token=self._channel.token,
                ssl_context=self._channel.ssl_context,
                judge=self._channel.judge,
            ) as subscriber:
                while (segment := await self._insist(subscriber.next)) is not None:
                    await self._read(segment)
        except AccessDenied as denied:
            raise self._channel.refusal(denied) from denied
        except ChannelGone:
            self._say_waiting("waiting_for_source")
            self._absent_since = self._absent_since or asyncio.get_running_loop().time()
            return self._is_gone_for_good()
        return True

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until the server can be reached. It must be the same subscriber that goes on: it alone can tell whether
        the server that comes back still has the stream."""
        while True:
            try:
                return await ask()
            except (AccessDenied, ChannelGone):
                raise
            except TrickleError as error:
                self._say_waiting("source_unreachable", problem=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    def _say_waiting(self, event: str, **fields: str) -> None:
        if event != self._waiting_for:
            self._worker.info(event, url=self._url, **fields)
        self._waiting_for = event

    def _is_gone_for_good(self) -> bool:
        if not self._numbers.begun:
            return False
        self._numbers.begin_anew()
        self._gap = True
        return self._absent_seconds > (self._timeout or GONE_SECONDS)

    @property
    def _absent_seconds(self) -> float:
        """For how long the channel has not been there; 0: it is."""
        return asyncio.get_running_loop().time() - self._absent_since if self._absent_since is not None else 0.0

    async def _read(self, segment: SegmentReader) -> None:
        if segment.stream != self._stream:
            self._stream = segment.stream
            self._numbers.begin_anew()
        is_first = not self._numbers.begun
        number = self._numbers.link_number(segment.seq())
        offset, gap = 0, segment.discontinuity or self._gap
        self._waiting_for, self._gap, self._absent_since = "", False, None
        if is_first:
            self._worker.info("first_segment", url=self._url, seq=segment.seq())
        async with segment:
            while data := await self._insist(segment.read):
                await self._write(number, offset, data, gap)
                offset, gap = offset + len(data), False
        self._link.write(number, offset, b"", last=True)
        self._worker.debug("segment_read", url=self._url, seq=segment.seq(), bytes=offset)
        self._attend()
        self._stats.add(Word.UNITS_IN)
        self._stats.out()

    async def _write(self, number: int, offset: int, data: bytes, gap: bool) -> None:
        self._link.attend()
        while self._link.full:
            self._heard = math.inf  # The source is not to blame for what is not taken.
            await self._wait_for_room()
        self._heard = asyncio.get_running_loop().time()
        for start in range(0, len(data), CHUNK_BYTES):
            self._link.write(number, offset + start, data[start : start + CHUNK_BYTES], gap=gap and not start)
        self._stats.add(Word.BYTES_IN, len(data))
        self._attend()

    async def _wait_for_room(self) -> None:
        """Until decode has said something, or for FULL_POLL_MS: ZeroMQ's descriptor is edge-triggered."""
        self._room.clear()
        try:
            async with asyncio.timeout(FULL_POLL_MS / 1000):
                await self._room.wait()
        except TimeoutError:
            self._link.attend()

    def _attend(self) -> None:
        self._link.attend()
        self._room.set()


class _LinkNumbers:
    """Segment numbers on the link rise for ever; those of a channel start again when its server lost them."""

    def __init__(self, link: EncodedWriter) -> None:
        self._link = link
        self._last = link.cursor.segment

    @property
    def begun(self) -> bool:
        """Whether anything was read, by this process or by one before it."""
        return self._last != NO_SEGMENT

    def begin_anew(self) -> None:
        """The channel is gone: if it comes again it starts from 0. Two on, since decode may have begun to read the
        segment after the one that a predecessor's death left it in."""
        self._link.cursor.base = self._last + 2

    def next_channel_seq(self) -> int:
        """What to subscribe to: the segment that was being read (at first that which decode is in), or the current one
        at the very start."""
        return max(0, self._last - self._link.cursor.base) if self.begun else CURRENT_SEGMENT

    def link_number(self, seq: int) -> int:
        number = seq + self._link.cursor.base
        if number < self._last:
            self._link.cursor.base += self._last + 1 - number
            number = self._last + 1
        self._last = number
        return number
