"""The subscriber against a real relay, a proxy that breaks connections, and bare sockets that answer what we like."""

import asyncio
import socket
import tracemalloc

import pytest

from pipeline.trickle import (
    AccessDenied,
    ChannelGone,
    SegmentReader,
    SegmentRefused,
    SegmentTooLarge,
    TrickleConnectionError,
    TrickleError,
    TricklePublisher,
    TrickleSubscriber,
    TrickleTimeout,
)
from pipeline.trickle.server import RunningServer
from tests.trickle.wire import Scripted, connect, proxy, until, url

OK = "HTTP/1.1 200 OK\nLp-Trickle-Seq: {seq}\nContent-Length: {size}\n\n{body}"


def ok(seq: int, body: str, size: int | None = None) -> str:
    return OK.format(seq=seq, body=body, size=len(body) if size is None else size)


async def whole(segment: SegmentReader | None) -> bytes:
    assert segment is not None
    return b"".join([piece async for piece in segment])


def write(relay: RunningServer, seq: int, *pieces: bytes) -> None:
    """Put a whole segment into the relay without a connection."""
    relay.trickle.create_channel("a", "video/MP2T")
    channel = relay.trickle.channels.get("a")
    segment = channel.for_write(seq)
    for piece in pieces:
        channel.append(segment, piece, 0.0)
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


@pytest.mark.parametrize(
    ("latest", "asked", "oldest"), [(10, ["/a/4", "/a/5", "/a/6"], 6), (40, ["/a/4", "/a/39"], 39)]
)
async def test_a_reader_that_fell_behind_goes_on_where_it_can_and_says_so(
    latest: int, asked: list[str], oldest: int
) -> None:
    """Slightly behind: with the oldest segment that is left. Far behind: with the newest."""
    async with Scripted() as server, TrickleSubscriber(url(server.port), 3) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        raw, _, _ = await server.request()
        await raw.send(ok(3, "three"))
        first = await reading
        ahead, line, _ = await server.request()
        lines = [line.split()[1]]
        while lines[-1] != f"/a/{oldest}":
            await ahead.send(f"HTTP/1.1 470 x\nLp-Trickle-Latest: {latest}\nContent-Length: 5\n\nEntry")
            lines.append((await ahead.reader.readline()).decode().split()[1])
            await ahead.reader.readuntil(b"\r\n\r\n")
        await ahead.send(ok(oldest, "there"))
        second = await subscriber.next()

        assert lines == asked
        assert (first.discontinuity, second.discontinuity) == (False, True)
        assert (second.seq(), await whole(second)) == (oldest, b"there")


async def test_nothing_that_the_relay_still_holds_is_missed(relay: RunningServer) -> None:
    write(relay, 0, b"0")
    async with TrickleSubscriber(url(relay.port), 0) as subscriber:
        given = [int(await whole(await subscriber.next()))]
        await until(lambda: relay.trickle.channels.get("a").find(1))
        for seq in range(1, 8):
            write(relay, seq, b"%d" % seq)
        held = [segment.seq for segment in map(relay.trickle.channels.get("a").find, range(8)) if segment]
        for _ in [1, *held]:
            given.append(int(await whole(await subscriber.next())))

    # 1 was waited for, so its reader has it although the relay keeps it no more.
    assert held == [3, 4, 5, 6, 7]
    assert given == [0, 1, *held]


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


async def test_a_channel_whose_numbers_began_anew_is_followed_and_nothing_is_given_twice(
    relay: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publisher that was restarted, and counts from a lower number, while the server went on."""
    monkeypatch.setattr("pipeline.trickle.subscriber._BEHIND_LIMIT_S", 0.05)
    monkeypatch.setattr("pipeline.trickle.subscriber._BEHIND_DELAY_S", 0.01)
    for seq in range(46, 51):
        write(relay, seq, b"before %d" % seq)
    given = []
    async with TrickleSubscriber(url(relay.port)) as subscriber:
        segment = await subscriber.next()
        given.append((segment.seq(), segment.discontinuity, await whole(segment)))
        relay.trickle.channels.get("a").close_before(99)
        for seq in range(3):
            write(relay, seq, b"after %d" % seq)
            segment = await subscriber.next()
            given.append((segment.seq(), segment.discontinuity, await whole(segment)))

    assert given == [
        (50, False, b"before 50"),
        (0, True, b"after 0"),
        (1, False, b"after 1"),
        (2, False, b"after 2"),
    ]


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


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(400, SegmentRefused), (401, AccessDenied), (403, AccessDenied), (404, ChannelGone), (302, SegmentRefused)],
)
async def test_each_refusal_has_a_kind_of_its_own_and_says_what_the_server_said(
    status: int, outcome: type[TrickleError]
) -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port), 0) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        raw, _, _ = await server.request()
        await raw.send(f"HTTP/1.1 {status} no\nContent-Length: 4\n\nwhy?")

        with pytest.raises(outcome, match=f"/a/0: .*status {status}") as refusal:
            await reading
        assert type(refusal.value) is outcome
        assert outcome is ChannelGone or str(refusal.value).endswith("why?")


async def test_the_token_is_shown_with_every_get(start_relay) -> None:
    relay = await start_relay(subscribe_tokens=["r3ad"])
    write(relay, 0, b"secret")
    async with TrickleSubscriber(url(relay.port), 0, token="r3ad") as subscriber:
        assert await whole(await subscriber.next()) == b"secret"
    for other in (None, "wr0ng"):
        async with TrickleSubscriber(url(relay.port), 0, token=other) as subscriber:
            with pytest.raises(AccessDenied):
                await subscriber.next()


def test_a_token_that_no_header_can_carry_is_a_mistake_that_does_not_repeat_it() -> None:
    with pytest.raises(ValueError, match=r"^token: not a bearer token") as mistake:
        TrickleSubscriber("http://127.0.0.1/a", token="two words")
    assert "two words" not in str(mistake.value)


async def test_a_server_that_is_busy_is_asked_again() -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port), 0) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        for status in (503, 429, 500):
            raw, _, _ = await server.request()
            await raw.send(f"HTTP/1.1 {status} busy\nConnection: close\nContent-Length: 0\n\n")
        raw, _, _ = await server.request()
        await raw.send(ok(0, "at last"))

        assert await whole(await reading) == b"at last"


async def test_a_server_that_stays_busy_is_a_refusal_in_the_end() -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port), 0, max_retries=1) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        for _ in range(2):
            raw, _, _ = await server.request()
            await raw.send("HTTP/1.1 503 busy\nConnection: close\nContent-Length: 0\n\n")

        with pytest.raises(SegmentRefused, match="status 503"):
            await reading


async def test_a_server_that_does_not_answer_the_connection_is_a_time_out() -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(full.getsockname())
    port = full.getsockname()[1]
    async with TrickleSubscriber(url(port), 0, connect_timeout_s=0.1, max_retries=1) as subscriber:
        with pytest.raises(TrickleTimeout, match=f"127.0.0.1:{port}/a: no connection within 0.1 s"):
            await subscriber.next()
    for each in (full, *waiting):
        each.close()


async def test_the_end_of_a_stream_that_is_waited_for_is_none_and_the_last_segment_knows(relay: RunningServer) -> None:
    async with TrickleSubscriber(url(relay.port), 0) as subscriber:
        write(relay, 0, b"first")
        first = await subscriber.next()
        write(relay, 1, b"last")
        last = await subscriber.next()
        assert (await whole(last), last.eos()) == (b"last", False)
        await until(lambda: relay.trickle.channels.get("a").find(2))
        relay.trickle.channels.remove("a")

        assert await subscriber.next() is None
        assert (first.eos(), last.eos()) == (False, True)


async def test_a_segment_that_is_closed_early_gives_no_more_and_the_next_one_is_whole(relay: RunningServer) -> None:
    for seq in range(2):
        write(relay, seq, bytes(4_000_000))
    async with TrickleSubscriber(url(relay.port), 0) as subscriber:
        first = await subscriber.next()
        assert await first.read(10) == bytes(10)
        await first.close()
        await first.close()
        assert await first.read() == b""
        async with await subscriber.next() as second:
            assert len(await whole(second)) == 4_000_000
        assert (first.truncated, second.discontinuity) == (False, False)


@pytest.mark.parametrize(
    "pieces", [[b'{"a": 1}'], [b'{"a"', b": ", b"1}"], [b'"', 100_000 * b"x", 50_000 * b"y", b'"']]
)
async def test_a_message_of_any_size_in_any_number_of_chunks_is_read_whole(
    relay: RunningServer, pieces: list[bytes]
) -> None:
    async with TricklePublisher(url(relay.port), "application/json") as publisher:
        await publisher.create()
        async with TrickleSubscriber(url(relay.port), 0) as subscriber:
            reading = asyncio.create_task(subscriber.next())
            async with await publisher.next() as writing:
                for piece in pieces:
                    await writing.write(piece)
                    await asyncio.sleep(0.01)

            assert await (await reading).read_all() == b"".join(pieces)


async def test_a_message_beyond_the_limit_is_an_error_and_the_next_one_is_read(relay: RunningServer) -> None:
    write(relay, 0, bytes(1001))
    write(relay, 1, bytes(1000))
    async with TrickleSubscriber(url(relay.port), 0) as subscriber:
        with pytest.raises(SegmentTooLarge, match="/a/0: more than 1000 bytes"):
            await (await subscriber.next()).read_all(1000)
        assert len(await (await subscriber.next()).read_all(1000)) == 1000


async def test_half_a_message_is_an_error_and_not_a_message() -> None:
    async with Scripted() as server, TrickleSubscriber(url(server.port), 0) as subscriber:
        reading = asyncio.create_task(subscriber.next())
        raw, _, _ = await server.request()
        await raw.send(ok(0, "half", size=8))
        segment = await reading
        message = asyncio.create_task(segment.read_all())
        await server.request()
        raw.close()
        again, _, _ = await server.request()
        await again.send("HTTP/1.1 470 x\nLp-Trickle-Latest: 6\nContent-Length: 0\n\n")

        with pytest.raises(TrickleConnectionError, match="/a/0: ended after 4 bytes, and there were more"):
            await message


async def test_a_reader_that_does_not_read_leaves_the_data_at_the_server(relay: RunningServer) -> None:
    for seq in range(2):
        write(relay, seq, *[bytes(64_000)] * 1000)
    async with TrickleSubscriber(url(relay.port), 0) as subscriber:
        tracemalloc.start()
        segment = await subscriber.next()
        await asyncio.sleep(0.3)
        # Both segments, this one and that which was opened ahead.
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()

        assert kept < 4_000_000
        assert len(await whole(segment)) == 64_000_000


async def test_a_caller_that_stops_waiting_loses_nothing(relay: RunningServer) -> None:
    relay.trickle.create_channel("a", "video/MP2T")
    async with TrickleSubscriber(url(relay.port)) as subscriber:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await subscriber.next()
        write(relay, 0, b"x")

        assert (await subscriber.next()).seq() == 0


@pytest.mark.parametrize("rests", ["before its first byte", "between two bytes"])
async def test_a_segment_that_rests_for_longer_than_any_limit_there_is_is_not_cut(
    relay: RunningServer, monkeypatch: pytest.MonkeyPatch, rests: str
) -> None:
    """The limits on connections, replies and failures are set far below the rest."""
    monkeypatch.setattr("pipeline.trickle.pool.REPLY_TIMEOUT_S", 0.1)
    monkeypatch.setattr("pipeline.trickle.read_channel.REPLY_TIMEOUT_S", 0.1)
    monkeypatch.setattr("pipeline.trickle.seen.STILL_S", 0.1)
    async with (
        TricklePublisher(url(relay.port)) as publisher,
        proxy(relay.port) as between,
        TrickleSubscriber(url(between.port), 0, connect_timeout_s=0.2, max_retries=0) as subscriber,
    ):
        await publisher.create()
        reading = asyncio.create_task(subscriber.next())
        if rests == "before its first byte":
            await asyncio.sleep(0.6)
        async with await publisher.next() as writing:
            await writing.write(b"before")
            segment = await reading
            assert await segment.read() == b"before"
            if rests == "between two bytes":
                await asyncio.sleep(0.6)
            await writing.write(b"after")
            assert await segment.read() == b"after"
        assert (await segment.read(), segment.truncated) == (b"", False)
        assert between.opened == 2  # One for the segment, one for that which comes next.


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
