"""What becomes of a segment's bytes when its connection breaks, its server is silent, or its writer takes its time.

The one rule: at the server, and so at each reader, bytes are there once, or the writer has an error.
"""

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from pipeline.topology_sections import RelayLimits
from pipeline.trickle import (
    SegmentRefused,
    SegmentWriter,
    TrickleConnectionError,
    TrickleError,
    TricklePublisher,
    TrickleSubscriber,
    TrickleTimeout,
    pool,
    segment_writer,
)
from pipeline.trickle.server import RunningServer
from tests.trickle.wire import Scripted, proxy, until, url

SHORT_S = 0.05
"""A time-out in a test in which it is to run out."""


def content(relay: RunningServer, seq: int, name: str = "a") -> bytes:
    channel = relay.trickle.channels.get(name)
    segment = channel.find(seq) if channel else None
    return b"".join(segment.chunks) if segment else b""


async def published(publisher: TricklePublisher, *pieces: bytes) -> SegmentWriter:
    async with await publisher.next() as segment:
        for piece in pieces:
            await segment.write(piece)
    return segment


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_writer, "SETTLE_S", 0.01)
    monkeypatch.setattr(segment_writer, "RETRY_DELAYS_S", (0.0, 0.01))


# Broken connections.


class Cutter:
    """Passes bytes on until one POST has sent so many; then that connection breaks on both sides, once."""

    def __init__(self, upstream: int, line: bytes, after: int) -> None:
        self.cuts = 0
        self._upstream = upstream
        self._line = line
        self._after = after

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        down = asyncio.create_task(self._pump(up_reader, writer))
        try:
            await self._up(reader, up_writer)
        finally:
            down.cancel()
            for each in (writer, up_writer):
                each.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter) -> None:
        sent, doomed = 0, False
        while data := await reader.read(65536):
            doomed = doomed or (not self.cuts and data.startswith(self._line))
            if doomed and sent + len(data) >= self._after:
                up_writer.write(data[: self._after - sent])
                await up_writer.drain()
                self.cuts += 1
                return
            sent += len(data)
            up_writer.write(data)

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)


@asynccontextmanager
async def cutter(upstream: int, line: bytes, after: int) -> AsyncIterator[tuple[int, Cutter]]:
    between = Cutter(upstream, line, after)
    server = await asyncio.start_server(between.accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], between
    finally:
        server.close()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seq", [0, 1])
async def test_a_post_that_breaks_at_any_byte_is_there_once_or_its_writer_has_an_error(
    start_relay: Callable, seq: int
) -> None:
    relay = await start_relay(limits=RelayLimits(broken_post_grace_s=60))
    whole = b"four" + b"and-twelve.."
    outcomes: dict[int, str] = {}

    async def attempt(offset: int) -> bool:
        """Whether the connection was cut, for beyond the message's end it is not."""
        name = f"c{offset:03}"
        line = f"POST /{name}/{seq} ".encode()
        async with cutter(relay.port, line, offset) as (port, between), TricklePublisher(url(port, name)) as publisher:
            for before in range(seq):
                await published(publisher, b"%d" % before)
            try:
                await published(publisher, whole[:4], whole[4:])
                outcomes[offset] = "whole"
            except TrickleConnectionError:
                outcomes[offset] = "error"
            got = content(relay, seq, name)
            assert got == whole if outcomes[offset] == "whole" else whole.startswith(got), (offset, got)
            following = await published(publisher, b"next")
            assert content(relay, following.seq(), name) == b"next", offset
            return between.cuts > 0

    body_at = None
    for first in range(1, 400, 50):
        cut = await asyncio.gather(*[attempt(offset) for offset in range(first, first + 50)])
        if not all(cut):
            body_at = first + cut.index(False)
            break
    assert body_at is not None, "no message is so long"
    assert "error" in outcomes.values()
    assert outcomes[1] == ("whole" if seq else "error"), "of segment 0 nobody can tell that the server got no byte"


@pytest.mark.usefixtures("quick")
async def test_a_failed_post_is_seen_by_its_writer_and_leaves_the_other_open_ones_alone() -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port))
        one, two = await publisher.next(), await publisher.next()
        posts = {line: raw for raw, line, _ in [await server.request(), await server.request()]}
        await two.write(b"two, ")
        await one.write(b"one")
        posts["POST /a/0 HTTP/1.1"].close()
        await until(lambda: not one.connected)

        with pytest.raises(TrickleConnectionError, match="/a"):
            await one.write(b"more")
        with pytest.raises(TrickleConnectionError):
            await one.close()
        await two.write(b"whole")
        closing = asyncio.create_task(two.close())
        raw = posts["POST /a/1 HTTP/1.1"]
        assert b"".join([piece async for piece in raw.chunks()]) == b"two, whole"
        await raw.send("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
        await closing
        publisher.abort()

        assert two.confirmed
        assert not one.confirmed


async def test_segment_0_is_not_sent_again_for_a_server_that_began_anew_says_0_too(relay: RunningServer) -> None:
    async with proxy(relay.port) as between, TricklePublisher(url(between.port)) as publisher:
        segment = await publisher.next()
        await segment.write(b"had by readers")
        await until(lambda: content(relay, 0))
        relay.trickle.channels.remove("a")
        relay.trickle.create_channel("a", "video/MP2T")
        between.cut()

        with pytest.raises((TrickleConnectionError, SegmentRefused)):
            await segment.close()
        assert content(relay, 0) == b""


@pytest.mark.usefixtures("quick")
async def test_a_segment_that_a_lower_one_overtook_is_not_sent_again_though_the_servers_number_is_its_own(
    relay: RunningServer,
) -> None:
    async with proxy(relay.port) as between, TricklePublisher(url(between.port)) as publisher:
        await published(publisher, b"zero")
        one, two = await publisher.next(), await publisher.next()
        await two.write(b"two")
        await until(lambda: content(relay, 2))
        await one.write(b"one")
        await until(lambda: content(relay, 1))
        assert relay.trickle.channels.get("a").latest == two.seq()
        between.cut()

        with pytest.raises(TrickleConnectionError):
            await two.close()
        assert content(relay, 2) == b"two"
        one.abort()


@pytest.mark.usefixtures("quick")
async def test_a_segment_that_is_larger_than_what_may_be_kept_is_not_sent_again(relay: RunningServer) -> None:
    async with proxy(relay.port) as between, TricklePublisher(url(between.port), max_retry_bytes=1000) as publisher:
        await published(publisher, b"before")
        segment = await publisher.next()
        await until(lambda: relay.trickle.channels.get("a").find(1))
        between.swallow = True
        await segment.write(bytes(600))
        await segment.write(bytes(600))
        await until(lambda: segment._connection.untaken == 0)
        between.swallow = False
        between.cut()

        with pytest.raises(TrickleConnectionError):
            await segment.close()
        assert content(relay, 1) == b""
        assert (await published(publisher, b"after")).seq() == 2


async def test_tiny_pieces_that_are_kept_cost_no_more_memory_than_allowed(relay: RunningServer) -> None:
    limit = 100_000
    async with TricklePublisher(url(relay.port), max_retry_bytes=limit) as publisher:
        segment = await publisher.next()
        tracemalloc.start()
        for number in range(20_000):
            await segment.write(memoryview(b"%05d" % number))
            if not number % 1000:
                await asyncio.sleep(0)
        kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, segment_writer.__file__)])
        tracemalloc.stop()
        await segment.close()

        assert sum(trace.size for trace in kept.traces) < 2 * limit
        assert len(content(relay, 0)) == 100_000


# Silence.


async def test_a_server_that_never_confirms_a_segment_is_a_timeout_and_the_writer_has_the_error() -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port), reply_timeout_s=SHORT_S)
        segment = await publisher.next()
        await segment.write(b"unconfirmed")

        with pytest.raises(TrickleTimeout, match=r"/a/0: not confirmed within 0\.05 s of its end"):
            await segment.close()
        with pytest.raises(TrickleTimeout):
            await segment.close()
        publisher.abort()
        assert not segment.confirmed


async def test_close_of_a_publisher_ends_though_the_server_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "REPLY_TIMEOUT_S", SHORT_S)
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port), reply_timeout_s=SHORT_S)
        segment = await publisher.next()
        await segment.write(b"unconfirmed")

        with pytest.raises(TrickleTimeout, match="not confirmed"):
            await publisher.close()


async def test_a_server_that_takes_the_end_slowly_is_waited_for_as_long_as_it_takes_something() -> None:
    size, limit_s = 4 << 20, 0.5
    loop = asyncio.get_running_loop()
    async with Scripted() as server:
        server._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        publisher = TricklePublisher(url(server.port), reply_timeout_s=limit_s)
        segment = await publisher.next()
        raw, _, _ = await server.request()

        async def take_slowly() -> int:
            taken = 0
            async for piece in raw.chunks():
                taken += len(piece)
                await asyncio.sleep(0.02)
            await raw.send("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
            return taken

        taking = asyncio.create_task(take_slowly())
        for _ in range(size // 65536):
            await segment.write(bytes(65536))
        ended = loop.time()
        await segment.close()

        assert await taking == size
        assert segment.confirmed
        assert loop.time() - ended > limit_s, "it was to take longer than the limit"
        publisher.abort()


async def test_a_close_that_its_caller_gives_up_is_no_confirmation() -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port))
        segment = await publisher.next()
        await segment.write(b"unconfirmed")
        closing = asyncio.create_task(segment.close())
        raw, _, _ = await server.request()
        await raw.reader.readuntil(b"0\r\n\r\n")
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)

        with pytest.raises(TrickleConnectionError, match="given up before it was confirmed"):
            await segment.close()
        publisher.abort()


async def test_a_writer_is_held_back_by_a_server_that_does_not_read_and_memory_stays_bounded() -> None:
    wanted, allowed = 256 << 20, 4 << 20
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port), max_retry_bytes=1 << 20)
        segment = await publisher.next()
        await server.request()

        async def write_all() -> None:
            for number in range(wanted >> 16):
                await segment.write(number.to_bytes(4) * 16384)

        tracemalloc.start()
        writing = asyncio.create_task(write_all())
        await until(lambda: not segment._connection._has_room)
        written = segment.size
        for _ in range(20):
            await asyncio.sleep(0.005)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert not writing.done()
        assert segment.size <= written + (1 << 20)
        assert segment.size < wanted / 4
        assert peak < allowed
        publisher.abort()
        with pytest.raises(TrickleError):
            await writing


# Time.

HURRIED = RelayLimits(
    head_timeout_s=SHORT_S,
    idle_connection_s=SHORT_S,
    rate_window_s=SHORT_S,
    broken_post_grace_s=SHORT_S,
    interim_interval_s=0.01,
)


async def test_a_message_after_a_pause_longer_than_every_timeout_is_sent(start_relay: Callable) -> None:
    relay = await start_relay(limits=HURRIED)
    async with TricklePublisher(url(relay.port), reply_timeout_s=SHORT_S) as publisher:
        await published(publisher, b"before")
        await asyncio.sleep(10 * SHORT_S)
        after = await published(publisher, b"after")

        assert (after.seq(), content(relay, 1)) == (1, b"after")


async def test_a_writer_that_pauses_longer_than_every_timeout_inside_a_segment_loses_nothing(
    start_relay: Callable,
) -> None:
    relay = await start_relay(limits=HURRIED)
    async with TricklePublisher(url(relay.port), reply_timeout_s=SHORT_S) as publisher:
        segment = await publisher.next()
        for piece in (b"one", b"two", b"three"):
            await asyncio.sleep(4 * SHORT_S)
            await segment.write(piece)
        await asyncio.sleep(4 * SHORT_S)
        await segment.close()

        assert content(relay, 0) == b"onetwothree"


async def test_a_server_that_ends_a_quiet_preconnect_after_next_costs_nothing() -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port))
        segment = await publisher.next()
        raw, _, _ = await server.request()
        await server.request()
        await raw.send("HTTP/1.1 500 Internal Server Error\nContent-Length: 0\n\n")
        await until(lambda: not segment.connected)

        writing = asyncio.create_task(segment.write(b"late"))
        raw, line, _ = await server.request()
        assert line == "GET /a/next HTTP/1.1"
        await raw.send("HTTP/1.1 200 OK\nLp-Trickle-Latest: 0\nContent-Length: 0\nConnection: close\n\n")
        raw, line, _ = await server.request()
        await writing
        assert line == "POST /a/0 HTTP/1.1"
        assert await anext(raw.chunks()) == b"late"
        publisher.abort()


# Readers.


async def test_a_slow_reader_gets_its_segment_and_the_one_after_it_whole_though_the_channel_is_removed(
    relay: RunningServer,
) -> None:
    pieces = [bytes([number]) * 65536 for number in range(256)]
    relay.trickle.create_channel("a", "video/MP2T")
    async with TrickleSubscriber(url(relay.port), 0) as subscriber:
        publisher = TricklePublisher(url(relay.port))
        segment = await publisher.next()
        await segment.write(pieces[0])
        reader = await subscriber.next()
        first = await reader.read(1)
        for piece in pieces[1:]:
            await segment.write(piece)
        await segment.close()
        await published(publisher, b"last")
        await publisher.close()
        assert relay.trickle.channels.get("a") is None

        rest = b"".join([piece async for piece in reader])
        assert first + rest == b"".join(pieces)
        assert await (await subscriber.next()).read() == b"last"
        assert await subscriber.next() is None


async def test_the_head_of_a_post_is_on_the_wire_before_there_is_a_byte_of_its_body() -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port))
        segment = await publisher.next()
        raw, line, head = await server.request()
        assert (line, head.headers["transfer-encoding"]) == ("POST /a/0 HTTP/1.1", "chunked")
        assert raw.reader._buffer == b""

        await segment.write(b"first")
        assert await anext(raw.chunks()) == b"first"
        publisher.abort()
