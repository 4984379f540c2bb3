"""What a reader makes of connections that break anywhere, and of servers that die and come back with another stream."""

import asyncio
import contextlib
import itertools
import socket

import pytest

from pipeline.trickle import ChannelGone, TrickleConnectionError, TricklePublisher, TrickleSubscriber
from pipeline.trickle.server import RunningServer
from tests.trickle.conftest import StartRelay
from tests.trickle.test_subscriber import ok, whole, write
from tests.trickle.wire import Proxy, Scripted, proxy, until, url

RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER: on, and not for a second: a close is a reset."""

DATA = b"the bytes of a small segment"
REPLY = (
    b"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: 0\r\nContent-Type: video/MP2T\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (DATA[:9], DATA[9:]))
    + b"0\r\n\r\n"
)
END = b"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: 1\r\nLp-Trickle-Closed: terminated\r\nContent-Length: 0\r\n\r\n"
GONE = b"HTTP/1.1 470 x\r\nLp-Trickle-Latest: 9\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Answers GETs of segment 0 in turn with what it is given, each (bytes, whether a reset follows), and ends the
    stream after it."""

    def __init__(self, *replies: tuple[bytes, bool]) -> None:
        self._replies = iter(replies)
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # Its tasks hear of it.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if not head.startswith(b"GET /a/0 "):
                    writer.write(END)
                    continue
                reply, reset = next(self._replies)
                writer.write(reply)
                if reset:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    writer.transport.abort()
                    return


@pytest.mark.parametrize("offset", range(len(REPLY)))
async def test_a_reset_at_any_byte_of_a_segment_costs_no_byte_and_doubles_none(offset: int) -> None:
    async with (
        Server((REPLY[:offset], True), (REPLY, False)) as port,
        TrickleSubscriber(url(port), 0) as subscriber,
    ):
        segment = await subscriber.next()

        assert await whole(segment) == DATA
        assert (segment.truncated, segment.discontinuity) == (False, False)
        assert await subscriber.next() is None


@pytest.mark.parametrize("offset", range(REPLY.index(DATA[:9]) + 1, len(REPLY)))
async def test_a_reset_after_which_the_server_has_the_segment_no_more_cuts_it_and_says_so(offset: int) -> None:
    async with (
        Server((REPLY[:offset], True), (GONE, False)) as port,
        TrickleSubscriber(url(port), 0) as subscriber,
    ):
        segment = await subscriber.next()
        had = await whole(segment)

        assert DATA.startswith(had)
        assert segment.truncated


async def test_a_server_that_breaks_at_the_same_byte_for_ever_is_an_error_in_the_end() -> None:
    broken = itertools.repeat((REPLY[:-20], True))
    async with (
        Server(*itertools.islice(broken, 20)) as port,
        TrickleSubscriber(url(port), 0, max_retries=3) as subscriber,
    ):
        segment = await subscriber.next()
        first = await segment.read()
        assert DATA.startswith(first)
        with pytest.raises(TrickleConnectionError):
            await whole(segment)


async def test_a_get_that_is_lost_in_mid_segment_is_resumed_while_it_is_being_written(relay: RunningServer) -> None:
    async with (
        TricklePublisher(url(relay.port)) as publisher,
        proxy(relay.port) as between,
        TrickleSubscriber(url(between.port), 0) as subscriber,
    ):
        await publisher.create()
        async with await publisher.next() as writing:
            await writing.write(b"one")
            segment = await subscriber.next()
            assert await segment.read() == b"one"
            for part in (b"two", b"three"):
                between.cut()
                await writing.write(part)
                assert await segment.read() == part
        assert (await segment.read(), segment.truncated) == (b"", False)
        async with await publisher.next() as writing:
            await writing.write(b"next")
        following = await subscriber.next()
        assert (following.seq(), following.discontinuity, await whole(following)) == (1, False, b"next")


# A server that dies takes its channels with it; the one that comes back counts from 0.


def replace(between: Proxy, new: RunningServer) -> None:
    """Another relay in place of that behind `between`."""
    between.upstream = new.port
    between.cut()


@pytest.mark.parametrize("common", [b"", b"a head that all segments have, "])
async def test_a_server_that_comes_back_with_another_segment_0_is_not_spliced_onto_the_old_one(
    start_relay: StartRelay, common: bytes
) -> None:
    old, new = await start_relay(), await start_relay()
    old.trickle.create_channel("a", "")
    writing = old.trickle.channels.get("a").for_write(0)
    old.trickle.channels.get("a").append(writing, common + b"the old stream", 0.0)
    write(new, 0, common + b"the new stream, which has more bytes than the old one had")
    write(new, 1, b"its next one")
    async with proxy(old.port) as between, TrickleSubscriber(url(between.port), 0) as subscriber:
        segment = await subscriber.next()
        assert await segment.read() == common + b"the old stream"
        replace(between, new)

        assert (await segment.read(), segment.truncated) == (b"", True)
        anew = await subscriber.next()
        assert (anew.seq(), anew.discontinuity) == (0, True)
        assert await whole(anew) == common + b"the new stream, which has more bytes than the old one had"
        after = await subscriber.next()
        assert (after.seq(), after.discontinuity, await whole(after)) == (1, False, b"its next one")


async def test_a_server_that_comes_back_with_a_shorter_segment_0_is_told_from_the_old_one(
    start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.trickle.seen.STILL_S", 0.1)
    old, new = await start_relay(), await start_relay()
    old.trickle.create_channel("a", "")
    writing = old.trickle.channels.get("a").for_write(0)
    old.trickle.channels.get("a").append(writing, b"so far the same", 0.0)
    new.trickle.create_channel("a", "")
    being_written = new.trickle.channels.get("a").for_write(0)
    new.trickle.channels.get("a").append(being_written, b"so far", 0.0)
    async with proxy(old.port) as between, TrickleSubscriber(url(between.port), 0) as subscriber:
        segment = await subscriber.next()
        assert await segment.read() == b"so far the same"
        replace(between, new)

        assert (await segment.read(), segment.truncated) == (b"", True)
        anew = await subscriber.next()
        assert (anew.seq(), anew.discontinuity, await anew.read()) == (0, True, b"so far")


async def test_a_stream_that_began_anew_between_two_segments_is_read_from_its_beginning(
    start_relay: StartRelay,
) -> None:
    """The new stream has a segment of the number that is waited for: nothing but the content tells them apart."""
    old, new = await start_relay(), await start_relay()
    write(old, 0, b"old 0")
    for seq in range(3):
        write(new, seq, b"new %d" % seq)
    async with proxy(old.port) as between, TrickleSubscriber(url(between.port), 0) as subscriber:
        assert await whole(await subscriber.next()) == b"old 0"
        await until(lambda: old.trickle.channels.get("a").find(1))
        replace(between, new)

        given = []
        for _ in range(3):
            segment = await subscriber.next()
            given.append((segment.seq(), segment.discontinuity, await whole(segment)))
        assert given == [(0, True, b"new 0"), (1, False, b"new 1"), (2, False, b"new 2")]


async def test_a_stream_that_goes_on_after_a_break_is_no_discontinuity(relay: RunningServer) -> None:
    write(relay, 0, b"0")
    async with proxy(relay.port) as between, TrickleSubscriber(url(between.port), 0) as subscriber:
        assert await whole(await subscriber.next()) == b"0"
        await until(lambda: relay.trickle.channels.get("a").find(1))
        between.cut()
        write(relay, 1, b"1")

        segment = await subscriber.next()
        assert (segment.seq(), segment.discontinuity, await whole(segment)) == (1, False, b"1")


async def test_a_new_stream_that_is_behind_the_old_one_is_read_from_its_beginning(start_relay: StartRelay) -> None:
    old, new = await start_relay(), await start_relay()
    for seq in range(20, 24):
        write(old, seq, b"old")
    for seq in range(2):
        write(new, seq, b"new %d" % seq)
    async with proxy(old.port) as between, TrickleSubscriber(url(between.port)) as subscriber:
        segment = await subscriber.next()
        assert (segment.seq(), await whole(segment)) == (23, b"old")
        await until(lambda: old.trickle.channels.get("a").find(24))
        replace(between, new)

        given = []
        for _ in range(2):
            segment = await subscriber.next()
            given.append((segment.seq(), segment.discontinuity, await whole(segment)))
        assert given == [(0, True, b"new 0"), (1, False, b"new 1")]


async def test_a_server_that_is_away_for_long_is_an_error_each_time_until_it_is_back(start_relay: StartRelay) -> None:
    """The same subscriber, whatever comes: errors, a channel that is gone, and the new stream."""
    old = await start_relay()
    for seq in range(3):
        write(old, seq, b"old")
    async with TrickleSubscriber(url(old.port), max_retries=1) as subscriber:
        assert await whole(await subscriber.next()) == b"old"
        await until(lambda: old.trickle.channels.get("a").find(3))
        _die(old)
        await old.close()
        for _ in range(2):
            with pytest.raises(TrickleConnectionError):
                await subscriber.next()
        new = await start_relay(port=old.port)
        for _ in range(2):
            with pytest.raises(ChannelGone):
                await subscriber.next()
        write(new, 0, b"new")

        segment = await subscriber.next()
        assert (segment.seq(), segment.discontinuity, await whole(segment)) == (0, True, b"new")


def _die(relay: RunningServer) -> None:
    """Break its connections without a word, as a kill does."""
    for connection in list(relay.trickle.connections):
        connection.abort()


async def test_a_read_that_failed_can_be_tried_again_and_again() -> None:
    broken = [(REPLY[:-30], True)] + [(b"", True)] * 4
    async with Server(*broken, (REPLY, False)) as port, TrickleSubscriber(url(port), 0, max_retries=1) as subscriber:
        segment = await subscriber.next()
        had = await segment.read()
        failures = 0
        while had != DATA:
            try:
                had += await segment.read()
            except TrickleConnectionError:
                failures += 1

        assert failures > 1
        assert (await segment.read(), segment.truncated) == (b"", False)


@pytest.mark.parametrize("said", ["SSH-2.0-OpenSSH_9.2\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nnonsense\n"])
async def test_a_server_that_does_not_speak_http_is_an_error_that_says_so(said: str) -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port), 0, max_retries=1) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        for _ in range(2):
            raw, _, _ = await server.request()
            await raw.send(said)

        with pytest.raises(TrickleConnectionError, match=f"127.0.0.1:{server.port}/a: .*(HTTP/1.x|chunk)"):
            await reading


async def test_after_a_publisher_was_restarted_no_segment_is_given_twice(relay: RunningServer) -> None:
    given = []
    relay.trickle.create_channel("a", "")
    async with TrickleSubscriber(url(relay.port), 0) as subscriber:
        for life in range(3):
            publisher = TricklePublisher(url(relay.port))
            await publisher.resume()
            for part in range(2):
                async with await publisher.next() as writing:
                    await writing.write(b"%d.%d" % (life, part))
                given.append(await whole(await subscriber.next()))
            publisher.abort()

    assert given == [b"%d.%d" % (life, part) for life in range(3) for part in range(2)]


async def test_a_reply_of_another_segment_than_was_asked_for_is_known_by_its_number() -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port), -2) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        raw, _, _ = await server.request()
        await raw.send(ok(41, "x"))
        segment = await reading
        _, line, _ = await server.request()

        assert (segment.seq(), subscriber.seq(), line.split()[1]) == (41, 42, "/a/42")
