"""Publishes a channel for a thread that must not wait: an encode loop hands bytes over and goes on.

One thread of its own runs the publisher, reconnects when the relay is gone, and counts what could not be delivered.
"""

import asyncio
import contextlib
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pipeline import log
from pipeline.addresses import JudgeAddress
from pipeline.trickle.errors import AccessDenied, TrickleError, TrickleTimeout
from pipeline.trickle.http1 import Buffer
from pipeline.trickle.pool import REPLY_TIMEOUT_S
from pipeline.trickle.publisher import TricklePublisher
from pipeline.trickle.segment_writer import SegmentWriter
from pipeline.trickle.target import parse_url

MAX_BUFFER_BYTES = 8 * 1024 * 1024
"""Bytes that may wait to be sent."""

DRAIN_TIMEOUT_S = 5.0
"""How long `close` waits for what is still queued."""

MAX_REMOVE_S = 2.0
"""How long it then still tries to remove the channel: viewers would wait for what will not come."""

CRASH_DRAIN_S = 0.5
"""The same for a writer that leaves with an error: its successor has to wait for it."""

STALL_TIMEOUT_S = 10.0
"""A connection that takes no byte for this long while there are some to send is given up."""

_FIRST_DELAY_S = 0.1
_MAX_DELAY_S = 2.0
_SEND_BYTES = 256 * 1024
# What a queued segment is charged on top of its bytes, so that empty ones cannot pile up either.
_SEGMENT_COST_BYTES = 1024


class TrickleSink:
    """A channel's writer for synchronous callers. `begin_segment`, `write` and `end_segment` are for one thread.

    The sink goes on at the server's next number, so a process that takes over from a dead one continues its stream; a
    `with` block that is left with an error leaves the channel to it.
    When the connection is lost, the segment being sent is given up, and while the server is away only the newest one is
    kept: viewers get what is fresh. Over the bound the rest of the segment being written is discarded. Either way the
    loss, of a whole segment or of its end, is counted in `segments_lost` and raises nothing.

    Being denied access does not pass: the sink gives up, and the next `begin_segment` or `write` raises AccessDenied.
    """

    def __init__(
        self,
        url: str,
        content_type: str = "video/MP2T",
        *,
        max_buffer_bytes: int = MAX_BUFFER_BYTES,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        judge: JudgeAddress | None = None,
    ) -> None:
        """Starts at once to connect. `token` is the bearer token itself; `judge` says what is wrong with an address,
        which is then not used.

        Raises ValueError for a URL that names no channel.
        """
        parse_url(url)
        self.bytes_sent = 0
        """Bytes of segments that the server has confirmed."""
        self.segments_sent = 0
        self.segments_lost = 0
        self.error: Exception | None = None
        """Why nothing can be delivered at present; None when something can."""
        self.access_denied: AccessDenied | None = None
        """Why nothing will ever be delivered."""
        self._url = url
        self._content_type = content_type
        self._max_buffer_bytes = max_buffer_bytes
        self._token = token
        self._ssl_context = ssl_context
        self._judge = judge
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)  # there is room for more again
        self._queue: deque[_QueuedSegment] = deque()
        self._queued_bytes = 0
        self._current: _QueuedSegment | None = None
        self._sending: _QueuedSegment | None = None
        self._writing_since: float | None = None  # when the bytes were written that the connection is taking now
        self._closing = False
        self._deletes = True  # the channel, at the end
        self._remove_within: float | None = None  # seconds; set once what is queued is given up
        self._down = False
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="trickle-sink", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.close(CRASH_DRAIN_S, delete=False)

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return self._queued_bytes

    @property
    def queued_seconds(self) -> float:
        """The age of the oldest bytes that wait to be sent: what congestion adds to the latency. 0.0 while none do.

        A rate control that lowers the bitrate while this rises, and raises it while it is about 0, needs no estimate of
        the link's rate. What the system's socket buffer has taken does not count.
        """
        with self._lock:
            since = self._writing_since
            for segment in self._queue if self._sending is None else (self._sending, *self._queue):
                if since is None and segment.chunks:
                    since = segment.chunks[0][0]
        return 0.0 if since is None else time.monotonic() - since

    @property
    def congested(self) -> bool:
        """Whether more than half of the bound is in use: time to drop frames before they are encoded."""
        return self._queued_bytes * 2 > self._max_buffer_bytes

    def wait_for_room(self, seconds: float) -> bool:
        """Wait until the sink is not congested; False when it still is after `seconds`."""
        with self._room:
            return self._room.wait_for(lambda: not self.congested, seconds)

    @property
    def lost_segment(self) -> bool:
        """Whether the rest of the open segment will not be delivered: time to begin another one."""
        return self._current is not None and self._current.lost

    def begin_segment(self) -> None:
        """Begin a segment; one that is open is ended. Raises AccessDenied."""
        self.end_segment()
        segment = _QueuedSegment()
        with self._lock:
            self._check_access()
            self._current = segment
            if self._down:
                self._discard(len(self._queue))
            if self._queued_bytes + _SEGMENT_COST_BYTES > self._max_buffer_bytes:
                self._lose(segment)
                return
            segment.cost = _SEGMENT_COST_BYTES
            self._queued_bytes += segment.cost
            self._queue.append(segment)
        self._notify()

    def write(self, data: Buffer) -> None:
        """Add bytes to the open segment. Raises ValueError if there is none, and AccessDenied."""
        segment = self._current
        if segment is None:
            raise ValueError("write without begin_segment")
        with self._lock:
            self._check_access()
            if segment.lost:
                return
            if self._queued_bytes + len(data) > self._max_buffer_bytes:
                self._lose(segment)
            else:
                segment.chunks.append((time.monotonic(), bytes(data)))
                segment.written += len(data)
                segment.cost += len(data)
                self._queued_bytes += len(data)
        self._notify()

    def when_sent(self, call: Callable[[], None]) -> None:
        """Have `call` called once the connection has taken what was written to the open segment so far, or once that is
        given up: in the sink's thread, or here and now if that is so already. It must not use the sink."""
        segment = self._current
        if segment is None:
            call()
            return
        with self._lock:
            segment.awaited.append((segment.written, call))
            self._tell_sent(segment)

    def end_segment(self) -> None:
        """End the open segment, if there is one."""
        segment, self._current = self._current, None
        if segment is not None:
            segment.ended = True
            self._notify()

    def close(self, drain_timeout: float = DRAIN_TIMEOUT_S, *, delete: bool = True) -> None:
        """End the open segment, send what is queued, remove the channel if `delete`, and join the thread.

        What could not be sent within `drain_timeout` seconds is discarded and counted; the channel is removed all the
        same, if that can be done in as long again, or in MAX_REMOVE_S.
        """
        self.end_segment()
        self._deletes = delete
        self._closing = True
        self._notify()
        self._thread.join(drain_timeout)
        if self._thread.is_alive():
            self._remove_within = min(drain_timeout, MAX_REMOVE_S)
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancel)
            self._thread.join()

    def _check_access(self) -> None:
        if self.access_denied is not None:
            raise self.access_denied

    def _notify(self) -> None:
        # The loop is closed once the thread has ended; there is nobody to tell then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake.set)

    def _cancel(self) -> None:
        if self._sender is not None:
            self._sender.cancel()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())
        with self._lock:
            self._discard(len(self._queue))
            if self.access_denied is not None and self._current is not None:
                self._lose(self._current)

    async def _main(self) -> None:
        self._sender = asyncio.create_task(self._publish())
        if self._remove_within is not None:
            self._sender.cancel()
        try:
            await self._sender
        except asyncio.CancelledError:
            if self._deletes:
                await self._remove_channel()

    def _publisher(self) -> TricklePublisher:
        return TricklePublisher(
            self._url,
            self._content_type,
            token=self._token,
            ssl_context=self._ssl_context,
            judge=self._judge,
            reply_timeout_s=REPLY_TIMEOUT_S,
        )

    async def _remove_channel(self) -> None:
        with contextlib.suppress(TrickleError, OSError, TimeoutError):
            async with asyncio.timeout(self._remove_within), self._publisher():
                pass

    async def _publish(self) -> None:
        delay = _FIRST_DELAY_S
        while self._queue or not self._closing:
            try:
                await self._publish_while_connected()
            except AccessDenied as denied:
                self._give_up(denied)
                return
            except (TrickleError, OSError) as error:
                delay = min(delay * 2, _MAX_DELAY_S) if self._down else _FIRST_DELAY_S
                self._disconnect(error)
                await asyncio.sleep(delay)

    async def _publish_while_connected(self) -> None:
        publisher = self._publisher()
        try:
            await publisher.resume()
            self._connect()
            await self._send_all(publisher)
            if self._deletes:  # Else nothing is said: the POST opened ahead would count as an empty segment.
                await publisher.close()
        finally:
            publisher.abort()

    def _connect(self) -> None:
        if self._down:
            with self._lock:
                self._discard(len(self._queue) - 1)
            log.info("sink.reconnected", url=self._url, segments_lost=self.segments_lost)
        self._down = False
        self.error = None

    def _disconnect(self, error: Exception) -> None:
        if not self._down:
            log.warning("sink.disconnected", url=self._url, error=error)
        self._down = True
        self.error = error

    def _give_up(self, denied: AccessDenied) -> None:
        hint = "give another token" if self._token else "give a token"
        log.error("sink.access_denied", url=self._url, error=denied, hint=hint)
        with self._lock:
            self.error = self.access_denied = denied

    async def _send_all(self, publisher: TricklePublisher) -> None:
        """Segment after segment until the sink is closed. The reply to one is awaited while the next is being sent."""
        confirming: asyncio.Task[None] | None = None
        unconfirmed: _QueuedSegment | None = None
        try:
            while (segment := await self._next_segment()) is not None:
                try:
                    writer = await publisher.next()
                except BaseException:
                    with self._lock:
                        self._queue.appendleft(segment)
                    raise
                sent = await self._feed(writer, segment)
                if confirming is not None:
                    await confirming
                confirming = asyncio.create_task(self._confirm(writer, segment)) if sent else None
                unconfirmed = segment
            if confirming is not None:
                await confirming
        finally:
            if confirming is not None and unconfirmed is not None and not confirming.done():
                confirming.cancel()
                # Here, because a task that is cancelled before its first step does not get to count anything.
                with self._lock:
                    self._lose(unconfirmed)

    async def _next_segment(self) -> "_QueuedSegment | None":
        while True:
            with self._lock:
                if self._queue:
                    self._sending = self._queue.popleft()
                    return self._sending
            if self._closing:
                return None
            await self._changed()

    async def _feed(self, writer: SegmentWriter, segment: "_QueuedSegment") -> bool:
        """Send a segment as it grows, until it is ended or cut short; False if it could not be sent."""
        try:
            while True:
                data, ended = self._take(segment)
                if data:
                    await self._write(writer, data)
                    segment.sent += len(data)
                    if segment.awaited:
                        with self._lock:
                            self._tell_sent(segment)
                elif ended:
                    return True
                else:
                    await self._changed()
        except TrickleError as error:
            self._fail(writer, segment, error)
            return False
        except BaseException:
            with self._lock:
                self._lose(segment)
            raise
        finally:
            self._writing_since = None

    async def _write(self, writer: SegmentWriter, data: bytes) -> None:
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await writer.write(data)
        except TimeoutError as error:
            limit = f"{len(data)} bytes were not taken within {STALL_TIMEOUT_S:g} s"
            raise TrickleTimeout(f"POST {self._url}/{writer.seq()}: {limit}") from error

    async def _confirm(self, writer: SegmentWriter, segment: "_QueuedSegment") -> None:
        try:
            await writer.close()
        except TrickleError as error:
            self._fail(writer, segment, error)
        except BaseException:
            with self._lock:
                self._lose(segment)
            raise
        else:
            self.error = None
            self.bytes_sent += segment.sent
            self.segments_sent += not segment.lost
            log.debug("sink.segment_sent", url=self._url, seq=writer.seq(), bytes=segment.sent)

    def _take(self, segment: "_QueuedSegment") -> tuple[bytes, bool]:
        """Bytes to send next, and whether none will come after them."""
        with self._lock:
            ended = segment.ended or segment.lost
            size = 0
            pieces: list[bytes] = []
            self._writing_since = None
            while segment.chunks and size < _SEND_BYTES:
                written_at, piece = segment.chunks.popleft()
                if not pieces:
                    self._writing_since = written_at
                pieces.append(piece)
                size += len(piece)
            freed = size if segment.chunks or not ended else segment.cost
            segment.cost -= freed
            self._free(freed)
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), ended

    def _fail(self, writer: SegmentWriter, segment: "_QueuedSegment", error: TrickleError) -> None:
        """Count a segment that could not be sent. Raises AccessDenied again, for the next one could not be either."""
        writer.abort()
        self.error = error
        with self._lock:
            self._lose(segment)
        log.warning("sink.segment_lost", url=self._url, seq=writer.seq(), error=error)
        if isinstance(error, AccessDenied):
            raise error

    def _discard(self, count: int) -> None:
        """Drop the oldest segments of the queue. The lock is held."""
        for _ in range(count):
            self._lose(self._queue.popleft())

    def _lose(self, segment: "_QueuedSegment") -> None:
        """Free what is left of a segment and count it once. The lock is held."""
        if segment.lost:
            return
        segment.lost = True
        self._tell_sent(segment)
        segment.chunks.clear()
        self._free(segment.cost)
        segment.cost = 0
        self.segments_lost += 1

    def _tell_sent(self, segment: "_QueuedSegment") -> None:
        """The lock is held."""
        while segment.awaited and (segment.lost or segment.awaited[0][0] <= segment.sent):
            segment.awaited.popleft()[1]()

    def _free(self, size: int) -> None:
        """The lock is held."""
        self._queued_bytes -= size
        if not self.congested:
            self._room.notify_all()

    async def _changed(self) -> None:
        await self._wake.wait()
        self._wake.clear()


class _QueuedSegment:
    """A segment between the two threads. All but `sent` is guarded by the sink's lock."""

    def __init__(self) -> None:
        self.chunks: deque[tuple[float, bytes]] = deque()
        """Each with the monotonic time at which it was written."""
        self.cost = 0
        self.written = 0
        self.awaited: deque[tuple[int, Callable[[], None]]] = deque()
        """Who wants to know when so many bytes were sent."""
        self.ended = False
        self.lost = False
        self.sent = 0
