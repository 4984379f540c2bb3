"""The subscriber against a real relay, a proxy that breaks connections, and bare sockets that answer what we like."""

import asyncio

import pytest

from pipeline.trickle import (
    ChannelGone,
    SegmentReader,
    SegmentRefused,
    TrickleConnectionError,
    TricklePublisher,
    TrickleSubscriber,
)
from pipeline.trickle.server import RunningServer
from tests.trickle.wire import Scripted, connect, proxy, until, url

OK = "HTTP/1.1 200 OK\nLp-Trickle-Seq: {seq}\nContent-Length: {size}\n\n{body}"


def ok(seq: int, body: str, size: int | None = None) -> str:
    return OK.format(seq=seq, body=body, size=len(body) if size is None else size)


async def whole(segment: SegmentReader | None) -> bytes:
    assert segment is not None
    return b"".join([piece async for piece in segment])


def write(relay: RunningServer, seq: int, data: bytes) -> None:
    """Put a whole segment into the relay without a connection."""
    relay.trickle.create_channel("a", "video/MP2T")
    channel = relay.trickle.channels.get("a")
    segment = channel.for_write(seq)
    channel.append(segment, data, 0.0)
    channel.finish(segment, 0.0)


async def test_segments_are_read_live_and_in_order_to_the_end_of_the_stream(relay: RunningServer) -> None:
    relay.trickle.create_channel("a", "video/MP2T")
    async with TrickleSubscriber(url(relay.port)) as subscriber:
        await subscriber.subscribe()
        async with TricklePublisher(url(relay.port)) as publisher:
            async with await publisher.next() as writing:
                await writing.write(b"one")
                segment = await subscriber.next()
                assert await segment.read() == b"one"
                await writing.write(b"two")
                assert await segment.read(2) == b"tw"
                assert await segment.read(2) == b"o"
            assert await segment.read() == b""
            assert (segment.seq(), segment.content_type, segment.discontinuity) == (0, "video/MP2T", False)
            async with await publisher.next() as writing:
                await writing.write(b"three")
            assert await whole(await subscriber.next()) == b"three"

        assert await subscriber.next() is None
        assert await subscriber.next() is None


@pytest.mark.parametrize(("start", "seq"), [(-2, 3), (0, 0), (2, 2)])
async def test_reading_begins_where_it_is_asked_to(relay: RunningServer, start: int, seq: int) -> None:
    for each in range(4):
        write(relay, each, b"%d" % each)

    async with TrickleSubscriber(url(relay.port), start) as subscriber:
        segment = await subscriber.next()

        assert (segment.seq(), await whole(segment)) == (seq, b"%d" % seq)
        assert subscriber.seq() == seq + 1


async def test_a_missing_channel_is_gone_until_its_source_comes(relay: RunningServer) -> None:
    async with TrickleSubscriber(url(relay.port)) as subscriber:
        with pytest.raises(ChannelGone, match=r"/a/-2: no such channel, status 404"):
            await subscriber.next()

        write(relay, 0, b"there")

        assert await whole(await subscriber.next()) == b"there"


async def test_a_channel_that_vanishes_after_data_is_the_end_of_the_stream(relay: RunningServer) -> None:
    write(relay, 0, b"x")
    async with TrickleSubscriber(url(relay.port)) as subscriber:
        segment = await subscriber.next()
        await until(lambda: relay.trickle.channels.get("a").find(1))
        relay.trickle.channels.remove("a")

        assert await whole(segment) == b"x"
        assert await subscriber.next() is None


async def test_a_channel_that_vanishes_with_the_connection_is_gone_and_may_begin_anew(relay: RunningServer) -> None:
    for seq in range(3):
        write(relay, seq, b"old")
    async with proxy(relay.port) as between, TrickleSubscriber(url(between.port), 2) as subscriber:
        assert await whole(await subscriber.next()) == b"old"
        await until(lambda: relay.trickle.channels.get("a").find(3))
        between.cut()
        relay.trickle.channels.remove("a")

        with pytest.raises(ChannelGone):
            await subscriber.next()
        write(relay, 0, b"new")
        segment = await subscriber.next()
        assert (segment.seq(), segment.discontinuity) == (0, True)
        assert await whole(segment) == b"new"


async def test_a_reader_that_fell_behind_jumps_forward_and_says_so(relay: RunningServer) -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port), 3) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        raw, _, _ = await server.request()
        await raw.send(ok(3, "three"))
        first = await reading
        ahead, line, _ = await server.request()
        await ahead.send(
            "HTTP/1.1 470 status code 470\nLp-Trickle-Latest: 9\nLp-Trickle-Seq: 4\nContent-Length: 5\n\nEntry"
        )
        again = (await ahead.reader.readline()).decode()
        await ahead.reader.readuntil(b"\r\n\r\n")
        await ahead.send(ok(9, "nine"))
        second = await subscriber.next()

        assert (line.split()[1], again.split()[1]) == ("/a/4", "/a/9")
        assert (first.discontinuity, second.discontinuity) == (False, True)
        assert (second.seq(), await whole(second)) == (9, b"nine")


async def test_the_next_segment_is_asked_for_as_soon_as_this_one_has_a_byte_and_not_before() -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port), 0) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        raw, _, _ = await server.request()
        await asyncio.sleep(0.02)
        assert server.waiting == 0

        await raw.send(ok(0, "first byte", size=100))
        await reading
        _, line, _ = await server.request()

        assert line.split()[1] == "/a/1"


async def test_many_segments_are_read_over_at_most_two_connections(relay: RunningServer) -> None:
    write(relay, 0, b"x")
    async with proxy(relay.port) as between, TrickleSubscriber(url(between.port), 0) as subscriber:
        for seq in range(1, 20):
            assert await whole(await subscriber.next()) == b"x"
            write(relay, seq, b"x")

        assert between.opened <= 2


async def test_a_server_that_is_one_behind_is_waited_for_and_nothing_is_replayed() -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port), 5) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        raw, _, _ = await server.request()
        asked = ["/a/5"]
        for _ in range(2):
            await raw.send("HTTP/1.1 470 x\nLp-Trickle-Latest: 4\nContent-Length: 0\n\n")
            asked.append((await raw.reader.readline()).decode().split()[1])
            await raw.reader.readuntil(b"\r\n\r\n")
        await raw.send(ok(5, "five"))

        assert asked == ["/a/5"] * 3
        assert await whole(await reading) == b"five"


async def test_a_channel_that_began_anew_is_followed(relay: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.trickle.subscriber._BEHIND_LIMIT_S", 0.05)
    monkeypatch.setattr("pipeline.trickle.subscriber._BEHIND_DELAY_S", 0.01)
    write(relay, 50, b"before")
    async with TrickleSubscriber(url(relay.port)) as subscriber:
        await whole(await subscriber.next())
        relay.trickle.channels.get("a").close_before(99)
        write(relay, 1, b"evicts the segment that is waited for")
        await asyncio.sleep(0.2)
        write(relay, 2, b"after")
        segment = await subscriber.next()

        assert (segment.seq(), segment.discontinuity, await whole(segment)) == (2, True, b"after")


async def test_a_segment_without_bytes_is_passed_over(relay: RunningServer) -> None:
    write(relay, 0, b"x")
    async with TrickleSubscriber(url(relay.port), 0) as subscriber:
        await whole(await subscriber.next())
        async with connect(relay.port) as raw:
            await raw.request("POST", "/a/1", "Content-Length: 0")
        write(relay, 2, b"y")
        segment = await subscriber.next()

        assert (segment.seq(), segment.discontinuity) == (2, False)


@pytest.mark.parametrize("cut_after", [300, 40_000, 150_000])
async def test_a_connection_lost_within_a_segment_is_resumed_at_the_same_byte(
    relay: RunningServer, cut_after: int
) -> None:
    data = bytes(range(256)) * 1000
    write(relay, 0, data)
    async with proxy(relay.port) as between, TrickleSubscriber(url(between.port)) as subscriber:
        between.cut_after = cut_after
        segment = await subscriber.next()

        assert await whole(segment) == data
        assert between.opened >= 2
        assert not segment.truncated


async def test_a_segment_whose_rest_is_gone_is_marked_and_so_is_the_gap() -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port), 0) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        raw, _, _ = await server.request()
        await raw.send(ok(0, "half", size=8))
        segment = await reading
        ahead, _, _ = await server.request()
        raw.close()
        rest = asyncio.create_task(whole(segment))
        again, line, _ = await server.request()
        await again.send("HTTP/1.1 470 x\nLp-Trickle-Latest: 6\nContent-Length: 0\n\n")
        await ahead.send(ok(1, "one"))

        assert line.split()[1] == "/a/0"
        assert (await rest, segment.truncated) == (b"half", True)
        assert (await subscriber.next()).discontinuity


async def test_a_waiting_get_that_is_closed_without_a_reply_is_asked_again() -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port), 0) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        for _ in range(3):
            raw, line, _ = await server.request()
            assert line.split()[1] == "/a/0"
            raw.close()
        raw, _, _ = await server.request()
        await raw.send(ok(0, "at last"))

        assert await whole(await reading) == b"at last"


async def test_a_server_that_cannot_be_reached_is_an_error_after_so_many_attempts() -> None:
    async with Scripted() as server:
        port = server.port
    async with TrickleSubscriber(url(port), max_retries=2) as subscriber:
        with pytest.raises(TrickleConnectionError, match=f"127.0.0.1:{port}/a"):
            await subscriber.next()


async def test_a_status_that_trickle_does_not_know_is_a_refusal() -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port)) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        raw, _, _ = await server.request()
        await raw.send("HTTP/1.1 403 Forbidden\nContent-Length: 0\n\n")

        with pytest.raises(SegmentRefused, match="status 403"):
            await reading


async def test_a_caller_that_stops_waiting_loses_nothing(relay: RunningServer) -> None:
    relay.trickle.create_channel("a", "video/MP2T")
    async with TrickleSubscriber(url(relay.port)) as subscriber:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await subscriber.next()
        write(relay, 0, b"x")

        assert (await subscriber.next()).seq() == 0


async def test_a_segment_that_rests_between_two_bytes_is_not_cut(relay: RunningServer) -> None:
    async with TricklePublisher(url(relay.port)) as publisher, await publisher.next() as writing:
        await writing.write(b"before")
        await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").size)
        async with TrickleSubscriber(url(relay.port)) as subscriber:
            segment = await subscriber.next()
            assert await segment.read() == b"before"
            # Longer than any limit that either side has on a live connection, were there one: the clock is moved on.
            loop = asyncio.get_running_loop()
            real = loop.time
            loop.time = lambda: real() + 86_400  # type: ignore[method-assign]
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0.01)
                await writing.write(b"after")
                assert await segment.read() == b"after"
            finally:
                loop.time = real  # type: ignore[method-assign]


async def test_close_in_the_middle_of_everything_leaves_no_reader_behind(relay: RunningServer) -> None:
    async with TricklePublisher(url(relay.port)) as publisher, await publisher.next() as writing:
        await writing.write(b"x")
        await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").size)
        subscriber = TrickleSubscriber(url(relay.port))
        segment = await subscriber.next()
        await subscriber.unsubscribe()

        assert await segment.read() in (b"x", b"")
        assert await segment.read() == b""
        assert await subscriber.next() is None
