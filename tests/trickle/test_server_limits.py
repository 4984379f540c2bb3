"""Each limit of the relay: what is beyond it is refused with the limit and its key, and nobody else is disturbed."""

import asyncio

import pytest

from pipeline.topology_sections import RelayLimits
from pipeline.trickle.door import client_of
from pipeline.trickle.pace import Pace
from tests.trickle.steps import bench, get, post
from tests.trickle.wire import Raw, until


async def refused(raw: Raw, status: int, key: str) -> None:
    """The connection ends with a refusal that names its limit."""
    while (head := await raw.head()).status == 100:
        pass
    text = (await raw.body(head)).decode()
    assert (head.status, head.headers["connection"]) == (status, "close"), text
    assert text.endswith(f"(relay.limits.{key})\n"), text


@pytest.mark.parametrize(
    ("limit", "status"), [("max_segment_bytes", 413), ("max_channel_bytes", 413), ("max_total_bytes", 503)]
)
async def test_too_many_bytes(start_relay, limit: str, status: int) -> None:
    async with bench(await start_relay(limits=RelayLimits(**{limit: 1000}))) as at:
        await at.play(post("/other/0", "x"))
        writer = await at.writer("/c/0", bytes(600))
        reader = await at.reader("/c/0")
        head = await reader.head()
        await writer.chunk(bytes(600))

        await refused(writer, status, limit)
        assert await reader.body(head) == bytes(600), "readers get what was taken, and an end"
        await at.play(post("/other/1", "y"), get("/other/0", b"x"))


async def test_a_length_beyond_the_limit_is_refused_before_the_body(start_relay) -> None:
    async with bench(await start_relay(limits=RelayLimits(max_segment_bytes=1000))) as at:
        raw = await at.connect()
        await raw.send("POST /c/0 HTTP/1.1\nHost: x\nContent-Length: 1001\n\n")

        await refused(raw, 413, "max_segment_bytes")
        await at.play(get("/c/next", None, status=404))


async def test_tiny_pieces_count_with_what_they_take(start_relay) -> None:
    async with bench(await start_relay(limits=RelayLimits(max_channel_bytes=6500))) as at:
        writer = await at.writer("/c/0")
        for _ in range(100):
            await at.write(writer, "/c/0", b"x")
        await writer.chunk(b"x")

        await refused(writer, 413, "max_channel_bytes")


async def test_what_is_evicted_or_deleted_makes_room(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(max_total_bytes=10_000, segments_per_channel=3))
    async with bench(relay) as at:
        for seq in range(20):
            await at.play(post(f"/c/{seq}", "x" * 2500))
        assert relay.trickle.channels.memory.held == at.channel().held == 3 * 2564
        relay.trickle.channels.remove("c")
        assert relay.trickle.channels.memory.held == 0


async def test_what_only_its_readers_still_hold_counts_until_they_are_done(start_relay) -> None:
    relay = await start_relay()
    async with bench(relay) as at:
        await at.writer("/c/0", bytes(1000))
        reader = await at.reader("/c/0")
        await reader.head()
        segment = at.channel().find(0)
        slow = _Reader()
        segment.readers.add(slow)
        relay.trickle.channels.remove("c")
        assert relay.trickle.channels.memory.held == 1064
        segment.remove_reader(slow)
        assert relay.trickle.channels.memory.held == 0


class _Reader:
    def segment_changed(self) -> None:
        pass

    def cut(self) -> None:
        pass


async def test_readers_of_segments_that_are_gone_are_cut_before_a_publisher_is_refused(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(max_total_bytes=40 << 20))
    async with bench(relay) as at:
        await at.writer("/c/7", b"live")
        live = await at.reader("/c/7")
        writer, body = await at.writer("/c/0"), bytes(256 * 1024)
        slow = await at.reader("/c/0")
        for _ in range(100):
            await at.write(writer, "/c/0", body)
        await at.play(post("/c/5", "evicts 0"))
        assert relay.trickle.channels.memory.held > 25 << 20, "the slow reader still has it"
        writer = await at.writer("/d/0")
        for _ in range(100):
            await at.write(writer, "/d/0", body)

        assert (await writer.end_post()).status == 200
        assert not (await slow.reader.read(-1)).endswith(b"0\r\n\r\n")
        await live.head()
        assert await anext(live.chunks()) == b"live"


async def test_too_many_channels(start_relay) -> None:
    async with bench(await start_relay(limits=RelayLimits(max_channels=2))) as at:
        await at.play(post("/a/0", "x"), post("/b"))
        await refused(await at.writer("/c/0"), 503, "max_channels")
        await at.play(post("/a"), post("/a/1", "y"))
        at.relay.trickle.channels.remove("b")
        await at.play(post("/c"))


async def test_more_or_fewer_segments_may_be_kept(start_relay) -> None:
    async with bench(await start_relay(limits=RelayLimits(segments_per_channel=8))) as at:
        await at.play(*[post(f"/c/{seq}", f"{seq}") for seq in range(9)])
        await at.play(get("/c/0", None, status=470), *[get(f"/c/{seq}", b"%d" % seq) for seq in range(1, 9)])


@pytest.mark.parametrize(("limit", "status"), [("max_connections", 503), ("max_connections_per_address", 429)])
async def test_too_many_connections(start_relay, limit: str, status: int) -> None:
    relay = await start_relay(limits=RelayLimits(**{limit: 2}))
    async with bench(relay) as at:
        reader, writer = await at.reader("/c/0"), await at.writer("/c/0")
        beyond = await at.connect()
        await beyond.send("GET /c/0 HTTP/1.1\nHost: x\n\n")

        await refused(beyond, status, limit)
        await at.write(writer, "/c/0", b"goes on")
        await reader.head()
        reader.close()
        beyond.close()
        await until(lambda: len(relay.trickle.connections) == 1)
        await at.play(get("/c/next", b"1"))


async def test_a_crowd_before_the_door_is_cut_off_without_a_word(start_relay, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.trickle.door.MAX_TURNED_AWAY", 3)
    relay = await start_relay(limits=RelayLimits(max_connections=1))
    async with bench(relay) as at:
        raws = [await at.connect() for _ in range(8)]
        for raw in raws[4:]:
            assert await raw.reader.read() == b""
        await until(lambda: len(relay.trickle.connections) == 4)


def test_a_client_is_an_address_or_a_network_of_ipv6() -> None:
    assert client_of("10.1.2.3") == client_of("::ffff:10.1.2.3") == "10.1.2.3"
    assert client_of("2001:db8:1:2:3::4") == client_of("2001:db8:1:2:5::6%eth0") != client_of("2001:db8:1:3::")


async def test_a_head_that_does_not_come_to_its_end(start_relay) -> None:
    async with bench(await start_relay(limits=RelayLimits(head_timeout_s=0.05))) as at:
        await at.play(post("/c"))
        waiting = await at.reader("/c/0")
        raw = await at.connect()
        await raw.send("GET /c/0 HTTP/1.1\n")

        await refused(raw, 408, "head_timeout_s")
        await at.play(post("/c/0", "x"))
        assert (await waiting.head()).status == 200


async def test_a_connection_that_rests_is_closed_after_a_while_but_not_before(start_relay) -> None:
    async with bench(await start_relay(limits=RelayLimits(idle_connection_s=0.1, head_timeout_s=0.02))) as at:
        idle, used = await at.connect(), await at.connect()
        for _ in range(6):
            await asyncio.sleep(0.03)
            assert (await used.request("POST", "/c", "Content-Length: 0"))[0].status == 200

        assert await idle.reader.read() == b""


async def test_a_writer_that_is_slower_than_it_may_be(start_relay) -> None:
    limits = RelayLimits(min_write_rate=100_000, rate_window_s=0.1, broken_post_grace_s=0.0)
    async with bench(await start_relay(limits=limits)) as at:
        ahead = await at.writer("/c/1")
        slow, fast = await at.writer("/c/0", b"x"), await at.writer("/d/0", b"x")
        reader = await at.reader("/c/0")
        head = await reader.head()
        refusal = asyncio.create_task(refused(slow, 408, "min_write_rate"))
        while not refusal.done():
            await at.write(fast, "/d/0", bytes(10_000))
            await asyncio.sleep(0.01)

        await refusal
        assert await reader.body(head) == b"x"
        assert (await fast.end_post()).status == 200
        await at.write(ahead, "/c/1", b"one may wait as long as it likes before its first byte")


async def test_by_default_a_live_source_may_rest(start_relay) -> None:
    async with bench(await start_relay(limits=RelayLimits(rate_window_s=0.02))) as at:
        writer = await at.writer("/c/0", b"x")
        await asyncio.sleep(0.1)
        assert (await writer.end_post()).status == 200


async def test_a_reader_that_takes_nothing_is_cut_and_what_it_held_is_free(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(min_read_rate=1000, rate_window_s=0.1))
    async with bench(relay) as at:
        writer = await at.writer("/c/0")
        stuck, good = await at.reader("/c/0"), await at.reader("/c/0")
        reading = asyncio.create_task(_read_all(good))
        total = 0
        while len(at.channel().find(0).readers) == 2:
            await at.write(writer, "/c/0", bytes(256 * 1024))
            total += 256 * 1024
            await asyncio.sleep(0.005)
        await writer.end_post()

        assert await reading == total
        relay.trickle.channels.remove("c")
        assert relay.trickle.channels.memory.held == 0
        assert not (await stuck.reader.read(-1)).endswith(b"0\r\n\r\n")


async def _read_all(raw: Raw) -> int:
    return len(await raw.body(await raw.head()))


async def test_a_reader_may_wait_only_so_long_if_a_limit_says_so(start_relay) -> None:
    async with bench(await start_relay(limits=RelayLimits(reader_wait_s=0.05))) as at:
        await at.writer("/c/0", b"x")
        live, waiting = await at.reader("/c/0"), await at.reader("/c/1")

        await refused(waiting, 503, "reader_wait_s")
        await live.head()
        assert await anext(live.chunks()) == b"x"


def test_a_pace_is_too_slow_only_after_a_whole_window_of_too_little() -> None:
    pace = Pace(rate=100, window_s=10)
    assert not pace.is_too_slow(0.0, 0)
    assert not pace.is_too_slow(9.0, 999)
    assert pace.is_too_slow(10.0, 999)
    assert not pace.is_too_slow(11.0, 1000)
    assert not pace.is_too_slow(20.0, 1001)
    pace.rest()
    assert not pace.is_too_slow(99.0, 1001)


def test_a_pace_of_nothing_is_never_too_slow() -> None:
    pace = Pace(rate=0, window_s=1)
    assert not any(pace.is_too_slow(float(now), 0) for now in range(10))
