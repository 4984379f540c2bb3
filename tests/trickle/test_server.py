"""The relay on the wire, byte for byte, as go-livepeer's trickle server does it (or safely differs)."""

import asyncio

import pytest

from pipeline.trickle.limits import RelayLimits
from pipeline.trickle.server import RunningServer, serve
from tests.trickle.wire import Raw, connect, until


async def publish(port: int, channel: str, *bodies: tuple[int, str]) -> None:
    """Write whole segments."""
    async with connect(port) as raw:
        for seq, text in bodies:
            head, _ = await raw.request("POST", f"/{channel}/{seq}", f"Content-Length: {len(text)}", "", text)
            assert head.status == 200


async def waiting_get(raw: Raw, relay: RunningServer, path: str) -> None:
    """Send a GET and return once the relay has it and lets it wait."""
    _, name, seq = path.split("/")
    await raw.send(f"GET {path} HTTP/1.1\nHost: x\n\n")
    channel = relay.trickle.channels.get(name)
    await until(lambda: (segment := channel.find(int(seq))) and segment._waiting)


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("POST", "/new", 200, b""),
        ("POST", "/a", 200, b""),
        ("GET", "/missing/0", 404, b"Stream not found\n"),
        ("GET", "/missing/next", 404, b"Stream not found\n"),
        ("DELETE", "/missing", 400, b"Invalid stream\n"),
        ("DELETE", "/missing/0", 404, b"Stream not found\n"),
        ("GET", "/a/abc", 400, b"Invalid idx\n"),
        ("POST", "/a/abc", 400, b"Invalid idx\n"),
        ("POST", "/a/next", 400, b"Invalid idx\n"),
        ("GET", "/a/1_0", 400, b"Invalid idx\n"),
        ("GET", "/a/-3", 400, b"Invalid idx\n"),
        ("GET", "/a/-5", 400, b"Invalid idx\n"),
        ("POST", "/a/-2", 400, b"Invalid idx\n"),
        ("POST", "/a/-5", 400, b"Invalid idx\n"),
        ("DELETE", "/a/-1", 400, b"Invalid idx\n"),
        ("DELETE", "/a/9", 400, b"Nonexistent segment\n"),
        ("DELETE", "/a/1", 200, b""),
        ("GET", "/a/1", 200, b"one"),
        ("GET", "/a/+1", 200, b"one"),
        ("GET", "/a/01", 200, b"one"),
        ("GET", "/a/-2", 200, b"two"),
        ("GET", "/a/next", 200, b"3"),
        ("GET", "/a/4", 470, b"Entry not found"),
        ("GET", "/a/99999999999999999999", 400, b"Invalid idx\n"),
    ],
)
async def test_a_request_is_answered(relay: RunningServer, method: str, path: str, status: int, body: bytes) -> None:
    await publish(relay.port, "a", (0, "zero"), (1, "one"), (2, "two"))

    async with connect(relay.port) as raw:
        head, answer = await raw.request(method, path, *(["Content-Length: 0"] if method == "POST" else []))

    assert (head.status, answer) == (status, body)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("PUT", "/a/0", 405), ("OPTIONS", "/a", 405), ("GET", "/a/0/", 404)]
)
async def test_what_is_no_route_is_refused(relay: RunningServer, method: str, path: str, status: int) -> None:
    async with connect(relay.port) as raw:
        head, _ = await raw.request(method, path)

    assert head.status == status


async def test_470_names_the_segment_asked_and_the_next_one(relay: RunningServer) -> None:
    await publish(relay.port, "a", (0, "x"), (1, "y"))

    async with connect(relay.port) as raw:
        head, _ = await raw.request("GET", "/a/7")

    assert (head.status, head.reason) == (470, "status code 470")
    assert (head.headers["lp-trickle-seq"], head.headers["lp-trickle-latest"]) == ("7", "2")


async def test_data_comes_with_its_number_its_type_and_the_next_number(relay: RunningServer) -> None:
    await publish(relay.port, "a", (0, "x"), (1, "y"))

    async with connect(relay.port) as raw:
        head, body = await raw.request("GET", "/a/-2")

    assert body == b"y"
    assert head.headers["content-type"] == "application/octet-stream"
    assert (head.headers["lp-trickle-seq"], head.headers["lp-trickle-latest"]) == ("1", "2")


async def test_the_type_given_at_creation_stays(relay: RunningServer) -> None:
    async with connect(relay.port) as raw:
        await raw.request("POST", "/a", "Expect-Content: application/json", "Content-Length: 0")
        await raw.request("POST", "/a", "Expect-Content: text/plain", "Content-Length: 0")
        await publish(relay.port, "a", (0, "{}"))
        head, _ = await raw.request("GET", "/a/0")

    assert head.headers["content-type"] == "application/json"


async def test_a_percent_encoded_slash_is_part_of_the_name(relay: RunningServer) -> None:
    async with connect(relay.port) as raw:
        await raw.request("POST", "/a%2Fb", "Content-Length: 0")

    assert relay.trickle.channels.get("a/b")


@pytest.mark.parametrize("seq", [0, 1, -1, -2])
async def test_the_leading_edge_of_a_fresh_channel_waits(relay: RunningServer, seq: int) -> None:
    relay.trickle.create_channel("a", "video/MP2T")
    async with connect(relay.port) as reader:
        await reader.send(f"GET /a/{seq} HTTP/1.1\nHost: x\n\n")
        channel = relay.trickle.channels.get("a")
        await until(lambda: (segment := channel.find(max(seq, 0))) and segment._waiting)
        await publish(relay.port, "a", (max(seq, 0), "data"))
        head = await reader.head()

        assert (head.status, head.headers["lp-trickle-seq"]) == (200, str(max(seq, 0)))
        assert await reader.body(head) == b"data"


async def test_what_lies_beyond_the_leading_edge_is_not_there_until_the_first_byte_moves_it(
    relay: RunningServer,
) -> None:
    await publish(relay.port, "a", (0, "x"))
    async with connect(relay.port) as writer, connect(relay.port) as reader:
        await writer.begin_post("/a/1")
        await until(lambda: relay.trickle.channels.get("a").find(1))
        before, _ = await reader.request("GET", "/a/2")
        await writer.chunk(b"first byte")
        await until(lambda: relay.trickle.channels.get("a").latest == 2)
        await waiting_get(reader, relay, "/a/2")

    assert before.status == 470


async def test_a_reader_gets_each_piece_at_once_and_as_one_chunk(relay: RunningServer) -> None:
    relay.trickle.create_channel("a", "video/MP2T")
    async with connect(relay.port) as writer, connect(relay.port) as reader:
        await waiting_get(reader, relay, "/a/0")
        await writer.begin_post("/a/0")
        await writer.chunk(b"one")
        head = await reader.head()
        chunks = reader.chunks()

        assert head.headers["content-type"] == "video/MP2T"
        assert "lp-trickle-latest" not in head.headers
        assert await anext(chunks) == b"one"
        await writer.chunk(b"two")
        assert await anext(chunks) == b"two"
        end = await writer.end_post()
        assert [piece async for piece in chunks] == []
        assert (end.status, end.headers["lp-trickle-seq"]) == (200, "0")
        assert "connection" not in end.headers


async def test_a_late_reader_gets_the_segment_from_its_first_byte(relay: RunningServer) -> None:
    async with connect(relay.port) as writer, connect(relay.port) as reader:
        await writer.begin_post("/a/0")
        for piece in (b"one", b"two", b"three"):
            await writer.chunk(piece)
        await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").size == 11)
        await reader.send("GET /a/0 HTTP/1.1\nHost: x\n\n")
        await reader.head()

        assert await anext(reader.chunks()) == b"onetwothree"


async def test_head_waits_like_get_and_has_no_body(relay: RunningServer) -> None:
    relay.trickle.create_channel("a", "video/MP2T")
    async with connect(relay.port) as reader, connect(relay.port) as writer:
        await reader.send("HEAD /a/0 HTTP/1.1\nHost: x\n\n")
        await until(lambda: (segment := relay.trickle.channels.get("a").find(0)) and segment._waiting)
        await writer.begin_post("/a/0")
        await writer.chunk(b"x")
        head = await reader.head()
        await writer.end_post()
        following, body = await reader.request("GET", "/a/0")

    assert (head.status, head.headers["lp-trickle-seq"]) == (200, "0")
    assert (following.status, body) == (200, b"x")


async def test_an_old_client_gets_a_body_that_ends_with_the_connection(relay: RunningServer) -> None:
    await publish(relay.port, "a", (0, "data"))
    async with connect(relay.port) as raw:
        await raw.send("GET /a/0 HTTP/1.0\n\n")
        head = await raw.head()

        assert "transfer-encoding" not in head.headers
        assert await raw.reader.read() == b"data"


async def test_the_window_holds_five_segments_and_a_get_at_the_edge_ends_the_oldest(relay: RunningServer) -> None:
    async with connect(relay.port) as stale, connect(relay.port) as held, connect(relay.port) as edge:
        await stale.begin_post("/a/3")
        await stale.chunk(b"left open")
        await publish(relay.port, "a", *[(seq, f"segment {seq}") for seq in (4, 5, 6, 7)])
        await held.send("GET /a/3 HTTP/1.1\nHost: x\n\n")
        held_head = await held.head()
        gone, _ = await edge.request("GET", "/a/2")
        oldest, body = await edge.request("GET", "/a/4")
        await waiting_get(edge, relay, "/a/8")

        assert (gone.status, gone.headers["lp-trickle-latest"]) == (470, "8")
        assert (oldest.status, body) == (200, b"segment 4")
        assert await held.body(held_head) == b"left open"


async def test_a_writer_of_an_evicted_segment_is_told_instead_of_losing_its_bytes(relay: RunningServer) -> None:
    async with connect(relay.port) as slow:
        await slow.begin_post("/a/0")
        await slow.chunk(b"begun")
        await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").latest == 1)
        await publish(relay.port, "a", (5, "x"))
        await slow.chunk(b"goes nowhere")
        head = await slow.head()

    assert (head.status, head.headers["connection"]) == (200, "close")


async def test_minus_one_writes_the_next_segment(relay: RunningServer) -> None:
    await publish(relay.port, "a", (0, "x"), (1, "y"))

    async with connect(relay.port) as raw:
        head, _ = await raw.request("POST", "/a/-1", "Content-Length: 1", "", "z")

    assert head.headers["lp-trickle-seq"] == "2"
    assert relay.trickle.channels.get("a").latest == 3


async def test_a_post_without_bytes_counts_as_a_segment_and_closes_the_connection(relay: RunningServer) -> None:
    async with connect(relay.port) as writer, connect(relay.port) as reader:
        await writer.begin_post("/a/0")
        await until(lambda: relay.trickle.channels.get("a"))
        await waiting_get(reader, relay, "/a/0")
        end = await writer.end_post()
        head = await reader.head()

        assert (end.status, end.headers["connection"]) == (200, "close")
        assert (head.status, head.headers["content-length"]) == (200, "0")
        assert (head.headers["lp-trickle-seq"], head.headers["lp-trickle-latest"]) == ("0", "1")
        assert "lp-trickle-closed" not in head.headers


async def test_a_post_to_a_finished_segment_is_refused_at_once_and_changes_nothing(relay: RunningServer) -> None:
    await publish(relay.port, "a", (0, "kept"))
    async with connect(relay.port) as again:
        await again.begin_post("/a/0")
        head = await again.head()
    async with connect(relay.port) as reader:
        _, body = await reader.request("GET", "/a/0")

    assert (head.status, head.headers["connection"]) == (200, "close")
    assert body == b"kept"


async def test_a_preconnected_post_is_kept_alive_with_interim_replies(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(interim_interval_s=0.02))
    async with connect(relay.port) as writer:
        await writer.begin_post("/a/0")
        interim = [await writer.head() for _ in range(3)]
        await writer.chunk(b"x")
        await writer.send("0\n\n")
        while (end := await writer.head()).status == 100:
            pass

    assert [head.status for head in interim] == [100, 100, 100]
    assert end.status == 200


async def test_deleting_the_channel_tells_everyone_who_waits(relay: RunningServer) -> None:
    async with connect(relay.port) as writer, connect(relay.port) as reader, connect(relay.port) as other:
        await writer.begin_post("/a/0")
        await until(lambda: relay.trickle.channels.get("a"))
        await waiting_get(reader, relay, "/a/0")
        deleted, _ = await other.request("DELETE", "/a")
        released, ended = await writer.head(), await reader.head()
        after, _ = await other.request("GET", "/a/0")

    assert deleted.status == 200
    assert (released.status, released.headers["connection"]) == (200, "close")
    assert (ended.status, ended.headers["content-length"]) == (200, "0")
    assert released.headers["lp-trickle-closed"] == ended.headers["lp-trickle-closed"] == "terminated"
    assert after.status == 404


async def test_deleting_the_channel_ends_a_segment_that_is_being_read(relay: RunningServer) -> None:
    async with connect(relay.port) as writer, connect(relay.port) as reader, connect(relay.port) as other:
        await writer.begin_post("/a/0")
        await writer.chunk(b"so far")
        await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").size)
        await reader.send("GET /a/0 HTTP/1.1\nHost: x\n\n")
        head = await reader.head()
        await other.request("DELETE", "/a")

        assert await reader.body(head) == b"so far"


async def test_stopping_the_relay_ends_every_stream() -> None:
    relay = await serve("127.0.0.1", 0)
    relay.trickle.create_channel("a", "video/MP2T")
    async with connect(relay.port) as reader:
        await waiting_get(reader, relay, "/a/0")
        await relay.close()

        assert (await reader.head()).headers["lp-trickle-closed"] == "terminated"


async def test_deleting_a_segment_releases_its_readers_and_its_writer(relay: RunningServer) -> None:
    async with connect(relay.port) as writer, connect(relay.port) as reader, connect(relay.port) as other:
        await writer.begin_post("/a/0")
        await until(lambda: relay.trickle.channels.get("a"))
        await waiting_get(reader, relay, "/a/0")
        await other.request("DELETE", "/a/0")

        assert (await writer.head()).headers["connection"] == "close"
        assert (await reader.head()).headers["content-length"] == "0"


async def test_reset_frees_readers_of_a_publisher_that_died(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(broken_post_grace_s=60))
    async with connect(relay.port) as reader, connect(relay.port) as successor:
        async with connect(relay.port) as dead:
            await dead.begin_post("/a/0")
            await dead.chunk(b"cut")
            await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").size)
        await reader.send("GET /a/0 HTTP/1.1\nHost: x\n\n")
        head = await reader.head()
        await successor.begin_post("/a/1", "Lp-Trickle-Reset: 1")

        assert await reader.body(head) == b"cut"


async def test_a_broken_post_can_be_continued_within_its_grace(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(broken_post_grace_s=60))
    async with connect(relay.port) as reader, connect(relay.port) as again:
        async with connect(relay.port) as broken:
            await broken.begin_post("/a/0")
            await broken.chunk(b"part")
            await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").size)
        await reader.send("GET /a/0 HTTP/1.1\nHost: x\n\n")
        head = await reader.head()
        await again.begin_post("/a/0")
        await again.chunk(b"-resumed")
        await again.end_post()

        assert await reader.body(head) == b"part-resumed"


async def test_a_broken_post_that_nobody_continues_is_closed(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(broken_post_grace_s=0.01))
    async with connect(relay.port) as reader, connect(relay.port) as broken:
        await broken.begin_post("/a/0")
        await broken.chunk(b"part")
        await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").size)
        await reader.send("GET /a/0 HTTP/1.1\nHost: x\n\n")
        head = await reader.head()
        broken.close()

        assert await reader.body(head) == b"part"


async def test_a_body_shorter_than_it_promised_is_a_broken_post(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(broken_post_grace_s=60))
    async with connect(relay.port) as writer:
        await writer.send("POST /a/0 HTTP/1.1\nHost: x\nContent-Length: 10\n\nshort")
        await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").size)
    await until(lambda: not relay.trickle.channels.get("a").writers)

    assert not relay.trickle.channels.get("a").find(0).closed


async def test_an_abandoned_preconnect_leaves_its_number_usable(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(broken_post_grace_s=0))
    async with connect(relay.port) as abandoned:
        await abandoned.begin_post("/a/0")
        await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").writers)
    await until(lambda: not relay.trickle.channels.get("a").writers)
    await asyncio.sleep(0.01)

    await publish(relay.port, "a", (0, "data"))

    assert relay.trickle.channels.get("a").find(0).chunks == [b"data"]


async def test_a_reader_that_goes_away_is_forgotten_while_it_waits(relay: RunningServer) -> None:
    relay.trickle.create_channel("a", "video/MP2T")
    async with connect(relay.port) as reader:
        await waiting_get(reader, relay, "/a/0")

    await until(lambda: not relay.trickle.channels.get("a").find(0)._waiting)

    assert relay.trickle._requests == 0


async def test_without_autocreate_only_channels_made_inside_can_be_used(start_relay) -> None:
    relay = await start_relay(autocreate=False)
    relay.trickle.create_channel("inside", "video/MP2T")
    async with connect(relay.port) as raw:
        inside, _ = await raw.request("POST", "/inside", "Content-Length: 0")
        outside, _ = await raw.request("POST", "/outside", "Content-Length: 0")
    async with connect(relay.port) as writer:
        await writer.begin_post("/outside/0")
        segment = await writer.head()

    assert (inside.status, outside.status, segment.status) == (200, 404, 404)
    assert segment.headers["connection"] == "close"


async def test_idle_channels_are_swept_but_not_one_with_a_writer_nor_an_internal_one(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(idle_timeout_s=0.05, sweep_interval_s=0.01))
    relay.trickle.create_channel("_internal", "application/json")
    async with connect(relay.port) as live, connect(relay.port) as reader:
        await live.begin_post("/live/0")
        await live.chunk(b"x")
        relay.trickle.create_channel("idle", "video/MP2T")
        await waiting_get(reader, relay, "/idle/0")
        swept = await reader.head()
        await asyncio.sleep(0.1)

        assert swept.headers["lp-trickle-closed"] == "terminated"
        assert relay.trickle.channels.get("live")
        assert relay.trickle.channels.get("_internal")


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        (RelayLimits(max_segment_bytes=10), 413),
        (RelayLimits(max_channel_bytes=10), 413),
        (RelayLimits(max_channels=1), 503),
        (RelayLimits(max_requests=1), 503),
    ],
)
async def test_beyond_a_limit_a_post_is_refused_with_a_status(start_relay, limits: RelayLimits, status: int) -> None:
    relay = await start_relay(limits=limits)
    relay.trickle.create_channel("first", "video/MP2T")
    async with connect(relay.port) as holder, connect(relay.port) as raw:
        await waiting_get(holder, relay, "/first/0")
        channel = "second" if limits.max_channels == 1 else "first"
        await raw.begin_post(f"/{channel}/0")
        await raw.chunk(b"more than ten bytes")
        head = await raw.head()

    assert (head.status, head.headers["connection"]) == (status, "close")


async def test_a_port_in_use_is_an_os_error(relay: RunningServer) -> None:
    with pytest.raises(OSError, match="in use"):
        await serve("127.0.0.1", relay.port)


async def test_a_base_path_stands_before_every_route(start_relay) -> None:
    relay = await start_relay(base_path="/ai/trickle/")
    async with connect(relay.port) as raw:
        created, _ = await raw.request("POST", "/ai/trickle/a", "Content-Length: 0")
        latest, body = await raw.request("GET", "/ai/trickle/a/next")

    assert (created.status, latest.status, body) == (200, 200, b"0")
