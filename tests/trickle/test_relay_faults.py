"""Clients that die, stall or dawdle: the relay serves what it got, and its channels and other clients go on."""

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest

from pipeline.topology_sections import RelayLimits
from pipeline.trickle import TricklePublisher, TrickleSubscriber
from pipeline.trickle.server import RunningServer
from tests.trickle.steps import Bench, bench, get, post
from tests.trickle.wire import connect, until, url

PAYLOAD = b"four" + b"and-twelve.."


def chunked(path: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"4\r\n" + PAYLOAD[:4] + b"\r\nc;x=y\r\n" + PAYLOAD[4:] + b"\r\n0\r\nT: t\r\n\r\n"


def sized(path: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(PAYLOAD)}\r\n\r\n".encode() + PAYLOAD


def shut(connection: socket.socket) -> None:
    """As a process that exits."""


def reset(connection: socket.socket) -> None:
    """As one that exits with something unread, or a broken middlebox: RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def received(message: bytes, offset: int) -> bytes:
    """The payload in the first `offset` bytes of a message."""
    body_at = message.index(b"\r\n\r\n") + 4
    if b"chunked" not in message:
        return message[body_at:offset]
    first, second = body_at + 3, body_at + 3 + 4 + 2 + 7
    return message[first : min(offset, first + 4)] + message[second : min(offset, second + len(PAYLOAD) - 4)]


@pytest.fixture
def complaints() -> list[object]:
    """What the event loop had to say of exceptions that nobody handled."""
    return []


@pytest.mark.parametrize("end", [shut, reset])
@pytest.mark.parametrize("message_of", [chunked, sized])
async def test_a_post_may_break_at_every_byte(
    start_relay, message_of: Callable[[str], bytes], end: Callable[[socket.socket], None], complaints: list[object]
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    relay = await start_relay(limits=RelayLimits(broken_post_grace_s=0.0))
    whole = len(message_of("/c000/0"))
    for offset in range(whole + 1):
        message = message_of(f"/c{offset:03}/0")
        with socket.create_connection(("127.0.0.1", relay.port)) as connection:
            connection.sendall(message[:offset])
            end(connection)
    await until(lambda: relay.trickle.channels.get(f"c{whole:03}"))
    await until(lambda: not relay.trickle.connections and not relay.trickle._graces)

    async with bench(relay) as at:
        for offset in range(whole + 1):
            name, expected = f"c{offset:03}", received(message_of("/c000/0"), offset)
            channel = relay.trickle.channels.get(name)
            if channel is None:
                assert not expected
                channel = relay.trickle.channels.create(name, "", 0.0)
            segment = channel.find(0)
            assert b"".join(segment.chunks if segment else []) == expected, offset
            assert bool(segment and segment.closed) == bool(expected), offset
            assert channel.writers == 0
            if expected:
                await at.play(get(f"/{name}/0", expected))
        await at.play(*[step for n in range(0, whole, 7) for step in _use(f"c{n:03}")])
    assert not complaints


def _use(name: str) -> list:
    """The channel goes on, at the number that the broken POST was for if it had not begun, else at the next."""
    return [post(f"/{name}/-1", "next"), get(f"/{name}/-2", b"next")]


async def test_a_whole_post_counts_even_if_its_client_does_not_wait_for_the_reply(relay: RunningServer) -> None:
    for end in (shut, reset) * 20:
        relay.trickle.channels.remove("c")
        with socket.create_connection(("127.0.0.1", relay.port)) as connection:
            connection.sendall(sized("/c/0"))
            end(connection)
        await until(lambda: relay.trickle.channels.get("c") and relay.trickle.channels.get("c").find(0).closed)


async def test_a_reader_that_dies_in_mid_segment_is_forgotten(relay: RunningServer, complaints: list[object]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with bench(relay) as at:
        writer = await at.writer("/c/0", b"x")
        for end in (shut, reset):
            with socket.create_connection(("127.0.0.1", relay.port)) as connection:
                connection.sendall(b"GET /c/0 HTTP/1.1\r\nHost: x\r\n\r\n")
                await until(lambda: at.channel().find(0).readers)
                end(connection)
            await at.write(writer, "/c/0", b"y")
            await until(lambda: not at.channel().find(0).readers)
        assert (await writer.end_post()).status == 200
    assert not complaints


LARGE_BYTES = 8 << 20
"""More than the system takes at once: the end comes while the relay waits for room."""


async def test_the_end_of_a_large_segment_may_be_the_end_of_the_connection(
    relay: RunningServer, complaints: list[object]
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    channel = relay.trickle.channels.create("c", "", 0.0)
    segment = channel.for_write(0)
    for _ in range(LARGE_BYTES // 65536):
        channel.append(segment, bytes(65536), 0.0)
    segment.close()

    async def read() -> int:
        async with connect(relay.port) as raw:
            await raw.send("GET /c/0 HTTP/1.1\nHost: x\nConnection: close\n\n")
            assert (await raw.head()).headers["connection"] == "close"
            got = 0
            while data := await raw.reader.read(65536):
                got += len(data)
            return got

    assert min(await asyncio.gather(*(read() for _ in range(16)))) > LARGE_BYTES
    await until(lambda: not relay.trickle.connections)
    assert not complaints


async def test_a_peer_that_vanishes_without_a_word_is_asked_for(relay: RunningServer) -> None:
    async with bench(relay) as at:
        await at.play(post("/c"))
        await at.reader("/c/0")
        (connection,) = [each for each in relay.trickle.connections if each.busy]
        server_side = connection._transport.get_extra_info("socket")

        assert server_side.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert server_side.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert server_side.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3


async def test_a_reader_that_takes_nothing_neither_slows_the_others_nor_costs_memory(relay: RunningServer) -> None:
    async with bench(relay) as at:
        writer = await at.writer("/c/0")
        await at.reader("/c/0")
        fast = await at.reader("/c/0")
        piece = bytes(256 * 1024)
        await writer.chunk(piece)
        await fast.head()
        for _ in range(100):
            got = 0
            while got < len(piece):
                got += await _next_chunk(fast)
            await writer.chunk(piece)

        buffered = sorted(each._transport.get_write_buffer_size() for each in relay.trickle.connections)
        assert buffered[-1] < 1_000_000, "what the slow one has not taken is in the segment, once for all"
        assert relay.trickle.channels.memory.held < 101 * 264 * 1024


async def _next_chunk(raw) -> int:  # type: ignore[no-untyped-def]
    size = int(await raw.reader.readline(), 16)
    await raw.reader.readexactly(size + 2)
    return size


async def test_a_writer_that_dawdles_is_relayed_byte_by_byte(relay: RunningServer) -> None:
    async with bench(relay) as at:
        slow = await at.connect()
        await slow.send("POST /c/0 HTTP/1.1\nHost: x\nContent-Length: 5\n\n")
        await at.served(slow)
        reader = await at.reader("/c/0")
        for byte in b"bytes":
            slow.writer.write(bytes([byte]))
            if byte == b"b"[0]:
                await reader.head()
            assert await reader.reader.readexactly(6) == b"1\r\n%c\r\n" % byte
            await at.play(post(f"/d/{byte}", "in between"), get(f"/d/{byte}", b"in between"))
        assert (await slow.head()).status == 200


async def test_our_own_clients_go_on_when_a_publisher_dies_and_another_one_takes_over(start_relay) -> None:
    relay = await start_relay(limits=RelayLimits(broken_post_grace_s=60))
    async with TrickleSubscriber(url(relay.port), 0) as subscriber:
        first = TricklePublisher(url(relay.port))
        await (await first.next()).write(b"cut off")
        segment = await subscriber.next()
        assert await segment.read() == b"cut off"
        first.abort()
        async with TricklePublisher(url(relay.port)) as second:
            assert await second.resume() == 1
            async with await second.next() as following:
                await following.write(b"goes on")
                assert await segment.read() == b"", "the reset freed the reader"
            following_read = await subscriber.next()
            assert (following_read.seq(), await following_read.read()) == (1, b"goes on")


async def test_readers_of_an_evicted_segment_get_all_of_it_though_they_are_slow(relay: RunningServer) -> None:
    async with bench(relay) as at, connect(relay.port) as slow:
        writer = await at.writer("/c/0")
        await slow.send("GET /c/0 HTTP/1.1\nHost: x\n\n")
        await at.served(slow)
        for number in range(40):
            await at.write(writer, "/c/0", bytes([number]) * 256 * 1024)
        await _overtake(at)
        await writer.head()

        body = await slow.body(await slow.head())
        assert body == b"".join(bytes([number]) * 256 * 1024 for number in range(40))
        await until(lambda: relay.trickle.channels.memory.held < 1000)


async def _overtake(at: Bench) -> None:
    await at.play(*[post(f"/c/{seq}", "x") for seq in range(1, 7)])
    assert at.channel().find(0) is None
