"""The publisher against a real relay, a proxy that breaks connections, and bare sockets that answer what we like."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from pipeline.trickle import (
    ChannelGone,
    SegmentRefused,
    SegmentWriter,
    TrickleConnectionError,
    TricklePublisher,
    TrickleSubscriber,
)
from pipeline.trickle.limits import RelayLimits
from pipeline.trickle.server import RunningServer
from tests.trickle.wire import Scripted, connect, proxy, until, url


def content(relay: RunningServer, seq: int, name: str = "a") -> bytes:
    return b"".join(relay.trickle.channels.get(name).find(seq).chunks)


async def write_until_it_fails(segment: SegmentWriter, data: bytes) -> None:
    while True:
        await segment.write(data)
        await asyncio.sleep(0)


async def test_the_next_post_is_on_the_wire_before_any_byte_of_its_body() -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port), "video/x-test")
        await publisher.next()
        _, first, _ = await server.request()
        raw, second, head = await server.request()
        publisher.abort()

        assert (first, second) == ("POST /a/0 HTTP/1.1", "POST /a/1 HTTP/1.1")
        assert head.headers["transfer-encoding"] == "chunked"
        assert head.headers["content-type"] == "video/x-test"
        assert await raw.reader.read() == b""


async def test_segments_arrive_whole_and_in_order_over_two_connections(relay: RunningServer) -> None:
    async with proxy(relay.port) as between:
        publisher = TricklePublisher(url(between.port))
        for seq in range(4):
            async with await publisher.next() as segment:
                await segment.write(b"%d-" % seq)
                await segment.write(memoryview(b"end"))

        assert [content(relay, seq) for seq in range(4)] == [b"0-end", b"1-end", b"2-end", b"3-end"]
        assert publisher.seq() == 4
        assert between.opened == 2
        publisher.abort()


async def test_next_twice_without_a_yield_in_between_never_puts_two_messages_into_one_segment(
    relay: RunningServer,
) -> None:
    async with TricklePublisher(url(relay.port)) as publisher:
        at_once = await asyncio.gather(publisher.next(), publisher.next())
        one_by_one = [await publisher.next(), await publisher.next()]
        segments = [*at_once, *one_by_one]
        for segment in reversed(segments):
            await segment.write(b"message %d" % segment.seq())
        for segment in segments:
            await segment.close()

        assert [segment.seq() for segment in segments] == [0, 1, 2, 3]
        assert [content(relay, seq) for seq in range(4)] == [b"message %d" % seq for seq in range(4)]


async def test_close_finishes_the_last_segment_and_removes_the_channel(relay: RunningServer) -> None:
    publisher = TricklePublisher(url(relay.port))
    segment = await publisher.next()
    await segment.write(b"last")
    await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").size)
    stored = relay.trickle.channels.get("a").find(0)

    await publisher.close()

    assert stored.closed
    assert stored.chunks == [b"last"]
    assert relay.trickle.channels.get("a") is None


async def test_close_deletes_the_channel_only_after_the_last_segment_was_confirmed() -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port))
        segment = await publisher.next()
        await segment.write(b"last")
        last, _, _ = await server.request()
        ahead, _, _ = await server.request()
        closing = asyncio.create_task(publisher.close())
        assert [piece async for piece in last.chunks()] == [b"last"]
        assert server.waiting == 0
        assert ahead.reader._buffer == b""
        await last.send("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
        assert [piece async for piece in ahead.chunks()] == []
        assert server.waiting == 0
        await ahead.send("HTTP/1.1 200 OK\nContent-Length: 0\nConnection: close\n\n")
        raw, line, _ = await server.request()
        await raw.send("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
        await closing

        assert line == "DELETE /a HTTP/1.1"
        assert segment.confirmed


async def test_close_may_leave_the_channel_to_a_successor(relay: RunningServer) -> None:
    publisher = TricklePublisher(url(relay.port))
    async with await publisher.next() as segment:
        await segment.write(b"x")

    await publisher.close(delete=False)

    assert relay.trickle.channels.get("a").writers == 0


async def test_an_error_in_the_caller_leaves_the_segment_unfinished(relay: RunningServer) -> None:
    async def fail() -> None:
        async with TricklePublisher(url(relay.port)) as publisher, await publisher.next() as segment:
            await segment.write(b"half")
            await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").size)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()

    assert relay.trickle.channels.get("a").find(0).closed is False


async def test_without_autocreate_an_unknown_channel_is_gone(start_relay) -> None:
    relay = await start_relay(autocreate=False)
    publisher = TricklePublisher(url(relay.port))

    with pytest.raises(ChannelGone, match=r"/a: the channel is gone, status 404"):
        await publisher.create()
    with pytest.raises(ChannelGone):
        await publisher.resume()
    segment = await publisher.next()
    with pytest.raises(ChannelGone, match=r"/a/0: the channel is gone, status 404"):
        await segment.close()
    publisher.abort()


async def test_a_server_that_is_not_there_is_a_connection_error() -> None:
    async with Scripted() as server:
        port = server.port

    with pytest.raises(TrickleConnectionError, match=f"http://127.0.0.1:{port}/a"):
        await TricklePublisher(url(port)).create()


@pytest.mark.parametrize("bad", ["ftp://host/a", "http:///a", "http://host", "nonsense"])
def test_a_url_that_names_no_channel_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not a trickle channel URL"):
        TricklePublisher(bad)


async def test_a_segment_over_the_limit_is_refused_and_the_next_one_is_taken(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(max_segment_bytes=100))
    async with TricklePublisher(url(relay.port)) as publisher:
        segment = await publisher.next()
        with pytest.raises(SegmentRefused, match=r"/a/0: refused, status 413"):
            await write_until_it_fails(segment, bytes(60))
        with pytest.raises(SegmentRefused):
            await segment.write(b"again")
        async with await publisher.next() as following:
            await following.write(b"fits")

        assert following.seq() == 1
        assert content(relay, 1) == b"fits"


async def test_a_segment_that_was_closed_under_us_is_refused_and_not_lost_in_silence(relay: RunningServer) -> None:
    async with TricklePublisher(url(relay.port)) as publisher:
        segment = await publisher.next()
        await until(lambda: relay.trickle.channels.get("a") and relay.trickle.channels.get("a").find(0))
        async with connect(relay.port) as other:
            await other.request("DELETE", "/a/0")

        with pytest.raises(SegmentRefused, match=r"/a/0: refused, status 200"):
            await write_until_it_fails(segment, b"x")
        async with await publisher.next() as following:
            await following.write(b"goes on")

        assert content(relay, 1) == b"goes on"


async def test_a_reply_after_the_end_that_closes_the_connection_is_a_refusal_too() -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port))
        segment = await publisher.next()
        raw, _, _ = await server.request()
        await segment.write(b"taken by nobody")
        closing = asyncio.create_task(segment.close())
        await raw.reader.readuntil(b"0\r\n\r\n")
        await raw.send("HTTP/1.1 200 OK\nConnection: close\nContent-Length: 0\n\n")

        with pytest.raises(SegmentRefused):
            await closing
        publisher.abort()


async def test_a_preconnect_that_the_server_gave_up_is_made_again() -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port))
        await publisher.next()
        await server.request()
        raw, _, _ = await server.request()
        await raw.send("HTTP/1.1 100 Continue\n\nHTTP/1.1 500 Internal Server Error\nContent-Length: 0\n\n")
        await raw.reader.read()

        segment = await publisher.next()
        _, line, _ = await server.request()
        publisher.abort()

        assert segment.seq() == 1
        assert line == "POST /a/1 HTTP/1.1"


async def test_a_preconnect_released_at_the_end_of_the_channel_is_channel_gone(relay: RunningServer) -> None:
    publisher = TricklePublisher(url(relay.port))
    async with await publisher.next() as segment:
        await segment.write(b"x")
    await until(lambda: relay.trickle.channels.get("a").find(1))
    relay.trickle.channels.remove("a")
    await until(lambda: relay.trickle._requests == 0)
    await asyncio.sleep(0.01)

    with pytest.raises(ChannelGone):
        await publisher.next()
    publisher.abort()


async def test_what_the_server_never_got_is_sent_again(relay: RunningServer) -> None:
    async with proxy(relay.port) as between, TricklePublisher(url(between.port)) as publisher:
        async with await publisher.next() as before:
            await before.write(b"before")
        segment = await publisher.next()
        await until(lambda: relay.trickle.channels.get("a").find(1))
        between.swallow = True
        await segment.write(b"first ")
        await asyncio.sleep(0.02)
        between.swallow = False
        between.cut()
        await asyncio.sleep(0.02)
        await segment.write(b"second")
        await segment.close()

        assert content(relay, 1) == b"first second"


async def test_a_server_that_died_and_began_anew_is_not_sent_again_what_readers_have_had(relay: RunningServer) -> None:
    async with proxy(relay.port) as between, TricklePublisher(url(between.port)) as publisher:
        segment = await publisher.next()
        await segment.write(b"first ")
        await until(lambda: relay.trickle.channels.get("a") and content(relay, 0))
        between.cut()
        relay.trickle.channels.remove("a")
        relay.trickle.create_channel("a", "video/MP2T")
        await asyncio.sleep(0.02)
        with pytest.raises(TrickleConnectionError):
            await segment.write(b"second")

        assert not relay.trickle.channels.get("a").find(0)


async def test_what_the_server_got_in_part_is_not_sent_again_but_raises(relay: RunningServer) -> None:
    relay.trickle.create_channel("a", "video/MP2T")
    async with (
        proxy(relay.port) as between,
        TricklePublisher(url(between.port)) as publisher,
        TrickleSubscriber(url(relay.port), 0) as subscriber,
    ):
        segment = await publisher.next()
        await segment.write(b"first ")
        reader = await subscriber.next()
        between.cut()
        await asyncio.sleep(0.02)
        with pytest.raises(TrickleConnectionError):
            await segment.write(b"second")
        async with await publisher.next() as following:
            await following.write(b"third")

        assert b"".join([piece async for piece in reader]) == b"first "
        assert following.seq() == 1
        assert await (await subscriber.next()).read() == b"third"


async def test_one_failed_segment_leaves_another_open_one_alone(relay: RunningServer) -> None:
    async with TricklePublisher(url(relay.port)) as publisher:
        one, two = await publisher.next(), await publisher.next()
        await two.write(b"two, ")
        one.abort()
        await two.write(b"whole")
        await two.close()

        assert content(relay, 1) == b"two, whole"


async def test_a_restarted_publisher_goes_on_and_its_reader_sees_no_end_of_stream(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(broken_post_grace_s=60))
    async with TrickleSubscriber(url(relay.port), 0) as subscriber:
        died = TricklePublisher(url(relay.port))
        async with await died.next() as segment:
            await segment.write(b"zero")
        cut = await died.next()
        await cut.write(b"one, cut")
        zero, one = await subscriber.next(), await subscriber.next()
        died.abort()

        async with TricklePublisher(url(relay.port)) as successor:
            assert await successor.resume() == 2
            async with await successor.next() as segment:
                await segment.write(b"two")
            read = [b"".join([piece async for piece in reader]) for reader in (zero, one, await subscriber.next())]

            assert read == [b"zero", b"one, cut", b"two"]
        assert await subscriber.next() is None


async def test_resume_sends_the_reset_header_once_and_asks_a_server_without_next_in_another_way() -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port))
        resuming = asyncio.create_task(publisher.resume())
        lines = []
        for reply in (
            "HTTP/1.1 400 Bad Request\nContent-Length: 0\nConnection: close\n\n",
            "HTTP/1.1 470 status code 470\nLp-Trickle-Latest: 7\nContent-Length: 0\nConnection: close\n\n",
            "HTTP/1.1 200 OK\nContent-Length: 0\nConnection: close\n\n",
        ):
            raw, line, _ = await server.request()
            lines.append(line)
            await raw.send(reply)
        assert await resuming == 7
        await publisher.next()
        _, first, first_head = await server.request()
        _, second, second_head = await server.request()
        publisher.abort()

        assert [line.rsplit(" ", 1)[0] for line in lines] == [
            "GET /a/next",
            "GET /a/2147483647",
            "DELETE /a/6",
        ]
        assert (first, first_head.headers["lp-trickle-reset"]) == ("POST /a/7 HTTP/1.1", "1")
        assert second == "POST /a/8 HTTP/1.1"
        assert "lp-trickle-reset" not in second_head.headers


async def test_after_a_relay_lost_its_memory_the_publisher_begins_anew(start_relay) -> None:
    old = await start_relay()
    async with proxy(old.port) as between:
        publisher = TricklePublisher(url(between.port))
        for _ in range(3):
            async with await publisher.next() as segment:
                await segment.write(b"x")
        lost = await publisher.next()
        await lost.write(b"y")
        new = await start_relay()
        between.upstream = new.port
        between.cut()
        with pytest.raises(TrickleConnectionError):
            await lost.close()

        async with await publisher.next() as segment:
            await segment.write(b"anew")
        assert (segment.seq(), content(new, 0)) == (0, b"anew")
        publisher.abort()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return key, cert


async def test_tls_is_verified_unless_a_context_says_whom_to_trust(start_relay, certificate) -> None:
    key, cert = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    relay = await start_relay(ssl_context=context)
    secure = f"https://127.0.0.1:{relay.port}/a"

    with pytest.raises(TrickleConnectionError, match="certificate verify failed"):
        await TricklePublisher(secure).create()

    trusting = ssl.create_default_context(cafile=cert)
    async with TricklePublisher(secure, ssl_context=trusting) as publisher:
        async with await publisher.next() as segment:
            await segment.write(b"secret")
        async with TrickleSubscriber(secure, ssl_context=trusting) as subscriber:
            assert await (await subscriber.next()).read() == b"secret"
